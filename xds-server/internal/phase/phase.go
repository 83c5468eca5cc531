// Package phase orders a change so that nothing in use is taken away.
//
// In: what a client holds and what it shall hold, both already reduced to what
// it subscribed to. Out: the next steps, as a pure function; a stream calls Next
// again after every answer, so that a plan always starts from what the client
// holds, whichever server told it so.
//
// The order is: clusters, their endpoints; then listeners and route tables; then
// removals, users before what they use: listeners, route tables, clusters,
// endpoints. A step of a later group is sent when the earlier ones are confirmed
// (Blocked says which confirmations count).
package phase

import (
	"slices"

	"meshc.dev/meshc/xds-server/internal/view"
)

// Group is a stage of a change. Groups are entered in order.
type Group int

// The groups.
const (
	// Add sends new and changed clusters, and endpoints.
	Add Group = iota
	// Switch sends new and changed listeners and route tables.
	Switch
	// DropListeners and the following ones remove.
	DropListeners
	DropRoutes
	DropClusters
	DropEndpoints
)

// Step is one response.
type Step struct {
	Type  view.Type
	Group Group
	// Items are to be sent; Removed are names to be removed, or to be told absent.
	Items   []*view.Item
	Removed []string
	// To is the client's list once it has taken the step.
	To *view.List
	// Structural steps hold later groups back until they are confirmed. A new
	// address for endpoints that the client already has is not structural: it
	// comes at any time, and must never hold a release up.
	Structural bool
}

// Next returns the steps that may come next: those of the first group that has
// any, and in every case new addresses. Nil means that the client is up to date.
// A type whose list is nil in either argument is left alone.
func Next(held, target view.Lists) []Step {
	steps := adds(held, target, Add, view.Clusters, view.Endpoints)
	if structural(steps) {
		return steps
	}
	if s := adds(held, target, Switch, view.Listeners, view.Routes); len(s) > 0 {
		return append(steps, s...)
	}
	for i, t := range []view.Type{view.Listeners, view.Routes, view.Clusters, view.Endpoints} {
		if s, ok := drop(t, DropListeners+Group(i), held[t], target[t]); ok {
			return append(steps, s)
		}
	}
	return steps
}

// Plan returns all steps from held to target, one round per group. Between two
// rounds lie the client's confirmations.
func Plan(held, target view.Lists) [][]Step {
	var rounds [][]Step
	for {
		steps := Next(held, target)
		if len(steps) == 0 {
			return rounds
		}
		// One step at a time: a step for clusters changes what follows it.
		s := steps[0]
		if n := len(rounds); n > 0 && rounds[n-1][0].Group == s.Group {
			rounds[n-1] = append(rounds[n-1], s)
		} else {
			rounds = append(rounds, []Step{s})
		}
		held = s.Apply(held)
	}
}

// Split returns the first part of a step whose items have more than limit bytes,
// at least one item; the step itself otherwise. Once the part is confirmed, Next
// gives the rest.
func (s Step) Split(held view.Lists, limit int) Step {
	n, size := 0, 0
	for ; n < len(s.Items); n++ {
		if size += len(s.Items[n].Body); n > 0 && size > limit {
			break
		}
	}
	if n == len(s.Items) {
		return s
	}
	later := make(map[string]bool, len(s.Items)-n)
	for _, it := range s.Items[n:] {
		later[it.Name] = true
	}
	var to []*view.Item
	for it := range s.To.All() {
		if !later[it.Name] {
			to = append(to, it)
		} else if old, ok := held[s.Type].Find(it.Name); ok {
			to = append(to, old)
		}
	}
	s.Items, s.To = s.Items[:n:n], view.NewList(to)
	return s
}

// Apply returns what the client holds after the step. Envoy waits for the
// endpoints of every cluster that it just got, and does not ask for those that it
// already has (it would then wait 15 s): they become stale, so that the next
// steps contain them.
func (s Step) Apply(held view.Lists) view.Lists {
	held[s.Type] = s.To
	if s.Type == view.Clusters {
		held[view.Endpoints] = held[view.Endpoints].Stale(s.Stale())
	}
	return held
}

