package xdsserver

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/xds-server/internal/view"
)

// choosy is a proxy with one certificate that confirms some versions of cluster "a"
// and refuses others. It reports each version that it is sent.
type choosy struct {
	cert    tls.Certificate
	refuses map[string]bool
	got     chan string
}

func newChoosy(t *testing.T, w *world) *choosy {
	return &choosy{cert: w.issue(t, web.SPIFFEID(trustDomain)), refuses: map[string]bool{}, got: make(chan string, 64)}
}

// connect opens a stream that lasts until the server or the test ends.
func (c *choosy) connect(t *testing.T, w *world, has map[string]string) {
	t.Helper()
	conn, err := grpc.NewClient(w.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{c.cert},
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discoveryv3.DeltaDiscoveryRequest) { _ = st.Send(r) } // Recv tells
	send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: release.ClusterType, InitialResourceVersions: has})
	send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: release.EndpointType, ResourceNamesSubscribe: []string{"a"}})
	send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: release.ListenerType})
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				return
			}
			answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
			for _, res := range r.GetResources() {
				if r.GetTypeUrl() != release.ClusterType {
					continue
				}
				version, _, _ := strings.Cut(res.GetVersion(), ".")
				c.got <- version
				if c.refuses[version] {
					answer.ErrorDetail = &statusv3.Status{Message: "no"}
				}
			}
			send(answer)
		}
	}()
}

