package envoy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	principalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// A gRPC program without a proxy reads the same xDS as Envoy, and of each message a part of the fields; of
// what it does not know it takes no notice (gRFC A27). So that nothing is lost in silence, a class of such
// programs is made with columns of its own, in which whatever nobody said to have a form for them is refused,
// and what grants and denies became is translated field by field.

// proxylessKey begins the keys of what only such programs get.
const proxylessKey = "proxyless "

// withoutProxy makes the work that for a class of gRPC programs.
func (e *emitter) withoutProxy() {
	e.grpc, e.full = true, e.cells
	e.cells = e.cells.proxyless()
	e.finishing = e.cells.finishing()
	own := Conditions{}
	for dim, c := range e.conditions {
		own[dim] = Condition{lower: c.proxyless}
	}
	e.conditions = own
}

// proxyless is what gRPC programs get as callers.
func (c Column) proxyless() Column {
	out := make(Column, len(c))
	for name, cell := range c {
		if l := cell.Lowering.proxyless; l != nil {
			out[name] = Cell{Lowering: *l, Uses: cell.Uses, Word: cell.Word}
			continue
		}
		out[name] = Cell{Lowering: Refuse("gRPC has no such thing"), Word: cell.Word}
	}
	return out
}

// proxyless reports whether all workloads of the class have no proxy.
func (c scope) proxyless() bool {
	return slices.ContainsFunc(c.members, func(m member) bool { return m.version.Proxyless })
}

// cannot is a problem with what gRPC programs without a proxy cannot do.
func cannot(at diag.Pos, format string, args ...any) diag.Diagnostic {
	return diag.New(diag.CodeProxyless, at, "a gRPC program without a proxy cannot "+format, args...)
}

// Lost reports what gRPC programs do not do of a value. A default of what is around does not break what cannot
// have it.
func (x *Ctx) Lost(v trait.Value, fix, format string, args ...any) {
	if x.said.IsDefault(v.TraitName()) {
		return
	}
	x.out.problem(cannot(x.locate(x.path+"/"+v.TraitName()), format, args...).WithFix("%s", fix))
}

// Loss warns of a part of a value that gRPC programs do without.
func (x *Ctx) Loss(v trait.Value, format string, args ...any) {
	if !x.said.IsDefault(v.TraitName()) {
		x.out.problem(diag.Warn(diag.CodeProxyless, x.locate(x.path+"/"+v.TraitName()), "a gRPC program without a proxy gets %q with a loss: "+format, append([]any{v.TraitName()}, args...)...))
	}
}

// refuseSet refuses values that mean something to Envoy at a place, and nothing to gRPC.
func (e *emitter) refuseSet(s trait.Set, path string, out *entry, place func(Lowering) bool) {
	for _, name := range s.Names() {
		own := e.cells[name].Lowering
		if own.loss != "" && place(e.full[name].Lowering) {
			out.problem(diag.Warn(diag.CodeProxyless, e.at(path+"/"+name), "a gRPC program without a proxy gets %q with a loss: %s", e.cells.word(name), own.loss))
		}
		if s.IsDefault(name) || !place(e.full[name].Lowering) || own.refusal == "" {
			continue
		}
		out.problem(e.cannotDo(name, path))
	}
}

func (e *emitter) cannotDo(name, path string) diag.Diagnostic {
	return cannot(e.at(path+"/"+name), "do %q", e.cells.word(name)).WithFix("take it out, or let a proxy do it: without `proxyless`")
}

// refuseRoute refuses what a route that gRPC programs take says beyond what they do.
func (e *emitter) refuseRoute(s routeSpec, out *entry) {
	if !e.grpc {
		return
	}
	sets := []trait.Set{s.traits}
	for _, sh := range s.shares {
		sets = append(sets, sh.to.Traits)
	}
	for _, set := range sets {
		e.refuseSet(set, s.path, out, func(l Lowering) bool { return l.onRoute() || l.share != nil || l.twin != nil })
	}
}

