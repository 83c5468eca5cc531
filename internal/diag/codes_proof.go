package diag

// Codes of the proof and of rehearsals on a real Envoy (034x).
const (
	// CodeProofFrame is an Envoy that refuses even a configuration without any resource of the release.
	// Example: `meshc vet --envoy-path ./envoy` with a build from which the HTTP filters were left out.
	CodeProofFrame Code = "MESH0340"
	// CodeRehearsal is a request that a real Envoy answers in another way than the evaluator says: a mistake of the compiler.
	// Example: `meshc test --envoy` where a route condition was compiled to another one.
	CodeRehearsal Code = "MESH0341"
	// CodeTestFailed is a request of a test block that the intent treats in another way than the block expects.
	// Example: `expect: status: 200` for a request that no grant lets through.
	CodeTestFailed Code = "MESH0342"
	// CodeNoTest is intent without a test block, put to `meshc test`: nothing was tried.
	// Example: `meshc test` in a mesh whose packages have no `test`.
	CodeNoTest Code = "MESH0343"
	// CodeUntested is a route or a grant that no test reaches (a note of `meshc vet --coverage`): whoever breaks it is not told.
	// Example: `meshc vet --coverage` where a service has a grant by which no `test` gets through.
	CodeUntested Code = "MESH0344"
)
