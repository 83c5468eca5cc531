package diag

// Codes of the installation in a cluster (0650 to 0659).
const (
	// CodeInstall is an object of the installation that the API server does not take.
	// Example: `meshc install --apply` by somebody who may not write ClusterRoles.
	CodeInstall Code = "MESH0650"
	// CodeNotInstalled is an installation whose pods are not ready in time.
	// Example: `meshc install --apply --timeout 10s` with an image that nobody can fetch.
	CodeNotInstalled Code = "MESH0651"
)
