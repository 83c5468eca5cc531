package xds

import (
	"fmt"
	"sync"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"meshc.dev/meshc/ci/bench/internal/content"
	"meshc.dev/meshc/compiler/release"
)

// floor is the smallest server that one would write by hand for this measurement
// and nothing else: it answers each first request with everything of its type, tells
// all streams of a change with one encoded message, and looks at no answer. It
// checks, orders, remembers and authorises nothing. What another server costs beyond
// it is the price of what that server does.
type floor struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	services int
	all      map[string]encoded // whole responses by type
	last     content.State

	mu   sync.Mutex
	next *change
	n    atomic.Int64
}

// change is a response for all streams; after it comes another.
type change struct {
	ready chan struct{}
	what  encoded
	next  *change
}

// encoded is a response's bytes.
type encoded []byte

// floorCodec sends encoded responses as they are.
type floorCodec struct{}

func (floorCodec) Name() string { return "proto" }

func (floorCodec) Marshal(v any) ([]byte, error) {
	if b, ok := v.(encoded); ok {
		return b, nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("no message: %T", v)
	}
	return proto.Marshal(m)
}

func (floorCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("no message: %T", v)
	}
	return proto.Unmarshal(b, m)
}

func newFloor(s Setup) (*peer, error) {
	f := &floor{services: s.Services, all: map[string]encoded{}, next: &change{ready: make(chan struct{})}}
	all, err := content.All(s.Services, content.State{})
	if err != nil {
		return nil, err
	}
	for t, url := range release.Types() {
		if f.all[url], err = f.response(url, all[t]...); err != nil {
			return nil, err
		}
	}
	return serveWith(s, func(g *grpc.Server) { discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, f) }, f.set, grpc.ForceServerCodec(floorCodec{}))
}

func (f *floor) response(url string, ms ...proto.Message) (encoded, error) {
	version := fmt.Sprint(f.n.Add(1))
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, SystemVersionInfo: version, Nonce: version}
	for _, m := range ms {
		boxed, err := anypb.New(m)
		if err != nil {
			return nil, fmt.Errorf("making a response: %w", err)
		}
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: cachev3.GetResourceName(m), Version: version, Resource: boxed})
	}
	return proto.Marshal(r)
}

func (f *floor) set(st content.State) error {
	var what encoded
	var err error
	switch i := content.Moving(f.services); {
	case st.Endpoint != f.last.Endpoint:
		what, err = f.response(release.EndpointType, content.Assignment(i, st.Endpoint))
	case st.Route != f.last.Route:
		what, err = f.response(release.RouteType, content.Routes(content.Changing, f.services, st.Route))
	}
	if err != nil || what == nil {
		return err
	}
	f.last = st
	f.mu.Lock()
	defer f.mu.Unlock()
	done := f.next
	done.what, done.next = what, &change{ready: make(chan struct{})}
	f.next = done.next
	close(done.ready)
	return nil
}

// DeltaAggregatedResources implements the service.
func (f *floor) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	f.mu.Lock()
	next := f.next
	f.mu.Unlock()
	asked := make(chan string, 16)
	go func() {
		defer close(asked)
		for first := map[string]bool{}; ; {
			r, err := g.Recv()
			if err != nil {
				return
			}
			if url := r.GetTypeUrl(); !first[url] {
				first[url] = true
				asked <- url
			}
		}
	}()
	for {
		var what encoded
		select {
		case url, more := <-asked:
			if !more {
				return nil
			}
			what = f.all[url]
		case <-next.ready:
			what, next = next.what, next.next
		}
		if err := g.SendMsg(what); err != nil {
			return status.FromContextError(g.Context().Err()).Err()
		}
	}
}

// StreamAggregatedResources implements the service.
func (f *floor) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return status.Error(codes.Unimplemented, "delta only")
}
