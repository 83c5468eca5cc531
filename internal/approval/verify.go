package approval

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Candidate is a commit that asks to be served, with everything that belongs to
// it. Snapshot is where history, tags and changed paths are read from; Steps are
// the releases that somebody compiled from the same snapshot.
type Candidate struct {
	Snapshot    *gitrepo.Snapshot
	Environment string
	Commit      string
	Steps       []Step
	// Earlier are the releases of the commits before this one that CheckHistory
	// names, as compiling gives them here, by commit.
	Earlier map[string][]ReleaseStep
	// Compiler is this meshc's version.
	Compiler string
}

// ClockSkew is how far in the future a commit may be dated.
const ClockSkew = 5 * time.Minute

// Verify looks for every link of the approval chain and returns the approved
// releases, or a *Refusal that names the missing link. A *gitrepo.Refused means
// that the repository itself is not acceptable, any other error that it could not
// be read now: then nothing is decided.
func Verify(c Candidate, s State, t Trust, now time.Time) (Approved, error) {
	if len(c.Steps) == 0 {
		c.Steps = []Step{} // a release is missing, which is not that none is looked at
	}
	v, err := history(c, s, t, now)
	for _, link := range []func() error{v.checkSteps, v.reproduced, v.laterThanSeen} {
		if err == nil {
			err = link()
		}
	}
	if err := answered(c, err); err != nil {
		return Approved{}, err
	}
	return Approved{steps: slices.Clone(c.Steps), record: v.record}, nil
}

// CheckHistory is Verify without the releases: everything that can be refused
// before untrusted intent is compiled. Candidate.Steps is not looked at. It names
// the earlier commits that only approval tags make acceptable: Verify compares what
// they say of releases, and wants Candidate.Earlier for them.
func CheckHistory(c Candidate, s State, t Trust, now time.Time) (earlier []string, err error) {
	c.Steps = nil
	v, err := history(c, s, t, now)
	if err == nil {
		err = v.laterThanSeen()
	}
	return v.earlier, answered(c, err)
}

// answered replaces a verdict by the failure of a read that it may come from.
func answered(c Candidate, verdict error) error {
	if err := c.Snapshot.Err(); err != nil {
		return fmt.Errorf("reading the repository: %w", err)
	}
	return verdict
}

// verifier collects the record while it goes from link to link.
type verifier struct {
	c    Candidate
	s    State
	t    Trust
	env  Environment
	now  time.Time
	line []gitrepo.Commit // the ref's first-parent chain after the root commit
	at   int              // the candidate's place in line, -1 for the root commit
	keys []string         // of statement and rollback
	stmt *StatementMessage
	// earlier are the commits before the candidate that take tags.
	earlier []string
	// rollback is the newest record that counts, whatever the ref has after its from.
	rollback *rollback
	commit   gitrepo.Commit
	record   Record
}

func history(c Candidate, s State, t Trust, now time.Time) (*verifier, error) {
	v := &verifier{c: c, s: s, t: t, now: now}
	v.record = Record{Format: recordFormat, Commit: c.Commit, Environment: c.Environment, Repository: t.Repository, Ref: t.Ref,
		VerifiedAt: now.UTC(), Trust: t.Digest, Compiler: c.Compiler, Commits: []Evidence{}, Releases: releaseSteps(c.Steps)}
	for _, link := range []func() error{v.repository, v.goingBack, v.verifyRange, v.statement} {
		if err := link(); err != nil {
			return v, err
		}
	}
	return v, nil
}

// repository checks that this is the policy's repository and ref, and that the
// candidate stands on it.
func (v *verifier) repository() error {
	c, t := v.c, v.t
	env, ok := t.Environments[c.Environment]
	if !ok {
		return refuse(LinkRepository, diag.CodeTrustValue, c.Commit, "the trust policy has no environment %q", c.Environment).
			fix("add it to the trust policy, or give another --env")
	}
	v.env = env
	if c.Snapshot.Ref() != t.Ref {
		return refuse(LinkRepository, diag.CodeNotDescended, c.Commit, "it was read from %s, approved is what is on %s", c.Snapshot.Ref(), t.Ref).
			fix("merge it to %s", t.Ref)
	}
	line, err := c.Snapshot.Chain(t.RootCommit, c.Snapshot.Head())
	if errors.Is(err, gitrepo.ErrNotAncestor) {
		return refuse(LinkRepository, diag.CodeOtherRepository, c.Commit, "the history of %s does not begin at the policy's root commit %s", t.Ref, short(t.RootCommit)).
			fix("check that the address and the trust policy are for the same repository")
	}
	if err != nil {
		return err
	}
	v.line, v.at = line, -1
	if c.Commit == t.RootCommit {
		v.commit, err = c.Snapshot.Commit(c.Commit)
		return err
	}
	v.at = v.index(c.Commit)
	if v.at < 0 {
		return refuse(LinkDescent, diag.CodeNotDescended, c.Commit, "it is not on the first-parent history of %s", t.Ref).
			fix("merge it to %s; a commit that only exists in the repository is not approved", t.Ref)
	}
	v.commit = line[v.at]
	return nil
}

