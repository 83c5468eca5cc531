package compiler

import (
	"meshc.dev/meshc/compiler/internal/intent"
)

// MemoryCache keeps evaluated packages ready in memory, in front of another cache
// (nil for none). max is the number of packages.
func MemoryCache(max int, below Cache) Cache { return intent.NewMemory(max, below) }
