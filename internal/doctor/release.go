package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/rendered/fluxsource"
	"meshc.dev/meshc/webhook"
)

// stays looks whether the installation's namespace is being deleted.
func (e *examination) stays(ctx context.Context) found {
	n, err := e.client.CoreV1().Namespaces().Get(ctx, e.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return well("") // the next check says more
	case err != nil:
		return refused(err, "get", "namespaces", "")
	case n.DeletionTimestamp != nil:
		return bad("the namespace "+e.Namespace+" is being deleted since "+n.DeletionTimestamp.UTC().Format(time.RFC3339)+why(*n),
			fmt.Sprintf("nothing new can be made in it: wait until it is gone (`kubectl wait --for=delete namespace/%s`), and install again", e.Namespace))
	}
	return well("")
}

// why says what a namespace's deletion waits for.
func why(n core.Namespace) string {
	var all []string
	for _, c := range n.Status.Conditions {
		if c.Status == core.ConditionTrue && (c.Type == core.NamespaceDeletionContentFailure || c.Type == core.NamespaceContentRemaining || c.Type == core.NamespaceFinalizersRemaining) {
			all = append(all, strings.TrimSuffix(c.Message, "."))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, "; ")
}

// leaving looks for namespaces of the mesh that are being deleted.
func (e *examination) leaving(ctx context.Context) found {
	list, err := e.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: "meshc.dev/inject=enabled"})
	if err != nil {
		return refused(err, "list", "namespaces", "")
	}
	var names []string
	for _, n := range list.Items {
		if n.DeletionTimestamp != nil {
			names = append(names, n.Name+why(n))
		}
	}
	if len(names) > 0 {
		return warn(some(names), "pods and roots cannot be made there any more: take the services out of the intent, or make the namespace again when it is gone")
	}
	return well("")
}

// source looks at what lies in the cluster of what the servers follow.
func (e *examination) source(ctx context.Context) found {
	if e.secret != "" {
		return e.credentials(ctx)
	}
	source, err := fluxsource.Parse(e.repository)
	if err != nil {
		return well("%s", e.repository) // nothing of it is in the cluster
	}
	at, namespace, name := source.Object()
	if f := e.defined(at.WithVersion("v1").GroupVersion(), "", "flux"); f.status != OK {
		return f
	}
	objects, err := dynamic.NewForConfig(e.rest)
	if err != nil {
		return failure(err)
	}
	o, err := objects.Resource(at.WithVersion("v1")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return bad(fmt.Sprintf("there is no %s %s/%s", strings.TrimSuffix(at.Resource, "ies")+"y", namespace, name), "create it (docs/flux.md), or install with another --repo")
	}
	if err != nil {
		return refused(err, "get", at.Resource, at.Group)
	}
	digest, _, _ := unstructured.NestedString(o.Object, "status", "artifact", "digest")
	if digest == "" {
		return bad("Flux has not fetched "+source.String()+" yet", "see what `flux get sources all -A` says of it")
	}
	return well("%s has %.19s", source, digest)
}

// secrets looks for what the Roles of gateways name, and not at what is in it.
func (e *examination) secrets(ctx context.Context) found {
	roles, err := e.client.RbacV1().Roles(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=meshc"})
	if err != nil {
		return refused(err, "list", "roles", "rbac.authorization.k8s.io")
	}
	names, err := metadata.NewForConfig(e.rest)
	if err != nil {
		return failure(err)
	}
	seen, missing := map[string]bool{}, []string{}
	for _, role := range roles.Items {
		for _, name := range shownBy(role) {
			at := role.Namespace + "/" + name
			if seen[at] {
				continue
			}
			seen[at] = true
			_, err := names.Resource(core.SchemeGroupVersion.WithResource("secrets")).Namespace(role.Namespace).Get(ctx, name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				missing = append(missing, at)
			case err != nil:
				return refused(err, "get", "secrets", "")
			}
		}
	}
	if len(missing) > 0 {
		return bad("there is no Secret "+some(missing)+": gateways there close the hosts that show it", "have it issued, or make it (`kubectl create secret tls`); gateways take it at once")
	}
	return well("%d", len(seen))
}

// shownBy are the Secrets that a gateway's Role names.
func shownBy(role rbac.Role) []string {
	var out []string
	for _, r := range role.Rules {
		if slices.Contains(r.Resources, "secrets") {
			out = append(out, r.ResourceNames...)
		}
	}
	return out
}

// credentials looks whether the Secret is there, and not what is in it.
func (e *examination) credentials(ctx context.Context) found {
	names, err := metadata.NewForConfig(e.rest)
	if err != nil {
		return failure(err)
	}
	_, err = names.Resource(core.SchemeGroupVersion.WithResource("secrets")).Namespace(e.Namespace).Get(ctx, e.secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return bad(fmt.Sprintf("there is no Secret %s/%s with credentials for %s", e.Namespace, e.secret, e.repository), "make it (docs/install.md): the pods wait for it")
	}
	if err != nil {
		return refused(err, "get", "secrets", "")
	}
	return well("%s, with the Secret %s", e.repository, e.secret)
}

// defined looks whether the API server serves a version of a group, and a kind in it; any
// if it is "".
func (e *examination) defined(gv schema.GroupVersion, kind, whose string) found {
	list, err := e.client.Discovery().ServerResourcesForGroupVersion(gv.String())
	if apierrors.IsNotFound(err) {
		detail := fmt.Sprintf("the API server does not have %s", gv)
		if others := e.versions(gv.Group); others != "" {
			detail += ", it has " + others
		}
		return bad(detail, "install the definitions that have it: "+definitions(gv.Group, whose))
	}
	if err != nil {
		return failure(err)
	}
	if kind != "" && !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind }) {
		return bad(fmt.Sprintf("the API server has no %s in %s", kind, gv), "install the definitions that have it: "+definitions(gv.Group, whose))
	}
	return well("")
}

