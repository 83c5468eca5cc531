package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// plot is what has to run for the doors of a rehearsal.
type plot struct {
	classes      []release.Class
	inbound      []listener
	applications []application
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
	host := map[string]release.Class{} // of an inbound listener
	for class, snap := range snaps {
		for _, name := range inbound(snap) {
			host[name] = class
		}
	}
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
		for _, name := range inbound(snaps[class]) {
			p.inbound = append(p.inbound, listener{name, class})
		}
		for _, c := range snaps[class].Resources[release.ClusterType] {
			if answers, ok := host[inboundListener+c.Name]; ok {
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
	if !strings.HasPrefix(c.Name, localCluster) && !strings.HasPrefix(c.Name, externalCluster) {
		return fmt.Errorf("no proxy answers for cluster %q of %s", c.Name, class)
	}
	if slices.ContainsFunc(p.applications, func(a application) bool { return a.name == c.Name }) {
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
	if !strings.HasPrefix(c.Name, localCluster) {
		class = release.Class{}
	}
	p.applications = append(p.applications, application{c.Name, class, isTCP(b), proves})
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

// inbound is the names of a snapshot's inbound listeners.
func inbound(s release.Snapshot) []string {
	var out []string
	for _, l := range s.Resources[release.ListenerType] {
		if strings.HasPrefix(l.Name, inboundListener) {
			out = append(out, l.Name)
		}
	}
	return out
}
