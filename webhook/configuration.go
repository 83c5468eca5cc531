package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/diag"
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
	Client kubernetes.Interface
	// URL is https://host:port under which the API server reaches the webhook; "" if
	// Service is given.
	URL string
	// Service is "namespace/name" of a service with port 443.
	Service string
}

// Keep makes the configurations in the cluster what the approved release asks for, and
// puts them back when somebody changes them: an API server asks no webhook about
// webhook configurations. It ends with ctx and leaves them there.
func (s *Server) Keep(ctx context.Context, c Cluster, certs *Certificates) error {
	const every = time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	k := &keeper{cluster: c, log: s.c.Log}
	for {
		if by := s.inForce(s.c.Now()); by != nil {
			if _, err := certs.Maintain(); err != nil {
				s.c.Log.Error("certificates not renewed", "reason", err)
			}
			k.keep(ctx, by.world.Namespaces(), certs.Bundle())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// keeper remembers what it wrote, so that what differs is somebody else's doing.
type keeper struct {
	cluster Cluster
	log     *slog.Logger
	wrote   map[string]any // by name: the webhooks as they were written last
	failing string
}

func (k *keeper) keep(ctx context.Context, namespaces []string, bundle []byte) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := errors.Join(k.validating(ctx, namespaces, bundle), k.mutating(ctx, bundle))
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != k.failing && text != "" && ctx.Err() == nil {
		k.log.Error("webhook configuration not written", "code", diag.CodeConfiguration, "reason", err,
			"fix", "give the webhook's account the verbs get, create and update on both webhook configurations; see meshc webhook --help")
	}
	k.failing = text
}

func (k *keeper) validating(ctx context.Context, namespaces []string, bundle []byte) error {
	api := k.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	want := k.guards(namespaces, bundle)
	have, err := api.Get(ctx, GuardName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		k.changed(GuardName, "is gone")
		_, err = api.Create(ctx, &registration.ValidatingWebhookConfiguration{ObjectMeta: k.meta(GuardName), Webhooks: want}, metav1.CreateOptions{})
	case err == nil && !reflect.DeepEqual(have.Webhooks, want):
		k.differs(GuardName, have.Webhooks)
		have.Webhooks = want
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("configuration %q: %w", GuardName, err)
	}
	k.note(GuardName, want)
	return nil
}

func (k *keeper) mutating(ctx context.Context, bundle []byte) error {
	api := k.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	want := k.injectors(bundle)
	have, err := api.Get(ctx, InjectName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		k.changed(InjectName, "is gone")
		_, err = api.Create(ctx, &registration.MutatingWebhookConfiguration{ObjectMeta: k.meta(InjectName), Webhooks: want}, metav1.CreateOptions{})
	case err == nil && !reflect.DeepEqual(have.Webhooks, want):
		k.differs(InjectName, have.Webhooks)
		have.Webhooks = want
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("configuration %q: %w", InjectName, err)
	}
	k.note(InjectName, want)
	return nil
}

func (k *keeper) note(name string, webhooks any) {
	if k.wrote == nil {
		k.wrote = map[string]any{}
	}
	k.wrote[name] = webhooks
}

// differs alarms if what is there is not what was written last.
func (k *keeper) differs(name string, have any) {
	if wrote, ok := k.wrote[name]; ok && !reflect.DeepEqual(wrote, have) {
		k.changed(name, "was changed")
	}
}

func (k *keeper) changed(name, what string) {
	if _, before := k.wrote[name]; before {
		k.log.Error("webhook configuration put back", "code", diag.CodeConfiguration, "name", name, "reason", "it "+what+" while the webhook was running",
			"fix", "see the cluster's audit log for who did it; nothing was judged meanwhile")
	}
}

func (k *keeper) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "meshc", "app.kubernetes.io/component": "webhook"}}
}

