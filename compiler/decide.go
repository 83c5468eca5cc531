package compiler

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
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

// MayAnswer is what the value of an outcome's field holds of code that may answer requests by itself.
const MayAnswer = space.MayAnswer

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
	Port   string
	Host   string
	Method string // "" is GET
	// Path is the request's target as sent: a path with its query, a URI, "*", or for
	// CONNECT a host with its port; "" is "/".
	Path    string
	Headers []Header
	// Users are the tokens of end users that it brings along, by the name of their provider.
	Users []User
	// Source is the address of its connection, and Client the visitor's as a gateway sees it: "" where no rule asks.
	Source, Client string
	// Hop is the address of a gateway's connection to what is behind it.
	Hop string
	// HTTP is the version that the caller speaks: HTTP10, HTTP11 or HTTP2; "" is HTTP11.
	HTTP string
	// ServerName is what the caller's connection to a port of HTTPS asks for (SNI); "" is Host.
	ServerName string
	// Certificate is what a visitor shows to a gateway's host that asks for one: TrustedCertificate, OtherCertificate, or "" for none.
	Certificate string
	// Pause is how long its sender is silent before the request's end, and AnswerAfter how long its
	// destination works on each try from there to the answer. Connections have neither.
	Pause, AnswerAfter time.Duration
}

// Certificates of visitors, as a request names them: one that the host takes, and one that it does not.
const (
	TrustedCertificate = eval.TrustedCertificate
	OtherCertificate   = eval.OtherCertificate
)

// Versions of HTTP, as a request names them.
const (
	HTTP10 = eval.HTTP10
	HTTP11 = eval.HTTP11
	HTTP2  = eval.HTTP2
)

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
	// By is who answers: ByApplication, ByCallee, ByCaller or ByGateway; "" if different shares get
	// their answers from different ones.
	By string `json:"by,omitempty"`
	// First is the proxy that the request meets first, in words.
	First string `json:"first_proxy"`
	// Scheme is "http" or "https": where a redirect leads that names none.
	Scheme string `json:"scheme"`
	// Client is the visitor's address, where a gateway believes proxies that tell it; "" is that of
	// the connection.
	Client string `json:"client,omitempty"`
	// Authority is the host as applications and redirects get it that change nothing of it: that of
	// the target if it has one, further Host lines joined, without a dot at the end, with its port;
	// "" if the sender does not care.
	Authority string `json:"-"`
	// Personal are the headers that follow from an end user's token, where it is looked at on the way:
	// what they say at the destination nobody knows before.
	Personal []string `json:"-"`
	// Remembered are the headers of an application's answer that a proxy may write behind all edits: by which it
	// knows the caller again, or which tell a browser whose pages may read it.
	Remembered []string `json:"-"`
	// Written are the lines that say what the outcome's fields are, if they were asked for. What
	// has none is as the table of defaults says.
	Written []Written `json:"written,omitempty"`
	// Bounds are how long parts of the request may last, as the first proxy keeps it.
	Bounds []Bound `json:"bounds,omitempty"`
	// Beside is what the services that it leads to have for all requests together.
	Beside []Beside `json:"beside,omitempty"`
	// Handshake says that the callee's proxy ends the handshake, because the caller has no identity of
	// the mesh: there is no answer of its own, and a proxy that calls says 503.
	Handshake bool `json:"handshake,omitempty"`
	// Closed says that there is no answer: the connection is closed, or over HTTP/2 the stream is.
	Closed bool `json:"closed,omitempty"`
	// Access is the table by which proxies decide who gets in, if it was asked for.
	Access []Row `json:"access,omitempty"`
	// NotCalled is the ID of the caller's service, if that does not call the destination: then
	// its own proxy has no way there. "" else.
	NotCalled string `json:"not_called,omitempty"`
	// image is what becomes of the request on its way, but for what single shares do.
	image space.Image
	// odd says that applications may refuse it, as the first proxy of a mesh would.
	odd bool
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
	if a.ByProxy() || a.AtDoor() && a.Outcome.Verdict != space.Redirect {
		return wordsOfProxy(a.First, a.Status, a.Why)
	}
	text := ""
	if a.Why != "" {
		text = ": " + a.Why
	}
	for _, p := range a.Outcome.Partly {
		if p.Ends() {
			return fmt.Sprintf("broken off by the %s (%s)", p.Feature, p.Told()) + text
		}
		text += fmt.Sprintf("; %s%% of such requests are broken off by the %s (%s)", strconv.FormatFloat(p.Percent, 'f', -1, 64), p.Feature, p.Told())
	}
	return words(a.Outcome) + text
}

