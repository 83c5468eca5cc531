package admit

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/webhook/internal/drift"
	"meshc.dev/meshc/webhook/internal/inject"
	"meshc.dev/meshc/webhook/internal/review"
)

// Mutate gives what a pod that asked for a sidecar gets, or why it cannot have one.
func (w *World) Mutate(q review.Review) ([]inject.Operation, diag.List) {
	if q.Kind != "Pod" || q.Operation != review.Create || q.SubResource != "" || !w.injects || labels(q.New)[inject.Label] == inject.Disabled {
		return nil, nil
	}
	if account, gateway := w.gateway(q); gateway || w.programs[account] {
		return nil, nil
	}
	patch, err := inject.Patch(q.New, w.injection)
	if err != nil {
		return nil, diag.List{sidecar(q, err)}
	}
	return patch, nil
}

func sidecar(q review.Review, err error) diag.Diagnostic {
	return diag.New(diag.CodeSidecar, diag.Pos{}, "pod %q of namespace %q: %v", named(q), q.Namespace, err).
		WithFix("correct the pod; without a sidecar it has no identity in the mesh")
}

// named is the object's name, or what the server makes one from.
func named(q review.Review) string {
	if q.Name != "" {
		return q.Name
	}
	prefix, _ := metadata(q.New)["generateName"].(string)
	return prefix + "…"
}

// Validate says what the approved release has against it.
func (w *World) Validate(q review.Review) diag.List {
	switch {
	case q.Resource == "pods":
		return w.pod(q)
	case q.SubResource == "scale":
		return w.scale(q)
	case q.Resource == "configmaps" && q.Name == release.RootsConfigMap:
		return w.roots(q)
	case q.Operation == review.Delete:
		return w.deletion(q)
	}
	return w.object(q)
}

// key names the object of a review by the request's path, not by what the object says
// of itself.
func key(q review.Review) drift.Key {
	k := drift.Key{Group: q.Group, Kind: q.Kind, Namespace: q.Namespace, Name: q.Name}
	if q.Kind == "Namespace" {
		k.Namespace = "" // an API server gives a namespace's own name here
	}
	return k
}

func (w *World) object(q review.Review) diag.List {
	k := key(q)
	want := w.desired.Object(k)
	if want == nil {
		if !drift.Managed(q.New) && !drift.Managed(q.Old) || slices.Contains(derived(), q.Resource) ||
			q.Operation == review.Update && drift.Unchanged(k.Kind, q.New, q.Old) {
			return nil
		}
		d := diag.New(diag.CodeUnapproved, diag.Pos{}, "%s is said to be kept by meshc, but no approved release has it", k)
		return diag.List{d.WithFix("remove the label %s, or %s", drift.ManagedLabel, w.way())}
	}
	ds := drift.Compare(k.Kind, want, q.New, w.left(k)...)
	if q.Operation == review.Update {
		ds = drift.Brought(k.Kind, want, q.New, q.Old, w.left(k)...)
	}
	if len(ds) > 0 {
		return diag.List{w.about(diag.CodeDrift, k, "is not what the approved release says: %s", several(ds))}
	}
	return w.replicas(k, replicas(q.New), replicas(q.Old))
}

// derived are the resources that controllers make, with the labels of what they make
// them from: those of a Service are on its slices.
func derived() []string {
	return []string{"controllerrevisions", "endpoints", "endpointslices", "jobs", "replicasets"}
}

// maxDifferences bounds a verdict's text.
const maxDifferences = 3

func several(ds []drift.Difference) string {
	texts := make([]string, 0, maxDifferences+1)
	for _, d := range ds[:min(len(ds), maxDifferences)] {
		texts = append(texts, d.String())
	}
	if len(ds) > maxDifferences {
		texts = append(texts, "and more")
	}
	return strings.Join(texts, "; ")
}

// left are the fields of an object that something else of the release keeps.
func (w *World) left(k drift.Key) []string {
	if _, scaled := w.desired.Autoscaled(k); scaled && k.Kind == "Deployment" {
		return []string{"spec.replicas"}
	}
	return nil
}

func replicas(o drift.Object) any {
	spec, _ := o["spec"].(drift.Object)
	return spec["replicas"]
}

// replicas holds a number of replicas within what its autoscaler may choose.
func (w *World) replicas(k drift.Key, asked, had any) diag.List {
	s, scaled := w.desired.Autoscaled(k)
	if !scaled || asked == nil || s.Takes(asked, had) {
		return nil
	}
	return diag.List{w.about(diag.CodeDrift, k, "has %d to %d replicas in the approved release, as its autoscaler chooses, not %v", s.Min, s.Max, asked)}
}

// scaled is the number of a Scale, which leaves 0 out (autoscaling/v1 ScaleSpec).
func scaled(o drift.Object) any {
	if n := replicas(o); n != nil || o == nil {
		return n
	}
	return int64(0)
}

