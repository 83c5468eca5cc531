// Package file reads live endpoints from a folder, one file per name.
//
// In: files NAME.json, NAME.yaml or NAME.yml. Out: their addresses, and what is
// wrong with them. A file that cannot be used keeps the addresses that it had,
// and so does one that disappears; a list that is empty on purpose says so.
//
//	endpoints:
//	  - 10.0.0.1:8080
//	  - {address: "10.0.0.2:8080", health: draining, weight: 2, priority: 1, zone: a}
package file

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// maxBytes is the largest file that is read.
const maxBytes = 4 << 20

// settling is how long after its last change a file is read again although it
// looks the same: the clock of a file system is coarse.
const settling = 2 * time.Second

// nameForm is what a name may look like, as in the intent.
var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// folder stands for the folder itself where it cannot be read.
const folder = "*"

// stamp tells whether a file has changed.
type stamp struct {
	path string
	mod  time.Time
	size int64
}

// content is what was read last of a file.
type content struct {
	stamp
	sum [sha256.Size]byte
}

// watcher remembers what was read.
type watcher struct {
	dir  string
	seen map[endpoints.Key]content
	bad  map[endpoints.Key]bool
}

func newWatcher(dir string) *watcher {
	return &watcher{dir: dir, seen: map[endpoints.Key]content{}, bad: map[endpoints.Key]bool{}}
}

// entryKey is the key of a directory entry; false if it is no endpoint file.
func entryKey(name string) (endpoints.Key, bool) {
	ext := filepath.Ext(name)
	if ext != ".json" && ext != ".yaml" && ext != ".yml" || strings.HasPrefix(name, ".") {
		return endpoints.Key{}, false
	}
	return endpoints.Key{File: strings.TrimSuffix(name, ext)}, true
}

// lookAt looks at the files with these names, and at the whole folder if one of
// them has come, gone, or was bad: then it concerns others too.
func (w *watcher) lookAt(names []string) (changes []endpoints.Change, problems []endpoints.Problem) {
	for _, name := range names {
		key, ok := entryKey(name)
		if !ok {
			continue
		}
		path := filepath.Join(w.dir, name)
		if old, known := w.seen[key]; !known || old.path != path || w.bad[key] {
			return w.look()
		}
		addrs, changed, err := w.read(key, path, true)
		switch {
		case err != nil:
			return w.look()
		case changed:
			changes = append(changes, endpoints.Change{Key: key, Addresses: addrs})
		}
	}
	return changes, nil
}

// look looks at the whole folder.
func (w *watcher) look() (changes []endpoints.Change, problems []endpoints.Problem) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		whole := endpoints.Key{File: folder}
		w.bad[whole] = true
		return nil, []endpoints.Problem{{Key: whole, Path: w.dir, Err: err}}
	}
	present := map[endpoints.Key]bool{}
	for _, e := range entries {
		key, ok := entryKey(e.Name())
		if !ok {
			continue
		}
		path := filepath.Join(w.dir, e.Name())
		if present[key] {
			problems = append(problems, endpoints.Problem{Key: key, Path: path, Err: errors.New("there is another file of that name with another ending")})
			continue
		}
		present[key] = true
		addrs, changed, err := w.read(key, path, false)
		switch {
		case err != nil:
			w.bad[key] = true
			problems = append(problems, endpoints.Problem{Key: key, Path: path, Err: err})
		case changed:
			delete(w.bad, key)
			changes = append(changes, endpoints.Change{Key: key, Addresses: addrs})
		}
	}
	for _, known := range []iter.Seq[endpoints.Key]{maps.Keys(w.seen), maps.Keys(w.bad)} {
		for key := range known {
			if !present[key] { // also what was never read: its problem is over
				delete(w.seen, key)
				delete(w.bad, key)
				changes = append(changes, endpoints.Change{Key: key, Gone: true})
			}
		}
	}
	return changes, problems
}

// read reads a file unless it looks the same as when it was read last and told is
// false, and parses it unless it has the same bytes.
func (w *watcher) read(key endpoints.Key, path string, told bool) (endpoints.Addresses, bool, error) {
	if !nameForm.MatchString(key.File) {
		return endpoints.Addresses{}, false, fmt.Errorf("%q is no name: small letters, digits and hyphens, at most 63", key.File)
	}
	info, err := os.Stat(path) // follows links: a mounted volume consists of them
	if err != nil {
		return endpoints.Addresses{}, false, err
	}
	now := stamp{path, info.ModTime(), info.Size()}
	old, ok := w.seen[key]
	ok = ok && !w.bad[key]
	if ok && !told && old.stamp == now && time.Since(now.mod) > settling {
		return endpoints.Addresses{}, false, nil
	}
	if !info.Mode().IsRegular() {
		return endpoints.Addresses{}, false, errors.New("not a regular file")
	}
	if info.Size() > maxBytes {
		return endpoints.Addresses{}, false, fmt.Errorf("%d bytes, at most %d", info.Size(), maxBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return endpoints.Addresses{}, false, err
	}
	sum := sha256.Sum256(raw)
	if ok && old.sum == sum {
		w.seen[key] = content{now, sum}
		return endpoints.Addresses{}, false, nil
	}
	addrs, err := Parse(raw)
	if err != nil {
		return endpoints.Addresses{}, false, err
	}
	w.seen[key] = content{now, sum}
	return addrs, true, nil
}