// program makes the snapshot of a class of gRPC programs.
func (e *emitter) program(c scope) snapshot {
	s := snapshot{scope: c}
	s.problems = e.checkProgram(c)
	if s.problems.HasErrors() {
		return s
	}
	binds, problems := e.binds(c)
	s.problems = append(s.problems, problems...)
	for _, b := range binds {
		s.entries = append(s.entries, e.servedConfig(b))
		for _, host := range listens(b) {
			s.entries = append(s.entries, e.servedListener(b, host))
		}
	}
	n, callers := needs{}, map[string]diag.Pos{}
	for _, w := range e.calls(c) {
		at := e.callLine(c, w.target)
		own := needs{}
		e.callNeeds(w.target, own)
		for name := range own {
			if callers[name] == (diag.Pos{}) {
				callers[name] = at
			}
		}
		e.callNeeds(w.target, n)
		routes := e.calledConfig(w.target)
		s.entries = append(s.entries, routes)
		s.blame(routes, at)
		for _, name := range targetNames(w.target) {
			s.entries = append(s.entries, e.calledListener(w.target, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if !n[name].named {
			cluster := e.cluster(name, n[name])
			s.entries = append(s.entries, cluster)
			s.blame(cluster, callers[name])
		}
	}
	s.seal(e)
	return s
}

// callLine is where a class says that it calls a destination.
func (e *emitter) callLine(c scope, to target) diag.Pos {
	for _, m := range c.members {
		for _, k := range m.service.Calls {
			if t, ok := e.destination(k.To, k.Port); ok && t.path() == to.path() && t.port.Name == to.port.Name {
				return e.at(m.service.CallPath(k))
			}
		}
	}
	return diag.Pos{}
}

// blame has the problems of an entry stand where the class calls, unless its own package says what they are about: the callee's
// package was right before somebody called it without a proxy.
func (s *snapshot) blame(n *entry, at diag.Pos) {
	if s.callers == nil {
		s.callers = map[*entry]diag.Pos{}
	}
	s.callers[n] = at
}

// found are the problems of an entry.
func (s *snapshot) found(n *entry) diag.List {
	at, ok := s.callers[n]
	if !ok || at == (diag.Pos{}) {
		return n.problems
	}
	out := make(diag.List, len(n.problems))
	for i, d := range n.problems {
		if said := d.Pos; path.Dir(said.File) != path.Dir(at.File) {
			d.Pos, d.Related = at, append([]diag.Related{{Pos: said, Text: "what is called says it here"}}, d.Related...)
		}
		out[i] = d
	}
	return out
}

// checkProgram reports what a class of gRPC programs cannot be.
func (e *emitter) checkProgram(c scope) diag.List {
	var out diag.List
	first := slices.IndexFunc(c.members, func(m member) bool { return m.version.Proxyless })
	said := model.ProxylessPath(c.members[first].service.ID, c.members[first].version.Name)
	for _, m := range c.members {
		if !m.version.Proxyless {
			out = append(out, diag.New(diag.CodeProxylessMixed, e.at(said), "account %q has workloads without a proxy, and version %q of service %q with one: both would get the same configuration",
				c.class.Namespace+"/"+c.class.Account, m.version.Name, m.service.ID).
				WithRelated(e.at(model.VersionPath(m.service.ID, m.version.Name)), "with a proxy").WithFix("give one of them a `serviceAccount` of its own"))
			continue
		}
		for _, a := range e.m.Aliases {
			if a.Roots != nil {
				out = append(out, cannot(e.at(model.ProxylessPath(m.service.ID, m.version.Name)), "take trust domain %q for the mesh's own: that has roots of its own, and the program one set of roots, whatever the domain", a.Name).
					WithRelated(e.at(model.AliasPath(a.Name)), "the trust domain").WithFix("keep a proxy for as long as the trust domain has roots of its own"))
			}
		}
		out = append(out, e.checkServed(m)...)
		out = append(out, e.checkCalls(m)...)
	}
	return out
}

// checkServed reports what a service of gRPC programs says and its own server cannot do.
func (e *emitter) checkServed(m member) diag.List {
	var out diag.List
	s, path := m.service, model.ServicePath(m.service.ID)
	for _, p := range s.Ports {
		at := e.at(model.ProxylessPath(s.ID, m.version.Name) + "/port/" + p.Name)
		if p.Protocol != model.GRPC {
			out = append(out, cannot(at, "serve port %q, which speaks %s", p.Name, p.Protocol).WithFix(`let the port say protocol: "grpc"; what serves something else takes it without the mesh`))
		}
		if p.MTLS != model.Strict {
			out = append(out, cannot(at, "serve port %q with mTLS mode %q: its server takes certificates alone", p.Name, p.MTLS).WithFix(`say mtls: mode: "strict", or keep a proxy for as long as callers without a certificate are left`))
		}
		if m.version.Ports[p.Name].App != 0 && e.m.Capture == model.Explicit {
			out = append(out, cannot(e.at(model.VersionPath(s.ID, m.version.Name)+"/port/"+p.Name), "listen behind itself: `app` is a port behind a proxy").WithFix("write where it listens as `address`"))
		}
		var problems entry
		e.refuseSet(s.TraitsAt(p.Name), path, &problems, func(l Lowering) bool { return l.inbound != nil || l.manager != nil || l.finished != nil })
		out = append(out, problems.problems...)
	}
	for _, g := range s.Grants {
		if slices.ContainsFunc(g.Identities, func(id string) bool { _, foreign := model.ForeignDomain(id); return foreign }) {
			out = append(out, cannot(e.at(model.GrantPath(s.ID, g.Name)), "take identities of other trust domains: it has one set of roots, whatever the domain").WithFix("let a gateway take such callers, or a proxy: without `proxyless`"))
		}
		if g.Asked && g.Mesh {
			out = append(out, cannot(e.at(model.GrantPath(s.ID, g.Name)), "be asked by its callers' proxies whether it is well: callers without a proxy ask nobody, and would send to it all the same").WithFix("take `health` out, and let `endpoints` say who is well; or keep a proxy"))
		} else if g.Asked {
			out = append(out, cannot(e.at(model.GrantPath(s.ID, g.Name)), "answer callers without a certificate beside those with one").WithFix("ask it on another port, which is none of the mesh"))
		} else if g.Open == model.Counted {
			out = append(out, cannot(e.at(path), "count what no grant allows, and let it through").WithFix(`say access: mode: "enforce" for it`))
		}
	}
	for _, g := range s.ShadowGrants {
		out = append(out, cannot(e.at(model.GrantPath(s.ID, g.Name)), "count what a grant would do: shadow grants are proxies'").WithFix("take `shadow` out, or the grant"))
	}
	for _, d := range s.ShadowDenies {
		out = append(out, cannot(e.at(model.DenyPath(path, d.Name)), "count what a deny would do: shadow denies are proxies'").WithFix("take `shadow` out, or the deny"))
	}
	return out
}

// checkCalls reports calls that no gRPC program makes.
func (e *emitter) checkCalls(m member) diag.List {
	var out diag.List
	for _, k := range m.service.Calls {
		at := e.at(model.CallPath(m.service.ID, k.To))
		t, ok := e.destination(k.To, k.Port)
		switch {
		case !ok:
		case t.external != nil:
			out = append(out, cannot(at, "call %q by the mesh: it is outside, and its proxy would begin TLS", k.To).WithFix("let it call there by itself, without a word here"))
		case t.port.Protocol != model.GRPC:
			out = append(out, cannot(at, "call port %q of %q by the mesh, which speaks %s", t.port.Name, k.To, t.port.Protocol).WithFix("name a port that says protocol: \"grpc\""))
		case m.version.Local(k) != 0:
			out = append(out, cannot(at, "be called by itself: `local` is a port of its proxy").WithFix("take `local` out: it calls xds:///%s", targetNames(t)[0]))
		}
	}
	return out
}

// targetNames are the names by which gRPC programs call a port: xds:///NAME.NAMESPACE:PORT, and without the port
// where it is meant without being named.
func targetNames(t target) []string {
	namespace, name := splitID(t.id())
	host := name + "." + namespace
	out := []string{host + ":" + portText(t.port.Number)}
	if p, ok := model.Unnamed(t.service.Ports); ok && p.Name == t.port.Name {
		out = append(out, host)
	}
	return out
}

// calledListener is what a gRPC client finds by its target's name.
func (e *emitter) calledListener(t target, name string) *entry {
	return e.get("listener "+name, []given{t.given()}, func(out *entry) {
		routes := model.OutboundName(t.id(), t.port.Name)
		out.need(release.RouteType, routes)
		e.seal(out, release.ListenerType, name, t.path(), &listenerv3.Listener{
			Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: pack(programManager(routes, programFilter(SlotFault, &faultv3.HTTPFault{})))},
		})
	})
}

// calledConfig are the routes of a callee's port for gRPC clients. Their target's name has chosen already.
func (e *emitter) calledConfig(t target) *entry {
	name := model.OutboundName(t.id(), t.port.Name)
	return e.get("route "+name+t.mark(), []given{t.given()}, func(out *entry) {
		h := &routev3.VirtualHost{Name: t.id(), Domains: []string{"*"}, Routes: e.serviceRoutes(t, out)}
		e.seal(out, release.RouteType, name, t.path(), &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{h}})
	})
}

// programManager is as much of a connection manager as gRPC reads.
func programManager(routes string, filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix:     routes,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: adsSource(), RouteConfigName: routes}},
		HttpFilters:    append(filters, programFilter(SlotRouter, &routerv3.Router{})),
	}
}

