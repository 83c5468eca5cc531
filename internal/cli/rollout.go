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
// connections end (of a listener those of the filter chains that change). Classes are sorted.
type rollout struct {
	Steps []rolloutStep `json:"steps"`
	// Draining are the classes of which a listener changes or goes, New those that the base
	// has not, Gone those that it alone has.
	Draining []string `json:"draining,omitempty"`
	New      []string `json:"new,omitempty"`
	Gone     []string `json:"gone,omitempty"`
}

// rolloutStep counts what proxies get in it, or lose, over all of them.
type rolloutStep struct {
	Resources []resourceCount `json:"resources"`
	also      string          // what the step is besides, in words
}

// resourceCount counts resources of one type.
type resourceCount struct {
	Type    string `json:"type"`
	Added   int    `json:"added,omitempty"`
	Changed int    `json:"changed,omitempty"`
	Removed int    `json:"removed,omitempty"`
}

func (d byteDiff) rollout() rollout {
	out := rollout{Steps: []rolloutStep{}}
	were, are := classSet(d.before), classSet(d.after)
	counts, draining := map[string]*resourceCount{}, map[string]bool{}
	for _, typ := range []string{release.ClusterType, release.ListenerType, release.RouteType} {
		counts[typ] = &resourceCount{Type: typ}
	}
	for _, c := range d.resources {
		for _, class := range c.Classes {
			n, name := counts[c.Type], class.String()
			if n == nil || !were[name] || !are[name] {
				continue
			}
			switch c.Kind() {
			case "added":
				n.Added++
			case "changed":
				n.Changed++
			default:
				n.Removed++
			}
			if c.Type == release.ListenerType && c.Kind() != "added" {
				draining[name] = true
			}
		}
	}
	step := func(also string, of func(resourceCount) resourceCount, types ...string) {
		s := rolloutStep{also: also}
		for _, typ := range types {
			if n := of(*counts[typ]); n != (resourceCount{Type: typ}) {
				s.Resources = append(s.Resources, n)
			}
		}
		if len(s.Resources) > 0 {
			out.Steps = append(out.Steps, s)
		}
	}
	kept := func(n resourceCount) resourceCount { n.Removed = 0; return n }
	removed := func(n resourceCount) resourceCount { n.Added, n.Changed = 0, 0; return n }
	step(", and their endpoints", kept, release.ClusterType)
	step("", kept, release.ListenerType, release.RouteType)
	step(", when nothing needs them any more", removed, release.ListenerType, release.RouteType, release.ClusterType)
	out.Draining, out.New, out.Gone = slices.Sorted(maps.Keys(draining)), without(are, were), without(were, are)
	return out
}

// section is the rollout in words; false if proxies get nothing.
func (r rollout) section() (compiler.Section, bool) {
	s := compiler.Section{Title: "Rollout, in each proxy by itself"}
	for i, step := range r.Steps {
		var parts []string
		for _, n := range step.Resources {
			parts = append(parts, n.text())
		}
		s.Lines = append(s.Lines, fmt.Sprintf("%d. %s%s", i+1, strings.Join(parts, "; "), step.also))
	}
	for _, x := range []struct {
		what    string
		classes []string
	}{
		{"Listener changed or removed: what was connected has the agent's --drain to finish: ", r.Draining},
		{"new, with everything at once: ", r.New},
		{"gone, so that its proxies keep what they have: ", r.Gone},
	} {
		if len(x.classes) > 0 {
			s.Lines = append(s.Lines, x.what+few(x.classes))
		}
	}
	return s, len(s.Lines) > 0
}

func (n resourceCount) text() string {
	var ns []string
	for _, x := range []struct {
		n    int
		kind string
	}{{n.Added, "added"}, {n.Changed, "changed"}, {n.Removed, "removed"}} {
		if x.n > 0 {
			ns = append(ns, fmt.Sprintf("%d %s", x.n, x.kind))
		}
	}
	return n.Type[strings.LastIndex(n.Type, ".")+1:] + " " + strings.Join(ns, ", ")
}

func classSet(r release.Release) map[string]bool {
	out := map[string]bool{}
	for _, c := range r.Classes() {
		out[c.String()] = true
	}
	return out
}

// without is a without b, sorted.
func without(a, b map[string]bool) []string {
	out := maps.Clone(a)
	maps.DeleteFunc(out, func(name string, _ bool) bool { return b[name] })
	return slices.Sorted(maps.Keys(out))
}
