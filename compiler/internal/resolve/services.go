package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// serviceOf links one service.
func (l *linker) serviceOf(p *pkg, e intent.Entry) *model.Service {
	n := e.Node
	s := &model.Service{ID: p.namespace + "/" + e.Name, Namespace: p.namespace, Name: e.Name}
	s.Owner, s.Package = l.owned(n, p, model.ServicePath(s.ID)), p.asGuest()
	mode := l.mode(n.Field("mtls"), l.modes[p], model.ServicePath(s.ID), s.Owner)
	s.Ports = l.portsOf(s, n, mode)
	if sel := n.Field("selector"); sel.Exists() {
		if s.Selector = labels(sel); len(s.Selector) == 0 {
			l.add(diag.New(diag.CodeRange, sel.Pos(), "the selector of service %q is empty", s.ID).WithFix("name the labels of its pods, or leave it out: the default is app: %q", s.Name))
		}
	}
	s.Versions = l.versionsOf(p, s, n)
	s.Egress = l.egressOf(p, s, n)
	if len(s.Ports) == 0 {
		l.onlyCalls(s, n)
		s.Calls = l.callsOf(p, s, n)
		return s
	}
	s.Hosts = l.serviceHosts(s, n.Field("hosts"))
	s.Addresses = l.addresses(n.Field("addresses"))
	s.Calls = l.callsOf(p, s, n)
	s.Routes = l.serviceRoutes(p, s, n)
	l.ownTraits(p, s, n)
	l.versionTraits(p, s, n)
	s.Grants, s.ShadowGrants = l.grantsOf(p, s, n)
	s.Grants = append(s.Grants, l.openings(p, s, n)...)
	s.Grants = append(s.Grants, append(l.asked(s, n), l.askedByCallers(s)...)...)
	s.Denies, s.ShadowDenies = l.deniesOf(model.ServicePath(s.ID), n, func(e intent.Entry) model.Deny { return l.serviceDeny(p, s, e) })
	return s
}

// ownTraits settles what the service's own proxies do, and where they do something else
// for one of several ports.
func (l *linker) ownTraits(p *pkg, s *model.Service, n intent.Node) {
	s.Traits, s.PortTraits = l.byPort(s, n, nil, func(port model.Port, node intent.Node) trait.Set {
		return l.traits(append(ownProxy(node, n), l.around(p)...), &Place{To: port, Routes: routesToPort(s, port), l: l, pkg: p, self: s.ID, endpoints: endpointsOf(s.Versions), discovered: discovered(s.Versions...)}, model.ServicePath(s.ID))
	})
}

func endpointsOf(vs []model.Version) []model.Endpoints {
	var out []model.Endpoints
	for _, v := range vs {
		out = append(out, v.Endpoints)
	}
	return out
}

// discovered are the names of those versions whose workloads the platform finds.
func discovered(vs ...model.Version) []string {
	var out []string
	for _, v := range vs {
		if v.Discovered() {
			out = append(out, v.Name)
		}
	}
	return out
}

// routesToPort are a service's routes for a port; all if none is meant.
func routesToPort(s *model.Service, p model.Port) []model.Route {
	if p.Name == "" {
		return s.Routes
	}
	return model.ForPort(p.Name, s.Routes)
}

// versionTraits settles what versions say in place of the service, where no port says it nearer.
func (l *linker) versionTraits(p *pkg, s *model.Service, n intent.Node) {
	for i := range s.Versions {
		v := &s.Versions[i]
		path, version := model.VersionPath(s.ID, v.Name), n.Field("version").Field(v.Name)
		v.Traits, v.PortTraits = l.byPort(s, n, nil, func(port model.Port, node intent.Node) trait.Set {
			x := &Place{To: port, l: l, pkg: p, self: s.ID, path: path, endpoints: []model.Endpoints{v.Endpoints}, discovered: discovered(*v)}
			set := trait.Set{}
			for _, r := range l.rules {
				c, ok := r.nearest(toVersion(node, version, n))
				if !ok || c.on != OnVersion || !r.fieldOf(c, x).Exists() {
					continue
				}
				if v := l.read(r, c, x, path); v != nil {
					set = set.With(v)
				}
			}
			all := set.Or(s.TraitsAt(port.Name))
			for _, r := range l.rules {
				if v, says := set.Lookup(r.Name); says && r.Fits != nil {
					c, _ := r.nearest(toVersion(node, version, n))
					x.At = c.on
					r.Fits(v, all, r.fieldOf(c, x), x)
				}
			}
			return set
		})
	}
}

