// Package feed turns a Git repository that changes into approved releases.
//
// In: a repository, the trust policy, and a function that compiles a commit's
// files. Out: events: what was approved, what was refused and why, whether the
// source answers and is fresh.
//
// What always holds: an Approved event comes only from approval.Verify or
// approval.Store.Restore; what was approved stays in force whatever happens to the
// source; untrusted intent is compiled only after its history was accepted; an
// event is sent once, when something changed, never at every poll.
package feed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"time"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Compile compiles a commit's files for an environment and for the commit's date:
// the release and one for each later expiry. The tree cannot change.
type Compile func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error)

// Config is what a Feed needs. Zero durations have defaults.
type Config struct {
	Repo        *gitrepo.Repo
	Trust       approval.Trust
	Environment string
	// Dir keeps the last approvals; empty keeps none.
	Dir string
	// Compiler is this meshc's version, Compile its compiler.
	Compiler string
	Compile  Compile
	// Interval between polls, default 15 s, stretched at random by up to a tenth.
	Interval time.Duration
	// MaxBackoff bounds the wait after repeated failures, default 5 minutes.
	MaxBackoff time.Duration
	// Now is the clock.
	Now func() time.Time
	// Wake polls at once, such as after a push; may be nil.
	Wake <-chan struct{}
	Log  *slog.Logger // default: nothing is logged
}

// Kind is what an event says.
type Kind string

// The kinds of events. Each is sent when it becomes so.
const (
	Approved    Kind = "approved"    // Approved is to be served
	Refused     Kind = "refused"     // Commit is not approved, or the repository not acceptable: Err says why
	Unreachable Kind = "unreachable" // the source does not answer; what is served stays
	Reachable   Kind = "reachable"   // it answers again
	Stale       Kind = "stale"       // the newest evidence is older than the policy's freshness
	Fresh       Kind = "fresh"       // it no longer is
	Damaged     Kind = "damaged"     // what was stored cannot be used, whole or in part
	NotStored   Kind = "not stored"  // Approved is served, but would not survive a restart
	Ignored     Kind = "ignored"     // a tag that would change what is served does not count: Err says why
)

// Event is one change. Err is a *approval.Refusal, *gitrepo.Refused,
// *gitrepo.TransportError, *approval.Damaged or what Compile returned.
type Event struct {
	Kind     Kind
	At       time.Time
	Commit   string
	Approved approval.Approved
	Err      error
}

// Feed follows one environment of one repository. Use it from one goroutine.
type Feed struct {
	c       Config
	disk    *approval.Store // nil keeps none
	emit    func(Event)
	current approval.Approved
	snap    *gitrepo.Snapshot

	settled   *gitrepo.Snapshot // had nothing new,
	settledAt time.Time         // when

	unstored    bool // current is not on disk
	unreachable bool
	stale       bool
	failures    int             // fetches that failed in a row
	refusal     string          // the last one told
	storing     string          // why storing failed, as last told
	ignored     map[string]bool // tags that do not count, as last told
	built       built
}

// settledFor is how long a repository that did not change is not looked through
// again: only keys that begin or cease to count could tell something new.
const settledFor = time.Minute

// built is the last compilation, so that polls do not repeat it.
type built struct {
	commit string
	steps  []approval.Step
	err    error
	again  time.Time // a failed one is tried again then
	wait   time.Duration
}

// New checks the configuration.
func New(c Config) (*Feed, error) {
	if c.Repo == nil || c.Compile == nil || c.Now == nil {
		return nil, errors.New("feed: a repository, a compiler and a clock are needed")
	}
	if _, ok := c.Trust.Environments[c.Environment]; !ok {
		return nil, fmt.Errorf("feed: the trust policy has no environment %q", c.Environment)
	}
	if c.Interval <= 0 {
		c.Interval = 15 * time.Second
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = 5 * time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	f := &Feed{c: c}
	if c.Dir != "" {
		f.disk = approval.NewStore(c.Dir)
	}
	return f, nil
}

// Current is what is to be served; its Commit is "" before anything was approved.
func (f *Feed) Current() approval.Approved { return f.current }

// Run polls until ctx ends. It calls emit from its own goroutine, one event after
// the other, and returns ctx's error. Call Restore first.
func (f *Feed) Run(ctx context.Context, emit func(Event)) error {
	for {
		f.Poll(ctx, emit)
		if err := ctx.Err(); err != nil {
			return err
		}
		t := time.NewTimer(f.wait())
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-f.c.Wake:
		}
		t.Stop()
	}
}

// wait is the time until the next poll: longer after failures, never in step with
// other servers.
func (f *Feed) wait() time.Duration {
	d := f.c.Interval
	for range min(f.failures, 20) {
		d = min(2*d, max(f.c.MaxBackoff, f.c.Interval))
	}
	return d + rand.N(d/10+1)
}

// Restore loads the last approval from disk: Git is not asked. A server calls it
// before it answers anybody.
func (f *Feed) Restore(emit func(Event)) {
	f.emit = emit
	if f.disk == nil || f.current.Commit() != "" {
		return
	}
	a, err := f.disk.Restore()
	if errors.Is(err, approval.ErrNothingStored) {
		return
	}
	if err != nil {
		f.tell(Event{Kind: Damaged, Err: err})
	}
	if a.Commit() == "" {
		return
	}
	if r := a.Record(); r.Environment != f.c.Environment || r.Repository != f.c.Trust.Repository {
		f.tell(Event{Kind: Damaged, Err: fmt.Errorf("the approval in %q is for environment %q of %q, not for %q of %q",
			f.c.Dir, r.Environment, r.Repository, f.c.Environment, f.c.Trust.Repository)})
		return
	}
	f.current = a
	f.tell(Event{Kind: Approved, Commit: a.Commit(), Approved: a})
}

