package stream_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// mesh is a random class: listeners with a route table each, which leads to clusters.
func mesh(t testing.TB, r *rand.Rand) classSpec {
	c := classSpec{class: shop}
	used := map[string]bool{}
	for i := range 1 + r.IntN(3) {
		to := services[r.IntN(len(services))]
		used[to] = true
		name := fmt.Sprint("r", r.IntN(2), i)
		c.res = append(c.res, listener(t, fmt.Sprint("in", i), 15001+i, name), routesWithHost(name, to, fmt.Sprint("h", r.IntN(3))))
	}
	for _, s := range services {
		if used[s] || r.IntN(3) == 0 {
			c.res = append(c.res, edsCluster(s, time.Duration(1+r.IntN(2))*time.Second), assignment(s, 1000+int(s[0])))
		}
	}
	return c
}

// state is what a proxy has, by type and name, and the rules that it keeps to at
// every moment: what is used exists.
type state struct {
	t        *testing.T
	what     string
	has      map[string]map[string]proto.Message
	versions map[string]map[string]string
}

func newState(t *testing.T, what string) *state {
	s := &state{t: t, what: what, has: map[string]map[string]proto.Message{}, versions: map[string]map[string]string{}}
	for _, typ := range release.Types() {
		s.has[typ], s.versions[typ] = map[string]proto.Message{}, map[string]string{}
	}
	return s
}

func (s *state) put(a *anypb.Any, version string) string {
	m, err := a.UnmarshalNew()
	if err != nil {
		s.t.Fatal(err)
	}
	s.has[a.GetTypeUrl()][nameOf(m)], s.versions[a.GetTypeUrl()][nameOf(m)] = m, version
	return nameOf(m)
}

func (s *state) drop(typ, name string) {
	delete(s.has[typ], name)
	delete(s.versions[typ], name)
}

func clustersOf(m proto.Message) []string {
	var out []string
	for _, v := range m.(*routev3.RouteConfiguration).GetVirtualHosts() {
		for _, r := range v.GetRoutes() {
			out = append(out, r.GetRoute().GetCluster())
		}
	}
	return out
}

func tableOf(t testing.TB, m proto.Message) string {
	h := hcm(t, "", "")
	if err := m.(*listenerv3.Listener).GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(h); err != nil {
		t.Fatal(err)
	}
	return h.GetRds().GetRouteConfigName()
}

// check tells of the first use of something that is not there. A new listener gets
// its table after it: it takes no requests before.
func (s *state) check(after string) {
	s.t.Helper()
	for name, l := range s.has[lds] {
		table, ok := s.has[rds][tableOf(s.t, l)]
		if !ok {
			continue
		}
		for _, c := range clustersOf(table) {
			if s.has[cds][c] == nil || s.has[eds][c] == nil {
				s.t.Fatalf("%s: after %s listener %s leads to %q, which is there: %t, with endpoints: %t", s.what, after, name, c, s.has[cds][c] != nil, s.has[eds][c] != nil)
			}
		}
	}
}

// wants are the names of a type that the state makes a proxy ask for.
func (s *state) wants(typ string) []string {
	var out []string
	switch typ {
	case eds:
		out = slices.Collect(maps.Keys(s.has[cds]))
	case rds:
		for _, l := range s.has[lds] {
			out = append(out, tableOf(s.t, l))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// another is a server that knows what was approved before, as after a restart.
func another(t *testing.T, before, now release.Release) *server {
	t.Helper()
	n := startInMemory(t, stream.Limits{})
	ready, err := n.hub.Prepare(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	n.hub.Recall(ready, stream.Approval{Commit: "commit-1", Position: rollout.Position{Place: 1}})
	n.place = 1
	n.publish(t, "commit-2", now)
	return n
}

// order is the types in random order, and pauses before each.
func order(r *rand.Rand) (types []string, pauses []time.Duration) {
	types = []string{cds, eds, lds, rds}
	r.Shuffle(len(types), func(i, j int) { types[i], types[j] = types[j], types[i] })
	for range types {
		pauses = append(pauses, time.Duration(r.IntN(2)*r.IntN(4500))*time.Millisecond)
	}
	return types, pauses
}

// TestReconnectInAnyOrder: whatever a delta client says first when it comes back to a
// server with another release, and however long it takes to go on, nothing that it
// uses is missing at any moment, and in the end it has the new release.
func TestReconnectInAnyOrder(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				r := rand.New(rand.NewPCG(seed, 3))
				first, second := seal(t, mesh(t, r)), seal(t, mesh(t, r))
				s.publish(t, "commit-1", first)
				st := newState(t, fmt.Sprint("seed ", seed))
				playDelta(t, s.delta(t, shop, "p"), st, r, []string{cds, eds, lds, rds}, make([]time.Duration, 4))
				next := another(t, first, second)
				if seed%3 == 0 { // one that never had what the proxy has
					next = startInMemory(t, stream.Limits{})
					next.publish(t, "commit-2", second)
				}
				types, pauses := order(r)
				st.what += fmt.Sprint(types, pauses)
				playDelta(t, next.delta(t, shop, "p"), st, r, types, pauses)
				next.arrived(t, "commit-2", soon)
			})
		})
	}
}

