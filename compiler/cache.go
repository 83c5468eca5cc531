package compiler

import (
	"meshc.dev/meshc/compiler/internal/intent"
)

// MemoryCache keeps evaluated packages ready in memory, in front of another cache
// (nil for none). max is the number of packages.
func MemoryCache(max int, below Cache) Cache { return intent.NewMemory(max, below) }

// DirCache keeps entries in a folder, which is made when first written to, the
// oldest out. Several processes may share it. Keys are hex digests. What goes
// wrong with it is a miss: it costs time, never correctness.
func DirCache(dir string) Cache { return intent.NewDir(dir) }

// Init writes a first repository of intent into dir: the CUE module with a copy
// of the schema for the user's own tools, a root package, an example service. A
// file that is there already stops it before anything is written.
func Init(dir, module string) ([]string, error) { return intent.Init(dir, module) }

// WriteNew writes files of intent into dir, which is created if need be, by their paths with
// slashes, and returns these. A file that is there already stops it before anything is written.
func WriteNew(dir string, files map[string][]byte) ([]string, error) {
	return intent.WriteNew(dir, files)
}
