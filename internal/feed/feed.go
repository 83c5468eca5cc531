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
	"slices"
	"sync"
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
	// Patience bounds fetching, and then reading and judging between two compilations,
	// which have limits of their own; default 2 minutes. What was read and judged until
	// then is remembered, so that the next look gets further.
	Patience time.Duration
	// MaxBackoff bounds the wait after repeated failures, default 5 minutes.
	MaxBackoff time.Duration
	// Now is the clock.
	Now func() time.Time
	// Wake polls at once, such as after a push; may be nil.
	Wake <-chan struct{}
	// Policies brings what Trust is replaced by while the feed runs (FollowPolicy); may
	// be nil.
	Policies <-chan Policy
	Log      *slog.Logger // default: nothing is logged
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
	// PolicyTaken: the trust policy's file as it is now is what holds. PolicyRefused: it
	// cannot be used, Err says why; the policy before stays.
	PolicyTaken   Kind = "policy taken"
	PolicyRefused Kind = "policy refused"
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

// Feed follows one environment of one repository. Use it from one goroutine, but for
// Condition.
type Feed struct {
	c       Config
	disk    *approval.Store // nil keeps none
	emit    func(Event)
	current approval.Approved
	snap    *gitrepo.Snapshot

	settled   *gitrepo.Snapshot // had nothing new,
	settledAt time.Time         // when

	unstored    bool   // current is not on disk
	unreachable string // the code of why, as last told; "" if the source answers
	stale       bool
	failures    int             // fetches that failed in a row
	refusal     string          // the last one told
	storing     string          // what could not be stored, as last told
	ignored     map[string]bool // tags that do not count, as last told
	policy      string          // why the policy's file is not used, as last told
	built       map[string]built

	mu  sync.Mutex
	now Condition
}

// settledFor is how long a repository that did not change is not looked through
// again: only keys that begin or cease to count could tell something new.
const settledFor = time.Minute

// built is a compilation, so that polls do not repeat it.
type built struct {
	steps []approval.Step
	err   error
	again time.Time // a failed one is tried again then
	wait  time.Duration
}

// maxBuilt bounds the compilations that are kept, maxTries the commits that a look
// judges in search of one that can be served.
const (
	maxBuilt = 8
	maxTries = 50
)

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
	if c.Patience <= 0 {
		c.Patience = 2 * time.Minute
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
		case p, ok := <-f.c.Policies:
			if !ok {
				f.c.Policies = nil
				break
			}
			f.emit = emit
			f.take(p)
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
	if err := a.CheckFor(f.c.Environment, f.c.Trust.Repository); err != nil {
		f.tell(Event{Kind: Damaged, Err: err})
		return
	}
	f.current = a
	f.tell(Event{Kind: Approved, Commit: a.Commit(), Approved: a})
}

// Earlier returns what was approved before the last approval, as far as it is stored,
// oldest first: something to go back to, nothing to serve.
func (f *Feed) Earlier() []approval.Approved {
	if f.disk == nil {
		return nil
	}
	var out []approval.Approved
	for _, a := range f.disk.Earlier() {
		if a.CheckFor(f.c.Environment, f.c.Trust.Repository) == nil {
			out = append(out, a)
		}
	}
	return out
}

// Poll looks at the source once and tells what changed. `meshc verify` is one Poll.
func (f *Feed) Poll(ctx context.Context, emit func(Event)) {
	f.emit = emit
	f.store()
	look := newLook(ctx, f.c.Patience)
	defer look.end()
	snap, err := f.c.Repo.Fetch(look)
	if err == nil {
		f.snap = snap
		err = f.follow(look)
	}
	switch {
	case ctx.Err() != nil: // a stop is no failure
		return
	case err != nil:
		f.failures++
		f.failed(err)
	default:
		f.failures = 0
		if f.unreachable != "" {
			f.unreachable = ""
			f.note(Unreachable, nil)
			f.tell(Event{Kind: Reachable})
		}
	}
	f.looked()
	f.freshness(look)
}

func (f *Feed) failed(err error) {
	var refused *gitrepo.Refused
	if errors.As(err, &refused) && refused.Code != diag.CodeGitMissing { // what is missing may come back
		f.refuse("", err)
		return
	}
	if why := codeOf(err); why != f.unreachable {
		f.unreachable = why
		f.tell(Event{Kind: Unreachable, Err: err})
	}
}

// codeOf tells kinds of trouble apart; texts may differ from look to look.
func codeOf(err error) string {
	var found interface{ Diagnostic() diag.Diagnostic }
	if errors.As(err, &found) {
		return string(found.Diagnostic().Code)
	}
	return "unknown"
}

// follow takes what asks to be served through verification. An error means that
// the repository could not be read, and nothing was decided.
func (f *Feed) follow(look *look) error {
	now := f.c.Now()
	if f.settled == f.snap && now.Sub(f.settledAt) < settledFor {
		return nil
	}
	c := approval.Candidate{Snapshot: f.snap.Within(look), Environment: f.c.Environment, Compiler: f.c.Compiler}
	f.trace(c.Snapshot)
	s := f.current.State()
	asked, err := approval.Next(c, s, f.c.Trust, now)
	ignored := approval.Ignored(c, s, f.c.Trust, now)
	var a approval.Approved
	switch c.Commit = asked; {
	case err != nil:
	case asked == s.Commit:
		err = approval.CheckServed(c, s, f.c.Trust, now)
	default:
		a, err = f.choose(look, c, s, now)
	}
	if failed := c.Snapshot.Err(); failed != nil {
		return failed
	}
	f.ignore(ignored)
	if a.Commit() != "" {
		f.current, f.unstored, f.refusal = a, f.disk != nil, ""
		f.store()
		f.tell(Event{Kind: Approved, Commit: a.Commit(), Approved: a})
	}
	if err != nil {
		if asked == "" {
			asked = f.snap.Head()
		}
		f.refuse(asked, err)
		return nil
	}
	f.refusal = ""
	f.accept()
	f.settled, f.settledAt = f.snap, now
	return nil
}

