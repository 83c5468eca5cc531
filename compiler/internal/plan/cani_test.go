package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// shop has a service "web" with a narrow grant and one for GET on all, called by
// "cart" of the same namespace.
func shop(grants ...model.Grant) *model.Mesh {
	service := func(name string) *model.Service {
		return &model.Service{
			ID: "shop/" + name, Namespace: "shop", Name: name,
			Ports:    []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Strict}},
			Versions: []model.Version{{Name: "v1", Account: name}},
			Routes:   []model.Route{{Name: "default", To: []model.Target{{Version: "v1", Weight: 100}}}},
		}
	}
	web := service("web")
	web.Grants = grants
	return (&model.Mesh{TrustDomain: "td", Services: []*model.Service{service("cart"), web}}).Build()
}

func cartGrant() model.Grant {
	return model.Grant{Name: "cart", Terms: model.Terms{Accounts: []string{"shop/cart"}, Methods: []string{"GET"}, Paths: []model.Path{{Kind: model.PathBelow, Value: "/items/"}}}}
}

// Identities of another trust domain are no callers without one.
func TestCanIOfOtherTrustDomains(t *testing.T) {
	m := shop(model.Grant{Name: "partner", Terms: model.Terms{Identities: []string{"spiffe://partner.example/*"}}})
	m.Federation = []model.TrustDomain{{Name: "partner.example"}}
	d, _ := eval.FindService(eval.Scopes(m, nil), "shop/web", "http")
	a, err := plan.CanI(m, d, plan.Query{AnyCaller: true}, prove.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Set) != 1 || a.Set[0].Text != "everything, from spiffe://partner.example/*" {
		t.Errorf("got %+v", a.Set)
	}
}

