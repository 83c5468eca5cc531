package envoy

import (
	"cmp"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

// Canonical names of the extensions of a listener.
const (
	filterHCM          = "envoy.filters.network.http_connection_manager"
	filterTCP          = "envoy.filters.network.tcp_proxy"
	filterRBAC         = "envoy.filters.network.rbac"
	filterDirect       = "envoy.filters.network.direct_response"
	listenerTLS        = "envoy.filters.listener.tls_inspector"
	listenerDst        = "envoy.filters.listener.original_dst"
	transportTLS       = "tls"
	transportPlaintext = "raw_buffer"
)

// newListener is a listener without chains. enable_reuse_port is off: with it
// two Envoys on one port both start and share its connections in silence.
func newListener(name, host string, port uint32, dir corev3.TrafficDirection) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             name,
		Address:          address(host, port),
		TrafficDirection: dir,
		EnableReusePort:  Bool(false),
		// A gateway sets its own.
		PerConnectionBufferLimitBytes: UInt32(hop.At(hop.Inbound).Buffer),
	}
}

// place is where an HTTP connection manager stands, which decides whom it trusts.
type place int

const (
	atCaller  place = iota // a workload's own requests
	atCallee               // requests from other proxies
	atGateway              // requests from anyone
	atExit                 // requests from other proxies for what is outside
)

// httpManager is httpManager, and notes the routes' name.
func (n *entry) httpManager(at place, routes string) *listenerv3.Filter {
	n.need(release.RouteType, routes)
	return httpManager(at, routes)
}

// ownManager is the manager where a service or a gateway takes requests, with what its
// traits say of them.
func (e *emitter) ownManager(at place, routes string, traits trait.Set, x Ctx, out *entry) *hcmv3.HttpConnectionManager {
	out.need(release.RouteType, routes)
	m := manager(at, routes)
	x.Mesh, x.out, x.locate, x.keys = e.m, out, e.at, e.profile.Keys
	for _, name := range traits.Names() {
		if f := e.cells[name].Lowering.manager; f != nil {
			v, _ := traits.Lookup(name)
			f(m, v, &x)
		}
	}
	e.finish(m, traits, &x)
	return m
}

// httpManager is the HTTP connection manager for a route configuration.
func httpManager(at place, routes string) *listenerv3.Filter {
	return filter(filterHCM, manager(at, routes))
}

func manager(at place, routes string) *hcmv3.HttpConnectionManager {
	s := outbound
	if at == atCallee || at == atExit {
		s = inbound
	}
	h := &hcmv3.HttpConnectionManager{
		StatPrefix:  routes,
		CodecType:   hcmv3.HttpConnectionManager_AUTO,
		HttpFilters: standIn(s),
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: adsSource(), RouteConfigName: routes,
		}},
		// One spelling per path and host before anything matches them.
		NormalizePath:                 Bool(true),
		MergeSlashes:                  true,
		PathWithEscapedSlashesAction:  hcmv3.HttpConnectionManager_REJECT_REQUEST,
		StripTrailingHostDot:          true,
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{earlyMutations(at.door(), false)},
		// Nobody is internal. Envoy then removes x-envoy-retry-on, x-envoy-upstream-rq-timeout-ms
		// and their kin from every request, so that a client cannot change retries or timeouts.
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: UInt32(32)}},
		},
		UseRemoteAddress: Bool(at == atGateway),
	}
	limitRequests(h, at.door())
	switch at {
	case atExit: // what is behind learns nothing of who calls
		h.LocalReplyConfig = notAnswered()
	case atCallee:
		// The caller's identity, from its certificate only.
		h.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		h.LocalReplyConfig = notAnswered()
		h.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	case atGateway:
		// "x_role" and "x-role" are one header to many applications.
		h.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_REJECT_REQUEST
	case atCaller: // its own application: nothing to add
	}
	return h
}

// notAnswered marks what this proxy answers because its application did not: the caller's
// proxy sees an answer either way, and could not tell what is safe to send again.
func notAnswered() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		// There was no connection, or the application closed it, or reset the stream.
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"UF", "UC", "UR"}},
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{notAnsweredMark()},
	}}}
}

// notAnsweredMark is why there was no answer; what an application answers has other details, which no caller's
// proxy looks for.
func notAnsweredMark() *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: hop.NotAnswered, Value: "%RESPONSE_CODE_DETAILS%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// AnswerFilter holds for the answers of a proxy for which an expression in CEL does; one that fails does not hold.
func AnswerFilter(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{ExtensionFilter: &accesslogv3.ExtensionFilter{
		Name:       "envoy.access_loggers.extension_filters.cel",
		ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{Expression: expression})},
	}}}
}

// tcpProxy forwards bytes to weighted clusters, and notes their names.
func (n *entry) tcpProxy(name string, shares []share) *listenerv3.Filter {
	return filter(filterTCP, n.forwardBytes(name, shares))
}