func programFilter(s Slot, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: string(s), ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// callCluster makes of a proxy's cluster a gRPC client's. Its addresses come apart from it (gRPC knows no written
// ones), its certificates from the files that the agent keeps, and where nobody has said how to choose it takes turns,
// which all implementations of gRPC can.
func (e *emitter) callCluster(c *clusterv3.Cluster, live *release.Endpoints, t target, out *entry) (*clusterv3.Cluster, *release.Endpoints) {
	own := &clusterv3.Cluster{
		Name: c.Name, LbPolicy: clusterv3.Cluster_ROUND_ROBIN, CircuitBreakers: c.CircuitBreakers,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()},
	}
	if live == nil {
		live = &release.Endpoints{Cluster: c.Name}
		for _, group := range c.LoadAssignment.GetEndpoints() {
			for _, at := range group.LbEndpoints {
				a := at.GetEndpoint().GetAddress().GetSocketAddress()
				live.Workloads = append(live.Workloads, release.Workload{Address: net.JoinHostPort(a.GetAddress(), portText(a.GetPortValue()))})
			}
		}
		if len(live.Workloads) == 0 {
			out.problem(cannot(e.at(t.path()), "call %q, which has no workloads", t.id()).WithFix("take the call out until there are some"))
		}
	}
	if t.port.MTLS != model.Disable {
		own.TransportSocket = socket(&tlsv3.UpstreamTlsContext{CommonTlsContext: programTLS(e.named(t.service.Classes(t.version))...)})
	}
	e.refuseSet(t.service.TraitsTo(t.port.Name, t.version.Name), t.path(), out, func(l Lowering) bool {
		return l.cluster != nil || l.yields || l.routesTo != nil && l.inbound == nil
	})
	e.refuseFinishing(c, t, out)
	return own, live
}

