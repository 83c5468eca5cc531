package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// TestDenied: the open streams of an identity end soon after it is denied, nobody
// else's do, and it gets no new one. A list that cannot be read opens none and ends none.
func TestDenied(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.hub.Watch(ctx) }()
		other := release.Class{Role: release.Gateway, Namespace: "shop", Account: "edge"}
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a"), classSpec{class: other, res: messages(edsCluster("x", time.Second))}))
		p, q := s.delta(t, shop, "p"), s.delta(t, other, "q")
		p.boot("a")
		q.subscribe(cds)
		q.ack(q.want(cds, []string{"x"}))
		s.denied.Store(&denials{err: errors.New("a typing error")})
		q.quiet(time.Minute)
		p.quiet(time.Second)
		late := s.delta(t, other, "late")
		late.subscribe(cds)
		if err := late.ended(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a list that cannot be read: %v", err)
		}
		s.denied.Store(&denials{ids: map[string]bool{shop.SPIFFEID(trustDomain): true}})
		began := time.Now()
		if err := p.ended(); status.Code(err) != codes.PermissionDenied || time.Since(began) > 2*time.Second {
			t.Errorf("an open stream after %s: %v", time.Since(began), err)
		}
		again := s.delta(t, shop, "p")
		again.subscribe(cds)
		if err := again.ended(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a new stream: %v", err)
		}
		q.quiet(time.Minute)
		s.denied.Store(nil)
		s.delta(t, shop, "p").boot("a")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSplitWithoutEndpoints: a part of a split that has a weight and no endpoint is
// told, and the commit has not arrived while a proxy has it, whether the routes of a host are a list or a tree.
func TestSplitWithoutEndpoints(t *testing.T) {
	table := split("r", map[string]uint32{"a": 60, "b": 40, "c": 0})
	for name, table := range map[string]*routev3.RouteConfiguration{"list": table, "tree": tree(table)} {
		t.Run(name, func(t *testing.T) { splitWithoutEndpoints(t, table) })
	}
}

func splitWithoutEndpoints(t *testing.T, table *routev3.RouteConfiguration) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		spec := app(t, time.Second, "a", "b", "c")
		spec.res[1] = table
		live := classSpec{class: shop}
		for _, m := range spec.res {
			if urlOf(m) != eds {
				live.res = append(live.res, m)
			}
		}
		for _, n := range []string{"a", "b", "c"} {
			live.live = append(live.live, release.Endpoints{Cluster: n, File: n})
		}
		s.addresses(t, "a", 1001)
		s.ledger.LookAt(ledger.Look{Lacking: s.hub.Lacking})
		served := time.Now()
		s.publish(t, "commit-1", seal(t, live))
		s.delta(t, shop, "p").boot("a", "b", "c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, err := s.ledger.Wait(ctx, "commit-1", 0, func(ledger.Progress) {})
		if !errors.Is(err, context.DeadlineExceeded) || p.Confirmed != 1 || len(p.Lacking) != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		if l := p.Lacking[0]; l.Routes != "r" || l.Cluster != "b" || l.Weight != 40 || l.Total != 100 || l.Source != "file:b" || l.Pos.String() != "r.cue:7" || !l.Since.Equal(served) || l.Version != "" {
			t.Errorf("%+v", l)
		}
		if st := s.ledger.Status(); len(st.Lacking) != 1 {
			t.Errorf("status: %+v", st.Lacking)
		}
		time.AfterFunc(time.Second, func() { s.addresses(t, "b", 1002); s.ledger.Poke() })
		s.arrived(t, "commit-1", soon)
		ended := time.Now()
		s.addresses(t, "a") // the last workload of a part ends later
		time.Sleep(time.Minute)
		s.publish(t, "commit-2", seal(t, live)) // another release does not begin it anew
		if l := s.ledger.Status().Lacking; len(l) != 1 || l[0].Cluster != "a" || l[0].Weight != 60 || !l[0].Since.Equal(ended) {
			t.Errorf("after endpoints have gone: %+v", l)
		}
		s.addresses(t, "c") // it has no weight
		s.addresses(t, "a", 1001)
		if l := s.ledger.Status().Lacking; len(l) != 0 {
			t.Errorf("after they have come back: %+v", l)
		}
	})
}

// TestTwoClassesOfOneIdentity cannot be told apart, and are not served.
func TestTwoClassesOfOneIdentity(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		twin := release.Class{Role: release.Gateway, Namespace: shop.Namespace, Account: shop.Account}
		if _, err := s.hub.Prepare(t.Context(), seal(t, app(t, time.Second, "a"), classSpec{class: twin})); err == nil {
			t.Error("prepared")
		}
	})
}
