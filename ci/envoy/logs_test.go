package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	otlp "go.opentelemetry.io/proto/otlp/common/v1"
	otlplogs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// receiver is a collector of OpenTelemetry's protocol, behind its own sidecar.
type receiver struct {
	mu    sync.Mutex
	lines []map[string]string
	raw   []string
	// exported is each batch as a collector's exporter to a file writes it.
	exported [][]byte
	// hang, if set, keeps every batch waiting until it is closed.
	hang chan struct{}
}

// serve takes batches of lines. An ExportLogsServiceRequest is LogsData on the wire, and an
// answer without fields is an empty ExportLogsServiceResponse; the package that has both
// would bring a gateway for JSON along.
func (r *receiver) serve(l net.Listener) {
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.logs.v1.LogsService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in otlplogs.LogsData
			if err := decode(&in); err != nil {
				return nil, err
			}
			return &otlplogs.LogsData{}, r.export(ctx, &in)
		}}},
	}, r)
	_ = s.Serve(l)
}

func (r *receiver) export(ctx context.Context, in *otlplogs.LogsData) error {
	if r.hang != nil {
		select {
		case <-r.hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, in.String())
	text, err := protojson.Marshal(in)
	if err != nil {
		return err
	}
	r.exported = append(r.exported, text)
	for _, res := range in.GetResourceLogs() {
		for _, scope := range res.GetScopeLogs() {
			for _, l := range scope.GetLogRecords() {
				line := map[string]string{"body": l.GetBody().GetStringValue()}
				for _, kv := range append(append([]*otlp.KeyValue{}, res.GetResource().GetAttributes()...), l.GetAttributes()...) {
					line[kv.GetKey()] = kv.GetValue().GetStringValue()
				}
				r.lines = append(r.lines, line)
			}
		}
	}
	return nil
}

func (r *receiver) all() ([]map[string]string, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]map[string]string{}, r.lines...), strings.Join(r.raw, "\n")
}

const otel = "platform/otel/grpc/default"

// logged is a rehearsal in which service "app", called by its peer "web", tells of requests.
func logged(t *testing.T, log string, r *receiver) *play {
	t.Helper()
	p, _ := loggedBy(t, `otlp: {to: "platform/otel", port: "grpc"}`, log)
	if err := p.stage.Recast(p.ctx, otel, r.serve); err != nil {
		t.Fatal(err)
	}
	return p
}

