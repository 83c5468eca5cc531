package branch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

// git runs the git program on a repository of its own, with the settings of a clone.
type git struct {
	dir   string // where relative addresses of remotes begin
	env   []string
	store *filesystem.Storage
}

// workshop makes the repository in an empty folder. The clone's config is included:
// remotes, credential helpers, headers that a CI set.
func workshop(ctx context.Context, clone, dir string) (*git, error) {
	g := &git{dir: clone, env: plainEnvironment()}
	common, err := g.run(ctx, "rev-parse", "--git-common-dir")
	if err != nil {
		return nil, noGit(err)
	}
	if !common.ok {
		return nil, unreadable("name the clone of the intent with --repo", "%q is no clone of a repository: %s", clone, common.said)
	}
	config := filepath.Join(absolute(clone, strings.TrimSpace(string(common.out))), "config")
	if config, err = filepath.Abs(config); err != nil {
		return nil, fmt.Errorf("finding the settings of %q: %w", clone, err)
	}
	if top, err := g.run(ctx, "rev-parse", "--show-toplevel"); err == nil && top.ok {
		g.dir = strings.TrimRight(string(top.out), "\n")
	}
	if made, err := g.run(ctx, "init", "--quiet", "--bare", "--template=", dir); err != nil || !made.ok {
		return nil, fmt.Errorf("making a repository to push from: %s: %w", made.said, errors.Join(err, os.ErrInvalid))
	}
	g.env = setting(append(g.env, "GIT_DIR="+dir), "include.path", config)
	g.store = filesystem.NewStorage(osfs.New(dir), cache.NewObjectLRUDefault())
	return g, nil
}

// plainEnvironment is ours, without what points git at another repository.
func plainEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
			"GIT_COMMON_DIR", "GIT_NAMESPACE", "LC_ALL"}, name)
	})
}

// setting adds one to those that an environment has for git; a CI may keep credentials
// there.
func setting(env []string, key, value string) []string {
	const counts = "GIT_CONFIG_COUNT="
	n := 0
	for _, kv := range env {
		if text, ok := strings.CutPrefix(kv, counts); ok {
			n, _ = strconv.Atoi(text) // git refuses what is no number, at the first command
		}
	}
	return append(env, fmt.Sprintf("%s%d", counts, n+1), fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, value))
}

// result is what a command of git's left; said is for people, without credentials.
type result struct {
	ok   bool
	out  []byte
	said string
}

// maxSaid and maxOut bound what is kept of what git says and gives.
const (
	maxSaid = 2 << 10
	maxOut  = 1 << 20
)

func (g *git) run(ctx context.Context, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = g.dir, append(slices.Clone(g.env), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	var out, said limited
	out.most, said.most = maxOut, maxSaid
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	r := result{ok: err == nil, out: out.b, said: oneLine(hidden(string(said.b)))}
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.said = fmt.Sprintf("no answer within %s", patience)
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case err != nil && !errors.As(err, &exit):
		return r, err
	}
	return r, nil
}

// oneLine is the first thing that git calls wrong, else all of it.
func oneLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "fatal: ") || strings.HasPrefix(l, "error: ") || strings.HasPrefix(l, "remote: ") {
			return strings.TrimSpace(l)
		}
	}
	return strings.Join(lines, "; ")
}

// limited keeps the first bytes.
type limited struct {
	b    []byte
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), l.most-len(l.b))]...)
	return len(p), nil
}

// head is where a ref of a remote stands, "" if it does not exist.
func (g *git) head(ctx context.Context, remote, ref string) (string, error) {
	r, err := g.run(ctx, "ls-remote", "--quiet", "--", remote, ref)
	if err != nil {
		return "", noGit(err)
	}
	if !r.ok {
		return "", unreadable("`git ls-remote` has to work with this remote: check its address and your credentials", "the repository to push to cannot be read: %s", r.said)
	}
	for line := range strings.Lines(string(r.out)) {
		hash, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name == ref && gitrepo.IsHash(hash) {
			return hash, nil
		}
	}
	return "", nil
}

