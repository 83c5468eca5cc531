package gitrepo

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"meshc.dev/meshc/internal/diag"
)

// Options say how a repository is reached. The zero value reads local folders,
// and https and ssh without credentials.
type Options struct {
	Schemes Schemes
	Limits  Limits
	Auth    Auth
	// TagPrefix limits the tags that are fetched and read, default "meshc/".
	TagPrefix string
}

// Repo is a source and one ref of it. It is safe for use by several goroutines.
type Repo struct {
	source Source
	ref    string
	opts   Options

	cache  *cache
	mu     sync.Mutex
	last   *Snapshot
	remote *remote // nil for a local folder
}

// Open checks the address and the ref and returns the repository without
// reading it: that is Fetch. Errors are *Refused.
func Open(address, ref string, o Options) (*Repo, error) {
	src, err := ParseSource(address, o.Schemes)
	if err != nil {
		return nil, err
	}
	if err := CheckRef(ref); err != nil {
		return nil, err
	}
	o.Limits = o.Limits.orDefault()
	if o.TagPrefix == "" {
		o.TagPrefix = "meshc/"
	}
	r := &Repo{source: src, ref: ref, opts: o, cache: newCache(cacheBytes)}
	if src.Kind != Local {
		if r.remote, err = newRemote(src, o, r.cache); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Fetch returns the repository as it is now. If neither the ref nor a tag moved
// since the last call, it returns the same Snapshot. A *Refused means that the
// repository is not acceptable; every other error that it may be so later.
func (r *Repo) Fetch(ctx context.Context) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var s *Snapshot
	var err error
	if r.remote != nil {
		s, err = r.remote.fetch(ctx, r.ref, r.last)
	} else {
		s, err = openLocal(r.source.Address, r.ref, r.opts, r.cache)
	}
	if err == nil {
		err = s.Within(ctx).checkHead()
	}
	if err != nil {
		return nil, err
	}
	same := r.remote == nil || (r.last != nil && r.last.store.objects == s.store.objects)
	if r.last != nil && same && r.last.head == s.head && maps.Equal(r.last.tags, s.tags) {
		return r.last, nil
	}
	r.last = s
	return s, nil
}

func plainOpen(dir string) (*git.Repository, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// A bare repository first: the search for .git goes up from here and passes it by.
	repo, err := git.PlainOpenWithOptions(abs, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainOpenWithOptions(abs, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	}
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, refuse(diag.CodeGitMissing, "repository "+quote(dir), "there is no Git repository").
			fix("run git init there, or name another folder")
	}
	if err != nil {
		return nil, refuse(diag.CodeGitMissing, "repository "+quote(dir), "it cannot be opened: %v", err).
			fix("check it with git -C %s fsck; repositories with SHA-256 objects or reftables are not read", quote(dir))
	}
	return repo, nil
}

func openLocal(dir, ref string, o Options, c *cache) (*Snapshot, error) {
	repo, err := plainOpen(dir)
	if err != nil {
		return nil, err
	}
	s := newSnapshot(ref, &store{objects: repo.Storer, limits: o.Limits, cache: c})
	it, err := repo.Storer.IterReferences()
	if err != nil {
		return nil, refuse(diag.CodeGitObject, "repository "+quote(dir), "its refs cannot be read: %v", err).fix("run git fsck")
	}
	n := 0
	err = it.ForEach(func(pr *plumbing.Reference) error {
		if n++; n > o.Limits.Refs {
			return tooManyRefs(o.Limits)
		}
		return s.take(pr, o)
	})
	if err != nil {
		return nil, err
	}
	s.index()
	return s, nil
}

func tooManyRefs(l Limits) error {
	return refuse(diag.CodeGitLimit, "repository", "more than %d refs", l.Refs).fix("delete refs that nobody needs")
}

// take keeps the followed ref and the tags under the prefix.
func (s *Snapshot) take(pr *plumbing.Reference, o Options) error {
	name := pr.Name().String()
	if name == s.ref {
		if pr.Type() != plumbing.HashReference {
			return refuse(diag.CodeGitSource, "ref "+quote(name), "it is a symbolic ref").fix("follow the branch that it names")
		}
		s.head = pr.Hash().String()
	}
	tag, ok := strings.CutPrefix(name, "refs/tags/")
	if !ok || !strings.HasPrefix(tag, o.TagPrefix) || pr.Type() != plumbing.HashReference {
		return nil
	}
	if CheckRef(name) != nil {
		return nil // nothing that meshc writes has such a name
	}
	if s.tags[tag] = pr.Hash().String(); len(s.tags) > o.Limits.Tags {
		return refuse(diag.CodeGitLimit, "repository", "more than %d tags under %s", o.Limits.Tags, o.TagPrefix).
			fix("delete approval tags of commits long served")
	}
	return nil
}

func (s *Snapshot) checkHead() error {
	if s.head == "" {
		return refuse(diag.CodeGitMissing, "ref "+quote(s.ref), "the repository does not have it").
			fix("push the branch, or change the ref")
	}
	_, err := s.Commit(s.head)
	return err
}

var revision = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_./+@~^]{0,200}$`)

// Resolve turns what people write (HEAD, main, origin/main, v1^, a short hash) into
// a full commit hash in the local repository at or above dir.
func Resolve(dir, rev string) (string, error) {
	if !revision.MatchString(rev) || strings.Contains(rev, "..") || strings.Contains(rev, "@{") {
		return "", refuse(diag.CodeGitSource, "revision "+quote(rev), "it is no commit's name").fix("give a hash, a branch or a tag")
	}
	repo, err := plainOpen(dir)
	if err != nil {
		return "", err
	}
	h, err := repo.ResolveRevision(plumbing.Revision(rev))
	if err != nil {
		return "", refuse(diag.CodeGitMissing, "revision "+quote(rev), "the repository does not have it").
			fix("fetch it (a shallow clone lacks older commits: `git fetch --unshallow`), or give another")
	}
	return h.String(), nil
}

// At returns a snapshot of the local repository at or above dir whose head is rev:
// what plan and show read. Errors as for Resolve and Fetch.
func At(dir, rev string, o Options) (*Snapshot, error) {
	h, err := Resolve(dir, rev)
	if err != nil {
		return nil, err
	}
	repo, err := plainOpen(dir)
	if err != nil {
		return nil, err
	}
	o.Limits = o.Limits.orDefault()
	s := newSnapshot(rev, &store{objects: repo.Storer, limits: o.Limits, cache: newCache(cacheBytes)})
	s.head = h
	return s, s.checkHead()
}