// byPort settles a set for all ports of a service, and for those by themselves that have
// another one. A service's only port is all of its ports.
func (l *linker) byPort(s *model.Service, n intent.Node, only []string, settle func(model.Port, intent.Node) trait.Set) (trait.Set, map[string]trait.Set) {
	nodes := n.Field("port")
	if len(s.Ports) == 1 {
		return settle(s.Ports[0], nodes.Field(s.Ports[0].Name)), nil
	}
	if len(only) == 1 {
		i := slices.IndexFunc(s.Ports, func(p model.Port) bool { return p.Name == only[0] })
		return settle(s.Ports[i], nodes.Field(only[0])), nil
	}
	all := settle(model.Port{}, nodes.Field("")) // no port has that name
	var own map[string]trait.Set
	for _, p := range s.Ports {
		if only != nil && !slices.Contains(only, p.Name) {
			continue
		}
		set := settle(p, nodes.Field(p.Name))
		if set.Equal(all) {
			continue
		}
		if own == nil {
			own = map[string]trait.Set{}
		}
		own[p.Name] = set
	}
	return all, own
}

func (l *linker) portsOf(s *model.Service, n intent.Node, mode model.MTLS) []model.Port {
	var out []model.Port
	numbers := map[uint32]string{}
	for _, e := range n.Field("port").Fields() {
		port := model.Port{}
		if i := slices.IndexFunc(l.ports[s.ID], func(p model.Port) bool { return p.Name == e.Name }); i >= 0 {
			port = l.ports[s.ID][i]
		}
		port.MTLS = l.mode(e.Node.Field("mtls"), mode, model.ServicePath(s.ID)+"/port/"+e.Name, s.Owner)
		l.speaks(s, port, e.Node)
		if other, ok := numbers[port.Number]; ok {
			l.add(diag.New(diag.CodeDuplicate, e.Node.Pos(), "ports %q and %q of service %q have the same number %d", other, e.Name, s.ID, port.Number).
				WithFix("give each port a number of its own"))
		}
		numbers[port.Number] = e.Name
		out = append(out, port)
	}
	return out
}

// onlyCalls holds a service without ports against what it can say: who it is, and whom it calls. All else is about
// requests and connections that it takes, or about where it takes them.
func (l *linker) onlyCalls(s *model.Service, n intent.Node) {
	var idle []intent.Entry
	note := func(n intent.Node, means ...string) {
		for _, e := range n.Fields() {
			if !slices.Contains(means, e.Name) {
				idle = append(idle, e)
			}
		}
	}
	note(n, "owner", "serviceAccount", formerField, "selector", "version", "calls", "egress", "port")
	for _, v := range n.Field("version").Fields() {
		note(v.Node, "labels", "serviceAccount", formerField, "calls")
	}
	const add = "add: port: http: number: 8080"
	if len(n.Field("calls").Fields()) == 0 && !n.Field("egress").Exists() {
		l.add(diag.New(diag.CodeOnlyCalls, n.Pos(), "service %q has no port and calls nothing, so that nothing is left of it", s.ID).WithFix(add + "; or say whom it calls"))
	}
	if len(idle) == 0 {
		return
	}
	d := diag.New(diag.CodeOnlyCalls, idle[0].Node.Pos(), "service %q has no port, so that nothing comes to which `%s` could apply", s.ID, idle[0].Name)
	for _, e := range idle[1:] {
		d = d.WithRelated(e.Node.Pos(), "nor `%s`", e.Name)
	}
	l.add(d.WithFix(add + "; a service that only calls has versions, accounts, a selector and calls"))
}