// index is a commit's place in line, -1 if it is the root or not there.
func (v *verifier) index(hash string) int {
	return slices.IndexFunc(v.line, func(c gitrepo.Commit) bool { return c.Hash == hash })
}

func (v *verifier) onLine(hash string) bool { return hash == v.t.RootCommit || v.index(hash) >= 0 }

// verifyRange finds where verification starts and checks every commit from there
// to the candidate.
func (v *verifier) verifyRange() error {
	start, end, err := v.bounds()
	if err != nil {
		return err
	}
	v.record.EvidenceAt = v.claimed(v.commit.Committer.When)
	if v.record.Rollback != nil {
		v.record.EvidenceAt = v.claimed(v.rollback.tag.Tagger.When)
	}
	parent, err := v.c.Snapshot.Commit(v.before(start))
	if err != nil {
		return err
	}
	before := parent.Committer.When
	for _, c := range v.line[start:end] {
		if err := v.date(c, before); err != nil {
			return err
		}
		before = c.Committer.When
		e, err := v.vouched(c)
		if err != nil {
			return err
		}
		v.record.Commits = append(v.record.Commits, e)
	}
	if end == 0 && v.at < 0 {
		v.record.Commits = append(v.record.Commits, Evidence{Commit: v.c.Commit, Vouches: []Vouch{}, Note: "named by the trust policy as its root commit"})
	}
	return nil
}

// before is the hash of the commit in front of line[i].
func (v *verifier) before(i int) string {
	if i == 0 {
		return v.t.RootCommit
	}
	return v.line[i-1].Hash
}

// bounds gives the range of v.line that must be verified: from after the last
// approved commit, or after the anchor for a server without state.
func (v *verifier) bounds() (start, end int, err error) {
	end = v.at + 1
	v.record.Tip = v.c.Commit
	from := v.s.Tip
	if v.s.Commit == "" {
		from = v.t.Anchor
	}
	if !v.onLine(from) && (v.rollback == nil || v.s.Commit == "") {
		return 0, 0, v.rewound(from)
	}
	start = v.index(from) + 1
	if v.goesBack() {
		v.record.Tip = v.rollback.msg.From
		// Whatever the record goes back from was approved, or has to be now: later
		// ranges begin there.
		i := v.rollback.from + 1
		return min(start, i), i, nil
	}
	if !v.onLine(from) {
		return 0, 0, v.rewound(from)
	}
	if start > end {
		return 0, 0, refuse(LinkDescent, diag.CodeNotDescended, v.c.Commit, "%s was approved after it", short(from)).
			fix("to go back, sign a rollback record: meshc rollback %s --env %s --reason TEXT --key FILE", short(v.c.Commit), v.c.Environment)
	}
	return start, end, nil
}

func (v *verifier) rewound(from string) error {
	what := "the last approved commit"
	if v.s.Commit == "" {
		what = "the trust policy's anchor"
	}
	return refuse(LinkDescent, diag.CodeNotDescended, v.c.Commit, "%s, %s, is no longer on %s: the ref was rewritten", what, short(from), v.t.Ref).
		fix("bring the ref back to a descendant of %s; to go back, sign a rollback record: meshc rollback COMMIT --env %s --reason TEXT --key FILE",
			short(from), v.c.Environment)
}

// date bounds a commit's date: it is the date for which it is compiled.
func (v *verifier) date(c gitrepo.Commit, parent time.Time) error {
	when := c.Committer.When
	if when.Before(parent) {
		return refuse(LinkDate, diag.CodeCommitDate, c.Hash, "its date %s is before its parent's %s", when.Format(time.RFC3339), parent.Format(time.RFC3339)).
			fix("set the clock, make the commit again (git commit --amend --date=now -S) and remove this one from the ref")
	}
	if limit := v.now.Add(ClockSkew); when.After(limit) {
		return refuse(LinkDate, diag.CodeCommitDate, c.Hash, "its date %s is more than %s in the future", when.Format(time.RFC3339), ClockSkew).
			fix("wait until then, or set the clock and make the commit again")
	}
	return nil
}

// claimed bounds a date that somebody merely claims.
func (v *verifier) claimed(when time.Time) time.Time {
	if when.After(v.now) {
		return v.now.UTC()
	}
	return when.UTC()
}

// maxNotes bounds what is told of tags that do not count: anybody may push them.
const maxNotes = 20

// some joins the first of many reasons.
func some(notes []string) string {
	text := strings.Join(notes[:min(len(notes), maxNotes)], "; ")
	if more := len(notes) - maxNotes; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

func (v *verifier) ignore(tag string, err error) {
	if len(v.record.Ignored) >= maxNotes {
		return
	}
	v.record.Ignored = append(v.record.Ignored, ofTag(tag, err))
}
