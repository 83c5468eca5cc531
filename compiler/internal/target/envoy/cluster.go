package envoy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// ConnectTimeout bounds the opening of a connection where nothing else is written: Envoy's default
// (Cluster.connect_timeout).
const ConnectTimeout = 5 * time.Second

// loopback is where applications listen with explicit capture; the sources are a
// transparent sidecar's own addresses towards them, which redirection rules leave alone.
const (
	loopback        = "127.0.0.1"
	inboundSource   = "127.0.0.6"
	inboundSourceV6 = "::6"
)

// serviceCluster is the upstream for one version's port, and the protocol options that it is to
// get, nil for bytes.
func (e *emitter) serviceCluster(s *model.Service, p model.Port, v model.Version) (*clusterv3.Cluster, *upstreamv3.HttpProtocolOptions, *release.Endpoints, error) {
	name := model.ClusterName(s.ID, p.Name, v.Name)
	static := v.Endpoints.Static
	if host := v.Host(p); host != "" {
		static = []string{net.JoinHostPort(host, strconv.FormatUint(uint64(v.ListenPort(p)), 10))}
	}
	c, live, err := newCluster(name, static, v.Endpoints)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, w := range v.Endpoints.Workloads {
		if live != nil {
			at := net.JoinHostPort(w.Address, strconv.FormatUint(uint64(v.ListenPort(p)), 10))
			live.Workloads = append(live.Workloads, release.Workload{Address: at, Region: w.Region, Zone: w.Zone, Weight: w.Weight})
		}
	}
	if p.MTLS == model.Disable {
		return c, protocolOptions(p.Protocol, fromMesh()), live, nil
	}
	c.TransportSocket = upstreamTLS(s.Name+"."+s.Namespace, p.Protocol.IsHTTP(), e.named(s.Classes(v)), e.roots())
	if !p.Protocol.IsHTTP() {
		return c, nil, live, nil
	}
	return c, protocolOptions(model.HTTP2, fromMesh()), live, nil // between sidecars, whatever the application speaks
}

// externalCluster is the upstream for an external's port, as it is without features.
func externalCluster(x *model.External, p model.Port) (*clusterv3.Cluster, *release.Endpoints, error) {
	at := x.At(p)
	switch {
	case x.Proxy != "":
		return proxied(x, p), nil, nil
	case at.Dynamic:
		return lookedUp(x, p), nil, nil
	}
	return newCluster(x.Upstream(p.Name), at.Static, at)
}

// localCluster is the application behind a sidecar: on the loopback, or (redirection)
// where the connection would have gone without the sidecar.
func (e *emitter) localCluster(s *model.Service, p model.Port, v model.Version) *clusterv3.Cluster {
	name := model.LocalClusterName(s.ID, p.Name, v.Name)
	var c *clusterv3.Cluster
	if e.m.Capture == model.Transparent {
		c = originalDestination(name)
		c.UpstreamBindConfig = &corev3.BindConfig{
			SourceAddress:        socketAddress(inboundSource, 0),
			ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: socketAddress(inboundSourceV6, 0)}},
		}
		if app := v.AppListenPort(p); app != e.inboundNumber(v, p) {
			c.LbConfig = &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{UpstreamPortOverride: UInt32(app)}}
		}
	} else {
		c = baseCluster(name)
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LoadAssignment = assignment(name, []*corev3.Address{address(loopback, v.AppListenPort(p))})
	}
	speak(c, protocolOptions(p.Protocol, fromApps()))
	return c
}

func baseCluster(name string) *clusterv3.Cluster {
	c := &clusterv3.Cluster{Name: name, ConnectTimeout: Duration(ConnectTimeout)}
	unbounded(c)
	return c
}

// newCluster chooses between addresses that are written in intent (STATIC,
// inline: they are policy) and live ones (EDS, listed in the snapshot).
func newCluster(name string, static []string, ep model.Endpoints) (*clusterv3.Cluster, *release.Endpoints, error) {
	c := baseCluster(name)
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST // unless a feature chooses in another way
	if len(static) == 0 && !ep.None {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()}
		// A host that discovery dropped must go even while it counts as healthy.
		c.IgnoreHealthOnHostRemoval = true
		return c, &release.Endpoints{Cluster: name, File: ep.File, DNS: ep.DNS}, nil
	}
	addrs := make([]*corev3.Address, len(static))
	for i, text := range static {
		ap, err := netip.ParseAddrPort(text)
		if err != nil || ap.Port() == 0 {
			return nil, nil, fmt.Errorf("address %q is not an IP address and a port", text)
		}
		addrs[i] = address(ap.Addr().String(), uint32(ap.Port()))
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = assignment(name, addrs)
	return c, nil, nil
}

func assignment(name string, addrs []*corev3.Address) *endpointv3.ClusterLoadAssignment {
	if len(addrs) == 0 {
		return &endpointv3.ClusterLoadAssignment{ClusterName: name}
	}
	group := &endpointv3.LocalityLbEndpoints{}
	for _, a := range addrs {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{group}}
}

