package cli

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/printer"
)

// planStart is what a change starts from, and what judges it.
type planStart struct {
	program  *compiler.Program
	problems diag.List // warnings
	policies compile.Rego
	// said is what a reader has to know of the base beside its name, in sentences.
	said []string
	// broken are the errors of a base that does not compile, in whose place an earlier commit
	// stands, or nothing.
	broken diag.List
	// from is the commit that is compared with, "" for none that could be read.
	from string
}

// baseDoc is what a report says of the base.
type baseDoc struct {
	// Commit is the one that was compared with, "" for none.
	Commit string `json:"commit"`
	// Said says in sentences how it came to that.
	Said []string `json:"said"`
	// Problems are what is wrong with the commit that was named.
	Problems diag.List `json:"problems"`
}

func (s planStart) document() baseDoc { return baseDoc{s.from, listOf(s.said), listOf(s.broken)} }

// planBase loads what the change starts from, for the same date, and the policies
// that stood there: a change cannot bring the policies that judge it. Before the first
// intent, or the first of an environment, that is nothing.
func planBase(ctx context.Context, c *compile.Compiler, f *planFlags, dir string, at time.Time, after *compiler.Program) (planStart, error) {
	if f.base == "none" {
		return planStart{program: compiler.Empty(after)}, nil
	}
	snap, err := gitrepo.At(dir, f.base, gitrepo.Options{})
	if err != nil {
		return planStart{}, err
	}
	hash := snap.Head()
	if f.expect != "" && f.expect != hash {
		return planStart{}, fail(diag.ExitStale, "base %s is %.12s, not %.12s as expected: plan again", f.base, hash, f.expect)
	}
	from, said, err := forked(snap, f, dir)
	if err != nil {
		return planStart{}, err
	}
	b := baseLoader{ctx, c, snap, dir, compiler.Options{Environment: after.Environment(), At: at, Memo: f.memo}, after}
	start, err := b.start(from)
	start.said = append(said, start.said...)
	return start, err
}

// forked is the commit to compare with: where what is planned left the base's branch, so
// that the work of others since then is not told as undone. Who asks about a commit that
// the base descends from wants to go back to it, and is told what that undoes.
func forked(snap *gitrepo.Snapshot, f *planFlags, dir string) (from string, said []string, err error) {
	base := snap.Head()
	if !f.mergeBase {
		return base, nil, nil
	}
	rev := f.rev
	if rev == "" {
		rev = "HEAD"
	}
	head, err := gitrepo.Resolve(dir, rev)
	if err != nil {
		if f.rev == "" {
			return base, nil, nil // no commit yet
		}
		return "", nil, err
	}
	fork, err := snap.MergeBase(head, base)
	switch {
	case err != nil:
		return "", nil, err
	case fork.Commit == "":
		return base, []string{printer.Sprintf("compared with %.12s itself: where this left %s is not in the repository, or nowhere", base, f.base)}, nil
	case fork.Commit == base || (fork.Commit == head && f.rev != ""):
		return base, nil, nil
	}
	return fork.Commit, []string{printer.Sprintf("compared with %.12s, where this left %s: %s there since then; merge it to see both together (--merge-base=false compares with %s itself)",
		fork.Commit, f.base, came(fork.Ahead), f.base)}, nil
}

// baseError says that nothing is known of what a change starts from.
type baseError struct {
	hash     string
	problems diag.List
}

func (e *baseError) Error() string {
	return printer.Sprintf("the base %.12s is not compiled; compare with a commit that is, or with --base none", e.hash)
}

func came(n int) string {
	if n == 1 {
		return "1 commit came"
	}
	return printer.Sprintf("%d commits came", n)
}

// baseLoader loads commits to compare with.
type baseLoader struct {
	ctx     context.Context //nolint:containedctx // of one call
	c       *compile.Compiler
	snap    *gitrepo.Snapshot
	dir     string
	options compiler.Options
	after   *compiler.Program
}

// maxBroken bounds the commits that are tried before a base that does not compile.
const maxBroken = 10

// start is the base at a commit, or, where that does not compile, at the newest one before
// it that does: a change that repairs a branch is reviewed like any other.
func (b baseLoader) start(hash string) (planStart, error) {
	start, err := b.load(hash)
	if err != nil || start.program != nil {
		return start, err
	}
	if code := exitOf(start.broken); code == diag.ExitBudget || code == diag.ExitFailure {
		return planStart{}, &baseError{hash, start.broken} // no verdict
	}
	commit, err := b.snap.Commit(hash)
	for range maxBroken {
		if err != nil || commit.FirstParent() == "" {
			break
		}
		if commit, err = b.snap.Commit(commit.FirstParent()); err != nil {
			break
		}
		earlier, err := b.load(commit.Hash)
		if err != nil {
			return planStart{}, err
		}
		if earlier.program != nil {
			if earlier.broken = start.broken; start.from != "" {
				earlier.policies = start.policies // what stands there now judges
			}
			earlier.said = append([]string{printer.Sprintf("the base %.12s does not compile: compared with %.12s, the last commit before it that does", hash, commit.Hash)}, earlier.said...)
			return earlier, nil
		}
	}
	start.program = compiler.Empty(b.after)
	start.said = []string{printer.Sprintf("the base %.12s does not compile, and no commit shortly before it does: all is compared with nothing", hash)}
	return start, nil
}

// load compiles the intent of a commit. Without a program it is broken.
func (b baseLoader) load(hash string) (planStart, error) {
	fsys, err := intentAt(b.snap, hash, b.dir)
	if refused := (*gitrepo.Refused)(nil); errors.As(err, &refused) && (refused.Code == diag.CodeGitTree || refused.Code == diag.CodeGitLimit) {
		return planStart{broken: diag.List{refused.Diagnostic()}}, nil // nor can its policies be read
	}
	if err != nil {
		return planStart{}, err
	}
	out := planStart{policies: compile.OwnPolicies(fsys), from: hash}
	nothing := func(lacks string) (planStart, error) {
		out.program, out.said = compiler.Empty(b.after), []string{printer.Sprintf("the base %.12s has no %s: all of it is new", hash, lacks)}
		return out, nil
	}
	if _, err := fs.Stat(fsys, "."); errors.Is(err, fs.ErrNotExist) {
		return nothing("intent")
	}
	p, ds, err := b.c.Load(b.ctx, fsys, b.options)
	if err != nil {
		return planStart{}, err
	}
	switch {
	case !ds.HasErrors():
		out.program, out.problems = p, ds
	case only(ds, diag.CodeNoIntent):
		return nothing("intent")
	case only(ds, diag.CodeEnvironment):
		return nothing(printer.Sprintf("environment %q", b.options.Environment))
	default:
		out.broken = ds
	}
	return out, nil
}

// only reports whether all errors of the list have one code.
func only(ds diag.List, code diag.Code) bool {
	return !slices.ContainsFunc(ds, func(d diag.Diagnostic) bool { return d.IsError() && d.Code != code })
}
