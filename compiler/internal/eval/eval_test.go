package eval_test

import (
	"slices"
	"testing"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

type note struct{ Text string }

func (note) TraitName() string { return "note" }

type mirror struct{ To string }

func (mirror) TraitName() string { return "mirror" }

type redirect struct{ Path string }

func (redirect) TraitName() string { return "redirect" }

func column() eval.Column {
	return eval.Column{
		"note": func(v trait.Value) []space.Act {
			return space.Labels(space.AtWorkload, space.Field{Feature: "note", Name: "text", Value: v.(note).Text})
		},
		"mirror": func(v trait.Value) []space.Act {
			return space.Labels(space.AtRoute, space.Field{Feature: "mirror", Name: "to", Value: v.(mirror).To})
		},
		"redirect": func(v trait.Value) []space.Act {
			return []space.Act{{At: space.AtRoute, Answer: &space.Reply{Status: 301}, Fields: []space.Field{{Feature: "redirect", Name: "path", Value: v.(redirect).Path}}}}
		},
	}
}

// shop has one service with an HTTP and a TCP port, and one gateway.
func shop(mtls model.MTLS, routes []model.Route, grants []model.Grant) *model.Mesh {
	web := &model.Service{
		ID: "shop/web", Namespace: "shop", Name: "web",
		Ports: []model.Port{
			{Name: "http", Number: 8080, Protocol: model.HTTP, MTLS: mtls},
			{Name: "raw", Number: 9000, Protocol: model.TCP, MTLS: mtls},
		},
		Versions: []model.Version{{Name: "v1", Account: "web"}, {Name: "v2", Account: "web"}},
		Routes:   routes, Grants: grants,
	}
	edge := &model.Gateway{
		ID: "shop/edge", Namespace: "shop", Name: "edge", Account: "edge", Ports: []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Disable}},
		Hosts: []model.Host{
			{Name: "*", Routes: []model.Route{{Name: "all", Match: prefix("/any"), To: toWeb()}}},
			{Name: "*.example", Routes: []model.Route{{Name: "wild", Match: prefix("/wild"), To: toWeb()}}},
			{Name: "web.example", Routes: []model.Route{{Name: "web", Match: prefix("/"), To: toWeb()}}},
		},
	}
	return (&model.Mesh{TrustDomain: "td", Services: []*model.Service{web}, Gateways: []*model.Gateway{edge}}).Build()
}

func toWeb() []model.Target {
	return []model.Target{{Service: "shop/web", Port: "http", Weight: 100}}
}

func prefix(p string) model.Match {
	return model.Match{Path: model.Path{Kind: model.PathPrefix, Value: p}}
}

func everything(version string) model.Route {
	return model.Route{Name: "default", To: []model.Target{{Version: version, Weight: 100}}}
}

func id(account string) string { return eval.Identity("td", account) }

func decide(t *testing.T, m *model.Mesh, port string, q space.Request) space.Answer {
	t.Helper()
	d, ok := eval.Find(eval.Scopes(m, column()), "service", "shop/web", port)
	if !ok {
		t.Fatalf("no scope for port %q", port)
	}
	return eval.Decide(d, q)
}

func want(t *testing.T, what string, a space.Answer, v space.Verdict) {
	t.Helper()
	if a.Outcome.Verdict != v {
		t.Errorf("%s: %s by %v, want %s", what, a.Outcome.Verdict, a.From, v)
	}
}

// Rule 1: the first route of the list decides, and no match is 404.
func TestRoutesDecideInOrder(t *testing.T) {
	m := shop(model.Strict, []model.Route{
		{Name: "testers", Match: model.NewMatch(model.Path{}, space.Values(space.HeaderDim("user"), "jason")), To: []model.Target{{Version: "v2", Weight: 100}}},
		{Name: "api", Match: prefix("/api"), To: []model.Target{{Version: "v1", Weight: 90}, {Version: "v2", Weight: 10}}},
	}, []model.Grant{{Name: "all", Terms: model.Terms{Mesh: true}}})
	q := space.Request{From: id("shop/x"), Method: "GET", Path: "/api/1"}
	a := decide(t, m, "http", q)
	if got := a.Outcome.Key(); got != `forward|"shop/web/http/v1"=9|"shop/web/http/v2"=1` {
		t.Errorf("outcome %s", got)
	}
	if !slices.Equal(a.From, []space.Origin{"service/shop/web/route/api", "service/shop/web/grant/all"}) {
		t.Errorf("decided by %v", a.From)
	}
	q.Headers = []space.Header{{Name: "user", Value: "other"}, {Name: "user", Value: "jason"}}
	if got := decide(t, m, "http", q).Outcome.Key(); got != `forward|"shop/web/http/v2"=1` {
		t.Errorf("second header line is not seen: %s", got)
	}
	want(t, "outside all routes", decide(t, m, "http", space.Request{From: id("shop/x"), Path: "/other"}), space.NotFound)
}