// wordsOfProxy say what a proxy answers by itself; status 0 is no answer.
func wordsOfProxy(which string, status int, why string) string {
	if status == 0 {
		return "ended by " + which + " without an answer: " + why
	}
	return fmt.Sprintf("answered by %s: %d, %s", which, status, why)
}

// badRequest is what an application says to what HTTP/1 cannot carry.
const badRequest = 400

// MayAnswer are the statuses of answers that some of such requests get and others do
// not. What the others get may have the same one.
func (a Answer) MayAnswer() []int {
	var out []int
	if a.odd {
		out = append(out, badRequest)
	}
	for _, p := range a.Outcome.Partly {
		if p.Ends() {
			break
		}
		out = append(out, p.Status)
	}
	return out
}

// ByProxy reports whether the first proxy answers by itself, whatever routes and grants say.
func (a Answer) ByProxy() bool { return a.Outcome.By == eval.ByProxy }

// Reset reports whether the first proxy ends HTTP/2's stream in place of an answer.
func (a Answer) Reset() bool { return a.ByProxy() && a.Status == 0 }

// Dropped reports whether the connection of a caller without a proxy ends in place of an answer: the handshake
// refuses it.
func (a Answer) Dropped() bool { return a.Handshake && a.Closed && a.Request.From == "" }

// AtDoor reports whether the port of a gateway answers by itself, before any route.
func (a Answer) AtDoor() bool { return a.Outcome.By == eval.ByDoor }

// Forwarded reports whether such requests reach a destination, all or some of them.
func (a Answer) Forwarded() bool {
	return a.Status == 0 && slices.ContainsFunc(a.Outcome.Shares, func(s space.Share) bool { return s.Status == 0 && s.Weight > 0 })
}

// RedirectPath is the path to which a redirect leads.
func (a Answer) RedirectPath() string {
	if m := a.Outcome.Path; m != nil {
		return m.Of(a.Request.Path)
	}
	return a.Request.Path
}

// Redirects reports whether the caller's proxy answers with another place.
func (a Answer) Redirects() bool {
	return a.Outcome.Verdict == space.Redirect && a.Status == a.Outcome.Status
}

// Answered reports whether a route answers by itself, and no fault comes before.
func (a Answer) Answered() bool {
	return a.Outcome.Verdict == space.Answered && !slices.ContainsFunc(a.Outcome.Partly, space.Partial.Ends)
}

// Decisions returns everything that is decided, by scope: of services and gateways' hosts, and
// of what is outside.
func (p *Program) Decisions() []space.Decision {
	out := p.scopes()
	for _, x := range p.mesh.Externals {
		for _, port := range x.Ports {
			out = append(out, eval.Outside(p.mesh, x, port, catalog.Meaning()))
		}
	}
	return out
}

// scopes is what is decided by proxies of the mesh that requests come to. Computed once per call.
func (p *Program) scopes() []space.Decision { return eval.Scopes(p.mesh, catalog.Meaning()) }

// Decide answers one request. The error names what the request refers to that
// the mesh does not have.
func (p *Program) Decide(r Request) (Answer, error) {
	a, err := p.decide(p.scopes(), r)
	if err == nil && a.Outcome.Verdict == space.Forward {
		a.Beside = p.beside(a.Outcome)
	}
	// Who wants a grant wants the call as well, and is told of both at once. What becomes of a
	// request to an external that is not called says so itself.
	denied := a.Outcome.Verdict == space.Denied && a.Scope.Kind == "service"
	if err == nil && (a.Outcome.Verdict == space.Forward || denied) && !r.atGateway() {
		a.NotCalled = p.notCalled(a.Request.From, a.Scope)
	}
	return a, err
}

