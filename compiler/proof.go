package compiler

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Resource is one Envoy resource of a release, with its type, digest and JSON.
type Resource = envoy.Resource

// Resources returns the distinct Envoy resources of a release; with classes, of
// these classes only.
func Resources(r release.Release, classes ...release.Class) ([]Resource, error) {
	var arts []release.Artifact
	for _, p := range r.Paths() {
		if !strings.HasPrefix(p, "envoy/") {
			continue
		}
		blob := strings.HasPrefix(p, release.BlobPath(""))
		if !blob && len(classes) > 0 && !slices.ContainsFunc(classes, func(c release.Class) bool { return release.SnapshotPath(c) == p }) {
			continue
		}
		b, _ := r.Artifact(p)
		arts = append(arts, release.Artifact{Path: p, Bytes: b})
	}
	return envoy.Resources(arts)
}

// Bootstrap renders resources as one static bootstrap in JSON, any subset and
// none included, for Envoy's validate mode: listeners that repeat an address get
// another one, and no Envoy with it would reach anybody.
func Bootstrap(rs []Resource) ([]byte, error) { return envoy.StaticBootstrap(rs) }

// Door is where a request enters a rehearsal: a listener of a proxy class.
type Door struct {
	// Missing is why one host has no such door, "" if it has; nothing else is set then.
	Missing  string
	Class    release.Class
	Listener string
	// TCP says that the door takes bytes, not requests, TLS that it takes them by HTTPS, Plain that it is where a
	// workload's proxy takes what has no certificate.
	TCP, TLS, Plain bool
}

// Rehearsal is a mesh prepared to be tried on one host.
type Rehearsal struct {
	// Release has the classes with explicit capture. Its addresses only tell
	// listeners apart: who runs it puts others in.
	Release release.Release
	// TrustDomain of all identities.
	TrustDomain string
	// Doors has one entry for each request, in the order of the requests.
	Doors []Door
}

// Nobody is the class of callers of externals without identity in a rehearsal.
func Nobody() release.Class {
	return release.Class{Role: release.Sidecar, Namespace: callerName, Account: callerName}
}

// callerName can be no name of an intent.
const callerName = "!caller"

// Rehearse compiles the mesh once more for one host, whatever its capture: every
// caller of the requests gets a workload of its identity that calls the request's
// destination and nothing else. Routes, access and clusters are those of the
// release; listeners are those of explicit capture, and addresses are made up.
func (p *Program) Rehearse(rs []Request) (Rehearsal, error) { return p.RehearseSigned(rs, nil) }

// RehearseSigned is Rehearse with other keys by which tokens of end users are checked, in the place of each
// provider's own, so that somebody who is none of them can sign.
func (p *Program) RehearseSigned(rs []Request, keys func(Provider) string) (Rehearsal, error) {
	m := p.onOneHost()
	out := Rehearsal{TrustDomain: m.TrustDomain}
	callers := cast{from: p.mesh, mesh: m, by: map[string]*model.Service{}, local: map[string]uint32{}}
	for _, r := range rs {
		d, err := p.door(r, &callers)
		if err != nil {
			return out, err
		}
		out.Doors = append(out.Doors, d)
	}
	slices.SortFunc(m.Services, func(a, b *model.Service) int { return strings.Compare(a.ID, b.ID) })
	arts, _, ds := envoy.Emit(m.Build(), catalog.Envoy(), catalog.EnvoyConditions(), catalog.EnvoyParts(), envoy.Profile{Locate: p.Position, Names: p.rehearsedNames(), Keys: keys})
	if err := ds.Err(); err != nil {
		return out, err
	}
	var err error
	out.Release, err = release.Seal(arts, p.inputs, nil)
	return out, err
}

// RehearsedHost is the host of requests to a service in a rehearsal that name none.
const RehearsedHost = "rehearsal.invalid"

// rehearsedNames are the names by which a service is called in a rehearsal, nil if by any. With
// transparent capture they are those of all callers together, which share their routes.
func (p *Program) rehearsedNames() func(service string) []string {
	if p.mesh.Capture != model.Transparent {
		return nil
	}
	return func(service string) []string {
		namespace, _, _ := strings.Cut(service, "/")
		out := []string{RehearsedHost}
		for _, name := range model.NamesFor(service, namespace) {
			out = append(out, name, "*."+name)
		}
		if s := p.mesh.Service(service); s != nil {
			out = append(out, s.Hosts...)
		}
		return out
	}
}

