package envoy

import (
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	quicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

const (
	// socketQUIC is the canonical name of the transport socket, by which Envoy looks for it.
	socketQUIC = "envoy.transport_sockets.quic"
	// transportQUIC is what a filter chain calls it.
	transportQUIC = "quic"
	// alternativeFor is how long a visitor keeps in mind that there is HTTP/3.
	alternativeFor = 24 * time.Hour
)

// overUDP are the groups of hosts that are reached by HTTP/3.
func overUDP(g *model.Gateway, groups [][]model.Host) [][]model.Host {
	return slices.DeleteFunc(slices.Clone(groups), func(hosts []model.Host) bool { return !g.HTTP3 || !hosts[0].TLS.OverUDP() })
}

// quicListener takes HTTP/3 beside a port of HTTPS: the same names choose the same certificates and the same
// route configurations. What a port passes on without ending its TLS is TCP's alone.
func (e *emitter) quicListener(g *model.Gateway, p model.Port, groups [][]model.Host) *entry {
	name := model.GatewayQUICName(g.ID, p.Name)
	return e.getFresh("listener "+name, func(out *entry) {
		l := gatewayListener(g, p)
		l.Name = name
		l.Address.GetSocketAddress().Protocol = corev3.SocketAddress_UDP
		l.UdpListenerConfig = &listenerv3.UdpListenerConfig{QuicOptions: &listenerv3.QuicProtocolOptions{}}
		// Each worker has a socket of its own, or packets of one connection come to several. Another Envoy cannot
		// share the port in silence: the listener beside it, of TCP, does without.
		l.EnableReusePort = Bool(true)
		for _, hosts := range groups {
			routes := model.GatewayTLSName(g.ID, p.Name, hosts[0].TLS)
			m := e.gatewayManager(g, p, hosts, routes, out)
			m.CodecType = hcmv3.HttpConnectionManager_HTTP3
			m.Http3ProtocolOptions = http3(hop.At(hop.Gateway))
			for i, match := range matchesOf(hosts, otherHosts(g, p, hosts)) {
				match.TransportProtocol = transportQUIC
				chain := &listenerv3.FilterChain{
					Name:             routes,
					FilterChainMatch: match,
					TransportSocket:  visitorQUIC(hosts[0].TLS),
					Filters:          []*listenerv3.Filter{filter(filterHCM, m)},
				}
				if i > 0 {
					chain.Name += "/names"
				}
				l.FilterChains = append(l.FilterChains, chain)
			}
		}
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// http3 is HTTP/3 on one connection, bounded as HTTP/2 is.
func http3(l hop.Limits) *corev3.Http3ProtocolOptions {
	return &corev3.Http3ProtocolOptions{
		QuicProtocolOptions: &corev3.QuicProtocolOptions{
			MaxConcurrentStreams:        UInt32(l.Streams),
			InitialStreamWindowSize:     UInt32(l.StreamWindow),
			InitialConnectionWindowSize: UInt32(l.ConnectionWindow),
		},
		OverrideStreamErrorOnInvalidHttpMessage: Bool(true),
	}
}

// visitorQUIC is visitorTLS for QUIC, which is TLS 1.3 always. Early data would be requests that whoever has
// recorded them can send again.
func visitorQUIC(t *model.HostTLS) *corev3.TransportSocket {
	of := visitorContext(t)
	of.CommonTlsContext.TlsParams, of.CommonTlsContext.AlpnProtocols = nil, nil
	return &corev3.TransportSocket{Name: socketQUIC, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&quicv3.QuicDownstreamTransport{
		DownstreamTlsContext: of, EnableEarlyData: Bool(false),
	})}}
}

// alternative tells visitors of HTTP/3 at the same number, where an answer says nothing of that itself.
func alternative(p model.Port) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "alt-svc", Value: fmt.Sprintf(`h3=":%d"; ma=%d`, p.Number, int(alternativeFor.Seconds()))},
		AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
	}
}
