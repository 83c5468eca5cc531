package cli

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"meshc.dev/meshc/internal/canon"
)

// maxCached is how many evaluated packages the folder keeps.
const maxCached = 4096

// dirCache keeps evaluated packages in a folder, oldest out. What goes wrong is a
// miss: a cache may cost time, never correctness.
type dirCache struct{ dir string }

func (c dirCache) file(key string) string { return filepath.Join(c.dir, canon.Digest([]byte(key))) }

// Get returns what Put stored. The compiler checks the content itself.
func (c dirCache) Get(key string) ([]byte, bool) {
	b, err := os.ReadFile(c.file(key))
	return b, err == nil
}

// Put writes by rename, so that no reader ever sees half an entry.
func (c dirCache) Put(key string, b []byte) {
	if os.MkdirAll(c.dir, 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(c.dir, ".tmp-")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(b)
	if cerr := tmp.Close(); werr == nil && cerr == nil && os.Rename(tmp.Name(), c.file(key)) == nil {
		c.trim()
	}
}

// trim drops the oldest tenth once there are too many.
func (c dirCache) trim() {
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) <= maxCached {
		return
	}
	age := func(e os.DirEntry) int64 {
		if i, err := e.Info(); err == nil {
			return i.ModTime().UnixNano()
		}
		return 0
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return cmp.Compare(age(a), age(b)) })
	for _, e := range entries[:len(entries)-maxCached+maxCached/10] {
		_ = os.Remove(filepath.Join(c.dir, e.Name()))
	}
}
