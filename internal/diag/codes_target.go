package diag

// Codes of the targets (03xx): what a target cannot say, or says with a loss.
const (
	// CodeUnsupported is a feature that a target cannot express, so that compiling
	// for that target would drop it.
	// Example: a gateway route with `fault` compiled for the target "gateway-api".
	CodeUnsupported Code = "MESH0301"
	// CodeLowering is a feature value that a target's own rules refuse.
	// Example: `timeout: "1.5ms"` compiled for the target "gateway-api", which counts whole milliseconds.
	CodeLowering Code = "MESH0302"
	// CodeSharedAddress is an address at which one proxy would have to answer for two
	// applications that it cannot tell apart.
	// Example: services a and b with the same `serviceAccount`, both on port 8080, with `capture: "transparent"`.
	CodeSharedAddress Code = "MESH0303"
	// CodeSharedPort is a port number for which a caller's proxy cannot tell the called services apart.
	// Example: `calls: {db: {}, cache: {}}` with both on TCP port 6379 and `capture: "transparent"`.
	CodeSharedPort Code = "MESH0304"
	// CodeSplit is a route over several services that no single weighted route can express.
	// Example: `to: {a: 50, b: 50}` where the routes of a and b have different timeouts.
	CodeSplit Code = "MESH0305"
	// CodeMatch is a condition that a target's matchers cannot express.
	// Example: `match: not: headers: "x-tag": exact: ""`.
	CodeMatch Code = "MESH0306"
	// CodeNoAnswer is a route that sends requests nowhere and has no feature that answers them. The
	// linker tells it first (MESH0206).
	// Example: a feature that claims to answer and does not.
	CodeNoAnswer Code = "MESH0307"
	// CodeAddress is an address that a target cannot use. The linker tells most of them first (MESH0211).
	// Example: a mesh.json made by another program with a name where an IP address is needed.
	CodeAddress Code = "MESH0308"
	// CodeApproximate is a feature that a target expresses with a loss (a warning).
	// Example: a path template compiled for the target "gateway-api", where it becomes a regular expression.
	CodeApproximate Code = "MESH0310"
	// CodeOrder is a pair of routes that a target would try in another order than the mesh.
	// Example: a route with two headers before one with an exact path, compiled for the target "gateway-api".
	CodeOrder Code = "MESH0311"
	// CodeKubernetesName is a name that Kubernetes does not take, or that is the cluster's own.
	// Example: `mesh: namespace: "kube-system"` with the target "kubernetes".
	CodeKubernetesName Code = "MESH0312"
	// CodeKustomization is something in a kustomization that is not taken: a misspelt word, a word
	// that reaches outside of the repository, a path that leads out of the folder.
	// Example: `resources: ["https://example.com/base"]` in kustomize/kustomization.yaml.
	CodeKustomization Code = "MESH0313"
	// CodeKustomizeFile is a file of kustomize's that cannot be read, or that some programs would
	// read otherwise.
	// Example: a patch with one key twice.
	CodeKustomizeFile Code = "MESH0314"
	// CodePatchTarget is a patch that finds nothing, or does not fit what it finds.
	// Example: a patch of `kind: Service` with `name: review`, where the service is called reviews.
	CodePatchTarget Code = "MESH0315"
	// CodePatchConflict is two patches of one kustomization that want the same field otherwise.
	// Example: one patch with `type: NodePort` and one with `type: LoadBalancer` for one Service.
	CodePatchConflict Code = "MESH0316"
	// CodePatchedAway is a patch that changes or deletes what the intent says.
	// Example: a patch that changes the selector of a Service that meshc makes.
	CodePatchedAway Code = "MESH0317"
	// CodeKustomize is a render that kustomize gave up.
	// Example: `labels` whose `pairs` are no texts.
	CodeKustomize Code = "MESH0318"
	// CodeAddresses is a TCP destination that a proxy cannot hold to what was dialled, or cannot
	// choose the instances of, because intent does not say which addresses stand for it.
	// Example: an external with `protocol: "tcp"` and `endpoints: dns`, with `capture: "transparent"`.
	CodeAddresses Code = "MESH0319"
	// CodeLoss is a loss that cannot be accepted: nothing has that name, the target says it, or
	// the target is envoy.
	// Example: `targets: "gateway-api": without: grants: {owner: "platform", reason: "the cluster's mesh decides"}`, where the name is grant.
	CodeLoss Code = "MESH0350"
	// CodeLossUnused is a loss that is accepted and that nothing in the mesh would have (a warning).
	// Example: `without: fault: {…}` for the target "gateway-api", where no route has a fault.
	CodeLossUnused Code = "MESH0351"
	// CodeInconsistent is compiled output that contradicts itself: a mistake of the compiler, not of the intent.
	// Example: a feature whose route names a cluster that the proxy does not get.
	CodeInconsistent Code = "MESH0390"
)
