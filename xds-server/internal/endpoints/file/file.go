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
	"context"
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

// watcher remembers what was read.
type watcher struct {
	dir  string
	seen map[endpoints.Key]stamp
	bad  map[endpoints.Key]bool
}

// Watch reads the folder and looks at it again each time that poll has passed,
// until ctx ends; it returns nil then. A folder that does not exist is empty.
func Watch(ctx context.Context, dir string, poll time.Duration, sink endpoints.Sink) error {
	w := &watcher{dir: dir, seen: map[endpoints.Key]stamp{}, bad: map[endpoints.Key]bool{}}
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		if changes, problems := w.look(); len(changes)+len(problems) > 0 {
			sink(changes, problems)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

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
		ext := filepath.Ext(e.Name())
		if ext != ".json" && ext != ".yaml" && ext != ".yml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		key, path := endpoints.Key{File: strings.TrimSuffix(e.Name(), ext)}, filepath.Join(w.dir, e.Name())
		if present[key] {
			problems = append(problems, endpoints.Problem{Key: key, Path: path, Err: errors.New("there is another file of that name with another ending")})
			continue
		}
		present[key] = true
		addrs, changed, err := w.read(key, path)
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

// read reads a file unless it looks the same as when it was read last.
func (w *watcher) read(key endpoints.Key, path string) (endpoints.Addresses, bool, error) {
	if !nameForm.MatchString(key.File) {
		return endpoints.Addresses{}, false, fmt.Errorf("%q is no name: small letters, digits and hyphens, at most 63", key.File)
	}
	info, err := os.Stat(path) // follows links: a mounted volume consists of them
	if err != nil {
		return endpoints.Addresses{}, false, err
	}
	now := stamp{path, info.ModTime(), info.Size()}
	old, ok := w.seen[key]
	if ok && old == now && !w.bad[key] && time.Since(now.mod) > settling {
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
	addrs, err := Parse(raw)
	if err != nil {
		return endpoints.Addresses{}, false, err
	}
	w.seen[key] = now
	return addrs, true, nil
}
