package history_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"meshc.dev/meshc/ci/history"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/agent"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	xdsserver "meshc.dev/meshc/xds-server"
)

var (
	events = flag.Int("events", usualEvents, "how many events the history of the servers under faults has at least")
	seed   = flag.Uint64("seed", 1, "seed of the faults; 0 takes a fresh one")
	number = flag.Int("proxies", usualProxies, "how many proxies record what they get; a third are gateways, a quarter refuse things")
	// replicas share the approvals and the authority, and nothing else.
	replicas = flag.Int("replicas", 2, "how many servers the proxies choose among")
)

const (
	usualEvents  = 10_000
	usualProxies = 12
)

func compileDate() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// TestHistory drives servers and proxies through random releases and faults, and
// requests through a real Envoy, and has the checker judge what was received.
func TestHistory(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	w := newWorld(t, *seed)
	start := time.Now()
	for w.count() < *events {
		w.step()
		if w.failed() {
			break
		}
	}
	w.settle()
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("seed %d: %d events in %v: %d releases, %v, %d requests", *seed, w.checker.Events(), time.Since(start).Round(time.Second), w.releases, w.did, w.requests)
	if found := w.checker.Findings(); len(found) > 0 {
		for _, f := range found[:min(len(found), 10)] {
			t.Error(f)
		}
		t.Errorf("%d findings with -seed %d; the history before the first is in %s", len(found), *seed, w.dump())
	}
	for _, k := range []string{"release", "rollback", "kill", "cut", "clock", "addresses", "refusal", "expiry", "exchange"} {
		if w.did[k] == 0 {
			t.Errorf("the history has no %s: it proves nothing about it", k)
		}
	}
	if w.requests == 0 {
		t.Error("no requests")
	}
}

// world is servers, proxies and what happens to them.
type world struct {
	t         *testing.T
	dir       string
	rng       *rand.Rand
	draft     *draft
	authority *ca.Authority
	tokens    *ca.Tokens
	offset    atomic.Int64 // of the servers' clock
	servers   []*replica
	proxies   []*proxy
	known     reader
	faults    atomic.Bool
	backends  []int

	commits  []commit         // that were approved, in their order
	releases int              // how many there were
	approved int              // how many approvals were recorded
	numbers  map[string][]int // of them, by the approval's commit
	rolled   int64
	records  int64
	// due is the later step of the last approval; calm is until when there is no other.
	due  atomic.Pointer[step]
	calm time.Time

	mu       sync.Mutex
	checker  *history.Checker
	last     []history.Event // a window
	first    []history.Event // the window at the first finding
	did      map[string]int
	requests int
}

// commit is what was approved: a release, and perhaps another one that follows it at an
// instant.
type commit struct {
	place int64
	steps []step
}

type step struct {
	number  int // of the release
	release release.Release
	from    time.Time // zero for the first
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, dir: shortDir(t), rng: rand.New(rand.NewPCG(seed, 0)), checker: history.NewChecker(), did: map[string]int{}, numbers: map[string][]int{},
		known: reader{known: map[[32]byte]history.Resource{}},
	}
	port, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	w.draft = newDraft(rand.New(rand.NewPCG(seed, 1)), port)
	w.faults.Store(true)
	if w.authority, err = ca.Open(t.Context(), w.dir, ca.Options{TrustDomain: "mesh.local", TTL: 12 * time.Hour, Clock: w.now}); err != nil {
		t.Fatal(err)
	}
	if w.tokens, err = ca.OpenTokens(w.dir, w.now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.backends = append(w.backends, backend(t))
	}
	if err := os.Mkdir(filepath.Join(w.dir, "endpoints"), 0o700); err != nil {
		t.Fatal(err)
	}
	for s := range services {
		for v := range 3 {
			w.addresses(file(s, v))
		}
	}
	w.addresses("front")
	first := w.release()
	for i := range *replicas {
		r := &replica{w: w, dir: filepath.Join(w.dir, fmt.Sprintf("r%d", i)), addr: "127.0.0.1:0", latest: first}
		if err := os.Mkdir(r.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r.start()
		t.Cleanup(r.kill)
		w.servers = append(w.servers, r)
	}
	w.connect(seed)
	w.envoy()
	return w
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// now is the servers' clock, which the test sets. A step's time has come as soon as a
// server can know it.
func (w *world) now() time.Time {
	now := time.Now().Add(time.Duration(w.offset.Load()))
	if s := w.due.Load(); s != nil && !now.Before(s.from) && w.due.CompareAndSwap(s, nil) {
		w.record(history.Event{Kind: history.InForce, Release: s.number})
	}
	return now
}

func backend(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	go func() { _ = h.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = h.Close() })
	addr, _ := l.Addr().(*net.TCPAddr)
	return addr.Port
}

