package stream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/testca"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/stream"
	"meshc.dev/meshc/xds-server/internal/view"
)

const trustDomain = "mesh.local"

var shop = release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}

// classSpec is a class of a release under construction.
type classSpec struct {
	class release.Class
	res   []proto.Message
	live  []release.Endpoints
	// forgets is whether the release leaves out that resources of a type need others of a type.
	forgets func(from, to release.TypeURL) bool
}

func urlOf(m proto.Message) release.TypeURL {
	return "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

// seal makes a release of classes. Each blob's provenance is NAME.cue:7.
func seal(t testing.TB, specs ...classSpec) release.Release {
	t.Helper()
	var arts []release.Artifact
	prov := release.Provenance{}
	for _, s := range specs {
		snap := release.Snapshot{Class: s.class, TrustDomain: trustDomain, Resources: map[release.TypeURL][]release.Resource{}, Endpoints: s.live}
		for _, m := range s.res {
			raw, err := canon.Proto(m)
			if err != nil {
				t.Fatal(err)
			}
			d := canon.Digest(raw)
			arts = append(arts, release.Artifact{Path: release.BlobPath(d), Bytes: raw})
			prov[release.BlobPath(d)] = diag.Pos{File: nameOf(m) + ".cue", Line: 7}
			snap.Resources[urlOf(m)] = append(snap.Resources[urlOf(m)], release.Resource{Name: nameOf(m), Digest: d, Needs: s.declared(t, m)})
		}
		raw, err := canon.JSON(snap)
		if err != nil {
			t.Fatal(err)
		}
		arts = append(arts, release.Artifact{Path: release.SnapshotPath(s.class), Bytes: raw})
	}
	r, err := release.Seal(arts, release.Inputs{}, prov)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// declared are the references of a message as the release has them.
func (s classSpec) declared(t testing.TB, m proto.Message) release.References {
	refs := s.needsOf(t, m)
	maps.DeleteFunc(refs, func(to release.TypeURL, _ []string) bool { return s.forgets != nil && s.forgets(urlOf(m), to) })
	return refs
}

// needsOf are the references of the messages that these tests make. A cluster whose
// addresses nobody knows of needs none.
func (s classSpec) needsOf(t testing.TB, m proto.Message) release.References {
	t.Helper()
	refs := release.References{}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		known := slices.ContainsFunc(s.live, func(e release.Endpoints) bool { return e.Cluster == m.GetName() }) ||
			slices.ContainsFunc(s.res, func(r proto.Message) bool { return urlOf(r) == release.EndpointType && nameOf(r) == m.GetName() })
		if m.GetType() == clusterv3.Cluster_EDS && known {
			refs.Add(release.EndpointType, m.GetName())
		}
	case *listenerv3.Listener:
		boxes := []*anypb.Any{m.GetApiListener().GetApiListener()}
		for _, c := range m.GetFilterChains() {
			for _, f := range c.GetFilters() {
				boxes = append(boxes, f.GetTypedConfig())
			}
		}
		for _, b := range boxes {
			if b == nil {
				continue
			}
			inner, err := b.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			switch f := inner.(type) {
			case *hcmv3.HttpConnectionManager:
				refs.Add(release.RouteType, f.GetRds().GetRouteConfigName())
				for _, l := range f.GetAccessLog() {
					var otel otelv3.OpenTelemetryAccessLogConfig
					if err := l.GetTypedConfig().UnmarshalTo(&otel); err != nil {
						t.Fatal(err)
					}
					refs.Add(release.ClusterType, otel.GetGrpcService().GetEnvoyGrpc().GetClusterName())
				}
			case *tcpv3.TcpProxy:
				refs.Add(release.ClusterType, f.GetCluster())
			}
		}
	case *routev3.RouteConfiguration:
		for _, vh := range m.GetVirtualHosts() {
			all := vh.GetRoutes()
			for _, leaf := range vh.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap() {
				var list routev3.RouteList
				if err := leaf.GetAction().GetTypedConfig().UnmarshalTo(&list); err != nil {
					t.Fatal(err)
				}
				all = append(all, list.GetRoutes()...)
			}
			for _, r := range all {
				refs.Add(release.ClusterType, r.GetRoute().GetCluster())
				for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
					refs.Add(release.ClusterType, w.GetName())
				}
			}
		}
	}
	return refs
}

// edsCluster is a cluster with live endpoints; the timeout makes versions differ.
func edsCluster(name string, timeout time.Duration) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(timeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
	}
}