// speaks reads who sends the first byte. Where mTLS and plaintext are both taken, the client's
// first bytes tell them apart: a server that waits for nobody would be kept from speaking.
func (l *linker) speaks(s *model.Service, port model.Port, n intent.Node) {
	said := n.Field("speaks")
	both := port.Protocol == model.TCP && port.MTLS == model.Permissive
	switch {
	case said.Exists() && port.Protocol.IsHTTP():
		l.add(diag.New(diag.CodeProtocol, said.Pos(), "port %q of service %q speaks %s, of which clients send the first byte", port.Name, s.ID, port.Protocol).
			WithFix("delete `speaks`, or let the port say tcp"))
	case both && said.Str() == "server":
		l.add(diag.New(diag.CodeFirstBytes, said.Pos(), "port %q of service %q takes plaintext and mTLS, which the client's first bytes tell apart, but its server speaks first: a plaintext client would be greeted after %v",
			port.Name, s.ID, hop.HelloTimeout).WithFix(`let the port say: mtls: mode: "strict", or "disable" for as long as callers without a certificate are left`))
	case both && !said.Exists():
		l.add(diag.Warn(diag.CodeFirstBytes, n.Pos(), "port %q of service %q takes plaintext and mTLS, which the client's first bytes tell apart: if the server speaks first, a plaintext client is greeted after %v",
			port.Name, s.ID, hop.HelloTimeout).WithFix(`say who speaks first: speaks: "client", or "server" and make the port strict, or ` + "`disable` for as long as callers without a certificate are left"))
	}
}

func (l *linker) versionsOf(p *pkg, s *model.Service, n intent.Node) []model.Version {
	account := n.Field("serviceAccount").Str()
	if account == "" {
		account = s.Name
	}
	base, former := l.endpoints(n.Field("endpoints")), l.formerOf(n)
	entries := n.Field("version").Fields()
	if len(entries) == 0 {
		entries = []intent.Entry{{Name: "default", Node: n.Field("version").Field("default")}}
	}
	var out []model.Version
	for _, e := range entries {
		v := model.Version{Name: e.Name, Account: account, Endpoints: base}
		if a := e.Node.Field("serviceAccount").Str(); a != "" {
			v.Account = a
		}
		v.Former = slices.Compact(slices.Sorted(slices.Values(slices.Concat(former, l.formerOf(e.Node)))))
		said := n.Field("endpoints")
		if ep := e.Node.Field("endpoints"); ep.Exists() {
			v.Endpoints, said = l.endpoints(ep), ep
		}
		l.atWorkloads(s.ID, &v, said)
		v.Labels = ownLabels(e, len(entries) == 1)
		l.proxyless(s, &v, n, e.Node)
		v.Ports = l.versionPorts(s, e)
		v.Locals = l.locals(p, e.Node)
		l.place(model.VersionPath(s.ID, e.Name), e.Node.Pos())
		out = append(out, v)
	}
	return out
}

// proxyless reads whether a version has proxies: of two that say it the nearest.
func (l *linker) proxyless(s *model.Service, v *model.Version, service, version intent.Node) {
	for _, n := range []intent.Node{version.Field("proxyless"), service.Field("proxyless")} {
		if n.Exists() {
			v.Proxyless = n.Bool()
			l.place(model.ProxylessPath(s.ID, v.Name), n.Pos())
			for _, port := range service.Field("port").Fields() {
				l.place(model.ProxylessPath(s.ID, v.Name)+"/port/"+port.Name, port.Node.Pos())
			}
			return
		}
	}
}

// ownLabels are those of a version's workloads. A service that tells no versions apart
// has one, "default", which is all of its workloads.
func ownLabels(e intent.Entry, only bool) map[string]string {
	own := labels(e.Node.Field("labels"))
	if _, said := own["version"]; !said && (e.Name != "default" || !only) {
		own["version"] = e.Name
	}
	if len(own) == 0 {
		return nil // as it is read from mesh.json
	}
	return own
}

// labels reads labels.
func labels(n intent.Node) map[string]string {
	out := map[string]string{}
	for _, e := range n.Fields() {
		out[e.Name] = e.Node.Str()
	}
	return out
}

// versionPorts reads what a version says of the service's ports.
func (l *linker) versionPorts(s *model.Service, version intent.Entry) map[string]model.VersionPort {
	var out map[string]model.VersionPort
	for _, e := range version.Node.Field("port").Fields() {
		if _, ok := s.Port(e.Name); !ok {
			l.add(l.unknown(e.Node.Pos(), "port", e.Name, portNames(l.ports[s.ID])))
			continue
		}
		at := model.VersionPort{App: uint32(e.Node.Field("app").Int())}
		l.address(&at, e.Node.Field("address"))
		if out == nil {
			out = map[string]model.VersionPort{}
		}
		out[e.Name] = at
		l.place(versionPortPath(s.ID, version.Name, e.Name), e.Node.Pos())
	}
	return out
}

func versionPortPath(service, version, port string) string {
	return model.VersionPath(service, version) + "/port/" + port
}