// onOneHost is the mesh with explicit capture, a host name of its own for every
// version, and no calls.
func (p *Program) onOneHost() *model.Mesh {
	m := &model.Mesh{TrustDomain: p.mesh.TrustDomain, Aliases: p.mesh.Aliases, Federation: p.mesh.Federation, Environment: p.mesh.Environment, Capture: model.Explicit,
		Externals: p.mesh.Externals}
	for _, g := range p.mesh.Gateways {
		g := *g
		g.Former = nil
		m.Gateways = append(m.Gateways, &g)
	}
	host := 0
	for _, s := range p.mesh.Services {
		s := *s
		s.Calls, s.Versions = nil, slices.Clone(s.Versions)
		for i := range s.Versions {
			host++
			v := &s.Versions[i]
			v.Ports, v.Locals, v.Endpoints = map[string]model.VersionPort{}, nil, model.Endpoints{}
			v.Former = nil      // one proxy stands for all of its instances
			v.Proxyless = false // a proxy stands in for its program, and keeps the same rules
			for _, p := range s.Ports {
				v.Ports[p.Name] = model.VersionPort{Host: fmt.Sprintf("127.%d.%d.%d", host>>16&255, host>>8&255, host&255)}
			}
		}
		m.Services = append(m.Services, &s)
	}
	return m
}

// cast is the callers of a rehearsal.
type cast struct {
	from  *model.Mesh // what is rehearsed
	mesh  *model.Mesh
	by    map[string]*model.Service // by identity
	local map[string]uint32         // by destination
}

// call lets the caller of that class call a service's port.
func (c *cast) call(class release.Class, to, port string) {
	s := c.by[class.String()]
	if s == nil {
		s = &model.Service{ID: class.Namespace + "/" + callerName + class.Account, Namespace: class.Namespace, Name: callerName + class.Account,
			Versions: []model.Version{{Name: "default", Account: class.Account}}}
		c.by[class.String()], c.mesh.Services = s, append(c.mesh.Services, s)
	}
	k := model.Call{To: to, Port: port}
	key := to + "/" + port
	if c.local[key] == 0 {
		c.local[key] = uint32(len(c.local) + 1)
	}
	k.Local = c.local[key]
	if slices.ContainsFunc(s.Calls, func(known model.Call) bool { return known.To == to && known.Port == port }) {
		return
	}
	for _, of := range c.from.CallersOf(to, port) {
		if of.Class == class {
			k.Traits = of.Traits
		}
	}
	s.Calls = append(s.Calls, k)
}

// entrance is the gateway's port by which a request comes: the one that it names, else the
// one that its host is for.
func entrance(g *model.Gateway, r Request) model.Port {
	if p, ok := g.Port(r.Port); ok {
		return p
	}
	plain := g.Ports[0]
	for _, p := range g.Ports {
		if !p.Protocol.IsHTTP() {
			continue // is named
		}
		if !plain.Protocol.IsHTTP() {
			plain = p
		}
		h, ok := g.HostAt(p.Name, eval.CleanHost(r.Host))
		if ok && p.Protocol == model.HTTPS {
			return p
		}
		if ok && h.TLS == nil || plain.Protocol == model.HTTPS {
			plain = p
		}
	}
	return plain
}

// RehearsedAddress is where a rehearsal's gateways see all connections come from. Its proxies speak to each other over
// sockets without addresses.
const RehearsedAddress = "127.0.0.1"

// elsewhere reports whether a request comes from addresses that a rehearsal does not have.
func (r Request) elsewhere() bool {
	known := func(address string) bool { return address == "" || r.atGateway() && address == RehearsedAddress }
	return !known(r.Source) || !known(r.Client) || r.Hop != ""
}

