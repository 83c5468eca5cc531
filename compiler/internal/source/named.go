package source

import (
	"bytes"
	"path"
	"strings"
)

// named reads the files that intent may mean by a word `file` or `descriptors`. Which ones it does mean, only evaluation
// tells, and that may happen in another process, which gets no more than the tree: so each file is
// read whose path, from some folder above it, stands between quotes in intent that has the word.
// Intent is nothing but text here; a path that is put together of pieces is not seen.
func (r *reader) named() error {
	if len(r.others) == 0 {
		return nil
	}
	var bases map[string]bool // names that intent may write without the folders
	names := map[string]bool{}
	for p, text := range r.tree.Files {
		if path.Ext(p) != ".cue" || !bytes.Contains(text, []byte("file")) && !bytes.Contains(text, []byte("descriptors")) {
			continue
		}
		if bases == nil {
			bases = r.basesOfOthers()
		}
		quoted(text, func(name []byte) {
			if bases[string(name[bytes.LastIndexByte(name, '/')+1:])] {
				names[string(name)] = true
			}
		})
	}
	for _, p := range r.others { // in their order
		if !plainPath(p) || !endsIn(p, names) {
			continue
		}
		if err := r.want(wanted{path: p, key: p, into: r.tree.Files, named: true}); err != nil {
			return err
		}
	}
	return r.readWanted()
}

func (r *reader) basesOfOthers() map[string]bool {
	out := map[string]bool{}
	for _, p := range r.others {
		out[path.Base(p)] = true
	}
	return out
}

// endsIn reports whether one of the names is the path, from whatever folder above it.
func endsIn(p string, names map[string]bool) bool {
	for len(names) > 0 {
		if names[p] {
			return true
		}
		_, below, ok := strings.Cut(p, "/")
		if !ok {
			return false
		}
		p = below
	}
	return false
}

// quoted calls f with what stands between each quote of a line and the next one there. Which of them opens a
// text does not matter: what lies between two texts is no path.
func quoted(text []byte, f func([]byte)) {
	for line := range bytes.Lines(text) {
		from := bytes.IndexByte(line, '"')
		for from >= 0 {
			n := bytes.IndexByte(line[from+1:], '"')
			if n < 0 {
				break
			}
			if n > 0 {
				f(line[from+1 : from+1+n])
			}
			from += 1 + n
		}
	}
}