// Rule 2: a route's prefix goes by segment; a grant's /a/* is what is below /a/.
func TestPaths(t *testing.T) {
	grants := []model.Grant{{Name: "below", Terms: model.Terms{Mesh: true, Paths: []model.Path{{Kind: model.PathBelow, Value: "/a/"}}}}}
	m := shop(model.Strict, []model.Route{{Name: "a", Match: prefix("/a"), To: everything("v1").To}}, grants)
	for path, v := range map[string]space.Verdict{
		"/a": space.Denied, "/a/": space.Forward, "/a/b": space.Forward, "/ab": space.NotFound,
	} {
		want(t, path, decide(t, m, "http", space.Request{From: id("shop/x"), Path: path}), v)
	}
	tmpl := model.Match{Path: model.Path{Kind: model.PathTemplate, Value: "/t/{x}/y"}}
	m = shop(model.Strict, []model.Route{{Name: "t", Match: tmpl, To: everything("v1").To}}, []model.Grant{{Name: "g", Terms: model.Terms{Mesh: true}}})
	for path, v := range map[string]space.Verdict{
		"/t/1/y": space.Forward, "/t//y": space.NotFound, "/t/1/y/": space.NotFound, "/t/1/2/y": space.NotFound,
	} {
		want(t, path, decide(t, m, "http", space.Request{From: id("shop/x"), Path: path}), v)
	}
}

// Rule 3: not is the complement, absent included; an empty list matches nobody.
func TestNot(t *testing.T) {
	not := model.NewMatch(model.Path{}, space.Test{Dim: space.HeaderDim("user"), Any: []space.Pattern{{Kind: space.Exact, Text: "u"}}, Not: true})
	m := shop(model.Strict, []model.Route{{Name: "r", Match: not, To: everything("v1").To}},
		[]model.Grant{{Name: "none", Terms: model.Terms{Accounts: nil}}, {Name: "nothing", Terms: model.Terms{Mesh: true, Methods: []string{}}}, {Name: "get", Terms: model.Terms{Mesh: true, Methods: []string{"GET"}}}})
	q := space.Request{From: id("shop/x"), Method: "GET", Path: "/"}
	want(t, "absent", decide(t, m, "http", q), space.Forward)
	q.Headers = []space.Header{{Name: "user", Value: "w"}, {Name: "user", Value: "u"}}
	want(t, "one of two lines", decide(t, m, "http", q), space.NotFound)
	want(t, "method of no grant", decide(t, m, "http", space.Request{From: id("shop/x"), Method: "POST", Path: "/"}), space.Denied)
}

// Rule 4: who is a union, the rest holds together; redirects need no grant; a
// route's mirror acts before the denial, its other fields do not.
func TestGrants(t *testing.T) {
	g := model.Grant{Name: "g", Terms: model.Terms{Accounts: []string{"shop/cart"}, Namespaces: []string{"ops"}, Methods: []string{"GET"}, Ports: []string{"http"}}}
	r := everything("v1")
	r.Traits = trait.Of(note{"n"}, mirror{"shop/copy"})
	m := shop(model.Strict, []model.Route{
		{Name: "old", Match: prefix("/old"), Traits: trait.Of(redirect{"/new"})}, r,
	}, []model.Grant{g})
	for from, v := range map[string]space.Verdict{
		id("shop/cart"): space.Forward, id("ops/anything"): space.Forward, id("opsx/a"): space.Denied, id("shop/cart2"): space.Denied,
		"spiffe://other/ns/shop/sa/cart": space.Denied, "": space.Denied,
	} {
		want(t, from, decide(t, m, "http", space.Request{From: from, Method: "GET", Path: "/"}), v)
	}
	want(t, "redirect", decide(t, m, "http", space.Request{From: id("opsx/a"), Method: "POST", Path: "/old"}), space.Redirect)
	want(t, "no proxy redirects a stranger", decide(t, m, "http", space.Request{Method: "POST", Path: "/old"}), space.Denied)
	if got := decide(t, m, "http", space.Request{From: id("opsx/a"), Path: "/"}).Outcome.Key(); got != `denied 403|mirror.to="shop/copy"` {
		t.Errorf("denied outcome %s", got)
	}
	want(t, "grant names another port, and asks for a method", decide(t, m, "raw", space.Request{From: id("shop/cart")}), space.Denied)
}

