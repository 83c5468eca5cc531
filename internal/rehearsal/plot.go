package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

// plot is what has to run for the doors of a rehearsal.
type plot struct {
	classes      []release.Class
	inbound      []listener
	applications []application
	// proxied says that some external is reached through an HTTP proxy.
	proxied bool
}

// listener is an inbound listener and the class that has it.
type listener struct {
	name string
	of   release.Class
}

type application struct {
	name string        // of the cluster
	of   release.Class // behind whose proxy it is; of an external the zero Class
	tcp  bool
	// proves is what an external has to prove, nil for what is called in plaintext.
	proves *proof
}

// cut follows the doors to their clusters and these to the classes that answer
// for them. Sidecars call nobody else in a rehearsal, so that this ends soon.
func cut(r compiler.Rehearsal) (plot, error) {
	var p plot
	snaps, err := snapshots(r.Release)
	if err != nil {
		return p, err
	}
	host := hosts(snaps)
	var next []release.Class
	for _, d := range r.Doors {
		if d.Missing != "" {
			continue
		}
		next = append(next, d.Class)
	}
	for len(next) > 0 {
		class := next[0]
		next = next[1:]
		if slices.Contains(p.classes, class) {
			continue
		}
		p.classes = append(p.classes, class)
		for _, l := range snaps[class].Resources[release.ListenerType] {
			if _, ok := host[l.Name]; ok {
				p.inbound = append(p.inbound, listener{l.Name, class})
			}
		}
		for _, c := range snaps[class].Resources[release.ClusterType] {
			if answers, ok := host[answering(c.Name)]; ok {
				next = append(next, answers)
			} else if err := p.addApplication(r.Release, class, c); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// addApplication adds what stands behind a cluster that no proxy answers for.
func (p *plot) addApplication(r release.Release, class release.Class, c release.Resource) error {
	name := c.Name
	if direct, ok := release.ParseProxied(c.Name); ok {
		name = direct
	}
	if strings.HasPrefix(name, spreadCluster) { // what stands behind it has clusters of its own
		return nil
	}
	if strings.HasPrefix(name, proxyCluster) {
		p.proxied = true
		return nil
	}
	if !strings.HasPrefix(name, localCluster) && !strings.HasPrefix(name, externalCluster) {
		return fmt.Errorf("no proxy answers for cluster %q of %s", c.Name, class)
	}
	if slices.ContainsFunc(p.applications, func(a application) bool { return a.name == name }) {
		return nil
	}
	b, err := r.Blob(c.Digest)
	if err != nil {
		return err
	}
	proves, err := proofOf(b)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(name, localCluster) {
		class = release.Class{}
	}
	p.applications = append(p.applications, application{name, class, isTCP(b), proves})
	return nil
}

// roots are the names of the secrets with authorities by which externals are verified.
func (p plot) roots() []string {
	var out []string
	for _, a := range p.applications {
		if a.proves != nil && !slices.Contains(out, a.proves.roots) {
			out = append(out, a.proves.roots)
		}
	}
	return out
}

func snapshots(r release.Release) (map[release.Class]release.Snapshot, error) {
	out := map[release.Class]release.Snapshot{}
	for _, c := range r.Classes() {
		snap, err := r.Snapshot(c)
		if err != nil {
			return nil, err
		}
		out[c] = snap
	}
	return out, nil
}

// answering is the name of the listener to which a cluster leads.
func answering(cluster string) string {
	if gateway, port, ok := release.ParseVia(cluster); ok {
		return hop.GatewayListener + gateway + "/" + port
	}
	return inboundListener + cluster
}

// exits are the listeners of gateways to which clusters lead.
func exits(snaps map[release.Class]release.Snapshot) map[string]bool {
	out := map[string]bool{}
	for _, s := range snaps {
		for _, c := range s.Resources[release.ClusterType] {
			if _, _, ok := release.ParseVia(c.Name); ok {
				out[answering(c.Name)] = true
			}
		}
	}
	return out
}

// hosts are the classes of the listeners to which other proxies send.
func hosts(snaps map[release.Class]release.Snapshot) map[string]release.Class {
	out, exits := map[string]release.Class{}, exits(snaps)
	for class, s := range snaps {
		for _, l := range s.Resources[release.ListenerType] {
			if strings.HasPrefix(l.Name, inboundListener) || exits[l.Name] {
				out[l.Name] = class
			}
		}
	}
	return out
}
