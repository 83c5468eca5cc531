// Package feature holds the rows of the matrix: what the user may write, what it
// means, and how each target says it.
//
// In: the column types of the packages that consume them. Out: Feature, which a
// package below fills once per feature, Condition, for the words by which a route says what it
// takes, and Structure, for the parts of a mesh that are neither. A row is data; nothing
// registers itself.
package feature

import (
	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/coverage"
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

// Condition is the row of a word of a route's match. Every field must be set, so that each target
// answers for it.
type Condition struct {
	resolve.Word
	// Dims are the dimensions, or families, on which its tests are and those of no other row; none
	// if it says what other rows say, too. The first one's word is the row's. Targets have cells for them.
	Dims []string
	// Examples are what `match` may hold of it, each by a name, for the documentation.
	Examples []Example

	Envoy      envoy.Condition
	GatewayAPI gatewayapi.Condition
}

// Example is a way to write a condition.
type Example struct {
	Name, Match string
	// Mesh is a package's text with it, where a route beside others does not do.
	Mesh string
}

// Structure is the row of a part of the language that is no value on an object. Every field
// must be set, so that each target answers for each part.
type Structure struct {
	// Name is the word that a user writes for it, or would.
	Name string
	// What it is, for the documentation: a sentence.
	What string
	// Example uses it. It is added to a service "cart" with versions v1 and v2 beside a service
	// "web", or, if it begins with "mesh:", to their package; what the root package alone says, there.
	Example string
	// Lost is what it means for whoever a target serves that the target says it no more.
	Lost plan.Class
	// Uses are the places of a mesh where it is used.
	Uses func(*model.Mesh) []coverage.Use

	Envoy      coverage.Answer
	Kubernetes coverage.Answer
	GatewayAPI coverage.Answer
}