// refuseFinishing refuses what has the last say of a proxy's cluster and changes something there.
func (e *emitter) refuseFinishing(c *clusterv3.Cluster, t target, out *entry) {
	said := t.service.TraitsTo(t.port.Name, t.version.Name)
	for _, name := range e.full.finishing() {
		v, ok := said.Lookup(name)
		if !ok || e.cells[name].Lowering.refusal == "" {
			continue
		}
		changed := proto.Clone(c)
		x := Ctx{Mesh: e.m, Service: t.service, Port: t.port, Version: t.version, path: t.path(), out: out, locate: e.at}
		if e.full[name].Lowering.finished(changed, v, &x); !proto.Equal(c, changed) {
			out.problem(e.cannotDo(name, t.path()))
		}
	}
}

// programTLS takes keys and authorities from the files that the agent keeps for a gRPC program, which know them by that
// name, and the other side by one of these identities. Versions of TLS it cannot name: both sides are ours, and take the newest.
func programTLS(identities ...string) *tlsv3.CommonTlsContext {
	files := &tlsv3.CertificateProviderPluginInstance{InstanceName: hop.Certificates}
	trusted := &tlsv3.CertificateValidationContext{CaCertificateProviderInstance: files}
	for _, id := range identities {
		// Of names with a type (match_typed_subject_alt_names) gRPC takes no notice.
		trusted.MatchSubjectAltNames = append(trusted.MatchSubjectAltNames, exactString(id)) //nolint:staticcheck // the form that gRPC reads
	}
	return &tlsv3.CommonTlsContext{
		TlsCertificateProviderInstance: files,
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{DefaultValidationContext: trusted},
		},
	}
}

// listens are the addresses at which the server of a gRPC program may listen: the written one, else all of a family.
func listens(b bind) []string {
	if host := b.version.Host(b.port); host != "" {
		return []string{host}
	}
	return []string{model.AnyIPv4, model.AnyAddress}
}

