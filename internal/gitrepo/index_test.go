package gitrepo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/gitrepo"
)

// git runs git in a folder, with nothing of this machine's settings.
func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b.c", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b.c")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// stage makes a work tree whose index git wrote after do.
func stage(t *testing.T, do func(dir string)) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	do(dir)
	git(t, dir, "-c", "core.protectNTFS=false", "-c", "core.precomposeUnicode=false", "add", "-A")
	return dir
}

func put(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What stands in an index is judged as the commit will be that is made of it.
func TestAnIndexIsJudgedAsItsCommit(t *testing.T) {
	cases := map[string]struct {
		do   func(t *testing.T, dir string)
		want string // path and reason, "" for none
	}{
		"clean":            {func(t *testing.T, d string) { put(t, d, "mesh.cue", "shop/shop.cue", ".github/x", "shop/b/c") }, ""},
		"link":             {func(t *testing.T, d string) { put(t, d, "a"); link(t, d, ".github/x") }, ".github/x: it is a symbolic link"},
		"case":             {func(t *testing.T, d string) { put(t, d, "README.md", "readme.md") }, `readme.md: some file systems cannot tell it from "README.md"`},
		"case of a folder": {func(t *testing.T, d string) { put(t, d, "Docs/a", "docs/b") }, `docs: some file systems cannot tell it from "Docs"`},
		"device":           {func(t *testing.T, d string) { put(t, d, "docs/aux") }, "docs/aux: the name is a device on Windows"},
		"device's folder":  {func(t *testing.T, d string) { put(t, d, "aux.d/a", "aux.d/b") }, "aux.d: the name is a device on Windows"},
		"colon":            {func(t *testing.T, d string) { put(t, d, "docs/a:b.md") }, "docs/a:b.md: the name has a slash, backslash or colon"},
		"dot":              {func(t *testing.T, d string) { put(t, d, "docs/a.") }, "docs/a.: the name begins or ends with a space, or ends with a dot"},
		"decomposed":       {func(t *testing.T, d string) { put(t, d, "docs/e\u0301.md") }, "docs/e\u0301.md: the name is not in Unicode normal form C"},
		"invisible":        {func(t *testing.T, d string) { put(t, d, "docs/a\u200bb.md") }, "docs/a\u200bb.md: the name has control, invisible or unassigned characters"},
		"submodule": {func(t *testing.T, d string) {
			sub := filepath.Join(d, "sub")
			put(t, sub, "a")
			git(t, sub, "init", "-q")
			git(t, sub, "add", "-A")
			git(t, sub, "commit", "-qm", "a")
		}, "sub: it is a submodule"},
		"deep": {func(t *testing.T, d string) { put(t, d, strings.Repeat("d/", 40)+"a") }, strings.Repeat("d/", 40) + "a: folders are nested deeper than 32, or a path is longer than 1000 bytes"},
		"large": {func(t *testing.T, d string) {
			if err := os.WriteFile(filepath.Join(d, "big"), make([]byte, 9<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "big: a file may have 8388608 bytes and all together 67108864"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := stage(t, func(d string) { c.do(t, d) })
			idx, err := gitrepo.ReadIndex(dir, gitrepo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, r := range idx.Refused {
				got += r.Path + ": " + r.Reason
			}
			if got != c.want {
				t.Errorf("the index: got %q, want %q", got, c.want)
			}
			git(t, dir, "commit", "-qm", "it")
			s, err := gitrepo.At(dir, "HEAD", gitrepo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			commit, err := s.Commit(s.Head())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.FS(commit); (err != nil) != (c.want != "") {
				t.Errorf("its commit: %v", err)
			}
		})
	}
}

func link(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../a", filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// All kinds of index that git writes are read or refused by name.
func TestKindsOfIndex(t *testing.T) {
	bad := func(t *testing.T) string {
		return stage(t, func(d string) { put(t, d, "docs/aux", "shop/a.cue", "web/b.cue") })
	}
	read := func(t *testing.T, dir string) (gitrepo.Index, error) {
		t.Helper()
		return gitrepo.ReadIndex(dir, gitrepo.Options{})
	}
	for _, version := range []string{"2", "3", "4"} {
		dir := bad(t)
		git(t, dir, "update-index", "--index-version", version)
		if idx, err := read(t, dir); err != nil || len(idx.Refused) != 1 {
			t.Errorf("version %s: %v, %v", version, idx, err)
		}
	}
	dir := bad(t)
	git(t, dir, "commit", "-qm", "it")
	git(t, dir, "sparse-checkout", "set", "shop")
	if idx, err := read(t, dir); err != nil || strings.Join(idx.Absent, " ") != "docs/aux web/b.cue" {
		t.Errorf("sparse: %v, %v", idx, err)
	}
	linked := filepath.Join(t.TempDir(), "linked")
	git(t, dir, "worktree", "add", "-q", linked)
	if idx, err := read(t, linked); err != nil || len(idx.Refused) != 1 {
		t.Errorf("linked work tree: %v, %v", idx, err)
	}
	dir = bad(t)
	git(t, dir, "update-index", "--split-index")
	if _, err := read(t, dir); err == nil || !strings.Contains(err.Error(), "its index cannot be read: it is split, or sparse") {
		t.Errorf("split: %v", err)
	}
	bare := t.TempDir()
	git(t, bare, "init", "-q", "--bare")
	if idx, err := read(t, bare); err != nil || len(idx.Refused)+len(idx.Absent) != 0 {
		t.Errorf("bare: %v, %v", idx, err)
	}
}

// FuzzIndex: bytes that no git wrote end in an error or in an index, and take no longer.
func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"config", "user.email", "a@b.c"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			f.Fatalf("%v\n%s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o600); err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command("git", "add", "a")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	index := filepath.Join(dir, ".git", "index")
	b, err := os.ReadFile(index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Add([]byte("DIRC\x00\x00\x00\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(index, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gitrepo.ReadIndex(dir, gitrepo.Options{}); err != nil {
			return
		}
	})
}
