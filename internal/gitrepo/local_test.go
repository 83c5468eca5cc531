package gitrepo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openLocal(t *testing.T, dir string) *gitrepo.Repo {
	t.Helper()
	repo, err := gitrepo.Open(dir, "refs/heads/main", gitrepo.Options{Timeout: 2 * time.Minute})
	must(t, err)
	t.Cleanup(repo.Close)
	return repo
}

// packs are the repository's packs without .pack.
func packs(t *testing.T, git string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(git, "objects/pack/*.pack"))
	must(t, err)
	for i := range found {
		found[i] = strings.TrimSuffix(found[i], ".pack")
	}
	return found
}

// Whatever git itself reads, in whatever form it is kept, is read here, and is the
// same: the head, the approval tag and every file of every commit.
func TestWhatGitReadsIsRead(t *testing.T) {
	for name, form := range map[string]func(t *testing.T, r *gittest.Repo) string{
		"as committed": func(_ *testing.T, r *gittest.Repo) string { return r.Dir },
		"packed":       func(_ *testing.T, r *gittest.Repo) string { r.Git("gc", "-q"); return r.Dir },
		"packed, from a folder below": func(t *testing.T, r *gittest.Repo) string {
			r.Git("gc", "-q")
			must(t, os.MkdirAll(filepath.Join(r.Dir, "x/y"), 0o750))
			return filepath.Join(r.Dir, "x/y")
		},
		"refs packed, objects not": func(_ *testing.T, r *gittest.Repo) string { r.Git("pack-refs", "--all"); return r.Dir },
		"pack under another name": func(t *testing.T, r *gittest.Repo) string {
			r.Git("gc", "-q")
			for i, p := range packs(t, filepath.Join(r.Dir, ".git")) {
				for _, ext := range []string{".pack", ".idx"} {
					must(t, os.Rename(p+ext, filepath.Join(filepath.Dir(p), fmt.Sprintf("other%d%s", i, ext))))
				}
				_ = os.Remove(p + ".rev")
			}
			return r.Dir
		},
		"many packs": func(t *testing.T, r *gittest.Repo) string {
			for i := range 40 {
				r.Git("pack-objects", "-q", ".git/objects/pack/pack")
				r.Object("blob", []byte(fmt.Sprint(i)))
				r.Git("repack", "-dq")
			}
			return r.Dir
		},
		"index of version 1": func(_ *testing.T, r *gittest.Repo) string {
			r.Git("-c", "pack.indexVersion=1", "repack", "-adq")
			return r.Dir
		},
		"index with long offsets": func(t *testing.T, r *gittest.Repo) string {
			r.Git("repack", "-adq")
			for _, p := range packs(t, filepath.Join(r.Dir, ".git")) {
				must(t, os.Remove(p+".idx"))
				r.Git("index-pack", "--index-version=2,0x40", p+".pack")
			}
			return r.Dir
		},
		"differences by name": func(_ *testing.T, r *gittest.Repo) string {
			r.Git("-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=50", "--window=50")
			return r.Dir
		},
		"several packs and an index of all": func(_ *testing.T, r *gittest.Repo) string {
			r.Git("repack", "-dq")
			r.Git("commit-graph", "write", "--reachable")
			r.Git("multi-pack-index", "write")
			return r.Dir
		},
		"not compressed": func(_ *testing.T, r *gittest.Repo) string {
			r.Git("-c", "core.compression=0", "repack", "-adFq")
			return r.Dir
		},
		"bare":                 func(t *testing.T, r *gittest.Repo) string { return clone(t, r, "--bare") },
		"mirror":               func(t *testing.T, r *gittest.Repo) string { return clone(t, r, "--mirror") },
		"borrowing (--shared)": func(t *testing.T, r *gittest.Repo) string { return clone(t, r, "--bare", "--shared") },
		"borrowing (--reference)": func(t *testing.T, r *gittest.Repo) string {
			return clone(t, r, "--no-local", "--reference", r.Dir)
		},
		"borrowing from one that borrows": func(t *testing.T, r *gittest.Repo) string {
			first := clone(t, r, "--bare", "--shared")
			to := filepath.Join(t.TempDir(), "second")
			r.Git("clone", "-q", "--shared", first, to)
			r.Git("-C", to, "fetch", "-q", "--tags")
			return to
		},
		"borrowing by a relative path": func(t *testing.T, r *gittest.Repo) string {
			to := clone(t, r, "--bare", "--shared")
			rel, err := filepath.Rel(filepath.Join(to, "objects"), filepath.Join(r.Dir, ".git/objects"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(to, "objects/info/alternates"), []byte("# comment\n\n"+rel+"\n"), 0o600))
			return to
		},
		"a work tree": func(t *testing.T, r *gittest.Repo) string {
			to := filepath.Join(t.TempDir(), "wt")
			r.Git("worktree", "add", "-q", to, "-b", "other")
			return to
		},
		"git folder elsewhere": func(t *testing.T, r *gittest.Repo) string {
			to := filepath.Join(t.TempDir(), "w")
			r.Git("clone", "-q", "--separate-git-dir", filepath.Join(t.TempDir(), "g"), r.Dir, to)
			return to
		},
		"submodule": func(t *testing.T, r *gittest.Repo) string {
			outer := gittest.New(t)
			outer.Git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", r.Dir, "sub")
			outer.Git("-C", "sub", "fetch", "-q", "--tags")
			return filepath.Join(outer.Dir, "sub")
		},
		"sparse checkout": func(t *testing.T, r *gittest.Repo) string {
			to := clone(t, r, "--sparse", "--no-local")
			r.Git("-C", to, "sparse-checkout", "set", "nothing")
			return to
		},
		"shallow but complete": func(t *testing.T, r *gittest.Repo) string {
			to := filepath.Join(t.TempDir(), "s")
			r.Git("clone", "-q", "--depth=1", "file://"+r.Dir, to)
			r.Git("-C", to, "fetch", "-q", "--unshallow", "--tags")
			return to
		},
		"version 1 with extensions": func(t *testing.T, r *gittest.Repo) string {
			r.Git("config", "core.repositoryformatversion", "1")
			for _, e := range []string{"noop x", "preciousObjects true", "worktreeConfig true", "objectFormat sha1", "partialClone origin"} {
				k, v, _ := strings.Cut(e, " ")
				must(t, appendFile(filepath.Join(r.Dir, ".git/config"), fmt.Sprintf("[extensions]\n\t%s = %s\n", k, v)))
			}
			return r.Dir
		},
		"links for folders": func(t *testing.T, r *gittest.Repo) string { // as git-new-workdir makes them
			to := t.TempDir()
			must(t, os.Mkdir(filepath.Join(to, ".git"), 0o750))
			r.Git("pack-refs", "--all")
			for _, name := range []string{"config", "refs", "objects", "packed-refs", "info"} {
				must(t, os.Symlink(filepath.Join(r.Dir, ".git", name), filepath.Join(to, ".git", name)))
			}
			must(t, os.WriteFile(filepath.Join(to, ".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o600))
			return to
		},
		"HEAD without a branch": func(_ *testing.T, r *gittest.Repo) string { r.Git("checkout", "-q", "--detach"); return r.Dir },
	} {
		t.Run(name, func(t *testing.T) {
			k := gittest.NewKey(t)
			r := gittest.New(t)
			text := strings.Repeat("a line that repeats, so that there are differences\n", 100)
			var hash string
			for i := range 12 {
				hash = r.Commit(gittest.Commit{Files: map[string]string{"a.cue": text + fmt.Sprint(i), fmt.Sprintf("d/f%d.cue", i): text[i:]}, Key: &k})
			}
			_, err := gitrepo.WriteTag(r.Dir, gitrepo.NewTag{Name: "meshc/prod/1", Commit: hash, Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}, Message: "m"}, k.Signer())
			must(t, err)
			dir := form(t, r)
			repo := openLocal(t, dir)
			s, err := repo.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.Head() != hash {
				t.Errorf("head %s, want %s", s.Head(), hash)
			}
			if tags, bad := s.Tags("meshc/"); len(tags) != 1 || len(bad) > 0 || tags[0].Commit != hash {
				t.Errorf("tags %v, %v", tags, bad)
			}
			sameAsGit(t, r, s)
			if err := s.Err(); err != nil {
				t.Error(err)
			}
			for _, rev := range []string{"HEAD", "@", "main", "refs/heads/main", hash, hash[:12], "main~3", "HEAD^^", "meshc/prod/1", "main~0", hash[:8] + "~2^"} {
				got, err := gitrepo.Resolve(dir, rev)
				want := r.Git("-C", dir, "rev-parse", "--verify", rev+"^{commit}")
				if name == "links for folders" && (strings.HasPrefix(rev, "HEAD") || rev == "@") {
					want = r.Git("rev-parse", "--verify", rev+"^{commit}")
				}
				if err != nil || got != want {
					t.Errorf("%s is %s (%v), git says %s", rev, got, err, want)
				}
			}
		})
	}
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func clone(t *testing.T, r *gittest.Repo, flags ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "clone")
	r.Git(append(append([]string{"clone", "-q"}, flags...), r.Dir, to)...)
	return to
}

// sameAsGit compares every commit and file with what git reads.
func sameAsGit(t *testing.T, r *gittest.Repo, s *gitrepo.Snapshot) {
	t.Helper()
	chain, err := s.Chain("", s.Head())
	must(t, err)
	if want := r.Git("rev-list", "--count", "main"); fmt.Sprint(len(chain)) != want {
		t.Fatalf("%d commits, git has %s", len(chain), want)
	}
	for _, c := range chain {
		tree, err := s.FS(c)
		must(t, err)
		n := 0
		must(t, fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			n++
			b, err := fs.ReadFile(tree, p)
			if want := r.Raw("blob", c.Hash+":"+p); !bytes.Equal(b, want) {
				t.Errorf("%s of %s has %d bytes, git reads %d", p, c.Hash, len(b), len(want))
			}
			return err
		}))
		if want := len(strings.Fields(r.Git("ls-tree", "-r", "--name-only", c.Hash))); n != want {
			t.Errorf("%s has %d files, git lists %d", c.Hash, n, want)
		}
	}
}