// scale is a request for another number of replicas.
func (w *World) scale(q review.Review) diag.List {
	k := drift.Key{Group: "apps", Kind: "Deployment", Namespace: q.Namespace, Name: q.Name}
	want := w.desired.Object(k)
	if want == nil {
		return nil
	}
	asked, had := scaled(q.New), scaled(q.Old)
	if _, by := w.desired.Autoscaled(k); by {
		return w.replicas(k, asked, had)
	}
	said := replicas(want)
	if said == nil {
		said = int64(1)
	}
	if asked != said {
		return diag.List{w.about(diag.CodeDrift, k, "has %v replicas in the approved release, not %v", said, asked)}
	}
	return nil
}

// deletion keeps what the release has, or names, where it is.
//
// A namespace may be on its way out already, because nobody was asked when that began. What
// the release has in it stays all the same, for it serves, and the namespace's status says
// why.
func (w *World) deletion(q review.Review) diag.List {
	k := key(q)
	var d diag.Diagnostic
	by, needed := w.desired.NamedBy(k)
	switch {
	case w.desired.Object(k) != nil:
		d = w.about(diag.CodeStillNeeded, k, "is part of the approved release and cannot be deleted")
	case k.Kind == "Namespace" && w.desired.Lives(k.Name):
		d = diag.New(diag.CodeStillNeeded, diag.Pos{}, "namespace %q holds objects of the approved release and cannot be deleted", k.Name)
	case needed:
		d = diag.New(diag.CodeStillNeeded, w.provenance[w.desired.Path(by)], "%s is named by %s of the approved release and cannot be deleted", k, by)
	default:
		return nil
	}
	return diag.List{d.WithFix("take it out of the intent and have that approved, for which a namespace that is being deleted waits too; what holds now is commit %.12s", w.commit)}
}

// administrators may do anything in a cluster anyway.
const administrators = "system:masters"

// roots guards what pods trust: who writes it decides to whom they give their tokens.
func (w *World) roots(q review.Review) diag.List {
	by := w.servers()
	if slices.Contains(q.Groups, by) || slices.Contains(q.Groups, administrators) {
		return nil
	}
	return diag.List{diag.New(diag.CodeRoots, diag.Pos{}, "ConfigMap %q of namespace %q says which server pods trust, and is written by that server alone", q.Name, q.Namespace).
		WithFix("leave it to meshc serve, which puts it back by itself (its accounts are %s)", by)}
}

// servers is the group of the accounts beside the server, by the name that the release
// gives it: "meshc.meshc-system.svc:18000" lies in meshc-system.
func (w *World) servers() string {
	host, _, _ := strings.Cut(w.injection.Server, ":")
	if parts := strings.Split(host, "."); len(parts) > 1 && (len(parts) == 2 || parts[2] == "svc") {
		return "system:serviceaccounts:" + parts[1]
	}
	return administrators
}

// pod guards the sidecar: of a new pod it is the release's, and later it stays.
func (w *World) pod(q review.Review) diag.List {
	if !w.injects || q.Kind != "Pod" || q.New == nil || q.SubResource != "" && q.SubResource != "ephemeralcontainers" {
		return nil
	}
	if q.Operation == review.Create {
		return w.newPod(q)
	}
	if _, gateway := w.gateway(q); gateway {
		return livingGateway(q)
	}
	has, had := inject.Parts(q.New), inject.Parts(q.Old)
	if !reflect.DeepEqual(has, had) {
		return diag.List{diag.New(diag.CodeSidecar, diag.Pos{}, "the sidecar of pod %q of namespace %q is neither added to a living pod nor changed there", q.Name, q.Namespace).
			WithFix("delete the pod: its successor gets the sidecar of the approved release")}
	}
	if len(has) == 0 {
		return nil
	}
	if err := inject.Possible(q.New); err != nil {
		return diag.List{sidecar(q, err)}
	}
	return nil
}

func (w *World) newPod(q review.Review) diag.List {
	account, gateway := w.gateway(q)
	switch {
	case gateway:
		return w.newGateway(q, account)
	case w.programs[account]:
		if inject.Has(q.New) {
			return diag.List{sidecar(q, fmt.Errorf("it runs as %q, whose workloads are gRPC programs without a proxy, and has one that would get nothing", account)).
				WithFix("take the sidecar out, or `proxyless` out of the intent")}
		}
	case inject.Has(q.New):
		if err := inject.Check(q.New, w.injection); err != nil {
			return diag.List{sidecar(q, err)}
		}
	case w.wants(q.Namespace):
		d := diag.New(diag.CodeSidecar, diag.Pos{}, "pod %q of namespace %q has no sidecar, and the approved release wants one in each pod there", named(q), q.Namespace)
		return diag.List{d.WithFix("remove the label %s: %s from the pod; only pods that run as a gateway's account, or as one whose workloads are `proxyless`, have none", inject.Label, inject.Disabled)}
	}
	return nil
}
