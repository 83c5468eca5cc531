package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/durable"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func holds(t *testing.T, path, want string, perm fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	info, serr := os.Stat(path)
	if err != nil || serr != nil || string(b) != want || info.Mode().Perm() != perm {
		t.Errorf("%s: %q with %v, want %q with %v (%v)", path, b, info, want, perm, errors.Join(err, serr))
	}
}

func TestAFileIsReplacedOrCreated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, write := range []func(string, []byte, fs.FileMode) error{durable.WriteFile, durable.WriteCacheFile} {
		for _, text := range []string{"one", "", "three"} {
			if err := write(path, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
			holds(t, path, text, 0o640)
		}
	}
	if err := durable.CreateFile(path, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created over a file: %v", err)
	}
	holds(t, path, "three", 0o640)
	if err := durable.CreateFile(filepath.Join(dir, "g"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFiles(dir, map[string][]byte{"g": []byte("G"), "h": []byte("H")}, 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "g"), "G", 0o600)
	if err := durable.Rename(filepath.Join(dir, "g"), path); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "G", 0o600)
	if got := names(t, dir); !slices.Equal(got, []string{"f", "h"}) {
		t.Errorf("left: %v", got)
	}
}

func TestWhatCannotBeWrittenChangesNothing(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "folder")
	if err := durable.WriteDir(folder, map[string][]byte{"a": nil}, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a file over a folder":       durable.WriteFile(folder, []byte("x"), 0o600),
		"below a file":               durable.WriteFile(filepath.Join(folder, "a", "b"), nil, 0o600),
		"a folder below a file":      durable.WriteDir(filepath.Join(folder, "a", "b"), nil, 0o600),
		"a file below another file":  durable.WriteDir(filepath.Join(dir, "new"), map[string][]byte{"x": nil, "x/y": nil}, 0o600),
		"a file in a missing folder": durable.CreateFile(filepath.Join(dir, "no", "b"), nil, 0o600),
	} {
		if err == nil || strings.Contains(err.Error(), ".tmp-") {
			t.Errorf("%s: want an error without passing names, got %v", name, err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"folder"}) {
		t.Errorf("left: %v", got)
	}
}

func TestAFolderIsReplacedAsAWhole(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "deep", "d")
	for _, files := range []map[string][]byte{
		{"a": []byte("1"), "b/c/d": []byte("2")},
		{"a": []byte("3"), "e/f": nil},
		{},
	} {
		if err := durable.WriteDir(dir, files, 0o640); err != nil {
			t.Fatal(err)
		}
		got := map[string][]byte{}
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, _ := filepath.Rel(dir, p)
			holds(t, p, string(files[filepath.ToSlash(rel)]), 0o640)
			got[filepath.ToSlash(rel)], err = os.ReadFile(p)
			return err
		})
		if err != nil || !maps.EqualFunc(got, files, bytes.Equal) {
			t.Errorf("got %q, want %q, %v", got, files, err)
		}
	}
	if got := names(t, filepath.Dir(dir)); !slices.Equal(got, []string{"d"}) {
		t.Errorf("left: %v", got)
	}
}

// Whoever reads while another writes sees one whole content or the other.
func TestAReaderNeverSeesAPart(t *testing.T) {
	dir := t.TempDir()
	path, folder := filepath.Join(dir, "f"), filepath.Join(dir, "d")
	one, two := bytes.Repeat([]byte("1"), 1<<16), bytes.Repeat([]byte("2"), 1<<15)
	write := func(b []byte) error {
		return errors.Join(durable.WriteCacheFile(path, b, 0o600), durable.WriteDir(folder, map[string][]byte{"x": b}, 0o600))
	}
	if err := write(one); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for range 20 {
			err = errors.Join(err, write(two), write(one))
		}
		done <- err
	}()
	for reads := 0; ; reads++ {
		for _, p := range []string{path, filepath.Join(folder, "x")} {
			// Between opening the old folder and its file the folder may go.
			b, err := os.ReadFile(p)
			if err == nil && !bytes.Equal(b, one) && !bytes.Equal(b, two) || err != nil && p == path {
				t.Fatalf("%s: %d bytes, %v", p, len(b), err)
			}
		}
		select {
		case err := <-done:
			if err != nil || reads == 0 {
				t.Fatalf("%d reads, %v", reads, err)
			}
			return
		default:
		}
	}
}

func TestUnfinishedNamesAreKnown(t *testing.T) {
	if !durable.IsTemp(".tmp-1") || durable.IsTemp("tmp-1") || durable.IsTemp("a.tmp-") {
		t.Error("names")
	}
}

// A process that was killed leaves a folder, which the next write of the same folder
// removes. Others may be writing it at this moment.
func TestWriteDirSweeps(t *testing.T) {
	parent := t.TempDir()
	left := func(name string, age time.Duration) string {
		dir := filepath.Join(parent, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "part"), nil, 0o644), os.Chtimes(dir, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
		return name
	}
	gone := left(".tmp-release-1", time.Hour)
	held := left(".tmp-release-2", time.Hour)
	fresh := left(".tmp-release-3", 0)
	others := left(".tmp-rest-4", time.Hour)
	f, err := os.Open(filepath.Join(parent, held))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteDir(filepath.Join(parent, "release"), map[string][]byte{"a": nil}, 0o644); err != nil {
		t.Fatal(err)
	}
	if have, want := names(t, parent), []string{held, fresh, others, "release"}; !slices.Equal(have, want) {
		t.Errorf("there are %q, not %q; %q was left behind", have, want, gone)
	}
}
