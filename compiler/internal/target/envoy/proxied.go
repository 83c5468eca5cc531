package envoy

import (
	"net/netip"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	http11proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/http_11_proxy/v3"
	proxyprotocolsocketv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// An external behind an HTTP proxy has a cluster that does all that the external and its routes say, TLS from end to
// end among it. Its connections go to the proxy and begin with a CONNECT for the external. Where the proxy is, Envoy
// takes as an IP address alone; because proxies have names, it is a listener of the same Envoy, without an address
// outside, that passes bytes on to the proxy's own cluster. (A listener that asks by CONNECT itself would lose what
// comes with the end of a connection: Envoy resets a stream of HTTP/1.1 then.)

const (
	// proxyName begins the names of clusters that lead to HTTP proxies, and of the listeners before them.
	proxyName   = "proxy/"
	socketProxy = "envoy.transport_sockets.http_11_proxy"
	socketRaw   = "envoy.transport_sockets.raw_buffer"
	// socketTelling says first whom a connection is for.
	socketTelling = "envoy.transport_sockets.upstream_proxy_protocol"
	// proxyOfEndpoint is where that socket looks for the proxy among the metadata of an endpoint.
	proxyOfEndpoint = "envoy.http11_proxy_transport_socket.proxy_address"
	// unreachable is the address of an external that its proxy alone looks up: nobody has it.
	unreachable = "240.0.0.0"
)

// proxied is the cluster for an external's port behind an HTTP proxy, without the socket that asks for it (connects).
func proxied(x *model.External, p model.Port) *clusterv3.Cluster {
	c := baseCluster(x.Upstream(p.Name))
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: askedFor(x.At(p))},
			Metadata: &corev3.Metadata{TypedFilterMetadata: map[string]*anypb.Any{proxyOfEndpoint: pack(&corev3.Address{
				Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
					AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: proxyName + x.Proxy},
				}},
			})}},
		}},
	}}}
	return c
}

// askedFor is what the proxy is asked for: an address, or a name with the port of an address.
func askedFor(at model.Endpoints) *endpointv3.Endpoint {
	for _, text := range at.Static {
		if ap, err := netip.ParseAddrPort(text); err == nil {
			return &endpointv3.Endpoint{Address: address(ap.Addr().String(), uint32(ap.Port()))}
		}
	}
	host, text, _ := strings.Cut(at.DNS, ":")
	port, _ := strconv.ParseUint(text, 10, 16) // resolve has told what is none
	return &endpointv3.Endpoint{Hostname: host, Address: address(unreachable, uint32(port))}
}

// connects is a socket that first asks the endpoint's proxy for the endpoint, and then is the one within.
func connects(within *corev3.TransportSocket) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: socketProxy, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: pack(&http11proxyv3.Http11ProxyUpstreamTransport{TransportSocket: orPlain(within)}),
	}}
}

// orPlain is a socket, or one of bytes as they are.
func orPlain(s *corev3.TransportSocket) *corev3.TransportSocket {
	if s != nil {
		return s
	}
	return &corev3.TransportSocket{Name: socketRaw, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&rawv3.RawBuffer{})}}
}

// Telling is a socket that first says whom a connection is for, by that version of the PROXY protocol, and then is
// the one within.
func Telling(version string, within *corev3.TransportSocket) *corev3.TransportSocket {
	by := &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V1}
	if version == "v2" {
		by.Version = corev3.ProxyProtocolConfig_V2
	}
	return &corev3.TransportSocket{Name: socketTelling, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: pack(&proxyprotocolsocketv3.ProxyProtocolUpstreamTransport{Config: by, TransportSocket: orPlain(within)}),
	}}
}

// proxies adds the HTTP proxies of the externals that the class needs, each on behalf of the first of them.
func (s *snapshot) proxies(e *emitter, n needs) {
	first := map[string]*model.External{}
	for _, k := range n {
		x := k.target.external
		if x == nil || x.Proxy == "" {
			continue
		}
		if f := first[x.Proxy]; f == nil || x.ID < f.ID {
			first[x.Proxy] = x
		}
	}
	for _, x := range first {
		s.entries = append(s.entries, e.proxyListener(x), e.proxyCluster(x))
	}
}

// proxyListener passes bytes of this Envoy on to an external's HTTP proxy.
func (e *emitter) proxyListener(x *model.External) *entry {
	name := proxyName + x.Proxy
	return e.get("listener "+name+" of "+x.ID, []given{{external: x}}, func(out *entry) {
		e.seal(out, release.ListenerType, name, model.ExternalPath(x.ID), &listenerv3.Listener{
			Name: name, TrafficDirection: corev3.TrafficDirection_OUTBOUND,
			ListenerSpecifier:             &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
			PerConnectionBufferLimitBytes: newListener(name, "", 0, corev3.TrafficDirection_OUTBOUND).PerConnectionBufferLimitBytes,
			FilterChains:                  []*listenerv3.FilterChain{chainOf(out.tcpProxy(name, []share{{cluster: name, weight: 1}}))},
		})
	})
}

// proxyCluster leads to an external's HTTP proxy.
func (e *emitter) proxyCluster(x *model.External) *entry {
	name := proxyName + x.Proxy
	return e.get("cluster "+name+" of "+x.ID, []given{{external: x}}, func(out *entry) {
		path, at := model.ExternalPath(x.ID), x.ProxyAt()
		c, live, err := newCluster(name, at.Static, at)
		if err != nil {
			out.problem(diag.New(diag.CodeAddress, e.at(path), "the proxy of external %q: %v", x.ID, err))
			return
		}
		out.discovers(live)
		e.seal(out, release.ClusterType, name, path, c)
	})
}
