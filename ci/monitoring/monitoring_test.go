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

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/proxypod"
)

// files is what users take.
const files = "../../examples/monitoring"

func tool(t *testing.T) string {
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
	promtool := filepath.Join(tool(t), "promtool")
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
	w.program("prometheus", filepath.Join(tool(w.t), "prometheus"), "--config.file=prometheus/prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address="+listen)
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
	// By their names, and not as what somebody else was refused.
	for _, e := range []string{
		`envoy_cluster_ratelimit_error{meshc_quota="tenants"}`, `envoy_cluster_ext_authz_error{envoy_ext_authz_prefix="platform_opa"}`,
		`envoy_rate_limit_http_local_rate_limit_rate_limited{meshc_rate_limit="few"}`, `meshc_webhook_reviews_total{verdict="tried"}`,
		`envoy_http_rbac_policy_shadow_denied{envoy_rbac_policy_name="old"}`, `envoy_http_rbac_policy_shadow_allowed{envoy_rbac_policy_name="writes"}`,
		`envoy_meshc_requests_total{service_name="orders", route="service/shop/orders", rule="reads", status="500"}`,
	} {
		w.until("there is "+e, func() error { return shows(t.Context(), p, e) })
	}
	w.rules(p)
	w.found()
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

// found asks a second Prometheus, by the configuration for clusters, what it would scrape of what
// "meshc install" prints and of a pod with a sidecar: those, at the ports where they answer. Their
// addresses are of this machine, where nobody answers.
func (w *world) found() {
	w.t.Helper()
	ctx := w.t.Context()
	out, err := child.Run(ctx, child.Spec{Path: w.meshc, Dir: w.dir, Args: []string{"install", "--repo", "https://git.example/mesh.git", "--trust", "cluster.yaml",
		"--image", "registry.example/meshc@sha256:" + strings.Repeat("0", 64)}}, time.Minute)
	if err != nil || !out.OK() {
		w.t.Fatalf("meshc install: %v, %s", err, out.Stderr)
	}
	w.must(w.Apply(ctx, string(out.Stdout), `{apiVersion: v1, kind: Namespace, metadata: {name: plain, labels: {meshc.dev/inject: enabled}}}`))
	w.until("a pod has a sidecar", func() error {
		return w.Apply(ctx, `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: plain}, spec: {containers: [{name: a, image: a, ports: [{containerPort: 80}]}]}}`)
	})
	var names []string
	w.until("the pods have addresses", func() error {
		pods, err := w.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		names = nil
		for i, p := range pods.Items {
			p.Status.PodIP = fmt.Sprintf("127.0.9.%d", i+1)
			p.Status.PodIPs = []core.PodIP{{IP: p.Status.PodIP}}
			if p.Namespace != "shop" { // the mesh's are guarded
				names = append(names, p.Name)
			}
			if _, err := w.Client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, &p, metav1.UpdateOptions{}); err != nil && p.Namespace != "shop" {
				return err
			}
		}
		if len(names) < 3 {
			err = fmt.Errorf("only %v", names)
		}
		return err
	})
	config, err := os.ReadFile(filepath.Join(files, "prometheus-kubernetes.yaml"))
	w.must(err)
	listen := w.address()
	w.file("prometheus/kubernetes.yaml", strings.ReplaceAll(string(config), "{role: pod}", fmt.Sprintf("{role: pod, kubeconfig_file: %q}", w.Kubeconfig)))
	w.program("prometheus-kubernetes", filepath.Join(tool(w.t), "prometheus"), "--config.file=prometheus/kubernetes.yaml", "--storage.tsdb.path=data-kubernetes", "--web.listen-address="+listen)
	want := []string{
		fmt.Sprintf("meshc-proxy plain/a %d", proxypod.StatusPort),
		fmt.Sprintf("meshc-server meshc-system/meshc-server-0 %d", install.ServerHTTPPort), fmt.Sprintf("meshc-webhook meshc-system/meshc-webhook %d", install.WebhookHTTPPort),
	}
	client, err := api.NewClient(api.Config{Address: "http://" + listen})
	w.must(err)
	w.until("Prometheus finds pods", func() error {
		got, err := promv1.NewAPI(client).Targets(ctx)
		if err != nil {
			return err
		}
		var is []string
		for _, a := range got.Active {
			u, err := url.Parse(a.ScrapeURL)
			if err != nil {
				return err
			}
			pod := string(a.Labels["pod"])
			if strings.HasPrefix(pod, "meshc-webhook-") {
				pod = "meshc-webhook"
			}
			is = append(is, fmt.Sprintf("%s %s/%s %s", a.Labels["job"], a.Labels["namespace"], pod, u.Port()))
		}
		slices.Sort(is)
		if is = slices.Compact(is); !slices.Equal(is, want) {
			return fmt.Errorf("%v, want %v", is, want)
		}
		return nil
	})
}