// choose judges the candidate and, while it is refused, what comes before it:
// servers that look at different moments, or that lost their state, come to serve
// the same. The error is why the candidate itself is not served.
func (f *Feed) choose(look *look, c approval.Candidate, s approval.State, now time.Time) (a approval.Approved, refused error) {
	for range maxTries {
		compile := func(commit string) ([]approval.Step, error) { return f.compile(look, c.Snapshot, commit, now) }
		a, err := approval.Judge(c, s, f.c.Trust, now, compile)
		if refused == nil {
			refused = err
		}
		if err == nil {
			return a, refused
		}
		if c.Commit, err = approval.Before(c, s, f.c.Trust, now, err); err != nil || c.Commit == "" || look.Err() != nil {
			break
		}
	}
	return approval.Approved{}, refused
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

func (f *Feed) compile(look *look, snap *gitrepo.Snapshot, commit string, now time.Time) ([]approval.Step, error) {
	old, had := f.built[commit]
	if had && (old.err == nil || now.Before(old.again)) {
		return old.steps, old.err
	}
	b := built{wait: f.c.Interval}
	if had {
		b.wait = min(2*old.wait, max(f.c.MaxBackoff, f.c.Interval))
	}
	b.steps, b.err = f.build(look, snap, commit)
	b.again = now.Add(b.wait)
	if snap.Err() == nil { // else it says nothing about the commit
		f.keep(commit, b)
	}
	return b.steps, b.err
}

// keep remembers a compilation. Releases are large, failures are not.
func (f *Feed) keep(commit string, b built) {
	n := 0
	for _, old := range f.built {
		if old.err == nil {
			n++
		}
	}
	if f.built == nil || len(f.built) >= 2*maxTries || (b.err == nil && n >= maxBuilt) {
		f.built = map[string]built{}
	}
	f.built[commit] = b
}

func (f *Feed) build(look *look, snap *gitrepo.Snapshot, commit string) (steps []approval.Step, err error) {
	c, err := snap.Commit(commit)
	if err != nil {
		return nil, err
	}
	tree, err := snap.FS(c)
	if err != nil {
		return nil, err
	}
	err = context.Cause(look)
	look.apart(func() { steps, err = f.c.Compile(look, tree, f.c.Environment, c.Committer.When) })
	return steps, err
}

// store saves what is served; after a failure it tries again at every poll.
func (f *Feed) store() {
	if !f.unstored {
		return
	}
	commit := f.current.Commit()
	if err := f.disk.Save(f.current); err != nil {
		d := diag.New(diag.CodeStoredApproval, diag.Pos{}, "what was approved is served, but would not survive a restart: %v", err)
		wrong := &approval.ProblemError{D: d.WithFix("check space and rights of the state folder; it is tried again at each look")}
		if f.storing != commit {
			f.storing = commit
			f.tell(Event{Kind: NotStored, Commit: commit, Err: wrong})
		}
		f.note(NotStored, wrong) // the reason may change, which is no event
		return
	}
	f.unstored, f.storing = false, ""
	f.note(NotStored, nil)
	f.note(Damaged, nil)
}

func (f *Feed) freshness(look *look) {
	limit := f.c.Trust.Environments[f.c.Environment].Freshness
	if limit <= 0 || f.current.Commit() == "" {
		return
	}
	now := f.c.Now()
	newest := f.current.Record().EvidenceAt
	if f.snap != nil {
		snap := f.snap.Within(look)
		if newest = approval.NewestEvidence(f.current, snap, f.c.Trust, now); snap.Err() != nil {
			return
		}
	}
	age := now.Sub(newest)
	if stale := age > limit; stale != f.stale {
		f.stale = stale
		if stale {
			f.tell(Event{Kind: Stale, Commit: f.current.Commit(), Err: &StaleError{Newest: newest, Limit: limit}})
		} else {
			f.note(Stale, nil)
			f.tell(Event{Kind: Fresh, Commit: f.current.Commit()})
		}
	}
}

// refuse tells a refusal once, until another reason or something approved follows.
func (f *Feed) refuse(commit string, err error) {
	if key := commit + " " + err.Error(); key != f.refusal {
		f.refusal = key
		f.condition(func(c *Condition) { c.Refused = Refusal{Commit: commit, At: f.c.Now()} })
		f.tell(Event{Kind: Refused, Commit: commit, Err: err})
	}
}

// maxLine bounds the commits of Condition.Line.
const maxLine = 1000

// trace follows the ref's line before anything is told about it. A history that cannot
// be followed is refused by whoever judges it.
func (f *Feed) trace(snap *gitrepo.Snapshot) {
	chain, err := snap.Chain(f.c.Trust.RootCommit, snap.Head())
	if err != nil {
		return
	}
	line := make([]string, 0, min(len(chain), maxLine))
	for _, c := range slices.Backward(chain) {
		if line = append(line, c.Hash); len(line) == maxLine {
			break
		}
	}
	if len(line) < maxLine {
		line = append(line, f.c.Trust.RootCommit) // the chain is what follows it
	}
	f.condition(func(c *Condition) { c.Line = line })
}

func (f *Feed) tell(e Event) {
	e.At = f.c.Now()
	if e.Kind != Ignored && e.Err != nil { // an ignored tag is somebody's wish
		f.note(e.Kind, e.Err)
	}
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