// Stale returns the names of the endpoints that the step makes stale, sorted.
func (s Step) Stale() []string {
	if s.Type != view.Clusters {
		return nil
	}
	var names []string
	for _, it := range s.Items {
		names = append(names, it.Needs[view.Endpoints]...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Blocked tells whether a step must wait for the confirmation of what is under
// way, given as the groups of structural steps that are sent and not confirmed.
// Additions never wait: they take nothing away.
func Blocked(s Step, underway []Group) bool {
	for _, g := range underway {
		switch {
		case s.Group == Add:
		case s.Group == Switch && g == Add:
			return true
		case s.Group > Switch && g != s.Group:
			return true
		}
	}
	return false
}

func structural(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.Structural })
}

func adds(held, target view.Lists, g Group, types ...view.Type) []Step {
	var out []Step
	for _, t := range types {
		if s, ok := add(t, g, held[t], target[t]); ok {
			out = append(out, s)
		}
	}
	return out
}

// add brings what is new, changed or in doubt. What the target lacks stays,
// except for what a failed response may have left behind: nothing can use that
// yet, and Envoy lets go of a cluster that it is stuck on when it is removed.
func add(t view.Type, g Group, held, target *view.List) (Step, bool) {
	s := Step{Type: t, Group: g, To: target, Structural: t != view.Endpoints}
	if held == target || held == nil || target == nil {
		return s, false
	}
	var to []*view.Item
	exact := true
	for p := range view.Pairs(held, target) {
		switch {
		case keepsOld(p):
			exact = false
			to = append(to, p.Old)
		case p.New == nil:
			if !p.Old.Absent {
				s.Removed = append(s.Removed, p.Old.Name)
			}
		default:
			to = append(to, p.New)
			if has(p.Old) && p.Old.Version != "" && p.Old.Version == p.New.Version || p.New.Absent && p.Old != nil && p.Old.Absent {
				continue
			}
			if p.New.Absent {
				s.Removed = append(s.Removed, p.New.Name)
				continue
			}
			s.Items = append(s.Items, p.New)
			s.Structural = s.Structural || !has(p.Old) || p.Old.Version == ""
		}
	}
	if !exact {
		s.To = view.NewList(to)
	}
	return s, len(s.Items)+len(s.Removed) > 0
}

// keepsOld tells whether the old item stays for the time of the additions.
func keepsOld(p view.Pair) bool {
	switch {
	case !has(p.Old):
		return false
	case p.New == nil, p.New.Absent:
		return !p.Old.Fresh
	}
	return p.New.Soft && !p.Old.Fresh
}

func has(it *view.Item) bool { return it != nil && !it.Absent }

// Added is what a client has of a type that got what the target has more and lost
// nothing yet.
func Added(t view.Type, held, target *view.List) *view.List {
	s, _ := add(t, Add, held, target)
	return s.To
}

// drop removes what the target lacks.
func drop(t view.Type, g Group, held, target *view.List) (Step, bool) {
	s := Step{Type: t, Group: g, To: target, Structural: true}
	if held == target || held == nil || target == nil {
		return s, false
	}
	var to []*view.Item
	exact := true
	for p := range view.Pairs(held, target) {
		switch {
		case p.New == nil:
			if has(p.Old) {
				s.Removed = append(s.Removed, p.Old.Name)
			}
		case keepsOld(p) && !p.New.Absent:
			exact = false
			to = append(to, p.Old)
		default:
			to = append(to, p.New)
			if p.New.Absent && has(p.Old) {
				s.Removed = append(s.Removed, p.Old.Name)
			}
		}
	}
	if !exact {
		s.To = view.NewList(to)
	}
	return s, len(s.Removed) > 0
}
