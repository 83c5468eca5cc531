package authorize

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
)

// An authorizer is a denial: what asks less widens, what asks more narrows, and what cannot be told is no
// better than the worst that it may be.
func TestAskingLessWidens(t *testing.T) {
	a, b := model.Path{Kind: model.PathExact, Value: "/a"}, model.Path{Kind: model.PathExact, Value: "/b"}
	question := func(change func(*Question)) Questions {
		q := Question{Authorizer: "platform/opa", Receiver: model.Receiver{To: "platform/policies", Port: "grpc"}, Timeout: 1, Sets: []string{"x-role"}}
		change(&q)
		return Questions{Of: []Question{q}, Removed: q.Sets}
	}
	all := question(func(*Question) {})
	paths := func(ps ...model.Path) Questions { return question(func(q *Question) { q.Paths = ps }) }
	not := func(ps ...model.Path) Questions { return question(func(q *Question) { q.Not.Paths = ps }) }
	get := question(func(q *Question) { q.Methods, q.Paths = []string{"GET"}, []model.Path{a} })
	open := question(func(q *Question) { q.FailOpen = true })
	for _, c := range []struct {
		what          string
		before, after Questions
		want          plan.Class
	}{
		{"nothing", all, all, plan.Nothing},
		{"asked at all", Questions{}, all, plan.Narrowing},
		{"asked no more", all, Questions{}, plan.Widening},
		{"about some paths alone", all, paths(a), plan.Widening},
		{"about all paths", paths(a), all, plan.Narrowing},
		{"about one path more", paths(a), paths(a, b), plan.Narrowing},
		{"about one path less", paths(a, b), paths(a), plan.Widening},
		{"about another path", paths(a), paths(b), plan.Widening},
		{"about a method of the path alone", paths(a), get, plan.Widening},
		{"not about a path", all, not(a), plan.Widening},
		{"not about one path less", not(a, b), not(b), plan.Narrowing},
		{"about all but nothing", not(a), all, plan.Narrowing},
		{"admitting while it is away", all, open, plan.Weakening},
		{"refusing while it is away", open, all, plan.Narrowing},
		{"somebody else", all, question(func(q *Question) { q.To = "platform/others" }), plan.Widening},
		{"waited for longer", all, question(func(q *Question) { q.Timeout = 2 }), plan.Weakening},
		{"told of less", all, question(func(q *Question) { q.Told = []string{"x-key"} }), plan.Weakening},
		{"setting nothing", all, question(func(q *Question) { q.Sets = nil }), plan.Weakening},
		{"removing headers", Questions{}, Questions{Removed: []string{"x-role"}}, plan.Neutral},
		{"removing none", Questions{Removed: []string{"x-role"}}, Questions{}, plan.Weakening},
	} {
		class, text := change(fieldsOf(c.before), fieldsOf(c.after))
		if class != c.want {
			t.Errorf("%s: %q, want %q (%s)", c.what, class, c.want, text)
		}
	}
}

func fieldsOf(qs Questions) []space.Field {
	var out []space.Field
	for _, a := range meaning(qs) {
		out = append(out, a.Fields...)
	}
	return out
}
