package gitrepo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

var revision = regexp.MustCompile(`^[A-Za-z0-9_@][-A-Za-z0-9_./+@]{0,200}([~^][0-9]{0,6}){0,50}$`)

// Resolve turns what people write (HEAD, main, origin/main, v1^, a short hash) into
// a full commit hash in the local repository at or above dir. Errors are *Refused,
// or a *TransportError if the repository cannot be read now.
func Resolve(dir, rev string) (string, error) {
	s, err := At(dir, rev, Options{})
	if err != nil {
		return "", err
	}
	return s.head, nil
}

// At returns a snapshot of the local repository at or above dir whose head is rev:
// what plan and show read. It has no tags. Errors as for Resolve.
func At(dir, rev string, o Options) (*Snapshot, error) {
	if !revision.MatchString(rev) || strings.Contains(rev, "..") {
		return nil, refuse(diag.CodeGitSource, "revision "+quote(rev), "it is no commit's name").fix("give a hash, a branch or a tag")
	}
	ctx := context.Background() // a read has its own end
	l := newLocal(dir, o.orDefault())
	defer l.close() // a later read opens again what it needs
	_, err := inTurn(ctx, l.store.turn, func(context.Context) (struct{}, error) {
		f, err := findRepository(dir)
		if err == nil {
			l.files.reopen(f)
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	s := newSnapshot(rev, l.store).Within(ctx)
	if s.head, err = l.revision(ctx, s, rev); err != nil {
		return nil, err
	}
	return s, s.checkHead()
}

// revision follows a name and its steps to parents.
func (l *local) revision(ctx context.Context, s *Snapshot, rev string) (string, error) {
	name, steps := rev, ""
	if i := strings.IndexAny(rev, "~^"); i >= 0 {
		name, steps = rev[:i], rev[i:]
	}
	hash, err := l.named(ctx, s, name)
	if errors.Is(err, errNoRevision) {
		return "", l.noRevision(ctx, rev, name)
	}
	for err == nil && steps != "" {
		op := steps[0]
		end := 1
		for end < len(steps) && steps[end] >= '0' && steps[end] <= '9' {
			end++
		}
		n := 1
		if end > 1 {
			n, _ = strconv.Atoi(steps[1:end]) // at most six digits
		}
		steps = steps[end:]
		if op == '^' {
			hash, err = s.parent(hash, n)
			continue
		}
		for ; err == nil && n > 0; n-- {
			hash, err = s.parent(hash, 1)
		}
	}
	if errors.Is(err, errNoRevision) {
		// What a shallow clone lacks is told by the commit that is missing.
		return "", refuse(diag.CodeGitMissing, "revision "+quote(rev), "%s has fewer commits before it, or fewer parents", quote(name)).
			fix("give another: git log %s", name)
	}
	return hash, err
}

var errNoRevision = errors.New("no such revision")

// noRevision says why a repository does not have what a name stands for, and what was meant.
func (l *local) noRevision(ctx context.Context, rev, name string) error {
	problem := refuse(diag.CodeGitMissing, "revision "+quote(rev), "the repository does not have it")
	if name == "HEAD" || name == "@" {
		return problem.fix("there is no commit yet, or HEAD names a branch without one: make the first, or check out another")
	}
	near, misspelt := diag.Nearest(name, l.branches(ctx))
	if remote, branch, ok := strings.Cut(name, "/"); ok && remote != "refs" && !misspelt {
		// A checkout of one commit has no other branch, and may not be set to fetch them:
		// `git fetch --unshallow` would leave it so.
		return problem.fix("fetch it: git fetch %s +refs/heads/%s:refs/remotes/%s", remote, branch, name)
	} else if ok && remote != "refs" {
		return problem.fix("did you mean %s? If not, fetch it: git fetch %s +refs/heads/%s:refs/remotes/%s", near, remote, branch, name)
	}
	if misspelt {
		return problem.fix("did you mean %s?", near)
	}
	return problem.fix("fetch it (a shallow clone lacks older commits: `git fetch --unshallow`), or give another")
}

// branches are the short names of the branches, those of remotes too, by which a
// misspelt one is found. What cannot be read has none: it is told elsewhere.
func (l *local) branches(ctx context.Context) []string {
	names, _ := inTurn(ctx, l.store.turn, func(ctx context.Context) ([]string, error) {
		var out []string
		note := func(name string) error { out = append(out, name); return ctx.Err() }
		repo, limits := l.files.repo, l.opts.Limits
		return out, errors.Join(repo.looseRefs(ctx, limits, "refs/heads/", note), repo.looseRefs(ctx, limits, "refs/remotes/", note),
			repo.packedRefs(ctx, limits, func(name, _ string) error { return note(name) }))
	})
	var short []string
	for _, name := range names {
		for _, prefix := range []string{"refs/heads/", "refs/remotes/"} {
			if branch, ok := strings.CutPrefix(name, prefix); ok {
				short = append(short, branch)
			}
		}
	}
	return short
}

// parent is the nth parent of a commit, itself for 0.
func (s *Snapshot) parent(hash string, n int) (string, error) {
	if n == 0 {
		return hash, nil
	}
	c, err := s.Commit(hash)
	if err != nil {
		return "", err
	}
	if n > len(c.Parents) {
		return "", errNoRevision
	}
	return c.Parents[n-1], nil
}

// named finds a commit by a ref's name, complete or short in git's order, by its
// hash, or by the beginning of it.
func (l *local) named(ctx context.Context, s *Snapshot, name string) (string, error) {
	if IsHash(name) {
		return l.commitOf(ctx, s, name)
	}
	if name == "@" {
		name = "HEAD"
	}
	for _, form := range []string{"%", "refs/%", "refs/tags/%", "refs/heads/%", "refs/remotes/%", "refs/remotes/%/HEAD"} {
		full := strings.Replace(form, "%", name, 1)
		if form == "%" && !strings.HasPrefix(name, "refs/") && name != strings.ToUpper(name) {
			continue
		}
		hash, err := l.followed(ctx, full)
		if err != nil {
			return "", err
		}
		if hash != "" {
			return l.commitOf(ctx, s, hash)
		}
	}
	if len(name) < 4 || !isHex(name) {
		return "", errNoRevision
	}
	found, err := inTurn(ctx, l.store.turn, func(ctx context.Context) ([]string, error) { return l.files.beginning(ctx, name) })
	if err != nil {
		return "", l.store.objectError("revision "+quote(name), err)
	}
	var commits []string
	for _, h := range found {
		if c, err := l.commitOf(ctx, s, h); err == nil {
			commits = append(commits, c)
		}
	}
	switch len(commits) {
	case 0:
		return "", errNoRevision
	case 1:
		return commits[0], nil
	}
	return "", refuse(diag.CodeGitSource, "revision "+quote(name), "%d commits begin with it", len(commits)).fix("give more digits")
}

// followed is the hash at the end of a ref, "" without the ref.
func (l *local) followed(ctx context.Context, name string) (string, error) {
	return inTurn(ctx, l.store.turn, func(ctx context.Context) (string, error) {
		for range 5 { // as deep as git goes
			if !plainName(name) {
				return "", nil
			}
			hash, to, err := l.files.repo.ref(ctx, l.opts.Limits, name)
			if err != nil || to == "" {
				return hash, err
			}
			name = to
		}
		return "", nil
	})
}

// plainName says that a ref's name stays within the repository's folder.
func plainName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.HasSuffix(name, ".lock") && !strings.ContainsAny(name, "\x00\\:")
}

// commitOf gives the commit that a hash names, through annotated tags.
func (l *local) commitOf(ctx context.Context, s *Snapshot, hash string) (string, error) {
	for range 10 {
		k, err := inTurn(ctx, l.store.turn, func(context.Context) (kind, error) { k, _, err := l.files.stat(hash); return k, err })
		if err != nil {
			return "", l.store.objectError("object "+hash, err)
		}
		if k != tagKind {
			return hash, nil
		}
		raw, err := l.store.read(ctx, tagKind, hash)
		if err != nil {
			return "", err
		}
		hs, _, reason := splitObject(raw, s.store.limits)
		if reason != "" || len(hs) == 0 || hs[0].key != "object" || !IsHash(hs[0].value) {
			return "", badTag(hash, "it does not begin with an object")
		}
		hash = hs[0].value
	}
	return "", badTag(hash, "it is a tag of a tag of a tag")
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// maxBeginning bounds the objects that are tried for a short hash.
const maxBeginning = 64

// beginning gives the objects whose hash begins with some digits.
func (o *objectFiles) beginning(ctx context.Context, digits string) ([]string, error) {
	found := map[string]bool{}
	for _, s := range o.stores {
		for _, p := range s.packs {
			if err := p.beginning(digits, found); err != nil && unreadable(err) && !absent(err) {
				return nil, err
			}
		}
		err := listFolder(ctx, filepath.Join(s.path, digits[:2]), func() error { return nil }, func(e fs.DirEntry) error {
			if h := digits[:2] + e.Name(); IsHash(h) && strings.HasPrefix(h, digits) && len(found) < maxBeginning {
				found[h] = true
			}
			return nil
		})
		if err != nil && !absent(err) {
			return nil, err
		}
	}
	out := make([]string, 0, len(found))
	for h := range found {
		out = append(out, h)
	}
	return out, nil
}

func (p *pack) beginning(digits string, found map[string]bool) error {
	if err := p.open(); err != nil {
		return err
	}
	low, high := []byte(digits+strings.Repeat("0", 40-len(digits))), []byte(digits+strings.Repeat("f", 40-len(digits)))
	for _, b := range [][]byte{low, high} {
		if _, err := hex.Decode(b, b); err != nil {
			return err
		}
	}
	low, high = low[:20], high[:20]
	start, width, at := p.rows()
	for i := p.upTo(int(low[0]) - 1); i < p.upTo(int(low[0])) && len(found) < maxBeginning; i += chunk {
		n := min(chunk, p.upTo(int(low[0]))-i)
		b := make([]byte, n*width)
		if err := readAt(p.idx, b, start+i*width); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[width:] {
			if name := b[at : at+20]; bytes.Compare(name, low) >= 0 && bytes.Compare(name, high) <= 0 {
				found[hex.EncodeToString(name)] = true
			}
		}
	}
	return nil
}
