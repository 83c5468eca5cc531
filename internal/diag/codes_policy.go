package diag

// Codes of policy (04xx): Rego rules over the mesh.
const (
	// CodePolicyDenied is a finding of a policy that forbids what the mesh says. The
	// rule's id stands in brackets before its message.
	// Example: `grant: all: {anyone: true}`, denied by the rule "open-grant".
	CodePolicyDenied Code = "MESH0401"
	// CodePolicyWarned is a finding of a policy that only warns.
	// Example: an mTLS exception without a reason, warned of by the rule "mtls-exception".
	CodePolicyWarned Code = "MESH0402"
	// CodePolicyNone means that no policy was evaluated, which is a failure: a check
	// that did not run must not look like one that passed.
	// Example: a policy folder whose only file declares `package mesh` in place of `package meshc.mesh.<rule>`.
	CodePolicyNone Code = "MESH0403"
	// CodePolicyInvalid is a policy file that does not compile, in strict mode and
	// without built-in functions that reach the network, the clock, the
	// environment or a source of randomness.
	// Example: `http.send({...})` in a rule, or `input.mesh.servces`.
	CodePolicyInvalid Code = "MESH0404"
	// CodePolicyPackage is a policy file whose package is never evaluated, or that
	// has no rule called "findings".
	// Example: `package main`, or a package `meshc.mesh.mine` with a rule `deny`.
	CodePolicyPackage Code = "MESH0405"
	// CodePolicyFailed is a policy that gave no usable answer: it met an error, was
	// undefined, or returned something that is no finding. It counts as a denial.
	// Example: `findings := x if { x := input.mesh.services[0].nope }`.
	CodePolicyFailed Code = "MESH0406"
	// CodePolicyBudget is a policy that was not done in time. It counts as a denial.
	// Example: a rule that compares every service with every pair of services of a large mesh.
	CodePolicyBudget Code = "MESH0407"
	// CodePolicyRule is a rule over objects that does not declare, in its METADATA, an id of
	// its own and what its findings do: intent can only soften, or exempt from, what it can name.
	// Example: a rule "findings" of `package meshc.object.mine` without `custom: {id: …, severity: deny}`.
	CodePolicyRule Code = "MESH0408"
	// CodePolicyNoted is a finding of a policy that is only noted: it lets everything through.
	// Example: a rule with `severity: audit` about images without a digest.
	CodePolicyNoted Code = "MESH0409"
	// CodeExempted is a finding that an exemption of the intent lets through (warning).
	// Example: a pod "agent-1" on its node's network, and `exemption: agents: {rules: ["pod-host-network"], …}` for it.
	CodeExempted Code = "MESH0410"
	// CodeNoEffect is an exemption, or a softened rule, that changes nothing: no rule is
	// called so, or it would do as much without it.
	// Example: `rule: "pod-hostnetwork": {severity: "warn", …}`, where the rule's id is "pod-host-network".
	CodeNoEffect Code = "MESH0411"
)
