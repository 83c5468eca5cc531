// Package feature holds the row of the matrix: what the user may write, what it
// means, and how each target says it.
//
// In: the column types of the packages that consume them. Out: Feature, which a
// package below fills once per feature. A row is data; nothing registers itself.
package feature

import (
	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Feature is one row. Every field must be set (a linter asks for it); a target
// that cannot say the feature uses Refuse with the reason, and one that needs not say
// anything uses Nothing.
type Feature struct {
	resolve.Rule
	// Codec reads the value from mesh.json.
	Codec trait.Codec
	// Meaning is what the value does to a request at the stations of its way, as data.
	Meaning eval.Effect
	// Change is how a change of it reads in a plan.
	Change plan.Word

	Envoy      envoy.Lowering
	Kubernetes kubernetes.Lowering
	GatewayAPI gatewayapi.Lowering
}
