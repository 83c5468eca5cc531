package resolve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// httpsNumber is the port at which the world expects TLS.
const httpsNumber = 443

// outside is what a port of an external speaks if nothing is written: in plaintext only where
// nobody expects TLS.
func outside(p model.Port) model.Protocol {
	if p.Number == httpsNumber || p.Name == string(model.HTTPS) {
		return model.HTTPS
	}
	return model.HTTP
}

// external links one external.
func (l *linker) external(p *pkg, e intent.Entry) {
	n := e.Node
	x := &model.External{ID: p.namespace + "/" + e.Name, Namespace: p.namespace, Name: e.Name}
	path := model.ExternalPath(x.ID)
	x.Owner, x.Package = l.owned(n, p, path), p.asGuest()
	for _, port := range l.ports[x.ID] {
		port.MTLS = model.Disable
		x.Ports = append(x.Ports, port)
		l.externalPort(x, port, n.Field("port").Field(port.Name))
	}
	if x.Endpoints = l.endpoints(n.Field("endpoints")); x.Endpoints.None {
		l.add(diag.New(diag.CodeListen, n.Field("endpoints").Pos(), "external %q is nowhere: its list of addresses is empty", x.ID).
			WithFix("write an address, or delete the external"))
	}
	x.Hosts = l.externalHosts(x, n)
	l.dynamic(x, n)
	x.Addresses = l.addresses(n.Field("addresses"))
	place := &Place{l: l, pkg: p, self: x.ID, external: x, proxied: n.Field("via").Field("proxy").Exists(), endpoints: []model.Endpoints{x.At(model.Port{})}}
	x.Traits = l.traits(append([]carrier{{on: OnExternal, node: n}}, l.around(p)...), place, path)
	if x.Endpoints.Dynamic {
		x.Traits = l.withoutPlaces(x.Traits)
	}
	x.Routes = l.externalRoutes(n, place)
	l.keepsHost(x)
	x.Grants = l.externalGrants(p, x, n)
	x.Via = l.via(p, x, n)
	l.proxied(x, n)
	if inside := n.Field("inside"); inside.Exists() {
		l.exceptions = append(l.exceptions, Exception{Path: path, Kind: "external", Owner: inside.Field("owner").Str(), Reason: inside.Field("reason").Str()})
	}
	l.mesh.Externals = append(l.mesh.Externals, x)
}

// keepsHost refuses another host where the host is what is looked up: that is none of the external's names then, and
// nobody looks at its address.
func (l *linker) keepsHost(x *model.External) {
	for _, r := range x.Routes {
		if host := r.Traits.Image().Host; x.Endpoints.Dynamic && host != "" {
			l.add(diag.New(diag.CodeDynamic, l.lineOf(model.ExternalRoutePath(x.ID, r.Name)), "route %q asks for host %q at external %q, which is looked up by the host that is asked for", r.Name, host, x.ID).
				WithFix("leave the host as it is, or declare an external with that host"))
		}
	}
}

// externalPort refuses a port that would send in plaintext what everybody expects to be secret.
func (l *linker) externalPort(x *model.External, p model.Port, n intent.Node) {
	if p.Number != httpsNumber || !p.Protocol.IsHTTP() || p.Protocol.Secured() {
		return
	}
	secured := map[model.Protocol]model.Protocol{model.HTTP: model.HTTPS, model.HTTP2: model.HTTPS2, model.GRPC: model.GRPCS}
	l.add(diag.New(diag.CodePlaintext, n.Field("protocol").Pos(), "port %q of external %q is %d and speaks %s, which is plaintext: whoever is on the way could read and change it", p.Name, x.ID, p.Number, p.Protocol).
		WithFix("write protocol: %q, which callers' proxies speak by TLS; or \"tls\" if callers begin it themselves", secured[p.Protocol]))
}

// sharedByAll reports whether a domain belongs to nobody in particular: a top one, or one under which
// a registry gives names away, as "co.uk" (publicsuffix.org, the part of registries).
func sharedByAll(domain string) bool {
	suffix, registry := publicsuffix.PublicSuffix(domain)
	return !strings.Contains(domain, ".") || registry && suffix == domain
}