func (n *entry) forwardBytes(name string, shares []share) *tcpv3.TcpProxy {
	t := &tcpv3.TcpProxy{StatPrefix: name}
	n.needClusters(shares)
	if len(shares) == 1 {
		t.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: shares[0].cluster}
		return t
	}
	w := &tcpv3.TcpProxy_WeightedCluster{}
	for _, s := range shares {
		w.Clusters = append(w.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{Name: s.cluster, Weight: s.weight})
	}
	t.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: w}
	return t
}

// closeFilter ends a connection without a byte.
func closeFilter() *listenerv3.Filter { return filter(filterDirect, &directv3.Config{}) }

func filter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)}}
}

func tlsInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: listenerTLS, ConfigType: &listenerv3.ListenerFilter_TypedConfig{
		TypedConfig: pack(&tlsinspectorv3.TlsInspector{}),
	}}
}

// waitForHello bounds how long a connection may keep a listener waiting for the first
// bytes, which tell mTLS from plaintext. Where plaintext is taken, silence then counts as
// such: the server may be the one that speaks first.
func waitForHello(l *listenerv3.Listener, plaintext bool) {
	l.ListenerFiltersTimeout = Duration(hop.HelloTimeout)
	l.ContinueOnListenerFiltersTimeout = plaintext
}

// outboundListener is the loopback port at which a workload calls a destination
// (explicit capture). suffix tells two ports for one destination apart.
func (e *emitter) outboundListener(t target, local uint32, suffix string) *entry {
	routes := model.OutboundName(t.id(), t.port.Name)
	name := routes + suffix
	return e.get("listener "+name+" "+portText(local), []given{t.given()}, func(out *entry) {
		l := newListener(name, loopback, local, corev3.TrafficDirection_OUTBOUND)
		if t.port.Protocol == model.TLS {
			l.FilterChains = []*listenerv3.FilterChain{e.namedTLS(t, l, out)}
		} else {
			l.FilterChains = []*listenerv3.FilterChain{{Filters: e.outboundFilters(t, routes, out)}}
		}
		e.seal(out, release.ListenerType, name, t.path(), l)
	})
}

// outboundFilters ends a chain of the caller: routes for HTTP, clusters for bytes.
func (e *emitter) outboundFilters(t target, routes string, out *entry) []*listenerv3.Filter {
	if t.port.Protocol.IsHTTP() {
		return []*listenerv3.Filter{out.httpManager(atCaller, routes)}
	}
	shares := e.tcpShares(t)
	if len(shares) == 0 {
		return []*listenerv3.Filter{closeFilter()}
	}
	bytes := out.forwardBytes(routes, shares)
	x := Ctx{Mesh: e.m, Service: t.service, External: t.external, Port: t.port, path: t.path(), out: out, locate: e.at, keys: e.profile.Keys}
	e.ofDestinations(shares, func(l Lowering, vs []trait.Value) {
		if l.connectionsTo != nil {
			l.connectionsTo(bytes, vs, &x)
		}
	})
	if t.external != nil && t.external.Endpoints.Dynamic && !t.via {
		return append(lookUpName(t), filter(filterTCP, bytes))
	}
	return []*listenerv3.Filter{filter(filterTCP, bytes)}
}

// tcpShares are the destinations of a connection.
func (e *emitter) tcpShares(t target) []share {
	if t.external != nil {
		return e.shares(outsideTargets(t.external, t.port, []model.Target{{Weight: 1}}))
	}
	return e.shares(e.m.ServiceRoutes(t.service, t.port, t.from)[0].To)
}

// inboundListener is where the proxy of a version takes requests to one port
// (explicit capture).
func (e *emitter) inboundListener(s *model.Service, p model.Port, v model.Version) *entry {
	name := model.InboundName(s.ID, p.Name, v.Name)
	return e.get("listener "+name, bind{service: s, port: p, version: v}.given(), func(out *entry) {
		l := newListener(name, cmp.Or(v.Host(p), model.AnyIPv4), v.ListenPort(p), corev3.TrafficDirection_INBOUND)
		l.FilterChains = e.inboundChains(s, p, v, out)
		if len(l.FilterChains) > 1 {
			l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
			waitForHello(l, p.MTLS == model.Permissive)
			for i, transport := range []string{transportTLS, transportPlaintext} {
				l.FilterChains[i].FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transport}
			}
		}
		e.seal(out, release.ListenerType, name, model.ServicePath(s.ID), l)
	})
}

