package diag

// Codes of the xDS server (0600 to 0629).
const (
	// CodeEndpointFile is an endpoint file that cannot be used; the content that
	// was read before stays.
	// Example: `endpoints: ["10.0.0.1"]` in an endpoint file: the port is missing.
	CodeEndpointFile Code = "MESH0601"
	// CodeEndpointMissing is an endpoint file that the release names and that is
	// not in the endpoint folder.
	// Example: `endpoints: file: "reviews"` without a file reviews.yaml or reviews.json.
	CodeEndpointMissing Code = "MESH0602"
	// CodeEndpointName is a DNS name that does not resolve; the addresses that
	// were found before stay.
	// Example: `endpoints: dns: "db.invalid:5432"`.
	CodeEndpointName Code = "MESH0603"
	// CodeServerSocket is an admin socket that cannot be made.
	// Example: two servers with one state folder.
	CodeServerSocket Code = "MESH0604"
	// CodeServerListen is an address that the server cannot listen on.
	// Example: `--listen 127.0.0.1:1` where another process has the port.
	CodeServerListen Code = "MESH0605"
	// CodeServerDown is a server that does not answer on its admin socket.
	// Example: `meshc status --state-dir DIR` where no server runs.
	CodeServerDown Code = "MESH0606"
	// CodeNotServable is an approved release that this server cannot serve as a
	// whole; it serves what it served before.
	// Example: a release of trust domain "a.local" on a server of "b.local".
	CodeNotServable Code = "MESH0607"
	// CodeNoEndpoints is a part of a split that has a weight and no endpoint.
	// Example: `to: {v1: 50, v2: 50}` while no workload of v2 runs.
	CodeNoEndpoints Code = "MESH0613"
	// CodeEvidenceDamaged is a file of what proxies confirmed and refused that cannot
	// be read as a whole; what can be read counts.
	// Example: a flipped byte in `evidence` in the server's state folder.
	CodeEvidenceDamaged Code = "MESH0611"
	// CodeEvidenceNotStored is that what proxies confirm and refuse cannot be written
	// to the state folder; a restart would forget it.
	// Example: a full disk under the server's state folder.
	CodeEvidenceNotStored Code = "MESH0612"
	// CodePeer is another server with which evidence is not exchanged; until it is, each
	// decides from what it knows.
	// Example: `--peer` with the address of a server that has another `roots.json`.
	CodePeer Code = "MESH0608"
)
