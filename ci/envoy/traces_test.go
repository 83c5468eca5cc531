package envoy

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler"
)

// span is what a collector was told of a request.
type span struct {
	trace, id, parent, name string
	tags                    map[string]string
}

// spans is a collector of traces, behind its own sidecar: of OTLP by serve, of Zipkin by serveZipkin.
type spans struct {
	mu  sync.Mutex
	all []span
	raw []string
	// hang, if set, keeps every batch waiting until it is closed.
	hang chan struct{}
}

// serve takes batches of spans. An ExportTraceServiceRequest is TracesData on the wire.
func (c *spans) serve(l net.Listener) {
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in otlptrace.TracesData
			if err := decode(&in); err != nil {
				return nil, err
			}
			if c.waits(ctx) != nil {
				return nil, ctx.Err()
			}
			c.export(&in)
			return &otlptrace.TracesData{}, nil
		}}},
	}, c)
	_ = s.Serve(l)
}

func (c *spans) waits(ctx context.Context) error {
	if c.hang == nil {
		return nil
	}
	select {
	case <-c.hang:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *spans) export(in *otlptrace.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = append(c.raw, in.String())
	for _, res := range in.GetResourceSpans() {
		for _, scope := range res.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				out := span{hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()), hex.EncodeToString(s.GetParentSpanId()), s.GetName(), map[string]string{}}
				for _, kv := range slices.Concat(res.GetResource().GetAttributes(), s.GetAttributes()) {
					out.tags[kv.GetKey()] = kv.GetValue().GetStringValue()
				}
				c.all = append(c.all, out)
			}
		}
	}
}

// serveZipkin takes spans as Zipkin's servers do.
func (c *spans) serveZipkin(l net.Listener) {
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in []struct {
			TraceID, ID, ParentID, Name string
			Tags                        map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v2/spans" || c.waits(r.Context()) != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, fmt.Sprint(in))
		for _, s := range in {
			c.all = append(c.all, span{s.TraceID, s.ID, s.ParentID, s.Name, s.Tags})
		}
		w.WriteHeader(http.StatusAccepted)
	}))
}

// of are the spans of requests for a path, by the service's or the gateway's name.
func (c *spans) of(path string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]span{}
	for _, s := range c.all {
		if s.tags["url.path"] == path {
			out[s.tags["service.name"]] = s
		}
	}
	return out
}

func (c *spans) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.raw, "\n")
}

const zipkin = "platform/zipkin/http/default"

// traced is a rehearsal of service "app", which its peer "web" and visitors of a gateway ask, the
// first by the door of the play.
func traced(t *testing.T, root, app string) (p *play, edge compiler.Door) {
	t.Helper()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: collector: {prod: otlp: {to: \"platform/otel\", port: \"grpc\"}, old: zipkin: to: \"platform/zipkin\"}\nmesh: telemetry: " + root + "\n")},
		"platform/platform.cue": {Data: []byte("package platform\n" + head + `mesh: namespace: "platform"
mesh: service: otel: {port: grpc: {number: 4317, protocol: "grpc"}, grant: spans: {mesh: true, methods: ["POST"], paths: ["/opentelemetry.proto.collector.trace.v1.TraceService/Export"]}}
mesh: service: zipkin: {port: http: number: 9411, grant: spans: {mesh: true, methods: ["POST"], paths: ["/api/v2/spans"]}}`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: web: port: http: number: 80
mesh: service: app: {owner: "team 100%", port: http: number: 80, grant: all: {from: ["web", "gateway/edge"], paths: ["/open", "/open/*"]}, ` + app + `}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": route: all: to: app: 100}`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	reh, stage := stageOf(ctx, t, prog, []compiler.Request{{From: "shop/web", To: "shop/app"}, {To: "gateway/shop/edge", Host: "shop.test"}})
	return &play{t, ctx, stage, reh.Doors[0], ""}, reh.Doors[1]
}

// asked is the status of a request, which is sent with a token wherever one is told of by mistake,
// and the trace of which the application was told.
func (p *play) asked(door compiler.Door, path string, headers ...string) (status int, told string) {
	p.t.Helper()
	r := compiler.Request{Path: path + "?token=opensesame", Headers: []compiler.Header{{Name: "authorization", Value: "Bearer opensesame"}, {Name: "x-tenant", Value: "acme"}}}
	if door != p.door {
		r.Host = "shop.test"
	}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, compiler.Header{Name: headers[i], Value: headers[i+1]})
	}
	got, err := p.stage.Ask(p.ctx, door, r)
	if err != nil {
		p.t.Fatal(err)
	}
	if got.Seen != nil {
		told = strings.Join(got.Seen.Headers["traceparent"], " and ")
	}
	return got.Status, told
}

const (
	begun   = "0af7651916cd43dd8448eb211c80319c" // a trace that somebody else has begun
	traces  = "00-" + begun + "-b7ad6b7169203331-01"
	notThis = "00-" + begun + "-b7ad6b7169203331-00"
)