// servedListener is what a gRPC server that listens there finds by that address. Who has no certificate of the mesh's
// authorities gets no connection.
func (e *emitter) servedListener(b bind, host string) *entry {
	at := net.JoinHostPort(host, portText(b.number))
	name := hop.ServedListener + at
	routes := model.InboundName(b.service.ID, b.port.Name, b.version.Name)
	return e.get("listener "+name+" "+routes, b.given(), func(out *entry) {
		out.need(release.RouteType, routes)
		deny := programFilter(SlotDeny, &rbacv3.RBAC{})
		// An ALLOW without policies denies all: routes without grants fail closed.
		allow := programFilter(SlotRBAC, &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}})
		e.seal(out, release.ListenerType, name, model.ServicePath(b.service.ID), &listenerv3.Listener{
			Name: name, Address: address(host, b.number),
			FilterChains: []*listenerv3.FilterChain{{
				Name:            "mtls",
				TransportSocket: socket(&tlsv3.DownstreamTlsContext{CommonTlsContext: programTLS(), RequireClientCertificate: Bool(true)}),
				Filters:         []*listenerv3.Filter{filter(filterHCM, programManager(routes, deny, allow))},
			}},
		})
	})
}

// servedConfig is who may call what of a gRPC server, as it is for the proxy of a service.
func (e *emitter) servedConfig(b bind) *entry {
	s, p := b.service, b.port
	name := model.InboundName(s.ID, p.Name, b.version.Name)
	return e.get("route "+name, b.given(), func(out *entry) {
		h := &routev3.VirtualHost{Name: s.ID, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Name:  model.ServicePath(s.ID),
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, Action: &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}},
		}}}
		HostFilter(h, SlotRBAC, perRoute(e.programRules(e.allow(s.Grants, p), out, func(name string) string { return model.GrantPath(s.ID, name) })))
		if rules := e.denials(p, s.Denies); len(rules.Policies) > 0 {
			HostFilter(h, SlotDeny, perRoute(e.programRules(rules, out, func(name string) string { return model.DenyPath(model.ServicePath(s.ID), name) })))
		}
		e.seal(out, release.RouteType, name, model.ServicePath(s.ID), &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{h}})
	})
}

// programRules is the form of rules that gRPC reads (gRFC A41). What of them has none is a problem of the grant, or the
// deny, that the policy is named after.
func (e *emitter) programRules(rules *rbacconfigv3.RBAC, out *entry, path func(name string) string) *rbacconfigv3.RBAC {
	own := &rbacconfigv3.RBAC{Action: rules.Action, Policies: map[string]*rbacconfigv3.Policy{}}
	for _, name := range slices.Sorted(maps.Keys(rules.Policies)) {
		p := rules.Policies[name]
		refused := func(what string) {
			out.problem(cannot(e.at(path(name)), "hold callers to %s", what).WithFix("write it by callers, paths, methods, hosts and sources alone"))
		}
		if p.Condition != nil {
			refused("headers")
			continue
		}
		policy := &rbacconfigv3.Policy{}
		var err error
		for _, who := range p.Principals {
			as, why := e.programPrincipal(who, rules.Action == rbacconfigv3.RBAC_ALLOW)
			err = cmp.Or(err, why)
			policy.Principals = append(policy.Principals, as)
		}
		for _, what := range p.Permissions {
			err = cmp.Or(err, checkPermission(what))
			policy.Permissions = append(policy.Permissions, what)
		}
		if err != nil {
			refused(err.Error())
			continue
		}
		own.Policies[name] = policy
	}
	return own
}

