package gitrepo_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// writeGit writes a file below .git.
func writeGit(t *testing.T, r *gittest.Repo, name, text string) {
	t.Helper()
	p := filepath.Join(r.Dir, ".git", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func head(t *testing.T, r *gittest.Repo) (*gitrepo.Snapshot, gitrepo.Commit) {
	t.Helper()
	s := snapshot(t, r, gitrepo.Options{})
	c, err := s.Commit(s.Head())
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// What git itself obeys and no signature covers: objects that stand in for others,
// and histories that are bent.
func TestReplacedAndGraftedHistoryIsNotObeyed(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	second := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "2"}})
	evil := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "evil"}, Parents: []string{}, Ref: "refs/heads/evil"})
	r.Git("replace", second, evil)
	r.Git("replace", "-f", r.Git("--no-replace-objects", "rev-parse", second+":a.cue"), r.Git("rev-parse", evil+":a.cue"))
	writeGit(t, r, "info/grafts", second+" "+evil+"\n")
	if got := r.Git("show", second+":a.cue"); got != "evil" {
		t.Fatalf("git shows %q: the attack does not work at all", got)
	}
	s, c := head(t, r)
	chain, err := s.Chain("", s.Head())
	if err != nil || len(chain) != 2 || chain[0].Hash != first {
		t.Errorf("chain %v, %v", chain, err)
	}
	tree, err := s.FS(c)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "a.cue"); err != nil || string(b) != "2" {
		t.Errorf("a.cue is %q, %v", b, err)
	}
}

// A clone that was cut off ends in a missing parent, never in a shorter history.
func TestShallowAndPartialClonesAreNamed(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	c2 := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "2"}})
	r.Git("config", "uploadpack.allowFilter", "true")
	for name, flag := range map[string]string{"shallow": "--depth=1", "partial": "--filter=blob:none"} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "c")
			r.Git("clone", "-q", "--bare", flag, "file://"+r.Dir, to)
			repo, err := gitrepo.Open(to, "refs/heads/main", gitrepo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s, err := repo.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, readAll(s), diag.CodeGitMissing, "")
		})
	}
	writeGit(t, r, "shallow", c2+"\n") // claims that history begins here
	s, _ := head(t, r)
	if chain, err := s.Chain("", s.Head()); err != nil || len(chain) != 2 {
		t.Errorf("chain of %d, %v", len(chain), err)
	}
}

// Objects of another repository are read by hash like one's own.
func TestAlternatesAreChecked(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "good"}})
	blob, evil := r.Git("rev-parse", "HEAD:a.cue"), r.Object("blob", []byte("evil"))
	other := filepath.Join(t.TempDir(), "objects")
	path := func(root, h string) string { return filepath.Join(root, h[:2], h[2:]) }
	objects := filepath.Join(r.Dir, ".git/objects")
	raw, err := os.ReadFile(path(objects, evil))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path(objects, blob)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path(other, blob)), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path(other, blob), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	writeGit(t, r, "objects/info/alternates", other+"\n")
	if err := readAll(snapshot(t, r, gitrepo.Options{})); err == nil {
		t.Error("another object is taken for the one that is named")
	}
}

