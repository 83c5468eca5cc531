package durable

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// WriteDir puts a folder with these files (slash-separated relative paths) at dir,
// in place of what is there, and makes the folders above it. perm is that of the
// files; who may read a file may enter its folder. On systems that cannot exchange
// two names at once (others than Linux and macOS) there is a moment in which dir
// does not exist. What an earlier call for dir left behind because its process was killed
// is removed.
func WriteDir(dir string, files map[string][]byte, perm fs.FileMode) error {
	dirPerm := perm | perm&0o444>>2
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, dirPerm); err != nil {
		return failed(dir, err)
	}
	prefix := tempPrefix + filepath.Base(dir) + "-"
	sweep(parent, prefix)
	tmp, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return failed(dir, err)
	}
	defer os.RemoveAll(tmp)                    // after the rename it is the old content, if anything
	if release, err := hold(tmp); err == nil { // where folders cannot be locked, none is swept
		defer release()
	}
	if err := fill(tmp, files, perm, dirPerm); err != nil {
		return failed(dir, err)
	}
	if err := swap(tmp, dir); err != nil {
		return failed(dir, err)
	}
	return SyncDir(parent)
}

// young is how long a folder that is being made may be without its lock.
const young = time.Minute

// sweep removes folders that nobody fills any more. What cannot be removed stays: it is in
// nobody's way.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := filepath.Join(parent, e.Name())
		st, err := e.Info()
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || time.Since(st.ModTime()) < young {
			continue
		}
		if release, err := hold(name); err == nil {
			_ = os.RemoveAll(name)
			release()
		}
	}
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

// hold locks a folder until release is called or this process ends, however it does. It is
// an error if another one holds it.
func hold(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
