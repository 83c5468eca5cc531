package stream_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// worldWisher is a state-of-the-world client that keeps what the protocol says
// that it may keep.
type worldWisher struct {
	*worldClient
	typ      string
	names    []string
	explicit bool // names were given on this stream
	nonce    string
	own      map[string]string // content by name
}

func (w *worldWisher) all() bool {
	return slices.Contains(w.names, "*") || !w.explicit && len(w.names) == 0 && w.typ == cds
}

func (w *worldWisher) wants(n string) bool { return w.all() || slices.Contains(w.names, n) }

// wish sends a request with other names.
func (w *worldWisher) wish(names []string) {
	w.names = names
	w.explicit = w.explicit || len(names) > 0
	maps.DeleteFunc(w.own, func(n, _ string) bool { return !w.wants(n) })
	w.ask(w.typ, w.nonce, names...)
}

func (w *worldWisher) take(r *discoveryv3.DiscoveryResponse, reject bool) {
	w.t.Helper()
	if r.GetTypeUrl() != w.typ || r.GetNonce() == "" || r.GetVersionInfo() == "" {
		w.t.Errorf("type %q, nonce %q, version %q", r.GetTypeUrl(), r.GetNonce(), r.GetVersionInfo())
	}
	w.nonce = r.GetNonce()
	if reject {
		w.nack(r, "no")
		return
	}
	got := map[string]string{}
	for _, a := range r.GetResources() {
		m, err := a.UnmarshalNew()
		if err != nil {
			w.t.Fatal(err)
		}
		if _, twice := got[nameOf(m)]; twice {
			w.t.Errorf("%q is twice in one response", nameOf(m))
		}
		if w.wants(nameOf(m)) {
			got[nameOf(m)] = string(a.GetValue())
		}
	}
	if w.typ == cds {
		w.own = got // what is not there does not exist
	} else {
		maps.Copy(w.own, got)
	}
	w.ack(r)
}

func (w *worldWisher) settle(d time.Duration) {
	for {
		select {
		case r, ok := <-w.in:
			if !ok {
				w.t.Fatal("stream ended")
			}
			w.take(r, false)
		case <-time.After(d):
			return
		}
	}
}

// TestRandomWorldClients is TestRandomDeltaClients for the other protocol.
func TestRandomWorldClients(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				r := rand.New(rand.NewPCG(seed, 2))
				publish := func(i int) {
					list := append([]string{services[r.IntN(6)]}, some(r, services)...)
					slices.Sort(list)
					s.publish(t, fmt.Sprint("commit-", i), seal(t, app(t, time.Duration(1+r.IntN(3))*time.Second, slices.Compact(list)...)))
				}
				publish(0)
				w := &worldWisher{typ: []string{cds, eds}[r.IntN(2)], own: map[string]string{}}
				w.worldClient = s.world(t, "p")
				names := func() []string {
					out := some(r, append(slices.Clone(services), "never"))
					if r.IntN(4) == 0 {
						out = append(out, "*")
					}
					return out
				}
				w.wish(names())
				for i := range 25 {
					switch r.IntN(5) {
					case 0:
						publish(i + 1)
					case 1:
						w.wish(names())
					case 2:
						select {
						case m := <-w.in:
							w.take(m, r.IntN(4) == 0)
						case <-time.After(time.Duration(r.IntN(3000)) * time.Millisecond):
						}
					case 3:
						w.settle(time.Duration(r.IntN(8000)) * time.Millisecond)
					case 4:
						if r.IntN(3) > 0 {
							continue
						}
						w.cancel()
						has := w.has
						w.worldClient = s.world(t, "p")
						w.has, w.nonce, w.explicit = has, "", false
						if w.names == nil { // nothing, which a new stream cannot say
							w.names = []string{"never"}
						}
						w.wish(w.names)
					}
				}
				w.settle(3 * time.Minute)
				served := &worldWisher{worldClient: s.world(t, "witness"), typ: w.typ, own: map[string]string{}}
				served.wish([]string{"*"})
				served.settle(3 * time.Minute)
				want := maps.Clone(served.own)
				maps.DeleteFunc(want, func(n, _ string) bool { return !w.wants(n) })
				if w.typ == eds { // what is gone cannot be said
					maps.DeleteFunc(w.own, func(n, _ string) bool { _, ok := want[n]; return !ok })
				}
				if !maps.Equal(w.own, want) {
					t.Errorf("seed %d, %s: has %v, want %v (all %t, names %v)", seed, w.typ[strings.LastIndex(w.typ, ".")+1:],
						slices.Sorted(maps.Keys(w.own)), slices.Sorted(maps.Keys(want)), w.all(), w.names)
				}
			})
		})
	}
}
