package gitrepo

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names are the branches, the branches of remotes and the tags of the local repository at
// or above dir as people write them, such as main, origin/main, v1, sorted; tags whose name
// begins with one of without are left out. It is for shells that complete a word: what
// cannot be read gives no name. Errors as for Within.
func Names(dir string, without ...string) ([]string, error) {
	f, err := findRepository(dir)
	if err != nil {
		return nil, err
	}
	limits := Limits{}.orDefault()
	var out []string
	add := func(ref string) {
		for _, kind := range []string{"refs/heads/", "refs/remotes/", "refs/tags/"} {
			name, ok := strings.CutPrefix(ref, kind)
			if ok && len(out) < limits.Refs && revision.MatchString(name) && !slices.ContainsFunc(without, func(p string) bool { return strings.HasPrefix(name, p) }) {
				out = append(out, name)
			}
		}
	}
	files := os.DirFS(f.common)
	for _, kind := range []string{"refs/heads", "refs/remotes", "refs/tags"} {
		_ = fs.WalkDir(files, kind, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				add(filepath.ToSlash(path))
			}
			return nil // what cannot be read is no name
		})
	}
	_ = f.packedRefs(context.Background(), limits, func(name, _ string) error { add(name); return nil })
	slices.Sort(out)
	return slices.Compact(out), nil
}
