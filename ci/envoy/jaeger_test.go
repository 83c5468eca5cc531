//go:build jaeger

package envoy

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/freeport"
)

// jaeger is a real Jaeger, which takes spans of both protocols and answers who asks for traces.
type jaeger struct {
	t                   *testing.T
	otlp, zipkin, query string // addresses
}

const jaegerConfig = `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp, zipkin], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_storage: {backends: {here: {memory: {max_traces: 1000}}}}
  jaeger_query: {storage: {traces: here}, http: {endpoint: %q}, grpc: {endpoint: %q}}
receivers:
  otlp: {protocols: {grpc: {endpoint: %q}}}
  zipkin: {endpoint: %q}
exporters:
  jaeger_storage_exporter: {trace_storage: here}
`

func newJaeger(t *testing.T) *jaeger {
	t.Helper()
	dir, err := tools.Find(t.Context(), tools.Jaeger(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	j, own := &jaeger{t: t}, ""
	for _, a := range []*string{&j.otlp, &j.zipkin, &j.query, &own} {
		if *a, err = freeport.Address(); err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	config := filepath.Join(home, "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, jaegerConfig, j.query, own, j.otlp, j.zipkin), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(home, "log")
	c, err := child.Start(child.Spec{Path: filepath.Join(dir, "jaeger"), Args: []string{"--config", config}, Dir: home, Log: log, Bound: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop(5 * time.Second)
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("Jaeger: %s", text[max(0, len(text)-3000):])
		}
	})
	return j
}

// leads has connections go on to an address.
func leads(address string) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
				_, _ = io.Copy(c, to)
			}()
		}
	}
}

// kept is a span as Jaeger shows it.
type kept struct {
	TraceID, SpanID, OperationName string
	References                     []struct{ RefType, SpanID string }
	Tags                           []struct {
		Key   string
		Value any
	}
}

func (s kept) tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

func (j *jaeger) page(path string, into any) error {
	res, err := http.Get("http://" + j.query + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// trace is the one that has a request for a path, by the kind of its spans; nil if there is none yet.
func (j *jaeger) trace(path string) map[string]kept {
	var services struct{ Data []string }
	if j.page("/api/services", &services) != nil {
		return nil
	}
	for _, service := range services.Data {
		var found struct{ Data []struct{ Spans []kept } }
		if err := j.page("/api/traces?limit=100&lookback=1h&service="+url.QueryEscape(service), &found); err != nil {
			j.t.Fatal(err)
		}
		for _, trace := range found.Data {
			out := map[string]kept{}
			for _, s := range trace.Spans {
				if s.tag("url.path") == path {
					out[s.tag("span.kind")] = s
				}
			}
			if len(out) == 2 {
				return out
			}
		}
	}
	return nil
}

// TestAJaegerShowsTraces: a request of a visitor is one trace of two spans there, by either protocol.
func TestAJaegerShowsTraces(t *testing.T) {
	j := newJaeger(t)
	for collector, c := range map[string]struct{ target, address string }{"prod": {otel, j.otlp}, "old": {zipkin, j.zipkin}} {
		t.Run(collector, func(t *testing.T) {
			p, edge := traced(t, `traces: `+collector+`: {sample: 100, tags: tenant: "%REQ(X-TENANT)%"}`, "")
			if err := p.stage.Recast(p.ctx, c.target, leads(c.address)); err != nil {
				t.Fatal(err)
			}
			var got map[string]kept
			path := "/open/" + collector
			p.until("Jaeger shows the trace", func() bool {
				if status, _ := p.asked(edge, path); status != http.StatusOK {
					t.Fatalf("%d", status)
				}
				got = j.trace(path)
				return got != nil
			})
			outer, inner := got["client"], got["server"]
			if len(inner.References) != 1 || inner.References[0].SpanID != outer.SpanID || inner.References[0].RefType != "CHILD_OF" || len(outer.References) > 0 || inner.TraceID != outer.TraceID {
				t.Errorf("at the gateway %+v, at the service %+v", outer, inner)
			}
			if inner.tag("tenant") != "acme" || inner.tag("route") != "service/shop/app" || inner.tag("caller") != "spiffe://mesh.local/ns/shop/sa/edge" {
				t.Errorf("at the service %+v", inner)
			}
		})
	}
}
