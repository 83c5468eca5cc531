package durable

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// WriteDir puts a folder with these files (slash-separated relative paths) at dir,
// in place of what is there, and makes the folders above it. perm is that of the
// files; who may read a file may enter its folder. On systems that cannot exchange
// two names at once (others than Linux and macOS) there is a moment in which dir
// does not exist.
func WriteDir(dir string, files map[string][]byte, perm fs.FileMode) error {
	dirPerm := perm | perm&0o444>>2
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, dirPerm); err != nil {
		return failed(dir, err)
	}
	tmp, err := os.MkdirTemp(parent, tempPrefix)
	if err != nil {
		return failed(dir, err)
	}
	defer os.RemoveAll(tmp) // after the rename it is the old content, if anything
	if err := fill(tmp, files, perm, dirPerm); err != nil {
		return failed(dir, err)
	}
	if err := swap(tmp, dir); err != nil {
		return failed(dir, err)
	}
	return SyncDir(parent)
}

// fill writes files into an empty folder and syncs everything, files before the
// folders that name them.
func fill(tmp string, files map[string][]byte, perm, dirPerm fs.FileMode) error {
	folders := map[string]bool{tmp: true}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		name := filepath.Join(tmp, filepath.FromSlash(p))
		for d := filepath.Dir(name); !folders[d]; d = filepath.Dir(d) {
			folders[d] = true
		}
		if err := os.MkdirAll(filepath.Dir(name), dirPerm); err != nil {
			return err
		}
		if err := writeSynced(name, files[p], perm); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(slices.Sorted(maps.Keys(folders))) {
		if err := SyncDir(d); err != nil {
			return err
		}
	}
	return os.Chmod(tmp, dirPerm)
}

func writeSynced(name string, b []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, werr := f.Write(b)
	serr := f.Sync()
	return errors.Join(werr, serr, f.Close())
}

// swap puts tmp in the place of dir, if possible so that tmp is the old folder then.
func swap(tmp, dir string) error {
	if _, err := os.Lstat(dir); err == nil && exchange(tmp, dir) == nil {
		return nil
	}
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return errors.Join(err, putBack(old, dir))
	}
	return os.RemoveAll(old)
}

func putBack(old, dir string) error {
	if err := os.Rename(old, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