func socketAddress(host string, port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func assignment(name string, port int) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		Locality: &corev3.Locality{}, LoadBalancingWeight: wrapperspb.UInt32(1),
		LbEndpoints: []*endpointv3.LbEndpoint{{LoadBalancingWeight: wrapperspb.UInt32(1), HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: socketAddress("127.0.0.1", port)},
		}}},
	}}}
}

func routes(name, cluster string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}},
	}}}
}

func boxed(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func hcm(t testing.TB, prefix, rds string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: prefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: rds, ConfigSource: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: boxed(t, &routerv3.Router{})},
		}},
	}
}

func listener(t testing.TB, name string, port int, rds string) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name, Address: socketAddress("127.0.0.1", port),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: boxed(t, hcm(t, name, rds))},
		}}}},
	}
}

// counts is a meter that remembers.
type counts struct {
	mu       sync.Mutex
	refused  map[string]int
	pushed   map[view.Type]int
	answers  map[ledger.State]int
	held     int
	ignored  int
	unwanted int
	open     int
}

func newCounts() *counts {
	return &counts{refused: map[string]int{}, pushed: map[view.Type]int{}, answers: map[ledger.State]int{}}
}

func (c *counts) with(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

func (c *counts) heldClasses() (n int) { c.with(func() { n = c.held }); return n }

func (c *counts) Connected(_ string, n int) { c.with(func() { c.open += n }) }
func (c *counts) Refused(reason string)     { c.with(func() { c.refused[reason]++ }) }
func (c *counts) Pushed(t view.Type, _ int) { c.with(func() { c.pushed[t]++ }) }
func (c *counts) Held(n int)                { c.with(func() { c.held = n }) }
func (c *counts) Ignored(n int)             { c.with(func() { c.ignored = n }) }
func (c *counts) Unwanted(n int)            { c.with(func() { c.unwanted += n }) }
func (c *counts) Answered(_ view.Type, s ledger.State, _ time.Duration) {
	c.with(func() { c.answers[s]++ })
}

// server is a hub behind mutual TLS.
type server struct {
	hub    *stream.Hub
	ledger *ledger.Ledger
	counts *counts
	ca     *authority
	dial   func(context.Context, string) (net.Conn, error)
	addr   string
	lines  *atomic.Int64 // logged
	facts  *evidence.Log
	place  int64
	denied atomic.Pointer[denials]
	// uncompared is why releases cannot be compared; a class may always be taken back
	// otherwise.
	uncompared atomic.Pointer[error]
	ahead      atomic.Int64 // by which the wall clock is wrong, a time.Duration
}

// wall is what the wall clock says.
func (s *server) wall() time.Time { return time.Now().Round(0).Add(time.Duration(s.ahead.Load())) }

// denials is what the list of who is denied says.
type denials struct {
	ids map[string]bool
	err error
}

func (s *server) whoIsDenied() (map[string]bool, error) {
	if d := s.denied.Load(); d != nil {
		return d.ids, d.err
	}
	return nil, nil
}

func (s *server) narrows(_, _ release.Release) (bool, error) {
	if err := s.uncompared.Load(); err != nil {
		return false, *err
	}
	return false, nil
}

// lineCounter is a log that counts.
type lineCounter struct{ n *atomic.Int64 }

func (l lineCounter) Write(b []byte) (int, error) { l.n.Add(1); return len(b), nil }

func newHub(l stream.Limits, now func() time.Time, facts *evidence.Log, denied func() (map[string]bool, error), narrows func(_, _ release.Release) (bool, error), lines *atomic.Int64) (*stream.Hub, *ledger.Ledger, *counts) {
	led, c := ledger.New(now), newCounts()
	hub := stream.NewHub(stream.Config{
		TrustDomain: trustDomain, Limits: l, Evidence: facts, Ledger: led, Meter: c, Now: now,
		Log:     slog.New(slog.NewTextHandler(lineCounter{lines}, nil)),
		Narrows: narrows,
		Denied:  denied,
	})
	facts.Watch(hub.Learned)
	return hub, led, c
}

// remember makes evidence that lives in memory.
func remember(t testing.TB) *evidence.Log {
	t.Helper()
	l, err := evidence.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start serves a hub on a free port of the loopback.
func start(t testing.TB, l stream.Limits) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, lis, l)
	s.addr = lis.Addr().String()
	s.dial = func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.addr)
	}
	return s
}

