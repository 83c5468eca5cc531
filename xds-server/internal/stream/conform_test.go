package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// conform runs a test against a server that serves clusters a and b, listener in
// and route table r.
func conform(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		test(t, s)
	})
}

// TestDeltaWildcard follows the incremental example of the xDS protocol
// documentation, "How the client specifies what resources to return".
func TestDeltaWildcard(t *testing.T) {
	for name, first := range map[string][]string{"legacy": nil, "by name": {"*"}} {
		t.Run(name, func(t *testing.T) {
			conform(t, func(t *testing.T, s *server) {
				c := s.delta(t, shop, "p")
				c.subscribe(cds, first...)
				c.ack(c.want(cds, []string{"a", "b"}))
				c.subscribe(cds, "a") // "*" goes on, a is sent again
				c.ack(c.want(cds, []string{"a"}))
				c.unsubscribe(cds, "*")
				c.quiet(time.Second)
				s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a", "b")))
				c.ack(c.want(cds, []string{"a"})) // b is no longer wanted
				c.unsubscribe(cds, "a")
				c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds}) // not a wildcard any more
				c.quiet(time.Second)
				s.publish(t, "commit-3", seal(t, app(t, 3*time.Second, "a", "b")))
				c.quiet(time.Minute)
				c.subscribe(cds, "*")
				c.ack(c.want(cds, []string{"a", "b"}))
			})
		})
	}
}

// TestDeltaUnsubscribeUnderWildcard: a client that no longer asks for a name cannot
// know whether "everything" has it, and must be told.
func TestDeltaUnsubscribeUnderWildcard(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.delta(t, shop, "p")
		c.subscribe(cds, "*", "a", "gone")
		c.ack(c.want(cds, []string{"a", "b"}, "gone"))
		c.unsubscribe(cds, "a")
		c.ack(c.want(cds, []string{"a"}))
		c.unsubscribe(cds, "gone")
		c.ack(c.want(cds, nil, "gone"))
		c.unsubscribe(cds, "b", "never") // neither was asked for by name
		c.quiet(time.Minute)
	})
}

// TestDeltaAbsentNames: what does not exist is answered at once, again when it is
// asked for again, and comes when it begins to exist.
func TestDeltaAbsentNames(t *testing.T) {
	for _, typ := range []string{cds, eds, lds, rds} {
		conform(t, func(t *testing.T, s *server) {
			c := s.delta(t, shop, "p")
			c.subscribe(typ, "c")
			c.ack(c.want(typ, nil, "c"))
			c.subscribe(typ, "c")
			c.ack(c.want(typ, nil, "c"))
			c.quiet(time.Minute)
			if typ == lds || typ == rds {
				return
			}
			s.publish(t, "commit-2", seal(t, app(t, time.Second, "a", "b", "c")))
			c.ack(c.want(typ, []string{"c"}))
			s.publish(t, "commit-3", seal(t, app(t, time.Second, "a")))
			c.ack(c.want(typ, nil, "c"))
		})
	}
}

// TestDeltaNonces: a change of subscription counts whatever its nonce is.
func TestDeltaNonces(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.delta(t, shop, "p")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesSubscribe: []string{"a"}, ResponseNonce: "from an earlier stream"})
		r := c.want(cds, []string{"a"})
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResponseNonce: r.GetNonce()}) // of another type: no answer to r
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: "garbage", ResourceNamesSubscribe: []string{"b"}})
		c.quiet(time.Second) // r is not answered yet
		c.ack(r)
		c.ack(c.want(cds, []string{"b"}))
		c.ack(r) // twice
		c.nack(r, "too late")
		c.quiet(time.Minute)
		if s.class(t, shop).Held {
			t.Error("an outdated refusal took the class back")
		}
	})
}

// TestUnknownTypes: a type that is not served is not answered and harms nothing.
func TestUnknownTypes(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.delta(t, shop, "p")
		for _, typ := range []string{"", "garbage", "type.googleapis.com/envoy.service.runtime.v3.Runtime", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"} {
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: []string{"x", "*"}, ResponseNonce: "n"})
		}
		c.subscribe(cds)
		c.ack(c.want(cds, []string{"a", "b"}))
		w := s.world(t, "p")
		w.ask("garbage", "", "x")
		w.ask(cds, "")
		w.ack(w.want(cds, "a", "b"))
	})
}

// TestWorldWildcard follows the state-of-the-world example of the same page.
func TestWorldWildcard(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.world(t, "p")
		c.ask(cds, "")
		r := c.want(cds, "a", "b")
		c.ack(r)
		c.ask(cds, r.GetNonce(), "*", "a") // newly requested: sent, though it is known
		r = c.want(cds, "a", "b")
		c.ack(r)
		c.ask(cds, r.GetNonce(), "a")
		c.quiet(time.Second)
		s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a", "b")))
		r = c.want(cds, "a")
		c.ack(r)
		c.ask(cds, r.GetNonce()) // nothing any more, and not everything
		c.quiet(time.Second)     // the server has read it
		s.publish(t, "commit-3", seal(t, app(t, 3*time.Second, "a", "b")))
		c.quiet(time.Minute)
		c.ask(cds, r.GetNonce(), "*")
		r = c.want(cds, "a", "b")
		c.ack(r)
		c.ask(cds, r.GetNonce()) // "*" was explicit: its end is an end
		c.quiet(time.Second)
		s.publish(t, "commit-4", seal(t, app(t, 4*time.Second, "a", "b")))
		c.quiet(time.Minute)
	})
}

