package webhook

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// same is a mesh that brings objects of its own, rules of its own, and words about rules.
func same() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	pod := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: shop\n  labels:\n    meshc.dev/inject: disabled\nspec:\n  serviceAccountName: web\n  containers:\n  - name: app\n    image: i\n%s", name, spec)
	}
	workload := func(kind, group, name, spec string) string {
		return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n  namespace: shop\nspec:\n  selector:\n    matchLabels:\n      app: x\n  template:\n    metadata:\n      labels:\n        app: x\n    spec:\n      serviceAccountName: web\n      containers:\n      - name: app\n        image: i\n%s", group, kind, name, spec)
	}
	return fstest.MapFS{
		"mesh.cue": file(`package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: targets: kubernetes: {}
mesh: rule: "pod-proxy-user": {severity: "warn", owner: "platform", reason: "old images", until: "2027-01-10T18:00:00Z"}
mesh: exemption: agents: {rules: ["pod-host-network"], object: {kind: "Pod", namespace: "shop", name: "agent-*"}, owner: "platform", reason: "measures", until: "2027-01-10T18:00:00Z"}
`),
		"shop/shop.cue":                file("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\nmesh: service: web: port: http: number: 80\n"),
		"policies/mine.rego":           file(ruleOver("every-pod", "audit")),
		"policies/label.rego":          file("package meshc.object.label\n\n# METADATA\n# custom: {id: a-team, severity: deny}\nfindings contains {\"id\": \"a-team\", \"path\": \"metadata.labels\", \"msg\": sprintf(\"%s %s has no team\", [input.kind, input.name])} if {\n\tinput.kind in {\"ConfigMap\", \"Deployment\"}\n\tnot input.object.metadata.labels.team\n\tinput.namespace in input.mesh.namespaces\n}\n"),
		"kustomize/kustomization.yaml": file("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [plain.yaml, host.yaml, agent.yaml, proxy.yaml, admin.yaml, deploy.yaml, set.yaml, settings.yaml]\n"),
		"kustomize/plain.yaml":         file(pod("plain", "")),
		"kustomize/host.yaml":          file(pod("host", "  hostNetwork: true\n")),
		"kustomize/agent.yaml":         file(pod("agent-1", "  hostNetwork: true\n")),
		"kustomize/proxy.yaml":         file(pod("proxy", "    securityContext:\n      runAsUser: 1337\n")),
		"kustomize/admin.yaml":         file(pod("admin", "    securityContext:\n      privileged: true\n")),
		"kustomize/deploy.yaml":        file(workload("Deployment", "apps/v1", "agent", "      hostNetwork: true\n")),
		"kustomize/set.yaml":           file(workload("DaemonSet", "apps/v1", "node", "      hostNetwork: true\n")),
		"kustomize/settings.yaml":      file("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: shop\ndata:\n  a: b\n"),
	}
}

// What a check of the intent says of an object is what the webhook says when somebody
// creates it: the same codes and words. A rule counts once, wherever it is asked.
func TestVetAndWebhookGiveTheSameVerdicts(t *testing.T) {
	files, at := same(), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	by, err := compile.New(compile.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	court, ds := by.Convene(t.Context(), compile.OwnPolicies(files))
	policy, more := court.Policy()
	p, problems := compiler.Load(files, compiler.Options{At: at, Policy: policy})
	if ds = slices.Concat(ds, more, problems); ds.HasErrors() {
		t.Fatal(ds)
	}
	sealed, ds := p.Release()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	res, err := court.Judge(t.Context(), compile.Case{Program: p, At: at, Release: sealed})
	if err != nil {
		t.Fatal(err)
	}
	var vetted []string
	for _, d := range res.Findings {
		if !strings.HasPrefix(d.Pos.File, "kustomize/") {
			t.Errorf("a finding at %s: %s", d.Pos, d)
		}
		vetted = append(vetted, printer.Line(string(d.Code)+" "+d.Text))
	}
	slices.Sort(vetted)

	r := start(t)
	r.c.Now = func() time.Time { return at }
	if err := r.take(t.Context(), "0123456789abcdef", mark{}, []release.Step{{Release: sealed}}); err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, path := range sealed.Paths() {
		if raw, _ := sealed.Artifact(path); strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, "kustomization.yaml") {
			asked = append(asked, r.verdicts(t, raw)...)
		}
	}
	slices.Sort(asked)
	if !slices.Equal(vetted, asked) {
		t.Errorf("a check says\n%s\nand the webhook\n%s", strings.Join(vetted, "\n"), strings.Join(asked, "\n"))
	}
	for _, code := range []diag.Code{diag.CodePolicyDenied, diag.CodePolicyWarned, diag.CodePolicyNoted, diag.CodeExempted} {
		if !slices.ContainsFunc(vetted, func(s string) bool { return strings.HasPrefix(s, string(code)) }) {
			t.Errorf("no verdict is %s", code)
		}
	}
}

// verdicts asks about an object, and about the pod that a workload makes, and gives all
// that rules found.
func (r *running) verdicts(t *testing.T, raw []byte) []string {
	t.Helper()
	var o struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
		Spec     struct{ Template map[string]any }
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON, &o); err != nil {
		t.Fatal(err)
	}
	group := map[string]string{"Deployment": "apps", "DaemonSet": "apps"}[o.Kind]
	if o.Kind == "Namespace" {
		o.Metadata.Namespace = o.Metadata.Name
	}
	out := r.found(t, fmt.Sprintf(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","operation":"CREATE","namespace":%q,"name":%q,
		"kind":{"group":%q,"version":"v1","kind":%q},"resource":{"group":%q,"version":"v1","resource":%q},"object":%s}}`,
		o.Metadata.Namespace, o.Metadata.Name, group, o.Kind, group, strings.ToLower(o.Kind)+"s", asJSON))
	if o.Spec.Template == nil {
		return out
	}
	meta, _ := o.Spec.Template["metadata"].(map[string]any)
	meta["generateName"] = o.Metadata.Name + "-"
	pod, err := json.Marshal(o.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, r.found(t, strings.Replace(question("Pod", "pods", string(pod)), `"name":"web"`, `"name":""`, 1))...)
}

// found is what rules found, as an audit event has it.
func (r *running) found(t *testing.T, review string) []string {
	t.Helper()
	a, _, _ := r.ask(t, ValidatePath, review)
	var out []string
	for _, text := range a.AuditAnnotations {
		out = append(out, strings.Split(text, " | ")...)
	}
	refused := slices.ContainsFunc(out, func(s string) bool { return strings.HasPrefix(s, string(diag.CodePolicyDenied)) })
	if a.Allowed == refused {
		t.Errorf("allowed is %v with %q", a.Allowed, out)
	}
	return out
}
