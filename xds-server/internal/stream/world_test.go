package stream_test

import (
	"context"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// worldClient plays a state-of-the-world client by hand.
type worldClient struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	in     chan *discoveryv3.DiscoveryResponse
	cancel context.CancelFunc
	names  map[string][]string
	has    map[string]string // version by type
	nonces map[string]string // of the last response, by type
	open   map[string]bool   // the types that were asked for
}

func (s *server) world(t testing.TB, node string) *worldClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.connect(t, shop.SPIFFEID(trustDomain))).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &worldClient{t: t, stream: st, in: make(chan *discoveryv3.DiscoveryResponse, 64), cancel: cancel, names: map[string][]string{}, has: map[string]string{}, nonces: map[string]string{}, open: map[string]bool{}}
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				close(c.in)
				return
			}
			c.in <- r
		}
	}()
	return c
}

func (c *worldClient) send(r *discoveryv3.DiscoveryRequest) {
	c.t.Helper()
	r.Node, r.ResourceNames = &corev3.Node{Id: "grpc"}, c.names[r.GetTypeUrl()]
	if err := c.stream.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

// ask sets the names of a type, with the nonce of a response that is being answered.
func (c *worldClient) ask(typ, nonce string, names ...string) {
	c.names[typ] = names
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: typ, VersionInfo: c.has[typ], ResponseNonce: nonce})
}

func (c *worldClient) ack(r *discoveryv3.DiscoveryResponse) {
	c.has[r.GetTypeUrl()] = r.GetVersionInfo()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce()})
}

func (c *worldClient) nack(r *discoveryv3.DiscoveryResponse, why string) {
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), VersionInfo: c.has[r.GetTypeUrl()], ResponseNonce: r.GetNonce(), ErrorDetail: &statusv3.Status{Message: why}})
}

// want checks the next response: its type and the names in it.
func (c *worldClient) want(typ string, names ...string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	select {
	case r, ok := <-c.in:
		if !ok {
			c.t.Fatal("stream ended")
		}
		var got []string
		for _, a := range r.GetResources() {
			m, err := a.UnmarshalNew()
			if err != nil {
				c.t.Fatal(err)
			}
			got = append(got, nameOf(m))
		}
		slices.Sort(got)
		if r.GetTypeUrl() != typ || !slices.Equal(got, names) {
			c.t.Fatalf("got %s %v, want %s %v", r.GetTypeUrl(), got, typ, names)
		}
		return r
	case <-time.After(soon):
		c.t.Fatalf("no response, want %s %v", typ, names)
	}
	return nil
}

func (c *worldClient) quiet(d time.Duration) {
	c.t.Helper()
	select {
	case r := <-c.in:
		c.t.Fatalf("got %s with %d resources, want silence", r.GetTypeUrl(), len(r.GetResources()))
	case <-time.After(d):
	}
}

// TestWorldFromListenerDown: gRPC asks for a listener first and for clusters last,
// one name after the other; nothing may wait for a type that it has not asked for.
func TestWorldFromListenerDown(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.world(t, "p")
		c.ask(lds, "", "in")
		c.ack(c.want(lds, "in"))
		c.ask(rds, "", "r")
		c.ack(c.want(rds, "r"))
		c.ask(cds, "", "a")
		r := c.want(cds, "a")
		c.ack(r)
		c.ask(eds, "", "a")
		c.ack(c.want(eds, "a"))
		c.ask(cds, r.GetNonce(), "a", "b") // one more: the whole list again
		c.ack(c.want(cds, "a", "b"))
		c.ask(cds, "stale", "a")
		c.quiet(time.Second)
		s.arrived(t, "commit-1", soon)
	})
}

// TestWorldReplacement: the order is the same as in the delta protocol, and lists
// are always whole.
func TestWorldReplacement(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.world(t, "p")
		c.ask(cds, "")
		r := c.want(cds, "a")
		c.ask(lds, "")
		c.quiet(time.Second) // not an empty list: listeners wait for clusters
		c.ask(eds, "", "a")
		e := c.want(eds, "a")
		c.ack(e)
		c.ack(r)
		c.ack(c.want(lds, "in"))
		c.ask(rds, "", "r")
		c.ack(c.want(rds, "r"))
		s.publish(t, "commit-2", seal(t, app(t, time.Second, "b")))
		add := c.want(cds, "a", "b")
		c.ask(eds, e.GetNonce(), "a", "b")
		c.ack(c.want(eds, "b"))
		c.ack(add)
		c.ack(c.want(rds, "r"))
		c.ack(c.want(cds, "b"))
		s.arrived(t, "commit-2", soon)
		// A reconnect with the version that is served costs nothing.
		c.cancel()
		again := s.world(t, "p")
		again.has = c.has
		again.ask(cds, "")
		again.ask(lds, "")
		again.quiet(time.Minute)
		// A refusal takes the proxy back.
		s.publish(t, "commit-3", seal(t, app(t, time.Second, "b", "c")))
		again.nack(again.want(cds, "b", "c"), "no")
		again.ack(again.want(cds, "b"))
		if s.class(t, shop).HeldProxies != 1 {
			t.Error("not held")
		}
	})
}

// TestWorldReconnectUnknownVersion: lists come whole, and listeners not before the
// clusters are confirmed; an empty list would take a proxy down.
func TestWorldReconnectUnknownVersion(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.world(t, "p")
		c.has = map[string]string{cds: "before", lds: "before"}
		c.ask(cds, "")
		c.ask(lds, "")
		r := c.want(cds, "a")
		c.quiet(time.Second)
		c.ack(r)
		c.ack(c.want(lds, "in"))
		c.quiet(time.Minute)
	})
}

// TestBothProtocolsHaveTheSameBytes: a resource is encoded once for both.
func TestBothProtocolsHaveTheSameBytes(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		d, w := s.delta(t, shop, "d"), s.world(t, "w")
		d.subscribe(cds)
		w.ask(cds, "")
		if a, b := d.want(cds, []string{"a"}).GetResources()[0].GetResource(), w.want(cds, "a").GetResources()[0]; !proto.Equal(a, b) {
			t.Errorf("%v and %v", a, b)
		}
	})
}
