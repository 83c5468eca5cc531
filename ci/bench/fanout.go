package main

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/ci/bench/internal/content"
	"meshc.dev/meshc/ci/bench/internal/fleet"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/pki"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/xds"
	"meshc.dev/meshc/compiler/release"
)

// cost is what one event cost a server: processor time until it was idle again,
// the time until the last client had confirmed, payload in both directions.
type cost struct {
	CPU, Last measure.Samples
	// Spread is from the first client's confirmation to the last one's.
	Spread   measure.Samples
	Up, Down int64
}

// costs are those of one server with so many clients.
type costs struct {
	cold, endpoint, route, again cost
	idle, peak                   float64 // MiB
	// rest is the processor time that a second without changes costs, in ms.
	rest float64
	// ages is how long each of many changes took to each client, churn what a second of
	// them cost, in ms.
	ages  measure.Samples
	churn float64
}

// stepLimit is how long one event may take the slowest server.
const stepLimit = 5 * time.Minute

// fanout measures servers that tell many clients about one change.
func (b *bench) fanout(s report.Section) error {
	services, sizes := 1000, b.clients
	if b.quick {
		services, sizes = 50, []int{20}
	}
	root, err := pki.NewRoot()
	if err != nil {
		return err
	}
	for _, n := range sizes {
		all := map[xds.Kind]costs{}
		for _, kind := range append([]xds.Kind{xds.Meshc}, xds.Peers()...) {
			b.say("fanout: %s, %d clients", kind, n)
			c, err := b.race(root, kind, services, n)
			if err != nil {
				return fmt.Errorf("%s with %d clients: %w", kind, n, err)
			}
			all[kind] = c
		}
		compareCosts(s, all, n)
	}
	return nil
}

// compareCosts writes the figures of one number of clients.
func compareCosts(s report.Section, all map[xds.Kind]costs, n int) {
	for _, e := range []struct {
		name string
		of   func(costs) cost
	}{
		{oneEndpoint, func(c costs) cost { return c.endpoint }},
		{oneRoute, func(c costs) cost { return c.route }},
		{"first connect of all", func(c costs) cost { return c.cold }},
		{"reconnect of all, versions known", func(c costs) cost { return c.again }},
	} {
		for _, kind := range append([]xds.Kind{xds.Meshc}, xds.Peers()...) {
			c := e.of(all[kind])
			s.Add(fmt.Sprintf("%d clients, %s: %s", n, e.name, kind), measure.MS(c.CPU.Median()), "ms CPU", "best %s ms of %d; last client after %.0f ms, from the first to the last %.0f ms; %.2f MiB down, %.2f up",
				ms(c.CPU.Best()), len(c.CPU), measure.MS(c.Last.Median()), measure.MS(c.Spread.Median()), measure.MiB(c.Down), measure.MiB(c.Up))
		}
		for _, kind := range xds.Peers() {
			name := fmt.Sprintf("%d clients, %s: times less CPU than %s", n, e.name, kind)
			ratio := float64(e.of(all[kind]).CPU.Median()) / float64(e.of(all[xds.Meshc]).CPU.Median())
			if bound, ok := bounds(e.name, n)[kind]; ok {
				s.AtLeast(bound, name, ratio, "x", "medians")
			} else {
				s.Add(name, ratio, "x", "medians")
			}
		}
	}
	for _, kind := range append([]xds.Kind{xds.Meshc}, xds.Peers()...) {
		c := all[kind]
		s.Add(fmt.Sprintf("%d clients, nothing changes: %s", n, kind), c.rest, "ms CPU/s", "")
		if len(c.ages) > 0 {
			s.Add(fmt.Sprintf("%d clients, %d endpoint changes a second: %s", n, perSecond, kind), measure.MS(c.ages.Percentile(99)), "ms",
				"p99 from a change to each confirmation; median %s ms; %.0f ms CPU/s", ms(c.ages.Median()), c.churn)
		}
	}
	for _, kind := range append([]xds.Kind{xds.Meshc}, xds.Peers()...) {
		c, name := all[kind], fmt.Sprintf("%d clients, memory when idle: %s", n, kind)
		if kind == xds.Meshc && n == 1000 {
			s.AtMost(150, name, c.idle, "MiB", "peak of the whole run %.0f MiB", c.peak)
		} else {
			s.Add(name, c.idle, "MiB", "peak of the whole run %.0f MiB", c.peak)
		}
	}
}