// TestSpansGoToTheCollector: those of one trace hang together, a visitor's trace ends at the gateway,
// a caller's goes on as the caller says, and nobody who reads spans has the visitor's token.
func TestSpansGoToTheCollector(t *testing.T) {
	for collector, c := range map[string]struct {
		target string
		serve  func(*spans) func(net.Listener)
	}{
		"prod": {otel, func(c *spans) func(net.Listener) { return c.serve }},
		"old":  {zipkin, func(c *spans) func(net.Listener) { return c.serveZipkin }},
	} {
		t.Run(collector, func(t *testing.T) {
			t.Parallel()
			got := &spans{}
			p, edge := traced(t, `traces: `+collector+`: {sample: 100, tags: {tenant: "%REQ(X-TENANT)%", nobody: "%REQ(X-NOBODY)%", share: "100 %%"}}`, "")
			if err := p.stage.Recast(p.ctx, c.target, c.serve(got)); err != nil {
				t.Fatal(err)
			}
			ask := func(door compiler.Door, path string, want int, headers ...string) string {
				t.Helper()
				status, told := p.asked(door, path, headers...)
				if status != want {
					t.Fatalf("%s: %d, want %d", path, status, want)
				}
				return told
			}
			told := ask(edge, "/open/visitor", 200, "traceparent", traces, "tracestate", "a=b", "b3", begun+"-b7ad6b7169203331-1", "x-b3-traceid", begun, "x-b3-spanid", "b7ad6b7169203331", "x-b3-sampled", "1")
			ask(edge, "/open/unwanted", 200, "traceparent", notThis, "x-b3-sampled", "0", "x-request-id", "00000000-0000-4000-8000-000000000000")
			ask(p.door, "/open/caller", 200, "traceparent", traces)
			ask(p.door, "/open/untraced", 200, "traceparent", notThis)
			ask(p.door, "/open/garbage", 200, "traceparent", "00-zz-"+strings.Repeat("f", 3000))
			ask(p.door, "/closed", 403)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("spans of a visitor %v, of an unwanted one %v, of a caller %v, of a denied one %v", got.of("/open/visitor"), got.of("/open/unwanted"), got.of("/open/caller"), got.of("/closed"))
				}
			})
			p.until("all spans", func() bool {
				ask(p.door, "/open/last", 200)
				return len(got.of("/open/visitor")) == 2 && len(got.of("/open/unwanted")) == 2 && len(got.of("/open/caller")) == 1 && len(got.of("/closed")) == 1 && len(got.of("/open/last")) == 1
			})
			g, s := got.of("/open/visitor")["edge"], got.of("/open/visitor")["app"]
			if g.trace == begun || g.trace != s.trace || s.parent != g.id || g.parent != "" {
				t.Errorf("a visitor's: at the gateway %+v, at the service %+v", g, s)
			}
			if !strings.Contains(told, s.trace) {
				t.Errorf("the application was told %q of trace %s", told, s.trace)
			}
			if s := got.of("/open/caller")["app"]; s.trace != begun || s.parent != "b7ad6b7169203331" {
				t.Errorf("a caller's: %+v", s)
			}
			for _, none := range []string{"/open/untraced"} {
				if all := got.of(none); len(all) > 0 {
					t.Errorf("%s: %v", none, all)
				}
			}
			for path, want := range map[string]map[string]string{
				"/open/caller": {"http.status_code": "200"},
				"/closed":      {"http.status_code": "403"},
			} {
				s := got.of(path)["app"]
				want["tenant"], want["owner"], want["version"], want["route"], want["share"] = "acme", "team 100%", "default", "service/shop/app", "100 %"
				want["caller"] = "spiffe://mesh.local/ns/shop/sa/web"
				for k, v := range want {
					if s.tags[k] != v {
						t.Errorf("%s: %s is %q, want %q", path, k, s.tags[k], v)
					}
				}
				if !strings.EqualFold(s.name, "GET service/shop/app") {
					t.Errorf("%s: the span is called %q", path, s.name)
				}
				if v, ok := s.tags["nobody"]; ok && v != "" {
					t.Errorf("%s: nobody is %q", path, v)
				}
			}
			if raw := got.text(); strings.Contains(raw, "opensesame") {
				t.Errorf("a span has a secret: %s", raw)
			}
		})
	}
}

// TestATraceCollectorThatIsSlowOrAwayCostsNoRequest: batches are given up in time, what is kept for a
// collector that is away has a bound, and requests do not wait for any of it.
func TestATraceCollectorThatIsSlowOrAwayCostsNoRequest(t *testing.T) {
	for collector, target := range map[string]string{"prod": otel, "old": zipkin} {
		t.Run(collector, func(t *testing.T) {
			t.Parallel()
			got := &spans{hang: make(chan struct{})}
			serve := got.serve
			if collector == "old" {
				serve = got.serveZipkin
			}
			p, _ := traced(t, `traces: `+collector+`: sample: 100`, "")
			if err := p.stage.Recast(p.ctx, target, serve); err != nil {
				t.Fatal(err)
			}
			ask := func(i int) {
				t.Helper()
				if status, _ := p.asked(p.door, "/open/"+strings.Repeat("x", 2<<10)); status != http.StatusOK {
					t.Fatalf("request %d: %d", i, status)
				}
			}
			active, given := "cluster."+target+".upstream_rq_active", "cluster."+target+".upstream_rq_timeout"
			asked := 0
			for ; asked < 300 || p.gauge(given) == 0; asked++ {
				ask(asked)
			}
			p.until("no batch waits any more", func() bool { return p.gauge(active) == 0 })
			close(got.hang)
			p.until("a span, once the collector is back", func() bool {
				ask(asked)
				return got.text() != ""
			})
			if err := p.stage.Recast(p.ctx, target, func(l net.Listener) { _ = l.Close() }); err != nil {
				t.Fatal(err)
			}
			for i, sent := 0, p.gauge("cluster."+target+".upstream_rq_completed"); i < 50 || p.gauge("cluster."+target+".upstream_rq_completed") == sent; i++ {
				ask(i)
			}
		})
	}
}
