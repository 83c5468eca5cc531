// Package fleet plays many proxies on one machine.
//
// In: a server's address, credentials, how many. Out: clients over
// incremental aggregated xDS, each with a connection of its own, that confirm
// every response; and when the last of them has confirmed a change. They parse no
// resource, so that the processor is left to the server, but they keep the
// version of every resource: a client that missed a change is found.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/compiler/release"
)

// Config is what a fleet needs.
type Config struct {
	// Target is the server in gRPC's form: "passthrough:///127.0.0.1:1" or "unix:/path".
	Target      string
	Credentials credentials.TransportCredentials
	Nodes       []string
	// Want is how many resources of each type every client must have.
	Want map[string]int
	// Endpoints and Routes are the names to ask for.
	Endpoints, Routes []string
}

// Fleet is clients of one server. Use it from one goroutine.
type Fleet struct {
	cfg      Config
	ctx      context.Context //nolint:containedctx // parent of all streams
	clients  []*client
	up, down atomic.Int64

	texts sync.Map // one copy of each name and version

	mu      sync.Mutex
	err     error
	waiting *watch
	ages    *ages
}

// Confirmed is when the first and the last client had a change.
type Confirmed struct{ First, Last time.Time }

// watch counts the clients that confirmed a resource. Each counts once, since a
// confirmation is counted only when the version is another.
type watch struct {
	typ, name string
	left      int
	seen      Confirmed
	done      chan struct{}
}

// New makes clients that are not connected.
func New(ctx context.Context, cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, ctx: ctx}
	for _, n := range cfg.Nodes {
		f.clients = append(f.clients, &client{fleet: f, node: n})
	}
	return f
}

// Connect opens all streams, as fast as the machine can, and waits until every
// client is connected.
func (f *Fleet) Connect() error {
	g, ctx := errgroup.WithContext(f.ctx)
	const atOnce = 64
	g.SetLimit(atOnce)
	for _, c := range f.clients {
		g.Go(func() error {
			conn, err := grpc.NewClient(f.cfg.Target, grpc.WithTransportCredentials(f.cfg.Credentials),
				grpc.WithDisableServiceConfig(), grpc.WithNoProxy(), grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
				grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{&f.up, &f.down}), grpc.MaxCallRecvMsgSize(64<<20)))
			if err != nil {
				return fmt.Errorf("client %s: %w", c.node, err)
			}
			c.conn = conn
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.open(f.ctx)
		})
	}
	return g.Wait()
}

// Full waits until every client has everything.
func (f *Fleet) Full(limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		missing := ""
		for _, c := range f.clients {
			for typ, n := range f.cfg.Want {
				if got := c.count(typ); got != n {
					missing = fmt.Sprintf("client %s has %d of %d resources of type %s", c.node, got, n, typ)
				}
			}
			if missing != "" {
				break
			}
		}
		if err := errors.Join(f.Err(), f.ctx.Err()); err != nil {
			return err
		}
		if missing == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v %s", limit, missing)
		}
	}
}

// Expect waits for a change: all clients shall confirm another version of a
// resource ("" is any one of the type). Call it before the change, and wait with the returned function: it
// gives the times of the confirmations.
func (f *Fleet) Expect(typ, name string) func(limit time.Duration) (Confirmed, error) {
	w := &watch{typ: typ, name: name, left: len(f.clients), done: make(chan struct{})}
	f.mu.Lock()
	f.waiting = w
	f.mu.Unlock()
	return func(limit time.Duration) (Confirmed, error) {
		t := time.NewTimer(limit)
		defer t.Stop()
		select {
		case <-w.done:
			return w.seen, errors.Join(f.Err(), f.same(typ, name))
		case <-f.ctx.Done():
			return Confirmed{}, f.ctx.Err()
		case <-t.C:
			f.mu.Lock()
			defer f.mu.Unlock()
			return Confirmed{}, errors.Join(f.err, fmt.Errorf("%d of %d clients missed the change of %q", w.left, len(f.clients), name))
		}
	}
}

// same demands that all clients have one version of a resource.
func (f *Fleet) same(typ, name string) error {
	first := f.clients[0].version(typ, name)
	for _, c := range f.clients {
		if v := c.version(typ, name); v != first {
			return fmt.Errorf("client %s has version %q of %q, others have %q", c.node, v, name, first)
		}
	}
	return nil
}

func (f *Fleet) confirmed(typ, name string) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.waiting
	if w == nil || w.typ != typ || w.name != "" && w.name != name || w.left == 0 {
		return
	}
	if w.seen.First.IsZero() {
		w.seen.First = now
	}
	if w.left--; w.left == 0 {
		w.seen.Last = now
		close(w.done)
	}
}

// ages are how long changes of one resource took to each client.
type ages struct {
	typ, name string
	state     func(body []byte) (int, bool)
	made      []time.Time // of each change
	last      map[*client]int
	took      measure.Samples
}

// Age begins to measure how long each change of a resource takes to each client's
// confirmation. state reads from the resource's bytes which change it shows, where n
// changes have been made: a client that was told a later one has the earlier ones too.
// The first function notes changes, of which n have been due by then; the second ends it.
func (f *Fleet) Age(typ, name string, state func(body []byte, n int) (int, bool)) (made func(at time.Time), end func() measure.Samples) {
	a := &ages{typ: typ, name: name, last: map[*client]int{}}
	a.state = func(body []byte) (int, bool) { return state(body, len(a.made)) }
	f.mu.Lock()
	f.ages = a
	f.mu.Unlock()
	made = func(at time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		a.made = append(a.made, at)
	}
	return made, func() measure.Samples {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ages = nil
		now := time.Now()
		for _, c := range f.clients { // what did not arrive is at least that old
			for n := a.last[c]; n < len(a.made); n++ {
				a.took = append(a.took, now.Sub(a.made[n]))
			}
		}
		return a.took
	}
}

// age notes what a response confirmed.
func (f *Fleet) age(c *client, r response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.ages
	if a == nil || a.typ != r.typ {
		return
	}
	now := time.Now()
	for _, res := range r.resources {
		if res.name != a.name {
			continue
		}
		if n, ok := a.state(res.body); ok {
			for ; a.last[c] < n; a.last[c]++ {
				a.took = append(a.took, now.Sub(a.made[a.last[c]]))
			}
		}
	}
}

func (f *Fleet) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// Err is the first failure of a client.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Bytes are those of all messages, without the transport's own.
func (f *Fleet) Bytes() (up, down int64) { return f.up.Load(), f.down.Load() }

// Disconnect ends all streams and connections. The clients keep what they have
// and name it when they connect again.
func (f *Fleet) Disconnect() {
	var wg sync.WaitGroup
	for _, c := range f.clients {
		if c.conn != nil {
			wg.Go(c.close)
		}
	}
	wg.Wait()
}

// following is what a client asks for once it has a type.
func (f *Fleet) following(typ string) (string, []string) {
	if typ == release.ClusterType {
		return release.EndpointType, f.cfg.Endpoints
	}
	return release.RouteType, f.cfg.Routes
}

// one is the only copy of a text.
func (f *Fleet) one(s string) string {
	v, _ := f.texts.LoadOrStore(s, s)
	return v.(string) //nolint:forcetypeassert // only strings are put there
}
