package stream_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// heap is what lives, in bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// inventedNames are names that do not exist, other ones for each round.
func inventedNames(round, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("invented-%d-%d", round, i)
	}
	return out
}

// TestChangingSubscriptionsKeepNoMemory: a client asks for other names that do not
// exist, again and again. What is remembered for it stays within bounds.
func TestChangingSubscriptionsKeepNoMemory(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "bad")
		before := heap()
		var old []string
		for round := range 50 {
			names := inventedNames(round, 20_000)
			if round > 0 {
				c.unsubscribe(eds, old...)
			}
			c.subscribe(eds, names...)
			c.ack(c.nextWithin(time.Hour))
			old = names
		}
		const most = 120 << 20 // what is remembered, and one subscription
		if grown := int64(heap()) - int64(before); grown > most {
			t.Errorf("%d MiB more after 50 subscriptions of 20,000 names", grown>>20)
		}
	})
}

// TestSubscriptionsOfAnIdentity: distinct subscriptions of all streams of an
// identity are bounded together; equal ones cost once.
func TestSubscriptionsOfAnIdentity(t *testing.T) {
	inBubble(t, stream.Limits{SubscriptionBytes: 1 << 20}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		same := inventedNames(0, 3000)
		for i := range 5 {
			c := s.delta(t, shop, "replica-"+strconv.Itoa(i))
			c.subscribe(eds, same...)
			c.next()
		}
		bad := s.delta(t, shop, "bad")
		bad.subscribe(eds, inventedNames(1, 3000)...)
		if err := bad.ended(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("ended with %v", err)
		}
		c := s.delta(t, shop, "good")
		c.subscribe(cds)
		c.want(cds, []string{"a"})
	})
}

// TestShortRequestsForLongSubscriptions: a request costs what it makes the server
// do, so that small changes of a large subscription are read slowly.
func TestShortRequestsForLongSubscriptions(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "bad")
		c.subscribe(eds, inventedNames(0, 19_000)...)
		c.ack(c.next())
		start := time.Now()
		for i := range 20 {
			c.subscribe(eds, "one-"+strconv.Itoa(i))
			c.ack(c.nextWithin(time.Hour))
		}
		if d := time.Since(start); d < 5*time.Second { // 380 tokens each, 1,000 a second
			t.Errorf("20 changes of 19,000 names were taken within %s", d)
		}
	})
}

// TestStreamsOpenedInALoop: a client that opens streams without end is slowed down.
func TestStreamsOpenedInALoop(t *testing.T) {
	inBubble(t, stream.Limits{RequestsPerSecond: 10}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		conn := s.connect(t, shop.SPIFFEID(trustDomain))
		start := time.Now()
		for range 300 {
			c := openDelta(t, conn, "bad")
			c.subscribe(cds)
			c.nextWithin(time.Minute)
			c.cancel()
			<-c.err
		}
		if d := time.Since(start); d < 5*time.Second { // 11 tokens each: 1,000 at once, 200 a second
			t.Errorf("300 streams within %s", d)
		}
	})
}

// TestRequestsOnTheWayAtTheEnd: a stream's share of its identity's limits is given
// back however it ends.
func TestRequestsOnTheWayAtTheEnd(t *testing.T) {
	inBubble(t, stream.Limits{SubscriptionBytes: 1 << 20, Names: 4000}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		conn := s.connect(t, shop.SPIFFEID(trustDomain))
		for i := range 50 {
			c := openDelta(t, conn, "p")
			c.subscribe(eds, inventedNames(2*i, 3000)...)
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesUnsubscribe: inventedNames(2*i, 3000), ResourceNamesSubscribe: []string{"x"}})
			if i%2 == 0 {
				c.next()
			}
			c.cancel()
			<-c.err
			time.Sleep(time.Second)
		}
		c := openDelta(t, conn, "p")
		c.subscribe(eds, inventedNames(1, 4000)...)
		c.want(eds, nil, sortedNames(1, 4000)...)
	})
}

func sortedNames(round, n int) []string {
	out := inventedNames(round, n)
	slices.Sort(out)
	return out
}

// TestRefusingInALoop: a client that refuses all it gets, with as long a text as it
// can send, fills neither the log nor the processor.
func TestRefusingInALoop(t *testing.T) {
	inBubble(t, stream.Limits{Names: 20_000}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.delta(t, shop, "bad")
		why := strings.Repeat(`"x" a b `, 400_000)
		names := inventedNames(0, 19_000)
		c.subscribe(cds, append([]string{"a"}, names...)...)
		c.nack(c.next(), why)
		c.cancel()
		c = s.delta(t, shop, "worse")
		for i := range 500 { // each time another subscription, which no pause applies to
			c.subscribe(cds, "a", "x"+strconv.Itoa(i))
			c.nack(c.nextWithin(time.Hour), "no")
		}
		eventually(t, time.Minute, func() string {
			if n := s.refusals(); n < 500 {
				return fmt.Sprintf("%d refusals counted", n)
			}
			return ""
		})
		if n := s.lines.Load(); n > 200 { // 100 at once, five a second after that
			t.Errorf("%d lines logged", n)
		}
	})
}

func (s *server) refusals() (n int) {
	s.counts.with(func() { n = s.counts.answers[ledger.Nacked] })
	return n
}
