package gitrepo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// readAll reads a repository as verification and compiling do.
func readAll(s *gitrepo.Snapshot) error {
	chain, err := s.Chain("", s.Head())
	if err != nil {
		return err
	}
	for _, c := range chain {
		if _, err := s.Changed(c); err != nil {
			return err
		}
	}
	tree, err := s.FS(chain[len(chain)-1])
	if err != nil {
		return err
	}
	return fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = fs.ReadFile(tree, p)
		}
		return err
	})
}

// hostileTree commits a hand-made tree and reads it.
func hostileTree(t *testing.T, make func(r *gittest.Repo, blob, dir string) string) error {
	t.Helper()
	return hostileTreeIn(gittest.New(t), make)
}

func hostileTreeIn(r *gittest.Repo, make func(r *gittest.Repo, blob, dir string) string) error {
	blob := r.Object("blob", []byte("package x\n"))
	dir := r.Tree(gittest.Entry{Mode: "100644", Name: "a.cue", Hash: blob})
	r.Commit(gittest.Commit{Tree: make(r, blob, dir), Parents: []string{}})
	s, err := fetch(r, gitrepo.Options{})
	if err != nil {
		return err
	}
	return readAll(s)
}

func one(mode, name string) func(r *gittest.Repo, blob, dir string) string {
	return func(r *gittest.Repo, blob, dir string) string {
		hash := blob
		if mode == "40000" {
			hash = dir
		}
		return r.Tree(gittest.Entry{Mode: mode, Name: name, Hash: hash})
	}
}

// Attack 15: links out of the tree. Nothing outside is ever opened: the commit is refused.
func TestAttack15Symlinks(t *testing.T) {
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{canary, "../../../../etc/passwd", "a.cue", "loop"} {
		err := hostileTree(t, func(r *gittest.Repo, _, _ string) string {
			return r.Tree(gittest.Entry{Mode: "120000", Name: "loop", Hash: r.Object("blob", []byte(target))})
		})
		wantCode(t, err, diag.CodeGitTree, "symbolic link")
	}
	err := hostileTree(t, func(r *gittest.Repo, _, _ string) string {
		link := r.Tree(gittest.Entry{Mode: "120000", Name: "loop", Hash: r.Object("blob", []byte("../a.cue"))})
		return r.Tree(gittest.Entry{Mode: "40000", Name: ".github", Hash: link})
	})
	wantCode(t, err, diag.CodeGitTree, `".github/loop"`)
}