// TestResumedStreamIsHeardOut: a proxy that comes back is sent nothing before it has
// named all that it has, or was silent for a second after the last of it.
func TestResumedStreamIsHeardOut(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		first, second := seal(t, app(t, time.Second, "a")), seal(t, app(t, time.Second, "a", "b"))
		s.publish(t, "commit-1", first)
		p := s.delta(t, shop, "p")
		p.boot("a")
		for _, late := range []bool{false, true} {
			next := another(t, first, second)
			c := next.delta(t, shop, "p")
			c.resume(cds, p.has[cds])
			c.quiet(900 * time.Millisecond)
			c.resume(lds, p.has[lds])
			c.quiet(900 * time.Millisecond)
			said := time.Now()
			if !late {
				c.resume(eds, p.has[eds], "a")
				c.resume(rds, p.has[rds], "r")
			}
			c.want(cds, []string{"b"})
			if d := time.Since(said); d > 200*time.Millisecond || late && d < 50*time.Millisecond {
				t.Errorf("late %t: it came after %s", late, d)
			}
		}
	})
}

// TestRouteTableOfAnUnknownListener: a table that the release no longer has stays as long
// as a proxy that came back has not said which listeners it has.
func TestRouteTableOfAnUnknownListener(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		first, next := seal(t, app(t, time.Second, "a")), app(t, time.Second, "a")
		s.publish(t, "commit-1", first)
		p := s.delta(t, shop, "p")
		p.boot("a")
		next.res[0], next.res[1] = listener(t, "in", 15001, "r2"), routes("r2", "a")
		n := another(t, first, seal(t, next))
		c := n.delta(t, shop, "p")
		c.resume(rds, p.has[rds], "r")
		c.resume(cds, p.has[cds])
		c.resume(eds, p.has[eds], "a")
		c.quiet(4 * time.Second)
		c.resume(lds, p.has[lds])
		l := c.want(lds, []string{"in"})
		c.subscribe(rds, "r2")
		c.ack(c.want(rds, []string{"r2"}))
		c.ack(l)
		c.ack(c.want(rds, nil, "r"))
		n.arrived(t, "commit-2", soon)
	})
}

// TestWorldAheadOfServer: a state-of-the-world proxy that has something newer than a
// server keeps it as well; live addresses go on; and a signed rollback goes back.
func TestWorldAheadOfServer(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		old := seal(t, withHost(t, "old"))
		s.publish(t, "commit-1", old)
		s.publish(t, "commit-2", seal(t, withHost(t, "new")))
		st := newState(t, "")
		r := rand.New(rand.NewPCG(1, 1))
		c := s.world(t, "p")
		playWorld(t, c, st, r, []string{cds, eds, lds, rds}, make([]time.Duration, 4))
		s.arrived(t, "commit-2", soon)
		had := c.has[rds]
		less := startInMemory(t, stream.Limits{})
		less.publish(t, "commit-1", old)
		again := less.world(t, "p")
		again.has = c.has
		playWorld(t, again, st, r, []string{cds, rds, lds, eds}, make([]time.Duration, 4))
		if again.has[rds] != had || less.ledger.Status().Proxies[0].Ahead == "" {
			t.Errorf("it was given %s in place of %s; %+v", again.has[rds], had, less.ledger.Status().Proxies)
		}
		less.publishAt(t, "rollback", old, rollout.Position{Place: 1, Rollbacks: 1})
		playWorld(t, again, st, r, nil, nil)
		less.arrived(t, "rollback", soon)
		if again.has[rds] == had {
			t.Error("a rollback is not followed")
		}
	})
}

