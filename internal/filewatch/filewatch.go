// Package filewatch tells when files below folders have changed.
//
// In: folders. Out: for each burst of changes, which files they were about, sorted.
//
// What always holds: a change after Open returned is told, in a folder that was made since
// as well; a burst is told as one, when it has come to rest; what Git keeps for itself
// (".git") is left out.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// An editor writes a file in several steps, and a checkout many files: a burst has ended
// when nothing happened for rest, and is told after most even if it goes on.
const (
	rest = 15 * time.Millisecond
	most = time.Second
)

// Watcher watches folders. Close ends it.
type Watcher struct{ w *fsnotify.Watcher }

// Open begins to watch the folders and all below them. It fails where the system has no
// more watches to give (on Linux fs.inotify.max_user_watches).
func Open(dirs ...string) (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	out := &Watcher{w}
	for _, dir := range dirs {
		if _, err := out.add(dir); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return out, nil
}

// Close ends the watch.
func (w *Watcher) Close() error { return w.w.Close() }

// add watches a folder with all below it, and gives the files that are there. What is gone
// meanwhile is no failure.
func (w *Watcher) add(top string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != top:
			return nil
		case err != nil:
			return err
		case e.Name() == ".git":
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !e.IsDir():
			files = append(files, path)
			return nil
		}
		if err := w.w.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watching %s: %w", path, err)
		}
		return nil
	})
	return files, err
}

// Next waits for a burst of changes to come to rest and names the files of it, sorted.
// Changes since Open, or since the call before, count. No names are told where there were
// more than the system kept. Errors: ctx's, and those of the system.
func (w *Watcher) Next(ctx context.Context) ([]string, error) {
	changed := map[string]bool{}
	var quiet, end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-w.w.Events:
			if !ok {
				return nil, errors.New("watching files: closed")
			}
			if err := w.note(e, changed); err != nil {
				return nil, err
			}
			if len(changed) == 0 {
				continue
			}
			if end == nil {
				end = time.After(most)
			}
			quiet = time.After(rest)
			continue
		case err := <-w.w.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) { // what was lost could be anything
				return nil, nil
			}
			return nil, fmt.Errorf("watching files: %w", err)
		case <-quiet:
		case <-end:
		}
		return slices.Sorted(maps.Keys(changed)), nil
	}
}

// note takes up what an event is about. A folder that is new is watched, and the files in
// it count: they may be older than the watch.
func (w *Watcher) note(e fsnotify.Event, changed map[string]bool) error {
	if e.Op == fsnotify.Chmod || filepath.Base(e.Name) == ".git" {
		return nil
	}
	if e.Has(fsnotify.Create) {
		if st, err := os.Lstat(e.Name); err == nil && st.IsDir() {
			files, err := w.add(e.Name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, f := range files {
				changed[f] = true
			}
		}
	}
	changed[e.Name] = true
	return nil
}
