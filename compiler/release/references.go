package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// References are names of resources by type, each list sorted and without repeats.
type References map[TypeURL][]string

// Add adds names, empty ones left out. The zero References has to be made first.
func (r References) Add(t TypeURL, names ...string) {
	for _, n := range names {
		if i, found := slices.BinarySearch(r[t], n); !found && n != "" {
			r[t] = slices.Insert(r[t], i, n)
		}
	}
}

// Dangling is a reference to what the proxies of a class do not get: a missing cluster
// answers 503, a missing route configuration or list of endpoints keeps what names it
// waiting, and Envoy acknowledges them all.
type Dangling struct {
	Class Class
	// From and Name are the type and name of the resource that names another; From is ""
	// for the snapshot's list of live clusters.
	From TypeURL
	Name string
	// To and Missing are the type and name of what there is none of.
	To      TypeURL
	Missing string
}

// String is the reference in words.
func (d Dangling) String() string {
	who := fmt.Sprintf("the %s %q", kind(d.From), d.Name)
	if d.From == "" {
		who = "the list of live clusters"
	}
	return fmt.Sprintf("%s of %s names the %s %q, which these proxies do not get", who, d.Class, kind(d.To), d.Missing)
}

// kind is a type without its package.
func kind(t TypeURL) string { return t[strings.LastIndexAny(t, "./")+1:] }

// Dangling lists the references that lead to nothing, sorted by the resources that have
// them. Live endpoints are there if the snapshot says where they come from.
func (s Snapshot) Dangling() []Dangling {
	have := make(map[TypeURL]map[string]bool, len(s.Resources)+1)
	put := func(t TypeURL, name string) {
		if have[t] == nil {
			have[t] = map[string]bool{}
		}
		have[t][name] = true
	}
	for t, rs := range s.Resources {
		for _, r := range rs {
			put(t, r.Name)
		}
	}
	var out []Dangling
	for _, e := range s.Endpoints {
		put(EndpointType, e.Cluster)
		if !have[ClusterType][e.Cluster] {
			out = append(out, Dangling{Class: s.Class, To: ClusterType, Missing: e.Cluster})
		}
	}
	for _, from := range slices.Sorted(maps.Keys(s.Resources)) {
		for _, r := range s.Resources[from] {
			for _, to := range slices.Sorted(maps.Keys(r.Needs)) {
				for _, name := range r.Needs[to] {
					if !have[to][name] {
						out = append(out, Dangling{s.Class, from, r.Name, to, name})
					}
				}
			}
		}
	}
	return out
}