func (p *Program) decide(ds []space.Decision, r Request) (Answer, error) {
	from, err := p.identity(r.From, r.Namespace)
	if err != nil {
		return Answer{}, err
	}
	if err := r.knownVersion(); err != nil {
		return Answer{}, err
	}
	g, port, err := p.entrance(r)
	if err != nil {
		return Answer{}, err
	}
	sent := r.sent(g, port)
	if from == "" && g == nil && p.external(r.To, r.Namespace) == nil { // who has no proxy meets that of the workload
		sent.Door = hop.Inbound
	}
	got := eval.Receive(sent)
	q, err := p.signedIn(got.Request, r)
	if err != nil {
		return Answer{}, err
	}
	q.From, q.Source, q.Client, q.Hop = from, r.Source, r.client(got), r.Hop
	r.Host = got.Authority // that of the target, if it has one
	scope, found, err := p.scope(ds, r, g, port)
	if err != nil {
		return Answer{}, err
	}
	tcp := !model.Protocol(scope.Scope.Protocol).IsHTTP()
	x := p.externalAt(scope.Scope)
	ans, answered := r.byFirstProxy(g, port, sent, got, tcp)
	if plain, is := atWorkload(scope, sent, got, q); is {
		ans, answered = plain, true
	}
	switch {
	case answered:
	case !found:
		ans = eval.UnknownHost()
	default:
		ans = p.routed(r, scope, x, q)
	}
	ans, within := r.paced(ans, q, tcp)
	out := Answer{Bounds: within, Request: q, Scope: scope.Scope, Outcome: ans.Outcome, Status: status(ans.Outcome), Why: ans.Why, First: firstAt(sent.Door), Scheme: got.Scheme, Authority: got.Authority, Personal: p.personal(ans)}
	out.By, out.image, out.odd, out.Remembered = by(ans, sent.Door), ans.Image, got.Odd, p.remembered(ans.Outcome)
	out.close(ans.Handshake, tcp)
	if !tcp {
		out.Arrives = p.arrival(ans, q, x)
	}
	p.told(&out, ans.From, got.Client)
	return out, nil
}

// told adds what decided, and whom a gateway takes for the visitor if it believes a proxy.
func (p *Program) told(out *Answer, from []space.Origin, client netip.Addr) {
	if client.IsValid() {
		out.Client = client.String()
	}
	for _, o := range from {
		out.Steps = append(out.Steps, p.Step(string(o)))
	}
}

// atWorkload is what becomes of a request of a caller without a proxy before a workload's proxy reads it as one, or
// without that it looks for a route; false if that decides nothing.
func atWorkload(d space.Decision, sent eval.Sent, got eval.Received, q space.Request) (space.Answer, bool) {
	switch {
	case eval.Closed(d, q.From):
		return eval.Decide(d, q), true
	case sent.Door == hop.Inbound && got.Unrouted() && q.Method == "CONNECT":
		return eval.Unasked(d), true
	}
	return space.Answer{}, false
}

// arrival is what the destination gets, an external if x is not nil.
func (p *Program) arrival(ans space.Answer, q space.Request, x *model.External) Arrival {
	v := ans.Outcome.Verdict
	if v != space.Forward && v != space.Denied {
		return Arrival{}
	}
	out := Arrival{ans.Image.Of(q).Path, ans.Image.Host}
	if x != nil && v == space.Forward && (q.Host == "" || p.mesh.Capture == model.Explicit) {
		out.Host = orElse(out.Host, x.Host()) // it is called by its name, or at a loopback address
	}
	return out
}

// close takes away the status of what is refused before there is a request, or where there is
// none: nobody gets an answer then.
func (a *Answer) close(handshake, tcp bool) {
	if a.Outcome.Verdict == space.Denied && a.Status == a.Outcome.Status && (handshake || tcp) {
		a.Status, a.Outcome.Status, a.Handshake = 0, 0, handshake
		switch a.Outcome.By {
		case eval.ByProxy: // which has said why
		case space.ByDeny:
			a.Why = "a deny refuses such connections"
		default:
			a.Why = "no grant lets such connections through"
		}
		if handshake {
			a.Why = "the port is under strict mTLS, and the caller has no certificate of the mesh"
		}
	}
	a.Closed = a.Outcome.Verdict == space.Denied && a.Status == 0
}

// client is the visitor's address as a gateway sees it: what it believes of proxies in front, else what the question
// says, else the address of the connection.
func (r Request) client(got eval.Received) string {
	switch {
	case got.Client.IsValid():
		return got.Client.String()
	case r.Client == "" && r.atGateway():
		return r.Source
	}
	return r.Client
}