// versions are those of a group that are served.
func (e *examination) versions(group string) string {
	groups, err := e.client.Discovery().ServerGroups()
	if err != nil {
		return ""
	}
	var out []string
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			if g.Name == group {
				out = append(out, v.GroupVersion)
			}
		}
	}
	return strings.Join(out, ", ")
}

// definitions is where a group's definitions come from.
func definitions(group, whose string) string {
	switch {
	case strings.HasSuffix(group, "toolkit.fluxcd.io"):
		return "Flux 2.6 or later (`flux install`)"
	case group == "gateway.networking.k8s.io":
		return "Gateway API 1.1 or later (gateway-api.sigs.k8s.io, standard channel)"
	}
	return "those of " + whose + ", or a newer cluster"
}

// status is what the webhook tells; nil with the reason if it does not.
func (e *examination) status(ctx context.Context) (*webhook.Status, found) {
	raw, no := e.page(ctx, install.WebhookSet, install.WebhookHTTPPort, strings.TrimPrefix(webhook.StatusPath, "/"))
	if raw == nil {
		return nil, no
	}
	var s webhook.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, bad("the webhook's status cannot be read: "+err.Error(), "take the meshc that is installed")
	}
	return &s, found{}
}

func (e *examination) judges(ctx context.Context) found {
	s, no := e.status(ctx)
	switch {
	case s == nil:
		return no
	case s.Commit == "":
		return bad("it has none, and refuses what it is asked about", fmt.Sprintf("see `kubectl -n %s logs %s-0`, and what `meshc verify` says of the repository", e.Namespace, install.WebhookSet))
	}
	return well("commit %.12s", s.Commit)
}

// judged is the status of a webhook that has a release; what is wrong otherwise is said by
// the check before.
func (e *examination) judged(ctx context.Context) (*webhook.Status, found) {
	s, _ := e.status(ctx)
	if s == nil || s.Commit == "" {
		return nil, skip("not asked: the webhook has no release, or does not tell")
	}
	return s, found{}
}

// kinds looks whether objects of the release can be made at all. Those of other targets
// need not be meant for this cluster.
func (e *examination) kinds(ctx context.Context) found {
	s, no := e.judged(ctx)
	if s == nil {
		return no
	}
	worst, used := well(""), map[string]bool{}
	for _, k := range s.Kinds {
		gv, err := schema.ParseGroupVersion(k.APIVersion)
		if err != nil {
			continue // no object's
		}
		used[k.APIVersion] = true
		f := e.defined(gv, k.Kind, k.Target)
		if f.status == Failed && k.Target != "kubernetes" {
			f = warn("objects of the target "+k.Target+" cannot be applied here: "+f.detail, f.fix)
		}
		if f.status == Failed || f.status == Warning && worst.status == OK {
			worst = f
		}
	}
	if worst.status == OK {
		return well("%s", strings.Join(slices.Sorted(maps.Keys(used)), ", "))
	}
	return worst
}

// ending is how long before its end an exemption is told.
const ending = 7 * 24 * time.Hour

// exemptions looks at what is let through for a time.
func (e *examination) exemptions(ctx context.Context) found {
	s, no := e.judged(ctx)
	if s == nil {
		return no
	}
	ended, soon := e.told(s.Ended, func(time.Time) bool { return true }), e.told(s.Enforcement, func(until time.Time) bool { return e.Now().Add(ending).After(until) })
	const fix = "mend what it lets through, or have the intent with a later `until` approved; then take out of the intent what has ended"
	switch {
	case len(soon) > 0:
		return warn(strings.Join(append(soon, ended...), "; "), fix)
	case len(ended) > 0:
		return warn(strings.Join(ended, "; "), fix)
	}
	return well("%d in force", len(s.Enforcement.Exemptions)+len(s.Enforcement.Softened))
}

// told says of what is let through, as far as its end is one of those.
func (e *examination) told(of release.Enforcement, which func(time.Time) bool) []string {
	var out []string
	add := func(what string, t release.Temporary) {
		until, err := time.Parse(time.RFC3339, t.Until)
		if err != nil || !which(until) {
			return
		}
		verb := "ends"
		if e.Now().After(until) {
			verb = "ended"
		}
		out = append(out, fmt.Sprintf("%s of %s %s on %s", what, t.Owner, verb, until.UTC().Format(time.RFC3339)))
	}
	for _, x := range of.Exemptions {
		add(fmt.Sprintf("the exemption %q", x.Name), x.Temporary)
	}
	for _, x := range of.Softened {
		add(fmt.Sprintf("the softer severity of %q", x.Rule), x.Temporary)
	}
	return out
}
