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
	// Example: `meshc status --state DIR` where no server runs.
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
	// CodeStateInTree is a server's state folder in a Git work tree, where its keys would be
	// committed and the intent would no longer compile.
	// Example: `meshc serve --repo . --state state` in a repository of intent.
	CodeStateInTree Code = "MESH0637"
	// CodePeer is another server with which evidence is not exchanged; until it is, each
	// decides from what it knows.
	// Example: `--peer` with the address of a server of another authority.
	CodePeer Code = "MESH0608"
	// CodeKubeconfig is that there is no way to a Kubernetes API server.
	// Example: `meshc serve --kubeconfig nowhere`.
	CodeKubeconfig Code = "MESH0614"
	// CodeKubernetesAway is a Kubernetes API server that does not answer; what it said
	// last stays in use.
	// Example: an API server that is restarted while `meshc serve --in-cluster` runs.
	CodeKubernetesAway Code = "MESH0615"
	// CodeKubernetesRights is a Kubernetes API server that does not let the server do what
	// it has to.
	// Example: `meshc serve --in-cluster` with an account that may not watch EndpointSlices.
	CodeKubernetesRights Code = "MESH0616"
	// CodeKubernetesOld is a Kubernetes API server that is too old, or something that is none.
	// Example: `meshc serve --in-cluster` in a cluster of Kubernetes 1.29.
	CodeKubernetesOld Code = "MESH0617"
	// CodeServiceMissing is a service of the release of which the cluster has no
	// EndpointSlice; addresses that were found before stay.
	// Example: `mesh: service: web: {…}` without a Service of that name in the namespace.
	CodeServiceMissing Code = "MESH0618"
	// CodeEndpointUnfit is a pod behind a service that is not served because it is not
	// clear what it is.
	// Example: a pod without the label `version`, behind a service with versions v1 and v2.
	CodeEndpointUnfit Code = "MESH0619"
	// CodeSliceByHand is an EndpointSlice of a service that no controller of Kubernetes
	// wrote. Its endpoints count if they are pods of the service.
	// Example: `kubectl apply` of an EndpointSlice with the label `kubernetes.io/service-name: web`.
	CodeSliceByHand Code = "MESH0610"
	// CodeNotDiscovered is a service whose addresses are to be discovered by its name, on a
	// server that looks for them nowhere.
	// Example: a service without `endpoints` under `meshc serve` without `--in-cluster`.
	CodeNotDiscovered Code = "MESH0609"
)
