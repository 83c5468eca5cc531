// Package invariant asks of a mesh whether what must never be allowed is: for all requests.
//
// In: a model.Mesh with its nevers, the features' meanings, and where proxies send to besides. Out: a
// Breach for each destination where a never does not hold, with a request that is allowed.
//
// Invariants: what is asked of a service is what its own proxy enforces (eval.Access), for the routes of a
// caller's proxy protect nobody. A gateway runs nothing but its proxy, so that what its visitors can do is
// what its routes let them, unless its proxy sends there of itself; to a package that speaks of its own
// services alone a gateway is a caller like others, since its routes are another package's. What is over
// a limit is a Breach of its own, never "holds".
package invariant

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Breach is a never that does not hold at one port.
type Breach struct {
	Never model.Never
	// To and Port are the service or external that is reached.
	To   string
	Port string
	// TCP says that the request is a connection.
	TCP bool
	// Gateway is the ID of the gateway to which the request is sent, "" if it is sent to To.
	Gateway string
	// GatewayPort is by which port of it.
	GatewayPort string
	// Request is one that is allowed, as its sender writes it.
	Request space.Request
	// Direct says that it has to be put to the service's own proxy: no caller's proxy would send it.
	Direct bool
	// From is what lets it in, in the order in which it meets that.
	From []space.Origin
	at   int // the rule's place in the list
	// Unproved is why it cannot be told whether there is such a request; then there is none here.
	Unproved error
}

// Column is what features do.
type Column struct {
	Meaning eval.Column
	// Uses are the destinations to which proxies send because of these values, besides what is routed.
	Uses func(trait.Set) []model.Target
}

// Breaches are those of all nevers of a mesh, in their order, and of each by the destination's.
func Breaches(m *model.Mesh, c Column, lim prove.Limits) []Breach {
	q := &question{mesh: m, column: c, lim: lim}
	var out []Breach
	for _, n := range m.Nevers {
		out = append(out, q.never(n)...)
	}
	return out
}

// question is one run of Breaches.
type question struct {
	mesh   *model.Mesh
	column Column
	lim    prove.Limits
	// gateways is what is decided at their hosts, sent where the proxies of each send of themselves; both once
	// somebody asks.
	gateways map[string][]space.Decision
	sent     map[string]map[destination]bool
}

type destination struct{ id, port string }

func (q *question) never(n model.Never) []Breach {
	var out []Breach
	note := func(b Breach, broken bool, err error) {
		if err != nil {
			b.Unproved, broken = err, true
		}
		if broken {
			b.Never = n
			out = append(out, b)
		}
	}
	m := q.mesh
	for _, s := range m.Services {
		if !n.About(s.ID, m.Home(s.Namespace, s.Package)) {
			continue
		}
		for _, p := range s.Ports {
			if r, ok := eval.Forbidden(m.TrustDomain, p, n); ok {
				note(q.service(n, s, p, r))
			}
		}
	}
	for _, x := range m.Externals {
		if !n.About(x.ID, m.Home(x.Namespace, x.Package)) {
			continue
		}
		for _, p := range x.Ports {
			if r, ok := eval.Forbidden(m.TrustDomain, p, n); ok {
				d := eval.Outside(m, x, p, q.column.Meaning)
				b := Breach{To: x.ID, Port: p.Name, TCP: !p.Protocol.IsHTTP()}
				broken, err := q.reached(&b, d.Scope, d.Effective, r, q.lim)
				note(b, broken, err)
			}
		}
	}
	if n.Root() {
		for _, g := range m.Gateways {
			out = append(out, q.gateway(n, g)...)
		}
	}
	return out
}

// service asks what the proxy of a service lets in.
func (q *question) service(n model.Never, s *model.Service, p model.Port, r eval.Requests) (Breach, bool, error) {
	b := Breach{To: s.ID, Port: p.Name, TCP: !p.Protocol.IsHTTP()}
	if n.Root() {
		r.Who = slices.Concat(r.Who, q.routing(destination{s.ID, p.Name}))
	}
	lim := q.lim
	lim.Identities = slices.Concat(q.callers(s.ID, p.Name), lim.Identities)
	scope := space.Scope{Kind: "service", ID: s.ID, Port: p.Name, Protocol: string(p.Protocol)}
	broken, err := q.reached(&b, scope, eval.Access(q.mesh, s, p), r, lim)
	if err != nil || !broken {
		return b, broken, err
	}
	// One that callers' proxies send as well can be asked about by everybody.
	d := eval.ServiceScope(q.mesh, s, p, q.column.Meaning)
	whole := Breach{To: b.To, Port: b.Port, TCP: b.TCP}
	if sent, err := q.reached(&whole, d.Scope, d.Effective, r, lim); sent && err == nil {
		return whole, true, nil
	}
	b.Direct = true
	return b, true, nil
}

