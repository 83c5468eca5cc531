// Package policies holds the Rego rules that meshc ships, as text.
//
// Out: FS with baseline/*.rego, every rule beside its tests, First, with which users begin,
// and the JSON schemas of the input that rules see. Rules of a package meshc.mesh.<name> are evaluated over
// the mesh by internal/guard, those of meshc.object.<name> over an object of a cluster;
// packages meshc.lib.<name> hold what they share. A file is added by writing it; there is no list.
package policies

import "embed"

// FS holds baseline/*.rego, the rules and their tests.
//
//go:embed baseline/*.rego
var FS embed.FS

// First holds first/{mesh,object}{,_test}.rego, a user's first rule of each kind with its
// tests. The package my_rule and the id my-rule stand for the user's own.
//
//go:embed first/*.rego
var First embed.FS

// Schema is the JSON schema of guard.Input. Rules are type-checked against it, so
// that a misspelt field is an error and not a rule that never fires.
//
//go:embed input.schema.json
var Schema []byte

// ObjectSchema is the JSON schema of guard.Object, for rules over objects.
//
//go:embed object.schema.json
var ObjectSchema []byte