// next is the next version of cluster "a" that the proxy is sent.
func (c *choosy) next(t *testing.T) string {
	t.Helper()
	select {
	case v := <-c.got:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return ""
}

func (c *choosy) quiet(t *testing.T) {
	t.Helper()
	select {
	case v := <-c.got:
		t.Fatalf("got %s; the releases have %s and %s", v, versionOf(t, time.Second), versionOf(t, 2*time.Second))
	case <-time.After(300 * time.Millisecond):
	}
}

// versionOf is the version of cluster "a" in a release of the test.
func versionOf(t *testing.T, timeout time.Duration) string {
	t.Helper()
	snap, err := sealed(t, timeout).Snapshot(web)
	if err != nil {
		t.Fatal(err)
	}
	return view.Version(snap.Resources[release.ClusterType][0].Digest)
}

// recall is Recall for a release of the test.
func (w *world) recall(t *testing.T, commit string, timeout time.Duration, place int64) {
	t.Helper()
	tt, err := w.prepare(t.Context(), []approval.Step{{Release: sealed(t, timeout)}}, approved{commit, "default", approval.Place{Position: place}})
	if err != nil {
		t.Fatal(err)
	}
	w.hub.Recall(tt.steps[0].release, tt.approval())
}

func (w *world) approveAt(t *testing.T, commit string, timeout time.Duration, place int64) {
	t.Helper()
	if err := w.publish(t.Context(), []approval.Step{{Release: sealed(t, timeout)}}, approved{commit, "default", approval.Place{Position: place}}); err != nil {
		t.Fatal(err)
	}
}

// arrived waits until as many proxies have confirmed the commit.
func (w *world) arrived(t *testing.T, commit string, n int) {
	t.Helper()
	soon(t, func() string {
		have := 0
		for _, p := range w.Status().Proxies {
			if p.Connected && p.Commit == commit && p.UpToDate {
				have++
			}
		}
		if have < n {
			return "not everybody has " + commit
		}
		return ""
	})
}

// some waits until it is so with a proxy.
func (w *world) some(t *testing.T, so func(ProxyStatus) bool) {
	t.Helper()
	soon(t, func() string {
		if st := w.Status(); !slices.ContainsFunc(st.Proxies, so) {
			return fmt.Sprintf("proxies: %+v", st.Proxies)
		}
		return ""
	})
}

// TestARestartForgetsNoRefusal: what everybody refused is not served to new proxies
// after a restart either, and not to those that refused it until their pause is over.
func TestARestartForgetsNoRefusal(t *testing.T) {
	at := time.Now()
	w := runAt(t, t.TempDir(), func() time.Time { return at }) // no pause ends
	w.approveAt(t, "commit-1", time.Second, 1)
	p := newChoosy(t, w)
	p.connect(t, w, nil)
	good := p.next(t)
	w.arrived(t, "commit-1", 1)
	bad := versionOf(t, 2*time.Second)
	p.refuses[bad] = true // its stream reads that when it gets the next release
	w.approveAt(t, "commit-2", 2*time.Second, 2)
	if got := p.next(t); got != bad {
		t.Fatalf("got %s, want %s", got, bad)
	}
	if back := p.next(t); back != good {
		t.Fatalf("went back to %s, want %s", back, good)
	}
	soon(t, func() string {
		if st := w.Status(); !st.Classes[0].Held || st.Classes[0].ServingCommit != "commit-1" || st.Classes[0].HeldProxies != 1 {
			return "not held"
		}
		return ""
	})
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	cfg := w.config(t)
	cfg.Narrows = func(_, _ release.Release) (bool, error) { // as for a large mesh
		time.Sleep(300 * time.Millisecond)
		return false, nil
	}
	again := w.restart(t, cfg)
	again.recall(t, "commit-1", time.Second, 1)
	again.approveAt(t, "commit-2", 2*time.Second, 2)
	p.connect(t, again, map[string]string{"a": good})
	newcomer := newChoosy(t, again)
	newcomer.connect(t, again, nil)
	if v := newcomer.next(t); v != good {
		t.Errorf("a new proxy is given %s, want %s", v, good)
	}
	newcomer.quiet(t)
	p.quiet(t)
	st := again.Status()
	if c := st.Classes[0]; !c.Held || c.Failure == nil || c.Failure.Why != "no" || c.Failure.Commit != "commit-2" {
		t.Errorf("class: %+v", c)
	}
	again.some(t, func(p ProxyStatus) bool { return p.Held && !p.RetryAt.IsZero() && p.Commit == "commit-1" })
}

// TestARestartKnowsEarlierSteps: after a restart beyond an instant, what the commit said
// before it is still what its proxies have.
func TestARestartKnowsEarlierSteps(t *testing.T) {
	var offset atomic.Int64
	w := runAt(t, t.TempDir(), func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) })
	steps := []approval.Step{{Release: sealed(t, time.Second)}, {From: time.Now().Add(time.Hour), Release: sealed(t, 2*time.Second)}}
	publish := func(w *world) {
		if err := w.publish(t.Context(), steps, approved{"commit-1", "default", approval.Place{Position: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(w)
	p := newChoosy(t, w)
	p.connect(t, w, nil)
	good, bad := p.next(t), versionOf(t, 2*time.Second)
	w.arrived(t, "commit-1", 1)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	offset.Store(int64(2 * time.Hour))
	again := w.restart(t, w.config(t))
	publish(again)
	p.refuses[bad] = true
	p.connect(t, again, map[string]string{"a": good})
	if v := p.next(t); v != bad {
		t.Fatalf("got %s, want %s", v, bad)
	}
	if v := p.next(t); v != good {
		t.Errorf("went back to %s, want %s", v, good)
	}
	p.quiet(t)
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) with(text string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

// TestHeldProxiesAreTold: the metric counts them by class, and the log has a line for
// each, with what it is held for.
func TestHeldProxiesAreTold(t *testing.T) {
	w, log := newWorld(t), &lines{}
	cfg := w.config(t)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg.Owner = func(release.Release, string) string { return "team-a" }
	w.startWith(t, cfg)
	w.approveAt(t, "commit-1", time.Second, 1)
	const metric = `meshc_xds_held_proxies{class="` + "sidecar/shop/web" + `"} `
	bad := versionOf(t, 2*time.Second)
	var proxies []*choosy
	for range 2 {
		p := newChoosy(t, w)
		p.refuses[bad] = true
		p.connect(t, w, nil)
		p.next(t)
		proxies = append(proxies, p)
	}
	w.arrived(t, "commit-1", 2)
	if _, text := w.get(t, "/metrics"); strings.Contains(text, "meshc_xds_held_proxies{") || strings.Contains(text, "meshc_xds_behind_proxies{") ||
		!strings.Contains(text, `meshc_xds_answers_total{state="nacked",type="clusters"} 0`) {
		t.Errorf("held proxies are told before there are any, or refusals do not begin at 0: %s", text)
	}
	w.approveAt(t, "commit-2", 2*time.Second, 2)
	soon(t, func() string {
		if _, text := w.get(t, "/metrics"); !strings.Contains(text, metric+"2\n") || !strings.Contains(text, strings.Replace(metric, "held", "behind", 1)+"2\n") {
			return "the metrics do not count two held proxies: " + text
		}
		return ""
	})
	for _, p := range proxies {
		p.next(t)
		p.next(t)
	}
	p := newChoosy(t, w)
	p.connect(t, w, nil)
	p.next(t)
	held := log.with("proxy held at an earlier release")
	own := 0
	for _, l := range held {
		for _, part := range []string{"class=sidecar/shop/web", "serving=commit-1", "refused=commit-2", "type=clusters", "resource=a", "intent=", "owner=team-a"} {
			if !strings.Contains(l, part) {
				t.Errorf("no %q in %q", part, l)
			}
		}
		if strings.Contains(l, "own=true") {
			own++
		}
	}
	if len(held) != 3 || own != 2 {
		t.Errorf("%d lines, %d about refusals of the proxy itself: %v", len(held), own, held)
	}
}

// TestHeldProxiesAreBounded: however many classes are held, the metric stays small.
func TestHeldProxiesAreBounded(t *testing.T) {
	counts := map[string]int{"most": 1000}
	for i := range 150 {
		counts[fmt.Sprint("class-", i)] = 2
	}
	r := prometheus.NewRegistry()
	r.MustRegister(newHeldProxies(func() map[string]int { return counts }))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
	}
	if len(got) != maxHeldClasses+1 || got["most"] != 1000 || got[otherClasses] != 51*2 {
		t.Errorf("%d samples: %v", len(got), got)
	}
}

// TestAServerThatKnowsLess: a proxy that has something newer than a server keeps it,
// which the status says; others get what the server has; and the proxy follows again
// when the server has caught up.
func TestAServerThatKnowsLess(t *testing.T) {
	w := run(t)
	w.approveAt(t, "commit-1", time.Second, 1)
	w.approveAt(t, "commit-2", 2*time.Second, 2)
	p := newChoosy(t, w)
	p.connect(t, w, nil)
	newer := p.next(t)
	w.arrived(t, "commit-2", 1)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	old := *w
	old.dir = t.TempDir() // as it was before commit-2
	less := old.start(t)
	less.approveAt(t, "commit-1", time.Second, 1)
	p.connect(t, less, map[string]string{"a": newer + ".2"})
	q := newChoosy(t, less)
	q.connect(t, less, nil)
	if v := q.next(t); v != versionOf(t, time.Second) {
		t.Errorf("a new proxy is given %s", v)
	}
	p.quiet(t)
	less.some(t, func(p ProxyStatus) bool { return p.Ahead == "2" && !p.UpToDate })
	less.approveAt(t, "commit-2", 2*time.Second, 2)
	less.arrived(t, "commit-2", 2)
	p.quiet(t) // it had that all the time
	// A signed rollback goes back, and is newer.
	if err := less.publish(t.Context(), []approval.Step{{Release: sealed(t, time.Second)}}, approved{"commit-1", "default", approval.Place{Rollbacks: 1, Position: 1}}); err != nil {
		t.Fatal(err)
	}
	if v := p.next(t); v != versionOf(t, time.Second) {
		t.Errorf("after a rollback it is given %s", v)
	}
}

// An alarm may ring just as something else is approved: then it says nothing about what
// is served now.
func TestAnAlarmOfWhatWasApprovedBeforeDoesNothing(t *testing.T) {
	w := run(t)
	two := []approval.Step{{Release: sealed(t, time.Second)}, {From: time.Now().Add(time.Hour), Release: sealed(t, 2*time.Second)}}
	if err := w.publish(t.Context(), two, approved{"commit-1", "default", approval.Place{Position: 1}}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	rang := w.gen
	w.mu.Unlock()
	if err := w.publish(t.Context(), []approval.Step{{Release: sealed(t, 3*time.Second)}}, approved{"commit-2", "default", approval.Place{Position: 2}}); err != nil {
		t.Fatal(err)
	}
	w.advance(rang)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.table.commit != "commit-2" || w.table.at != 0 {
		t.Errorf("step %d of %s is served", w.table.at, w.table.commit)
	}
}
