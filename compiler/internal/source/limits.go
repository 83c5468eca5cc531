package source

// Limits of a tree. Intent is written by people: what is larger is a mistake or
// an attack.
const (
	MaxFile    = 1 << 20  // bytes of one file
	MaxFiles   = 10_000   // files that matter
	MaxTotal   = 64 << 20 // bytes of all files that matter
	MaxEntries = 500_000  // folder entries looked at
	MaxPath    = 512      // bytes of a path
	MaxDepth   = 32       // folders in a path
)
