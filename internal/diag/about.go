package diag

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"sync"
)

// Entry is what the reference says of a code.
type Entry struct {
	Code    Code   `json:"code"`
	When    string `json:"when"`    // what it is told of: a sentence's end, as "a file that could not be read."
	Example string `json:"example"` // what brings it about
}

//go:embed codes.json
var codesFile []byte // written by the tests from the comments in codes_*.go

//nolint:gochecknoglobals // read once from the program, and never changed
var entries = sync.OnceValue(func() map[Code]Entry {
	var all []Entry
	if err := json.Unmarshal(codesFile, &all); err != nil {
		panic("diag: codes.json: " + err.Error()) // it is part of the program
	}
	out := make(map[Code]Entry, len(all))
	for _, e := range all {
		out[e.Code] = e
	}
	return out
})

// Entries are the reference's, by code.
func Entries() []Entry {
	all := entries()
	out := make([]Entry, 0, len(all))
	for _, c := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[c])
	}
	return out
}

// About is the reference's entry for a code, and whether there is one.
func About(c Code) (Entry, bool) {
	e, ok := entries()[c]
	return e, ok
}
