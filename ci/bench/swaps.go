package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/plane"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/internal/envoybin"
)

// window is how many services stand behind the gateway at a time: each release
// adds one and takes one away, so that every route changes too.
const window = 10

// swaps publishes releases in a row under load, on a real Envoy that a real agent
// runs, and counts what failed.
func (b *bench) swaps(s report.Section) (err error) {
	releases := 25
	if b.quick {
		releases = 5
	}
	envoy, err := envoybin.Find(b.ctx, envoybin.Options{Download: true})
	if err != nil {
		return err
	}
	p, err := plane.Open(compileDate())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	st := &stage{b: b, p: p}
	defer st.close()
	if err := st.open(); err != nil {
		return err
	}
	if _, err := p.Publish(b.ctx, st.intent(0, 0)); err != nil {
		return err
	}
	agent, err := p.Agent(b.ctx, "edge/edge", envoy.Path)
	if err != nil {
		return err
	}
	if err := st.ready(); err != nil {
		return fmt.Errorf("%w; the log of agent and Envoy:\n%s", err, agent.Log())
	}
	load := st.load()
	var took measure.Samples
	for i := 1; i <= releases && err == nil; i++ {
		var d time.Duration
		d, err = st.swap(i, load)
		took = append(took, d)
	}
	load.stop()
	if err != nil {
		return err
	}
	sent, failed := load.sent.Load(), load.failed.Load()
	s.AtMost(0, fmt.Sprintf("%d releases in a row: failed requests", releases), float64(failed), "of "+fmt.Sprint(sent), "through Envoy %s, server and agent", envoy.Version)
	s.Add("from publishing to Envoy's last confirmation", measure.MS(took.Median()), "ms", "median; longest %.0f ms", measure.MS(took.Percentile(100)))
	if failed > 0 {
		s.Wrong("%d of %d requests failed; the first: %v", failed, sent, load.first.Load())
	}
	return nil
}

// stage is the backends and the gateway.
type stage struct {
	b        *bench
	p        *plane.Plane
	port     int
	backends []*http.Server
	ports    []int
}

func (st *stage) open() error {
	for i := range 2 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		h := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, "backend %d\n", i)
		})}
		go func() { _ = h.Serve(lis) }() // ends with close
		st.backends, st.ports = append(st.backends, h), append(st.ports, portOf(lis))
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0") // to find a free port for the gateway
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	st.port = portOf(lis)
	return lis.Close()
}

func portOf(l net.Listener) int {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return a.Port
}

func (st *stage) close() {
	for _, h := range st.backends {
		_ = h.Close()
	}
}

// intent is release i: services i to i+9, one path for each. seconds more is the
// timeout of the first route.
func (st *stage) intent(i, seconds int) fs.FS {
	var b strings.Builder
	b.WriteString("package edge\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")
	b.WriteString("mesh: {namespace: \"edge\", mtls: {mode: \"disable\", owner: \"bench\", reason: \"the applications have no proxies\", until: \"2099-01-01T00:00:00Z\"}}\n")
	for k := range window {
		fmt.Fprintf(&b, "mesh: service: \"app-%d\": {port: http: number: 8080, endpoints: static: [\"127.0.0.1:%d\"], grant: edge: from: [\"gateway/edge\"]}\n", i+k, st.ports[(i+k)%2])
	}
	fmt.Fprintf(&b, "mesh: gateway: edge: {port: http: number: %d, address: \"127.0.0.1\", host: \"*\": route: {\n", st.port)
	for k := range window {
		fmt.Fprintf(&b, "\tr%d: {match: path: prefix: \"/%d\", to: \"app-%d\": 100, timeout: \"%ds\"}\n", k, k, i+k, 15+seconds*(window-k)/window)
	}
	b.WriteString("}}\n")
	return fstest.MapFS{
		"mesh.cue":           &fstest.MapFile{Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"bench\", trustDomain: \"mesh.local\"}\n")},
		"cue.mod/module.cue": &fstest.MapFile{Data: []byte("module: \"bench.example/swaps\"\nlanguage: version: \"v0.17.0\"\n")},
		"edge/edge.cue":      &fstest.MapFile{Data: []byte(b.String())},
	}
}

func (st *stage) get(c *http.Client, path int) error {
	req, err := http.NewRequestWithContext(st.b.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/%d", st.port, path), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return nil
}

// ready waits until the gateway answers.
func (st *stage) ready() error {
	c := &http.Client{Timeout: time.Second}
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = st.get(c, 0); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the gateway does not answer: %w", err)
}

// swap publishes release i and waits until Envoy has all of it and more requests
// were answered since.
func (st *stage) swap(i int, l *load) (time.Duration, error) {
	r, err := st.p.Compile(st.intent(i, 0))
	if err != nil {
		return 0, err
	}
	a, err := st.p.Approve(r)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(st.b.ctx, 30*time.Second)
	defer cancel()
	start := time.Now()
	if err = st.p.PublishApproved(ctx, a); err == nil {
		err = st.p.Arrived(ctx, a.Commit())
	}
	if err != nil {
		return 0, fmt.Errorf("release %d: %w", i, err)
	}
	took := time.Since(start)
	const settled = 100
	for until := l.sent.Load() + settled; l.sent.Load() < until && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	return took, ctx.Err()
}

// load is requests without pause over a few connections.
type load struct {
	sent, failed atomic.Int64
	first        atomic.Value
	end          context.CancelFunc
	wg           sync.WaitGroup
}

func (l *load) stop() { l.end(); l.wg.Wait() }

func (st *stage) load() *load {
	const workers = 4
	l := &load{}
	ctx, cancel := context.WithCancel(st.b.ctx)
	l.end = cancel
	for w := range workers {
		l.wg.Go(func() {
			c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for i := w; ctx.Err() == nil; i++ {
				err := st.get(c, i%window)
				l.sent.Add(1)
				if err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	return l
}
