package imports

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/rehearsal"
)

var (
	translate = flag.Bool("translate", false, "have the other implementations translate what is drawn, in place of reading what they said: their programs are built, minutes, once")

	seed     = flag.Uint64("seed", usualSeed, "seed of what is drawn; others than that go with -translate")
	gateways = flag.Int("gateways", usualGateways, "number of gateways")
	requests = flag.Int("each", usualEach, "number of requests for each of them")
)

const (
	usualSeed     = 1
	usualGateways = 28
	usualEach     = 80
	parallel      = 4   // requests under way at once
	patient       = 400 // how often a side is asked until it has shown all backends that the other one has
	splits        = 8   // rules whose shares are measured
	often         = 300 // requests by which a share is measured
)

// pair is a request on both sides: what each told, by the backend that it reached.
type pair struct {
	gateway      gateway
	request      request
	ours, theirs map[string]told
}

// What meshc makes of Gateway API's objects is what Envoy Gateway makes of them, on real Envoys; or the
// difference is one that is listed, and the specification says what meshc does.
func TestGatewayAPI(t *testing.T) {
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	d := drawing{rand.New(rand.NewPCG(*seed, 1))}
	var drawn []gateway
	for i := range *gateways {
		drawn = append(drawn, d.gateway(fmt.Sprintf("g%d", i)))
	}
	m := meshc(t, bin, drawn)
	theirs := side{"Envoy Gateway", envoyGateway(t, bin, drawn, m.applications())}
	c := comparison{imported: m, theirs: theirs, met: map[string]int{}, listed: map[string]int{}}
	c.ask(t, d, drawn)
	c.collect(t.Context())
	for _, p := range c.pairs {
		c.judge(t, p)
	}
	c.measure(t)
	t.Logf("%d requests, %d of hosts that are not written; met: %v; listed differences: %v", len(c.pairs), c.left, c.met, c.listed)
	if *seed == 1 && *gateways == usualGateways && *requests == usualEach {
		c.floors(t)
	}
}

// comparison is what both sides have told.
type comparison struct {
	imported
	theirs side
	pairs  []pair
	number atomic.Int64
	left   int            // requests of hosts that are not written, which the import tells
	met    map[string]int // how often each kind has been compared
	listed map[string]int // how often each listed difference has come up
}