func (p *Program) door(r Request, c *cast) (Door, error) {
	if r.elsewhere() {
		return Door{Missing: "all connections to gateways of a rehearsal come from " + RehearsedAddress + ", and its proxies have no addresses"}, nil
	}
	if name, ok := strings.CutPrefix(r.To, "gateway/"); ok {
		g, err := p.gateway(name, r.Namespace)
		if err != nil {
			return Door{}, err
		}
		return r.doorOf(g), nil
	}
	to, port, err := p.destination(r)
	if err != nil {
		return Door{}, err
	}
	id, err := p.identity(r.From, r.Namespace)
	if err != nil {
		return Door{}, err
	}
	class := Nobody()
	if s := p.mesh.Service(to); s != nil && id == "" { // there is no proxy but that of the workload
		v := s.Versions[0]
		return Door{Class: s.Class(v), Listener: model.InboundName(to, port.Name, v.Name), TCP: !port.Protocol.IsHTTP(), Plain: true}, nil
	}
	if x := p.external(r.To, r.Namespace); x != nil {
		if host := eval.CleanHost(r.Host); p.mesh.Capture == model.Transparent && host != "" && host != x.Host() {
			return Door{Missing: "on one host an external is called by its first name, " + x.Host()}, nil
		}
		if x.Endpoints.Dynamic {
			return Door{Missing: "on one host no name is looked up as it is asked for"}, nil
		}
		if a, err := p.Decide(r); err != nil || a.Outcome.Verdict == space.Denied && a.Status == 0 {
			return Door{Missing: "nothing listens for what is not called"}, err
		}
	}
	if why := p.otherwiseNamed(r, to, port, id); why != "" {
		return Door{Missing: why}, nil
	}
	if id != "" {
		ns, sa, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"+p.mesh.TrustDomain+"/ns/"), "/sa/")
		if !ok || strings.Contains(ns+sa, "/") {
			return Door{}, fmt.Errorf("caller %q is no workload of the trust domain %q, so that no proxy can stand for it", id, p.mesh.TrustDomain)
		}
		class = release.Class{Role: release.Sidecar, Namespace: ns, Account: sa}
	}
	c.call(class, to, port.Name)
	return Door{Class: class, Listener: model.OutboundName(to, port.Name), TCP: !port.Protocol.IsHTTP()}, nil
}

// doorOf is where visitors of a gateway ask.
func (r Request) doorOf(g *model.Gateway) Door {
	port := entrance(g, r)
	out := Door{Class: g.Class(), Listener: model.GatewayName(g.ID, port.Name), TLS: port.Protocol == model.HTTPS}
	taken, passed := r.stream(g, port)
	switch {
	case passed && port.Protocol != model.TCP:
		return Door{Missing: "what is within TLS that goes on as it is no application here speaks"}
	case passed && !taken.OK && len(g.Streams(port.Name)) == 0:
		return Door{Missing: "port " + port.Name + " has no route, so that nothing listens there"}
	case passed:
		out.TCP, out.TLS = true, false
	case port.Protocol == model.HTTPS && len(g.HostsAt(port.Name)) == 0:
		return Door{Missing: "no host is at port " + port.Name + ", so that nothing listens there"}
	}
	return out
}

// otherwiseNamed is why a service is not called in a rehearsal by a request's host as it is in the
// mesh, "" if it is.
func (p *Program) otherwiseNamed(r Request, to string, port model.Port, caller string) string {
	q := eval.Receive(r.sent(nil, model.Port{})).Request
	if p.mesh.Capture != model.Transparent || !port.Protocol.IsHTTP() || p.mesh.Service(to) == nil || q.Host == "" {
		return ""
	}
	_, short, _ := strings.Cut(to, "/")
	q.From = caller
	if known := !p.unnamed(r, to, q); known != slices.ContainsFunc(p.rehearsedNames()(to), func(name string) bool { return model.HostCovers(name, q.Host) }) {
		return "on one host neither an address nor the short name " + short + " from another namespace is told from others"
	}
	return ""
}

// destination is the service, or the external, and the port that a request is for.
func (p *Program) destination(r Request) (string, model.Port, error) {
	if x := p.external(r.To, r.Namespace); x != nil {
		port, err := portOf("external", x.ID, x.Ports, r.Port)
		return x.ID, port, err
	}
	s, err := p.service(r.To, r.Namespace)
	if err != nil {
		return "", model.Port{}, err
	}
	port, err := portOf("service", s.ID, s.Ports, r.Port)
	return s.ID, port, err
}

// Test is one `test:` block of the intent as a request.
type Test struct {
	Name    string
	Pos     diag.Pos
	Request Request
	// OfCopies says that it is about who gets copies.
	OfCopies bool
}

// Tests returns the requests of all `test:` blocks, in the order of Test's results.
func (p *Program) Tests() []Test {
	out := make([]Test, 0, len(p.result.Tests))
	for _, t := range p.result.Tests {
		r := Request{From: t.From, To: t.To, Port: t.Port, Host: t.Host, Method: t.Method, Path: t.Path, HTTP: t.HTTP, ServerName: t.ServerName, Certificate: t.Certificate, Source: t.Source, Client: t.Client, Pause: t.Pause, AnswerAfter: t.After}
		if t.Gateway {
			r.To = "gateway/" + t.To
		}
		r.Users = t.Users
		for name, v := range t.Headers {
			r.Headers = append(r.Headers, Header{Name: name, Value: v})
		}
		slices.SortFunc(r.Headers, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, Test{Name: t.Name, Pos: t.Pos, Request: r, OfCopies: len(t.Expect.Copies)+len(t.Expect.NoCopies) > 0})
	}
	return out
}
