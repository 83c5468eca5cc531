// Package examples holds the intent of the example meshes, as the demo uses it.
//
// In: nothing. Out: a read-only file system with <name>/intent below it.
package examples

import "embed"

// FS has the folder "bookinfo/intent".
//
//go:embed bookinfo/intent
var FS embed.FS