// ask draws requests and sends them to both sides.
func (c *comparison) ask(t *testing.T, d drawing, drawn []gateway) {
	t.Helper()
	type task struct {
		g gateway
		q request
	}
	var tasks []task
	for _, g := range drawn {
		for range *requests {
			if q := d.request(g); c.unwritten(g, q) {
				c.left++
			} else {
				tasks = append(tasks, task{g, q})
			}
		}
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(parallel)
	c.pairs = make([]pair, len(tasks))
	for i, x := range tasks {
		group.Go(func() error {
			p := pair{x.g, x.q, map[string]told{}, map[string]told{}}
			c.pairs[i] = p
			return c.both(ctx, p)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// both asks both sides, until each has shown the backends that the other has.
func (c *comparison) both(ctx context.Context, p pair) error {
	for i := range patient {
		for _, s := range []struct {
			side
			here, there map[string]told
		}{{c.side, p.ours, p.theirs}, {c.theirs, p.theirs, p.ours}} {
			if i > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(s.there)), func(k string) bool { _, ok := s.here[k]; return !ok }) {
				continue
			}
			a, err := c.once(ctx, s.side, p)
			if err != nil {
				return fmt.Errorf("%s: %+v: %w", p.gateway.name, p.request, err)
			}
			if _, again := s.here[a.target()]; !again {
				s.here[a.target()] = a
			}
		}
		if same(p.ours, p.theirs) || rules(p.ours) != rules(p.theirs) {
			return nil
		}
	}
	return nil
}

// once asks a side. A machine that is busy may be later than a rule's timeout: who has not asked for that asks again.
func (c *comparison) once(ctx context.Context, s side, p pair) (told, error) {
	for i := 0; ; i++ {
		a, err := s.ask(ctx, p.gateway, p.request, fmt.Sprint(c.number.Add(1)))
		if err != nil || a.Status != http.StatusGatewayTimeout || p.request.wait || i == patient {
			return a, err
		}
	}
}

func same(a, b map[string]told) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// rules are the tags of the rules that answered.
func rules(of map[string]told) string {
	var out []string
	for _, t := range of {
		out = append(out, fmt.Sprint(t.Status, t.rule()))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// settled is what has arrived, once nothing more does: copies come when they like.
func settled(ctx context.Context, stage *rehearsal.Stage) []rehearsal.Seen {
	for before := -1; ; <-time.After(300 * time.Millisecond) {
		seen := stage.Seen()
		if len(seen) == before || ctx.Err() != nil {
			return seen
		}
		before = len(seen)
	}
}

// collect adds the copies.
func (c *comparison) collect(ctx context.Context) {
	arrived := map[string][]rehearsal.Seen{}
	for _, s := range settled(ctx, c.stage) {
		id := strings.Join(s.Headers[asked], "")
		s.Headers = kept(s.Headers)
		arrived[id] = append(arrived[id], s)
	}
	for _, p := range c.pairs {
		for _, side := range []map[string]told{p.ours, p.theirs} {
			for k, a := range side {
				copies := arrived[a.id]
				if i := slices.IndexFunc(copies, func(s rehearsal.Seen) bool { return s.Target == a.target() }); i >= 0 {
					copies = slices.Delete(slices.Clone(copies), i, i+1)
				}
				slices.SortFunc(copies, func(a, b rehearsal.Seen) int { return strings.Compare(a.Target, b.Target) })
				a.Copies = copies
				side[k] = a
			}
		}
	}
}

// judge compares a pair.
func (c *comparison) judge(t *testing.T, p pair) {
	t.Helper()
	if methodCounts(p, first(p.ours), first(p.theirs)) { // two rules, which lead elsewhere
		c.listed["order"]++
		return
	}
	if c.closed(p) {
		c.listed["closed"]++
		return
	}
	for target := range union(p.ours, p.theirs) {
		ours, theirs := p.ours[target], p.theirs[target]
		if c.some(p, ours) {
			ours.Copies, theirs.Copies = nil, nil // chance decides: measured by itself
		}
		if p.request.wait && target == "" { // nobody knows which backend was too late
			ours, theirs = ours.late(), theirs.late()
		}
		if words(ours) == words(theirs) {
			continue
		}
		if why := p.listed(ours, theirs); why != "" {
			c.listed[why]++
			return
		}
		t.Errorf("%s: %s\nmeshc         %s\nEnvoy Gateway %s\nrules\n%s\n%s", p.gateway.name, p.request.words(), every(p.ours), every(p.theirs), p.gateway.words(ours.rule()), p.gateway.words(theirs.rule()))
		return
	}
	c.count(p)
}

func union(a, b map[string]told) map[string]told {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func words(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings and numbers: cannot be
	}
	return string(b)
}

// every is all that a side told.
func every(of map[string]told) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		out = append(out, words(of[k]))
	}
	return strings.Join(out, "\n              ")
}

func (q request) words() string {
	return fmt.Sprintf("%s port %d\n%s", q.listener.Protocol, q.listener.Port, strings.TrimSpace(q.bytes("n")))
}

// words are a rule of a gateway, with what is around it.
func (g gateway) words(tag string) string {
	r, x := g.find(tag)
	if x == nil {
		return fmt.Sprintf("%q is none of %s", tag, words(g.Listeners))
	}
	return fmt.Sprintf("%s %s %v at %v: %s", r.name, r.created, r.Hosts, words(r.Parents), words(x))
}

// find is a rule by its tag.
func (g gateway) find(name string) (*route, *rule) {
	for i, r := range g.routes {
		for j, x := range r.Rules {
			if name != "" && x.tag() == name {
				return &g.routes[i], &g.routes[i].Rules[j]
			}
		}
	}
	return nil, nil
}

// tag is the rule's, "" if intent says the rule by itself.
func (r rule) tag() string {
	for _, f := range r.Filters {
		if f.Response != nil {
			for _, v := range f.Response.Set {
				if v.Name == tag {
					return v.Value
				}
			}
		}
	}
	if len(r.Filters) == 1 && r.Filters[0].Redirect != nil && r.Filters[0].Redirect.Code == 308 && r.Filters[0].Redirect.Host == "" {
		return ""
	}
	return untagged
}

// some reports whether chance decides who gets copies.
func (c *comparison) some(p pair, a told) bool {
	_, r := p.gateway.find(a.rule())
	return r != nil && slices.ContainsFunc(r.Filters, filter.chance)
}

// chance reports whether a filter copies some of the requests.
func (f filter) chance() bool { return f.Mirror != nil && f.Mirror.share() > 0 && f.Mirror.share() < 1 }

// share is the part of the requests that is copied.
func (m mirror) share() float64 {
	switch {
	case m.Percent != nil:
		return float64(*m.Percent) / 100
	case m.Fraction != nil:
		return float64(m.Fraction.Numerator) / float64(m.Fraction.Denominator)
	}
	return 1
}

// measure holds shares, of backends and of copies, against the weights.
func (c *comparison) measure(t *testing.T) {
	t.Helper()
	done := map[string]bool{}
	for _, p := range c.pairs {
		_, r := p.gateway.find(first(p.ours).rule())
		if len(done) == splits || r == nil || done[r.tag()] || !same(p.ours, p.theirs) || rules(p.ours) != rules(p.theirs) || p.request.wait {
			continue
		}
		split := 0
		for _, b := range r.Backends {
			if b.weight() > 0 {
				split++
			}
		}
		if split < 2 && !c.some(p, told{Answer: map[string][]string{tag: {r.tag()}}}) {
			continue
		}
		done[r.tag()] = true
		for _, s := range []side{c.side, c.theirs} {
			c.shares(t, p, r, s)
		}
	}
	c.met["shares"] = len(done)
}

// first is what one of a side's backends told.
func first(of map[string]told) told {
	for _, t := range of {
		return t
	}
	return told{}
}

func (c *comparison) shares(t *testing.T, p pair, r *rule, s side) {
	t.Helper()
	mine := map[string]bool{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(parallel)
	for range often {
		group.Go(func() error {
			id := fmt.Sprint(c.number.Add(1))
			mu.Lock()
			mine[id] = true
			mu.Unlock()
			_, err := s.ask(ctx, p.gateway, p.request, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	want, sum := map[string]float64{}, 0
	for _, b := range r.Backends {
		sum += b.weight()
	}
	for _, b := range r.Backends {
		want[p.target(r, b.reference)] += float64(b.weight()) / float64(sum)
	}
	for _, f := range r.Filters {
		if f.Mirror != nil {
			want[p.target(r, f.Mirror.Backend)] += f.Mirror.share()
		}
	}
	got := map[string]float64{}
	for _, x := range settled(t.Context(), c.stage) {
		if mine[strings.Join(x.Headers[asked], "")] {
			got[x.Target]++
		}
	}
	for target, share := range want {
		if far := 6 * math.Sqrt(often*share*(1-share)); math.Abs(got[target]-often*share) > far+1 {
			t.Errorf("%s: %s: %v of %d requests came to %s, whose share is %.2f\n%s", s.name, r.tag(), got[target], often, target, share, words(r))
		}
	}
}

// target is the name of a backend of a rule.
func (p pair) target(of *rule, ref reference) string {
	r, _ := p.gateway.find(of.tag())
	ns := ref.Namespace
	if ns == "" {
		ns = r.namespace
	}
	return service{namespace: ns, name: ref.Name}.target(ref.Port)
}