// programPrincipal is a caller as gRPC knows it. Who is let in without more has a certificate of one of the mesh's trust domains, which
// gRPC's handshake does not ask for.
func (e *emitter) programPrincipal(p *rbacconfigv3.Principal, admits bool) (*rbacconfigv3.Principal, error) {
	each := func(ps []*rbacconfigv3.Principal) (*rbacconfigv3.Principal_Set, error) {
		out, err := &rbacconfigv3.Principal_Set{}, error(nil)
		for _, one := range ps {
			own, why := e.programPrincipal(one, admits)
			out.Ids, err = append(out.Ids, own), cmp.Or(err, why)
		}
		return out, err
	}
	known := func(m *matcherv3.StringMatcher) *rbacconfigv3.Principal {
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Authenticated_{Authenticated: &rbacconfigv3.Principal_Authenticated{PrincipalName: m}}}
	}
	switch of := p.GetIdentifier().(type) {
	case *rbacconfigv3.Principal_Any:
		if admits {
			var some []*rbacconfigv3.Principal
			for _, domain := range e.everyone() {
				some = append(some, known(domain))
			}
			return anyPrincipal(some), nil
		}
		return p, nil
	case *rbacconfigv3.Principal_DirectRemoteIp:
		return p, nil
	case *rbacconfigv3.Principal_AndIds:
		all, err := each(of.AndIds.GetIds())
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: all}}, err
	case *rbacconfigv3.Principal_OrIds:
		some, err := each(of.OrIds.GetIds())
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: some}}, err
	case *rbacconfigv3.Principal_NotId:
		not, err := e.programPrincipal(of.NotId, false)
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: not}}, err
	case *rbacconfigv3.Principal_Custom:
		var as principalv3.Config
		if err := of.Custom.GetTypedConfig().UnmarshalTo(&as); err != nil {
			return p, err
		}
		if as.AnyValidatedClientCertificate { // whoever has none gets no connection
			return known(nil), nil
		}
		return known(as.GetSanMatcher().GetMatcher()), nil
	}
	return p, errors.New("clients")
}

// checkPermission is an error for what gRPC does not know of a request.
func checkPermission(p *rbacconfigv3.Permission) error {
	var err error
	each := func(ps []*rbacconfigv3.Permission) error {
		for _, one := range ps {
			err = cmp.Or(err, checkPermission(one))
		}
		return err
	}
	switch of := p.GetRule().(type) {
	case *rbacconfigv3.Permission_Any, *rbacconfigv3.Permission_UrlPath:
		return nil
	case *rbacconfigv3.Permission_AndRules:
		return each(of.AndRules.GetRules())
	case *rbacconfigv3.Permission_OrRules:
		return each(of.OrRules.GetRules())
	case *rbacconfigv3.Permission_NotRule:
		return checkPermission(of.NotRule)
	case *rbacconfigv3.Permission_Header:
		switch of.Header.GetName() {
		case ":method", ":authority":
			return nil
		case pathField:
			return errors.New("a query")
		}
		return errors.New("headers")
	}
	return errors.New("end users")
}

// errNever says that no call of gRPC is like that: the route is none for such callers.
var errNever = errors.New("no call of gRPC fits")

// callMatch is the form of a match that gRPC reads: paths have three forms, and no header tells the path.
func (c Conditions) callMatch(m model.Match) (*routev3.RouteMatch, error) {
	for _, t := range m.When {
		if dim, _ := t.Dim.Of(); t.Dim == space.PathDim {
			if !t.Not {
				return nil, errors.New("a path whose capitals and small letters are the same")
			}
			return nil, errors.New("which path they do not have")
		} else if c[dim.Name].lower == nil {
			return nil, errors.New(string(t.Dim))
		}
	}
	out, err := c.routeMatch(m)
	if err != nil {
		return nil, err
	}
	if p := out.GetPathSeparatedPrefix(); p != "" {
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regexp.QuoteMeta(p) + "(?:/.*)?"}}
	}
	return out, nil
}

// callMethod is a test of the method, which calls of gRPC have in common.
func callMethod(_ *routev3.RouteMatch, _ string, t space.Test) error {
	if t.Admits("POST") {
		return nil
	}
	return errNever
}

// callHeader is a test of what a program has written as metadata. gRPC joins several values of one key; keys for
// bytes it leaves alone (gRFC A28), and a key that is not there is like nothing and unlike nothing.
func callHeader(lower func(*routev3.RouteMatch, string, space.Test) error) func(*routev3.RouteMatch, string, space.Test) error {
	return func(m *routev3.RouteMatch, name string, t space.Test) error {
		switch {
		case strings.HasSuffix(name, "-bin"), strings.HasPrefix(name, "grpc-"), strings.HasPrefix(name, ":"), slices.Contains([]string{"host", "te", "user-agent"}, name):
			return fmt.Errorf("header %q, which gRPC does not look at", name)
		case t.Not && len(t.Any) > 0 && !slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return takesEverything(p) || p.Kind == space.Present }):
			return fmt.Errorf("what header %q is not, which would leave those out that have none", name)
		}
		return lower(m, name, t)
	}
}
