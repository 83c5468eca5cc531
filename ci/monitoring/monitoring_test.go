package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
)

// files is what users take.
const files = "../../examples/monitoring"

func programs(t *testing.T) string {
	t.Helper()
	dir, err := tools.Find(t.Context(), tools.Prometheus(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPromtoolTakesTheFiles: configurations, rules, and what each rule makes of series, as promtool
// judges them.
func TestPromtoolTakesTheFiles(t *testing.T) {
	promtool := filepath.Join(programs(t), "promtool")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "config", "prometheus.yaml"}, {"check", "config", "prometheus-kubernetes.yaml"},
		{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"}, {"test", "rules", "rules_test.yaml"},
	} {
		out, err := child.Run(t.Context(), child.Spec{Path: promtool, Args: args, Dir: dir}, time.Minute)
		if err != nil || !out.OK() {
			t.Errorf("promtool %s: %v\n%s%s", strings.Join(args, " "), err, out.Stdout, out.Stderr)
		}
	}
}

// prometheus scrapes the world by the configuration of the examples, but fifteen times as often.
func (w *world) prometheus() promv1.API {
	w.t.Helper()
	dir := filepath.Join(w.dir, "prometheus")
	w.must(os.CopyFS(dir, os.DirFS(files)))
	config, err := os.ReadFile(filepath.Join(files, "prometheus.yaml"))
	w.must(err)
	w.file("prometheus/prometheus.yaml", strings.ReplaceAll(string(config), "15s", "1s"))
	for job, targets := range map[string][]string{"server": {w.server}, "webhook": {w.webhook}, "proxy": w.agents} {
		text, err := json.Marshal([]map[string]any{{"targets": targets}})
		w.must(err)
		w.file("prometheus/targets/"+job+".yaml", string(text))
	}
	listen := w.address()
	w.program("prometheus", filepath.Join(programs(w.t), "prometheus"), "--config.file=prometheus/prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address="+listen)
	w.until("Prometheus is ready", func() error { _, err := page("http://" + listen + "/-/ready"); return err })
	client, err := api.NewClient(api.Config{Address: "http://" + listen})
	w.must(err)
	w.parse = func(expr string) (node any, err error) {
		text, err := page("http://" + listen + "/api/v1/parse_query?query=" + url.QueryEscape(expr))
		if err == nil {
			err = json.Unmarshal([]byte(text), &node)
		}
		return node, err
	}
	return promv1.NewAPI(client)
}

// series are how many a question is answered by, those of no number left out.
func series(ctx context.Context, p promv1.API, expr string) (int, error) {
	got, _, err := p.Query(ctx, expr, time.Now())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", expr, err)
	}
	v, ok := got.(model.Vector)
	if !ok {
		return 0, fmt.Errorf("%s: a %s", expr, got.Type())
	}
	v = slices.DeleteFunc(v, func(s *model.Sample) bool { return s.Value != s.Value })
	return len(v), nil
}

// TestAPrometheusReadsAMesh: it finds every target, each panel of each dashboard shows something, each
// metric of each rule is there, and the rules hold that ought to.
func TestAPrometheusReadsAMesh(t *testing.T) {
	w := newWorld(t)
	p := w.prometheus()
	w.trouble()
	w.traffic()
	w.until("all targets are scraped", func() error {
		got, err := p.Targets(t.Context())
		up := 0
		for _, a := range got.Active {
			if a.Health == promv1.HealthGood {
				up++
			} else {
				err = fmt.Errorf("%s: %s", a.ScrapeURL, a.LastError)
			}
		}
		if want := 2 + len(w.agents); err == nil && up != want {
			err = fmt.Errorf("%d of %d", up, want)
		}
		return err
	})
	for _, d := range dashboards(t) {
		for _, e := range d.exprs() {
			w.until(d.name+" shows something", func() error { return shows(t.Context(), p, e) })
		}
	}
	w.rules(p)
}

func shows(ctx context.Context, p promv1.API, expr string) error {
	n, err := series(ctx, p, expr)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: no series", expr)
	}
	return err
}

// held are the alerts whose expressions hold in that world, for what trouble and traffic make; no
// others do.
func held() []string {
	return []string{
		"MeshcAuditFound", "MeshcAuthorizerFails", "MeshcBehind", "MeshcCommitRefused", "MeshcDenials", "MeshcErrors", "MeshcHeld", "MeshcLimiterFails", "MeshcNack",
		"MeshcObjectsRefused", "MeshcReleaseHeld", "MeshcShadowedDenyMatches", "MeshcShadowedGrantMatches", "MeshcVisitorCertificate",
	}
}

func (w *world) rules(p promv1.API) {
	w.t.Helper()
	var alerts map[string]promv1.AlertingRule
	w.until("all rules are evaluated", func() error {
		got, err := p.Rules(w.t.Context(), nil)
		alerts = map[string]promv1.AlertingRule{}
		for _, g := range got.Groups {
			for _, r := range g.Rules {
				if a, ok := r.(promv1.AlertingRule); ok {
					if alerts[a.Name] = a; a.Health != promv1.RuleHealthGood {
						err = fmt.Errorf("%s is %s: %s", a.Name, a.Health, a.LastError)
					}
				}
			}
		}
		return err
	})
	if len(alerts) < 20 {
		w.t.Errorf("only %d rules", len(alerts))
	}
	for _, name := range slices.Sorted(maps.Keys(alerts)) {
		node, err := w.parse(alerts[name].Query)
		w.must(err)
		metrics := selected(node)
		if len(metrics) == 0 {
			w.t.Errorf("%s looks at no metric", name)
		}
		for _, m := range metrics {
			w.until(name+" finds "+m, func() error { return shows(w.t.Context(), p, "count("+m+")") })
		}
		holds := slices.Contains(held(), name)
		w.until(fmt.Sprintf("it is %v that %s holds", holds, name), func() error {
			n, err := series(w.t.Context(), p, alerts[name].Query)
			if err == nil && (n > 0) != holds {
				err = fmt.Errorf("%d series of %s", n, alerts[name].Query)
			}
			return err
		})
	}
}

// selected are the metrics that an expression selects, as the API's tree of it has them, without the
// values of other labels.
func selected(node any) (out []string) {
	switch n := node.(type) {
	case map[string]any:
		if name, ok := n["name"].(string); ok && name != "" && (n["type"] == "vectorSelector" || n["type"] == "matrixSelector") {
			out = append(out, name)
		}
		for _, v := range n {
			out = append(out, selected(v)...)
		}
	case []any:
		for _, v := range n {
			out = append(out, selected(v)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// dashboard is what a file says that Grafana shows.
type dashboard struct {
	name   string
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

func dashboards(t *testing.T) (out []dashboard) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(files, "dashboards", "*.json"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d dashboards, %v", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{name: filepath.Base(name)}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, d)
	}
	return out
}

var variable = regexp.MustCompile(`\$[a-z_]+`)

// exprs are the questions of its panels, with all that there is chosen.
func (d dashboard) exprs() (out []string) {
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "30s", "$__range", "5m").Replace(t.Expr)
			out = append(out, variable.ReplaceAllString(expr, ".+"))
		}
	}
	return out
}
