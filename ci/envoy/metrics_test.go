package envoy

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// series are the values of a metric of a proxy, by all tags but those of its service: of a histogram
// how many values it has.
func (p *play) series(of release.Class, metric string) map[string]float64 {
	p.t.Helper()
	page, err := p.stage.Admin(p.ctx, of, "/stats/prometheus")
	if err != nil {
		p.t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		p.t.Fatalf("the page is none of Prometheus': %v", err)
	}
	out := map[string]float64{}
	for _, m := range families["envoy_meshc_"+metric].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		out[tagsOf(labels)] = valueOf(m)
	}
	return out
}

func valueOf(m *dto.Metric) float64 {
	if h := m.GetHistogram(); h != nil {
		return float64(h.GetSampleCount())
	}
	return m.GetCounter().GetValue()
}

func tagsOf(labels map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(name, "service_") {
			out = append(out, name+"="+labels[name])
		}
	}
	return strings.Join(out, " ")
}

// TestRequestsAreCounted: where they arrive, by who answered what to whom, and by no value that a
// request makes up.
func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	p, edge := traced(t, "metrics: {}", `telemetry: metrics: {include: ["requests", "duration", "requestBytes", "responseBytes"], drop: ["owner"],
	tags: {plan: {value: "%REQ(X-PLAN)%", oneOf: ["gold", "5\" \\ %"]}, over: value: "100 %% %PROTOCOL%"}}`)
	app, gateway := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"}, release.Class{Role: release.Gateway, Namespace: "shop", Account: "edge"}
	ask := func(door compiler.Door, path string, want int, headers ...string) {
		t.Helper()
		if status, _ := p.asked(door, path, headers...); status != want {
			t.Fatalf("%s: %d, want %d", path, status, want)
		}
	}
	ask(p.door, "/open/1", http.StatusOK, "x-plan", "gold")
	ask(p.door, "/open/2", http.StatusOK, "x-plan", "gold")
	ask(p.door, "/open/2", http.StatusOK, "x-plan", `5" \ %`)
	ask(p.door, "/closed", http.StatusForbidden)
	ask(edge, "/open/3", http.StatusOK)
	ask(edge, "/closed", http.StatusForbidden)
	const made = 50
	for i := range made {
		ask(p.door, "/open/1", http.StatusOK, "x-plan", fmt.Sprintf("made up \xff%d", i))
	}
	ask(p.door, "/open/1", http.StatusOK, "content-type", "application/grpc")

	tags := func(caller, grpc, plan, rule, status string) string {
		return "caller=spiffe://mesh.local/ns/shop/sa/" + caller + " grpc_status=" + grpc + " over=100 % HTTP/2 plan=" + plan + " route=service/shop/app rule=" + rule + " status=" + status + " version=default"
	}
	at := func(grpc, rule, status string) string {
		return "grpc_status=" + grpc + " owner=shop route=gateway/shop/edge/host/shop.test/route/all/service/shop/app/route/default rule=" + rule + " status=" + status
	}
	wantApp := map[string]float64{
		tags("web", "", "gold", "all", "200"):         2,
		tags("web", "", `5" \ %`, "all", "200"):       1,
		tags("web", "", "other", "", "403"):           1,
		tags("web", "", "other", "all", "200"):        made,
		tags("web", "Unknown", "other", "all", "200"): 1,
		tags("edge", "", "other", "all", "200"):       1,
		tags("edge", "", "other", "", "403"):          1,
	}
	wantGateway := map[string]float64{at("", "", "200"): 1, at("", "", "403"): 1}
	// A request is counted once its answer is through, and histograms are added up every few seconds.
	for _, c := range []struct {
		of     release.Class
		metric string
		want   map[string]float64
	}{
		{app, "requests_total", wantApp},
		{app, "request_duration_milliseconds", wantApp},
		{app, "request_bytes", wantApp},
		{app, "response_bytes", wantApp},
		{gateway, "requests_total", wantGateway},
		{gateway, "request_duration_milliseconds", wantGateway},
		{gateway, "request_bytes", map[string]float64{}},
	} {
		var got map[string]float64
		p.until(c.metric+" of "+c.of.String(), func() bool {
			got = p.series(c.of, c.metric)
			return sum(got) >= sum(c.want)
		})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", c.metric, c.of, diff)
		}
	}
}

func sum(of map[string]float64) float64 {
	var out float64
	for _, v := range of {
		out += v
	}
	return out
}
