package install

import (
	"slices"

	rbac "k8s.io/api/rbac/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rendered/fluxsource"
	"meshc.dev/meshc/webhook"
)

// Accounts of the two servers, in the namespace of Settings.
const (
	ServerAccount  = "meshc-server"
	WebhookAccount = "meshc-webhook"
)

// Right is something that an account may do.
type Right struct {
	Account string
	// Group and Resource are what it is about, in the words of RBAC; "" is the core group.
	Group, Resource string
	// Names are the only objects that it is about; nil means all. RBAC knows no names of
	// what does not exist yet, so create is never bound to one.
	Names []string
	Verbs []string
	// In is the only namespace where it holds, Own for that of the servers; "" is all.
	In string
	// Why is what it is needed for.
	Why string
}

// Own stands for the servers' own namespace.
const Own = "."

// Rights are all rights of both accounts that follow a repository: the one place where
// they are said. A test holds them against what the servers ask a real API server for; none
// is left out or left over.
func Rights(repository string) []Right {
	out := rights()
	if source, err := fluxsource.Parse(repository); err == nil {
		at, namespace, name := source.Object()
		for _, account := range []string{ServerAccount, WebhookAccount} {
			out = append(out, Right{Account: account, Group: at.Group, Resource: at.Resource, Names: []string{name}, Verbs: []string{"get"}, In: namespace, Why: "where the artifact is that Flux fetched"})
		}
	}
	return out
}

// rights are those that do not depend on the repository.
func rights() []Right {
	out := []Right{
		{Account: ServerAccount, Group: "discovery.k8s.io", Resource: "endpointslices", Verbs: []string{"list", "watch"}, Why: "the addresses of services"},
		{Account: ServerAccount, Resource: "pods", Verbs: []string{"get", "list", "watch"}, Why: "the version that an address belongs to, and the pod that a token was made for"},
		{Account: ServerAccount, Resource: "nodes", Verbs: []string{"list", "watch"}, Why: "the region of an address"},
		{Account: ServerAccount, Group: "authentication.k8s.io", Resource: "tokenreviews", Verbs: []string{"create"}, Why: "who a pod is that wants a certificate"},
		{Account: ServerAccount, Resource: "configmaps", Names: []string{release.RootsConfigMap}, Verbs: []string{"get", "update"}, Why: "the server's roots, in each namespace of the mesh"},
		{Account: ServerAccount, Resource: "configmaps", Verbs: []string{"create"}, Why: "the same, in a namespace that has none yet"},
		{Account: ServerAccount, Resource: "secrets", Names: []string{ServerSecret}, Verbs: []string{"get", "update"}, In: Own, Why: "the roots of the authority that the replicas share"},
		{Account: ServerAccount, Group: "coordination.k8s.io", Resource: "leases", Verbs: []string{"create", "list", "delete"}, In: Own, Why: "that a pod's token was used, until it has long ended"},

		{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations", Names: []string{webhook.GuardName}, Verbs: []string{"get", "update", "watch"}, Why: "what the guard is asked about, put back when it is changed"},
		{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations", Verbs: []string{"create"}, Why: "the same, when it is gone"},
		{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Names: []string{webhook.InjectName}, Verbs: []string{"get", "update", "watch"}, Why: "which pods get a sidecar, put back when it is changed"},
		{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Verbs: []string{"create"}, Why: "the same, when it is gone"},
		{Account: WebhookAccount, Resource: "secrets", Names: []string{WebhookSecret}, Verbs: []string{"get", "update"}, In: Own, Why: "the roots of the certificates that the API server is shown, which the replicas share"},
		{Account: WebhookAccount, Resource: "events", Verbs: []string{"create"}, In: "default", Why: "the alarm that a configuration was changed, where Kubernetes keeps events of what has no namespace"},
		{Account: WebhookAccount, Resource: "configmaps", Verbs: []string{"create"}, Why: "a report of what an audit found in a namespace that has none yet, and what is tried to see whether the API server asks"},
		{Account: WebhookAccount, Resource: "configmaps", Names: []string{webhook.ReportName}, Verbs: []string{"get", "update", "delete"}, Why: "the same, later"},
		{Account: WebhookAccount, Group: "coordination.k8s.io", Resource: "leases", Names: []string{webhook.TurnName}, Verbs: []string{"get", "update"}, In: Own, Why: "which replica audits"},
		{Account: WebhookAccount, Group: "coordination.k8s.io", Resource: "leases", Verbs: []string{"create"}, In: Own, Why: "the same, at first"},
	}
	for _, resource := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		out = append(out, Right{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: resource, Names: release.PolicyNames(), Verbs: []string{"get", "update", "delete"}, Why: "those of a release with `admissionPolicies`, put back when they are changed"})
	}
	for _, resource := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		out = append(out, Right{Account: WebhookAccount, Group: "admissionregistration.k8s.io", Resource: resource, Verbs: []string{"create", "watch"}, Why: "the same, when they are gone"})
	}
	var others []Right
	for _, r := range webhook.Audited() {
		right := Right{Account: WebhookAccount, Group: r.Group, Resource: r.Resource, Verbs: []string{"list"}, Why: "what an audit looks at"}
		if r.Optional {
			right.Why = "the same, in clusters that have these kinds"
			others = append(others, right)
			continue
		}
		out = append(out, right)
	}
	out = append(out, others...)
	return out
}

// rules are an account's rights as RBAC says them, by the namespace in which they hold.
func (s Settings) rules(account string) map[string][]rbac.PolicyRule {
	out := map[string][]rbac.PolicyRule{}
	for _, r := range Rights(s.Repository) {
		if r.Account == account {
			out[r.In] = append(out[r.In], rbac.PolicyRule{APIGroups: []string{r.Group}, Resources: []string{r.Resource}, ResourceNames: slices.Clone(r.Names), Verbs: slices.Clone(r.Verbs)})
		}
	}
	return out
}
