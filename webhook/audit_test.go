package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubetest"
)

func (g *guarded) auditing(replica string) Auditing {
	return Auditing{Cluster: Cluster{Client: g.Client, URL: "https://" + g.relay.Addr().String()}, Objects: g.Dynamic, Every: time.Hour, Replica: replica}
}

// look audits once.
func (g *guarded) look(t *testing.T) *Audit {
	t.Helper()
	if err := g.server.audit(t.Context(), g.auditing("a"), g.server.inForce(time.Now())); err != nil {
		t.Fatal(err)
	}
	return g.server.audited.Load()
}

func (g *guarded) reportOf(t *testing.T, namespace string) (report AuditedSpace, version string) {
	t.Helper()
	c, err := g.Client.CoreV1().ConfigMaps(namespace).Get(t.Context(), ReportName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(c.Data[reportKey]), &report); err != nil {
		t.Fatal(err)
	}
	return report, c.ResourceVersion
}

func TestAudit(t *testing.T) {
	g := guardedCluster(t)
	ctx := t.Context()
	g.until(t, "the API server is known to ask", func() bool { return g.server.Status().Asked == "yes" })

	if strings.Contains(g.log.String(), TriedName) {
		t.Error("what the webhook tries itself is told as refused")
	}

	t.Run("a cluster that is as it should be", func(t *testing.T) {
		a := g.look(t)
		if len(a.Findings) != 0 || a.Objects < 14 || a.Commit != "0123456789abcdef" || len(a.Spaces) != 1 {
			t.Errorf("%+v, %+v", a, a.Spaces["shop"])
		}
		if r, _ := g.reportOf(t, "shop"); len(r.Found) != 0 || r.Commit != a.Commit {
			t.Errorf("%+v", r)
		}
	})

	t.Run("what was stored while nobody asked", func(t *testing.T) { g.findings(t) })

	t.Run("kinds of others", func(t *testing.T) { g.foreignFindings(t) })

	t.Run("many pages", func(t *testing.T) {
		var texts []string
		for i := range 2*page + 1 {
			texts = append(texts, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"many-%d","namespace":"shop"}}`, i))
		}
		if err := g.Apply(ctx, texts...); err != nil {
			t.Fatal(err)
		}
		if a := g.look(t); a.Objects < 2*page+1+14 {
			t.Errorf("%d objects", a.Objects)
		}
	})

	t.Run("one of several replicas", func(t *testing.T) {
		now := time.Now()
		turnOf := func(name string) *turn {
			return &turn{cluster: g.auditing(name).Cluster, replica: name, lasts: time.Minute, now: func() time.Time { return now }}
		}
		take := func(name string) (bool, time.Duration) {
			mine, again, err := turnOf(name).take(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return mine, again
		}
		if mine, _ := take("a"); !mine {
			t.Error("the first does not get it")
		}
		if mine, again := take("b"); mine || again <= 0 || again > time.Minute {
			t.Errorf("the second: %v, %s", mine, again)
		}
		if mine, _ := take("a"); !mine {
			t.Error("it loses it")
		}
		now = now.Add(2 * time.Minute)
		var won atomic.Int32
		t.Run("at a time", func(t *testing.T) {
			for i := range 8 {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					t.Parallel()
					if mine, _ := take(fmt.Sprint("r", i)); mine {
						won.Add(1)
					}
				})
			}
		})
		if won.Load() != 1 {
			t.Errorf("%d replicas audit", won.Load())
		}
	})

	t.Run("without rights", func(t *testing.T) {
		config, _, err := g.As(nobody)
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		a := g.auditing("nobody")
		a.Cluster.Client = client
		if a.Objects, err = dynamic.NewForConfig(config); err != nil {
			t.Fatal(err)
		}
		err = g.server.audit(ctx, a, g.server.inForce(time.Now()))
		if err == nil || !strings.Contains(err.Error(), "services: the Kubernetes API does not let meshc list services") || !strings.Contains(err.Error(), "reports: the Kubernetes API does not let meshc get configmaps") {
			t.Errorf("%v", err)
		}
		if found := g.server.audited.Load(); found.Findings[diag.Error][diag.CodeNotApplied] > 0 {
			t.Errorf("what could not be read is told as missing: %+v", found)
		}
		if d := newReach(a.Cluster, slog.New(slog.DiscardHandler), time.Now).ask(ctx); d == nil || d.Code != diag.CodeKubernetesRights {
			t.Errorf("whether it is asked: %+v", d)
		}
	})

	t.Run("a webhook that nobody reaches", func(t *testing.T) {
		defer g.relay.become(passing)
		g.relay.become(down)
		var calls atomic.Int64
		begin := time.Now()
		r := newReach(g.auditing("a").Cluster, slog.New(slog.NewTextHandler(g.log, nil)), func() time.Time { return begin.Add(time.Duration(calls.Add(1)) * settling) })
		go r.run(ctx)
		r.due()
		g.until(t, "it says so", func() bool {
			return strings.HasPrefix(r.told(), "MESH0722 the API server cannot reach this webhook") && strings.Contains(r.told(), "fix: make https://127.0.0.1")
		})
	})
}

// findings: each kind of thing that is not as it should be is found, told in its
// namespace's report, and gone from there when it is mended.
func (g *guarded) findings(t *testing.T) {
	ctx := t.Context()
	const canary = "c4n4ry-s3cr3t"
	claimed := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"claimed","namespace":"default","labels":{"app.kubernetes.io/managed-by":"meshc"},"annotations":{"example.com/a":"` + canary + `"}}}`
	differs := `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"cart","namespace":"shop","labels":{"app.kubernetes.io/managed-by":"meshc"}},"imagePullSecrets":[{"name":"old"}]}`
	g.earlier(t, differs, func() error {
		return errors.Join(
			g.patch(t, "serviceaccounts", "cart", `{"metadata":{"annotations":null,"labels":{"app.kubernetes.io/part-of":null}},"imagePullSecrets":[{"name":"old"}]}`, false),
			g.Client.CoreV1().Services("shop").Delete(ctx, "web", metav1.DeleteOptions{}),
			g.Apply(ctx, podText("bare", "")))
	})
	g.earlier(t, strings.Replace(claimed, `,"annotations":{"example.com/a":"`+canary+`"}`, "", 1), func() error { return g.Apply(ctx, claimed) })
	a := g.look(t)
	want := Counts{diag.CodeDrift: 1, diag.CodeNotApplied: 1, diag.CodeSidecar: 1, diag.CodeUnapproved: 1}
	for c, n := range want {
		if a.Findings[diag.Error][c] != n {
			t.Errorf("%s: %d, want %d", c, a.Findings[diag.Error][c], n)
		}
	}
	shop, version := g.reportOf(t, "shop")
	for _, object := range []string{"ServiceAccount/shop/cart", "Service/shop/web", "Pod/shop/bare"} {
		if !slices.ContainsFunc(shop.Found, func(f Found) bool { return f.Object == object && f.Text != "" && f.Fix != "" }) {
			t.Errorf("%s is not told: %+v", object, shop.Found)
		}
	}
	if r, _ := g.reportOf(t, "default"); len(r.Found) != 1 || strings.Contains(r.Found[0].Text, canary) || r.Found[0].Object != "ConfigMap/default/claimed" {
		t.Errorf("%+v", r)
	}
	if page := g.page(t, "/metrics"); !strings.Contains(page, `meshc_webhook_audit_findings{code="MESH0721",severity="error"} 1`) || strings.Contains(page, `finished_timestamp_seconds 0`) {
		t.Error("the metrics do not say so")
	}
	if page := g.page(t, StatusPath); !strings.Contains(page, `"asked":"yes"`) || !strings.Contains(page, "Pod/shop/bare") {
		t.Errorf("the status: %s", page)
	}
	g.look(t)
	if _, again := g.reportOf(t, "shop"); again != version {
		t.Error("the same report is written again")
	}
	if err := g.patch(t, "configmaps", ReportName, `{"data":{"report.json":"{}","more":"x"}}`, false); err != nil {
		t.Fatal(err)
	}
	g.look(t)
	if r, _ := g.reportOf(t, "shop"); len(r.Found) != len(shop.Found) {
		t.Errorf("a report that somebody changed stays: %+v", r)
	}
	if err := g.Client.CoreV1().ConfigMaps("default").Delete(ctx, "claimed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Client.CoreV1().Pods("shop").Delete(ctx, "bare", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if err := g.Apply(ctx, objects(g.release)...); err != nil {
		t.Fatal(err)
	}
	if err := g.patch(t, "serviceaccounts", "cart", `{"imagePullSecrets":null}`, false); err != nil {
		t.Fatal(err)
	}
	if a := g.look(t); len(a.Findings) != 0 {
		t.Errorf("mended: %+v, %+v", a.Findings, a.Spaces["shop"])
	}
	if _, err := g.Client.CoreV1().ConfigMaps("default").Get(ctx, ReportName, metav1.GetOptions{}); err == nil {
		t.Error("a report of a namespace without findings stays")
	}
	if strings.Contains(g.log.String(), canary) {
		t.Error("the log holds what was in an object")
	}
}

// foreignFindings: kinds that a cluster need not have, and addresses by hand, are looked at
// like all else; what controllers keep is theirs.
func (g *guarded) foreignFindings(t *testing.T) {
	ctx := t.Context()
	before := g.look(t)
	if !slices.Contains(before.Absent, "envoyfilters.networking.istio.io") || !slices.Contains(before.Absent, "httproutes.gateway.networking.k8s.io") || len(before.Unread) > 0 {
		t.Errorf("absent %v, unread %v", before.Absent, before.Unread)
	}
	cart, err := g.Client.CoreV1().Services("shop").Get(ctx, "cart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := `"ownerReferences":[{"apiVersion":"v1","kind":"Service","name":"cart","uid":"` + string(cart.UID) + `","controller":true}]`
	slice := func(name, by string) string {
		return `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"` + name + `","namespace":"shop",` + owned + `,"labels":{"kubernetes.io/service-name":"` + name[:strings.Index(name, "-")] +
			`","endpointslice.kubernetes.io/managed-by":"` + by + `"}},"addressType":"IPv4","endpoints":[{"addresses":["10.9.9.9"]}]}`
	}
	g.earlier(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"none","namespace":"elsewhere"}}`, func() error {
		return g.Apply(ctx, envoyFilters,
			`{"apiVersion":"networking.istio.io/v1alpha3","kind":"EnvoyFilter","metadata":{"name":"f","namespace":"shop",`+owned+`},"spec":{}}`,
			slice("cart-byhand", "mallory"), slice("bare-forged", "endpointslice-controller.k8s.io"),
			`{"apiVersion":"v1","kind":"Service","metadata":{"name":"bare","namespace":"shop"},"spec":{"ports":[{"port":80}]}}`)
	})
	a := g.look(t)
	told := func(object string) bool {
		r, _ := g.reportOf(t, "shop")
		return slices.ContainsFunc(r.Found, func(f Found) bool { return f.Object == object && f.Code == diag.CodePolicyDenied })
	}
	for _, object := range []string{"EnvoyFilter/shop/f", "EndpointSlice/shop/cart-byhand"} {
		if !told(object) {
			t.Errorf("%s is not told: %+v", object, a.Spaces["shop"])
		}
	}
	if told("EndpointSlice/shop/bare-forged") { // of no service of the mesh: nobody's business
		t.Errorf("%+v", a.Spaces["shop"])
	}
	if slices.Contains(a.Absent, "envoyfilters.networking.istio.io") || len(a.Unread) > 0 {
		t.Errorf("absent %v, unread %v", a.Absent, a.Unread)
	}
	for _, f := range a.Spaces["shop"].Found {
		if strings.HasPrefix(f.Object, "Endpoints/") || strings.HasPrefix(f.Object, "EndpointSlice/shop/web-") {
			t.Errorf("a controller's work is told: %+v", f)
		}
	}
	if err := g.Delete(ctx, `{"apiVersion":"networking.istio.io/v1alpha3","kind":"EnvoyFilter","metadata":{"name":"f","namespace":"shop"}}`, slice("cart-byhand", "mallory"), slice("bare-forged", "x"),
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"bare","namespace":"shop"}}`); err != nil {
		t.Fatal(err)
	}
	if a := g.look(t); len(a.Findings) != 0 {
		t.Errorf("mended: %+v", a.Spaces["shop"])
	}
}

// A cluster without anything of the release, or whose namespace is on its way out, is
// told, and nothing is half written.
func TestAuditOfAnEmptyClusterAndOfANamespaceThatGoes(t *testing.T) {
	g := &guarded{Cluster: kubetest.ForTest(t, kubetest.Options{}), release: compiled(t), log: &lines{}}
	g.server = newServer(t, g.log)
	g.publish(t)
	a := Auditing{Cluster: Cluster{Client: g.Client, URL: "https://127.0.0.1:1"}, Objects: g.Dynamic, Every: time.Hour, Replica: "a"}
	by := g.server.inForce(time.Now())
	if err := g.server.audit(t.Context(), a, by); err != nil {
		t.Fatal(err)
	}
	found := g.server.audited.Load()
	if found.Findings[diag.Error][diag.CodeNotApplied] != len(objects(g.release)) || found.Objects != 0 {
		t.Errorf("%+v", found)
	}
	if err := g.Apply(t.Context(), `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"held","namespace":"shop","finalizers":["example.com/hold"]}}`); err != nil {
		t.Fatal(err)
	}
	if err := g.Client.CoreV1().Namespaces().Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.server.audit(t.Context(), a, by); err != nil {
		t.Errorf("a namespace that goes: %v", err)
	}
	if d := newReach(a.Cluster, slog.New(slog.DiscardHandler), time.Now).ask(t.Context()); d == nil || d.Code != diag.CodeUnreached || !strings.Contains(d.Text, "without asking") {
		t.Errorf("without configurations: %+v", d)
	}
}