// dynamic refuses what an external cannot say whose hosts are looked up as they are asked for: what would let its
// callers go anywhere, and what needs to know its places beforehand.
func (l *linker) dynamic(x *model.External, n intent.Node) {
	at := n.Field("endpoints").Field("dynamic")
	if !x.Endpoints.Dynamic {
		return
	}
	problem := func(pos diag.Pos, fix, format string, args ...any) {
		l.add(diag.New(diag.CodeDynamic, pos, format, args...).WithFix("%s", fix))
	}
	if len(x.Hosts) == 0 {
		problem(at.Pos(), `add: hosts: ["*.s3.example"]`, "external %q is wherever the name is that is asked for, and has no hosts: its callers could go anywhere", x.ID)
	}
	for _, h := range x.Hosts {
		if below, wild := strings.CutPrefix(h, "*"); wild && sharedByAll(strings.TrimPrefix(below, ".")) {
			problem(n.Field("hosts").Pos(), `name a domain that belongs to somebody: hosts: ["*.s3.example"]`, "host %q of external %q is too wide to be looked up as it is asked for: its callers could go anywhere", h, x.ID)
		}
	}
	for _, p := range x.Ports {
		port := n.Field("port").Field(p.Name)
		switch {
		case p.Protocol == model.TCP:
			problem(port.Pos(), `write the addresses (endpoints: static), or let the port say protocol: "tls" or what else it speaks`, "port %q of external %q takes bytes, which ask for no name that could be looked up", p.Name, x.ID)
		case p.Protocol.IsHTTP() && !p.Protocol.Secured():
			problem(port.Pos(), `let the port say protocol: "https"`, "port %q of external %q speaks plaintext: nobody proves there that he is who was looked up", p.Name, x.ID)
		case p.Protocol.Secured() && p.Number != httpsNumber:
			problem(port.Pos(), "declare it with `endpoints: dns` or a port 443", "port %q of external %q is %d, and proxies that look up names as they are asked for begin TLS with port %d alone", p.Name, x.ID, p.Number, httpsNumber)
		}
	}
	for _, r := range l.rules {
		if w := n.Field(r.Field); r.Places && w.Exists() {
			problem(w.Pos(), "delete it", "%s is about several places of one destination, and external %q is wherever each name is that is asked for", w.Path(), x.ID)
		}
	}
	for _, word := range []string{"sni", "sans"} {
		if w := n.Field("tls").Field(word); w.Exists() {
			problem(w.Pos(), "delete it: each certificate has to prove the name that was asked for", "%s names one proof for all that external %q covers", w.Path(), x.ID)
		}
	}
	if via := n.Field("via"); via.Exists() && slices.ContainsFunc(x.Ports, func(p model.Port) bool { return p.Protocol == model.TLS }) {
		problem(via.Pos(), "leave out `via`, or let callers' proxies begin the TLS (\"https\")", "callers of external %q begin TLS themselves, and a gateway does not see the name for which they ask in there", x.ID)
	}
}

// externalHosts are the names under which an external is called.
func (l *linker) externalHosts(x *model.External, n intent.Node) []string {
	var out []string
	for _, h := range n.Field("hosts").List() {
		out = append(out, strings.ToLower(h.Str()))
	}
	slices.Sort(out)
	if host, _, ok := strings.Cut(x.Endpoints.DNS, ":"); ok && !n.Field("hosts").Exists() {
		return []string{strings.ToLower(host)}
	}
	if !n.Field("endpoints").Exists() && (len(out) != 1 || strings.HasPrefix(out[0], "*")) {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "external service %q does not say where it is: without `endpoints` it has one host, by which it is looked up", x.ID).
			WithFix(`add: endpoints: dns: "example.com:443", or hosts: ["example.com"]; for whatever names its hosts cover: endpoints: dynamic: {}`))
	}
	if i := slices.IndexFunc(x.Ports, func(p model.Port) bool { return p.Protocol == model.TLS }); i >= 0 && len(out) == 0 {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "port %q of external %q takes callers' own TLS, which is told apart by the name that they ask for, but the external has no hosts", x.Ports[i].Name, x.ID).
			WithFix(`add: hosts: ["example.com"]`))
	}
	return out
}

