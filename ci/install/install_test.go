package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/kubetest/node"
	"meshc.dev/meshc/internal/programs"
	"meshc.dev/meshc/webhook"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == node.Word {
		os.Exit(node.Main())
	}
	os.Exit(m.Run())
}

// Images of the node: nobody pulls anything.
var (
	image      = "registry.example/meshc@sha256:" + strings.Repeat("1", 64)
	proxyImage = "registry.example/meshc-proxy@sha256:" + strings.Repeat("2", 64)
)

var intent = map[string]string{
	"mesh.cue": `package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {owner: "carol", trustDomain: "shop.example", environment: prod: {}}
mesh: targets: kubernetes: {admissionPolicies: true, injection: {image: "` + proxyImage + `", server: "meshc.meshc-system.svc:18000"}}
`,
	"shop/shop.cue": `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: web: port: http: number: 9080
mesh: service: cart: port: http: number: 9080
`,
	"depot/depot.cue": `package depot

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "depot"
mesh: service: stock: port: http: number: 9080
`,
}

// terms are two exemptions, one that ends while the test runs and one in days, and a target
// whose kinds the cluster does not have.
const terms = `package mesh

mesh: targets: "gateway-api": {}
mesh: exemption: over: {rules: ["drift"], object: {kind: "Service", namespace: "shop", name: "web"}, owner: "on-call", reason: "incident 4711", until: %q}
mesh: exemption: soon: {rules: ["drift"], object: {kind: "Service", namespace: "shop", name: "cart"}, owner: "on-call", reason: "incident 4712", until: %q}
`

// used is a pod's token that was used long ago.
const used = `
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: meshc-spent-old, namespace: meshc-system, labels: {meshc.dev/spent: token}}
spec: {holderIdentity: nobody, acquireTime: "2026-01-01T00:00:00.000000Z", leaseDurationSeconds: 1}
`

// squatted is a namespace of the mesh in which somebody was faster than the servers, and
// one with a report that nobody writes any more.
const squatted = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: meshc-roots, namespace: shop}
data: {roots.pem: none}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: meshc-audit, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: meshc-audit, namespace: default, labels: {app.kubernetes.io/part-of: meshc, app.kubernetes.io/component: audit}}
`

// application is a pod of the mesh that listens and does no more.
const application = `
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec:
  serviceAccountName: cart
  containers:
  - {name: app, image: app, command: [sleep, "1000000"], securityContext: {runAsUser: 1000}}
`

// forgotten are an admission policy and its binding that a webhook wrote for a release
// that nobody has any more.
const forgotten = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: meshc-hosts, labels: {app.kubernetes.io/managed-by: meshc}}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [podtemplates]}]}
  validations: [{expression: "true"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: meshc-hosts, labels: {app.kubernetes.io/managed-by: meshc}}
spec: {policyName: meshc-hosts, validationActions: [Deny]}
`

// definitions are those of the kinds that a cluster need not have, as an audit meets them.
func definitions() []string {
	var out []string
	for i, k := range webhook.Audited() {
		if k.Optional {
			out = append(out, fmt.Sprintf(`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: %[1]s.%[2]s, annotations: {api-approved.kubernetes.io: "unapproved, for a test"}},
				spec: {group: %[2]s, scope: Namespaced, names: {plural: %[1]s, kind: Kind%[3]d}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}`, k.Resource, k.Group, i))
		}
	}
	return out
}

