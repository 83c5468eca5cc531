package stream_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshc.dev/meshc/compiler/release"
)

var (
	cds, eds = release.ClusterType, release.EndpointType
	lds, rds = release.ListenerType, release.RouteType
)

// deltaClient is a proxy that a test plays by hand: nothing is answered unless
// the test says so.
type deltaClient struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in     chan *discoveryv3.DeltaDiscoveryResponse
	err    chan error
	cancel context.CancelFunc
	node   string
	sent   bool
	// has is what the client accepted, by type and name.
	has map[string]map[string]string
}

func (s *server) delta(t testing.TB, class release.Class, node string) *deltaClient {
	t.Helper()
	return openDelta(t, s.connect(t, class.SPIFFEID(trustDomain)), node)
}

func openDelta(t testing.TB, conn *grpc.ClientConn, node string) *deltaClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &deltaClient{t: t, stream: st, in: make(chan *discoveryv3.DeltaDiscoveryResponse, 256), err: make(chan error, 1), cancel: cancel, node: node, has: map[string]map[string]string{}}
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				c.err <- err
				close(c.in)
				return
			}
			c.in <- r
		}
	}()
	return c
}

func (c *deltaClient) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if !c.sent {
		r.Node, c.sent = &corev3.Node{Id: c.node}, true
	}
	if err := c.stream.Send(r); err != nil {
		c.t.Logf("send: %v", err) // the reason comes from Recv
	}
}

func (c *deltaClient) subscribe(typ string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: names})
}

func (c *deltaClient) unsubscribe(typ string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesUnsubscribe: names})
}

// resume subscribes like a client that has something from an earlier stream.
func (c *deltaClient) resume(typ string, has map[string]string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, InitialResourceVersions: has, ResourceNamesSubscribe: names})
}

// soon is longer than Limits.Ack, for which a server waits before it removes what the
// client may yet ask for: on fake time two equal limits end in any order.
const soon = 8 * time.Second

// patience is for what takes real time, as with an Envoy: a limit of the test's own.
const patience = time.Minute

// next returns the next response.
func (c *deltaClient) next() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	return c.nextWithin(soon)
}

// want checks type, added and removed names of the next response.
func (c *deltaClient) want(typ string, added []string, removed ...string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	r := c.next()
	var got []string
	for _, res := range r.GetResources() {
		got = append(got, res.GetName())
	}
	slices.Sort(got)
	gone := slices.Sorted(slices.Values(r.GetRemovedResources()))
	if r.GetTypeUrl() != typ || !slices.Equal(got, added) || !slices.Equal(gone, removed) {
		c.t.Fatalf("got %s +%v -%v, want %s +%v -%v", r.GetTypeUrl(), got, gone, typ, added, removed)
	}
	return r
}

// quiet checks that nothing comes.
func (c *deltaClient) quiet(d time.Duration) {
	c.t.Helper()
	select {
	case r, ok := <-c.in:
		if !ok {
			c.t.Fatalf("stream ended: %v", <-c.err)
		}
		c.t.Fatalf("got %s with %d resources, -%v; want silence", r.GetTypeUrl(), len(r.GetResources()), r.GetRemovedResources())
	case <-time.After(d):
	}
}

func (c *deltaClient) ack(r *discoveryv3.DeltaDiscoveryResponse) {
	has := c.has[r.GetTypeUrl()]
	if has == nil {
		has = map[string]string{}
		c.has[r.GetTypeUrl()] = has
	}
	for _, res := range r.GetResources() {
		has[res.GetName()] = res.GetVersion()
	}
	for _, n := range r.GetRemovedResources() {
		delete(has, n)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

func (c *deltaClient) nack(r *discoveryv3.DeltaDiscoveryResponse, why string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(),
		ErrorDetail: &statusv3.Status{Code: int32(codes.InvalidArgument), Message: why}})
}

// ended waits for the end of the stream.
func (c *deltaClient) ended() error {
	c.t.Helper()
	for {
		select {
		case _, ok := <-c.in:
			if !ok {
				return <-c.err
			}
		case <-time.After(soon):
			return errors.New("the stream did not end")
		}
	}
}

// nextWithin is next with another time limit.
func (c *deltaClient) nextWithin(d time.Duration) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case r, ok := <-c.in:
		if !ok {
			c.t.Fatalf("stream ended: %v", <-c.err)
		}
		return r
	case <-time.After(d):
		c.t.Fatalf("no response within %s", d)
	}
	return nil
}
