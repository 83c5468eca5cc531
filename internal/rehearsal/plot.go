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
	inbound      []string // names of inbound listeners
	applications []application
}

type application struct {
	name string // of the cluster
	tcp  bool
}

// cut follows the doors to their clusters and these to the classes that answer
// for them. Sidecars call nobody else in a rehearsal, so that this ends soon.
func cut(r compiler.Rehearsal) (plot, error) {
	var p plot
	host := map[string]release.Class{} // of an inbound listener
	snaps := map[release.Class]release.Snapshot{}
	for _, c := range r.Release.Classes() {
		snap, err := r.Release.Snapshot(c)
		if err != nil {
			return p, err
		}
		snaps[c] = snap
		for _, l := range snap.Resources[release.ListenerType] {
			if strings.HasPrefix(l.Name, inboundListener) {
				host[l.Name] = c
			}
		}
	}
	var next []release.Class
	for _, d := range r.Doors {
		next = append(next, d.Class)
	}
	seen := map[string]bool{}
	for len(next) > 0 {
		class := next[0]
		next = next[1:]
		if slices.Contains(p.classes, class) {
			continue
		}
		p.classes = append(p.classes, class)
		for _, l := range snaps[class].Resources[release.ListenerType] {
			if strings.HasPrefix(l.Name, inboundListener) {
				p.inbound = append(p.inbound, l.Name)
			}
		}
		for _, c := range snaps[class].Resources[release.ClusterType] {
			answers, ok := host[inboundListener+c.Name]
			switch {
			case ok:
				next = append(next, answers)
			case !strings.HasPrefix(c.Name, localCluster) && !strings.HasPrefix(c.Name, externalCluster):
				return p, fmt.Errorf("no proxy answers for cluster %q of %s", c.Name, class)
			case !seen[c.Name]:
				seen[c.Name] = true
				b, err := r.Release.Blob(c.Digest)
				if err != nil {
					return p, err
				}
				p.applications = append(p.applications, application{c.Name, isTCP(b)})
			}
		}
	}
	return p, nil
}
