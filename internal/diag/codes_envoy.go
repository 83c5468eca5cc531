package diag

// Codes of the real Envoy (032x: finding one; 033x: what it says of a configuration).
const (
	// CodeEnvoyMissing is a command that needs an Envoy where there is none and none may be fetched.
	// Example: `meshc test --envoy --no-download` on a machine without Envoy.
	CodeEnvoyMissing Code = "MESH0320"
	// CodeEnvoyVersion is an Envoy named by a flag whose version is not supported.
	// Example: `--envoy-path /usr/bin/envoy`, which is Envoy 1.31.
	CodeEnvoyVersion Code = "MESH0321"
	// CodeEnvoyPlatform is a platform for which no Envoy can be fetched.
	// Example: a Mac with an Intel processor, for which no wheel is published.
	CodeEnvoyPlatform Code = "MESH0322"
	// CodeEnvoyFetch is an Envoy that could not be fetched.
	// Example: a machine without Python's pip, or without a way to its package index.
	CodeEnvoyFetch Code = "MESH0323"
	// CodeEnvoyDigest is a fetched Envoy that is not the pinned one, byte for byte.
	// Example: a package index that serves other bytes under the same version.
	CodeEnvoyDigest Code = "MESH0324"
	// CodeEnvoyBroken is an Envoy that does not run on this machine.
	// Example: a system library that is older than the binary needs.
	CodeEnvoyBroken Code = "MESH0325"
	// CodeEnvoyRejected is a compiled resource that a real Envoy refuses.
	// Example: a cluster whose ring hash has a minimum above its maximum.
	CodeEnvoyRejected Code = "MESH0330"
	// CodeEnvoyDeprecated is a compiled resource that uses what Envoy will remove.
	// Example: a validation context without an explicit `require_client_certificate`.
	CodeEnvoyDeprecated Code = "MESH0331"
	// CodeEnvoyCrashed is a compiled resource at which Envoy crashes or does not come to an end.
	// Example: a tap filter with `admin_config` in a bootstrap without `admin`.
	CodeEnvoyCrashed Code = "MESH0332"
	// CodeEnvoyNotReady is an Envoy that ends, or does not answer in time, instead of coming up.
	// Example: a listener whose port is in use by another program.
	CodeEnvoyNotReady Code = "MESH0333"
)