// Attack 16: names and shapes that mean different files on different systems.
func TestAttack16HostileTrees(t *testing.T) {
	r := gittest.New(t)
	long := strings.Repeat("a", 300)
	for _, name := range []string{
		"..", ".", ".git", ".GIT", ".Git", ".git ", ".git.", "git~1", "GIT~2", ".g\u200cit", ".gi\u0131t\u200b", "\u200e.git", ".git\u200f",
		".git::$INDEX_ALLOCATION", "a:b", "a\\b", "..\\x", "/etc", "a/b", "c:\\x", "con", "AUX.cue", "nul.txt", "com1", "lpt9.cue",
		"a\nb", "a\tb", "a\x01b", "a\x7fb", "\x1b[31m", "a ", " a", "a.", "a*", "a?b", "<a>", "a|b", "\"a\"", long,
		"e\u0301.cue", "\xff\xfe", "a\u202eb", "a\ufeffb", "a\u3164b", "a\u115fb", "a\ufe0fb", "a\u2800b", "a\u00a0b", "a\u3000b", "a\ue000b", "a\u0378b", "a\u180eb",
		"git~1.x", "CONIN$", "com\u00b9", ".gitmodules", ".GITMODULES", "gitmod~1",
	} {
		for _, mode := range []string{"100644", "40000"} {
			wantCode(t, hostileTreeIn(r, one(mode, name)), diag.CodeGitTree, "")
		}
	}
	e := func(mode, name, hash string) gittest.Entry {
		return gittest.Entry{Mode: mode, Name: name, Hash: hash}
	}
	shapes := map[string]func(r *gittest.Repo, blob, dir string) string{
		"same name twice": func(r *gittest.Repo, b, _ string) string { return r.Tree(e("100644", "a", b), e("100644", "a", b)) },
		"file and folder": func(r *gittest.Repo, b, d string) string { return r.Tree(e("100644", "a", b), e("40000", "a", d)) },
		"not sorted":      func(r *gittest.Repo, b, _ string) string { return r.Tree(e("100644", "b", b), e("100644", "a", b)) },
		"folder sorted as a file": func(r *gittest.Repo, b, d string) string {
			return r.Tree(e("40000", "a", d), e("100644", "a.cue", b))
		},
		"case": func(r *gittest.Repo, b, _ string) string {
			return r.Tree(e("100644", "A.cue", b), e("100644", "a.cue", b))
		},
		"unicode case": func(r *gittest.Repo, b, _ string) string {
			return r.Tree(e("100644", "stra\u00dfe", b), e("100644", "strasse", b))
		},
		"compatibility": func(r *gittest.Repo, b, _ string) string {
			return r.Tree(e("100644", "fi", b), e("100644", "\ufb01", b))
		},
		"kelvin": func(r *gittest.Repo, b, _ string) string {
			return r.Tree(e("100644", "k", b), e("100644", "\u212a", b))
		},
		"mode 0644":      one("644", "a"),
		"mode 100664":    one("100664", "a"),
		"mode 040000":    one("040000", "a"),
		"mode 100000":    one("100000", "a"),
		"setuid":         one("104755", "a"),
		"cut short":      func(r *gittest.Repo, _, _ string) string { return r.Object("tree", []byte("100644 a\x00short")) },
		"empty folder":   func(r *gittest.Repo, _, _ string) string { return r.Tree(e("40000", "a", r.Object("tree", nil))) },
		"empty name":     one("100644", ""),
		"blob as a tree": func(r *gittest.Repo, b, _ string) string { return r.Tree(e("40000", "a", b)) },
		"tree as a blob": func(r *gittest.Repo, _, d string) string { return r.Tree(e("100644", "a", d)) },
	}
	for name, make := range shapes {
		t.Run(name, func(t *testing.T) {
			var refused *gitrepo.Refused
			if err := hostileTreeIn(r, make); !errors.As(err, &refused) {
				t.Errorf("accepted: %v", err)
			}
		})
	}
	if err := hostileTree(t, one("100755", "tool.cue")); err != nil {
		t.Errorf("an executable file is refused: %v", err)
	}
}

// Attack 17: nothing is fetched or filtered because a tree asks for it.
func TestAttack17SubmodulesAndFilters(t *testing.T) {
	err := hostileTree(t, func(r *gittest.Repo, _, _ string) string {
		return r.Tree(gittest.Entry{Mode: "160000", Name: "sub", Hash: strings.Repeat("1", 40)})
	})
	wantCode(t, err, diag.CodeGitTree, "submodule")
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
	r := gittest.New(t)
	r.Git("config", "filter.x.smudge", "touch pwned")
	r.Commit(gittest.Commit{Files: map[string]string{".gitattributes": "*.cue filter=x ident eol=crlf export-ignore\n", "a.cue": "$Id$\n", "big.bin": pointer}})
	s := snapshot(t, r, gitrepo.Options{})
	c, err := s.Commit(s.Head())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.FS(c)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"a.cue": "$Id$\n", "big.bin": pointer} {
		if b, err := fs.ReadFile(tree, p); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.Dir, "pwned")); err == nil {
		t.Error("a filter ran")
	}
}

// Attack 20: no ignore file in a tree hides anything.
func TestAttack20IgnoreFilesHideNothing(t *testing.T) {
	r := gittest.New(t)
	blob := r.Object("blob", []byte("deny"))
	ignore := r.Object("blob", []byte("*\n"+strings.Repeat("x", 100_000)+"\n"))
	var es []gittest.Entry
	for _, n := range []string{".dockerignore", ".gitignore", ".helmignore", ".meshcignore", ".sourceignore"} {
		es = append(es, gittest.Entry{Mode: "100644", Name: n, Hash: ignore})
	}
	es = append(es, gittest.Entry{Mode: "100644", Name: "deny.rego", Hash: blob})
	r.Commit(gittest.Commit{Tree: r.Tree(es...)})
	s := snapshot(t, r, gitrepo.Options{})
	c, err := s.Commit(s.Head())
	if err != nil {
		t.Fatal(err)
	}
	changed, err := s.Changed(c)
	if err != nil || len(changed) != len(es) {
		t.Errorf("changed %v, %v", changed, err)
	}
	tree, err := s.FS(c)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "deny.rego"); err != nil || string(b) != "deny" {
		t.Errorf("deny.rego: %q, %v", b, err)
	}
}

