// Package durable writes files and folders as a whole.
//
// In: a path and its new content. Out: the content at that path. A reader sees the
// old or the new content, never a part of it, at any moment and after any crash;
// what a function has returned for without an error survives a crash, unless the
// function says otherwise. What a crash leaves behind has a name of IsTemp beside
// the path and means nothing.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tempPrefix begins the names of what is not complete yet.
const tempPrefix = ".tmp-"

// IsTemp tells whether the name of a directory entry is one that an unfinished
// write has. Only who knows that nobody writes may remove it.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// WriteFile puts data at path, in place of what is there.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	if err := place(path, data, perm, true, os.Rename); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile puts data at path; it is fs.ErrExist if something is there.
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	if err := place(path, data, perm, true, os.Link); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// WriteCacheFile is WriteFile that does not wait for the disk: after a crash of the
// machine the file may be missing or hold anything. It is for what its reader can
// check and make again.
func WriteCacheFile(path string, data []byte, perm fs.FileMode) error {
	return place(path, data, perm, false, os.Rename)
}

// WriteFiles writes several files of one folder, each as WriteFile does, with one
// sync of the folder. After an error some of them may be there.
func WriteFiles(dir string, files map[string][]byte, perm fs.FileMode) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := place(filepath.Join(dir, name), files[name], perm, true, os.Rename); err != nil {
			return err
		}
	}
	return SyncDir(dir)
}

// place writes a file under another name and gives it its own with commit.
func place(path string, data []byte, perm fs.FileMode, sync bool, commit func(tmp, path string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*") // mode 0600 until it is complete
	if err != nil {
		return failed(path, err)
	}
	defer os.Remove(f.Name()) // after a rename there is nothing left to remove
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = commit(f.Name(), path)
	}
	if err != nil {
		return failed(path, err)
	}
	return nil
}

// failed says which write failed and why. It leaves out the passing names that the
// system's errors have: who tells a failure once compares its text.
func failed(path string, err error) error {
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &file):
		err = file.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("writing %q: %w", path, err)
}

// Rename gives a file or folder another name, in place of a file that has it.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("renaming: %w", err)
	}
	if err := SyncDir(filepath.Dir(to)); err != nil || filepath.Dir(from) == filepath.Dir(to) {
		return err
	}
	return SyncDir(filepath.Dir(from))
}

// SyncDir waits until the names in a folder are on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	return nil
}