// Poll looks at the source once and tells what changed. `meshc verify` is one Poll.
func (f *Feed) Poll(ctx context.Context, emit func(Event)) {
	f.emit = emit
	f.store()
	snap, err := f.c.Repo.Fetch(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.failures++
		f.failed(err)
		f.freshness()
		return
	}
	f.failures, f.snap = 0, snap
	if f.unreachable {
		f.unreachable = false
		f.tell(Event{Kind: Reachable})
	}
	f.follow(ctx)
	f.freshness()
}

func (f *Feed) failed(err error) {
	var refused *gitrepo.Refused
	if errors.As(err, &refused) && refused.Code != diag.CodeGitMissing { // what is missing may come back
		f.refuse("", err)
		return
	}
	if !f.unreachable {
		f.unreachable = true
		f.tell(Event{Kind: Unreachable, Err: err})
	}
}

// follow takes the snapshot's next commit through verification.
func (f *Feed) follow(ctx context.Context) {
	now := f.c.Now()
	if f.settled == f.snap && now.Sub(f.settledAt) < settledFor {
		return
	}
	c := approval.Candidate{Snapshot: f.snap, Environment: f.c.Environment, Compiler: f.c.Compiler}
	s := f.current.State()
	commit, err := approval.Next(c, s, f.c.Trust, now)
	if err != nil {
		f.refuse(f.snap.Head(), err)
		return
	}
	f.ignore(approval.Ignored(c, s, f.c.Trust, now))
	if commit == s.Commit {
		f.refusal = ""
		f.settled, f.settledAt = f.snap, now
		return
	}
	c.Commit = commit
	if err := approval.CheckHistory(c, s, f.c.Trust, now); err != nil {
		f.refuse(commit, err)
		return
	}
	if c.Steps, err = f.compile(ctx, commit, now); err != nil {
		if ctx.Err() == nil {
			f.refuse(commit, err)
		}
		return
	}
	a, err := approval.Verify(c, s, f.c.Trust, now)
	if err != nil {
		f.refuse(commit, err)
		return
	}
	f.current, f.unstored, f.refusal = a, f.disk != nil, ""
	f.store()
	f.tell(Event{Kind: Approved, Commit: commit, Approved: a})
}

// maxIgnored bounds what is told of tags that anybody may have pushed.
const maxIgnored = 10

// ignore tells of each tag that does not count once, as long as it stays.
func (f *Feed) ignore(errs []error) {
	before := f.ignored
	f.ignored = map[string]bool{}
	for _, err := range errs[:min(len(errs), maxIgnored)] {
		f.ignored[err.Error()] = true
		if !before[err.Error()] {
			f.tell(Event{Kind: Ignored, Err: err})
		}
	}
}

func (f *Feed) compile(ctx context.Context, commit string, now time.Time) ([]approval.Step, error) {
	if f.built.commit == commit && (f.built.err == nil || now.Before(f.built.again)) {
		return f.built.steps, f.built.err
	}
	b := built{commit: commit, wait: f.c.Interval}
	if f.built.commit == commit {
		b.wait = min(2*f.built.wait, max(f.c.MaxBackoff, f.c.Interval))
	}
	b.steps, b.err = f.build(ctx, commit)
	b.again = now.Add(b.wait)
	if ctx.Err() == nil {
		f.built = b
	}
	return b.steps, b.err
}

func (f *Feed) build(ctx context.Context, commit string) ([]approval.Step, error) {
	c, err := f.snap.Commit(commit)
	if err != nil {
		return nil, err
	}
	tree, err := f.snap.FS(c)
	if err != nil {
		return nil, err
	}
	steps, err := f.c.Compile(ctx, tree, f.c.Environment, c.Committer.When)
	if err != nil {
		return nil, fmt.Errorf("compiling commit %s: %w", commit, err)
	}
	return steps, nil
}

// store saves what is served; after a failure it tries again at every poll.
func (f *Feed) store() {
	if !f.unstored {
		return
	}
	if err := f.disk.Save(f.current); err != nil {
		if f.storing != err.Error() {
			f.storing = err.Error()
			f.tell(Event{Kind: NotStored, Commit: f.current.Commit(), Err: err})
		}
		return
	}
	f.unstored, f.storing = false, ""
}

func (f *Feed) freshness() {
	limit := f.c.Trust.Environments[f.c.Environment].Freshness
	if limit <= 0 || f.current.Commit() == "" {
		return
	}
	now := f.c.Now()
	newest := f.current.Record().EvidenceAt
	if f.snap != nil {
		newest = approval.NewestEvidence(f.current, f.snap, f.c.Trust, now)
	}
	age := now.Sub(newest)
	if stale := age > limit; stale != f.stale {
		f.stale = stale
		if stale {
			f.tell(Event{Kind: Stale, Commit: f.current.Commit(), Err: &StaleError{Newest: newest, Limit: limit}})
		} else {
			f.tell(Event{Kind: Fresh, Commit: f.current.Commit()})
		}
	}
}

// refuse tells a refusal once, until another reason or something approved follows.
func (f *Feed) refuse(commit string, err error) {
	if key := commit + " " + err.Error(); key != f.refusal {
		f.refusal = key
		f.tell(Event{Kind: Refused, Commit: commit, Err: err})
	}
}

func (f *Feed) tell(e Event) {
	e.At = f.c.Now()
	level, args := slog.LevelInfo, []any{"kind", string(e.Kind), "commit", e.Commit}
	if e.Err != nil {
		level, args = slog.LevelWarn, append(args, "error", e.Err.Error())
	}
	if d := e.Approved.At(e.At).Digest(); d != "" {
		args = append(args, "release", d)
	}
	f.c.Log.Log(context.Background(), level, "feed", args...)
	f.emit(e)
}
