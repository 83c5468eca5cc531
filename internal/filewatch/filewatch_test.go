package filewatch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/internal/filewatch"
)

// heard collects bursts until all of want were told, and fails after a minute. It says what
// was told besides.
func heard(t *testing.T, w *filewatch.Watcher, want ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []string
	for {
		got, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("%v; told: %q, want %q", err, all, want)
		}
		all = append(all, got...)
		if !slices.ContainsFunc(want, func(f string) bool { return !slices.Contains(all, f) }) {
			return all
		}
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestChangesAreTold: written, made in a folder that is new, replaced by a rename, removed.
func TestChangesAreTold(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	write(t, in("shop/shop.cue"))
	write(t, in(".git/HEAD"))
	w, err := filewatch.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	write(t, in(".git/index"))
	write(t, in("shop/shop.cue"))
	if all := heard(t, w, in("shop/shop.cue")); slices.Contains(all, in(".git/index")) {
		t.Errorf("told of Git's own: %q", all)
	}
	write(t, in("new/deep/er/a.cue"))
	heard(t, w, in("new/deep/er/a.cue"))
	write(t, in("new/deep/er/b.cue"))
	heard(t, w, in("new/deep/er/b.cue"))
	write(t, in("new/tmp"))
	heard(t, w, in("new/tmp"))
	if err := os.Rename(in("new/tmp"), in("shop/shop.cue")); err != nil {
		t.Fatal(err)
	}
	heard(t, w, in("shop/shop.cue"))
	if err := os.RemoveAll(in("new")); err != nil {
		t.Fatal(err)
	}
	heard(t, w, in("new/deep/er/b.cue"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := filewatch.Open(in("nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