func TestMalformedCommitsAreRefused(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
	good := string(r.Raw("commit", h))
	lines := strings.SplitAfter(good, "\n")
	tree, author, committer := lines[0], lines[1], lines[2]
	sig := good[strings.Index(good, "gpgsig"):strings.Index(good, "\n\n")]
	for name, raw := range map[string]string{
		"two signatures":        strings.Replace(good, sig, sig+"\n"+sig, 1),
		"sha256 signature":      strings.Replace(good, sig, sig+"\n"+strings.Replace(sig, "gpgsig", "gpgsig-sha256", 1), 1),
		"two blocks in one":     strings.Replace(good, sig, sig+"\n "+strings.ReplaceAll(strings.TrimPrefix(sig, "gpgsig "), "\n ", "\n "), 1),
		"text after signature":  strings.Replace(good, sig, sig+"\n and more", 1),
		"x509":                  strings.Replace(good, "BEGIN SSH SIGNATURE", "BEGIN SIGNED MESSAGE", 1),
		"two trees":             strings.Replace(good, tree, tree+tree, 1),
		"two authors":           strings.Replace(good, author, author+author, 1),
		"two committers":        strings.Replace(good, committer, committer+committer, 1),
		"swapped":               strings.Replace(good, author+committer, committer+author, 1),
		"parent at the end":     strings.Replace(good, sig, "parent "+strings.Repeat("1", 40)+"\n"+sig, 1),
		"parent no hash":        strings.Replace(good, author, "parent x\n"+author, 1),
		"upper-case tree":       strings.Replace(good, tree, strings.ToUpper(tree[:4])+tree[4:], 1),
		"NUL in message":        good + "\x00hidden",
		"NUL in author":         strings.Replace(good, "author A", "author A\x00", 1),
		"no author":             strings.Replace(good, author, "", 1),
		"no date":               strings.Replace(good, "> 17", "> x17", 1),
		"huge date":             strings.Replace(good, "> 17", "> 99999999999917", 1),
		"two addresses":         strings.Replace(good, "<a@example.test>", "<a@example.test> <b@example.test>", 1),
		"encoding in two lines": strings.Replace(good, sig, "encoding x\n y\n"+sig, 1),
		"encoding that acts":    strings.Replace(good, sig, "encoding \x1b[2J\n"+sig, 1),
		"two encodings":         strings.Replace(good, sig, "encoding x\nencoding y\n"+sig, 1),
		"doubled unknown":       strings.Replace(good, sig, "x-y 1\nx-y 2\n"+sig, 1),
		"continued tree":        strings.Replace(good, tree, tree+" more\n", 1),
		"no end of headers":     strings.TrimSuffix(tree, "\n"),
		"empty":                 "",
	} {
		t.Run(name, func(t *testing.T) {
			if raw == good {
				t.Fatal("the case changes nothing")
			}
			r.Point("refs/heads/main", r.Object("commit", []byte(raw)))
			_, err := fetch(r, gitrepo.Options{})
			wantCode(t, err, diag.CodeGitObject, "")
		})
	}
	for name, raw := range map[string]string{
		"other encoding": strings.Replace(good, sig, "encoding ISO-8859-1\n"+sig, 1),
		"other headers":  strings.Replace(good, sig, "change-id abc\nencoding utf-8\n"+sig, 1),
		"negative zone":  strings.Replace(good, "+0000", "-0730", 1),
	} {
		r.Point("refs/heads/main", r.Object("commit", []byte(raw)))
		if _, err := fetch(r, gitrepo.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMalformedTagsAreRefused(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
	if _, err := gitrepo.WriteTag(r.Dir, gitrepo.NewTag{Name: "meshc/x/1", Commit: h, Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}, Message: "m"}, k.Signer()); err != nil {
		t.Fatal(err)
	}
	if out := r.Git("cat-file", "-p", "meshc/x/1"); !strings.Contains(out, "tag meshc/x/1") {
		t.Errorf("git shows %q", out)
	}
	r.Git("fsck", "--strict")
	good := string(r.Raw("tag", "meshc/x/1"))
	sig := good[strings.Index(good, "-----BEGIN"):]
	for name, raw := range map[string]string{
		"another name":     strings.Replace(good, "tag meshc/x/1", "tag meshc/x/2", 1),
		"of a tree":        strings.Replace(good, "type commit", "type tree", 1),
		"two signatures":   good + sig,
		"text afterwards":  good + "more\n",
		"signature header": strings.Replace(good, "\n\n", "\ngpgsig "+strings.ReplaceAll(strings.TrimSpace(sig), "\n", "\n ")+"\n\n", 1),
		"two objects":      "object " + h + "\n" + good,
		"NUL":              strings.Replace(good, "\n\nm", "\n\n\x00m", 1),
	} {
		t.Run(name, func(t *testing.T) {
			r.Point("refs/tags/meshc/x/1", r.Object("tag", []byte(raw)))
			s := snapshot(t, r, gitrepo.Options{})
			if _, err := s.Tag("meshc/x/1"); err == nil {
				t.Error("accepted")
			}
			if tags, bad := s.Tags("meshc/"); len(tags) != 0 || len(bad) != 1 {
				t.Errorf("%d tags, %d refused", len(tags), len(bad))
			}
		})
	}
	r.Point("refs/tags/meshc/x/1", h) // a lightweight tag proves nothing
	if _, err := snapshot(t, r, gitrepo.Options{}).Tag("meshc/x/1"); err == nil {
		t.Error("a lightweight tag counts")
	}
}

// Attack 18, the part that a local repository can do: too much of anything.
func TestAttack18TooMuch(t *testing.T) {
	deep := func(r *gittest.Repo, blob, _ string) string {
		h := r.Tree(gittest.Entry{Mode: "100644", Name: "a", Hash: blob})
		for range 40 {
			h = r.Tree(gittest.Entry{Mode: "40000", Name: "d", Hash: h})
		}
		return h
	}
	wantCode(t, hostileTree(t, deep), diag.CodeGitLimit, "nested")
	bomb := func(r *gittest.Repo, blob, _ string) string { // 10^12 files in a dozen objects
		h := blob
		mode := "100644"
		for range 12 {
			var es []gittest.Entry
			for i := range 10 {
				es = append(es, gittest.Entry{Mode: mode, Name: fmt.Sprint(i), Hash: h})
			}
			h, mode = r.Tree(es...), "40000"
		}
		return h
	}
	wantCode(t, hostileTree(t, bomb), diag.CodeGitLimit, "entries")
	big := func(r *gittest.Repo, _, _ string) string {
		return r.Tree(gittest.Entry{Mode: "100644", Name: "big", Hash: r.Object("blob", make([]byte, 9<<20))})
	}
	wantCode(t, hostileTree(t, big), diag.CodeGitLimit, "")
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	var refs bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&refs, "create refs/heads/x%d %s\n", i, h)
	}
	r.GitIn(refs.Bytes(), "update-ref", "--stdin")
	if _, err := fetch(r, gitrepo.Options{Limits: gitrepo.Limits{Refs: 100}}); err != nil {
		t.Errorf("branches that nobody follows: %v", err)
	}
	r.GitIn(bytes.ReplaceAll(refs.Bytes(), []byte("refs/heads/x"), []byte("refs/tags/meshc/x")), "update-ref", "--stdin")
	_, err := fetch(r, gitrepo.Options{Limits: gitrepo.Limits{Refs: 100}})
	wantCode(t, err, diag.CodeGitLimit, "refs")
	_, err = fetch(r, gitrepo.Options{Limits: gitrepo.Limits{Tags: 100}})
	wantCode(t, err, diag.CodeGitLimit, "tags")
	r.Git("pack-refs", "--all")
	_, err = fetch(r, gitrepo.Options{Limits: gitrepo.Limits{Refs: 20}})
	wantCode(t, err, diag.CodeGitLimit, "packed-refs")
	_, err = fetch(r, gitrepo.Options{Limits: gitrepo.Limits{Tags: 100}})
	wantCode(t, err, diag.CodeGitLimit, "tags")
	for range 5 {
		r.Commit(gittest.Commit{})
	}
	s := snapshot(t, r, gitrepo.Options{Limits: gitrepo.Limits{Commits: 3}})
	_, err = s.Chain("", s.Head())
	wantCode(t, err, diag.CodeGitLimit, "commits")
}

// Attack 9: objects that do not hash to their name.
func TestAttack09CollisionsAndDamage(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "good"}})
	blob := r.Git("rev-parse", "HEAD:a.cue")
	other := r.Object("blob", []byte("evil"))
	path := func(h string) string { return filepath.Join(r.Dir, ".git/objects", h[:2], h[2:]) }
	raw, err := os.ReadFile(path(other))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path(blob)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path(blob), raw, 0o600); err != nil { // a second preimage, as if one had been found
		t.Fatal(err)
	}
	wantCode(t, readAll(snapshot(t, r, gitrepo.Options{})), diag.CodeGitObject, "do not have that hash")
}