// loggedBy is a rehearsal with a collector in those words.
func loggedBy(t *testing.T, collector, log string) (*play, *compiler.Program) {
	t.Helper()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: collector: prod: " + collector + "\n")},
		"platform/otel.cue": {Data: []byte("package platform\n" + head + `mesh: namespace: "platform"
mesh: service: otel: {port: grpc: {number: 4317, protocol: "grpc"}, grant: logs: {mesh: true, methods: ["POST"], paths: ["/opentelemetry.proto.collector.logs.v1.LogsService/Export"]}}`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: web: port: http: number: 80
mesh: service: app: {owner: "team 100%", port: http: number: 80, grant: web: {from: ["web"], paths: ["/open", "/open/*"]}, deny: frozen: {mesh: true, paths: ["/open/frozen"]}, telemetry: logs: prod: ` + log + `}`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	reh, stage := stageOf(ctx, t, p, []compiler.Request{{From: "shop/web", To: "shop/app"}})
	return &play{t, ctx, stage, reh.Doors[0], ""}, p
}

// admin reads a page of the proxy of service "app".
func (p *play) admin(page string) string {
	p.t.Helper()
	for _, c := range p.stage.Classes() {
		if c.Account == "app" {
			b, err := p.stage.Admin(p.ctx, c, page)
			if err != nil {
				p.t.Fatal(err)
			}
			return string(b)
		}
	}
	p.t.Fatal("no proxy of app runs")
	return ""
}

// gauge is a number among the metrics of the proxy of service "app"; 0 if there is none.
func (p *play) gauge(name string) int {
	p.t.Helper()
	return p.number(p.admin("/stats?filter=upstream_rq"), name)
}

// number is a metric of a page with them; 0 if there is none.
func (p *play) number(page, name string) int {
	p.t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `: ([0-9]+)$`).FindStringSubmatch(page)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// until polls for what has to come.
func (p *play) until(what string, is func() bool) {
	p.t.Helper()
	for !is() {
		select {
		case <-p.ctx.Done():
			p.t.Fatalf("never: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestLinesGoToTheCollector: those that are wanted and no other, with who asked for what and
// what became of it, and nothing by which somebody could do the same.
func TestLinesGoToTheCollector(t *testing.T) {
	r := &receiver{}
	p, mesh := loggedBy(t, `otlp: {to: "platform/otel", port: "grpc"}`, `{when: {errors: true, denied: true}, fields: {tenant: "%REQ(X-TENANT)%", share: "100 %%"}}`)
	if err := p.stage.Recast(p.ctx, otel, r.serve); err != nil {
		t.Fatal(err)
	}
	ask := func(path string, fail int, headers ...compiler.Header) int {
		t.Helper()
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: path, Headers: append(headers,
			compiler.Header{Name: rehearsal.FailHeader, Value: fmt.Sprint(fail)}, compiler.Header{Name: "authorization", Value: "Bearer opensesame"},
			compiler.Header{Name: "cookie", Value: "session=opensesame"}, compiler.Header{Name: "x-tenant", Value: "acme"})})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status
	}
	const token = "?token=opensesame"
	if got := ask("/open/good"+token, 0); got != http.StatusOK {
		t.Fatalf("good: %d", got)
	}
	if got := ask("/open/bad"+token, 9); got != http.StatusServiceUnavailable {
		t.Fatalf("bad: %d", got)
	}
	if got := ask("/closed"+token, 0); got != http.StatusForbidden {
		t.Fatalf("closed: %d", got)
	}
	// Whoever calls himself gRPC is denied with status 200.
	if got := ask("/closed/grpc"+token, 0, compiler.Header{Name: "content-type", Value: "application/grpc"}); got != http.StatusOK {
		t.Fatalf("closed to gRPC: %d", got)
	}
	find := func(path string) map[string]string {
		lines, _ := r.all()
		for _, l := range lines {
			if l["url.path"] == path {
				return l
			}
		}
		return nil
	}
	p.until("lines of both denials and of the error", func() bool {
		return find("/open/bad") != nil && find("/closed") != nil && find("/closed/grpc") != nil
	})
	for path, want := range map[string]map[string]string{
		"/open/bad": {"http.response.status_code": "503", "upstream": "app/shop/app/http/default", "details": "via_upstream"},
		"/closed":   {"http.response.status_code": "403", "details": "rbac_access_denied_matched_policy[none]", "body": "GET 403"},
	} {
		for k, v := range map[string]string{
			"service.name": "app", "service.namespace": "shop", "owner": "team 100%", "version": "default", "http.request.method": "GET", "tenant": "acme", "share": "100 %",
			"caller": "spiffe://mesh.local/ns/shop/sa/web", "route": "service/shop/app",
		} {
			if _, ok := want[k]; !ok {
				want[k] = v
			}
		}
		for k, v := range want {
			if got := find(path)[k]; got != v {
				t.Errorf("%s: %s is %q, want %q", path, k, got, v)
			}
		}
	}
	lines, raw := r.all()
	if len(lines) != 3 || find("/open/good") != nil {
		t.Errorf("%d lines, want 3: %v", len(lines), lines)
	}
	if strings.Contains(raw, "opensesame") {
		t.Errorf("a line has a secret: %s", raw)
	}
	verdicts := map[string]string{}
	for i, text := range r.exported {
		for _, l := range mesh.Logged(i, text) {
			verdicts[fmt.Sprintf("%s %d of %s", l.Path, l.Status, l.Owner)] = l.Verdict
		}
	}
	if diff := cmp.Diff(map[string]string{"/open/bad 503 of team 100%": compiler.LetIn, "/closed 403 of team 100%": compiler.NotGranted, "/closed/grpc 200 of team 100%": compiler.NotGranted}, verdicts); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
}

// TestACollectorThatHangsCostsNoRequest: batches are given up in time, so that what a proxy
// holds back has a bound, and requests do not wait for any of it.
func TestACollectorThatHangsCostsNoRequest(t *testing.T) {
	r := &receiver{hang: make(chan struct{})}
	p := logged(t, `when: sample: 100`, r)
	allocated := func() int {
		m := regexp.MustCompile(`"allocated": "([0-9]+)"`).FindStringSubmatch(p.admin("/memory"))
		if m == nil {
			t.Fatal("no figure of memory")
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := allocated()
	const active, given = "cluster." + otel + ".upstream_rq_active", "cluster." + otel + ".upstream_rq_timeout"
	filler := strings.Repeat("x", 2<<10) // of every line
	asked := 0
	for ; asked < 300 || p.gauge(given) == 0; asked++ {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/open/" + filler})
		if err != nil || got.Status != http.StatusOK {
			t.Fatalf("request %d: %d, %v", asked, got.Status, err)
		}
	}
	p.until("no batch waits any more", func() bool { return p.gauge(active) == 0 })
	const most = 32 << 20
	grown := allocated() - before
	t.Logf("%d requests, of which no line was taken: %d bytes more", asked, grown)
	if grown > most {
		t.Errorf("%d requests left %d bytes behind", asked, grown)
	}
	close(r.hang)
	p.until("a line, once the collector is back", func() bool {
		if _, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/open/again"}); err != nil {
			t.Fatal(err)
		}
		lines, _ := r.all()
		return len(lines) > 0
	})
}

// TestACollectorThatIsAwayCostsNoRequest: nothing answers at its address.
func TestACollectorThatIsAwayCostsNoRequest(t *testing.T) {
	p := logged(t, `when: sample: 100`, &receiver{})
	if err := p.stage.Recast(p.ctx, otel, func(l net.Listener) { _ = l.Close() }); err != nil {
		t.Fatal(err)
	}
	sent := "cluster." + otel + ".upstream_rq_completed"
	for i := 0; i < 50 || p.gauge(sent) == 0; i++ {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/open"})
		if err != nil || got.Status != http.StatusOK {
			t.Fatalf("request %d: %d, %v", i, got.Status, err)
		}
	}
}

// TestLinesGoToAFile: one JSON object a line, with what let a request in, or refused it, by the name
// that it has in the intent.
func TestLinesGoToAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lines.json")
	p, mesh := loggedBy(t, `file: "`+file+`"`, `{when: sample: 100, fields: {tenant: "%REQ(X-TENANT)%", nobody: "%REQ(X-NOBODY)%"}}`)
	for path, want := range map[string]int{"/open/good": 200, "/open/frozen": 403, "/closed": 403} {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: path + "?token=opensesame", Headers: []compiler.Header{{Name: "x-tenant", Value: `a"b`}}})
		if err != nil || got.Status != want {
			t.Fatalf("%s: %d, %v", path, got.Status, err)
		}
	}
	lines, joined := map[string]map[string]any{}, map[string]compiler.Logged{}
	p.until("a line for each request", func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var fields map[string]any
			if strings.HasSuffix(line, "\n") {
				if err := json.Unmarshal([]byte(line), &fields); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				lines[fields["url.path"].(string)] = fields
				for _, l := range mesh.Logged(len(lines), []byte(line)) {
					joined[l.Path] = l
				}
			}
		}
		return len(lines) == 3
	})
	for path, want := range map[string]map[string]any{
		"/open/good":   {"http.response.status_code": 200.0, "rule": "web", "upstream": "app/shop/app/http/default"},
		"/open/frozen": {"http.response.status_code": 403.0, "rule": "frozen", "details": "rbac_access_denied_matched_policy[frozen]"},
		"/closed":      {"http.response.status_code": 403.0, "rule": nil, "details": "rbac_access_denied_matched_policy[none]"},
	} {
		want["service.name"], want["service.namespace"], want["owner"], want["version"], want["route"] = "app", "shop", "team 100%", "default", "service/shop/app"
		want["caller"], want["tenant"], want["nobody"] = "spiffe://mesh.local/ns/shop/sa/web", `a"b`, nil
		for name, v := range want {
			if lines[path][name] != v {
				t.Errorf("%s: %s is %v, want %v", path, name, lines[path][name], v)
			}
		}
	}
	for path, want := range map[string][]string{
		"/open/good":   {compiler.LetIn, "service/shop/app", "service/shop/app/grant/web"},
		"/open/frozen": {compiler.Denied, "service/shop/app", "service/shop/app/deny/frozen"},
		"/closed":      {compiler.NotGranted, "service/shop/app"},
	} {
		got := []string{joined[path].Verdict}
		for _, m := range joined[path].Lines {
			got = append(got, m.Path)
		}
		if !slices.Equal(got, want) || len(joined[path].Unknown) > 0 {
			t.Errorf("%s: joined with %v, want %v: %+v", path, got, want, joined[path])
		}
	}
}
