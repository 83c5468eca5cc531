package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
)

// Manager is who applies, to an API server.
const Manager = "meshc"

// Cluster is where the objects are applied.
type Cluster struct {
	api dynamic.Interface
	// metadata tells that an object is there without telling what is in it.
	metadata metadata.Interface
	// force takes fields that somebody else applied.
	force bool
}

// NewCluster makes a Cluster. force takes fields that others own.
func NewCluster(c *kubeapi.Cluster, force bool) (*Cluster, error) {
	api, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	names, err := metadata.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	return &Cluster{api, names, force}, nil
}

// resourceOf is where objects of a kind are, which is known of all that we write.
func resourceOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	gvk := o.GroupVersionKind()
	name := strings.ToLower(gvk.Kind) + "s"
	return gvk.GroupVersion().WithResource(name)
}

// At is where an object is in the cluster.
func (c *Cluster) at(o *unstructured.Unstructured) dynamic.ResourceInterface {
	r := c.api.Resource(resourceOf(o))
	if ns := o.GetNamespace(); ns != "" {
		return r.Namespace(ns)
	}
	return r
}

// Change is what becomes of one object.
type Change struct {
	Object *unstructured.Unstructured
	// New says that the cluster has none like it.
	New bool
	// Fields are those that change, "path: old → new"; none of a new object.
	Fields []string
}

// Same says that nothing changes.
func (c Change) Same() bool { return !c.New && len(c.Fields) == 0 }

// Name is "Kind namespace/name".
func (c Change) Name() string { return nameOf(c.Object) }

func nameOf(o *unstructured.Unstructured) string {
	name := o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return o.GetKind() + " " + name
}

// Plan has the API server say what would become of the objects, and changes nothing. An
// object that it does not take is an error, a list of CodeInstall. What lies in a
// namespace that is yet to be made is looked at in the namespace "default".
func (c *Cluster) Plan(ctx context.Context, objects []*unstructured.Unstructured) ([]Change, error) {
	absent := map[string]bool{}
	var out []Change
	var refused diag.List
	for _, o := range objects {
		was, err := c.at(o).Get(ctx, o.GetName(), metav1.GetOptions{})
		fresh := apierrors.IsNotFound(err)
		if err != nil && !fresh {
			if d, one := refusal(o, "get", err); one {
				refused = append(refused, d)
				continue
			}
			return nil, away(err)
		}
		if fresh && o.GetKind() == "Namespace" {
			absent[o.GetName()] = true
		}
		try := o
		if absent[o.GetNamespace()] {
			try = o.DeepCopy()
			try.SetNamespace(metav1.NamespaceDefault)
		}
		is, err := c.patch(ctx, try, true)
		if err != nil {
			if d, one := refusal(o, "patch", err); one {
				refused = append(refused, d)
				continue
			}
			return nil, away(err)
		}
		change := Change{Object: o, New: fresh}
		if !fresh {
			change.Fields = differences(was.Object, is.Object)
		}
		out = append(out, change)
	}
	return out, refused.Err()
}

// HasSecret demands that a Secret is there, which pods would wait for without an end. What
// is in it is not asked for. Problem: CodeInstall.
func (c *Cluster) HasSecret(ctx context.Context, namespace, name string) error {
	_, err := c.metadata.Resource(core.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil, apierrors.IsForbidden(err): // who may not see it may install all the same
		return nil
	case apierrors.IsNotFound(err):
		return diag.List{diag.New(diag.CodeInstall, diag.Pos{}, "there is no Secret %s/%s, and the pods would wait for it", namespace, name).
			WithFix("`kubectl create namespace %s`, and `kubectl -n %s create secret generic %s --from-file=…` with the files that `meshc serve --repo-credentials` takes", namespace, namespace, name)}.Err()
	}
	return away(err)
}

func (c *Cluster) patch(ctx context.Context, o *unstructured.Unstructured, dry bool) (*unstructured.Unstructured, error) {
	body, err := o.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("install: writing %s: %w", nameOf(o), err)
	}
	options := metav1.PatchOptions{FieldManager: Manager, Force: &c.force, FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	return c.at(o).Patch(ctx, o.GetName(), types.ApplyPatchType, body, options)
}

// Apply applies the objects in their order and tells each that changed. A failure says
// how far it came; applying again goes on.
func (c *Cluster) Apply(ctx context.Context, changes []Change, tell func(Change)) error {
	done := 0
	for _, change := range changes {
		if change.Same() {
			continue
		}
		if _, err := c.patch(ctx, change.Object, false); err != nil {
			d, one := refusal(change.Object, "patch", err)
			if !one {
				return fmt.Errorf("after %d objects were applied: %w", done, away(err))
			}
			d.Text = fmt.Sprintf("after %d objects were applied: %s", done, d.Text)
			return diag.List{d}.Err()
		}
		done++
		tell(change)
	}
	return nil
}

