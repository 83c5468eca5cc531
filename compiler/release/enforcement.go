package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// EnforcementPath is the artifact that holds an Enforcement, if there is one. It is no
// Kubernetes object.
const EnforcementPath = "kubernetes/enforcement.json"

// DriftRule names the rule that an object of the release is what the release says, for
// an Exemption.
const DriftRule = "drift"

// Enforcement is what is let through in a cluster although rules over objects refuse it.
// A release has only what is in force at its own date, so that what ends makes a step.
type Enforcement struct {
	// Softened is sorted by rule, Exemptions by name.
	Softened   []Softened  `json:"softened,omitempty"`
	Exemptions []Exemption `json:"exemptions,omitempty"`
}

// Temporary says who answers for something, why, and until when.
type Temporary struct {
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// Until is the last instant in force (RFC 3339, UTC).
	Until string `json:"until"`
}

// Softened is a rule that does less than it declares.
type Softened struct {
	Rule string `json:"rule"`
	// Severity is "warn" or "audit".
	Severity string `json:"severity"`
	Temporary
}

// Exemption is objects that rules let through although they refuse them.
type Exemption struct {
	Name string `json:"name"`
	// Rules are their IDs, sorted.
	Rules  []string `json:"rules"`
	Object Objects  `json:"object"`
	Temporary
}

// Objects are objects of one kind in one namespace ("" for none), in whatever group.
type Objects struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	// Name is a name, or the beginning of names with an asterisk behind it.
	Name string `json:"name"`
}

// String gives "Pod legacy/agent-*".
func (o Objects) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Cover reports whether an object is among them. One whose name the server makes has
// no name, but a beginning of it.
func (o Objects) Cover(kind, namespace, name, generateName string) bool {
	if o.Kind != kind || o.Namespace != namespace {
		return false
	}
	begin, open := strings.CutSuffix(o.Name, "*")
	switch {
	case name != "":
		return name == o.Name || open && strings.HasPrefix(name, begin)
	case generateName != "":
		return open && strings.HasPrefix(generateName, begin)
	}
	return false
}

// Softens gives what is said about a rule; ok is false if nothing is.
func (e Enforcement) Softens(rule string) (s Softened, ok bool) {
	i := slices.IndexFunc(e.Softened, func(s Softened) bool { return s.Rule == rule })
	if i < 0 {
		return Softened{}, false
	}
	return e.Softened[i], true
}

// PolicyNames are the names that the admission policies of a release may have, each with a
// binding of the same name.
func PolicyNames() []string {
	return []string{"meshc-endpoints", "meshc-foreign", "meshc-hosts", "meshc-pods", "meshc-services", "meshc-tokens", "meshc-webhooks"}
}

// PodMakers are the kinds that make pods, whose names begin with theirs.
func PodMakers() []string {
	return []string{"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}
}

// Exempts gives the first exemption of a rule that covers an object. One of pods covers
// what makes them as well: rules are asked about both.
func (e Enforcement) Exempts(rule, kind, namespace, name, generateName string) (x Exemption, ok bool) {
	pods := generateName
	if name != "" {
		pods = name + "-"
	}
	i := slices.IndexFunc(e.Exemptions, func(x Exemption) bool {
		return slices.Contains(x.Rules, rule) && (x.Object.Cover(kind, namespace, name, generateName) ||
			slices.Contains(PodMakers(), kind) && x.Object.Cover("Pod", namespace, "", pods))
	})
	if i < 0 {
		return Exemption{}, false
	}
	return e.Exemptions[i], true
}

// Enforcement reads what the release lets through.
func (r Release) Enforcement() (Enforcement, error) {
	raw, ok := r.Artifact(EnforcementPath)
	if !ok {
		return Enforcement{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var e Enforcement
	if err := dec.Decode(&e); err != nil {
		return Enforcement{}, fmt.Errorf("reading %q: %w", EnforcementPath, err)
	}
	return e, nil
}
