package ratelimit

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// What a service counts no more is protected less, what it counts more of is refused sooner, and one does not make up for the other.
func TestCountingLessWeakens(t *testing.T) {
	a, b := model.Path{Kind: model.PathExact, Value: "/a"}, model.Path{Kind: model.PathExact, Value: "/b"}
	limit := func(name string, change func(*Limit)) Limit {
		l := Limit{Name: name, Requests: 5, Per: trait.Duration(1e9), Burst: 5}
		if change != nil {
			change(&l)
		}
		return l
	}
	paths := func(ps ...model.Path) Limits { return Limits{limit("each", func(l *Limit) { l.Paths = ps })} }
	not := func(ps ...model.Path) Limits { return Limits{limit("each", func(l *Limit) { l.Not.Paths = ps })} }
	shadow := func(ps ...model.Path) Limits {
		return Limits{limit("each", func(l *Limit) { l.Shadow, l.Paths = true, ps })}
	}
	for _, c := range []struct {
		what          string
		before, after Limits
		want          plan.Class
	}{
		{"one more", paths(), append(paths(), limit("other", nil)), plan.Narrowing},
		{"one less", append(paths(), limit("other", nil)), paths(), plan.Weakening},
		{"of some paths alone", paths(), paths(a), plan.Weakening},
		{"of all paths", paths(a), paths(), plan.Narrowing},
		{"of one path more", paths(a), paths(a, b), plan.Narrowing},
		{"of another path", paths(a), paths(b), plan.Weakening},
		{"not of a path", paths(), not(a), plan.Weakening},
		{"not of one path less", not(a, b), not(a), plan.Narrowing},
		{"of one path less, and another limit", paths(a, b), append(paths(a), limit("other", nil)), plan.Weakening},
		{"a shadow of other paths", shadow(a), shadow(b), plan.Neutral},
		{"a shadow that holds", shadow(a), paths(a), plan.Narrowing},
		{"one that is a shadow", paths(a), shadow(a), plan.Weakening},
	} {
		class, text := change(fieldsOf(c.before), fieldsOf(c.after))
		if class != c.want {
			t.Errorf("%s: %q, want %q (%s)", c.what, class, c.want, text)
		}
	}
}

func fieldsOf(ls Limits) []space.Field {
	var out []space.Field
	for _, a := range meaning(ls) {
		out = append(out, a.Fields...)
	}
	return out
}
