package webhook

import (
	"fmt"
	"slices"
	"strings"

	registration "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/foreign"
	"meshc.dev/meshc/internal/proxypod"
	"meshc.dev/meshc/webhook/internal/inject"
)

// Names of the configurations. The mutating one is late among its kind, so that it
// sees what others add to a pod.
const (
	GuardName  = "meshc-guard"
	InjectName = "zz-meshc-inject"
)

// metadataName is the label that an API server gives each namespace, which nobody can
// change.
const metadataName = "kubernetes.io/metadata.name"

// spared are the namespaces that a cluster needs to come up. Nothing there is asked
// about, or a webhook that is down could keep a cluster down.
func spared(own string) []string {
	out := []string{"kube-node-lease", "kube-public", "kube-system"}
	if own != "" {
		out = append(out, own)
	}
	return out
}

// Cluster is where the webhook is called from, and how.
type Cluster struct {
	// Client's requests end after some seconds; Watcher's may last.
	Client, Watcher kubernetes.Interface
	// URL is https://host:port under which the API server reaches the webhook; "" if
	// Service is given.
	URL string
	// Service is "namespace/name" of a service with port 443.
	Service string
}

func (c Cluster) caller(path string, bundle []byte) registration.WebhookClientConfig {
	out := registration.WebhookClientConfig{CABundle: bundle}
	if c.URL != "" {
		url := c.URL + path
		out.URL = &url
		return out
	}
	namespace, name, _ := strings.Cut(c.Service, "/")
	port := int32(443)
	out.Service = &registration.ServiceReference{Namespace: namespace, Name: name, Path: &path, Port: &port}
	return out
}

// own is the webhook's own namespace, "" outside a cluster.
func (c Cluster) own() string {
	namespace, _, _ := strings.Cut(c.Service, "/")
	return namespace
}

func rule(scope registration.ScopeType, group, version string, ops []registration.OperationType, resources ...string) registration.RuleWithOperations {
	return registration.RuleWithOperations{Operations: ops, Rule: registration.Rule{
		APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources, Scope: new(scope),
	}}
}