// externalRoutes links how requests to an external are sent: all the same if nothing is written.
func (l *linker) externalRoutes(n intent.Node, x *Place) []model.Route {
	if !slices.ContainsFunc(x.external.Ports, func(p model.Port) bool { return p.Protocol.IsHTTP() }) {
		for _, e := range n.Field("route").Fields() {
			l.add(diag.New(diag.CodeProtocol, e.Node.Pos(), "route %q is about requests, but external %q has none: proxies read no bytes of its ports", e.Name, x.external.ID).
				WithFix("delete it, or let the port say http, https or what else it speaks"))
		}
		return nil
	}
	id := x.external.ID
	path := func(name string) string { return model.ExternalRoutePath(id, name) }
	entries := l.lasting(n.Field("route").Fields())
	if len(entries) == 0 {
		entries = []intent.Entry{{Name: "default", Node: unwritten(n.Field("route"))}}
		l.place(path("default"), n.Pos())
	}
	var out []model.Route
	read := func(e intent.Entry, r model.Route) {
		x.Match, x.Rest, x.only = r.Match, restOf(e.Node), r.Ports
		r.Traits = l.traits(append([]carrier{{on: OnRoute, node: e.Node}, {on: AroundExternal, node: n, around: true}}, l.around(x.pkg)...), x, path(r.Name))
		if len(l.answers(r.Traits)) == 0 {
			r.To = []model.Target{{Weight: model.All}}
		}
		out = append(out, r)
	}
	for _, e := range entries {
		r := l.route(x.pkg, e, path(e.Name), false)
		r.Ports = l.routePorts(e.Node, id, path(e.Name), x.external.Ports)
		l.place(path(e.Name), e.Node.Pos())
		read(e, r)
	}
	if rest, ok := restOfPorts(out, x.external.Ports); ok {
		l.place(path(rest.Name), n.Pos())
		read(intent.Entry{Name: rest.Name, Node: unwritten(n.Field("route"))}, rest)
	}
	l.rank(out, path)
	return out
}

// externalGrants link who may call an external from other namespaces.
func (l *linker) externalGrants(p *pkg, x *model.External, n intent.Node) []model.Grant {
	var out []model.Grant
	for _, e := range n.Field("grant").Fields() {
		l.place(model.ExternalGrantPath(x.ID, e.Name), e.Node.Pos())
		g := model.Grant{Name: e.Name, Terms: l.termsOf(p, e.Node), Not: l.exceptOf(p, e.Node.Field("not"))} // checked, ended or not
		l.saysWho("grant "+strconv.Quote(e.Name), g.Terms, e.Node, "add `from`, `namespaces`, `accounts` or `mesh: true` (every workload)")
		l.canGrant(e, g)
		l.endsWith(e.Node)
		if !l.expired(e.Node) {
			out = append(out, g)
		}
	}
	return out
}

// mayCall reports whether an account may call an external: one of its namespace may, others
// need a grant of it.
func mayCall(x *model.External, account string) bool {
	namespace, name, _ := strings.Cut(account, "/")
	_, granted := x.GrantTo(release.Class{Namespace: namespace, Account: name})
	return granted || namespace == x.Namespace
}

// checkExternalGrants refuses calls and gateways' routes to externals of other namespaces that
// do not grant it. There is no proxy before an external that could refuse requests.
func (l *linker) checkExternalGrants() {
	refuse := func(id, who string, accounts []string, at string) {
		x := l.mesh.External(id)
		if x == nil || !slices.ContainsFunc(accounts, func(a string) bool { return !mayCall(x, a) }) {
			return
		}
		l.add(diag.New(diag.CodeExternalGrant, l.lineOf(at), "%s calls %s, which does not grant it: an external is for its own namespace", who, l.destinationOf(model.ExternalPath(id))).
			WithRelated(l.lineOf(model.ExternalPath(id)), "the external").WithFix("let the external say: grant: callers: from: [%q]", strings.ReplaceAll(who, `"`, "")))
	}
	for _, s := range l.mesh.Services {
		for _, c := range s.Calls {
			refuse(c.To, strconv.Quote(s.ID), l.accounts[s.ID], s.CallPath(c))
		}
	}
	for _, g := range l.mesh.Gateways {
		l.checkLookedUp(g)
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				for _, t := range r.To {
					if r.Package != "" {
						continue // what is attached sends to no external at all
					}
					refuse(t.Service, gatewayPrefix+g.ID, []string{g.Namespace + "/" + g.Account}, model.GatewayRoutePath(g.ID, h.Name, r.Name))
				}
			}
		}
	}
}