// byFirstProxy is what the first proxy answers by itself, before any route: in the
// handshake, to the form of the request, and at a gateway's port.
func (r Request) byFirstProxy(g *model.Gateway, port model.Port, sent eval.Sent, got eval.Received, tcp bool) (space.Answer, bool) {
	if taken, is := r.stream(g, port); is {
		return eval.NoStream(port), !taken.OK
	}
	if sent.TLS {
		if ans, answered := eval.InHandshake(g, port, r.serverName(sent.Host), r.Certificate); answered {
			return ans, true
		}
	}
	if got.Answer != nil && !tcp {
		return *got.Answer, true
	}
	if g == nil {
		return space.Answer{}, false
	}
	return eval.AtDoor(g, port, r.serverName(sent.Host), got.Authority, got.Scheme, got.Request.Upgrade)
}

// stream is how a gateway's port takes a connection whose bytes it passes on; false if requests come of it.
func (r Request) stream(g *model.Gateway, port model.Port) (model.Taken, bool) {
	if g == nil || port.Protocol == model.HTTP {
		return model.Taken{}, false
	}
	name := ""
	if port.Protocol != model.TCP {
		name = r.serverName(r.Host)
	}
	from, _ := netip.ParseAddr(r.Source) // none is within no prefix
	taken := g.StreamAt(port.Name, name, from.Unmap())
	return taken, taken.Name != "" || !port.Protocol.IsHTTP()
}

// knownVersion refuses versions of HTTP that are none.
func (r Request) knownVersion() error {
	if v := orElse(r.HTTP, HTTP11); v != HTTP10 && v != HTTP11 && v != HTTP2 {
		return fmt.Errorf("HTTP %q is no version that is known here: %s, %s or %s", v, HTTP10, HTTP11, HTTP2)
	}
	return nil
}

// Step is what stands at a mesh path.
func (p *Program) Step(path string) Step {
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

// sent is the request as its sender writes it, to a port of a gateway if g is not nil.
func (r Request) sent(g *model.Gateway, port model.Port) eval.Sent {
	s := eval.Sent{Door: r.door(), HTTP: orElse(r.HTTP, HTTP11), Method: orElse(r.Method, "GET"), Target: orElse(r.Path, "/"), Host: r.Host, Headers: r.Headers}
	s.TLS = port.Protocol == model.HTTPS
	if g != nil {
		s.Hops, s.Takes10 = g.TrustedHops, g.HTTP10
	}
	return s
}

func (r Request) atGateway() bool { return strings.HasPrefix(r.To, gatewayPrefix) }

// door is where the request meets its first proxy.
func (r Request) door() hop.Door {
	if r.atGateway() {
		return hop.Gateway
	}
	return hop.Outbound
}

// serverName is what a connection to a port of HTTPS asks for, by a request with that host.
func (r Request) serverName(host string) string { return eval.CleanHost(orElse(r.ServerName, host)) }

// Who may answer a request: what it is for, that one's own proxy, and the first proxy of its way.
const (
	ByApplication = "application"
	ByCallee      = "callee"
	ByCaller      = "caller"
	ByGateway     = "gateway"
)

// by is who answers.
func by(a space.Answer, first hop.Door) string {
	refused := func(s space.Share) bool { return s.Status != 0 }
	switch o := a.Outcome; {
	case status(o) == o.Status && o.Verdict == space.Forward && !slices.ContainsFunc(o.Shares, refused):
		return ByApplication
	case status(o) == o.Status && o.Verdict == space.Forward:
		return ""
	case a.Inside && status(o) == o.Status:
		return ByCallee
	case first == hop.Gateway:
		return ByGateway
	case first == hop.Inbound:
		return ByCallee
	}
	return ByCaller
}

// gatewayProxy is the first proxy of who comes through a gateway.
const gatewayProxy = "the gateway's proxy"

// firstAt is a request's first proxy in words.
func firstAt(door hop.Door) string {
	switch door {
	case hop.Gateway:
		return gatewayProxy
	case hop.Inbound:
		return "the callee's proxy"
	case hop.Outbound:
	}
	return "the caller's own proxy"
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
		if p.Ends() {
			return p.Status
		}
	}
	return o.Status
}

