package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/ci/bench/internal/content"
	"meshc.dev/meshc/compiler/release"
)

// peer is a server of go-control-plane with one of its caches.
type peer struct {
	addr string
	grpc *grpc.Server
	set  func(content.State) error
}

// serve puts a cache behind the server, with the transport's settings that meshc's
// server has too.
func serve(s Setup, cache cachev3.Cache, set func(content.State) error) (*peer, error) {
	return serveWith(s, func(g *grpc.Server) {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(context.Background(), cache, nil))
	}, set)
}

func serveWith(s Setup, register func(*grpc.Server), set func(content.State) error, more ...grpc.ServerOption) (*peer, error) {
	tc, err := s.TLS.Server()
	if err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	g := grpc.NewServer(append(more, grpc.Creds(credentials.NewTLS(tc)), grpc.ReadBufferSize(4<<10), grpc.MaxConcurrentStreams(100),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))...)
	register(g)
	go func() { _ = g.Serve(lis) }() // ends with close
	return &peer{addr: lis.Addr().String(), grpc: g, set: set}, nil
}

func (p *peer) address() string              { return p.addr }
func (p *peer) prepare(content.State) error  { return nil }
func (p *peer) change(s content.State) error { return p.set(s) }
func (p *peer) close() error                 { p.grpc.Stop(); return nil }

// perClass is the hash of a snapshot cache that knows that all clients are alike.
type perClass struct{}

func (perClass) ID(*corev3.Node) string { return "class" }

// newSnapshots is a SnapshotCache with a snapshot for each of the nodes: the usual
// way, or one for all.
func newSnapshots(s Setup, hash cachev3.NodeHash, nodes []string) (*peer, error) {
	cache := cachev3.NewSnapshotCache(true, hash, nil)
	all, err := content.All(s.Services, content.State{})
	if err != nil {
		return nil, err
	}
	set := func(st content.State) error {
		version := fmt.Sprintf("%d-%d", st.Endpoint, st.Route)
		replaceChanged(&all, s.Services, st)
		for _, n := range nodes {
			// A snapshot keeps the versions of its resources, so each node has its own.
			snap, err := cachev3.NewSnapshot(version, map[string][]types.Resource{
				release.ClusterType: resources(all[0]), release.EndpointType: resources(all[1]),
				release.ListenerType: resources(all[2]), release.RouteType: resources(all[3]),
			})
			if err != nil {
				return fmt.Errorf("making a snapshot: %w", err)
			}
			if err := cache.SetSnapshot(context.Background(), n, snap); err != nil {
				return fmt.Errorf("setting the snapshot of %q: %w", n, err)
			}
		}
		return nil
	}
	if err := set(content.State{}); err != nil {
		return nil, err
	}
	return serve(s, cache, set)
}

// replaceChanged makes the two messages that differ between states.
func replaceChanged(all *[4][]proto.Message, n int, st content.State) {
	all[1][content.Moving(n)] = content.Assignment(content.Moving(n), st.Endpoint)
	all[3][content.Changing] = content.Routes(content.Changing, n, st.Route)
}

func resources(ms []proto.Message) []types.Resource {
	out := make([]types.Resource, len(ms))
	for i, m := range ms {
		out[i] = m
	}
	return out
}

// newLinear is a LinearCache for each type.
func newLinear(s Setup) (*peer, error) {
	all, err := content.All(s.Services, content.State{})
	if err != nil {
		return nil, err
	}
	caches := map[string]cachev3.Cache{}
	byType := map[string]*cachev3.LinearCache{}
	for t, url := range release.Types() {
		initial := map[string]types.Resource{}
		for _, m := range all[t] {
			initial[cachev3.GetResourceName(m)] = m
		}
		c := cachev3.NewLinearCache(url, cachev3.WithInitialResources(initial))
		caches[url], byType[url] = c, c
	}
	mux := &cachev3.MuxCache{
		Classify:      func(r *cachev3.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cachev3.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        caches,
	}
	var last content.State
	return serve(s, mux, func(st content.State) error {
		var errs []error
		if st.Endpoint != last.Endpoint {
			i := content.Moving(s.Services)
			errs = append(errs, byType[release.EndpointType].UpdateResource(content.Service(i), content.Assignment(i, st.Endpoint)))
		}
		if st.Route != last.Route {
			errs = append(errs, byType[release.RouteType].UpdateResource(content.Table(content.Changing), content.Routes(content.Changing, s.Services, st.Route)))
		}
		last = st
		return errors.Join(errs...)
	})
}

// nodeID is the usual hash: the node's own id.
type nodeID = cachev3.IDHash
