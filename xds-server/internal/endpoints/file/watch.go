package file

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

const (
	// quiet is how long nothing must happen before files are read: whoever writes a
	// file in parts is not read in between. latest bounds the wait.
	quiet  = 3 * time.Millisecond
	latest = 20 * time.Millisecond
	// blind is how often a folder is looked at that the system does not watch for us.
	blind = time.Second
)

// Watch reads the folder, and again whatever the system says has changed in it, until
// ctx ends; it returns nil then. poll is how often it is looked at all the same: some
// file systems tell nothing. It is at most a second while the system cannot watch the
// folder (it does not exist, or there are no watches left). A folder that does not
// exist is empty.
func Watch(ctx context.Context, dir string, poll time.Duration, sink endpoints.Sink) error {
	w := newWatcher(dir)
	e := newEvents(dir)
	defer e.close()
	tell := func(changes []endpoints.Change, problems []endpoints.Problem) {
		if len(changes)+len(problems) > 0 {
			sink(changes, problems)
		}
	}
	for {
		// First the watch, then the look: what changes in between is told.
		every := poll
		if !e.watch() {
			every = min(poll, blind)
		}
		tell(w.look())
		for again := time.After(every); ; {
			names, whole, ok := e.next(ctx, again)
			if !ok {
				return nil
			}
			if whole {
				break
			}
			tell(w.lookAt(names))
		}
	}
}

// events is what the system tells of a folder.
type events struct {
	dir string
	// from is nil if the system gives no watcher.
	from *fsnotify.Watcher
	// inode is the folder that is watched.
	inode fs.FileInfo
	// linked are folders in which linked files lie.
	linked map[string]bool
}

func newEvents(dir string) *events { return &events{dir: filepath.Clean(dir)} }

func (e *events) close() {
	if e.from != nil {
		_ = e.from.Close() // nothing was written
	}
}

// watch sees to it that the folder is watched, and what its links lead to. It
// reports whether it is.
func (e *events) watch() bool {
	if e.from == nil {
		from, err := fsnotify.NewWatcher()
		if err != nil {
			return false
		}
		e.from, e.linked = from, map[string]bool{}
		// The folder's own name: it may come, go, or be another folder.
		_ = e.from.Add(filepath.Dir(e.dir)) // without it the poll finds that
	}
	info, err := os.Stat(e.dir)
	if err != nil {
		e.inode = nil
		return false
	}
	if e.inode == nil || !os.SameFile(e.inode, info) {
		_ = e.from.Remove(e.dir) // if it was another folder of that name
		if err := e.from.Add(e.dir); err != nil {
			e.inode = nil
			return false
		}
		e.inode = info
	}
	return e.watchLinks()
}

// watchLinks watches the folders of files that the folder links to.
func (e *events) watchLinks() bool {
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		return false
	}
	linked := map[string]bool{}
	for _, entry := range entries {
		if _, ok := entryKey(entry.Name()); !ok || entry.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if target, err := filepath.EvalSymlinks(filepath.Join(e.dir, entry.Name())); err == nil && filepath.Dir(target) != e.dir {
			linked[filepath.Dir(target)] = true
		}
	}
	for d := range e.linked {
		if !linked[d] {
			_ = e.from.Remove(d) // it may be gone already
		}
	}
	all := true
	for d := range linked {
		if !e.linked[d] && e.from.Add(d) != nil {
			all = false
			delete(linked, d)
		}
	}
	e.linked = linked
	return all
}

// next waits for changes and collects them until it is quiet. whole means that the
// folder is to be looked at as a whole; ok is false at the end of ctx.
func (e *events) next(ctx context.Context, again <-chan time.Time) (names []string, whole, ok bool) {
	var told <-chan fsnotify.Event
	var failed <-chan error
	if e.from != nil {
		told, failed = e.from.Events, e.from.Errors
	}
	var calm, end <-chan time.Time // nil until something has happened
	seen := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil, false, false
		case <-again:
			return nil, true, true
		case err := <-failed: // such as events that were lost
			return nil, err != nil, true
		case ev := <-told:
			name, all, ours := e.place(ev)
			if !ours {
				continue
			}
			if name != "" && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
			whole = whole || all
			calm = time.After(quiet)
			if end == nil {
				end = time.After(latest)
			}
		case <-calm:
			return names, whole, true
		case <-end:
			return names, whole, true
		}
	}
}

// place says what an event is about: an endpoint file in the folder, something that
// concerns all of it, or nothing of ours.
func (e *events) place(ev fsnotify.Event) (name string, whole, ours bool) {
	switch dir, base := filepath.Split(ev.Name); {
	case ev.Name == e.dir:
		return "", true, true
	case e.linked[filepath.Clean(dir)]:
		return "", true, true
	case filepath.Clean(dir) != e.dir:
		return "", false, false // beside the folder
	default:
		if _, ok := entryKey(base); ok {
			info, err := os.Lstat(ev.Name)
			return base, err != nil || info.Mode()&fs.ModeSymlink != 0, true
		}
		// A link or a folder over which endpoint files may lead, such as the ..data of a
		// mounted volume.
		info, err := os.Lstat(ev.Name)
		relevant := err == nil && (info.IsDir() || info.Mode()&fs.ModeSymlink != 0)
		return "", relevant, relevant
	}
}
