// Package schemas carries the CUE module of the intent language.
//
// In: nothing. Out: the files of the module meshc.dev/intent@v0 as they were
// when the binary was built, and their digest. The binary evaluates intent
// against these bytes only; a copy in a repository is for the user's own tools.
package schemas

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"sync"
)

// FS holds the module: *.cue and cue.mod/module.cue.
//
//go:embed *.cue cue.mod/module.cue
var FS embed.FS

// Module is the module's path without its major version: what users import.
const Module = "meshc.dev/intent"

// LanguageVersion is the version of the CUE language that intent is written in.
const LanguageVersion = "v0.17.0"

// File is one file of the schema's package.
type File struct {
	Name string // without folder
	Text []byte // read only
}

// Files returns the files of the schema's package, sorted by name. Read only.
var Files = sync.OnceValue(func() []File {
	names, err := fs.Glob(FS, "*.cue")
	if err != nil {
		panic(fmt.Sprintf("schemas: embedded files: %v", err))
	}
	out := make([]File, 0, len(names))
	for _, name := range names {
		text, err := FS.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("schemas: embedded files: %v", err))
		}
		out = append(out, File{Name: name, Text: text})
	}
	return out
})

// Digest is the SHA-256 of the schema's package in hexadecimal. Two binaries
// with the same digest accept the same intent.
var Digest = sync.OnceValue(func() string {
	var b strings.Builder
	for _, f := range Files() {
		fmt.Fprintf(&b, "%s %d\n%s", f.Name, len(f.Text), f.Text)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
})