// A commit in another encoding, as plain git signs and writes it, is its bytes: what
// the signature is over does not depend on how they are shown.
func TestCommitsInOtherEncodings(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	for _, encoding := range []string{"ISO-8859-1", "Shift_JIS"} {
		must(t, os.WriteFile(filepath.Join(r.Dir, "message"), []byte("caf\xe9 \x83\x65\n"), 0o600))
		r.Git("-c", "i18n.commitEncoding="+encoding, "-c", "gpg.format=ssh", "-c", "user.signingkey="+k.File(t), "commit", "-q", "-S", "--allow-empty", "-F", "message")
		s, c := head(t, r)
		if c.Signature.Kind != gitrepo.SSHSignature || !strings.HasPrefix(c.Message, "caf\xe9 ") || !bytes.Contains(c.Signature.Payload, []byte(c.Message)) {
			t.Errorf("%s: %+v", encoding, c)
		}
		if !strings.Contains(string(c.Signature.Payload), "\nencoding "+encoding+"\n") {
			t.Errorf("%s is not in what was signed: %q", encoding, c.Signature.Payload)
		}
		must(t, readAll(s))
	}
}

// What git passes over under refs/ is passed over; what it would take for a ref
// that nobody follows refuses nothing either.
func TestOnlyRefsThatMatterCanRefuse(t *testing.T) {
	k := gittest.NewKey(t)
	for name, c := range map[string]struct{ path, text string }{
		"lock of a branch":          {"refs/heads/dev.lock", ""},
		"lock of the branch":        {"refs/heads/main.lock", ""},
		"lock of the branch, full":  {"refs/heads/main.lock", strings.Repeat("1", 40)},
		"lock of packed-refs":       {"packed-refs.lock", "garbage"},
		"lock of HEAD":              {"HEAD.lock", ""},
		"empty branch":              {"refs/heads/dev", ""},
		"empty tag":                 {"refs/tags/v1", ""},
		"empty approval tag":        {"refs/tags/meshc/prod/2", ""},
		"lock of an approval tag":   {"refs/tags/meshc/prod/2.lock", ""},
		"zero bytes":                {"refs/tags/meshc/prod/2", strings.Repeat("\x00", 41)},
		"garbage":                   {"refs/tags/meshc/prod/2", "garbage\n"},
		"too many digits":           {"refs/tags/meshc/prod/2", strings.Repeat("1", 41)},
		"leading space":             {"refs/tags/meshc/prod/2", " " + strings.Repeat("1", 40)},
		"symbolic":                  {"refs/tags/meshc/prod/2", "ref: refs/heads/main\n"},
		"symbolic, out of the tree": {"refs/tags/meshc/prod/2", "ref: ../../../etc/passwd\n"},
		"hidden file":               {"refs/tags/meshc/.DS_Store", "x"},
		"name with a space":         {"refs/tags/meshc/a b", strings.Repeat("1", 40)},
		"name with two dots":        {"refs/tags/meshc/a..b", strings.Repeat("1", 40)},
		"very long":                 {"refs/tags/meshc/prod/2", strings.Repeat("1", 1<<20)},
		"notes":                     {"refs/notes/x", "garbage"},
		"stash":                     {"refs/stash", ""},
		"in a folder of no ref":     {"refs/x", "y"},
	} {
		t.Run(name, func(t *testing.T) {
			r := gittest.New(t)
			h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
			_, err := gitrepo.WriteTag(r.Dir, gitrepo.NewTag{Name: "meshc/prod/1", Commit: h, Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}, Message: "m"}, k.Signer())
			must(t, err)
			writeGit(t, r, c.path, c.text)
			s, err := openLocal(t, r.Dir).Fetch(t.Context())
			must(t, err)
			if got := fmt.Sprint(s.TagNames("")); s.Head() != h || got != "[meshc/prod/1]" {
				t.Errorf("head %s, tags %s", s.Head(), got)
			}
		})
	}
	pipes := map[string]func(path string) error{
		"a pipe":            func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"a link to nothing": func(p string) error { return os.Symlink("nowhere", p) },
		"a link to itself":  func(p string) error { return os.Symlink(filepath.Base(p), p) },
		"a device":          func(p string) error { return os.Symlink("/dev/zero", p) },
		"an empty folder":   func(p string) error { return os.Mkdir(p, 0o750) },
	}
	for name, make := range pipes {
		t.Run(name, func(t *testing.T) {
			r := gittest.New(t)
			h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
			writeGit(t, r, "refs/tags/meshc/prod/1", h)
			must(t, make(filepath.Join(r.Dir, ".git/refs/tags/meshc/prod/2")))
			must(t, make(filepath.Join(r.Dir, ".git/refs/heads/dev")))
			s, err := openLocal(t, r.Dir).Fetch(t.Context())
			must(t, err)
			if got := fmt.Sprint(s.TagNames("")); s.Head() != h || got != "[meshc/prod/1]" {
				t.Errorf("head %s, tags %s", s.Head(), got)
			}
		})
	}
}