func (w *world) record(e history.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checker.Add(e)
	switch e.Kind {
	case history.Refuse:
		w.did["refusal"]++
	case history.Request:
		w.requests++
	default:
	}
	const window = 4000
	if w.last = append(w.last, e); len(w.last) > window {
		w.last = slices.Clone(w.last[window/2:])
	}
	if w.first == nil && len(w.checker.Findings()) > 0 {
		w.first = slices.Clone(w.last)
	}
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checker.Events()
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.checker.Findings()) > 0
}

// dump writes what came before the first finding. The caller holds mu.
func (w *world) dump() string {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("meshc-history-%d.jsonl", *seed))
	var b strings.Builder
	enc := json.NewEncoder(&b)
	for _, e := range w.first {
		if err := enc.Encode(e); err != nil {
			return err.Error()
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return err.Error()
	}
	return path
}

// step does one thing to the world, and lets it act.
func (w *world) step() {
	did := "nothing"
	switch n := w.rng.IntN(100); {
	case n < 40 && time.Now().Before(w.calm):
	case n < 35 && len(w.commits)%expiring == expiring/2:
		did = "expiry"
		w.publish(w.release(w.soon()))
		w.calm = w.commits[len(w.commits)-1].steps[1].from.Add(alarm)
	case n < 35:
		did = "release"
		w.publish(w.release())
	case n < 40 && len(w.commits) > 3:
		did = "rollback"
		w.publish(w.rollBack())
	case n < 55:
		did = "addresses"
		w.addresses(file(w.rng.IntN(services), w.rng.IntN(3)))
	case n < 75:
		did = "cut"
		for range 1 + w.rng.IntN(4) {
			if cancel := w.proxies[w.rng.IntN(len(w.proxies))].cut.Load(); cancel != nil {
				(*cancel)()
			}
		}
	case n < 82:
		did = "kill"
		r := w.servers[w.rng.IntN(*replicas)]
		r.kill()
		time.Sleep(time.Duration(w.rng.IntN(30)) * time.Millisecond)
		r.start()
	case n < 88:
		did = "clock"
		w.offset.Store(int64(time.Duration(w.rng.IntN(26)-13) * time.Hour))
		time.Sleep(time.Duration(w.rng.IntN(50)) * time.Millisecond)
		w.offset.Store(0)
	case n < 94:
		did = "catching up"
		for _, r := range w.servers[1:] {
			r.publish(w.servers[0].latest)
		}
	}
	for _, r := range w.servers {
		if len(r.latest.Steps()) > 1 {
			r.tell()
		}
	}
	w.mu.Lock()
	w.did[did]++
	w.mu.Unlock()
	time.Sleep(time.Duration(w.rng.IntN(25)) * time.Millisecond)
}

// publish gives an approval to the first server, and mostly to the others: they lag.
func (w *world) publish(a approval.Approved) {
	w.servers[0].publish(a)
	for _, r := range w.servers[1:] {
		if w.rng.IntN(3) > 0 || a.Record().Place.Rollbacks > r.latest.Record().Place.Rollbacks {
			r.publish(a)
		}
	}
}

const (
	// expiring is one in how many commits has something that ends soon.
	expiring = 40
	// alarm is how long after its instant a step is served at the latest, without faults.
	alarm = 1500 * time.Millisecond
)

// soon is the next second or the one after it, or a moment ago.
func (w *world) soon() time.Time {
	return time.Now().Truncate(time.Second).Add(time.Duration(w.rng.IntN(3)) * time.Second)
}

// release approves the next release, and others that follow it at those instants.
func (w *world) release(at ...time.Time) approval.Approved {
	w.t.Helper()
	c := commit{place: w.records + 1}
	for _, from := range append([]time.Time{{}}, at...) {
		w.draft.change()
		r, err := w.draft.compile()
		if err != nil {
			w.t.Fatal(err)
		}
		contents, err := contentsOf(r)
		if err != nil {
			w.t.Fatal(err)
		}
		w.releases++
		c.steps = append(c.steps, step{w.releases, r, from})
		w.approved++
		w.record(history.Event{Kind: history.Approve, Release: w.releases, Contents: contents, Later: !from.IsZero()})
	}
	w.commits = append(w.commits, c)
	return w.approve(c)
}

// rollBack approves, by a signed record, one of the commits before the last.
func (w *world) rollBack() approval.Approved {
	c := w.commits[len(w.commits)-2-w.rng.IntN(2)]
	w.rolled++
	for _, s := range c.steps {
		w.approved++
		w.record(history.Event{Kind: history.RollBack, Release: s.number, Later: !s.from.IsZero()})
	}
	return w.approve(c)
}

