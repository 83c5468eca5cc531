package diag

// Codes of admission (07xx): what the webhook refuses in a cluster.
const (
	// CodeDrift is an object that differs from what the approved release says of it.
	// Example: `kubectl patch service reviews` to another port.
	CodeDrift Code = "MESH0701"
	// CodeUnapproved is an object that says it is kept by meshc, of which the approved
	// release knows nothing.
	// Example: a Service with the label `app.kubernetes.io/managed-by: meshc` made by hand.
	CodeUnapproved Code = "MESH0702"
	// CodeStillNeeded is the deletion of an object, or of its namespace, that the approved
	// release says should be there.
	// Example: `kubectl delete service reviews` while a release has it.
	CodeStillNeeded Code = "MESH0703"
	// CodeSidecar is a pod that cannot have its sidecar, or whose sidecar is not the one of
	// the approved release.
	// Example: a pod with `hostNetwork: true` in a namespace with the label `meshc.dev/inject: enabled`.
	CodeSidecar Code = "MESH0704"
	// CodeReview is a request to the webhook that no API server sends.
	// Example: a review with the key "request" twice.
	CodeReview Code = "MESH0705"
	// CodeBusy is a request that the webhook had no room or no time for.
	// Example: thousands of pods created in one second.
	CodeBusy Code = "MESH0706"
	// CodeNotReady is a request before the webhook has an approved release.
	// Example: an empty state folder while the repository cannot be reached.
	CodeNotReady Code = "MESH0707"
	// CodeConfiguration is a webhook configuration, or an admission policy of the release, that
	// somebody changed or removed. It is put back.
	// Example: `kubectl delete validatingwebhookconfiguration meshc-guard`.
	CodeConfiguration Code = "MESH0708"
	// CodeRoots is the ConfigMap that tells pods which server to trust, written by somebody
	// else than the server.
	// Example: `kubectl edit configmap meshc-roots`.
	CodeRoots Code = "MESH0709"
	// CodeCallers is a file of authorities for the API server's client certificate that
	// cannot be used.
	// Example: `meshc webhook --client-ca` with a file that holds a key.
	CodeCallers Code = "MESH0720"
	// CodeNotApplied is an object of the approved release that the cluster does not have.
	// Example: a release that nobody has applied yet.
	CodeNotApplied Code = "MESH0721"
	// CodeUnreached is a webhook that the API server does not reach, or does not ask.
	// Example: `meshc webhook --service` with a Service that has no endpoints.
	CodeUnreached Code = "MESH0722"
	// CodeAudit is an audit of a cluster's objects that is not whole, or whose report
	// cannot be written.
	// Example: an account that may not list ConfigMaps.
	CodeAudit Code = "MESH0723"
)