// checkLookedUp asks notLookedUp of all routes of a gateway.
func (l *linker) checkLookedUp(g *model.Gateway) {
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			l.notLookedUp(s.To, model.GatewayStreamPath(g.ID, p.Name, s.Name))
		}
	}
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			l.notLookedUp(r.To, model.GatewayRoutePath(g.ID, h.Name, r.Name))
		}
	}
}

// notLookedUp refuses destinations of gateways' routes for whose hosts visitors would have to ask.
func (l *linker) notLookedUp(to []model.Target, path string) {
	for _, t := range to {
		if x := l.mesh.External(t.Service); x != nil && x.Endpoints.Dynamic {
			l.add(diag.New(diag.CodeDynamic, l.lineOf(path), "the route sends visitors to external %q, which is wherever the name is that is asked for: they ask for the gateway's", x.ID).
				WithRelated(l.lineOf(model.ExternalPath(x.ID)), "the external").WithFix("declare the one host that is meant as an external of its own"))
		}
	}
}

// checkExternalHosts: a sidecar tells the destinations of one port number by host,
// so a host stands for one of them (Envoy refuses a route configuration with a
// domain twice).
func (l *linker) checkExternalHosts() {
	if !slices.ContainsFunc(l.mesh.Externals, func(x *model.External) bool { return len(x.Hosts) > 0 }) &&
		!slices.ContainsFunc(l.mesh.Services, func(s *model.Service) bool { return len(s.Hosts) > 0 }) {
		return
	}
	l.checkExternalCallers()
	taken := map[string]string{} // "host:number" → mesh path
	named := func(name, namespace, path string, ports []model.Port) {
		for _, p := range ports {
			for _, suffix := range []string{"", ".svc", ".svc.cluster.local"} {
				taken[fmt.Sprintf("%s.%s%s:%d", name, namespace, suffix, p.Dialled())] = path
			}
		}
	}
	for _, s := range l.mesh.Services {
		named(s.Name, s.Namespace, model.ServicePath(s.ID), s.Ports)
	}
	for _, x := range l.mesh.Externals {
		if len(x.Hosts) == 0 { // it is called like a service
			named(x.Name, x.Namespace, model.ExternalPath(x.ID), x.Ports)
		}
	}
	for _, s := range l.mesh.Services {
		l.takeNames(s, taken)
	}
	for _, x := range l.mesh.Externals {
		if path := model.ExternalPath(x.ID); l.kinds[x.ID] == "external" && l.lineOf(path) != (diag.Pos{}) { // else its name is another's, which was told
			l.takeHosts(x, path, taken)
		}
	}
}

// serviceHosts reads further names of a service. Names that services of the mesh have, or may come to have, are theirs.
func (l *linker) serviceHosts(s *model.Service, n intent.Node) []string {
	if n.Exists() && !slices.ContainsFunc(s.Ports, func(p model.Port) bool { return p.Protocol.IsHTTP() }) {
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "names are read in requests, but service %q has none: its ports take bytes", s.ID).
			WithFix("delete `hosts`; whom connections are for, callers' proxies know by what is dialled: addresses: …"))
	}
	if n.Exists() && len(n.List()) == 0 {
		l.add(diag.New(diag.CodeNever, n.Pos(), "an empty list of hosts names nothing").WithFix("leave `hosts` out"))
	}
	var out []string
	for _, h := range n.List() {
		labels := strings.Split(h.Str(), ".")
		switch {
		case len(labels) == 1:
			l.add(diag.New(diag.CodeServiceHost, h.Pos(), "host %q is a short name, which in each namespace is that of a service there", h.Str()).WithFix(`write a name of a domain: hosts: ["ledger.corp.example"]`))
		case isAddress(h.Str()):
			l.add(diag.New(diag.CodeServiceHost, h.Pos(), "host %q is an address, and no name", h.Str()).WithFix("write a name of a domain: hosts: [\"ledger.corp.example\"]; whom connections are for, callers' proxies know by what is dialled: addresses: …"))
		case clusters(h.Str()) || len(labels) == 2 && l.domains[labels[1]] != nil:
			l.add(diag.New(diag.CodeServiceHost, h.Pos(), "host %q is of the form SERVICE.NAMESPACE, which names of services have: a service has it, or may come to have it", h.Str()).
				WithFix("write a name of a domain: hosts: [\"ledger.corp.example\"]; its own names a service has anyway"))
		case slices.Contains(out, h.Str()):
			l.add(diag.New(diag.CodeDuplicate, h.Pos(), "host %q is written twice", h.Str()).WithFix("delete one of them"))
		default:
			out = append(out, h.Str())
			l.place(model.ServicePath(s.ID)+"/host/"+h.Str(), h.Pos())
		}
	}
	slices.Sort(out)
	return out
}