// playDelta opens the types in order, confirms what comes, and returns when nothing
// has come for some time.
func playDelta(t *testing.T, c *deltaClient, st *state, r *rand.Rand, types []string, pauses []time.Duration) {
	t.Helper()
	asked := map[string][]string{}
	follow := func() { // ask for what has become needed, and no longer for the rest
		for typ, before := range asked {
			now := st.wants(typ)
			add := slices.DeleteFunc(slices.Clone(now), func(n string) bool { return slices.Contains(before, n) })
			drop := slices.DeleteFunc(slices.Clone(before), func(n string) bool { return slices.Contains(now, n) })
			if asked[typ] = now; len(add)+len(drop) > 0 {
				c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop})
			}
			for _, n := range drop {
				st.drop(typ, n)
			}
		}
	}
	take := func(d time.Duration) bool {
		select {
		case m, ok := <-c.in:
			if !ok {
				t.Fatalf("stream ended: %v", <-c.err)
			}
			for _, res := range m.GetResources() {
				st.put(res.GetResource(), res.GetVersion())
			}
			for _, n := range m.GetRemovedResources() {
				st.drop(m.GetTypeUrl(), n)
			}
			st.check(fmt.Sprint(m.GetTypeUrl(), " +", len(m.GetResources()), " -", m.GetRemovedResources()))
			if r.IntN(2) == 0 {
				follow()
			}
			c.ack(m)
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			follow()
			return true
		case <-time.After(d):
			return false
		}
	}
	for i, typ := range types {
		for end := time.Now().Add(pauses[i]); time.Now().Before(end); {
			take(time.Until(end))
		}
		names := st.wants(typ)
		if typ == eds || typ == rds {
			if asked[typ] = names; len(names) == 0 {
				continue // nothing to ask for: that follows later
			}
		}
		c.resume(typ, maps.Clone(st.versions[typ]), names...)
	}
	for take(30 * time.Second) {
	}
}

// TestWorldInAnyOrder is TestReconnectInAnyOrder for the other protocol, and for a
// release that changes under an open stream.
func TestWorldInAnyOrder(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				r := rand.New(rand.NewPCG(seed, 4))
				first, second := seal(t, mesh(t, r)), seal(t, mesh(t, r))
				s.publish(t, "commit-1", first)
				st := newState(t, fmt.Sprint("seed ", seed))
				c := s.world(t, "p")
				playWorld(t, c, st, r, []string{cds, eds, lds, rds}, make([]time.Duration, 4))
				if r.IntN(2) == 0 {
					s.publish(t, "commit-2", second)
					playWorld(t, c, st, r, nil, nil)
					s.arrived(t, "commit-2", soon)
					return
				}
				next := another(t, first, second)
				types, pauses := order(r)
				st.what += fmt.Sprint(types, pauses)
				again := next.world(t, "p")
				again.has = c.has
				playWorld(t, again, st, r, types, pauses)
				next.arrived(t, "commit-2", soon)
			})
		})
	}
}

// playWorld is playDelta for the other protocol.
func playWorld(t *testing.T, c *worldClient, st *state, r *rand.Rand, types []string, pauses []time.Duration) {
	t.Helper()
	follow := func() {
		for _, typ := range []string{eds, rds} {
			if now := st.wants(typ); c.open[typ] && !slices.Equal(now, c.names[typ]) {
				for _, n := range slices.Sorted(maps.Keys(st.has[typ])) {
					if !slices.Contains(now, n) {
						st.drop(typ, n)
					}
				}
				c.ask(typ, c.nonces[typ], now...)
			}
		}
	}
	take := func(d time.Duration) bool {
		select {
		case m, ok := <-c.in:
			if !ok {
				t.Fatal("stream ended")
			}
			typ, got := m.GetTypeUrl(), map[string]bool{}
			for _, a := range m.GetResources() {
				got[st.put(a, m.GetVersionInfo())] = true
			}
			if typ == cds || typ == lds {
				for _, n := range slices.Sorted(maps.Keys(st.has[typ])) {
					if !got[n] {
						st.drop(typ, n)
					}
				}
			}
			st.check(fmt.Sprint(typ, slices.Sorted(maps.Keys(got))))
			c.nonces[typ] = m.GetNonce()
			c.ack(m)
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			follow()
			return true
		case <-time.After(d):
			return false
		}
	}
	for i, typ := range types {
		for end := time.Now().Add(pauses[i]); time.Now().Before(end); {
			take(time.Until(end))
		}
		c.open[typ] = true
		c.ask(typ, "", st.wants(typ)...)
	}
	for take(30 * time.Second) {
	}
}