// scope finds the decision that a request is judged by, whose host is as the first proxy has it; at a gateway that of the host at the
// port by which it comes, which is the only one that counts there.
func (p *Program) scope(ds []space.Decision, r Request, g *model.Gateway, port model.Port) (space.Decision, bool, error) {
	if taken, is := r.stream(g, port); is {
		scope := space.Scope{Kind: eval.StreamKind, ID: g.ID, Port: port.Name, Protocol: string(model.TCP)}
		if taken.OK {
			scope = eval.StreamScope(g, port, taken.Name, taken.From)
		}
		d, found := eval.FindStream(ds, scope)
		d.Scope = scope
		return d, found, nil
	}
	if g != nil {
		h, ok := g.HostAt(port.Name, eval.HostOf(r.Host))
		if !ok {
			return space.Decision{Scope: space.Scope{Kind: "gateway", ID: g.ID, Protocol: string(model.HTTP)}}, false, nil
		}
		d, found := eval.FindGateway(ds, g.ID, h.Name)
		return d, found, nil
	}
	if x := p.external(r.To, r.Namespace); x != nil {
		if strings.HasPrefix(r.From, gatewayPrefix) {
			return space.Decision{}, false, fmt.Errorf("a gateway sends to external %q what its own routes say: ask what becomes of a request to %s", x.ID, r.From)
		}
		own, err := portOf("external", x.ID, x.Ports, r.Port)
		return eval.Outside(p.mesh, x, own, catalog.Meaning()), true, err
	}
	s, err := p.service(r.To, r.Namespace)
	if err != nil {
		return space.Decision{}, false, err
	}
	own, err := portOf("service", s.ID, s.Ports, r.Port)
	if err != nil {
		return space.Decision{}, false, err
	}
	d, found := eval.FindService(ds, s.ID, own.Name)
	return d, found, nil
}

// outside is what becomes of a call of an external: its hosts are how proxies tell it from others.
func (p *Program) outside(d space.Decision, x *model.External, authority string, q space.Request) space.Answer {
	if port := portIn(authority); x.Endpoints.Dynamic && port != "" && !slices.ContainsFunc(x.Ports, func(own model.Port) bool {
		return own.Protocol.Secured() && strconv.FormatUint(uint64(own.Number), 10) == port
	}) {
		return space.Answer{Outcome: space.NotRouted(), From: []space.Origin{space.Origin(model.ExternalPath(x.ID))}, Why: fmt.Sprintf("external %q has no port %s: proxies look its names up for those that it declares", x.ID, port)}
	}
	known := q.Host == "" || len(x.Hosts) == 0 || p.mesh.Capture == model.Explicit && !x.Endpoints.Dynamic || slices.ContainsFunc(x.Hosts, func(h string) bool { return model.HostCovers(h, q.Host) })
	if !known {
		return space.Answer{Outcome: space.NotRouted(), From: []space.Origin{space.Origin(model.ExternalPath(x.ID))}, Why: fmt.Sprintf("external %q has no host %q (it has %s)", x.ID, q.Host, some(x.Hosts))}
	}
	return eval.Call(d, q)
}

// portIn is what a host says of a port, "" for nothing.
func portIn(authority string) string {
	at := strings.LastIndexByte(authority, ':')
	if at < 0 || at < strings.LastIndexByte(authority, ']') {
		return ""
	}
	return authority[at+1:]
}

// routed is what becomes of a request that the first proxy takes, to an external if x is not nil.
func (p *Program) routed(r Request, d space.Decision, x *model.External, q space.Request) space.Answer {
	switch {
	case x != nil:
		return p.outside(d, x, r.Host, q)
	case d.Scope.Kind == "service" && model.Protocol(d.Scope.Protocol).IsHTTP() && p.unnamed(r, d.Scope.ID, q):
		return p.notNamed(d.Scope.ID, q)
	}
	return eval.Decide(d, q)
}

// unnamed reports whether the caller's proxy does not know the host of a request as a name of the
// service: it tells services apart by that, where it takes all that its workload sends. Whom a
// request to a single pod reaches, by the pod's name or an address, it does not choose.
func (p *Program) unnamed(r Request, service string, q space.Request) bool {
	caller, inMesh := strings.CutPrefix(q.From, "spiffe://"+p.mesh.TrustDomain+"/ns/")
	if p.mesh.Capture != model.Transparent || q.Host == "" || !inMesh || strings.HasPrefix(r.From, gatewayPrefix) {
		return false
	}
	if _, err := netip.ParseAddr(strings.Trim(q.Host, "[]")); err == nil {
		return false
	}
	namespace, _, _ := strings.Cut(caller, "/")
	if s := p.mesh.Service(service); s != nil && slices.Contains(s.Hosts, q.Host) {
		return false
	}
	return !slices.ContainsFunc(model.NamesFor(service, namespace), func(name string) bool {
		return q.Host == name || strings.HasSuffix(q.Host, "."+name)
	})
}

