package compiler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// Header is one line of a request's header.
type Header = space.Header

// HeaderLines returns the lines of a request's header as a proxy keeps them: some
// headers (lower case) become one line.
func HeaderLines(name string, lines []string) []string { return space.HeaderLines(name, lines) }

// Outcome is what becomes of a request.
type Outcome = space.Outcome

// Verdict is the outcome's kind: "forward", "denied", "notFound", "redirect" or "answered".
type Verdict = space.Verdict

// Request is one request to a service or a gateway.
type Request struct {
	// From is who asks: a service ("name" is looked up in Namespace, else
	// "namespace/name"), "gateway/name", or "" for a caller without identity.
	From string
	// To is the destination: a service, or "gateway/name".
	To string
	// Namespace completes names without one; "" allows only names that are unique in the mesh.
	Namespace string
	// Port is a port's name; "" is the first.
	Port    string
	Host    string
	Method  string // "" is GET
	Path    string // as sent; "" is "/"
	Headers []Header
}

// Step is one deciding piece of the mesh, with the user's line.
type Step struct {
	Path string   `json:"path"`
	Pos  diag.Pos `json:"pos"`
	// Package is the folder of the package that attached a route to another one's
	// gateway, "" for all that was declared where it stands.
	Package string `json:"package,omitempty"`
	// Owner is who answers for an attached route or a deny, Reason why there is a deny.
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// String is the path, with who attached it, or denies and why.
func (s Step) String() string {
	if s.Package == "" {
		if why := strings.Join(slices.DeleteFunc([]string{s.Owner, s.Reason}, func(t string) bool { return t == "" }), ": "); why != "" {
			return s.Path + " (" + why + ")"
		}
		return s.Path
	}
	return fmt.Sprintf("%s, attached by package %q (%s)", s.Path, s.Package, s.Owner)
}

// Answer is the decision for one request.
type Answer struct {
	Request space.Request `json:"request"`
	Scope   space.Scope   `json:"scope"`
	Outcome Outcome       `json:"outcome"`
	// Status is what the caller sees if a proxy answers, 0 if the destination does.
	Status int    `json:"status,omitempty"`
	Steps  []Step `json:"steps,omitempty"`
	// Arrives is the request as its destination gets it: the grants, and behind them the
	// application. Its host is "" if nothing has changed it.
	Arrives Arrival `json:"arrives,omitzero"`
	// Why is the reason of a proxy that answers by itself, where neither a route nor a grant is.
	Why string `json:"why,omitempty"`
}

// Arrival is where a request has got to.
type Arrival struct {
	// Path is without the query.
	Path string `json:"path,omitempty"`
	Host string `json:"host,omitempty"`
}

// Moved reports whether another path or host arrives than was sent.
func (a Answer) Moved() bool {
	return a.Arrives.Host != "" || a.Arrives.Path != "" && a.Arrives.Path != a.Request.Path
}

// Target is the path that arrives, with the query and behind a new host.
func (a Answer) Target() string {
	q := a.Request
	q.Path = a.Arrives.Path
	return a.Arrives.Host + q.Target()
}

// Allowed reports whether the request gets through, or is redirected.
func (a Answer) Allowed() bool {
	return a.Outcome.Verdict == space.Forward || a.Outcome.Verdict == space.Redirect
}

// Words says in one line what becomes of the request.
func (a Answer) Words() string {
	if o := a.Outcome; o.Verdict == space.Denied && (o.Status == badStatus || o.Status == tooLargeStatus) {
		return fmt.Sprintf("refused by the first proxy, whatever the mesh says (%d)", a.Status)
	}
	text := ""
	if a.Why != "" {
		text = ": " + a.Why
	}
	for _, p := range a.Outcome.Partly {
		if p.Percent == all {
			return fmt.Sprintf("broken off by a %s (%d)", p.Feature, p.Status)
		}
		text += fmt.Sprintf("; %s%% of such requests are broken off by a %s (%d)", strconv.FormatFloat(p.Percent, 'f', -1, 64), p.Feature, p.Status)
	}
	return words(a.Outcome) + text
}

// all is the share of an answer that every request gets.
const all = 100

// MayAnswer is the status of an answer that some of such requests get and others do
// not, 0 if there is none.
func (a Answer) MayAnswer() int {
	for _, p := range a.Outcome.Partly {
		if p.Percent < all && p.Status != a.Status {
			return p.Status
		}
	}
	return 0
}

// Answers to what no proxy of the mesh passes on.
const (
	badStatus      = 400
	tooLargeStatus = 431
)

// AtDoor reports whether the port of a gateway answers by itself, before any route.
func (a Answer) AtDoor() bool { return a.Outcome.By == eval.ByDoor }

// Redirects reports whether the caller's proxy answers with another place.
func (a Answer) Redirects() bool {
	return a.Outcome.Verdict == space.Redirect && a.Status == a.Outcome.Status
}

// Answered reports whether a route answers by itself, and no fault comes before.
func (a Answer) Answered() bool {
	return a.Outcome.Verdict == space.Answered && !slices.ContainsFunc(a.Outcome.Partly, func(p space.Partial) bool { return p.Percent == all })
}

// Decisions returns everything that is decided, by scope. Computed once per call.
func (p *Program) scopes() []space.Decision { return eval.Scopes(p.mesh, catalog.Meaning()) }

// Decide answers one request. The error names what the request refers to that
// the mesh does not have.
func (p *Program) Decide(r Request) (Answer, error) {
	return p.decide(p.scopes(), r)
}

func (p *Program) decide(ds []space.Decision, r Request) (Answer, error) {
	from, err := p.identity(r.From, r.Namespace)
	if err != nil {
		return Answer{}, err
	}
	q := space.Request{From: from, Host: eval.CleanHost(joinHosts(r)), Method: orElse(r.Method, "GET"), Path: orElse(r.Path, "/"), Headers: eval.CleanHeaders(r.door(), r.Headers)}
	clean, bad := r.refused()
	if bad != 0 {
		return refused(q, space.Scope{}, bad), nil
	}
	r.Host = joinHosts(r)
	q.Path = clean
	_, q.Query, _ = strings.Cut(r.Path, "?")
	q.Upgrade = hop.Upgrade(r.lines(hop.Connection), r.lines(hop.UpgradeTo))
	scope, found, err := p.scope(ds, r)
	if err != nil {
		return Answer{}, err
	}
	if !eval.Stable(q.Path) && scope.Scope.Protocol != string(model.TCP) {
		return refused(q, scope.Scope, badStatus), nil
	}
	ans, atDoor, err := p.atDoor(r)
	switch {
	case err != nil:
		return Answer{}, err
	case atDoor:
	case found:
		ans = eval.Decide(scope, q)
	default:
		ans = eval.UnknownHost()
	}
	out := Answer{Request: q, Scope: scope.Scope, Outcome: ans.Outcome, Status: status(ans.Outcome), Why: ans.Why}
	if v := ans.Outcome.Verdict; scope.Scope.Protocol != string(model.TCP) && (v == space.Forward || v == space.Denied) {
		out.Arrives = Arrival{ans.Image.Of(q).Path, ans.Image.Host}
	}
	for _, o := range ans.From {
		out.Steps = append(out.Steps, p.step(string(o)))
	}
	return out, nil
}

func (p *Program) step(path string) Step {
	s := Step{Path: path, Pos: p.Position(path)}
	if d, ok := p.mesh.Deny(path); ok {
		s.Owner, s.Reason = d.Owner, d.Reason
	}
	if !strings.HasPrefix(path, gatewayPrefix) {
		return s
	}
	for _, g := range p.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				if r.Package != "" && model.GatewayRoutePath(g.ID, h.Name, r.Name) == path {
					s.Package, s.Owner = r.Package, r.Owner
				}
			}
		}
	}
	return s
}