func (k *keeper) client(path string, bundle []byte) registration.WebhookClientConfig {
	out := registration.WebhookClientConfig{CABundle: bundle}
	if k.cluster.URL != "" {
		url := k.cluster.URL + path
		out.URL = &url
		return out
	}
	namespace, name, _ := strings.Cut(k.cluster.Service, "/")
	port := int32(443)
	out.Service = &registration.ServiceReference{Namespace: namespace, Name: name, Path: &path, Port: &port}
	return out
}

// own is the webhook's own namespace, "" outside a cluster.
func (k *keeper) own() string {
	namespace, _, _ := strings.Cut(k.cluster.Service, "/")
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

// kept are the resources of the kinds that a release has.
func kept() []registration.RuleWithOperations {
	ops := []registration.OperationType{registration.Create, registration.Update, registration.Delete}
	return []registration.RuleWithOperations{
		rule(registration.NamespacedScope, "", "v1", ops, "services", "serviceaccounts", "configmaps"),
		rule(registration.NamespacedScope, "apps", "v1", ops, "deployments", "deployments/scale"),
		rule(registration.NamespacedScope, "networking.k8s.io", "v1", ops, "networkpolicies"),
		rule(registration.NamespacedScope, "policy", "v1", ops, "poddisruptionbudgets"),
		rule(registration.NamespacedScope, "autoscaling", "v2", ops, "horizontalpodautoscalers"),
	}
}

// guards are the validating webhooks: everything of the kinds that we keep where the
// mesh lives; what says elsewhere that it is ours; the pods; the namespaces themselves.
func (k *keeper) guards(namespaces []string, bundle []byte) []registration.ValidatingWebhook {
	namespaces = slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return slices.Contains(spared(k.own()), n) })
	hook := func(name string, in *metav1.LabelSelector, rules ...registration.RuleWithOperations) registration.ValidatingWebhook {
		return registration.ValidatingWebhook{
			Name: name + ".guard.meshc.dev", ClientConfig: k.client(ValidatePath, bundle), Rules: rules, NamespaceSelector: in, ObjectSelector: &metav1.LabelSelector{},
			FailurePolicy: new(registration.Fail), MatchPolicy: new(registration.Equivalent), SideEffects: new(registration.SideEffectClassNone),
			TimeoutSeconds: new(int32(2)), AdmissionReviewVersions: []string{"v1"},
		}
	}
	if len(namespaces) == 0 {
		namespaces = []string{"-"} // no namespace's name: an empty list of values is refused
	}
	inside := expression(metadataName, metav1.LabelSelectorOpIn, namespaces...)
	outside := expression(metadataName, metav1.LabelSelectorOpNotIn, slices.Concat(namespaces, spared(k.own()))...)
	claims := hook("claims", outside, kept()...)
	claims.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/managed-by": "meshc"}}
	return []registration.ValidatingWebhook{
		hook("objects", inside, kept()...),
		claims,
		hook("pods", inside, rule(registration.NamespacedScope, "", "v1",
			[]registration.OperationType{registration.Create, registration.Update}, "pods", "pods/ephemeralcontainers")),
		hook("namespaces", inside, rule(registration.ClusterScope, "", "v1",
			[]registration.OperationType{registration.Create, registration.Update, registration.Delete}, "namespaces")),
	}
}

// injectors are the mutating webhooks: one for namespaces that ask for sidecars, one
// for pods that ask for themselves.
func (k *keeper) injectors(bundle []byte) []registration.MutatingWebhook {
	hook := func(name string, namespaces, pods *metav1.LabelSelector) registration.MutatingWebhook {
		namespaces.MatchExpressions = append(namespaces.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: metadataName, Operator: metav1.LabelSelectorOpNotIn, Values: spared(k.own())})
		return registration.MutatingWebhook{
			Name: name + ".inject.meshc.dev", ClientConfig: k.client(MutatePath, bundle), NamespaceSelector: namespaces, ObjectSelector: pods,
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
