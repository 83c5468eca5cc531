package flux

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/kubetest/flux"
)

// From a signed commit to objects in a cluster, and back: each subtest goes on from where
// the one before it ended, as a repository does.
func TestFluxAppliesWhatGitApproved(t *testing.T) {
	r := start(t)
	for _, step := range []struct {
		name string
		run  func(*rig)
	}{
		{"a signed release is applied and waited for", signedRelease},
		{"looking again changes nothing", again},
		{"Argo CD's way to apply is let through as well", asArgoCD},
		{"a hand edit is refused", handEdit},
		{"an unsigned commit is refused by Flux and by meshc", unsigned},
		{"what only CI has signed is stopped at the cluster", onlyCI},
		{"what policy forbids is stopped at the cluster", forbidden},
		{"what a release no longer has is pruned, once it is approved", pruned},
		{"a signed revert brings it back", reverted},
		{"the same from a registry", fromRegistry},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			r.t = t
			step.run(r)
		}) {
			break
		}
		r.t = t
	}
}

// What stands in the documentation is what was tried.
func TestTheDocumentationShowsTheExamples(t *testing.T) {
	for doc, files := range map[string][]string{"flux.md": {"flux/mesh.yaml", "flux/apps.yaml", "flux/artifact.yaml"}, "argocd.md": {"argocd/mesh.yaml", "argocd/apps.yaml", "argocd/argocd-cm.yaml"}} {
		text, err := os.ReadFile(filepath.Join(root, "docs", doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			example, err := os.ReadFile(filepath.Join(root, "examples", file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "```yaml\n"+string(example)+"```\n") {
				t.Errorf("docs/%s does not show examples/%s as it is", doc, file)
			}
		}
	}
}

func signedRelease(r *rig) {
	head := r.git(rendered, "rev-parse", "HEAD")
	s := r.becomes(flux.GitRepository, "mesh", "is verified", func(s flux.State) bool { return s.Has(head) })
	if c := s.Condition("SourceVerified"); c.Status != "True" {
		r.t.Errorf("verified: %+v", c)
	}
	// Everything is applied, and Flux waits for the gateway's pods.
	r.until("the gateway has pods", func() error { return r.gateway(false) })
	s, err := r.flux.State(r.t.Context(), flux.Kustomization, "mesh")
	if err != nil || s.Condition("Ready").Status == "True" {
		r.t.Errorf("ready without a gateway: %+v, %v", s, err)
	}
	r.until("the gateway's pods are ready", func() error { return r.gateway(true) })
	r.applied(head)
	r.asReleased()
	r.serves("server", r.intent())
}

// gateway looks for the two pods of the gateway, and says in a kubelet's place that they
// are ready.
func (r *rig) gateway(ready bool) error {
	pods := r.Client.CoreV1().Pods("shop")
	list, err := pods.List(r.t.Context(), metav1.ListOptions{LabelSelector: "app=edge"})
	if err != nil || len(list.Items) != 2 {
		return fmt.Errorf("%d pods: %w", len(list.Items), errors.Join(err))
	}
	if !ready {
		return nil
	}
	for _, p := range list.Items {
		p.Status.Phase = core.PodRunning
		p.Status.Conditions = []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if _, err := pods.UpdateStatus(r.t.Context(), &p, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// objects are the files of the release, as objects.
func (r *rig) objects() []*unstructured.Unstructured {
	r.t.Helper()
	var out []*unstructured.Unstructured
	err := fs.WalkDir(os.DirFS(filepath.Join(r.dir, rendered)), "kubernetes", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" || d.Name() == "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(filepath.Join(r.dir, rendered, path))
		if err != nil {
			return err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			return err
		}
		out = append(out, o)
		return nil
	})
	if err != nil || len(out) < 10 {
		r.t.Fatalf("read %d objects, %v", len(out), err)
	}
	return out
}

func resource(o *unstructured.Unstructured) schema.GroupVersionResource {
	kind := o.GroupVersionKind()
	plural := strings.ToLower(kind.Kind) + "s"
	if strings.HasSuffix(plural, "ys") {
		plural = strings.TrimSuffix(plural, "ys") + "ies"
	}
	return kind.GroupVersion().WithResource(plural)
}

// asReleased holds every object in the cluster against the release, field by field, and
// returns their versions.
func (r *rig) asReleased() map[string]string {
	r.t.Helper()
	versions := map[string]string{}
	for _, want := range r.objects() {
		id := want.GetKind() + " " + want.GetNamespace() + "/" + want.GetName()
		have, err := r.Dynamic.Resource(resource(want)).Namespace(want.GetNamespace()).Get(r.t.Context(), want.GetName(), metav1.GetOptions{})
		if err != nil {
			r.t.Errorf("%s: %v", id, err)
			continue
		}
		if at := missing(want.Object, have.Object); at != "" {
			r.t.Errorf("%s is not as released at %s", id, at)
		}
		if have.GetLabels()["kustomize.toolkit.fluxcd.io/name"] != "mesh" {
			r.t.Errorf("%s was not applied by Flux: %v", id, have.GetLabels())
		}
		versions[id] = have.GetResourceVersion()
	}
	return versions
}

// missing returns where have lacks something of want, "" for nowhere.
func missing(want, have any) string {
	switch want := want.(type) {
	case map[string]any:
		have, _ := have.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if at := missing(want[k], have[k]); at != "" {
				return "." + k + at
			}
		}
	case []any:
		have, _ := have.([]any)
		if len(have) != len(want) {
			return fmt.Sprintf(": %d elements instead of %d", len(have), len(want))
		}
		for i := range want {
			if at := missing(want[i], have[i]); at != "" {
				return fmt.Sprintf("[%d]%s", i, at)
			}
		}
	default:
		if fmt.Sprint(want) != fmt.Sprint(have) {
			return fmt.Sprintf(": %v instead of %v", have, want)
		}
	}
	return ""
}

// again: Flux tries every object on the API server each time, and the guard is asked.
func again(r *rig) {
	before := r.asReleased()
	was := r.handled()
	if err := r.flux.Reconcile(r.t.Context(), flux.Kustomization, "mesh"); err != nil {
		r.t.Fatal(err)
	}
	head := r.git(rendered, "rev-parse", "HEAD")
	took := r.until("Flux has looked", func() error {
		if r.handled() == was {
			return errors.New("not yet")
		}
		return nil
	})
	r.t.Logf("%d objects after %v", len(before), took.Round(time.Millisecond))
	r.applied(head)
	if after := r.asReleased(); !maps.Equal(after, before) {
		r.t.Errorf("something was written:\n%v\n%v", before, after)
	}
}

// handled is the last request to look at the mesh that Flux has done.
func (r *rig) handled() string {
	o, err := r.Dynamic.Resource(schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}).
		Namespace(flux.Namespace).Get(r.t.Context(), "mesh", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	at, _, _ := unstructured.NestedString(o.Object, "status", "lastHandledReconcileAt")
	return at
}

// asArgoCD sends what Argo CD sends, to see what would change and to sync.
func asArgoCD(r *rig) {
	force := true
	for _, o := range r.objects() {
		id := o.GroupVersionKind().Group + "/" + o.GetKind() + ":" + o.GetNamespace() + "/" + o.GetName()
		annotations := o.GetAnnotations()
		annotations["argocd.argoproj.io/tracking-id"] = "mesh:" + id
		o.SetAnnotations(annotations)
		body, err := o.MarshalJSON()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, dry := range [][]string{{metav1.DryRunAll}, nil} {
			if _, err := r.Dynamic.Resource(resource(o)).Namespace(o.GetNamespace()).Patch(r.t.Context(), o.GetName(), types.ApplyPatchType, body,
				metav1.PatchOptions{FieldManager: "argocd-controller", Force: &force, DryRun: dry}); err != nil {
				r.t.Errorf("%s, dry run %v: %v", id, dry, err)
			}
		}
	}
	r.asReleased()
	// By its other way to track what it applies it would change what is released.
	_, err := r.Client.CoreV1().Services("shop").Patch(r.t.Context(), "cart", types.MergePatchType, []byte(`{"metadata":{"labels":{"app.kubernetes.io/instance":"mesh"}}}`), metav1.PatchOptions{})
	says(r.t, fmt.Sprint(err), "MESH0701", "app.kubernetes.io/instance")
}

func handEdit(r *rig) {
	_, err := r.Client.CoreV1().Services("shop").Patch(r.t.Context(), "cart", types.MergePatchType, []byte(`{"spec":{"selector":{"app":"mallory"}}}`), metav1.PatchOptions{})
	says(r.t, fmt.Sprint(err), "MESH0701", "shop/shop.cue:")
	says(r.t, fmt.Sprint(r.Client.CoreV1().Services("shop").Delete(r.t.Context(), "cart", metav1.DeleteOptions{})), "MESH0703")
	r.asReleased()
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func unsigned(r *rig) {
	before := r.git(rendered, "rev-parse", "HEAD")
	r.edit("kubernetes/shop/service-cart.yaml", "app: cart\n  type", "app: mallory\n  type")
	for _, sign := range []string{"--no-gpg-sign", "-S"} {
		if sign == "-S" { // by a key that Flux does not know
			r.run(r.dir, 0, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "mallory@shop.example", "ed25519", "sign", "0")
			sign = "-Smallory@shop.example"
		}
		bad := r.publish(rendered, "cart: mine", sign)
		s := r.becomes(flux.GitRepository, "mesh", "refuses "+bad[:12], func(s flux.State) bool {
			return strings.Contains(s.Condition("SourceVerified").Message, bad)
		})
		if c := s.Condition("SourceVerified"); c.Status != "False" || c.Reason != "InvalidCommitSignature" {
			r.t.Errorf("%s: %+v", sign, c)
		}
	}
	r.git(rendered, "reset", "--quiet", "--hard", before)
	r.git(rendered, "push", "--quiet", "--force", "origin", "HEAD")
	r.applied(before)
	r.asReleased()

	// The same in the intent is meshc's to refuse.
	if err := r.repo.Edit("shop/shop.cue", `grant: web: from: ["web"]`, `grant: web: from: ["web", "wishes"]`); err != nil {
		r.t.Fatal(err)
	}
	bad := r.intend(people.Nobody, "cart: let wishes in")
	r.until("the webhook refuses "+bad[:12], func() error {
		if log := r.log("webhook"); !strings.Contains(log, "commit refused") || !strings.Contains(log, bad) {
			return errors.New(log)
		}
		return nil
	})
	says(r.t, r.run(r.dir, 4, r.meshc, "verify", "--repo", "mesh", "--trust", "trust.yaml"), "MESH0511", "not signed")
	if _, err := r.repo.Run(r.t.Context(), "reset", "--quiet", "--hard", "HEAD~1"); err != nil {
		r.t.Fatal(err)
	}
	r.push("--force")
}

// edit changes the one place where a file of the rendered tree says old.
func (r *rig) edit(file, old, fresh string) {
	r.t.Helper()
	path := filepath.Join(r.dir, rendered, file)
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), old) != 1 {
		r.t.Fatalf("editing %s, %v:\n%s", file, err, text)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, fresh, 1)), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// onlyCI: whoever has CI's key gets past Flux, and no further.
func onlyCI(r *rig) {
	before := r.git(rendered, "rev-parse", "HEAD")
	r.edit("kubernetes/shop/service-cart.yaml", "app: cart\n  type", "app: mallory\n  type")
	bad := r.publish(rendered, "cart: mine", "-S")
	s := r.becomes(flux.Kustomization, "mesh", "is stopped", func(s flux.State) bool {
		return strings.HasSuffix(s.Tried, bad) && s.Condition("Ready").Status == "False"
	})
	c := s.Condition("Ready")
	r.t.Log(c.Message)
	says(r.t, c.Message, "Service/shop/cart", "MESH0701", "spec.selector", "shop/shop.cue:", "fix:")
	if c.Reason != "ReconciliationFailed" || !strings.HasSuffix(s.Revision, before) {
		r.t.Errorf("%+v", s)
	}
	r.git(rendered, "reset", "--quiet", "--hard", before)
	r.git(rendered, "push", "--quiet", "--force", "origin", "HEAD")
	r.applied(before)
	r.asReleased()
}

const sniffer = `apiVersion: v1
kind: Pod
metadata: {name: sniffer, namespace: shop}
spec:
  serviceAccountName: cart
  containers:
  - {name: app, image: registry.example/sniffer, securityContext: {capabilities: {add: [NET_ADMIN]}}}
`

// forbidden: the teams' own objects are nobody's release; policies hold for them.
func forbidden(r *rig) {
	file := filepath.Join(r.dir, apps, "sniffer.yaml")
	if err := os.WriteFile(file, []byte(sniffer), 0o600); err != nil {
		r.t.Fatal(err)
	}
	bad := r.publish(apps, "a sniffer", "--no-gpg-sign")
	s := r.becomes(flux.Kustomization, "apps", "is stopped", func(s flux.State) bool {
		return strings.HasSuffix(s.Tried, bad) && s.Condition("Ready").Status == "False"
	})
	r.t.Log(s.Condition("Ready").Message)
	says(r.t, s.Condition("Ready").Message, "Pod/shop/sniffer", "MESH0401", "[pod-net-admin]", "fix:")

	harmless := strings.Replace(sniffer, ", securityContext: {capabilities: {add: [NET_ADMIN]}}", "", 1)
	if err := os.WriteFile(file, []byte(harmless), 0o600); err != nil {
		r.t.Fatal(err)
	}
	good := r.publish(apps, "no sniffer", "--no-gpg-sign")
	// Nobody makes the pod ready: it has to be there.
	r.becomes(flux.Kustomization, "apps", "goes on", func(s flux.State) bool { return strings.HasSuffix(s.Tried, good) })
	r.until("the pod has its sidecar", func() error {
		p, err := r.Client.CoreV1().Pods("shop").Get(r.t.Context(), "sniffer", metav1.GetOptions{})
		if err == nil && len(p.Spec.InitContainers) != 2 {
			err = fmt.Errorf("init containers %v", p.Spec.InitContainers)
		}
		return err
	})
}

// pruned: Flux has the new tree before meshc has the commit that approves it.
func pruned(r *rig) {
	if err := os.Remove(filepath.Join(r.repo.Work, "shop", "wishes.cue")); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.repo.Commit(r.t.Context(), people.Carol, true, "shop: no wishes"); err != nil {
		r.t.Fatal(err)
	}
	head := r.render()
	s := r.becomes(flux.Kustomization, "mesh", "may not yet", func(s flux.State) bool {
		return strings.HasSuffix(s.Tried, head) && s.Condition("Ready").Status == "False"
	})
	r.t.Log(s.Condition("Ready").Message)
	says(r.t, s.Condition("Ready").Message, "MESH070")
	services := r.Client.CoreV1().Services("shop")
	if _, err := services.Get(r.t.Context(), "wishes", metav1.GetOptions{}); err != nil {
		r.t.Errorf("deleted before it was approved: %v", err)
	}
	r.push()
	r.applied(head)
	r.asReleased()
	r.serves("server", r.intent())
	for _, resource := range []string{"services", "serviceaccounts"} {
		list, err := r.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace("shop").List(r.t.Context(), metav1.ListOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		var names []string
		for _, o := range list.Items {
			names = append(names, o.GetName())
		}
		if slices.Contains(names, "wishes") || !slices.Contains(names, "cart") {
			r.t.Errorf("there are the %s %v", resource, names)
		}
	}
}

func reverted(r *rig) {
	if _, err := r.repo.Run(r.t.Context(), append(r.repo.As(people.Carol), "revert", "--no-edit", "-S", "HEAD")...); err != nil {
		r.t.Fatal(err)
	}
	r.push()
	r.applied(r.render())
	r.asReleased()
	r.serves("server", r.intent())
	if _, err := r.Client.CoreV1().Services("shop").Get(r.t.Context(), "wishes", metav1.GetOptions{}); err != nil {
		r.t.Error(err)
	}
}

// intent is the head of main.
func (r *rig) intent() string {
	r.t.Helper()
	hash, err := r.repo.Run(r.t.Context(), "rev-parse", "HEAD")
	if err != nil {
		r.t.Fatal(err)
	}
	return hash
}
