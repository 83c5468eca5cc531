package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// rollout says in which order a proxy gets what differs: a server takes a step when the
// proxy has confirmed the one before, and nothing in use is taken away. It also says whose
// connections end (of a listener those of the filter chains that change).
func (d byteDiff) rollout() (compiler.Section, bool) {
	s := compiler.Section{Title: "Rollout, in each proxy by itself"}
	were, are := classSet(d.before), classSet(d.after)
	counts, ending := map[[2]string]int{}, map[string]bool{} // by type and kind
	for _, c := range d.resources {
		for _, class := range c.Classes {
			if name := class.String(); were[name] && are[name] {
				counts[[2]string{c.Type, c.Kind()}]++
				if c.Type == release.ListenerType && c.Kind() != "added" {
					ending[name] = true
				}
			}
		}
	}
	step := func(format string, types []string, kinds ...string) {
		if what := counted(counts, types, kinds); what != "" {
			s.Lines = append(s.Lines, fmt.Sprintf("%d. ", len(s.Lines)+1)+fmt.Sprintf(format, what))
		}
	}
	step("%s, and their endpoints", []string{release.ClusterType}, "added", "changed")
	step("%s", []string{release.ListenerType, release.RouteType}, "added", "changed")
	step("%s, when nothing needs them any more", []string{release.ListenerType, release.RouteType, release.ClusterType}, "removed")
	if len(ending) > 0 {
		s.Lines = append(s.Lines, "Listener changed or removed: what was connected has the agent's --drain to finish: "+some(ending))
	}
	if fresh := without(are, were); len(fresh) > 0 {
		s.Lines = append(s.Lines, "new, with everything at once: "+some(fresh))
	}
	if gone := without(were, are); len(gone) > 0 {
		s.Lines = append(s.Lines, "gone, so that its proxies keep what they have: "+some(gone))
	}
	return s, len(s.Lines) > 0
}

// counted says how many resources of some types there are of some kinds, "" for none.
func counted(counts map[[2]string]int, types, kinds []string) string {
	var parts []string
	for _, typ := range types {
		var ns []string
		for _, kind := range kinds {
			if n := counts[[2]string{typ, kind}]; n > 0 {
				ns = append(ns, fmt.Sprintf("%d %s", n, kind))
			}
		}
		if len(ns) > 0 {
			parts = append(parts, typ[strings.LastIndex(typ, ".")+1:]+" "+strings.Join(ns, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func classSet(r release.Release) map[string]bool {
	out := map[string]bool{}
	for _, c := range r.Classes() {
		out[c.String()] = true
	}
	return out
}

// without is a without b.
func without(a, b map[string]bool) map[string]bool {
	out := maps.Clone(a)
	maps.DeleteFunc(out, func(name string, _ bool) bool { return b[name] })
	return out
}

// some names the first of a set.
func some(set map[string]bool) string { return few(slices.Sorted(maps.Keys(set))) }