// protocolOptions fix what is spoken upstream, with what is taken of answers there; nil for bytes.
// Explicit, never by ALPN: the word that our listeners choose must not decide it.
func protocolOptions(p model.Protocol, a answers) *upstreamv3.HttpProtocolOptions {
	explicit := &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch p {
	case model.TCP, model.TLS:
		return nil
	case model.HTTP:
		explicit.ProtocolConfig = &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	default:
		explicit.ProtocolConfig = &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: poolHTTP2(a),
		}
	}
	return &upstreamv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: a.options(),
		UpstreamProtocolOptions:   &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}

// speak gives a cluster its protocol options, once all has been said of them.
func speak(c *clusterv3.Cluster, o *upstreamv3.HttpProtocolOptions) {
	if o != nil {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pack(o)}
	}
}

// buildServiceCluster makes the resource of a service's cluster with the traits of the
// service and of the routes that send to it.
func (e *emitter) buildServiceCluster(t target, routes []routeTrait, out *entry) {
	path := model.ServicePath(t.service.ID)
	if len(t.behind) > 0 {
		if first, _ := e.versionCluster(t, routes, &entry{}); first != nil { // whose own entry tells of problems
			c := e.withBehind(first, t, out)
			e.seal(out, release.ClusterType, c.Name, path, c)
		}
		return
	}
	c, live := e.versionCluster(t, routes, out)
	if c == nil {
		return
	}
	out.discovers(live)
	e.seal(out, release.ClusterType, c.Name, path, c)
}

// versionCluster is the cluster of a version at a port; nil after a problem.
func (e *emitter) versionCluster(t target, routes []routeTrait, out *entry) (*clusterv3.Cluster, *release.Endpoints) {
	s, p, v := t.service, t.port, t.version
	path := model.ServicePath(s.ID)
	c, http, live, err := e.serviceCluster(s, p, v)
	if e.grpc && err == nil {
		c, live = e.callCluster(c, live, t, out)
		http = nil
	}
	if err != nil {
		out.problem(diag.New(diag.CodeAddress, e.at(path), "version %q of service %q: %v", v.Name, s.ID, err))
		return nil, nil
	}
	x := Ctx{Mesh: e.m, Service: s, Port: p, Version: v, Protocol: http, Live: live, path: path, out: out, locate: e.at, keys: e.profile.Keys}
	x.said = s.TraitsTo(p.Name, v.Name)
	e.applyTraits(c, s.TraitsTo(p.Name, v.Name), x)
	e.applyRouteTraits(c, routes, x)
	speak(c, http)
	e.finish(c, s.TraitsTo(p.Name, v.Name), &x)
	return c, live
}

func (e *emitter) buildExternalCluster(t target, routes []routeTrait, out *entry) {
	if t.via {
		e.buildViaCluster(t, routes, out)
		return
	}
	path := model.ExternalPath(t.external.ID)
	c, live, err := externalCluster(t.external, t.port)
	if err != nil {
		out.problem(diag.New(diag.CodeAddress, e.at(path), "external %q: %v", t.external.ID, err))
		return
	}
	http := protocolOptions(t.port.Protocol.Plain(), fromApps())
	x := Ctx{Mesh: e.m, External: t.external, Port: t.port, Protocol: http, Live: live, path: path, out: out, locate: e.at, keys: e.profile.Keys}
	e.applyTraits(c, t.external.TraitsAt(t.port), x)
	if t.external.Endpoints.Dynamic && t.port.Protocol.Secured() {
		proveNames(http)
	}
	if t.port.Protocol.Secured() && c.TransportSocket == nil { // never in plaintext, whatever features there are
		out.problem(diag.New(diag.CodeInconsistent, e.at(path), "port %q of external %q speaks TLS, and nothing says how", t.port.Name, t.external.ID))
		return
	}
	e.applyRouteTraits(c, routes, x)
	speak(c, http)
	out.discovers(live)
	if proxy := t.external.Proxy; proxy != "" {
		c.TransportSocket = connects(c.TransportSocket)
		out.need(release.ListenerType, proxyName+proxy)
	}
	e.seal(out, release.ClusterType, c.Name, path, c)
}

// applyTraits lets the callee's own traits have their say.
func (e *emitter) applyTraits(c *clusterv3.Cluster, traits trait.Set, x Ctx) {
	for _, name := range traits.Names() {
		if f := e.cells[name].Lowering.cluster; f != nil {
			value, _ := traits.Lookup(name)
			f(c, value, &x)
		}
	}
}

func (e *emitter) applyRouteTraits(c *clusterv3.Cluster, routes []routeTrait, x Ctx) {
	for _, r := range routes {
		x.path = r.path
		e.cells[r.value.TraitName()].Lowering.routeClusters(c, r.value, &x)
	}
}