func expression(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

// keptKinds are the resources of the kinds that a release has, with the subresources by which
// an object's labels or size can be changed.
func keptKinds() []registration.RuleWithOperations {
	ops := []registration.OperationType{registration.Create, registration.Update, registration.Delete}
	return []registration.RuleWithOperations{
		rule(registration.NamespacedScope, "", "v1", ops, "services", "services/status", "serviceaccounts", "configmaps"),
		rule(registration.NamespacedScope, "apps", "v1", ops, "deployments", "deployments/scale", "deployments/status"),
		rule(registration.NamespacedScope, "networking.k8s.io", "v1", ops, "networkpolicies"),
		rule(registration.NamespacedScope, "rbac.authorization.k8s.io", "v1", ops, "roles", "rolebindings"),
		rule(registration.NamespacedScope, "policy", "v1", ops, "poddisruptionbudgets", "poddisruptionbudgets/status"),
		rule(registration.NamespacedScope, "autoscaling", "v2", ops, "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
	}
}

// moreThanStatus leaves out the requests that write a status and nothing else: there are
// many, and how things are is told to a cluster whose webhook is down as well. Whoever
// may write a status may write labels and annotations with it.
func moreThanStatus() []registration.MatchCondition {
	field := func(name string) string {
		const has, had = "object.metadata.", "oldObject.metadata."
		return fmt.Sprintf("has(%[1]s) != has(%[2]s) || has(%[1]s) && %[1]s != %[2]s", has+name, had+name)
	}
	return []registration.MatchCondition{{Name: "more-than-a-status", Expression: `!has(request.subResource) || request.subResource != "status" || ` +
		strings.Join([]string{field("labels"), field("annotations"), field("ownerReferences")}, " || ")}}
}

// makers are the kinds that make pods, beside Deployments: who applies one learns at once
// what its pods would meet.
func makers() []registration.RuleWithOperations {
	return []registration.RuleWithOperations{
		rule(registration.NamespacedScope, "", "v1", written(), "podtemplates", "replicationcontrollers"),
		rule(registration.NamespacedScope, "apps", "v1", written(), "daemonsets", "replicasets", "statefulsets"),
		rule(registration.NamespacedScope, "batch", "v1", written(), "cronjobs", "jobs"),
	}
}

// anyVersion stands for all versions of a kind that a cluster need not have: which ones it
// has is not ours to know.
const anyVersion = "*"

// routes are the kinds by which others say who gets a request.
func routes() []registration.RuleWithOperations {
	out := []registration.RuleWithOperations{
		rule(registration.NamespacedScope, "networking.k8s.io", "v1", written(), "ingresses"),
		rule(registration.NamespacedScope, "projectcontour.io", anyVersion, written(), "httpproxies"),
	}
	for _, g := range foreign.Groups() {
		out = append(out, rule(registration.NamespacedScope, g.Name, anyVersion, written(), g.Resources...))
	}
	return out
}

// written are the operations after which an object says something.
func written() []registration.OperationType {
	return []registration.OperationType{registration.Create, registration.Update}
}

// Conditions under which nothing is asked, in CEL: what follows from something that was
// asked about, and what a cluster needs to go on while no webhook answers.
const (
	notMade = `!has(object.metadata.ownerReferences) || !object.metadata.ownerReferences.exists(o, has(o.controller) && o.controller)`
	byHand  = `!(request.userInfo.username in ["system:kube-controller-manager", "system:serviceaccount:kube-system:endpoint-controller", ` +
		`"system:serviceaccount:kube-system:endpointslice-controller", "system:serviceaccount:kube-system:endpointslicemirroring-controller", ` +
		`"system:serviceaccount:kube-system:generic-garbage-collector"])`
	forMesh = `has(object.spec.audiences) && "` + proxypod.Audience + `" in object.spec.audiences && !("system:nodes" in request.userInfo.groups)`
)

// guards are the validating webhooks: everything of the kinds that we keep where the
// mesh lives; what says elsewhere that it is ours; the pods, and what makes them; what
// says who gets traffic; the namespaces themselves.
func (c Cluster) guards(namespaces []string, bundle []byte) []registration.ValidatingWebhook {
	namespaces = slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return slices.Contains(spared(c.own()), n) })
	hook := func(name string, in *metav1.LabelSelector, rules ...registration.RuleWithOperations) registration.ValidatingWebhook {
		return registration.ValidatingWebhook{
			Name: name + ".guard.meshc.dev", ClientConfig: c.caller(ValidatePath, bundle), Rules: rules, NamespaceSelector: in, ObjectSelector: &metav1.LabelSelector{},
			FailurePolicy: new(registration.Fail), MatchPolicy: new(registration.Equivalent), SideEffects: new(registration.SideEffectClassNone),
			TimeoutSeconds: new(int32(2)), AdmissionReviewVersions: []string{"v1"},
		}
	}
	if len(namespaces) == 0 {
		namespaces = []string{"-"} // no namespace's name: an empty list of values is refused
	}
	inside := expression(metadataName, metav1.LabelSelectorOpIn, namespaces...)
	outside := expression(metadataName, metav1.LabelSelectorOpNotIn, slices.Concat(namespaces, spared(c.own()))...)
	objects, claims := hook("objects", inside, keptKinds()...), hook("claims", outside, keptKinds()...)
	spaces := hook("namespaces", inside, rule(registration.ClusterScope, "", "v1",
		[]registration.OperationType{registration.Create, registration.Update, registration.Delete}, "namespaces", "namespaces/status", "namespaces/finalize"))
	for _, h := range []*registration.ValidatingWebhook{&objects, &claims, &spaces} {
		h.MatchConditions = moreThanStatus()
	}
	claims.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/managed-by": "meshc"}}
	when := func(h registration.ValidatingWebhook, name, condition string) registration.ValidatingWebhook {
		h.MatchConditions = []registration.MatchCondition{{Name: name, Expression: condition}}
		return h
	}
	return []registration.ValidatingWebhook{
		objects,
		claims,
		when(hook("makers", inside, makers()...), "not-made", notMade),
		hook("routes", inside, routes()...),
		when(hook("endpoints", inside,
			rule(registration.NamespacedScope, "", "v1", written(), "endpoints"),
			rule(registration.NamespacedScope, "discovery.k8s.io", "v1", written(), "endpointslices")), "by-hand", byHand),
		when(hook("tokens", inside, rule(registration.NamespacedScope, "", "v1", []registration.OperationType{registration.Create}, "serviceaccounts/token")), "for-the-mesh", forMesh),
		hook("pods", inside, rule(registration.NamespacedScope, "", "v1",
			[]registration.OperationType{registration.Create, registration.Update}, "pods", "pods/ephemeralcontainers")),
		spaces,
	}
}

// injectors are the mutating webhooks: one for namespaces that ask for sidecars, one
// for pods that ask for themselves.
func (c Cluster) injectors(bundle []byte) []registration.MutatingWebhook {
	hook := func(name string, namespaces, pods *metav1.LabelSelector) registration.MutatingWebhook {
		namespaces.MatchExpressions = append(namespaces.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: metadataName, Operator: metav1.LabelSelectorOpNotIn, Values: spared(c.own())})
		return registration.MutatingWebhook{
			Name: name + ".inject.meshc.dev", ClientConfig: c.caller(MutatePath, bundle), NamespaceSelector: namespaces, ObjectSelector: pods,
			Rules:         []registration.RuleWithOperations{rule(registration.NamespacedScope, "", "v1", []registration.OperationType{registration.Create}, "pods")},
			FailurePolicy: new(registration.Fail), MatchPolicy: new(registration.Equivalent), SideEffects: new(registration.SideEffectClassNone),
			TimeoutSeconds: new(int32(2)), AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: new(registration.IfNeededReinvocationPolicy),
		}
	}
	return []registration.MutatingWebhook{
		hook("namespaces", expression(inject.Label, metav1.LabelSelectorOpIn, inject.Enabled), expression(inject.Label, metav1.LabelSelectorOpNotIn, inject.Disabled)),
		hook("pods", expression(inject.Label, metav1.LabelSelectorOpNotIn, inject.Enabled), expression(inject.Label, metav1.LabelSelectorOpIn, inject.Enabled)),
	}
}
