package envoy

import (
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

// tlsGroups are the hosts at a port by the connections that are good for them, in the order
// of the first host of each.
func tlsGroups(g *model.Gateway, p model.Port) [][]model.Host {
	var out [][]model.Host
	for _, h := range g.HostsAt(p.Name) {
		if i := slices.IndexFunc(out, func(hs []model.Host) bool { return hs[0].TLS.Shares(h.TLS) }); i >= 0 {
			out[i] = append(out[i], h)
			continue
		}
		out = append(out, []model.Host{h})
	}
	return out
}

// tlsListener takes HTTPS: the name that a visitor asks for (SNI) chooses certificates and
// routes. Names that no host has are closed before a handshake.
func (e *emitter) tlsListener(g *model.Gateway, p model.Port, groups [][]model.Host) *entry {
	name := model.GatewayName(g.ID, p.Name)
	return e.getFresh("listener "+name, func(out *entry) {
		l := gatewayListener(g, p)
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		waitForHello(l, false)
		for _, hosts := range groups {
			routes := model.GatewayTLSName(g.ID, p.Name, hosts[0].TLS)
			m := e.gatewayManager(g, p, hosts, routes, out)
			for i, match := range matchesOf(hosts, otherHosts(g, p, hosts)) {
				chain := &listenerv3.FilterChain{
					Name:             routes,
					FilterChainMatch: match,
					TransportSocket:  visitorTLS(hosts[0].TLS),
					// A handshake that stands still holds a connection.
					TransportSocketConnectTimeout: Duration(hop.HelloTimeout),
					Filters:                       []*listenerv3.Filter{filter(filterHCM, m)},
				}
				if i > 0 {
					chain.Name += "/names"
				}
				l.FilterChains = append(l.FilterChains, chain)
			}
		}
		l.FilterChains = append(l.FilterChains, e.streamChains(g, p, out)...)
		believeProxies(l, g.Says[p.Name].Proxies)
		e.finishListener(g, l, out)
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// matchesOf take connections that ask for one of the hosts, by the longest name as routes
// do. The host "*" is no name: a match without names takes all others, and those that ask for
// none. Beside it, names that a wildcard of another group would take stand in a match of
// their own.
func matchesOf(hosts, others []model.Host) []*listenerv3.FilterChainMatch {
	all := &listenerv3.FilterChainMatch{TransportProtocol: transportTLS}
	taken := &listenerv3.FilterChainMatch{TransportProtocol: transportTLS}
	whole := false
	for _, h := range hosts {
		if h.Name == anyHost {
			whole = true
			continue
		}
		all.ServerNames = append(all.ServerNames, h.Name)
		if slices.ContainsFunc(others, func(o model.Host) bool { return model.HostCovers(o.Name, h.Name) }) {
			taken.ServerNames = append(taken.ServerNames, h.Name)
		}
	}
	if !whole {
		return []*listenerv3.FilterChainMatch{all}
	}
	all.ServerNames = nil
	if taken.ServerNames == nil {
		return []*listenerv3.FilterChainMatch{all}
	}
	return []*listenerv3.FilterChainMatch{all, taken}
}

// otherHosts are those at the port that connections for hosts are not good for.
func otherHosts(g *model.Gateway, p model.Port, hosts []model.Host) []model.Host {
	out := slices.DeleteFunc(g.HostsAt(p.Name), func(h model.Host) bool { return h.TLS.Shares(hosts[0].TLS) })
	for _, s := range g.Streams(p.Name) { // whose TLS the gateway does not end
		for _, n := range s.SNI {
			out = append(out, model.Host{Name: n})
		}
	}
	return out
}

const anyHost = "*"

// tlsConfig has the hosts of one group. Who asks for another one on a connection of theirs
// is told to open a connection for it (421, RFC 9110 section 15.5.20), as browsers do that
// reuse one because its certificate fits: not everything that was decided by the name of
// the connection holds for the other host.
func (e *emitter) tlsConfig(g *model.Gateway, p model.Port, hosts []model.Host) *entry {
	name := model.GatewayTLSName(g.ID, p.Name, hosts[0].TLS)
	return e.getFresh("route "+name, func(out *entry) {
		rc := &routev3.RouteConfiguration{Name: name}
		if g.HTTP3 && hosts[0].TLS.OverUDP() {
			rc.ResponseHeadersToAdd = append(rc.ResponseHeadersToAdd, alternative(p))
		}
		for _, h := range hosts {
			rc.VirtualHosts = append(rc.VirtualHosts, e.gatewayHost(g, h, out))
		}
		wrong := model.Misdirected(hosts, otherHosts(g, p, hosts))
		if !slices.ContainsFunc(hosts, func(h model.Host) bool { return h.Name == anyHost }) {
			wrong = append(wrong, anyHost)
		}
		if len(wrong) > 0 {
			rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: "misdirected", Domains: wrong, Routes: []*routev3.Route{answeredRoute("misdirected", 421)}})
		}
		e.sealRoutes(out, model.GatewayPath(g.ID), rc)
	})
}

// plainHost is a host as plain HTTP meets it. Where a proxy in front says that the visitor came
// by HTTPS, and is believed, that is no plain HTTP.
func (e *emitter) plainHost(g *model.Gateway, p model.Port, h model.Host, out *entry) *routev3.VirtualHost {
	if h.TLS == nil || h.TLS.Plain == model.PlainServe {
		return e.gatewayHost(g, h, out)
	}
	plain := answeredRoute("plain HTTP", 403)
	if h.TLS.Plain == model.PlainRedirect {
		plain = &routev3.Route{Name: "plain HTTP", Match: everyRequest(), Action: &routev3.Route_Redirect{Redirect: toHTTPS(p, g.TLSPort(h))}}
	}
	vh := virtualHost(h)
	switch {
	case g.TrustedHops > 0 && h.TLS.Client != nil:
		// Whom the proxy in front has asked for a certificate nobody knows: not this connection.
		vh.Routes = []*routev3.Route{answeredRoute("misdirected", 421)}
		plain.Match.Headers = []*routev3.HeaderMatcher{stringHeader(SchemeField, exactString(model.SchemeHTTP))}
	case g.TrustedHops > 0:
		vh = e.gatewayHost(g, h, out)
		plain.Match.Headers = []*routev3.HeaderMatcher{stringHeader(SchemeField, exactString(model.SchemeHTTP))}
	}
	vh.Routes = append([]*routev3.Route{plain}, vh.Routes...)
	return vh
}

// toHTTPS leads to the same place by HTTPS, with the method and body that the request had.
func toHTTPS(from, to model.Port) *routev3.RedirectAction {
	a := &routev3.RedirectAction{
		SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
		ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT,
	}
	if from.Number != 80 || to.Number != 443 { // between those two no port is written
		a.PortRedirect = to.Number
	}
	return a
}

func answeredRoute(name string, status uint32) *routev3.Route {
	return &routev3.Route{Name: name, Match: everyRequest(), Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}}
}

func everyRequest() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// certificatePatience is how long a listener waits for a certificate. Without it the
// connections that would be shown it are closed, and all others served; when it comes, theirs
// are too.
const certificatePatience = 2 * time.Second

// visitorTLS shows visitors one of the certificates, which the agent has.
func visitorTLS(t *model.HostTLS) *corev3.TransportSocket { return socket(visitorContext(t)) }

func visitorContext(t *model.HostTLS) *tlsv3.DownstreamTlsContext {
	c := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			// Of TLS 1.2: forward secret and authenticated, as HTTP/2 asks (RFC 9113 section 9.2.2).
			CipherSuites: []string{
				"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
				"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
			},
		},
		AlpnProtocols: []string{"h2", "http/1.1"},
	}
	if len(t.Ciphers) > 0 {
		c.TlsParams.CipherSuites = t.Ciphers
	}
	if len(t.ALPN) > 0 {
		c.AlpnProtocols = t.ALPN
	}
	if t.Min == "1.3" {
		c.TlsParams.TlsMinimumProtocolVersion, c.TlsParams.CipherSuites = tlsv3.TlsParameters_TLSv1_3, nil
	}
	for _, x := range t.Certificates {
		s := secret(x.Ref().String())
		s.SdsConfig.InitialFetchTimeout = Duration(certificatePatience)
		c.TlsCertificateSdsSecretConfigs = append(c.TlsCertificateSdsSecretConfigs, s)
	}
	out := &tlsv3.DownstreamTlsContext{CommonTlsContext: c, RequireClientCertificate: Bool(false)}
	if t.Client != nil {
		askVisitors(out, t.Client)
	}
	return out
}

// askVisitors asks them for a certificate. Who shows one that does not count is closed, whether one
// is required or not; without roots, until the agent has some, everybody is.
func askVisitors(d *tlsv3.DownstreamTlsContext, t *model.ClientTLS) {
	v := &tlsv3.CertificateValidationContext{VerifyCertificateSpki: t.SPKI}
	for _, n := range t.SANs {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if strings.Contains(n, ":") {
			kind = tlsv3.SubjectAltNameMatcher_URI
		}
		v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: named(n)})
	}
	roots := secret(t.Ref().String())
	roots.SdsConfig.InitialFetchTimeout = Duration(certificatePatience)
	d.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{DefaultValidationContext: v, ValidationContextSdsSecretConfig: roots},
	}
	d.RequireClientCertificate = Bool(t.Required)
	// A session that is resumed shows no certificate: it would go on after the end of the one with which it began.
	d.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true}
	d.DisableStatefulSessionResumption = true
}