// approve takes a commit from where a server keeps what was verified: who may write
// there is whom the server believes. What a signature is worth is tested elsewhere.
func (w *world) approve(c commit) approval.Approved {
	w.t.Helper()
	w.due.Store(nil)
	if s := c.steps[len(c.steps)-1]; !s.from.IsZero() {
		w.due.Store(&s)
	}
	w.records++
	dir := filepath.Join(w.dir, "approved")
	id := fmt.Sprintf("%040x", w.records)
	for i := range c.steps {
		w.numbers[id] = append(w.numbers[id], w.approved-len(c.steps)+i)
	}
	rec := approval.Record{
		Format: "meshc.dev/approval/v1", Commit: id, Environment: "default", Repository: "history", Ref: "refs/heads/main",
		Place: approval.Place{Rollbacks: w.rolled, Position: c.place}, Tip: id, VerifiedAt: time.Now(), EvidenceAt: time.Now(),
	}
	for _, s := range c.steps {
		rs := approval.ReleaseStep{Digest: s.release.Digest()}
		if !s.from.IsZero() {
			rs.From = s.from.UTC().Format(time.RFC3339)
		}
		rec.Releases = append(rec.Releases, rs)
	}
	raw, err := canon.JSON(rec)
	if err != nil {
		w.t.Fatal(err)
	}
	name := filepath.Join(dir, fmt.Sprintf("%08d-%s", w.records, canon.Digest(raw)))
	write := func(path string, b []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	for i, s := range c.steps {
		man, prov, err := s.release.Index()
		if err != nil {
			w.t.Fatal(err)
		}
		for p, d := range s.release.Manifest().Artifacts {
			b, _ := s.release.Artifact(p)
			if path := filepath.Join(dir, "blobs", d); !exists(path) {
				write(path, b)
			}
		}
		write(filepath.Join(name, "steps", fmt.Sprintf("%03d", i), "manifest.json"), man)
		write(filepath.Join(name, "steps", fmt.Sprintf("%03d", i), "provenance.json"), prov)
	}
	write(filepath.Join(name, "record.json"), raw)
	a, err := approval.NewStore(dir).Restore()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.RemoveAll(name); err != nil { // only the newest counts, and it has been read
		w.t.Fatal(err)
	}
	return a
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// addresses writes an endpoint file: one of the backends, or both.
func (w *world) addresses(name string) {
	w.t.Helper()
	list := []string{fmt.Sprintf("127.0.0.1:%d", w.backends[w.rng.IntN(2)])}
	if w.rng.IntN(2) == 0 {
		list = nil
		for _, p := range w.backends {
			list = append(list, fmt.Sprintf("127.0.0.1:%d", p))
		}
	}
	raw, err := json.Marshal(map[string][]string{"endpoints": list})
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.dir, "endpoints", name)
	if err := errors.Join(os.WriteFile(path+".new", raw, 0o600), os.Rename(path+".new", path+".json")); err != nil {
		w.t.Fatal(err)
	}
}

// connect starts the proxies that record what they get.
func (w *world) connect(seed uint64) {
	w.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	w.t.Cleanup(func() { end(); wg.Wait() })
	for i := range *number {
		p := &proxy{w: w, name: fmt.Sprintf("sidecar-%d", i), rng: rand.New(rand.NewPCG(seed, uint64(100+i))), naughty: i%4 == 0, liked: map[string]bool{},
			class: release.Class{Role: release.Sidecar, Namespace: "app", Account: "front"}}
		if i%3 == 0 {
			p.name, p.class = fmt.Sprintf("gateway-%d", i), release.Class{Role: release.Gateway, Namespace: "app", Account: "edge"}
		}
		// A server that does not know the version of a list can send it only as a whole, and
		// takes away what is used: those with lists stay with the server that has every
		// release, and refuse nothing, so that they are never further back than it remembers.
		if p.whole = i%5 == 4; p.whole {
			p.naughty = false
		}
		for t := range p.held {
			p.held[t] = map[string]item{}
		}
		if err := p.join(w.t.Context(), w.servers[0].addr); err != nil {
			w.t.Fatal(err)
		}
		w.proxies = append(w.proxies, p)
		wg.Go(func() { p.run(ctx) })
	}
}

// envoy starts a real Envoy as the gateway, with an agent, and sends it requests all
// the time from when it answers.
func (w *world) envoy() {
	t := w.t
	t.Helper()
	binary, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Identity{Namespace: "app", Account: "edge"}.SPIFFE(w.authority.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.tokens.Create(t.Context(), id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := agent.Config{
		Servers: []string{w.servers[0].addr}, JoinToken: token, Fingerprints: w.authority.Fingerprints(), StateDir: shortDir(t), Envoy: binary.Path,
		EnvoyArgs: []string{"--concurrency", "1", "--log-level", "error"}, Clock: time.Now, Drain: 0,
	}.Normalise()
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { end(); wg.Wait() })
	wg.Go(func() {
		if _, err := agent.Run(ctx, cfg, io.Discard, slog.New(slog.DiscardHandler)); err != nil && ctx.Err() == nil {
			t.Errorf("the agent ended: %v", err)
		}
	})
	get := func(c *http.Client) int {
		resp, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/0", w.draft.port))
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	wait := &http.Client{Timeout: 5 * time.Second}
	for end := time.Now().Add(60 * time.Second); get(wait) != http.StatusOK; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the gateway does not answer")
		}
	}
	for range 2 {
		wg.Go(func() {
			c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				if status := get(c); ctx.Err() == nil {
					w.record(history.Event{Kind: history.Request, Proxy: "gateway", Status: status})
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// settle ends the faults, approves one more release, and waits until everybody has it.
func (w *world) settle() {
	w.faults.Store(false)
	last := w.release()
	for _, r := range w.servers {
		r.publish(last)
	}
	contents, err := contentsOf(w.commits[len(w.commits)-1].steps[0].release)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, p := range w.proxies {
		names = append(names, p.name)
	}
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		behind := slices.ContainsFunc(names, func(n string) bool { return !w.checker.Runs(n, contents) })
		w.mu.Unlock()
		if !behind {
			break
		}
	}
	w.record(history.Event{Kind: history.Rest, Connected: names})
}

// replica is a server that is killed and started again.
type replica struct {
	w      *world
	dir    string
	addr   string
	latest approval.Approved
	before []approval.Approved // what a restart recalls
	server *xdsserver.Server
	end    context.CancelFunc
	done   chan error
	starts int
}

func (r *replica) start() {
	t := r.w.t
	t.Helper()
	joining := ca.NewService(r.w.authority, r.w.tokens, nil, slog.New(slog.DiscardHandler))
	var err error
	r.server, err = xdsserver.New(xdsserver.Config{
		Listen: r.addr, TrustDomain: "mesh.local", StateDir: r.dir, EndpointDir: filepath.Join(r.w.dir, "endpoints"), Now: r.w.now,
		Log: slog.New(slog.DiscardHandler), Grace: time.Millisecond, ConnectionsPerSecond: -1,
		Bounds:   xdsserver.Bounds{FirstRetry: 200 * time.Millisecond, LastRetry: time.Second},
		TLS:      func() (*tls.Config, error) { return r.w.authority.TLSConfig(ca.Requested), nil },
		Register: func(g grpc.ServiceRegistrar) { joining.Register(g) },
		Peers:    r.peers(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.server.Addr().String(); r.addr != a { // once: proxies read it from then on
		r.addr = a
	}
	for _, a := range r.before {
		if err := r.server.Recall(context.Background(), a); err != nil {
			t.Fatal(err)
		}
	}
	r.publish(r.latest)
	ctx, end := context.WithCancel(context.Background())
	r.end, r.done = end, make(chan error, 1)
	go func(s *xdsserver.Server) { r.done <- s.Run(ctx) }(r.server)
}

// peers are the other servers, or none: every other start it exchanges evidence.
func (r *replica) peers() xdsserver.Peers {
	if r.starts++; r.starts%2 == 0 {
		return xdsserver.Peers{}
	}
	p := xdsserver.Peers{TLS: r.w.authority.PeerTLS(), Check: r.w.authority.CheckServer}
	for _, other := range r.w.servers {
		if other != r {
			p.Addresses = append(p.Addresses, other.addr)
		}
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.did["exchange"] += len(p.Addresses)
	return p
}

func (r *replica) publish(a approval.Approved) {
	// As on a server's disk.
	if r.latest.Record().Place != a.Record().Place {
		const kept = 8
		r.before = append(r.before, r.latest)
		r.before = r.before[max(0, len(r.before)-kept):]
	}
	r.latest = a
	if err := r.server.Publish(context.Background(), a); err != nil {
		r.w.t.Fatal(err)
	}
	r.tell()
}

// tell records which steps of its approval the server has reached.
func (r *replica) tell() {
	numbers := r.w.numbers[r.latest.Commit()]
	if len(numbers) > 1 && r.server.Status().Release != r.latest.Steps()[1].Release.Digest() {
		numbers = numbers[:1]
	}
	r.w.record(history.Event{Kind: history.Serve, Server: r.dir, Approvals: numbers})
}

func (r *replica) kill() {
	r.end()
	if err := <-r.done; err != nil {
		r.w.t.Error(err)
	}
}
