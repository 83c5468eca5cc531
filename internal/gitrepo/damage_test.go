package gitrepo_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// everything reads all that a server may ask a repository for.
func everything(t *testing.T, repo *gitrepo.Repo) error {
	t.Helper()
	s, err := repo.Fetch(context.Background())
	if err != nil {
		return err
	}
	line, err := s.Chain("", s.Head())
	if err != nil {
		return err
	}
	for _, c := range line {
		if _, err := s.Changed(c); err != nil {
			return err
		}
		tree, err := s.FS(c)
		if err != nil {
			return err
		}
		if err := fs.WalkDir(tree, ".", func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				_, err = fs.ReadFile(tree, path)
			}
			return err
		}); err != nil {
			return err
		}
	}
	_, err = s.Tag("meshc/x")
	return err
}

// A server looks at a repository for months. What is damaged is refused for as long as
// it is damaged, whatever the damage makes of it, and is like any other once somebody
// has put it right.
func TestARepairIsSeen(t *testing.T) {
	deflated := func(text string) func([]byte) []byte {
		return func([]byte) []byte {
			var b bytes.Buffer
			w := zlib.NewWriter(&b)
			_, err := w.Write([]byte(text))
			must(t, err)
			must(t, w.Close())
			return b.Bytes()
		}
	}
	damage := map[string]func([]byte) []byte{
		"cut short":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":        func([]byte) []byte { return nil },
		"other bytes":  func(b []byte) []byte { return append(bytes.Repeat([]byte{7}, len(b)/2), b[len(b)/2:]...) },
		"another kind": deflated("blob 1\x00a"),
		"another size": deflated("commit 99999999\x00"),
		"another text": deflated("commit 1\x00a"),
	}
	place := func(file string, b []byte) { // as git does: never in place
		must(t, os.WriteFile(file+".new", b, 0o600))
		must(t, os.Rename(file+".new", file))
	}
	for _, packed := range []bool{false, true} {
		r := gittest.New(t)
		r.Commit(gittest.Commit{Files: map[string]string{"a/b": "1", "c": "2"}})
		r.Commit(gittest.Commit{Files: map[string]string{"a/b": "1", "c": "3"}})
		r.Git("tag", "-a", "-m", "x", "meshc/x")
		pattern := ".git/objects/??/*"
		if packed {
			r.Git("gc", "-q")
			pattern = ".git/objects/pack/*.[pi]*"
		}
		files, err := filepath.Glob(filepath.Join(r.Dir, pattern))
		must(t, err)
		if len(files) < 2 {
			t.Fatal("nothing to damage")
		}
		for what, spoil := range damage {
			for _, file := range files {
				good, err := os.ReadFile(file)
				must(t, err)
				repo := openLocal(t, r.Dir)
				place(file, spoil(bytes.Clone(good)))
				if err := everything(t, repo); err == nil {
					t.Errorf("%s: %s: it was read", what, file)
				}
				place(file, good)
				if err := everything(t, repo); err != nil {
					t.Errorf("%s: %s: after the repair: %v", what, file, err)
				}
			}
		}
	}
}