func (p *Program) notNamed(service string, q space.Request) space.Answer {
	why := fmt.Sprintf("the caller's proxy does not know %q by the name %q: write host %q", service, q.Host, model.NamesFor(service, "")[0])
	for _, other := range p.mesh.Services {
		if slices.Contains(other.NamesFor(other.Namespace), q.Host) {
			why += fmt.Sprintf("; what becomes of it at %q is another question", other.ID)
			break
		}
	}
	return space.Answer{Outcome: space.NotRouted(), From: []space.Origin{space.Origin(model.ServicePath(service))}, Why: why}
}

// external finds an external by ID, or by name in a namespace; nil if there is none.
func (p *Program) external(name, namespace string) *model.External {
	if x := p.mesh.External(name); x != nil {
		return x
	}
	return p.mesh.External(namespace + "/" + name)
}

// externalAt is the external that a scope is of, nil for another scope.
func (p *Program) externalAt(s space.Scope) *model.External {
	if s.Kind != space.External {
		return nil
	}
	return p.mesh.External(s.ID)
}

// entrance is the gateway and the port of it by which a request comes; nil if it goes to a service.
func (p *Program) entrance(r Request) (*model.Gateway, model.Port, error) {
	name, ok := strings.CutPrefix(r.To, gatewayPrefix)
	if !ok {
		return nil, model.Port{}, nil
	}
	g, err := p.gateway(name, r.Namespace)
	if err != nil {
		return nil, model.Port{}, err
	}
	if _, ok := g.Port(r.Port); !ok && r.Port != "" {
		var names []string
		for _, p := range g.Ports {
			names = append(names, p.Name)
		}
		return nil, model.Port{}, fmt.Errorf("gateway %q has no port %q (it has %s)", g.ID, r.Port, some(names))
	}
	return g, entrance(g, r), nil
}

// portOf finds a port of what has these by its name; "" is the only or main one.
func portOf(what, id string, ports []model.Port, name string) (model.Port, error) {
	var names []string
	for _, p := range ports {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	if name != "" {
		return model.Port{}, fmt.Errorf("%s %q has no port %q (it has %s)", what, id, name, some(names))
	}
	p, ok := model.Unnamed(ports)
	switch {
	case len(ports) == 0:
		return p, fmt.Errorf("%s %q has no port: it only calls", what, id)
	case !ok:
		return p, fmt.Errorf("%s %q has several ports and none is the main one: name one of %s", what, id, some(names))
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

// Parties are the services and gateways of the mesh as Request.From and To take them: with
// their namespace, and those without that only one of them has.
func (p *Program) Parties() []string {
	var out []string
	short := map[string]int{}
	add := func(id, name string) {
		out = append(out, id)
		short[name]++
	}
	for _, s := range p.mesh.Services {
		add(s.ID, s.Name)
	}
	for _, g := range p.mesh.Gateways {
		add(gatewayPrefix+g.ID, gatewayPrefix+g.Name)
	}
	for name, n := range short {
		if n == 1 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
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
		return p.mesh.Own(from), nil
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

// words says an outcome in one line.
func words(o Outcome) string {
	switch o.Verdict {
	case space.Denied:
		if o.Status == 0 {
			return "closed without an answer"
		}
		if o.By == space.ByUsers {
			return wordsOfUsers(o.Status)
		}
		if o.By == space.ByDeny {
			return "denied (403), whatever grants say"
		}
		if o.By != "" && o.By != eval.ByProxy && o.By != eval.ByDoor {
			return fmt.Sprintf("denied by %s (%d)", o.By, o.Status)
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
	var parts []string
	for _, s := range o.Shares {
		part := fmt.Sprintf("%s %s%%", s.Target, model.PercentOf(o.Percent(s)))
		if s.Status != 0 {
			part += fmt.Sprintf(" (refused there, %d)", s.Status)
		}
		parts = append(parts, part)
	}
	return "forwarded to " + strings.Join(parts, ", ")
}

// Classes returns the proxy classes of the mesh, sorted.
func (p *Program) Classes() []release.Class {
	seen := map[release.Class]bool{}
	for _, s := range p.mesh.Services {
		for _, v := range s.Versions {
			for _, c := range s.Classes(v) {
				seen[c] = true
			}
		}
	}
	for _, g := range p.mesh.Gateways {
		for _, c := range g.Classes() {
			seen[c] = true
		}
	}
	var out []release.Class
	for c := range seen {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b release.Class) int { return strings.Compare(a.String(), b.String()) })
	return out
}