// Rule 4, mTLS: without it nobody has an identity; with it nobody is unknown.
func TestModes(t *testing.T) {
	grants := []model.Grant{{Name: "cart", Terms: model.Terms{Accounts: []string{"shop/cart"}}}, {Name: "open", Terms: model.Terms{Anyone: true, Methods: []string{"GET"}, Ports: []string{"http"}}}}
	for _, c := range []struct {
		mtls         model.MTLS
		from, method string
		want         space.Verdict
	}{
		{model.Strict, id("shop/cart"), "POST", space.Forward},
		{model.Strict, "", "GET", space.Denied},
		{model.Permissive, "", "GET", space.Forward},
		{model.Permissive, "", "POST", space.Denied},
		{model.Permissive, "spiffe://else/ns/a/sa/b", "GET", space.Denied},
		{model.Disable, id("shop/cart"), "POST", space.Denied},
		{model.Disable, id("shop/cart"), "GET", space.Forward},
	} {
		m := shop(c.mtls, []model.Route{everything("v1")}, grants)
		want(t, string(c.mtls)+" "+c.method+" from "+c.from, decide(t, m, "http", space.Request{From: c.from, Method: c.method, Path: "/"}), c.want)
	}
}

// A TCP port has one list of identities and the route without conditions.
func TestTCP(t *testing.T) {
	m := shop(model.Strict, []model.Route{{Name: "api", Match: prefix("/api"), To: everything("v2").To}, everything("v1")},
		[]model.Grant{{Name: "cart", Terms: model.Terms{Accounts: []string{"shop/cart"}}}})
	a := decide(t, m, "raw", space.Request{From: id("shop/cart")})
	if got := a.Outcome.Key(); got != `forward|"shop/web/raw/v1"=1` {
		t.Errorf("outcome %s", got)
	}
	want(t, "stranger", decide(t, m, "raw", space.Request{From: id("shop/x")}), space.Denied)
}

// Rules 6 and 7: one host is chosen, without falling back; the gateway calls
// with its own identity and the service's routes apply behind it.
func TestGateway(t *testing.T) {
	m := shop(model.Strict, []model.Route{{Name: "api", Match: prefix("/api"), To: everything("v2").To}},
		[]model.Grant{{Name: "edge", Terms: model.Terms{Accounts: []string{"shop/edge"}, Methods: []string{"GET"}}}})
	ds := eval.Scopes(m, column())
	for _, c := range []struct {
		host, method, path string
		want               space.Verdict
	}{
		{"web.example", "GET", "/api", space.Forward},
		{"WEB.example:80", "GET", "/api", space.Forward},
		{"web.example.", "GET", "/api", space.Forward},
		{"web.example", "POST", "/api", space.Denied},
		{"web.example", "GET", "/wild", space.NotFound},
		{"a.b.example", "GET", "/wild", space.NotFound}, // the service's own routes leave it out
		{"example", "GET", "/any", space.NotFound},
	} {
		d, ok := eval.Find(ds, "gateway", "shop/edge", c.host)
		if !ok {
			t.Fatalf("host %q finds nothing", c.host)
		}
		want(t, c.host+" "+c.method+" "+c.path, eval.Decide(d, space.Request{Host: c.host, Method: c.method, Path: c.path}), c.want)
	}
	for host, scope := range map[string]string{"web.example": "web.example", "x.example": "*.example", "example": "*", ".example": "*"} {
		if d, _ := eval.FindGateway(ds, "shop/edge", host); d.Scope.Port != scope {
			t.Errorf("host %q goes to %q, want %q", host, d.Scope.Port, scope)
		}
	}
	if _, ok := eval.FindGateway(ds, "shop/other", "web.example"); ok || eval.UnknownHost().Outcome.Verdict != space.NotFound {
		t.Error("an unknown gateway answers")
	}
}

// A trait without an effect is compared by digest, never ignored.
func TestOpaque(t *testing.T) {
	a, b := eval.Column{}.Fields(trait.Of(note{"a"})), eval.Column{}.Fields(trait.Of(note{"b"}))
	if len(a) != 1 || a[0].Name != eval.OpaqueField || a[0] == b[0] {
		t.Errorf("opaque fields %v and %v", a, b)
	}
}

