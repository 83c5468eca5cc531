// Package examples holds the intent of the example meshes, as the demo uses it.
//
// In: nothing. Out: a read-only file system with <name>/intent below
// it, and what Flux is told.
package examples

import "embed"

// FS has the folders "bookinfo/intent" and "flux".
//
//go:embed bookinfo/intent flux
var FS embed.FS
