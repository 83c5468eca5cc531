package stream_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// TestLimits: what is too much ends the stream of who sends it, with a reason, and
// nobody else's.
func TestLimits(t *testing.T) {
	many := make([]string, 101)
	versions := map[string]string{}
	for i := range many {
		many[i] = "n" + strconv.Itoa(i)
		versions[many[i]] = "v"
	}
	big, err := structpb.NewStruct(map[string]any{"x": strings.Repeat("x", 5000)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		code codes.Code
		send []*discoveryv3.DeltaDiscoveryRequest
	}{
		"names":          {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: eds, ResourceNamesSubscribe: many}}},
		"names, later":   {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: eds, ResourceNamesSubscribe: many[:60]}, {TypeUrl: eds, ResourceNamesSubscribe: many[50:]}}},
		"length of name": {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: eds, ResourceNamesSubscribe: []string{strings.Repeat("n", 300)}}}},
		"known versions": {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, InitialResourceVersions: versions}}},
		"node":           {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, Node: &corev3.Node{Id: "p", Metadata: big}}}},
		"message":        {codes.ResourceExhausted, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: strings.Repeat("x", 5<<20)}}},
		"silence":        {codes.DeadlineExceeded, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stream.Limits{Names: 100, NameLength: 200, NodeBytes: 4000}, func(t *testing.T, s *server) {
				s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
				good := s.delta(t, shop, "good")
				good.boot("a")
				bad := s.delta(t, shop, "bad")
				for _, r := range c.send {
					bad.sent = r.Node != nil || bad.sent
					bad.send(r)
				}
				if len(c.send) == 0 {
					time.Sleep(time.Minute)
				}
				if err := bad.ended(); status.Code(err) != c.code {
					t.Errorf("ended with %v", err)
				}
				s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a")))
				r := good.want(cds, []string{"a"})
				good.ack(good.want(eds, []string{"a"}))
				good.ack(r)
				s.arrived(t, "commit-2", soon)
			})
		})
	}
}

func TestStreamsPerIdentity(t *testing.T) {
	inBubble(t, stream.Limits{StreamsPerIdentity: 2}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		a, b := s.delta(t, shop, "1"), s.delta(t, shop, "2")
		a.subscribe(cds)
		b.subscribe(cds)
		a.want(cds, []string{"a"})
		b.want(cds, []string{"a"})
		c := s.delta(t, shop, "3")
		c.subscribe(cds)
		if err := c.ended(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("third: %v", err)
		}
		a.cancel()
		time.Sleep(time.Second)
		d := s.delta(t, shop, "4")
		d.subscribe(cds)
		d.want(cds, []string{"a"})
	})
}

// TestHostileClientsCostOthersNothing: clients that ask without end and never read,
// and connections that never say anything, while a good client follows changes.
func TestHostileClientsCostOthersNothing(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		names := make([]string, 200)
		for i := range names {
			names[i] = "svc-" + strconv.Itoa(i)
		}
		s.publish(t, "commit-0", seal(t, app(t, time.Second, names...)))
		good := s.delta(t, shop, "good")
		good.subscribe(cds)
		good.ack(good.next())
		for range 10 {
			conn := s.connect(t, shop.SPIFFEID(trustDomain))
			st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for i := range 4000 { // never reads; asks for everything again and again
					if st.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "bad"}, TypeUrl: cds, ResourceNamesSubscribe: names, ResponseNonce: strconv.Itoa(i)}) != nil {
						return
					}
				}
			}()
		}
		for range 300 {
			c, err := s.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		}
		var worst time.Duration
		for i := range 20 {
			s.publish(t, "commit-x", seal(t, app(t, time.Duration(2+i)*time.Second, names[:3]...)))
			published := time.Now()
			for {
				r := good.next()
				good.ack(r)
				if len(r.GetResources()) > 0 {
					break
				}
			}
			worst = max(worst, time.Since(published))
		}
		if worst > 100*time.Millisecond { // of fake time, which passes while all wait: for a limit, or for one another
			t.Errorf("the good client waited %s", worst)
		}
	})
}