// bounds are how many times less CPU than a peer one endpoint and one route may
// cost: for the floor, that is, at most 1.5 times as much.
func bounds(event string, clients int) map[xds.Kind]float64 {
	const floor = 1 / 1.5
	switch {
	case event == oneRoute:
		return map[xds.Kind]float64{xds.Linear: 1}
	case event == oneEndpoint && clients == 1000:
		return map[xds.Kind]float64{xds.PerNode: 80, xds.Shared: 8, xds.Linear: 8, xds.Floor: floor}
	}
	return nil
}

// The events that have a bound.
const (
	oneEndpoint = "one endpoint"
	oneRoute    = "one route"
)

// race takes one server through all events.
func (b *bench) race(root *pki.Root, kind xds.Kind, services, clients int) (costs, error) {
	var c costs
	dir, err := os.MkdirTemp("", "mb")
	if err != nil {
		return c, fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	setup := xds.Setup{Kind: kind, Dir: dir, Services: services}
	if setup.TLS, err = root.Issue(pki.ServerID); err != nil {
		return c, err
	}
	mine, err := root.Issue(xds.Class().SPIFFEID(pki.TrustDomain))
	if err != nil {
		return c, err
	}
	cfg := fleet.Config{Want: map[string]int{
		release.ClusterType: services, release.EndpointType: services, release.ListenerType: content.Tables, release.RouteType: content.Tables,
	}}
	tc, err := mine.Client()
	if err != nil {
		return c, err
	}
	cfg.Credentials = credentials.NewTLS(tc)
	for i := range clients {
		cfg.Nodes = append(cfg.Nodes, fmt.Sprintf("client-%05d", i))
	}
	for i := range services {
		cfg.Endpoints = append(cfg.Endpoints, content.Service(i))
	}
	for j := range content.Tables {
		cfg.Routes = append(cfg.Routes, content.Table(j))
	}
	setup.Nodes = cfg.Nodes
	p, err := xds.Start(setup, b.err, childFlag, "serve")
	if err != nil {
		return c, err
	}
	defer p.Stop()
	cfg.Target = "passthrough:///" + p.Address
	f := fleet.New(b.ctx, cfg)
	defer f.Disconnect()
	r := &racer{b: b, kind: kind, p: p, f: f, services: services, clients: clients, rest: 10 * time.Second}
	if b.quick {
		r.rest = time.Second
	}
	return r.run()
}

// racer is one server with its clients.
type racer struct {
	b        *bench
	kind     xds.Kind
	p        *xds.Process
	f        *fleet.Fleet
	services int
	clients  int
	rest     time.Duration
	state    content.State
}

func (r *racer) run() (costs, error) {
	var c costs
	connect := func() (fleet.Confirmed, error) {
		start := time.Now()
		err := r.f.Connect()
		if err == nil {
			err = r.f.Full(stepLimit)
		}
		return fleet.Confirmed{First: start, Last: time.Now()}, err
	}
	if err := r.measure(&c.cold, connect); err != nil {
		return c, fmt.Errorf("first connect: %w", err)
	}
	time.Sleep(r.rest) // idle is what is left some time after
	u, err := r.p.Usage()
	if err != nil {
		return c, err
	}
	c.idle = measure.MiB(u.Memory.Now)
	time.Sleep(r.rest / 2)
	calm, err := r.p.Usage()
	if err != nil {
		return c, err
	}
	c.rest = measure.MS(calm.CPU-u.CPU) / (r.rest / 2).Seconds()
	rounds := 9
	if r.b.quick {
		rounds = 2
	}
	for range rounds {
		if err := r.change(&c.endpoint, release.EndpointType, content.Service(content.Moving(r.services)), func(s *content.State) { s.Endpoint++ }); err != nil {
			return c, fmt.Errorf("one endpoint: %w", err)
		}
		if err := r.change(&c.route, release.RouteType, content.Table(content.Changing), func(s *content.State) { s.Route++ }); err != nil {
			return c, fmt.Errorf("one route: %w", err)
		}
		if median := c.endpoint.CPU.Median(); median > 4*time.Second && len(c.endpoint.CPU) >= 3 {
			break // the time is better spent on the others
		}
	}
	if err := r.churn(&c); err != nil {
		return c, fmt.Errorf("many changes: %w", err)
	}
	r.f.Disconnect()
	if err := r.measure(&c.again, connect); err != nil {
		return c, fmt.Errorf("reconnect: %w", err)
	}
	// A change after the reconnect shows that everybody is there again.
	var proof cost
	if err := r.change(&proof, release.EndpointType, content.Service(content.Moving(r.services)), func(s *content.State) { s.Endpoint++ }); err != nil {
		return c, fmt.Errorf("after the reconnect: %w", err)
	}
	u, err = r.p.Usage()
	c.peak = measure.MiB(u.Memory.Peak)
	return c, err
}

const (
	// perSecond is how often endpoints change when they change all the time, and
	// churning to how many clients: to more of them two cores cannot tell each change.
	perSecond, churning = 200, 100
)

// churn changes one service's endpoints at a steady rate. A server that is slow to take
// one change is told the newest that is due next: all of them count from when they were due.
func (r *racer) churn(c *costs) error {
	if r.clients > churning || r.kind == xds.PerNode { // which takes longer for one change than there is between ten
		return nil
	}
	before, err := r.p.Idle(stepLimit)
	if err != nil {
		return err
	}
	first := r.state.Endpoint
	made, end := r.f.Age(release.EndpointType, content.Service(content.Moving(r.services)), func(body []byte, n int) (int, bool) {
		at, ok := content.StateIn(body, first+n)
		return at - first, ok
	})
	start, n := time.Now(), 0
	for time.Since(start) < r.rest {
		due := int(time.Since(start).Seconds()*perSecond) + 1
		if due == n {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / perSecond)))
			continue
		}
		for ; n < due; n++ {
			made(start.Add(time.Duration(n) * time.Second / perSecond))
		}
		r.state.Endpoint = first + n
		if err := r.p.Change(r.state); err != nil {
			return err
		}
	}
	took := time.Since(start)
	after, err := r.p.Idle(stepLimit)
	c.ages, c.churn = end(), measure.MS(after.CPU-before.CPU)/took.Seconds()
	return err
}

func (r *racer) change(c *cost, typ, name string, next func(*content.State)) error {
	next(&r.state)
	if err := r.p.Prepare(r.state); err != nil {
		return err
	}
	return r.measure(c, func() (fleet.Confirmed, error) {
		wait := r.f.Expect(typ, name)
		if err := r.p.Change(r.state); err != nil {
			return fleet.Confirmed{}, err
		}
		return wait(stepLimit)
	})
}

// measure takes the cost of an event, from an idle server to an idle server.
func (r *racer) measure(c *cost, event func() (fleet.Confirmed, error)) error {
	runtime.GC() // the clients' own garbage shall not be in the way
	before, err := r.p.Idle(stepLimit)
	if err != nil {
		return err
	}
	up, down := r.f.Bytes()
	start := time.Now()
	seen, err := event()
	if err != nil {
		return err
	}
	after, err := r.p.Idle(stepLimit)
	if err != nil {
		return err
	}
	c.CPU, c.Last = append(c.CPU, after.CPU-before.CPU), append(c.Last, seen.Last.Sub(start))
	c.Spread = append(c.Spread, seen.Last.Sub(seen.First))
	c.Up, c.Down = r.f.Bytes()
	c.Up, c.Down = c.Up-up, c.Down-down
	return nil
}