// refusal is an API server's verdict about one object; false for what is none.
func refusal(o *unstructured.Unstructured, verb string, err error) (diag.Diagnostic, bool) {
	name := nameOf(o)
	var status apierrors.APIStatus
	switch {
	case apierrors.IsUnauthorized(err), !errors.As(err, &status):
		return diag.Diagnostic{}, false
	case apierrors.HasStatusCause(err, core.NamespaceTerminatingCause):
		return diag.New(diag.CodeInstall, diag.Pos{}, "the API server does not take %s: its namespace is being deleted", name).
			WithFix("wait until it is gone (`kubectl wait --for=delete namespace/%s`), and apply again", o.GetNamespace()), true
	case apierrors.IsForbidden(err):
		return diag.New(diag.CodeInstall, diag.Pos{}, "you may not %s %s: %s", verb, name, short(err)).
			WithFix("take an account that administers the cluster, or print the objects (without --apply) and have somebody apply them who does"), true
	case apierrors.IsConflict(err):
		return diag.New(diag.CodeInstall, diag.Pos{}, "%s has fields that somebody else applied: %s", name, short(err)).
			WithFix("have whoever applies them leave them to meshc, or take them with --force-conflicts"), true
	case apierrors.IsNotFound(err) && o.GetNamespace() != "":
		return diag.New(diag.CodeInstall, diag.Pos{}, "the API server does not take %s: %s", name, short(err)).
			WithFix("make the namespace first, or check the one that --repo names"), true
	case apierrors.IsNotFound(err):
		return kubeapi.Explain(err, verb, resourceOf(o).Resource, resourceOf(o).Group), true
	case apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
		return diag.Diagnostic{}, false
	}
	return diag.New(diag.CodeInstall, diag.Pos{}, "the API server does not take %s: %s", name, short(err)).
		WithFix("mend what it names; nothing was changed by this object"), true
}

func short(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	const most = 400
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}

func away(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return diag.List{kubeapi.Explain(err, "apply", "objects", "")}.Err()
}

// differences are the fields in which an object differs, but for what an API server
// itself keeps.
func differences(was, is map[string]any) []string {
	var out []string
	diff(&out, "", kept(was), kept(is))
	slices.Sort(out)
	return out
}

// kept is an object without what is nobody's intent.
func kept(o map[string]any) map[string]any {
	out := maps.Clone(o)
	delete(out, "status")
	if meta, ok := out["metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		for _, f := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"} {
			delete(meta, f)
		}
		out["metadata"] = meta
	}
	return out
}

func diff(out *[]string, path string, was, is any) {
	a, one := was.(map[string]any)
	b, both := is.(map[string]any)
	if one && both {
		for _, k := range slices.Sorted(maps.Keys(union(a, b))) {
			diff(out, path+"."+k, a[k], b[k])
		}
		return
	}
	x, one := was.([]any)
	y, both := is.([]any)
	if one && both && len(x) == len(y) {
		for i := range x {
			diff(out, fmt.Sprintf("%s[%d]", path, i), x[i], y[i])
		}
		return
	}
	if before, after := text(was), text(is); before != after {
		*out = append(*out, fmt.Sprintf("%s: %s → %s", strings.TrimPrefix(path, "."), before, after))
	}
}

func union(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func text(v any) string {
	if v == nil {
		return "nothing"
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// Obsolete are the objects that the cluster has of this installation and that the overlay
// has not: those of the others, and rights for a source that is not followed any more.
func (c *Cluster) Obsolete(ctx context.Context, tree map[string][]byte, o Overlay) ([]*unstructured.Unstructured, error) {
	kept := map[string]bool{}
	objects, err := Render(tree, o)
	if err != nil {
		return nil, err
	}
	for _, one := range objects {
		kept[nameOf(one)] = true
	}
	var out []*unstructured.Unstructured
	for _, other := range Overlays() {
		objects, err := Render(tree, other)
		if err != nil {
			return nil, err
		}
		for _, one := range objects {
			if kept[nameOf(one)] {
				continue
			}
			kept[nameOf(one)] = true
			have, err := c.at(one).Get(ctx, one.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, away(err)
			}
			if ours(have) {
				out = append(out, have)
			}
		}
	}
	rights, err := c.formerRights(ctx, objects, kept)
	return append(out, rights...), err
}

// formerRights are Roles and RoleBindings of the installation in namespaces where it has
// none now. They are known by their names: those of two installations differ.
func (c *Cluster) formerRights(ctx context.Context, objects []*unstructured.Unstructured, kept map[string]bool) ([]*unstructured.Unstructured, error) {
	names := map[string]bool{}
	for _, o := range objects {
		if o.GetKind() == "Role" {
			names[o.GetName()] = true
		}
	}
	var out []*unstructured.Unstructured
	for _, resource := range []string{"rolebindings", "roles"} {
		list, err := c.api.Resource(rbac.SchemeGroupVersion.WithResource(resource)).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=meshc"})
		if err != nil {
			return nil, away(err)
		}
		for _, have := range list.Items {
			if names[have.GetName()] && !kept[nameOf(&have)] && ours(&have) {
				out = append(out, &have)
			}
		}
	}
	return out, nil
}

// ours says that we applied an object.
func ours(o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == Manager && f.Operation == metav1.ManagedFieldsOperationApply
	})
}

// Remove deletes an object, if it is still the one that was looked at.
func (c *Cluster) Remove(ctx context.Context, o *unstructured.Unstructured) error {
	uid := o.GetUID()
	err := c.at(o).Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	if d, one := refusal(o, "delete", err); one {
		return diag.List{d}.Err()
	}
	return away(err)
}