// reached looks for a request that a list forwards, of those: a plain one if there is one.
func (q *question) reached(b *Breach, scope space.Scope, l space.List, r eval.Requests, lim prove.Limits) (bool, error) {
	broken, err := q.forwarded(b, scope, l, r.Who, r.What, lim)
	if err != nil || !broken {
		return broken, err
	}
	plain := *b
	if broken, err := q.forwarded(&plain, scope, l, r.Who, r.Plainly, lim); broken && err == nil {
		*b = plain
	}
	return true, nil
}

func (q *question) forwarded(b *Breach, scope space.Scope, l space.List, who, what []space.Test, lim prove.Limits) (bool, error) {
	asked := map[string]bool{}
	for _, r := range l {
		if r.Then.Verdict != space.Forward {
			continue
		}
		if scope.Kind == space.Gateway {
			what = space.BehindGateway(what)
		}
		when, possible, err := r.Image.Before(what)
		if err != nil {
			return false, err
		}
		region := slices.Concat(who, when)
		key := space.Rule{When: region}.Key()
		if !possible || asked[key] {
			continue
		}
		asked[key] = true
		hits, err := prove.Reach(scope, l, region, lim)
		if err != nil {
			return false, err
		}
		for _, h := range hits {
			// The region is about requests that this image is made of.
			if h.Rule.Then.Verdict == space.Forward && h.Rule.Image.Equal(r.Image) {
				b.Request, b.From, b.at = h.Witness, h.Rule.From, h.Index
				return true, nil
			}
		}
	}
	return false, nil
}

// gateway asks what visitors reach through a gateway whose identity a never is about. Where they go
// is asked of all destinations of a host at once, and again without those that are told.
func (q *question) gateway(n model.Never, g *model.Gateway) []Breach {
	var out []Breach
	told := map[destination]bool{}
	for i, d := range q.hosts(g) {
		for {
			b, broken := q.visitor(n, g, g.Hosts[i], d, told)
			if !broken {
				break
			}
			b.Never = n
			out = append(out, b)
			if b.Unproved != nil {
				break
			}
			told[destination{b.To, b.Port}] = true
		}
	}
	return out
}

// spokenOf are the destinations of a rule of which a never speaks, from the gateway.
func (q *question) spokenOf(n model.Never, g *model.Gateway, r space.Rule) []destination {
	if r.Then.Verdict != space.Forward {
		return nil
	}
	var out []destination
	for _, s := range r.Then.Shares {
		to, p, ok := q.target(s)
		if !ok || !n.About(to.id, "") {
			continue
		}
		said, ok := eval.Forbidden(q.mesh.TrustDomain, p, n)
		if ok && space.Matches(said.Who, space.Request{From: g.Class().SPIFFEID(q.mesh.TrustDomain)}) {
			out = append(out, to)
		}
	}
	return out
}

// target is where a share goes that its destination does not refuse.
func (q *question) target(s space.Share) (destination, model.Port, bool) {
	if s.Status != 0 || s.Weight == 0 {
		return destination{}, model.Port{}, false
	}
	name, outside := strings.CutPrefix(s.Target, "external/")
	parts := strings.Split(name, "/")
	if len(parts) < 3 {
		return destination{}, model.Port{}, false
	}
	to := destination{parts[0] + "/" + parts[1], parts[2]}
	ports := []model.Port(nil)
	if x := q.mesh.External(to.id); outside && x != nil {
		ports = x.Ports
	} else if s := q.mesh.Service(to.id); !outside && s != nil {
		ports = s.Ports
	}
	i := slices.IndexFunc(ports, func(p model.Port) bool { return p.Name == to.port })
	if i < 0 {
		return to, model.Port{}, false
	}
	return to, ports[i], true
}

