package diag

const (
	// CodeNamespaceOwner is a namespace that several packages name without its owner's word.
	// Example: packages "orders" and "z" both say `namespace: "orders"`.
	CodeNamespaceOwner Code = "MESH0230"
	// CodeOwnersWord is something that only the owner of a namespace may say.
	// Example: `mtls` or `gateway` in a package to which the namespace's owner delegates `services`.
	CodeOwnersWord Code = "MESH0231"
	// CodeAccountOwner is a service that runs as an account of another package.
	// Example: `serviceAccount: "checkout"` in package "z", where package "orders" has service "checkout".
	CodeAccountOwner Code = "MESH0232"
	// CodeHostOwner is a gateway's host that another package has, or has a wildcard for.
	// Example: package "edge" has host "*.example" and package "z" declares host "shop.example".
	CodeHostOwner Code = "MESH0233"
	// CodeExternalOwner is one account that calls externals of two packages of which one takes requests from the other.
	// Example: calls of "a/cloud" with host "*.cloud.example" and "b/store" with host "store.cloud.example".
	CodeExternalOwner Code = "MESH0234"
	// CodeDelegation is a delegation that delegates nothing, or (warning) is about a package, an account or a host that does not exist.
	// Example: `delegate: "teams/order": services: true` where the package is "teams/orders".
	CodeDelegation Code = "MESH0235"
	// CodeNotDelegated is an attached route that the gateway's package does not delegate.
	// Example: `match: path: prefix: "/admin"` where `paths: ["/orders/*"]` is delegated.
	CodeNotDelegated Code = "MESH0236"
	// CodeAttachedTo is a route that sends somebody's requests to a service of a third package: an attached one, or one
	// of a service that leads on.
	// Example: `attach: "edge/edge": host: "shop.example": route: x: to: "payment/vault": 100` in package "orders".
	CodeAttachedTo Code = "MESH0237"
	// CodeAttachConflict is two packages that attach routes for the same requests.
	// Example: packages "a" and "b" both attach `path: prefix: "/x"` to one host.
	CodeAttachConflict Code = "MESH0238"
	// CodeAttachShadowed is an attached route that a route of the host's owner leaves no request (warning).
	// Example: the owner has a route without conditions.
	CodeAttachShadowed Code = "MESH0239"
)
