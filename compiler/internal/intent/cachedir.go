package intent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"meshc.dev/meshc/internal/durable"
)

// Dir is a Cache in a folder, one file per entry; keys are names of files. Several processes may share
// it: files appear by rename. It keeps at most MaxDirBytes; the oldest written go
// first. Every failure is a miss.
type Dir struct {
	path    string
	written atomic.Int64 // since the last look at the folder's size; 0 before the first
}

// MaxDirBytes bounds the files of a Dir, MaxDirEntry one of them.
const (
	MaxDirBytes = 256 << 20
	MaxDirEntry = 64 << 20
)

// NewDir makes a cache in the folder at path, which is created at the first Put.
func NewDir(path string) *Dir { return &Dir{path: path} }

const (
	entrySuffix = ".json"
	block       = 4 << 10          // what the smallest file takes on a disk
	trimEvery   = MaxDirBytes / 16 // bytes written between two looks at the folder's size
)

// Get reads an entry.
func (d *Dir) Get(key string) ([]byte, bool) {
	name := filepath.Join(d.path, key+entrySuffix)
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() || info.Size() > MaxDirEntry {
		return nil, false
	}
	b, err := os.ReadFile(name)
	return b, err == nil
}

// Put writes an entry.
func (d *Dir) Put(key string, b []byte) {
	if len(b) > MaxDirEntry {
		return
	}
	// A cache that cannot be written (a full disk, a read-only folder) costs
	// time and nothing else.
	if err := d.write(key, b); err != nil {
		return
	}
	size := onDisk(int64(len(b)))
	if now := d.written.Add(size); now == size || now > trimEvery {
		d.written.Store(1)
		_ = d.trim(MaxDirBytes)
	}
}

// onDisk is what a file of that many bytes takes.
func onDisk(bytes int64) int64 { return (bytes + block - 1) / block * block }

func (d *Dir) write(key string, b []byte) error {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return fmt.Errorf("making the cache folder %q: %w", d.path, err)
	}
	return durable.WriteCacheFile(filepath.Join(d.path, key+entrySuffix), b, 0o600)
}

// trim removes the oldest entries until at most limit bytes are left. Files that
// are not the cache's are left alone.
func (d *Dir) trim(limit int64) error {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("reading the cache folder %q: %w", d.path, err)
	}
	var infos []fs.FileInfo
	total := int64(0)
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), entrySuffix) && !durable.IsTemp(e.Name()) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			infos = append(infos, info)
			total += onDisk(info.Size())
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos {
		if total <= limit {
			return nil
		}
		if err := os.Remove(filepath.Join(d.path, info.Name())); err == nil {
			total -= onDisk(info.Size())
		}
	}
	return nil
}