// gatewayPrefix marks a gateway where a service may stand.
const gatewayPrefix = "gateway/"

// Authority is the host as applications and redirects get it: further Host lines
// joined, without a dot at the end, with its port.
func (r Request) Authority() string { return eval.WithoutDot(joinHosts(r)) }

// goodHost: a request that says nothing of its host has a good one.
func (r Request) goodHost() bool {
	host := r.Authority()
	return host == "" && r.Host == "" || hop.GoodAuthority(host)
}

// joinHosts is the host as Envoy has it if there are further Host lines.
func joinHosts(r Request) string {
	hosts := []string{r.Host}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "host") {
			hosts = append(hosts, h.Value)
		}
	}
	return strings.Join(slices.DeleteFunc(hosts, func(h string) bool { return h == "" }), ",")
}

// lines are the values of a header's lines.
func (r Request) lines(name string) []string {
	var out []string
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// goodLength: a request that says nothing of its length has a good one.
func (r Request) goodLength() bool {
	return !slices.ContainsFunc(r.Headers, func(h Header) bool { return strings.EqualFold(h.Name, "content-length") && !hop.GoodLength(h.Value) })
}

// hasUnderscore: a gateway refuses such headers, because many applications take
// "x_role" and "x-role" for one.
func hasUnderscore(hs []Header) bool {
	return slices.ContainsFunc(hs, func(h Header) bool { return strings.Contains(h.Name, "_") })
}

// refused is the answer to what no proxy of the mesh passes on.
func refused(q space.Request, s space.Scope, status int) Answer {
	return Answer{Request: q, Scope: s, Outcome: Outcome{Verdict: space.Denied, Status: status}, Status: status}
}

// refused is the status with which the first proxy refuses the request, whatever
// the mesh says, and 0 with the normalised path of one that it takes.
func (r Request) refused() (path string, status int) {
	if !hop.GoodMethod(orElse(r.Method, "GET")) {
		return "", badStatus
	}
	l := hop.At(r.door())
	if lines, size := r.head(); lines > int(l.HeaderLines) || size > int(l.HeaderKiB)<<10 {
		return "", tooLargeStatus
	}
	path, ok := eval.Normalise(orElse(r.Path, "/"))
	if !ok || !r.goodHost() || !r.goodLength() || (r.atGateway() && hasUnderscore(r.Headers)) {
		return "", badStatus
	}
	return path, 0
}

func (r Request) atGateway() bool { return strings.HasPrefix(r.To, gatewayPrefix) }

// door is where the request meets its first proxy.
func (r Request) door() hop.Door {
	if r.atGateway() {
		return hop.Gateway
	}
	return hop.Outbound
}

// head is the number of header lines as a proxy keeps them, and the bytes of the
// request's head over HTTP/1.1, written without superfluous blanks.
func (r Request) head() (lines, size int) {
	const blanks = len("  HTTP/1.1\r\n") + len("\r\n")
	const perLine = len(": \r\n")
	lines, size = 1, len(orElse(r.Method, "GET"))+len(orElse(r.Path, "/"))+blanks+len("host")+len(r.Host)+perLine
	kept := map[string][]string{}
	for _, h := range r.Headers {
		name := strings.ToLower(h.Name)
		kept[name] = append(kept[name], h.Value)
		size += len(h.Name) + len(h.Value) + perLine
	}
	for name, values := range kept {
		lines += len(space.HeaderLines(name, values))
	}
	return lines, size
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// status is what a proxy answers by itself, 0 if the application does. An answer that
// all requests get comes before whatever would have been theirs.
func status(o Outcome) int {
	for _, p := range o.Partly {
		if p.Percent == all {
			return p.Status
		}
	}
	return o.Status
}

// scope finds the decision that a request is judged by.
func (p *Program) scope(ds []space.Decision, r Request) (space.Decision, bool, error) {
	if name, ok := strings.CutPrefix(r.To, gatewayPrefix); ok {
		g, err := p.gateway(name, r.Namespace)
		if err != nil {
			return space.Decision{}, false, err
		}
		host := r.Host
		if port, ok := g.Port(r.Port); ok {
			if h, ok := g.HostAt(port.Name, eval.CleanHost(r.Host)); ok {
				host = h.Name // of hosts at other ports none is chosen
			}
		}
		d, found := eval.FindGateway(ds, g.ID, host)
		return d, found, nil
	}
	s, err := p.service(r.To, r.Namespace)
	if err != nil {
		return space.Decision{}, false, err
	}
	port, err := portOf(s, r.Port)
	if err != nil {
		return space.Decision{}, false, err
	}
	d, found := eval.FindService(ds, s.ID, port.Name)
	return d, found, nil
}

// atDoor is what the port of a gateway answers by itself. A request that names none comes
// in the way that its host is for: by HTTPS where it has TLS.
func (p *Program) atDoor(r Request) (space.Answer, bool, error) {
	name, ok := strings.CutPrefix(r.To, gatewayPrefix)
	if !ok || r.Port == "" {
		return space.Answer{}, false, nil
	}
	g, err := p.gateway(name, r.Namespace)
	if err != nil {
		return space.Answer{}, false, err
	}
	port, ok := g.Port(r.Port)
	if !ok {
		var names []string
		for _, p := range g.Ports {
			names = append(names, p.Name)
		}
		return space.Answer{}, false, fmt.Errorf("gateway %q has no port %q (it has %s)", g.ID, r.Port, some(names))
	}
	a, ok := eval.AtDoor(g, port, r.Host)
	return a, ok, nil
}

// portOf finds a port of a service by its name; "" is the only or main one.
func portOf(s *model.Service, name string) (model.Port, error) {
	var names []string
	for _, p := range s.Ports {
		names = append(names, p.Name)
	}
	if name == "" {
		p, ok := model.Unnamed(s.Ports)
		if !ok {
			return p, fmt.Errorf("service %q has several ports and none is the main one: name one of %s", s.ID, some(names))
		}
		return p, nil
	}
	p, ok := s.Port(name)
	if !ok {
		return p, fmt.Errorf("service %q has no port %q (it has %s)", s.ID, name, some(names))
	}
	return p, nil
}

// service finds a service by ID, by name in a namespace, or by a name that is unique.
func (p *Program) service(name, namespace string) (*model.Service, error) {
	if s := p.mesh.Service(name); s != nil {
		return s, nil
	}
	if s := p.mesh.Service(namespace + "/" + name); s != nil {
		return s, nil
	}
	var hits []*model.Service
	for _, s := range p.mesh.Services {
		if s.Name == name && namespace == "" {
			hits = append(hits, s)
		}
	}
	if len(hits) == 1 {
		return hits[0], nil
	}
	if len(hits) > 1 {
		return nil, fmt.Errorf("several services are called %q: write namespace/name", name)
	}
	return nil, fmt.Errorf("the mesh has no service %q (it has %s)", name, some(p.serviceNames()))
}

func (p *Program) serviceNames() []string {
	var out []string
	for _, s := range p.mesh.Services {
		out = append(out, s.ID)
	}
	return out
}

// some lists names for people, not too many.
func some(names []string) string {
	const shown = 12
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > shown:
		return strings.Join(names[:shown], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func (p *Program) gateway(name, namespace string) (*model.Gateway, error) {
	for _, id := range []string{name, namespace + "/" + name} {
		if g := p.mesh.Gateway(id); g != nil {
			return g, nil
		}
	}
	var hits []*model.Gateway
	var names []string
	for _, g := range p.mesh.Gateways {
		names = append(names, gatewayPrefix+g.ID)
		if g.Name == name {
			hits = append(hits, g)
		}
	}
	switch len(hits) {
	case 0:
		return nil, fmt.Errorf("the mesh has no gateway %q (it has %s)", name, some(names))
	case 1:
		return hits[0], nil
	}
	return nil, fmt.Errorf("several gateways are called %q: write gateway/namespace/name", name)
}

// identity is the SPIFFE ID of a caller's first account by name.
func (p *Program) identity(from, namespace string) (string, error) {
	if from == "" || strings.HasPrefix(from, "spiffe://") {
		return from, nil
	}
	if name, ok := strings.CutPrefix(from, gatewayPrefix); ok {
		g, err := p.gateway(name, namespace)
		if err != nil {
			return "", err
		}
		return g.Class().SPIFFEID(p.mesh.TrustDomain), nil
	}
	s, err := p.service(from, namespace)
	if err != nil {
		return "", err
	}
	return s.Class(s.Versions[0]).SPIFFEID(p.mesh.TrustDomain), nil
}

// TestResult is what became of one `test:` block.
type TestResult struct {
	Name string   `json:"name"`
	Pos  diag.Pos `json:"pos"`
	// Failure is "" if the test passed, else what was expected and what came.
	Failure string `json:"failure,omitempty"`
	Answer  Answer `json:"answer"`
}

// Test runs every `test:` block of the intent in the evaluator.
func (p *Program) Test() []TestResult {
	ds := p.scopes()
	out := make([]TestResult, 0, len(p.result.Tests))
	for i, t := range p.Tests() {
		a, err := p.decide(ds, t.Request)
		res := TestResult{Name: t.Name, Pos: t.Pos, Answer: a}
		if err != nil {
			res.Failure = err.Error()
		} else {
			res.Failure = judge(p.result.Tests[i].Expect, a)
		}
		out = append(out, res)
	}
	return out
}

// judge words the first expectation that an answer does not meet.
func judge(e resolve.Expect, a Answer) string {
	if e.Allowed != nil && *e.Allowed != a.Allowed() {
		return fmt.Sprintf("expected allowed: %v, the request is %s", *e.Allowed, a.Words())
	}
	got := a.Status
	if a.Outcome.Verdict == space.Forward {
		got = 200 // what an application answers is its own affair
	}
	if e.Status != 0 && got != e.Status {
		return fmt.Sprintf("expected status %d, the request is %s", e.Status, a.Words())
	}
	if e.Path != "" && e.Path != a.Arrives.Path {
		return fmt.Sprintf("expected the path %s to arrive, it is %s", e.Path, orElse(a.Arrives.Path, "none: the request is "+a.Words()))
	}
	if e.Host != "" && e.Host != orElse(a.Arrives.Host, a.Request.Host) {
		return fmt.Sprintf("expected the host %s to arrive, it is %s", e.Host, orElse(a.Arrives.Host, a.Request.Host))
	}
	if e.To == "" && e.Port == "" && e.Version == "" {
		return ""
	}
	wanted := e.To
	for _, w := range []struct{ word, name string }{{"port", e.Port}, {"version", e.Version}} {
		if w.name != "" {
			wanted = strings.TrimSpace(wanted + " " + w.word + " " + w.name)
		}
	}
	for _, s := range a.Outcome.Shares {
		parts := strings.Split(s.Target, "/") // namespace/service/port/version
		if len(parts) == 4 && (e.To == "" || e.To == parts[0]+"/"+parts[1]) && (e.Port == "" || e.Port == parts[2]) && (e.Version == "" || e.Version == parts[3]) {
			continue
		}
		return fmt.Sprintf("expected every request to reach %s, the request is %s", wanted, a.Words())
	}
	if len(a.Outcome.Shares) == 0 {
		return fmt.Sprintf("expected %s, the request is %s", wanted, a.Words())
	}
	return ""
}

// words says an outcome in one line.
func words(o Outcome) string {
	switch o.Verdict {
	case space.Denied:
		if o.By == space.ByDeny {
			return "denied (403), whatever grants say"
		}
		return "denied (403)"
	case space.NotFound:
		return "not routed (404)"
	case space.Redirect:
		return "redirected"
	case space.Answered:
		return fmt.Sprintf("answered by %s (%d)", o.By, o.Status)
	case space.Forward:
	}
	total := 0
	for _, s := range o.Shares {
		total += s.Weight
	}
	var parts []string
	for _, s := range o.Shares {
		parts = append(parts, fmt.Sprintf("%s %d%%", s.Target, (s.Weight*100+total/2)/total))
	}
	return "forwarded to " + strings.Join(parts, ", ")
}

// Classes returns the proxy classes of the mesh, sorted.
func (p *Program) Classes() []release.Class {
	seen := map[release.Class]bool{}
	for _, s := range p.mesh.Services {
		for _, v := range s.Versions {
			seen[s.Class(v)] = true
		}
	}
	for _, g := range p.mesh.Gateways {
		seen[g.Class()] = true
	}
	var out []release.Class
	for c := range seen {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b release.Class) int { return strings.Compare(a.String(), b.String()) })
	return out
}