// rig is a machine with a cluster, and a repository that its operator signs.
type rig struct {
	t       *testing.T
	dir     string
	meshc   string
	cluster *kubetest.Cluster
	node    *node.Node
	repo    *people.Repo
	host    *host
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	for d := r.dir; d != os.TempDir(); d = filepath.Dir(d) { // pods have users of their own
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(r.dir, "bin")
	if err := programs.Into(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	r.meshc = filepath.Join(bin, "meshc")
	envoy, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	// Newer clients watch without a list where the API server can; the right to list is for
	// the others.
	r.cluster = kubetest.ForTest(t, kubetest.Options{Audit: true, Flags: []string{"--feature-gates=WatchList=false"}})
	r.node = node.ForTest(t, r.cluster, node.Options{Images: map[string]node.Image{
		image:      {Files: map[string]string{"/usr/local/bin/meshc": r.meshc}, Entrypoint: []string{"/usr/local/bin/meshc"}},
		proxyImage: {Files: map[string]string{"/usr/local/bin/meshc-agent": filepath.Join(bin, "meshc-agent"), "/usr/local/bin/envoy": envoy.Path}},
		"app":      {},
	}})
	r.commitFirst()
	r.host = newHost(t, r.dir, r.node.Machine[0].String())
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// commitFirst makes the repository and the trust policy.
func (r *rig) commitFirst() {
	r.t.Helper()
	signer, err := people.FindSigner(r.meshc, r.dir)
	r.must(err)
	var public map[string]string
	r.repo, public, err = people.New(r.t.Context(), "git", signer, r.dir)
	r.must(err)
	for name, text := range intent {
		r.write(name, text)
	}
	r.write("terms.cue", fmt.Sprintf(terms, time.Now().Add(20*time.Second).UTC().Format(time.RFC3339), time.Now().Add(3*24*time.Hour).UTC().Format(time.RFC3339)))
	head := r.push("first")
	r.must(os.WriteFile(filepath.Join(r.dir, "trust.yaml"), []byte(people.TrustPolicy(head, "prod", public)), 0o600))
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.repo.Work, name)
	r.must(os.MkdirAll(filepath.Dir(path), 0o755))
	r.must(os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) push(message string) string {
	r.t.Helper()
	head, err := r.repo.Commit(r.t.Context(), people.Carol, true, message)
	r.must(err)
	_, err = r.repo.Run(r.t.Context(), "push", "--quiet", "origin", "main")
	r.must(err)
	return head
}

// run runs meshc and returns what it printed and its exit code.
func (r *rig) run(args ...string) (out string, code int) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), r.meshc, args...)
	cmd.Dir, cmd.Env = r.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "KUBECONFIG=" + r.cluster.Kubeconfig}
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return both.String(), cmd.ProcessState.ExitCode()
}