// visitor asks whether visitors of a host reach a destination with what a never speaks of, but for those
// that are told.
func (q *question) visitor(n model.Never, g *model.Gateway, h model.Host, d space.Decision, told map[destination]bool) (Breach, bool) {
	b := Breach{Gateway: g.ID}
	// What goes to none of them is not what is looked for.
	there := slices.Clone(d.Effective)
	goes := make([]destination, len(there))
	for i, r := range there {
		left := slices.DeleteFunc(q.spokenOf(n, g, r), func(to destination) bool { return told[to] })
		switch {
		case len(left) > 0:
			goes[i] = left[0]
			b.To, b.Port = left[0].id, left[0].port
		case r.Then.Verdict == space.Forward:
			there[i].Then = space.Refused()
		}
	}
	if b.To == "" {
		return b, false
	}
	said, _ := eval.Forbidden(q.mesh.TrustDomain, q.port(destination{b.To, b.Port}), n) // of requests it is the same at all ports
	schemes := space.Test{Dim: space.SchemeDim}
	for _, s := range g.Schemes(h) {
		schemes.Any = append(schemes.Any, space.Pattern{Kind: space.Exact, Text: s})
	}
	said.Who = []space.Test{schemes} // visitors have no identity
	broken, err := q.reached(&b, d.Scope, there, said, q.lim)
	if b.Unproved = err; err != nil || !broken {
		return b, err != nil
	}
	to := goes[b.at]
	b.To, b.Port = to.id, to.port
	b.Request.From, b.Request.Host = "", cmp.Or(b.Request.Host, hostOf(h.Name))
	b.GatewayPort = portFor(g, h, b.Request.Scheme)
	return b, true
}

func (q *question) port(to destination) model.Port {
	if s := q.mesh.Service(to.id); s != nil {
		p, _ := s.Port(to.port)
		return p
	}
	p, _ := q.mesh.External(to.id).Port(to.port)
	return p
}

// hostOf is a host that a virtual host is for.
func hostOf(name string) string {
	if rest, wild := strings.CutPrefix(name, "*"); wild {
		if rest == "" {
			return "any.example"
		}
		return "any" + rest
	}
	return name
}

// portFor is the port by which requests of a scheme reach the routes of a host.
func portFor(g *model.Gateway, h model.Host, scheme string) string {
	for _, p := range g.Ports {
		if slices.Contains(h.Ports, p.Name) && (p.Protocol == model.HTTPS) == (scheme == model.SchemeHTTPS) {
			return p.Name
		}
	}
	return h.Ports[0] // proxies in front of the gateway say the scheme
}

// hosts is what is decided at the hosts of a gateway, in their order.
func (q *question) hosts(g *model.Gateway) []space.Decision {
	if ds, ok := q.gateways[g.ID]; ok {
		return ds
	}
	if q.gateways == nil {
		q.gateways = map[string][]space.Decision{}
	}
	for _, h := range g.Hosts {
		q.gateways[g.ID] = append(q.gateways[g.ID], eval.GatewayScope(q.mesh, g, h, q.column.Meaning))
	}
	return q.gateways[g.ID]
}

// routing excepts the gateways whose proxies send nothing to a destination but what their routes say.
func (q *question) routing(to destination) []space.Test {
	if q.sent == nil {
		q.sent = map[string]map[destination]bool{}
		for _, g := range q.mesh.Gateways {
			q.sent[g.ID] = q.sends(g)
		}
	}
	t := space.Test{Dim: space.IdentityDim, Not: true}
	for _, g := range q.mesh.Gateways {
		if !q.sent[g.ID][to] {
			t.Any = append(t.Any, space.Pattern{Kind: space.Exact, Text: g.Class().SPIFFEID(q.mesh.TrustDomain)})
		}
	}
	if len(t.Any) == 0 {
		return nil
	}
	return []space.Test{t}
}

// sends is where the proxies of a gateway send of themselves: copies, and what they have to tell.
func (q *question) sends(g *model.Gateway) map[destination]bool {
	out := map[destination]bool{}
	note := func(s trait.Set) {
		for _, t := range q.column.Uses(s) {
			out[destination{t.Service, t.Port}] = true
		}
	}
	note(g.Traits)
	for _, p := range g.Ports { // what is passed on is judged as what it sends itself
		for _, s := range g.Streams(p.Name) {
			for _, t := range s.To {
				out[destination{t.Service, t.Port}] = true
			}
		}
	}
	for _, h := range g.Hosts {
		for _, e := range q.mesh.GatewayRoutes(g, h) {
			note(e.Traits)
		}
	}
	return out
}

// callers are the identities of those that call a port, who read better in an example than others.
func (q *question) callers(id, port string) []string {
	var out []string
	for _, s := range q.mesh.Services {
		if slices.ContainsFunc(s.Calls, func(c model.Call) bool { return c.To == id && c.Port == port }) {
			for _, v := range s.Versions {
				out = append(out, s.Class(v).SPIFFEID(q.mesh.TrustDomain))
			}
		}
	}
	return out
}
