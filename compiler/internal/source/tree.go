// Package source reads the files of a repository that make up its intent.
//
// In: any fs.FS whose root is the repository's top folder. Out: a Tree of paths
// and bytes with a digest, or problems. A Tree holds no links, no names that
// another file system would read differently, and nothing above the limits; it
// is built once and then only read.
package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// ModuleFile is the path of the file that names the repository's CUE module.
const ModuleFile = "cue.mod/module.cue"

// VendorDir is where a repository keeps its copy of the schema for the user's
// own tools. The copy is not part of the intent.
const VendorDir = "cue.mod/pkg/meshc.dev/intent"

// KustomizeFolder is where files of kustomize's are.
const KustomizeFolder = "kustomize"

// Tree is the part of a repository that is compiled. Read only.
type Tree struct {
	// Files maps a path with slashes, relative to the top folder, to the
	// file's bytes: *.cue outside cue.mod, cue.mod/module.cue, policies/**.rego,
	// kustomize's files (KustomizeFolder), there and below an environment's folder, and
	// whatever other file of at most MaxFile intent writes the path of, from any folder above it.
	Files map[string][]byte
	// Vendored maps file names in VendorDir to bytes. Not in the digest.
	Vendored map[string][]byte
}

// Paths returns the paths of all files, sorted.
func (t Tree) Paths() []string { return slices.Sorted(maps.Keys(t.Files)) }

// Digest is the SHA-256 of all paths and bytes in hexadecimal, whatever the
// order in which the files were read.
func (t Tree) Digest() string {
	h := sha256.New()
	for _, p := range t.Paths() {
		fmt.Fprintf(h, "%d %s %d\n", len(p), p, len(t.Files[p]))
		h.Write(t.Files[p])
	}
	return hex.EncodeToString(h.Sum(nil))
}