// TestWorldAsksAgainAfterReconnect: a client that dropped a name before its stream
// broke, and wants it again after, still reports the version that it was in.
func TestWorldAsksAgainAfterReconnect(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.world(t, "p")
		c.ask(eds, "", "a")
		r := c.want(eds, "a")
		c.ack(r)
		c.ask(eds, r.GetNonce())
		c.cancel()
		again := s.world(t, "p")
		again.has = c.has
		again.ask(eds, "", "a")
		again.ack(again.want(eds, "a"))
	})
}

// TestWorldResubscribe: what was dropped and is asked for again comes again.
func TestWorldResubscribe(t *testing.T) {
	for _, typ := range []string{cds, eds} {
		conform(t, func(t *testing.T, s *server) {
			c := s.world(t, "p")
			c.ask(typ, "", "a", "b", "gone")
			r := c.want(typ, "a", "b")
			c.ack(r)
			c.ask(typ, r.GetNonce(), "a")
			c.ask(typ, r.GetNonce(), "a", "b")
			if typ == cds { // always whole
				c.ack(c.want(typ, "a", "b"))
			} else {
				c.ack(c.want(typ, "b"))
			}
			c.quiet(time.Minute)
		})
	}
}

// bulky is a class whose clusters are 200 KB each.
func bulky(t testing.TB, timeout time.Duration, n int) (classSpec, []string) {
	t.Helper()
	spec, names := classSpec{class: shop}, make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bulky-%03d", i)
		c := edsCluster(names[i], timeout)
		c.AltStatName = strings.Repeat("x", 200_000)
		spec.res = append(spec.res, c, assignment(names[i], 1000+i))
	}
	return spec, names
}

// TestLargeResponsesAreSplit: gRPC clients refuse messages over 4 MiB. No delta
// response is larger unless one resource is, and the order stays.
func TestLargeResponsesAreSplit(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		spec, names := bulky(t, time.Second, 50)
		s.publish(t, "commit-1", seal(t, spec))
		c := s.delta(t, shop, "p")
		all := func() {
			t.Helper()
			got := map[string]bool{}
			for len(got) < len(names) {
				r := c.next()
				for _, res := range r.GetResources() {
					if r.GetTypeUrl() == cds {
						got[res.GetName()] = true
					}
				}
				c.ack(r)
			}
		}
		c.subscribe(cds)
		all()
		c.subscribe(eds, names...)
		c.ack(c.want(eds, names))
		c.subscribe(lds)
		c.ack(c.want(lds, nil))
		s.arrived(t, "commit-1", soon)
		spec, _ = bulky(t, 2*time.Second, 50)
		s.publish(t, "commit-2", seal(t, spec))
		all()
		c.ack(c.next()) // the endpoints of the last part
		s.arrived(t, "commit-2", soon)
		spec, _ = bulky(t, 2*time.Second, 1)
		s.publish(t, "commit-3", seal(t, spec))
		c.ack(c.want(cds, names[:1], names[1:]...)) // with one that stays: it says what was removed
		c.ack(c.want(eds, nil, names[1:]...))
		s.arrived(t, "commit-3", soon)
	})
}

// TestNamesThatLookLikeTwo: subscriptions and reports are shared between proxies
// that send the same. Odd bytes in a name must not make different ones the same.
func TestNamesThatLookLikeTwo(t *testing.T) {
	for name, odd := range map[string][]string{
		"zero":            {"a\x00b"},
		"zeros":           {"\x00a\x00b"},
		"length":          {"a\x01b"},
		"length of first": {"\x01a\x01b"},
	} {
		t.Run(name, func(t *testing.T) {
			conform(t, func(t *testing.T, s *server) {
				bad := s.delta(t, shop, "bad")
				bad.subscribe(cds, odd...)
				bad.want(cds, nil, odd...)
				good := s.delta(t, shop, "good")
				good.subscribe(cds, "a", "b")
				good.want(cds, []string{"a", "b"})
			})
		})
	}
}

// TestReportsThatLookLikeTwo is the same for what clients say that they have.
func TestReportsThatLookLikeTwo(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.delta(t, shop, "p")
		c.subscribe(cds)
		c.ack(c.want(cds, []string{"a", "b"}))
		version := c.has[cds]["a"]
		bad := s.delta(t, shop, "bad")
		bad.resume(cds, map[string]string{"a\x00" + version + "\nx": "y"})
		bad.ack(bad.want(cds, []string{"a", "b"}))
		good := s.delta(t, shop, "good")
		good.resume(cds, map[string]string{"a": version, "x": "y"})
		good.ack(good.want(cds, []string{"b"}))
		good.ack(good.want(cds, nil, "x"))
	})
}

// TestWorldRequestsThatCross: a request that crosses a response does not count. A
// client that gave a name up in one of these, and takes it back, has lost it.
func TestWorldRequestsThatCross(t *testing.T) {
	conform(t, func(t *testing.T, s *server) {
		c := s.world(t, "p")
		c.ask(eds, "", "a", "b")
		r := c.want(eds, "a", "b")
		c.ack(r)
		c.ask(eds, "an older one", "a")
		c.ask(eds, "an older one", "a", "b")
		c.quiet(time.Second)
		c.ask(eds, r.GetNonce(), "a", "b")
		c.ack(c.want(eds, "b"))
		c.quiet(time.Minute)
	})
}
