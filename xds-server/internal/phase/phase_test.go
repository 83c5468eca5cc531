package phase_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/view"
)

// res parses "name@version>need,need": a cluster needs endpoints, a route table
// needs clusters, a listener needs route tables.
func res(t view.Type, text string) *view.Item {
	head, needs, _ := strings.Cut(text, ">")
	name, version, _ := strings.Cut(head, "@")
	it := &view.Item{Name: name, Version: version}
	if needs != "" {
		list := strings.Split(needs, ",")
		switch t {
		case view.Clusters:
			it.Needs[view.Endpoints] = list
		case view.Listeners:
			it.Needs[view.Routes] = list
		case view.Routes, view.Endpoints, view.Types:
			it.Needs[view.Clusters] = list
		}
	}
	return it
}

// lists parses four words of resources: clusters, endpoints, listeners, routes.
func lists(texts ...string) view.Lists {
	var out view.Lists
	for t, text := range texts {
		var items []*view.Item
		for _, f := range strings.Fields(text) {
			items = append(items, res(view.Type(t), f))
		}
		out[t] = view.NewList(items)
	}
	return out
}

// show writes a plan: one line per round, "type+sent-removed" per step.
func show(rounds [][]phase.Step) []string {
	var out []string
	for _, steps := range rounds {
		var line []string
		for _, s := range steps {
			text := s.Type.String()
			for _, it := range s.Items {
				text += "+" + it.Name
			}
			for _, n := range s.Removed {
				text += "-" + n
			}
			line = append(line, text)
		}
		out = append(out, strings.Join(line, " "))
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new view.Lists
		want     []string
	}{
		{"nothing to do", lists("a@1>a", "a@1", "in@1>r", "r@1>a"), lists("a@1>a", "a@1", "in@1>r", "r@1>a"), nil},
		{"from nothing", lists("", "", "", ""), lists("a@1>a", "a@1", "in@1>r", "r@1>a"),
			[]string{"clusters+a endpoints+a", "listeners+in routes+r"}},
		{"a changed cluster is followed by its endpoints, although they are the same",
			lists("a@1>a b@1>b", "a@1 b@1", "", ""), lists("a@2>a b@1>b", "a@1 b@1", "", ""),
			[]string{"clusters+a endpoints+a"}},
		{"replace a service: add, switch, remove users first",
			lists("a@1>a", "a@1", "in@1>r", "r@1>a"), lists("b@1>b", "b@1", "in@1>r", "r@2>b"),
			[]string{"clusters+b endpoints+b", "routes+r", "clusters-a", "endpoints-a"}},
		{"remove everything, listeners first",
			lists("a@1>a", "a@1", "in@1>r", "r@1>a"), lists("", "", "", ""),
			[]string{"listeners-in", "routes-r", "clusters-a", "endpoints-a"}},
		{"new addresses go with whatever comes",
			lists("a@1>a", "a@1", "in@1>r", "r@1>a"), lists("a@1>a", "a@2", "in@1>r", "r@2>a"),
			[]string{"endpoints+a", "routes+r"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, show(phase.Plan(c.old, c.new))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDoubt: what a refused response touched goes out again, whatever it was, and
// what it had added goes away at once.
func TestDoubt(t *testing.T) {
	base := lists("a@1>a", "a@1", "in@1>r", "r@1>a")
	bad := lists("a@2>a bad@1>bad good@1>good", "a@1", "in@1>r", "r@1>a")
	held := base
	held[view.Clusters] = bad[view.Clusters].Doubt([]string{"a", "bad", "good"}, base[view.Clusters])
	if diff := cmp.Diff([]string{"clusters+a-bad-good endpoints+a"}, show(phase.Plan(held, base))); diff != "" {
		t.Errorf("back: %s", diff)
	}
	fixed := lists("a@2>a good@1>good", "a@1 good@1", "in@1>r", "r@2>good")
	if diff := cmp.Diff([]string{"clusters+a+good-bad endpoints+a+good", "routes+r"}, show(phase.Plan(held, fixed))); diff != "" {
		t.Errorf("onward: %s", diff)
	}
}

// TestSoft: content to fall back on goes only to a client that has nothing.
func TestSoft(t *testing.T) {
	target := lists("a@1>a", "", "", "")
	target[view.Endpoints] = view.NewList([]*view.Item{{Name: "a", Version: "empty", Soft: true}})
	if got := show(phase.Plan(lists("", "", "", ""), target)); !slices.Equal(got, []string{"clusters+a endpoints+a"}) {
		t.Errorf("new client: %v", got)
	}
	if got := show(phase.Plan(lists("a@1>a", "a@7", "", ""), target)); got != nil {
		t.Errorf("client with addresses: %v", got)
	}
	if got := show(phase.Plan(lists("a@0>a", "a@7", "", ""), target)); !slices.Equal(got, []string{"clusters+a"}) {
		t.Errorf("changed cluster, addresses unknown: %v", got)
	}
	fresh := lists("a@1>a", "", "", "")
	fresh[view.Endpoints] = view.NewList([]*view.Item{{Name: "a", Fresh: true}})
	if got := show(phase.Plan(fresh, target)); !slices.Equal(got, []string{"endpoints+a"}) {
		t.Errorf("client that may have refused its first addresses: %v", got)
	}
	held := lists("a@1>a", "a@7 b@7", "", "")
	for _, s := range phase.Next(held, target) {
		if it, ok := s.To.Find("a"); !ok || it.Version != "7" {
			t.Errorf("after the removal of others it is taken to have %+v", it)
		}
	}
}

// TestAbsent: a client is told once that a name does not exist.
func TestAbsent(t *testing.T) {
	have := lists("a@1", "", "", "")[view.Clusters]
	sub := view.NewNames(false, []string{"a", "x"})
	var held, target view.Lists
	held[view.Clusters], target[view.Clusters] = view.NewList(nil), have.Restrict(sub)
	if got := show(phase.Plan(held, target)); !slices.Equal(got, []string{"clusters+a-x"}) {
		t.Errorf("got %v", got)
	}
	held[view.Clusters] = target[view.Clusters]
	target[view.Clusters] = lists("x@1", "", "", "")[view.Clusters].Restrict(sub)
	if got := show(phase.Plan(held, target)); !slices.Equal(got, []string{"clusters+x", "clusters-a"}) {
		t.Errorf("got %v", got)
	}
}

func TestBlocked(t *testing.T) {
	for _, c := range []struct {
		s    phase.Step
		way  []phase.Group
		want bool
	}{
		{phase.Step{Group: phase.Switch, Structural: true}, nil, false},
		{phase.Step{Group: phase.Switch, Structural: true}, []phase.Group{phase.Add}, true},
		{phase.Step{Group: phase.Switch, Structural: true}, []phase.Group{phase.Switch}, false},
		{phase.Step{Group: phase.DropClusters, Structural: true}, []phase.Group{phase.Switch}, true},
		{phase.Step{Group: phase.DropClusters, Structural: true}, []phase.Group{phase.DropListeners}, true},
		{phase.Step{Group: phase.DropListeners, Structural: true}, []phase.Group{phase.DropClusters}, true},
		{phase.Step{Group: phase.DropClusters, Structural: true}, []phase.Group{phase.DropClusters}, false},
		{phase.Step{Group: phase.Add, Structural: true}, []phase.Group{phase.Switch}, false},
	} {
		if got := phase.Blocked(c.s, c.way); got != c.want {
			t.Errorf("%+v behind %v: %v", c.s.Group, c.way, got)
		}
	}
}

// drawLists draws a consistent configuration: what is named exists.
func drawLists(t *rapid.T, label string) view.Lists {
	version := rapid.IntRange(1, 3)
	var texts [view.Types]string
	var clusters, tables []string
	for i := range rapid.IntRange(0, 4).Draw(t, label+" clusters") {
		name := string(rune('a' + rapid.IntRange(0, 5).Draw(t, fmt.Sprintf("%s cluster %d", label, i))))
		if slices.Contains(clusters, name) {
			continue
		}
		clusters = append(clusters, name)
		texts[view.Clusters] += fmt.Sprintf(" %s@%d>%s", name, version.Draw(t, "version"), name)
		texts[view.Endpoints] += fmt.Sprintf(" %s@%d", name, version.Draw(t, "version"))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, label+" tables") {
		name := "r" + strconv.Itoa(i+rapid.IntRange(0, 1).Draw(t, "table")*10)
		tables = append(tables, name)
		text := fmt.Sprintf(" %s@%d", name, version.Draw(t, "version"))
		if len(clusters) > 0 {
			// The version stands for the content: it names what is used.
			c := rapid.SampledFrom(clusters).Draw(t, "uses")
			text += c + ">" + c
		}
		texts[view.Routes] += text
	}
	for i, r := range tables {
		texts[view.Listeners] += fmt.Sprintf(" l%d@%s>%s", i, r, r)
	}
	return lists(texts[:]...)
}

// TestPlanNeverBreaks plays plans on a model of a client: steps of a round arrive
// in any order that keeps each type's own, after each of them everything that is
// used exists, and all orders end in the target.
func TestPlanNeverBreaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held, target := drawLists(t, "old"), drawLists(t, "new")
		if rapid.Bool().Draw(t, "refused before") {
			// A refused response leaves names in doubt; what is used still works.
			mid := drawLists(t, "refused")
			var names []string
			for it := range mid[view.Clusters].All() {
				names = append(names, it.Name)
			}
			held[view.Clusters] = held[view.Clusters].Doubt(names, held[view.Clusters])
		}
		for round := 0; ; round++ {
			steps := phase.Next(held, target)
			if len(steps) == 0 {
				break
			}
			if round > 20 {
				t.Fatalf("no end: %v", show([][]phase.Step{steps}))
			}
			// One step is taken and the rest is asked for anew, as a stream does.
			s := rapid.SampledFrom(steps).Draw(t, "step")
			next := s.Apply(held)
			for _, n := range s.Removed {
				if user := userOf(held, s.Type, n); user != "" {
					t.Fatalf("%s removes %q, which %s uses", s.Type, n, user)
				}
			}
			for _, it := range s.Items {
				for _, c := range it.Needs[view.Clusters] {
					if h, ok := next[view.Clusters].Find(c); !ok || h.Version == "" {
						t.Fatalf("%s %q needs cluster %q, which the client lacks", s.Type, it.Name, c)
					}
				}
			}
			held = next
		}
		for ty := range held {
			if !held[ty].Same(target[ty]) {
				t.Fatalf("%s: ends in something else than the target", view.Type(ty))
			}
		}
	})
}

func userOf(l view.Lists, t view.Type, name string) string {
	for ty := range l {
		for it := range l[ty].All() {
			used := map[view.Type][]string{view.Clusters: it.Needs[view.Clusters], view.Endpoints: it.Needs[view.Endpoints], view.Routes: it.Needs[view.Routes]}[t]
			if t == view.Endpoints {
				continue // endpoints go after their clusters, which the target decides
			}
			if slices.Contains(used, name) && !it.Absent {
				return it.Name
			}
		}
	}
	return ""
}