// clusters reports whether a name of two labels or more is of a form that services of a cluster have, "x.ns", "x.ns.svc" and
// "x.ns.svc.cluster.local", whatever namespaces there are today. Of two labels those are no such names whose last is a
// registry's, as in "corp.com", or is kept for examples and tests (RFC 2606).
func clusters(name string) bool {
	labels := strings.Split(name, ".")
	last := labels[len(labels)-1]
	if last == "svc" || last == "local" && labels[len(labels)-2] == "cluster" {
		return true
	}
	_, registry := publicsuffix.PublicSuffix(last)
	return len(labels) == 2 && !registry && !slices.Contains([]string{"example", "test"}, last)
}

// isAddress reports whether a name is what some take for an address of IPv4: its last label is a number (URL standard, "ends
// in a number").
func isAddress(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

// takeNames enters the further names of a service at the numbers of its ports.
func (l *linker) takeNames(s *model.Service, taken map[string]string) {
	path := model.ServicePath(s.ID)
	for _, h := range s.Hosts {
		for _, p := range s.Ports {
			if !p.Protocol.IsHTTP() {
				continue
			}
			key := fmt.Sprintf("%s:%d", h, p.Dialled())
			if other, ok := taken[key]; ok && other != path {
				l.add(diag.New(diag.CodeDuplicate, l.lineOf(path+"/host/"+h), "host %q on port %d belongs to two destinations%s, and a proxy cannot tell which is meant", h, p.Dialled(), l.ofTwo(other, path)).
					WithRelated(l.lineOf(other), "the other destination").WithFix("take it out here or there"))
				break
			}
			taken[key] = path
		}
	}
}

// takeHosts enters the hosts of an external at the port numbers at which it is called.
func (l *linker) takeHosts(x *model.External, path string, taken map[string]string) {
	for i, h := range x.Hosts {
		if i > 0 && x.Hosts[i-1] == h { // they are sorted
			l.add(diag.New(diag.CodeDuplicate, l.lineOf(path), "host %q of external service %q is written twice", h, x.ID).WithFix("delete one of them"))
			continue
		}
		for _, p := range x.Ports {
			key := fmt.Sprintf("%s:%d", h, p.Dialled())
			other, ok := taken[key]
			switch {
			case !ok:
				taken[key] = path
			case other == path && i == 0:
				l.add(diag.New(diag.CodeDuplicate, l.lineOf(path), "two ports of external %q are called at port %d of its hosts, and a proxy cannot tell which is meant: what proxies secure, callers call in plain HTTP at port %d", x.ID, p.Dialled(), p.Dialled()).
					WithFix("make them two externals with different hosts, or leave one out"))
			case other != path:
				at, fix := l.lineOf(other), "join them in one external service, or choose another host or port for one of them"
				if service, ok := strings.CutPrefix(other, "service/"); ok && l.lineOf(other+"/host/"+h) != (diag.Pos{}) {
					at, fix = l.lineOf(other+"/host/"+h), fmt.Sprintf("a domain of others is not a service's: let %s take it out of hosts of %q, if it is not its own; else leave the external out", l.home[service], service)
				}
				l.add(diag.New(diag.CodeDuplicate, l.lineOf(path), "host %q on port %d belongs to two destinations%s, and a proxy cannot tell which is meant", h, p.Dialled(), l.ofTwo(other, path)).
					WithRelated(at, "the other destination").WithFix("%s", fix))
			}
		}
	}
}

// ofTwo names two destinations if they are two packages'.
func (l *linker) ofTwo(one, other string) string {
	_, a, _ := strings.Cut(one, "/")
	_, b, _ := strings.Cut(other, "/")
	if l.home[a] == l.home[b] {
		return ""
	}
	return ", " + l.destinationOf(one) + " and " + l.destinationOf(other)
}

// destinationOf names what has a mesh path, and whose it is.
func (l *linker) destinationOf(path string) string {
	_, id, _ := strings.Cut(path, "/")
	return fmt.Sprintf("%q of %s", id, l.home[id])
}

// checkExternalCallers: at the proxy of an account that calls two externals, the one
// with the narrower host takes requests away from the other. Of one package that is a
// choice; between two, a later change of one would redirect what is sent to the other.
// A proxy also knows the services of its own namespace by their short names.
func (l *linker) checkExternalCallers() {
	callers, told := map[string][]*model.Service{}, map[string]bool{}
	for _, s := range l.mesh.Services {
		for _, account := range l.accountsOf(s.ID) {
			callers[account] = append(callers[account], s)
		}
	}
	for _, account := range sortedKeys(callers) {
		called := l.calledBy(callers[account])
		namespace, _, _ := strings.Cut(account, "/")
		for i, x := range called {
			for j, y := range called {
				if key := x.at.String() + " " + y.id(); i != j && (x.external != nil || len(x.service.Hosts) > 0 && y.external != nil) && !told[key] {
					told[key] = l.collide(account, namespace, x, y)
				}
			}
		}
	}
}

// callee is what an account calls, and where that is written.
type callee struct {
	service  *model.Service
	external *model.External
	at       diag.Pos
}

func (c callee) id() string {
	if c.external != nil {
		return c.external.ID
	}
	return c.service.ID
}

// known are its ports, and the names by which callers ask for it beside its own.
func (c callee) known() ([]model.Port, []string) {
	if c.external != nil {
		return c.external.Ports, c.external.Hosts
	}
	return c.service.Ports, c.service.Hosts
}

// calledBy are the destinations that the proxies of services with one account know,
// each once.
func (l *linker) calledBy(services []*model.Service) []callee {
	var out []callee
	for _, s := range services {
		for _, c := range s.Calls {
			x := callee{l.mesh.Service(c.To), l.mesh.External(c.To), l.lineOf(s.CallPath(c))}
			if (x.service != nil || x.external != nil) && !slices.ContainsFunc(out, func(o callee) bool { return o.id() == c.To }) {
				out = append(out, x)
			}
		}
	}
	return out
}

// collide reports that external x takes requests that are meant for y.
func (l *linker) collide(account, namespace string, x, y callee) bool {
	if y.service != nil {
		s := y.service
		if s.Namespace != namespace || !samePort(x.external.Ports, s.Ports) || !slices.Contains(x.external.Hosts, s.Name) {
			return false
		}
		l.add(diag.New(diag.CodeDuplicate, x.at, "account %q calls service %q by the name %q, which is a host of external %s", account, s.ID, s.Name, l.destinationOf(model.ExternalPath(x.id()))).
			WithRelated(y.at, "the call of the service").WithFix("choose another host or port for the external"))
		return true
	}
	ports, hosts := x.known()
	if l.home[x.id()] == l.home[y.id()] || !samePort(ports, y.external.Ports) {
		return false
	}
	host, over, ok := takes(hosts, y.external)
	if ok {
		l.add(diag.New(diag.CodeExternalOwner, x.at, "for account %q, host %q of %s takes requests from %q of %s", account, host, l.destinationOf(model.ExternalPath(x.id())), over, l.destinationOf(model.ExternalPath(y.id()))).
			WithRelated(l.declaredAt(x.id()), "the narrower").WithRelated(l.lineOf(model.ExternalPath(y.id())), "the wider").
			WithFix("call one of the two, or let one package declare both"))
	}
	return ok
}

func samePort(a, b []model.Port) bool {
	return slices.ContainsFunc(a, func(p model.Port) bool {
		return slices.ContainsFunc(b, func(q model.Port) bool { return p.Dialled() == q.Dialled() })
	})
}

// takes finds a host of narrow below one of wide.
func takes(narrow []string, wide *model.External) (host, over string, ok bool) {
	for _, h := range narrow {
		for _, w := range append(wildcardsOver(h), "*") {
			if h != w && slices.Contains(wide.Hosts, w) {
				return h, w, true
			}
		}
	}
	return "", "", false
}
