package gitrepo

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"

	"meshc.dev/meshc/internal/diag"
)

// Snapshot is a repository at one moment: where the ref and the tags stood.
// Everything else is reached from there by hash, so that what was verified and
// what is compiled are the same bytes. Safe for several goroutines.
type Snapshot struct {
	ref, head string
	tags      tagRefs
	store     *store
	dropped   map[plumbing.Hash]bool // tag objects that are too much to fetch
	look
}

// look is one reading of a snapshot.
type look struct {
	ctx    context.Context // ends every read
	failed *atomic.Pointer[error]
}

func newLook(ctx context.Context) look { return look{ctx, new(atomic.Pointer[error])} }

func newSnapshot(ref string, st *store) *Snapshot {
	return &Snapshot{ref: ref, store: st, look: newLook(context.Background())}
}

// Within is the snapshot as one look reads it: every read ends with ctx, and Err
// tells whether any of them failed. It shares what was read before.
func (s *Snapshot) Within(ctx context.Context) *Snapshot {
	view := *s
	view.look = newLook(ctx)
	return &view
}

// Err is the first reason why a read of this look gave neither an object nor a
// *Refused: its context ended, or the repository could not be read now. Such a
// failure says nothing about the repository, so whoever decides by what was read,
// or by what was found missing or ignored, has to ask for it last: without an
// error everything that was asked for was answered.
func (s *Snapshot) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return context.Cause(s.ctx)
}

// ended is why no more is read in this look, or nil.
func (l look) ended() error {
	if l.ctx.Err() == nil {
		return nil
	}
	return l.answered(context.Cause(l.ctx))
}

// answered notes an error that is no verdict.
func (l look) answered(err error) error {
	if r := (*Refused)(nil); err != nil && !errors.As(err, &r) {
		l.failed.CompareAndSwap(nil, &err)
	}
	return err
}

// Ref is the ref that was followed, Head the commit that it stood at.
func (s *Snapshot) Ref() string { return s.ref }

// Head is the full hash of the ref's commit.
func (s *Snapshot) Head() string { return s.head }

// Commit returns a commit by its full hash.
func (s *Snapshot) Commit(hash string) (Commit, error) {
	if err := s.ended(); err != nil {
		return Commit{}, err
	}
	c, err := remembered(s.ctx, s.store, commitKind, hash, func(raw []byte) (Commit, error) {
		return parseCommit(hash, raw, s.store.limits)
	})
	return c, s.answered(err)
}

// ErrNotAncestor says that a first-parent chain ended without meeting a commit.
var ErrNotAncestor = errors.New("not a first-parent ancestor")

// Chain returns the commits from `from` (exclusive) to `to` (inclusive) along
// first parents, oldest first. With from == "" it goes to the root. It fails
// with ErrNotAncestor if the chain does not pass `from`.
func (s *Snapshot) Chain(from, to string) ([]Commit, error) {
	var out []Commit
	for h := to; h != from; {
		if len(out) >= s.store.limits.Commits {
			return nil, refuse(diag.CodeGitLimit, "commit "+to, "more than %d commits since %s", len(out), quote(from)).
				fix("move the trust policy's anchor forward")
		}
		c, err := s.Commit(h)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		if h = c.FirstParent(); h == "" && from != "" {
			return nil, ErrNotAncestor
		}
	}
	slices.Reverse(out)
	return out, nil
}

const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

func (s *Snapshot) tree(hash, at string) ([]entry, error) {
	if err := s.ended(); err != nil {
		return nil, err
	}
	if hash == emptyTree { // git does not always store it
		if at != "" {
			return nil, refuse(diag.CodeGitTree, "tree "+hash, "it is an empty folder").at(at).fix(treeFix)
		}
		return nil, nil
	}
	es, err := remembered(s.ctx, s.store, treeKind, hash, func(raw []byte) ([]entry, error) {
		return parseTree(hash, raw, s.store.limits)
	})
	if r := (*Refused)(nil); errors.As(err, &r) {
		r.Path = join(at, r.Path)
	}
	return es, s.answered(err)
}

// Changed returns the paths of files that a commit adds, removes or alters
// against its first parent, sorted; for a root commit all its files. A merge
// answers for everything it brings.
func (s *Snapshot) Changed(c Commit) ([]string, error) {
	var before string
	if p := c.FirstParent(); p != "" {
		pc, err := s.Commit(p)
		if err != nil {
			return nil, err
		}
		before = pc.Tree
	}
	paths, err := s.Differ(before, c.Tree)
	return paths, inCommit(c, err)
}

// inCommit names the commit whose tree is refused.
func inCommit(c Commit, err error) error {
	if r := (*Refused)(nil); errors.As(err, &r) && r.Commit == "" {
		r.Commit = c.Hash
	}
	return err
}

// Differ returns the paths of files that differ between two trees by their
// hashes; "" is the empty tree.
func (s *Snapshot) Differ(before, after string) ([]string, error) {
	d := differ{s: s}
	if err := d.trees(before, after, "", 0); err != nil {
		return nil, err
	}
	slices.Sort(d.paths)
	return slices.Compact(d.paths), nil
}

type differ struct {
	s       *Snapshot
	paths   []string
	entries int
}

func (d *differ) trees(before, after, at string, depth int) error {
	if before == after {
		return nil
	}
	a, err := d.load(before, at, depth)
	if err != nil {
		return err
	}
	b, err := d.load(after, at, depth)
	if err != nil {
		return err
	}
	old := map[string]entry{}
	for _, e := range a {
		old[e.name] = e
	}
	for _, e := range b {
		o, had := old[e.name]
		delete(old, e.name)
		if err := d.pair(o, had, e, true, join(at, e.name), depth); err != nil {
			return err
		}
	}
	for _, o := range old {
		if err := d.pair(o, true, entry{}, false, join(at, o.name), depth); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) pair(o entry, had bool, e entry, has bool, path string, depth int) error {
	if had && has && o.hash == e.hash && o.dir == e.dir && o.exec == e.exec {
		return nil
	}
	var before, after string
	if had && o.dir {
		before = o.hash
	}
	if has && e.dir {
		after = e.hash
	}
	if (had && !o.dir) || (has && !e.dir) {
		d.paths = append(d.paths, path)
	}
	return d.trees(before, after, path, depth+1)
}

func (d *differ) load(hash, at string, depth int) ([]entry, error) {
	if hash == "" {
		return nil, nil
	}
	l := d.s.store.limits
	if depth > l.Depth || len(at) > l.PathBytes {
		return nil, refuse(diag.CodeGitLimit, "tree "+hash, "folders are nested deeper than %d, or a path is longer than %d bytes", l.Depth, l.PathBytes).
			at(at).fix("use fewer folders")
	}
	es, err := d.s.tree(hash, at)
	if d.entries += len(es); err == nil && d.entries > 2*l.Entries {
		return nil, refuse(diag.CodeGitLimit, "tree "+hash, "more than %d entries differ", 2*l.Entries).at(at).fix("split the change")
	}
	return es, err
}