func serve(t testing.TB, lis net.Listener, l stream.Limits) *server {
	t.Helper()
	s := &server{ca: newAuthority(t), lines: new(atomic.Int64), facts: remember(t)}
	s.hub, s.ledger, s.counts = newHub(l, s.wall, s.facts, s.whoIsDenied, s.narrows, s.lines)
	g := grpc.NewServer(grpc.ForceServerCodecV2(store.Codec()), grpc.Creds(credentials.NewTLS(s.ca.serverTLS())), grpc.MaxRecvMsgSize(4<<20))
	s.hub.Register(g)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(lis) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return s
}

func (s *server) publish(t testing.TB, commit string, r release.Release) {
	t.Helper()
	s.place++
	s.publishAt(t, commit, r, rollout.Position{Place: s.place})
}

func (s *server) publishAt(t testing.TB, commit string, r release.Release, p rollout.Position) {
	t.Helper()
	ready, err := s.hub.Prepare(t.Context(), r)
	if err == nil {
		err = s.hub.Publish(ready, stream.Approval{Commit: commit, Environment: "default", Position: p})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// class finds a class in the ledger.
func (s *server) class(t testing.TB, c release.Class) ledger.ClassStatus {
	t.Helper()
	st := s.ledger.Status()
	i := slices.IndexFunc(st.Classes, func(cs ledger.ClassStatus) bool { return cs.Class == c.String() })
	if i < 0 {
		t.Fatalf("no class %s in the ledger", c)
	}
	return st.Classes[i]
}

// eventually polls until ok says "" or the time is up.
func eventually(t testing.TB, limit time.Duration, ok func() string) {
	t.Helper()
	var last string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = ok(); last == "" {
			return
		}
	}
	t.Fatalf("not within %s: %s", limit, last)
}

// authority signs certificates for tests.
type authority struct {
	*testca.Authority
	t testing.TB
	// form changes certificates before they are signed.
	form func(*x509.Certificate)
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	return &authority{Authority: testca.New(t), t: t}
}

// issue signs a certificate for SPIFFE IDs (or none) and the loopback.
func (a *authority) issue(ids ...string) tls.Certificate {
	a.t.Helper()
	tmpl := &x509.Certificate{
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, id := range ids {
		u, err := url.Parse(id)
		if err != nil {
			a.t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, u)
	}
	if a.form != nil {
		a.form(tmpl)
	}
	return a.Sign(a.t, tmpl)
}

func (a *authority) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.issue("spiffe://" + trustDomain + "/ns/meshc/sa/server")},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool,
	}
}

func (a *authority) clientTLS(ids ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.Pool, ServerName: "localhost", Certificates: []tls.Certificate{a.issue(ids...)}}
}

// connect opens a connection as a class.
func (s *server) connect(t testing.TB, ids ...string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///xds", grpc.WithContextDialer(s.dial),
		grpc.WithTransportCredentials(credentials.NewTLS(s.ca.clientTLS(ids...))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func messages(ms ...proto.Message) []proto.Message { return ms }

func wrapped(n uint64) *wrapperspb.UInt64Value { return wrapperspb.UInt64(n) }

// routesWithHost is routes with one more domain, for another version.
func routesWithHost(name, cluster, host string) *routev3.RouteConfiguration {
	rc := routes(name, cluster)
	rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: host, Domains: []string{host}, Routes: rc.VirtualHosts[0].Routes})
	return rc
}

// split is a route table that sends to several clusters.
func split(name string, weights map[string]uint32) *routev3.RouteConfiguration {
	rc := routes(name, "")
	w := &routev3.WeightedCluster{}
	for _, c := range slices.Sorted(maps.Keys(weights)) {
		w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: c, Weight: wrapperspb.UInt32(weights[c])})
	}
	rc.VirtualHosts[0].Routes[0].Action = &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: w}}}
	return rc
}

// tree is a table whose first host chooses its routes by the beginning of the path.
func tree(rc *routev3.RouteConfiguration) *routev3.RouteConfiguration {
	rc = proto.CloneOf(rc)
	list, err := protojson.Marshal(&routev3.RouteList{Routes: rc.VirtualHosts[0].Routes})
	if err != nil {
		panic(err)
	}
	text := `{"name": "tree", "domains": ["*"], "matcher": {"matcher_tree": {
		"input": {"name": "path", "typed_config": {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": ":path"}},
		"prefix_match_map": {"map": {"/": {"action": {"name": "routes", "typed_config": {"@type": "type.googleapis.com/envoy.config.route.v3.RouteList", ` + string(list[1:]) + `}}}}
	}}}`
	h := &routev3.VirtualHost{}
	if err := protojson.Unmarshal([]byte(text), h); err != nil {
		panic(err)
	}
	rc.VirtualHosts[0] = h
	return rc
}