// address reads where a version's proxy listens for a port ("ip" or "ip:port").
func (l *linker) address(at *model.VersionPort, a intent.Node) {
	if !a.Exists() {
		return
	}
	if ip, err := netip.ParseAddr(a.Str()); err == nil {
		at.Host = ip.String()
		return
	}
	ap, err := netip.ParseAddrPort(a.Str())
	if err != nil || ap.Port() == 0 {
		l.add(diag.New(diag.CodeListen, a.Pos(), "address %q is neither an IP address nor IP:port", a.Str()).
			WithFix(`write "127.0.0.1:15001" or "10.0.0.5"`))
		return
	}
	at.Host, at.Port = ap.Addr().String(), uint32(ap.Port())
}

// addresses reads what callers dial: IP addresses and ranges, as prefixes.
func (l *linker) addresses(n intent.Node) []string {
	if n.Exists() && len(n.List()) == 0 {
		l.add(diag.New(diag.CodeListen, n.Pos(), "an empty list of addresses is dialled by nobody").WithFix("leave `addresses` out"))
	}
	var out []string
	for _, a := range n.List() {
		p, err := netip.ParsePrefix(a.Str())
		if ip, notIP := netip.ParseAddr(a.Str()); notIP == nil {
			p, err = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
		}
		if err != nil || p.Masked() != p || p.Addr().Is4In6() {
			l.add(diag.New(diag.CodeListen, a.Pos(), "%q is neither an IP address nor a range of them", a.Str()).
				WithFix(`write "10.96.0.7", or "10.96.0.0/24" with zeros behind the prefix`))
			continue
		}
		out = append(out, p.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// endpoints reads where instances are.
func (l *linker) endpoints(n intent.Node) model.Endpoints {
	var ep model.Endpoints
	if !n.Exists() {
		return ep
	}
	fields := []string{"static", "dns", "file"}
	if n.Field("dynamic").Exists() { // of externals
		fields = append(fields, "dynamic")
	}
	if l.oneOf(n, fields...) == "" {
		return ep
	}
	ep.Dynamic = n.Field("dynamic").Exists()
	for _, s := range n.Field("static").List() {
		ap, err := netip.ParseAddrPort(s.Str())
		if err != nil || ap.Port() == 0 {
			l.add(diag.New(diag.CodeListen, s.Pos(), "endpoint %q is not IP:port", s.Str()).WithFix(`write "10.0.0.5:8080"; for names use dns`))
			continue
		}
		ep.Static = append(ep.Static, ap.String())
	}
	slices.Sort(ep.Static)
	ep.Static = slices.Compact(ep.Static)
	ep.None = n.Field("static").Exists() && len(n.Field("static").List()) == 0
	ep.DNS, ep.File = n.Field("dns").Str(), n.Field("file").Str()
	if ep.DNS != "" {
		host, port, ok := strings.Cut(ep.DNS, ":")
		if num, err := strconv.ParseUint(port, 10, 16); !ok || host == "" || err != nil || num == 0 {
			l.add(diag.New(diag.CodeListen, n.Field("dns").Pos(), "dns endpoint %q is not host:port", ep.DNS).WithFix(`write "example.com:443"`))
		}
	}
	return ep
}

// oneOf returns the only field of n that exists; none or several is a problem.
func (l *linker) oneOf(n intent.Node, fields ...string) string {
	var found []string
	for _, f := range fields {
		if n.Field(f).Exists() {
			found = append(found, f)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	text, fix := "none", "add one of them"
	if len(found) > 1 {
		text, fix = strings.Join(found, " and "), keepOne(n, found...)
	}
	d := diag.New(diag.CodeOneOf, n.Pos(), "%s needs exactly one of %s, it has %s", n.Path(), strings.Join(fields, ", "), text).WithFix("%s", fix)
	for _, f := range found {
		d = d.WithRelated(n.Field(f).Pos(), "%s", f) // one may be the base's, the other an environment's
	}
	l.add(d)
	return ""
}

// keepOne is the way out of fields that exclude each other. Where an environment has one beside
// the package's own, it may take that away.
func keepOne(n intent.Node, fields ...string) string {
	var own []string
	for _, f := range fields {
		if _, ok := intent.EnvironmentOf(n.Field(f).Pos().File); !ok {
			own = append(own, f)
		}
	}
	if len(own) != 1 || len(fields) < 2 {
		return "keep one of them"
	}
	return fmt.Sprintf("keep one of them; the environment takes the package's away by override: %s: null", own[0])
}