func TestCanI(t *testing.T) {
	m := shop(cartGrant(), model.Grant{Name: "ops", Terms: model.Terms{Namespaces: []string{"ops"}}})
	d, _ := eval.FindService(eval.Scopes(m, nil), "shop/web", "http")
	cart := "spiffe://td/ns/shop/sa/cart"
	for _, c := range []struct {
		about string
		q     plan.Query
		can   plan.Can
		set   []string
	}{
		{"what may cart do", plan.Query{Request: space.Request{From: cart}}, plan.Partly, []string{"GET /items/*, from cart"}},
		{"may cart GET one item", plan.Query{Request: space.Request{From: cart, Method: "GET", Path: "/items/1"}}, plan.Yes, []string{"GET /items/1, from cart"}},
		{"may cart POST", plan.Query{Request: space.Request{From: cart, Method: "POST"}}, plan.No, nil},
		{"who may do what", plan.Query{AnyCaller: true}, plan.Partly, []string{"GET /items/*, from cart", "everything, from namespace ops"}},
		{"without identity", plan.Query{}, plan.No, nil},
		{"ops", plan.Query{Request: space.Request{From: "spiffe://td/ns/ops/sa/new"}}, plan.Yes, []string{"everything, from account ops/new"}},
	} {
		a, err := plan.CanI(m, d, c.q, prove.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var set []string
		for _, e := range a.Set {
			set = append(set, e.Text)
			if got := eval.Decide(d, e.Witness).Outcome.Verdict; got != space.Forward {
				t.Errorf("%s: witness %+v is %s", c.about, e.Witness, got)
			}
		}
		if a.Can != c.can || !slices.Equal(set, c.set) {
			t.Errorf("%s: %s %q, want %s %q", c.about, a.Can, set, c.can, c.set)
		}
		if (a.Answer.Outcome.Verdict == space.Forward) != (c.can != plan.No) {
			t.Errorf("%s: the example's outcome is %s", c.about, a.Answer.Outcome.Verdict)
		}
	}
}

func TestMatrix(t *testing.T) {
	m := shop(cartGrant(), model.Grant{Name: "ops", Terms: model.Terms{Namespaces: []string{"ops"}}})
	got := plan.Matrix(m, eval.Scopes(m, nil), []string{"spiffe://td/ns/shop/sa/cart", "spiffe://td/ns/ops/sa/a", "spiffe://td/ns/x/sa/y", ""})
	var lines []string
	for _, c := range got {
		lines = append(lines, c.Who+" → "+c.Scope.ID+" "+strings.Join(c.What, "; "))
	}
	want := []string{"spiffe://td/ns/shop/sa/cart → shop/web GET /items/*", "spiffe://td/ns/ops/sa/a → shop/web everything"}
	if !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}

// What is over budget is not compared, above all else, and says so.
func TestOverBudgetGates(t *testing.T) {
	p := compare(t, shop(), shop(cartGrant()), prove.Limits{States: 3})
	if p.Verdict != plan.NotCompared || !p.OverBudget {
		t.Errorf("verdict %q, over budget %v", p.Verdict, p.OverBudget)
	}
}

// A connection and a request are not comparable.
func TestProtocolChangeIsNotCompared(t *testing.T) {
	after := shop(cartGrant())
	after.Services[1].Ports[0].Protocol = model.TCP
	if p := compare(t, shop(cartGrant()), after, prove.Limits{}); p.Verdict != plan.NotCompared || p.OverBudget {
		t.Errorf("verdict %q, over budget %v", p.Verdict, p.OverBudget)
	}
}

// The order of services and grants does not change a plan.
func TestOrderOfInput(t *testing.T) {
	a, b := shop(cartGrant(), model.Grant{Name: "ops", Terms: model.Terms{Namespaces: []string{"ops"}}}), shop(model.Grant{Name: "ops", Terms: model.Terms{Namespaces: []string{"ops"}}}, cartGrant())
	slices.Reverse(b.Services)
	if p := compare(t, a, b.Build(), prove.Limits{}); p.Changed() {
		t.Errorf("changed: %+v", p.Lines)
	}
}

// A comment stays below GitHub's 65,536 characters and says what is left out.
func TestMarkdownIsCut(t *testing.T) {
	p := plan.Plan{Verdict: plan.Widening}
	for i := range 3000 {
		p.Lines = append(p.Lines, plan.Line{Class: plan.Widening, Text: strings.Repeat("ü", 40), Scopes: []string{fmt.Sprint(i)}})
	}
	var b strings.Builder
	if err := plan.Markdown(&b, p, plan.RenderOptions{Sections: []plan.Section{{Title: "proof", Lines: []string{"x"}, Folded: true}}}); err != nil {
		t.Fatal(err)
	}
	if n := utf8.RuneCountInString(b.String()); n >= 65_536 || n < 60_000 {
		t.Errorf("%d characters", n)
	}
	if s := b.String(); !strings.HasPrefix(s, plan.Marker+"\n") || !strings.Contains(s, "more lines of Behaviour are left out") {
		t.Error("no marker, or the cut is silent")
	}
}

func BenchmarkCompare1000(b *testing.B) {
	mesh := func(weight model.Percent, edited int) *model.Mesh {
		m := &model.Mesh{TrustDomain: "td"}
		for i := range 1000 {
			name := fmt.Sprintf("s%03d", i)
			w := model.All
			if edited < 0 || edited == i {
				w = weight
			}
			split := []model.Target{{Version: "v1", Weight: w}, {Version: "v2", Weight: model.All - w}}
			m.Services = append(m.Services, &model.Service{
				ID: "n/" + name, Namespace: "n", Name: name,
				Ports:    []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Strict}},
				Versions: []model.Version{{Name: "v1", Account: name}, {Name: "v2", Account: name}},
				Calls:    []model.Call{{To: fmt.Sprintf("n/s%03d", (i+1)%1000), Port: "http"}},
				Routes: []model.Route{
					{Name: "a", Match: model.Match{Path: model.Path{Kind: model.PathExact, Value: "/healthz"}}, To: split},
					{Name: "b", Match: model.Match{Path: model.Path{Kind: model.PathPrefix, Value: "/" + name}}, To: split},
					{Name: "c", To: split},
				},
				Grants: []model.Grant{
					{Name: "x", Terms: model.Terms{Accounts: []string{fmt.Sprintf("n/s%03d", (i+999)%1000)}, Methods: []string{"GET"}}},
					{Name: "y", Terms: model.Terms{Namespaces: []string{"ops"}, Paths: []model.Path{{Kind: model.PathExact, Value: "/healthz"}}}},
				},
			})
		}
		return m.Build()
	}
	_, meaning, words := features()
	for name, after := range map[string]*model.Mesh{"oneEdit": mesh(90, 500), "allChanged": mesh(90, -1)} {
		b.Run(name, func(b *testing.B) {
			before := mesh(100, -1)
			b.ReportAllocs()
			for b.Loop() {
				if p, err := plan.Compare(plan.Side{Mesh: before}, plan.Side{Mesh: after}, meaning, words, prove.Limits{}); err != nil || !p.Changed() {
					b.Fatal(err)
				}
			}
		})
	}
}