// The followed ref is read as git reads it, or refused.
func TestTheFollowedRefIsReadAsGitReadsIt(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	second := r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}})
	for name, c := range map[string]struct{ loose, packed, want string }{
		"own file first":       {second + "\n", "# pack-refs with: peeled fully-peeled sorted \n" + first + " refs/heads/main\n", second},
		"packed":               {"", first + " refs/heads/main\n^" + second + "\n", first},
		"without a line's end": {second, "", second},
		"text behind it":       {second + " text\n", "", second},
		"carriage return":      {second + "\r\n", "", second},
		"capitals":             {strings.ToUpper(second), "", second},
		"prefix in packed":     {"", first + " refs/heads/main2\n" + second + " refs/heads/main\n", second},
		"twice, the same":      {"", first + " refs/heads/main\n" + first + " refs/heads/main\n", first},
		"twice":                {"", first + " refs/heads/main\n" + second + " refs/heads/main\n", ""},
		"empty, packed below":  {" ", first + " refs/heads/main\n", ""},
		"CR in packed":         {"", first + " refs/heads/main\r\n", ""},
		"no hash in packed":    {"", "garbage\n", ""},
		"cut short in packed":  {"", first + " refs/heads/other\n" + second[:20], ""},
		"space before":         {" " + second, "", ""},
		"41 digits":            {second + "1", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(filepath.Join(r.Dir, ".git/refs/heads/main"))
			if c.loose != "" {
				writeGit(t, r, "refs/heads/main", c.loose)
			}
			writeGit(t, r, "packed-refs", c.packed)
			s, err := openLocal(t, r.Dir).Fetch(t.Context())
			if c.want == "" {
				var refused *gitrepo.Refused
				if !errors.As(err, &refused) || refused.Fix == "" {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || s.Head() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// What is not read is refused with its cause by name and a way out that works.
func TestWhatIsNotReadIsNamed(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}})
	r.Git("config", "uploadpack.allowFilter", "true")
	config := func(lines string) func(t *testing.T) string {
		return func(t *testing.T) string {
			to := clone(t, r, "--bare")
			must(t, appendFile(filepath.Join(to, "config"), lines))
			return to
		}
	}
	remote := func(flag string) func(t *testing.T) string {
		return func(t *testing.T) string {
			to := filepath.Join(t.TempDir(), "c")
			r.Git("clone", "-q", "--bare", flag, "file://"+r.Dir, to)
			return to
		}
	}
	for name, c := range map[string]struct {
		dir       func(t *testing.T) string
		word, fix string
	}{
		"version 9":         {config("[core]\n\trepositoryformatversion = 9\n"), "repositoryformatversion is 9", "0 or 1"},
		"version x":         {config("[core]\n\trepositoryformatversion = x\n"), `repositoryformatversion is "x"`, "0 or 1"},
		"negative version":  {config("[core]\n\trepositoryformatversion = -1\n"), `repositoryformatversion is "-1"`, "0 or 1"},
		"reftable":          {config("[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefStorage = reftable\n"), `refs are kept as "reftable"`, "git refs migrate --ref-format=files"},
		"SHA-256":           {config("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n"), `named by "sha256"`, "--object-format=sha1"},
		"unknown extension": {config("[core]\n\trepositoryformatversion = 1\n[Extensions]\n\tNewThing = true\n"), `extension "NewThing"`, "newer meshc"},
		"broken config":     {config("[core\n"), "its config", "git config --list"},
		"shallow":           {remote("--depth=1"), "which is a shallow clone", "git fetch --unshallow"},
		"partial":           {remote("--filter=blob:none"), "which is a partial clone", "without --filter"},
		"treeless":          {remote("--filter=tree:0"), "which is a partial clone", "without --filter"},
		"no folder":         {func(t *testing.T) string { return filepath.Join(r.Dir, "no/where") }, "there is no such folder", "not looked for above"},
		"a file":            {func(*testing.T) string { return filepath.Join(r.Dir, "a") }, "it is no folder", "folder"},
		"no repository":     {func(t *testing.T) string { return t.TempDir() }, "there is no Git repository", "git init"},
		"lost alternate": {func(t *testing.T) string {
			to := clone(t, r, "--bare", "--shared")
			must(t, os.WriteFile(filepath.Join(to, "objects/info/alternates"), []byte("/no/where\n"), 0o600))
			return to
		}, `borrows from a folder that is not there: "/no/where"`, "bring the folder back"},
		"pack without its index": {func(t *testing.T) string {
			to := clone(t, r, "--bare", "--no-local")
			must(t, os.Remove(packs(t, to)[0]+".idx"))
			return to
		}, "not in the repository", ""},
		"index of another pack": {func(t *testing.T) string {
			to := clone(t, r, "--bare", "--no-local")
			other := gittest.New(t)
			other.Commit(gittest.Commit{Files: map[string]string{"b": "1"}})
			other.Git("repack", "-adq")
			b, err := os.ReadFile(packs(t, filepath.Join(other.Dir, ".git"))[0] + ".idx")
			must(t, err)
			must(t, os.Remove(packs(t, to)[0]+".idx"))
			must(t, os.WriteFile(packs(t, to)[0]+".idx", b, 0o600))
			return to
		}, "its index is of another pack", "git fsck"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := openLocal(t, c.dir(t)).Fetch(t.Context())
			if err == nil {
				err = readAll(s)
			}
			wantCode(t, err, diag.CodeGitMissing, c.word)
			if r := (*gitrepo.Refused)(nil); errors.As(err, &r) && !strings.Contains(r.Fix, c.fix) {
				t.Errorf("way out: %q", r.Fix)
			}
		})
	}
}