// fetch brings the commit at the head, without what was before it. ok is false if the
// ref stands elsewhere by now.
func (g *git) fetch(ctx context.Context, remote, ref, head string) (commit []byte, tree string, ok bool, err error) {
	r, err := g.run(ctx, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--depth=1", "--", remote, ref)
	if err != nil {
		return nil, "", false, noGit(err)
	}
	if !r.ok {
		return nil, "", false, unreadable("`git fetch` has to work with this remote", "what is on the branch cannot be read: %s", r.said)
	}
	if r, err = g.run(ctx, "cat-file", "commit", head); err != nil || !r.ok {
		return nil, "", false, err
	}
	first, _, _ := strings.Cut(string(r.out), "\n")
	return r.out, strings.TrimPrefix(first, "tree "), true, nil
}

// commit writes a signed commit.
func (g *git) commit(l rendered.Label, tree, parent string, by Author) (string, error) {
	raw, err := commitObject(l, tree, parent, by)
	if err != nil {
		return "", err
	}
	return g.put(plumbing.CommitObject, raw)
}

// push asks for the branch to be moved, which the server does only from where the
// commit's parent was its head. taken is false if that was not so any more.
func (g *git) push(ctx context.Context, t Target, commit, ref string) (taken bool, err error) {
	r, err := g.run(ctx, "push", "--quiet", "--porcelain", "--no-verify", "--", t.Remote, commit+":"+ref)
	if err != nil {
		return false, noGit(err)
	}
	if r.ok {
		return true, nil
	}
	for line := range strings.Lines(string(r.out)) {
		if !strings.HasPrefix(line, "!") {
			continue
		}
		for _, raced := range []string{"(fetch first)", "(non-fast-forward)", "(stale info)", "(failed to update ref)", "(cannot lock ref", "(incorrect old value", "(reference already exists)"} {
			if strings.Contains(line, raced) {
				return false, nil
			}
		}
		r.said = strings.Join(strings.Fields(hidden(line)), " ") + ": " + r.said
	}
	return false, problem("`git push` has to be allowed to this branch: see what its server protects", "nothing is pushed to %s: %s", t, r.said)
}

// write puts files into the repository and gives the hash of their tree.
func (g *git) write(files []gitrepo.File) (string, error) {
	root := &folder{below: map[string]*folder{}}
	for _, f := range files {
		blob, err := g.put(plumbing.BlobObject, f.Bytes)
		if err != nil {
			return "", err
		}
		at := root
		dir, name := path.Split(f.Path)
		for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
			if part != "" {
				at = at.child(part)
			}
		}
		at.entries = append(at.entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: plumbing.NewHash(blob)})
	}
	return g.writeTree(root)
}

// folder is a tree to be.
type folder struct {
	entries []object.TreeEntry
	below   map[string]*folder
}

func (f *folder) child(name string) *folder {
	if f.below[name] == nil {
		f.below[name] = &folder{below: map[string]*folder{}}
	}
	return f.below[name]
}

func (g *git) writeTree(f *folder) (string, error) {
	for name, sub := range f.below {
		hash, err := g.writeTree(sub)
		if err != nil {
			return "", err
		}
		f.entries = append(f.entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: plumbing.NewHash(hash)})
	}
	slices.SortFunc(f.entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	var raw bytes.Buffer
	for _, e := range f.entries {
		fmt.Fprintf(&raw, "%o %s\x00", uint32(e.Mode), e.Name)
		raw.Write(e.Hash[:])
	}
	return g.put(plumbing.TreeObject, raw.Bytes())
}

// sortName is by what git orders the entries of a tree.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

func (g *git) put(kind plumbing.ObjectType, raw []byte) (string, error) {
	o := &plumbing.MemoryObject{}
	o.SetType(kind)
	_, _ = o.Write(raw) // never fails
	h, err := g.store.SetEncodedObject(o)
	if err != nil {
		return "", fmt.Errorf("writing what is to be pushed: %w", err)
	}
	return h.String(), nil
}
