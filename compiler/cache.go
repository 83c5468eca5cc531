package compiler

import (
	"meshc.dev/meshc/compiler/internal/intent"
)

// MemoryCache keeps evaluated packages ready in memory, in front of another cache
// (nil for none). max is the number of packages.
func MemoryCache(max int, below Cache) Cache { return intent.NewMemory(max, below) }

// Init writes a first repository of intent into dir: the CUE module with a copy
// of the schema for the user's own tools, a root package, an example service. A
// file that is there already stops it before anything is written.
func Init(dir, module string) ([]string, error) { return intent.Init(dir, module) }