// Objects are borrowed from no more folders, and along no longer a chain, than git
// itself goes; a circle ends.
func TestBorrowingIsBounded(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	dir := t.TempDir()
	folder := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for i := range 8 {
		must(t, os.MkdirAll(filepath.Join(folder(i), "info"), 0o750))
		must(t, os.WriteFile(filepath.Join(folder(i), "info/alternates"), []byte(folder((i+1)%8)+"\n"), 0o600))
	}
	blob := r.Git("rev-parse", "HEAD:a")
	at := func(root string) string { return filepath.Join(root, blob[:2], blob[2:]) }
	raw, err := os.ReadFile(at(filepath.Join(r.Dir, ".git/objects")))
	must(t, err)
	must(t, os.Remove(at(filepath.Join(r.Dir, ".git/objects"))))
	writeGit(t, r, "objects/info/alternates", folder(0)+"\n")
	for i, readable := range []bool{true, true, true, true, true, false} {
		must(t, os.MkdirAll(filepath.Dir(at(folder(i))), 0o750))
		must(t, os.WriteFile(at(folder(i)), raw, 0o600))
		s, err := openLocal(t, r.Dir).Fetch(t.Context())
		must(t, err)
		if err := readAll(s); (err == nil) != readable {
			t.Errorf("folder %d: %v", i, err)
		}
		must(t, os.Remove(at(folder(i))))
	}
}
