package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/prove"
)

// chain is a mesh of n services, each of which lets the one before it GET some paths.
func chain(n int, paths ...string) *model.Mesh {
	m := &model.Mesh{TrustDomain: "td"}
	for i := range n {
		s := &model.Service{
			ID: fmt.Sprintf("shop/s%03d", i), Namespace: "shop", Name: fmt.Sprintf("s%03d", i),
			Ports:    []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Strict}},
			Versions: []model.Version{{Name: "v1", Account: fmt.Sprintf("s%03d", i)}},
			Routes:   []model.Route{{Name: "default", To: []model.Target{{Version: "v1", Weight: 100}}}},
		}
		if i > 0 {
			caller := fmt.Sprintf("s%03d", i-1)
			g := model.Grant{Name: "before", Terms: model.Terms{Accounts: []string{"shop/" + caller}, Methods: []string{"GET"}}}
			for _, p := range paths {
				g.Paths = append(g.Paths, model.Path{Kind: model.PathExact, Value: p})
			}
			s.Grants = []model.Grant{g}
			m.Services[i-1].Calls = []model.Call{{To: s.ID, Port: "http"}}
		}
		m.Services = append(m.Services, s)
	}
	return m.Build()
}

// One path out of all grants is one line, whoever had it; as data it says who, where.
func TestOneEditOfManyGrantsIsOneLine(t *testing.T) {
	const n = 200
	p := compare(t, chain(n, "/health", "/items"), chain(n, "/items"), prove.Limits{})
	if len(p.Lines) != 1 || p.Lines[0].Access == nil {
		t.Fatalf("%d lines, want one of access", len(p.Lines))
	}
	l, a := p.Lines[0], p.Lines[0].Access
	want := "from callers of each, 199 in all (shop/s000, shop/s001, shop/s002, shop/s003, shop/s004 and 194 more): GET /health: allowed → denied"
	if l.Text != want || l.Class != plan.Narrowing || len(l.Scopes) != n-1 || len(a.Callers) != n-1 {
		t.Errorf("%s %d %d: %s, want %s", l.Class, len(l.Scopes), len(a.Callers), l.Text, want)
	}
	if a.Gained || len(a.Each) != n-1 || a.Each[0].At.ID != "shop/s001" || a.Each[0].Callers[0].Name != "shop/s000" {
		t.Errorf("%+v, want each caller at its own scope", a)
	}
	// Of a few, each is named at its own.
	p = compare(t, chain(3, "/health", "/items"), chain(3, "/items"), prove.Limits{})
	for i, l := range p.Lines {
		if who := fmt.Sprintf("from s00%d: ", i); len(p.Lines) != 2 || !strings.HasPrefix(l.Text, who) {
			t.Errorf("line %d is %q, want %q", i, l.Text, who)
		}
	}
}

// Many routes that change alike are one line, which names a few and holds all as data.
func TestManyRoutesThatChangeAlikeAreOneLine(t *testing.T) {
	const n = 300
	routed := func(weight int) *model.Mesh {
		m := shop(model.Grant{Name: "all", Terms: model.Terms{Mesh: true}})
		s := m.Services[1]
		s.Versions, s.Routes = append(s.Versions, model.Version{Name: "v2", Account: "web"}), nil
		for i := range n {
			s.Routes = append(s.Routes, model.Route{
				Name: fmt.Sprintf("r%d", i), Match: model.Match{Path: model.Path{Kind: model.PathPrefix, Value: fmt.Sprintf("/r%03d", i)}},
				To: []model.Target{{Version: "v1", Weight: model.Percent(weight)}, {Version: "v2", Weight: model.Percent(100 - weight)}},
			})
		}
		return m.Build()
	}
	p := compare(t, routed(90), routed(50), prove.Limits{})
	if len(p.Lines) != 1 || len(p.Lines[0].Requests) != n {
		t.Fatalf("%d lines, want one of %d parts", len(p.Lines), n)
	}
	if want := "under /r000 or under /r001 or under /r002 and 297 more: web 90% v1 10% v2 → web 50% v1 50% v2"; p.Lines[0].Text != want {
		t.Errorf("%q, want %q", p.Lines[0].Text, want)
	}
}