// inboundChains are the ways in: mTLS first, then plaintext, each present only
// if the port's mode has it. A strict port of which something is asked takes plaintext for
// that alone: other routes stand behind it.
func (e *emitter) inboundChains(s *model.Service, p model.Port, v model.Version, out *entry) []*listenerv3.FilterChain {
	var chains []*listenerv3.FilterChain
	if p.MTLS != model.Disable {
		foreign := s.Foreign(p)
		alpn, who := []string{"h2", "http/1.1"}, e.everyone(foreign...)
		if !p.Protocol.IsHTTP() {
			alpn, who = []string{alpnTCP}, e.admitted(s, p, e.access(s, p))
		}
		if len(who) == 0 {
			who = e.everyone() // the filters close all connections
		}
		chains = append(chains, &listenerv3.FilterChain{
			Name:            "mtls",
			TransportSocket: downstreamTLS(alpn, who, e.roots(foreign...)),
			Filters:         e.inboundFilters(s, p, v, transportTLS, out),
		})
	}
	switch {
	case p.MTLS != model.Strict:
		chains = append(chains, &listenerv3.FilterChain{
			Name:    "plaintext",
			Filters: e.inboundFilters(s, p, v, transportPlaintext, out),
		})
	case len(s.Asked(p)) > 0:
		chains = append(chains, &listenerv3.FilterChain{
			Name:    "asked",
			Filters: []*listenerv3.Filter{e.ownHTTP(s, p, v, model.AskedName(s.ID, p.Name, v.Name), out)},
		})
	}
	return chains
}

// named are the identities of proxy classes in each trust domain that is the mesh's own.
func (e *emitter) named(classes []release.Class) []string {
	var out []string
	for _, domain := range e.m.Domains() {
		for _, c := range classes {
			out = append(out, c.SPIFFEID(domain))
		}
	}
	return out
}

// everyone is any identity of the mesh's own trust domains and of some of others; routes decide further.
func (e *emitter) everyone(foreign ...string) []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	for _, domain := range slices.Concat(e.m.Domains(), foreign) {
		out = append(out, prefixString("spiffe://"+domain+"/"))
	}
	return out
}

// roots is the name of the secret with whose roots certificates are verified, of the mesh's own trust domains and of some of
// others.
func (e *emitter) roots(foreign ...string) string { return cmp.Or(e.m.Trust(foreign), SecretRoots) }

// strangers reports whether some policy admits callers without an identity.
func strangers(rules *rbacconfigv3.RBAC, grants []model.Grant) bool {
	return slices.ContainsFunc(grants, func(g model.Grant) bool { return g.Strangers(g.Not) && rules.Policies[g.Name] != nil })
}

// admitted are the identities that may open a TCP connection, in no order: those that
// grants admit, without those that denies refuse. The handshake already refuses the
// others: a server that speaks first would greet them before the network RBAC filter,
// which waits for the client's first byte. None means that nobody may.
func (e *emitter) admitted(s *model.Service, p model.Port, rules *rbacconfigv3.RBAC) []*matcherv3.StringMatcher {
	var in identities
	for _, g := range s.Grants {
		if _, ok := rules.Policies[g.Name]; ok {
			of := e.identities(g.Terms)
			if g.Anyone {
				of = append(of, whoever(s.Foreign(p))...)
			}
			in = append(in, of.without(e.identities(g.Not))...)
		}
	}
	refused := e.denials(p, s.Denies)
	for _, d := range s.Denies {
		if _, ok := refused.Policies[d.Name]; ok {
			in = append(in.without(e.identities(d.Terms)), in.with(e.identities(d.Not))...)
		}
	}
	return in.matchers()
}

// refusesStrangers reports whether a deny refuses all connections of callers without an
// identity.
func refusesStrangers(rules *rbacconfigv3.RBAC, ds []model.Deny) bool {
	return slices.ContainsFunc(ds, func(d model.Deny) bool { return d.Strangers(d.Not) && rules.Policies[d.Name] != nil })
}

// ownHTTP takes the callee's requests to a port by the routes of that name.
func (e *emitter) ownHTTP(s *model.Service, p model.Port, v model.Version, routes string, out *entry) *listenerv3.Filter {
	x := Ctx{Service: s, Port: p, Version: v, path: model.ServicePath(s.ID)}
	return filter(filterHCM, e.ownManager(atCallee, routes, s.TraitsAt(p.Name), x, out))
}

// inboundFilters end a chain of the callee.
func (e *emitter) inboundFilters(s *model.Service, p model.Port, v model.Version, transport string, out *entry) []*listenerv3.Filter {
	name := model.InboundName(s.ID, p.Name, v.Name)
	var who []*listenerv3.Filter
	if transport == transportTLS {
		who = append(who, oneIdentity(name))
	}
	if p.Protocol.IsHTTP() {
		return append(who, e.ownHTTP(s, p, v, name, out))
	}
	rules, denials := e.access(s, p), e.denials(p, s.Denies)
	closed := len(e.admitted(s, p, rules)) == 0
	if transport == transportPlaintext {
		closed = !strangers(rules, s.Grants) || refusesStrangers(denials, s.Denies)
	}
	if closed {
		return []*listenerv3.Filter{closeFilter()}
	}
	if len(denials.Policies) > 0 {
		who = append(who, filter(filterRBAC, &networkrbacv3.RBAC{StatPrefix: name + "/deny", Rules: denials}))
	}
	local := model.LocalClusterName(s.ID, p.Name, v.Name)
	return append(who,
		filter(filterRBAC, &networkrbacv3.RBAC{StatPrefix: name, Rules: rules}),
		out.tcpProxy(name, []share{{cluster: local, weight: 1}}))
}

func chainOf(fs ...*listenerv3.Filter) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Filters: fs}
}