// expect runs meshc and wants an exit code and words.
func (r *rig) expect(code int, words []string, args ...string) string {
	r.t.Helper()
	out, got := r.run(args...)
	if got != code {
		r.t.Fatalf("meshc %s: exit code %d, not %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			r.t.Fatalf("meshc %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// install is the command that installs what follows the private repository.
func (r *rig) install(more ...string) []string {
	return r.following("https://"+r.host.address+"/origin.git", append([]string{"--repo-secret", "mesh-read"}, more...)...)
}

func (r *rig) following(repo string, more ...string) []string {
	return append([]string{"install", "--repo", repo, "--image", image, "--trust-domain", "shop.example", "--poll", "1s", "--audit", "10s"}, more...)
}

func (r *rig) until(what string, ok func(context.Context) error) {
	r.t.Helper()
	began := time.Now()
	defer func() { r.t.Logf("%s, after %v", what, time.Since(began).Round(time.Millisecond)) }()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s: %v", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// applyRelease applies what Git approved, as an administrator or a GitOps tool does.
func (r *rig) applyRelease() {
	r.t.Helper()
	out := filepath.Join(r.dir, "release")
	r.expect(0, nil, "compile", "mesh", "--out", out)
	r.until("the release is taken", func(ctx context.Context) error {
		_, err := r.cluster.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-k", filepath.Join(out, "kubernetes"))
		return err
	})
}

// An installation as a whole: applied, ready, used in all that its accounts are for. What
// they may do is then what they did.
func TestAnInstallation(t *testing.T) {
	r := newRig(t)
	r.must(r.cluster.Apply(t.Context(), append(definitions(), squatted)...))
	left := filepath.Join(r.dir, "forgotten.yaml")
	r.must(os.WriteFile(left, []byte(forgotten), 0o600))
	_, err := r.cluster.Kubectl(t.Context(), "create", "--field-manager=meshc-webhook", "-f", left)
	r.must(err)
	r.expect(1, []string{"MESH0650: there is no Secret meshc-system/mesh-read", "kubectl create namespace"}, r.install("--apply", "--overlay", "ha")...)
	if _, err := r.cluster.Client.CoreV1().Namespaces().Get(t.Context(), install.DefaultNamespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("an installation that is refused made a namespace: %v", err)
	}
	r.must(r.cluster.Apply(t.Context(), r.host.secret()))
	r.expect(0, []string{"changed   Namespace meshc-system", "new       StatefulSet meshc-system/meshc-server", "meshc-server: ready", "meshc-webhook: ready"},
		r.install("--apply", "--overlay", "ha", "--timeout", "5m")...)
	r.expect(0, []string{"unchanged StatefulSet meshc-system/meshc-webhook", "unchanged PodDisruptionBudget"}, r.install("--apply", "--overlay", "ha", "--timeout", "5m")...)
	r.applyRelease()
	r.must(r.cluster.Apply(t.Context(), used))
	r.must(r.cluster.Apply(t.Context(), application))
	r.until("the pod has joined", func(ctx context.Context) error {
		p, err := r.cluster.Client.CoreV1().Pods("shop").Get(ctx, "cart", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if why := install.Trouble(*p); why != "" || len(p.Spec.InitContainers) != 2 {
			return fmt.Errorf("pod cart with %d init containers: %s", len(p.Spec.InitContainers), why)
		}
		return nil
	})
	t.Run("Audits", r.audits)
	r.expect(0, []string{"✓ the API server reaches the webhook", "✓ the server has an approved release, and follows its repository: commit", "✓ namespaces with sidecars know"}, "doctor")
	r.until("the doctor sees what ends and what is not there", func(context.Context) error {
		out, _ := r.run("doctor")
		for _, w := range []string{`the exemption "soon" of on-call ends on`, `the exemption "over" of on-call ended on`, "✓ the webhook judges by an approved release: commit",
			"objects of the target gateway-api cannot be applied here: the API server has no HTTPRoute in gateway.networking.k8s.io/v1", "Gateway API 1.1 or later"} {
			if !strings.Contains(out, w) {
				return fmt.Errorf("the doctor does not say %q:\n%s", w, out)
			}
		}
		return nil
	})
	t.Run("Repairs", r.repairs)
	t.Run("FromRegistry", r.fromRegistry)
	t.Run("FromFlux", r.fromFlux)
	t.Run("Rights", r.rights)
	t.Run("Files", r.files)
	t.Run("ToSingle", func(t *testing.T) {
		r.expect(0, []string{"spec.replicas: 2 → 1", "removed PodDisruptionBudget meshc-system/meshc-server", "removed Role flux-system/meshc-webhook, of an earlier"}, r.install("--apply", "--timeout", "5m")...)
		r.expect(0, []string{"✓ the server's replicas are ready: 1"}, "doctor")
	})
	if logs := r.node.Logs(1 << 20); strings.Contains(logs, canary) {
		t.Error("the logs tell the password of the repository")
	}
}

// files has a real API server take each overlay as kubectl gives it.
func (r *rig) files(t *testing.T) {
	r.expect(0, []string{"wrote deploy/overlays/ha"}, r.install("--out", "deploy")...)
	for _, o := range install.Overlays() {
		out, err := r.cluster.Kubectl(t.Context(), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", filepath.Join(r.dir, "deploy", "overlays", string(o)))
		if err != nil || strings.Count(out, "serverside-applied") < 15 {
			t.Errorf("%s: %v\n%s", o, err, out)
		}
	}
}

// audits has the webhook look at the cluster twice.
func (r *rig) audits(t *testing.T) {
	r.until("there are reports, and another turn", func(ctx context.Context) error {
		report, err := r.cluster.Client.CoreV1().ConfigMaps("shop").Get(ctx, webhook.ReportName, metav1.GetOptions{})
		if err != nil || report.Data["report.json"] == "" {
			return fmt.Errorf("the report: %v, %w", report.Data, err)
		}
		if _, err := r.cluster.Client.CoreV1().ConfigMaps("default").Get(ctx, webhook.ReportName, metav1.GetOptions{}); err == nil {
			return errors.New("the old report is still there")
		}
		turn, err := r.cluster.Client.CoordinationV1().Leases(install.DefaultNamespace).Get(ctx, webhook.TurnName, metav1.GetOptions{})
		if err == nil && !turn.Spec.RenewTime.After(turn.CreationTimestamp.Add(5*time.Second)) {
			err = errors.New("it is still the first turn")
		}
		return err
	})
}

// repairs has both servers put back what somebody changed.
func (r *rig) repairs(t *testing.T) {
	ctx := t.Context()
	hooks := r.cluster.Client.AdmissionregistrationV1()
	nothing := []byte(`{"webhooks":[]}`)
	_, err := hooks.ValidatingWebhookConfigurations().Patch(ctx, "meshc-guard", types.MergePatchType, nothing, metav1.PatchOptions{})
	r.must(err)
	_, err = hooks.MutatingWebhookConfigurations().Patch(ctx, "zz-meshc-inject", types.MergePatchType, nothing, metav1.PatchOptions{})
	r.must(err)
	rule := []byte(`{"spec":{"failurePolicy":"Ignore"}}`)
	_, err = hooks.ValidatingAdmissionPolicies().Patch(ctx, "meshc-pods", types.MergePatchType, rule, metav1.PatchOptions{})
	r.must(err)
	bound := []byte(`{"spec":{"validationActions":["Audit"]}}`)
	_, err = hooks.ValidatingAdmissionPolicyBindings().Patch(ctx, "meshc-pods", types.MergePatchType, bound, metav1.PatchOptions{})
	r.must(err)
	r.until("all is put back", func(ctx context.Context) error {
		if _, err := r.cluster.Client.CoordinationV1().Leases(install.DefaultNamespace).Get(ctx, "meshc-spent-old", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("a token that ended long ago is still remembered"), err)
		}
		guard, err := hooks.ValidatingWebhookConfigurations().Get(ctx, "meshc-guard", metav1.GetOptions{})
		if err != nil {
			return err
		}
		inject, err := hooks.MutatingWebhookConfigurations().Get(ctx, "zz-meshc-inject", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := r.policies(ctx); err != nil {
			return err
		}
		if len(guard.Webhooks) == 0 || len(inject.Webhooks) == 0 {
			return fmt.Errorf("%d and %d webhooks", len(guard.Webhooks), len(inject.Webhooks))
		}
		for _, ns := range []string{"shop", "depot"} { // one that had others, and one that came late
			roots, err := r.cluster.Client.CoreV1().ConfigMaps(ns).Get(ctx, "meshc-roots", metav1.GetOptions{})
			if err != nil || !strings.Contains(roots.Data["roots.pem"], "BEGIN CERTIFICATE") {
				return errors.Join(err, fmt.Errorf("roots in %s: %v", ns, roots.Data))
			}
		}
		return nil
	})
}

// policies says why the admission policies are not what the release says: one was changed,
// and one is of a release that nobody has any more.
func (r *rig) policies(ctx context.Context) error {
	api := r.cluster.Client.AdmissionregistrationV1()
	rule, err := api.ValidatingAdmissionPolicies().Get(ctx, "meshc-pods", metav1.GetOptions{})
	if err != nil {
		return err
	}
	bound, err := api.ValidatingAdmissionPolicyBindings().Get(ctx, "meshc-pods", metav1.GetOptions{})
	if err != nil {
		return err
	}
	_, old := api.ValidatingAdmissionPolicies().Get(ctx, "meshc-hosts", metav1.GetOptions{})
	_, unbound := api.ValidatingAdmissionPolicyBindings().Get(ctx, "meshc-hosts", metav1.GetOptions{})
	if *rule.Spec.FailurePolicy != "Fail" || bound.Spec.ValidationActions[0] != "Deny" || !apierrors.IsNotFound(old) || !apierrors.IsNotFound(unbound) {
		return fmt.Errorf("%s, %v, %w, %w", *rule.Spec.FailurePolicy, bound.Spec.ValidationActions, old, unbound)
	}
	return nil
}

// rights compares what the accounts asked for with what they may: a verb that was asked
// for and refused is missing, one that was never asked for is too much.
func (r *rig) rights(t *testing.T) {
	asked, err := r.cluster.Asked()
	r.must(err)
	used, all := map[string]bool{}, install.Rights(source)
	for _, a := range asked {
		account, ok := strings.CutPrefix(a.User, "system:serviceaccount:"+install.DefaultNamespace+":")
		if !ok || a.Resource == "" {
			continue
		}
		i := slices.IndexFunc(all, func(right install.Right) bool { return covers(right, account, a) })
		if i < 0 {
			t.Errorf("%s wants to %s %s.%s %q in %q, which no right covers (answer %d)", account, a.Verb, a.Resource, a.Group, a.Name, a.Namespace, a.Code)
			continue
		}
		if tried := strings.HasPrefix(a.Name, webhook.TriedName); a.Code == 401 || a.Code == 403 && !tried { // the guard's answer
			t.Errorf("%s may not %s %s.%s %q in %q, by a right that covers it", account, a.Verb, a.Resource, a.Group, a.Name, a.Namespace)
		}
		used[fmt.Sprint(i, a.Verb)] = true
	}
	for i, right := range all {
		for _, verb := range right.Verbs {
			if !used[fmt.Sprint(i, verb)] {
				t.Errorf("%s may %s %s.%s %v (%s), and never did", right.Account, verb, right.Resource, right.Group, right.Names, right.Why)
			}
		}
	}
}

// covers says that a right is the one for a request.
func covers(r install.Right, account string, a kubetest.Asked) bool {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	return r.Account == account && r.Group == a.Group && r.Resource == resource && slices.Contains(r.Verbs, a.Verb) &&
		(r.Names == nil || slices.Contains(r.Names, a.Name)) && (r.In == "" || a.Namespace == place(r.In))
}

// place is the namespace in which a right holds.
func place(in string) string {
	if in == install.Own {
		return install.DefaultNamespace
	}
	return in
}
