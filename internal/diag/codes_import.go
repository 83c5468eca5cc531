package diag

// Codes of `meshc import` (1000 to 1029): what the objects of others say and intent does not.
const (
	// CodeImportYAML is a file that is not read as Kubernetes YAML: broken, too large, with aliases, or with a field twice.
	// Example: `kind: HTTPRoute` twice in one object, or `spec: *shared`.
	CodeImportYAML Code = "MESH1000"
	// CodeImportKind is an object of a kind that is not translated.
	// Example: a BackendTLSPolicy beside HTTPRoutes.
	CodeImportKind Code = "MESH1001"
	// CodeImportField is a field that is not translated, or that the kind does not have.
	// Example: `sessionPersistence` in an HTTPRoute's rule, or `backendRef` for `backendRefs`.
	CodeImportField Code = "MESH1002"
	// CodeImportValue is a value that intent cannot say exactly, or that the field does not take.
	// Example: weights 1, 1 and 1, which are no percentages with two decimals.
	CodeImportValue Code = "MESH1003"
	// CodeImportMissing is a reference to something that is not among the objects, or that they do not allow.
	// Example: a backend in another namespace without a ReferenceGrant there.
	CodeImportMissing Code = "MESH1004"
	// CodeImportWhole is a host of which nothing is written because a part of what it does is not translated: its requests would go elsewhere.
	// Example: a host whose route for `/admin` has an extension filter, and whose route for `/` would take `/admin` too.
	CodeImportWhole Code = "MESH1005"
	// CodeImportOrder is a choice between two routes that the objects leave open.
	// Example: two HTTPRoutes for the same host and path without creationTimestamp.
	CodeImportOrder Code = "MESH1006"
	// CodeImportAccess is a service that everybody may call in the cluster and that intent lets nobody call who is not named.
	// Example: any Service: Gateway API has no word for who may call.
	CodeImportAccess Code = "MESH1007"
	// CodeImportLeft is something that is left to implementations, or means nothing to traffic, and is not carried over.
	// Example: annotations, or an HTTPRoute's rule without `timeouts`.
	CodeImportLeft Code = "MESH1008"
	// CodeImportPart is something that is not written while what is around it is: it says how requests are carried, or lets somebody in.
	// Example: `connectionPool: tcp: idleTimeout` of a DestinationRule.
	CodeImportPart Code = "MESH1010"
	// CodeImportAnswer is an exception that intent has for a time only, with somebody who answers for it.
	// Example: a PeerAuthentication with PERMISSIVE, without `--owner`.
	CodeImportAnswer Code = "MESH1011"
	// CodeImportDefault is something that the other mesh does by itself and that intent does otherwise, or says (warning).
	// Example: a VirtualService without `retries`: Istio then tries twice again, also what the callee may have begun.
	CodeImportDefault Code = "MESH1012"
)
