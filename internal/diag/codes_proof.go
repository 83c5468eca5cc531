package diag

// Codes of the proof and of rehearsals on a real Envoy (034x).
const (
	// CodeProofFrame is an Envoy that refuses even a configuration without any resource of the release.
	// Example: `meshc vet --envoy-path ./envoy` with a build from which the HTTP filters were left out.
	CodeProofFrame Code = "MESH0340"
	// CodeRehearsal is a request that a real Envoy answers in another way than the evaluator says: a mistake of the compiler.
	// Example: `meshc test --envoy` where a route condition was compiled to another one.
	CodeRehearsal Code = "MESH0341"
)