// A route to two services of which one denies keeps the refused share visible.
func TestGatewaySplitBetweenServices(t *testing.T) {
	m := shop(model.Strict, []model.Route{everything("v1")}, []model.Grant{{Name: "edge", Terms: model.Terms{Accounts: []string{"shop/edge"}}}})
	other := *m.Services[0]
	other.ID, other.Name, other.Grants = "shop/shut", "shut", nil
	m.Services = append(m.Services, &other)
	m.Gateways[0].Hosts = []model.Host{{Name: "*", Routes: []model.Route{{Name: "half", To: []model.Target{
		{Service: "shop/web", Port: "http", Weight: 50}, {Service: "shop/shut", Port: "http", Weight: 50},
	}}}}}
	d, _ := eval.FindGateway(eval.Scopes(m.Build(), column()), "shop/edge", "x")
	if got := eval.Decide(d, space.Request{Method: "GET", Path: "/"}).Outcome.Key(); got != `forward|"shop/shut/http/v1"=1 answered 403|"shop/web/http/v1"=1` {
		t.Errorf("outcome %s", got)
	}
}

// A grant to a namespace is one to its accounts, not to whatever stands below its name.
func TestGrantToANamespaceIsToItsAccounts(t *testing.T) {
	m := (&model.Mesh{TrustDomain: "td", Services: []*model.Service{{ID: "shop/web", Namespace: "shop", Name: "web",
		Ports:    []model.Port{{Name: "http", Protocol: model.HTTP, MTLS: model.Strict}},
		Versions: []model.Version{{Name: "v", Account: "web"}},
		Routes:   []model.Route{{Name: "default", To: []model.Target{{Version: "v", Weight: 1}}}},
		Grants:   []model.Grant{{Name: "ns", Terms: model.Terms{Namespaces: []string{"foo"}}}}}}}).Build()
	d, _ := eval.FindService(eval.Scopes(m, nil), "shop/web", "http")
	for from, want := range map[string]space.Verdict{
		"spiffe://td/ns/foo/sa/a": space.Forward, "spiffe://td/ns/foo/a": space.Denied, "spiffe://td/ns/foobar/sa/a": space.Denied, "spiffe://other/ns/foo/sa/a": space.Denied,
	} {
		if got := eval.Decide(d, space.Request{From: from, Path: "/", Method: "GET"}); got.Outcome.Verdict != want {
			t.Errorf("%s: %s, want %s", from, got.Outcome.Verdict, want)
		}
	}
}

type preflight struct{}

func (preflight) TraitName() string { return "preflight" }

// What a callee's proxy answers before its grants needs none; the requests that it does
// not answer do, and at a gateway only the share of that callee is answered.
func TestAnAnswerAtTheCalleeComesBeforeItsGrants(t *testing.T) {
	c := column()
	c["preflight"] = func(trait.Value) []space.Act {
		options := space.Test{Dim: space.MethodDim, Any: []space.Pattern{{Kind: space.Exact, Text: "OPTIONS"}}}
		return []space.Act{{At: space.AtArrival, When: []space.Test{options}, Answer: &space.Reply{Status: 204}}}
	}
	m := shop(model.Strict, []model.Route{everything("v1")}, []model.Grant{{Name: "edge", Terms: model.Terms{Accounts: []string{"shop/edge"}}}})
	open := *m.Services[0]
	m.Services[0].Traits = trait.Of(preflight{})
	open.ID, open.Name = "shop/open", "open"
	m.Services = append(m.Services, &open)
	m.Gateways[0].Hosts = []model.Host{{Name: "*", Routes: []model.Route{{Name: "half", To: []model.Target{
		{Service: "shop/web", Port: "http", Weight: 50}, {Service: "shop/open", Port: "http", Weight: 50},
	}}}}}
	ds := eval.Scopes(m.Build(), c)
	service, _ := eval.FindService(ds, "shop/web", "http")
	tcp, _ := eval.FindService(ds, "shop/web", "raw")
	gateway, _ := eval.FindGateway(ds, "shop/edge", "x")
	for _, x := range []struct {
		d            space.Decision
		from, method string
		want         string
	}{
		{service, "", "GET", "denied 403"},
		{service, id("shop/x"), "OPTIONS", "answered 204 by preflight"},
		{service, id("shop/edge"), "OPTIONS", "answered 204 by preflight"},
		{service, id("shop/edge"), "GET", `forward|"shop/web/http/v1"=1`},
		{tcp, id("shop/x"), "OPTIONS", "denied 403"},
		{gateway, "", "OPTIONS", `forward|"shop/open/http/v1"=1|"shop/web/http/v1"=1 answered 204`},
		{gateway, "", "GET", `forward|"shop/open/http/v1"=1|"shop/web/http/v1"=1`},
	} {
		if got := eval.Decide(x.d, space.Request{From: x.from, Method: x.method, Path: "/"}).Outcome.Key(); got != x.want {
			t.Errorf("%s from %q at %s: %s, want %s", x.method, x.from, x.d.Scope, got, x.want)
		}
	}
}