// Repositories whose names are not SHA-1 are refused, not misread.
func TestSHA256RepositoriesAreRefused(t *testing.T) {
	r := gittest.New(t)
	r.Git("init", "-q", "-b", "main", "--object-format=sha256", "other")
	dir := filepath.Join(r.Dir, "other")
	r.Git("-C", dir, "commit", "-q", "--allow-empty", "-m", "x")
	repo, err := gitrepo.Open(dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Fetch(t.Context())
	wantCode(t, err, diag.CodeGitMissing, "cannot be opened")
}

// The followed ref must be a commit, and itself.
func TestForgedRefs(t *testing.T) {
	r := gittest.New(t)
	c := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	r.Git("tag", "-a", "-m", "x", "v1", c)
	tag, tree := r.Git("rev-parse", "v1"), r.Git("rev-parse", c+"^{tree}")
	r.Git("update-ref", "refs/heads/other", c)
	for name, x := range map[string]struct {
		text string
		code diag.Code
	}{
		"a tag":      {tag, diag.CodeGitObject},
		"a tree":     {tree, diag.CodeGitObject},
		"nothing":    {strings.Repeat("0", 40), diag.CodeGitMissing},
		"not there":  {strings.Repeat("1", 40), diag.CodeGitMissing},
		"symbolic":   {"ref: refs/heads/other", diag.CodeGitSource},
		"itself":     {"ref: refs/heads/main", diag.CodeGitSource},
		"short hash": {c[:12], diag.CodeGitMissing},
	} {
		t.Run(name, func(t *testing.T) {
			writeGit(t, r, "refs/heads/main", x.text+"\n")
			_, err := fetch(r, gitrepo.Options{})
			wantCode(t, err, x.code, "")
		})
	}
}

// Tags under meshc's prefix that are something else do not count and stop nothing.
func TestForgedTagObjects(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	c := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}, Key: &k})
	good := gitrepo.NewTag{Name: "meshc/x/1", Commit: c, Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}, Message: "m"}
	if _, err := gitrepo.WriteTag(r.Dir, good, k.Signer()); err != nil {
		t.Fatal(err)
	}
	inner := r.Git("rev-parse", "meshc/x/1")
	raw := string(r.Raw("tag", inner))
	for name, text := range map[string]string{
		"tag of a tag":           strings.Replace(strings.Replace(raw, "object "+c, "object "+inner, 1), "type commit", "type tag", 1),
		"tag of a tag, as one":   strings.Replace(raw, "object "+c, "object "+inner, 1),
		"of a blob":              strings.Replace(raw, "type commit", "type blob", 1),
		"another's in its text":  strings.Replace(raw, "\n\nm", "\n\n"+raw[strings.Index(raw, "-----BEGIN"):]+"m", 1),
		"signature first":        strings.Replace(raw, "\n\nm\n", "\n\n", 1) + "m\n",
		"carriage returns":       strings.ReplaceAll(raw, "\n", "\r\n"),
		"CR in the signature":    strings.Replace(raw, "SSH SIGNATURE-----\n", "SSH SIGNATURE-----\r\n", 1),
		"headers in other order": strings.Replace(raw, "type commit\ntag meshc/x/1\n", "tag meshc/x/1\ntype commit\n", 1),
		"no tagger":              strings.Replace(raw, raw[strings.Index(raw, "tagger"):strings.Index(raw, "\n\n")+1], "", 1),
		"two taggers":            strings.Replace(raw, "\n\n", "\ntagger B <b@b> 1 +0000\n\n", 1),
		"encoding":               strings.Replace(raw, "\n\n", "\nencoding UTF-7\n\n", 1),
		"name in capitals":       strings.Replace(raw, "tag meshc/x/1", "tag meshc/X/1", 1),
		"name with a space":      strings.Replace(raw, "tag meshc/x/1", "tag meshc/x/1 ", 1),
		"no end":                 raw[:strings.Index(raw, "\n\n")],
	} {
		t.Run(name, func(t *testing.T) {
			if text == raw {
				t.Fatal("the case changes nothing")
			}
			r.Point("refs/tags/meshc/x/2", inner) // the good object under another name
			r.Point("refs/tags/meshc/x/1", r.Object("tag", []byte(text)))
			s := snapshot(t, r, gitrepo.Options{})
			tag, err := s.Tag("meshc/x/1")
			if name == "tag of a tag, as one" && err == nil {
				if _, err = s.Commit(tag.Commit); err == nil {
					t.Error("a tag is read as a commit")
				}
				return
			}
			if err == nil {
				t.Errorf("accepted: %+v", tag)
			}
			if _, err := s.Tag("meshc/x/2"); err == nil {
				t.Error("a tag counts under another name")
			}
		})
	}
	for name, hash := range map[string]string{"blob": r.Object("blob", []byte("x")), "tree": r.Git("rev-parse", c+"^{tree}"), "nothing": strings.Repeat("1", 40)} {
		r.Point("refs/tags/meshc/x/1", hash)
		if _, err := snapshot(t, r, gitrepo.Options{}).Tag("meshc/x/1"); err == nil {
			t.Errorf("a %s is a tag", name)
		}
	}
}

// A loose object whose header claims less than it holds must not fill the memory.
func TestLooseObjectThatLiesAboutItsSize(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	blob := r.Git("rev-parse", "HEAD:a.cue")
	p := filepath.Join(r.Dir, ".git/objects", blob[:2], blob[2:])
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := fmt.Fprintf(z, "blob 1\x00"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 128<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var m1, m2 runtime.MemStats
	runtime.ReadMemStats(&m1)
	wantCode(t, readAll(snapshot(t, r, gitrepo.Options{})), diag.CodeGitObject, "")
	runtime.ReadMemStats(&m2)
	if grown := m2.TotalAlloc - m1.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB were allocated for it", grown>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A refused tree is told with its commit, and the way out is one that works: a
// later commit does not cure it.
func TestRefusedTreeNamesItsCommit(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	link := r.Tree(gittest.Entry{Mode: "120000", Name: "l", Hash: r.Object("blob", []byte("/etc/passwd"))})
	bad := r.Commit(gittest.Commit{Tree: link})
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "2"}})
	err := readAll(snapshot(t, r, gitrepo.Options{}))
	wantCode(t, err, diag.CodeGitTree, "commit "+bad)
	if r := (*gitrepo.Refused)(nil); !errors.As(err, &r) || !strings.Contains(r.Fix, "does not cure") {
		t.Errorf("way out: %+v", err)
	}
}

// Forms that people's git writes are not refused with the forged ones.
func TestUnusualButHonestCommits(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1", "x/b.cue": "1"}})
	empty := r.Git("commit-tree", "-p", first, "-m", "", first+"^{tree}")
	r.Git("update-ref", "refs/heads/main", empty)
	var sides []string
	for i := range 3 {
		sides = append(sides, r.Commit(gittest.Commit{Files: map[string]string{fmt.Sprintf("s%d.cue", i): "1"}, Parents: []string{first}, Ref: fmt.Sprintf("refs/heads/s%d", i)}))
	}
	octopus := r.Commit(gittest.Commit{Parents: append([]string{empty}, sides...)})
	if err := os.Chmod(filepath.Join(r.Dir, "a.cue"), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := r.Commit(gittest.Commit{})
	if err := os.Rename(filepath.Join(r.Dir, "x"), filepath.Join(r.Dir, "y")); err != nil {
		t.Fatal(err)
	}
	moved := r.Commit(gittest.Commit{})
	s, _ := head(t, r)
	for hash, want := range map[string]string{
		empty: "[]", octopus: "[s0.cue s1.cue s2.cue]", mode: "[a.cue]", moved: "[x/b.cue y/b.cue]",
	} {
		c, err := s.Commit(hash)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Changed(c); err != nil || fmt.Sprint(got) != want {
			t.Errorf("changed %v, %v; want %s", got, err, want)
		}
	}
}
