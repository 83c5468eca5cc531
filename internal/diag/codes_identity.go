package diag

// Codes of identity (062x to 069x): the authority, join tokens, the agent.
const (
	// CodeTokenUnknown is a join token that this server never made.
	// Example: `--join-token` with a character missing, or a token of another server.
	CodeTokenUnknown Code = "MESH0620"
	// CodeTokenUsed is a join token that was used before. A token works once.
	// Example: the same `--join-token` for two agents.
	CodeTokenUsed Code = "MESH0621"
	// CodeTokenExpired is a join token past its lifetime, or made at a time that is still to come.
	// Example: a token of `meshc token create --ttl 1m` used five minutes later.
	CodeTokenExpired Code = "MESH0622"
	// CodeTokenTTL is a lifetime that no token may have.
	// Example: `meshc token create --ttl 1000h`.
	CodeTokenTTL Code = "MESH0623"
	// CodeIdentity is text that is no identity.
	// Example: `--identity shop/Web` (upper case) or `--identity web` (no namespace).
	CodeIdentity Code = "MESH0624"
	// CodeIdentityMismatch is a request in the name of somebody else.
	// Example: `--identity shop/web` with a token for shop/api.
	CodeIdentityMismatch Code = "MESH0625"
	// CodeRequestRefused is a certificate request that the authority does not sign.
	// Example: a request for a CA certificate, or with two URI names.
	CodeRequestRefused Code = "MESH0626"
	// CodeNoCertificate is a call that needs a client certificate and had none.
	// Example: a renewal or an ADS stream over TLS without a client certificate.
	CodeNoCertificate Code = "MESH0627"
	// CodeIdentityExpired is a certificate past its end, so that it cannot be renewed.
	// Example: an agent that starts again after two days with a 12-hour certificate.
	CodeIdentityExpired Code = "MESH0628"
	// CodeServerUnknown is a server that is not the one pinned.
	// Example: `--server-fingerprint` of another server.
	CodeServerUnknown Code = "MESH0629"
	// CodeTooManyRequests is a client or a server above its rate of signatures.
	// Example: a loop that joins a hundred times a second.
	CodeTooManyRequests Code = "MESH0630"
	// CodeAuthorityState is a state folder of the authority, or a Secret, that cannot be used.
	// Example: `ca/roots.json` cut short, readable by others, or gone.
	CodeAuthorityState Code = "MESH0631"
	// CodeTrustDomain is a trust domain that is malformed or not the one of the state folder.
	// Example: `meshc serve` for "other.local" over the state of "mesh.local".
	CodeTrustDomain Code = "MESH0632"
	// CodeIdentityDenied is an identity that the server has decided not to certify.
	// Example: a renewal by an account that is on the server's denial list.
	CodeIdentityDenied Code = "MESH0633"
	// CodePodToken is a service account's token that proves no pod of the cluster.
	// Example: `--token-file` with a token for another audience, of a pod that is gone, or of no pod.
	CodePodToken Code = "MESH0634"
	// CodeNotAttested is a pod's token about which nobody can say anything now; the agent
	// tries again.
	// Example: a pod that joins while the API server is away, or `meshc serve` without `--in-cluster`.
	CodeNotAttested Code = "MESH0635"
	// CodeAuthorityUnsure is a server that signs nothing, because others of its authority may
	// sign with a root that it does not know; the agent tries again.
	// Example: a replica of `meshc serve` that has not read its Secret for a month, or whose clock is hours off.
	CodeAuthorityUnsure Code = "MESH0636"
	// CodeAgentFlag is a flag of the agent that is missing or makes no sense.
	// Example: neither `--envoy-path PATH` nor `--no-envoy`.
	CodeAgentFlag Code = "MESH0640"
	// CodeAgentNoIdentity is an agent with neither a certificate nor a way to get one.
	// Example: an empty `--state` and no `--join-token`.
	CodeAgentNoIdentity Code = "MESH0641"
	// CodeAgentState is a state folder of the agent that cannot be used.
	// Example: two agents with the same `--state`.
	CodeAgentState Code = "MESH0642"
	// CodeSocket is a Unix socket that cannot be made.
	// Example: a path of more than 103 bytes, or a socket that another process serves.
	CodeSocket Code = "MESH0643"
	// CodeEnvoyChild is an Envoy that cannot be started.
	// Example: `--envoy-path /no/such/file`.
	CodeEnvoyChild Code = "MESH0644"
	// CodeServerUnreachable is a server that does not answer.
	// Example: `--server 127.0.0.1:1` while the first certificate is missing.
	CodeServerUnreachable Code = "MESH0645"
	// CodeRedirect is a pod whose traffic does not go, or cannot be made to go, through its sidecar.
	// Example: `meshc-agent redirect` without the capability NET_ADMIN.
	CodeRedirect Code = "MESH0648"
)
