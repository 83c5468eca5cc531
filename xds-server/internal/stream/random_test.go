package stream_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// wisher is a delta client that keeps exactly what the protocol says that it may
// keep: what it asked for, as long as it asks for it.
type wisher struct {
	*deltaClient
	typ   string
	all   bool
	names map[string]bool
	own   map[string]string // version by name
	// untold are names that were dropped while everything was wanted: the server
	// owes a word about each.
	untold map[string]bool
	opened bool
}

func (w *wisher) wants(n string) bool { return w.all || w.names[n] }

// request sends a change of the subscription.
func (w *wisher) request(add, drop []string) {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: w.typ, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop}
	if !w.opened {
		r.InitialResourceVersions = maps.Clone(w.own)
		w.all, w.opened = w.all || len(add) == 0, true
	}
	for _, n := range drop {
		switch {
		case n == "*":
			w.all = false
			clear(w.untold)
		case w.names[n] && w.all && !slices.Contains(add, n):
			w.untold[n] = true
		}
		delete(w.names, n)
	}
	for _, n := range add {
		if n == "*" {
			w.all = true
			continue
		}
		w.names[n] = true
		delete(w.untold, n)
	}
	maps.DeleteFunc(w.own, func(n, _ string) bool { return !w.wants(n) })
	w.send(r)
}

// take handles one response; reject says that it is refused.
func (w *wisher) take(r *discoveryv3.DeltaDiscoveryResponse, reject bool) {
	w.t.Helper()
	seen := map[string]bool{}
	for _, res := range r.GetResources() {
		if seen[res.GetName()] {
			w.t.Errorf("%q is twice in one response", res.GetName())
		}
		seen[res.GetName()] = true
	}
	for _, n := range r.GetRemovedResources() {
		if seen[n] {
			w.t.Errorf("%q is sent and removed in one response", n)
		}
	}
	if r.GetTypeUrl() != w.typ || r.GetNonce() == "" {
		w.t.Errorf("type %q, nonce %q", r.GetTypeUrl(), r.GetNonce())
	}
	if reject {
		w.nack(r, "no")
		return
	}
	for _, res := range r.GetResources() {
		delete(w.untold, res.GetName())
		if w.wants(res.GetName()) {
			w.own[res.GetName()] = res.GetVersion()
		}
	}
	for _, n := range r.GetRemovedResources() {
		delete(w.own, n)
		delete(w.untold, n)
	}
	w.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: w.typ, ResponseNonce: r.GetNonce()})
}

// settle takes responses until none has come for d.
func (w *wisher) settle(d time.Duration) {
	for {
		select {
		case r, ok := <-w.in:
			if !ok {
				w.t.Fatalf("stream ended: %v", <-w.err)
			}
			w.take(r, false)
		case <-time.After(d):
			return
		}
	}
}

var services = []string{"a", "b", "c", "d", "e", "f"}

// some picks some of the list, perhaps none.
func some(r *rand.Rand, list []string) []string {
	var out []string
	for _, s := range list {
		if r.IntN(3) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// TestRandomDeltaClients: whatever a client asks for, drops, refuses and forgets,
// and whatever is published meanwhile: at rest it has what it asks for, in the
// version that is served, and nothing else.
func TestRandomDeltaClients(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				r := rand.New(rand.NewPCG(seed, 1))
				publish := func(i int) {
					list := append([]string{services[r.IntN(6)]}, some(r, services)...)
					slices.Sort(list)
					s.publish(t, fmt.Sprint("commit-", i), seal(t, app(t, time.Duration(1+r.IntN(3))*time.Second, slices.Compact(list)...)))
				}
				publish(0)
				w := &wisher{typ: []string{cds, eds}[r.IntN(2)], names: map[string]bool{}, own: map[string]string{}, untold: map[string]bool{}}
				w.deltaClient = s.delta(t, shop, "p")
				choice := append(slices.Clone(services), "never", "*")
				w.request(append(some(r, choice), choice[r.IntN(8)]), nil)
				for i := range 25 {
					switch r.IntN(6) {
					case 0:
						publish(i + 1)
					case 1:
						w.request(append(some(r, choice), choice[r.IntN(8)]), nil)
					case 2:
						w.request(nil, append(some(r, choice), choice[r.IntN(8)]))
					case 3:
						select {
						case m := <-w.in:
							w.take(m, r.IntN(4) == 0)
						case <-time.After(time.Duration(r.IntN(3000)) * time.Millisecond):
						}
					case 4:
						w.settle(time.Duration(r.IntN(8000)) * time.Millisecond)
					case 5:
						if r.IntN(3) > 0 {
							continue
						}
						w.cancel()
						w.deltaClient, w.opened = s.delta(t, shop, "p"), false
						clear(w.untold)
						add := slices.Sorted(maps.Keys(w.names))
						if w.all {
							add = append(add, "*")
						}
						if len(add) == 0 {
							add = []string{"never"}
						}
						w.request(add, nil)
					}
				}
				w.settle(3 * time.Minute)
				served := &wisher{deltaClient: s.delta(t, shop, "witness"), typ: w.typ, names: map[string]bool{}, own: map[string]string{}, untold: map[string]bool{}}
				served.request([]string{"*"}, nil)
				served.settle(3 * time.Minute)
				want := maps.Clone(served.own)
				maps.DeleteFunc(want, func(n, _ string) bool { return !w.wants(n) })
				// Where a version is from does not count.
				if !maps.EqualFunc(w.own, want, func(a, b string) bool { return a[:16] == b[:16] }) {
					t.Errorf("seed %d: has %v, want %v (all %t, names %v)", seed, w.own, want, w.all, slices.Sorted(maps.Keys(w.names)))
				}
				if len(w.untold) > 0 {
					t.Errorf("seed %d: never heard of %v", seed, slices.Sorted(maps.Keys(w.untold)))
				}
			})
		})
	}
}
