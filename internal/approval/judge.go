package approval

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Compile compiles one commit's files for an environment and the commit's own
// date: the release and one for each later expiry.
type Compile func(commit string) ([]Step, error)

// maxEarlier bounds how many commits before the candidate are compiled to compare
// what their approval tags say.
const maxEarlier = 200

// CompileError says that the candidate does not compile.
type CompileError struct {
	Commit string
	Err    error
}

// Error names commit and reason.
func (e *CompileError) Error() string { return fmt.Sprintf("compiling commit %s: %v", e.Commit, e.Err) }

// Unwrap gives the reason.
func (e *CompileError) Unwrap() error { return e.Err }

// Judge takes a candidate without releases through verification: its history
// first, and only then are it, and the earlier commits that approval tags vouch
// for, compiled. Errors are those of Verify, or a *CompileError.
func Judge(c Candidate, s State, t Trust, now time.Time, compile Compile) (Approved, error) {
	earlier, err := CheckHistory(c, s, t, now)
	if err != nil {
		return Approved{}, err
	}
	if c.Earlier, err = compared(c, t, earlier, compile); err != nil {
		return Approved{}, err
	}
	if c.Steps, err = compile(c.Commit); err != nil {
		return Approved{}, &CompileError{c.Commit, err}
	}
	return Verify(c, s, t, now)
}

// compared compiles the commits that approval tags vouch for, once for a policy.
func compared(c Candidate, t Trust, earlier []string, compile Compile) (map[string][]ReleaseStep, error) {
	if len(earlier) > maxEarlier {
		return nil, refuse(LinkReproduce, diag.CodeNotReproduced, earlier[maxEarlier],
			"approval tags vouch for %d commits up to %s, and what they say of releases is compared for %d at once", len(earlier), short(c.Commit), maxEarlier).
			fix("servers approve an earlier commit first and go on from there; else move the trust policy's anchor forward")
	}
	out := map[string][]ReleaseStep{}
	for _, commit := range earlier {
		key := strings.Join([]string{commit, c.Environment, c.Compiler}, " ")
		known, ok := t.releases.look(key)
		if !ok {
			steps, err := compile(commit)
			if err != nil {
				return nil, refuse(LinkReproduce, diag.CodeNotReproduced, commit, "approval tags vouch for it, and it does not compile here: %v", err).
					fix("remove it from %s (it was never served); what lies below it can be", t.Ref)
			}
			known = releaseSteps(steps)
			t.releases.keep(key, known)
		}
		out[commit] = known
	}
	return out, nil
}

// Furthest names the newest commit on the ref that a rollback can go back from, as a
// server without state sees it: everything up to it is approved, whatever other
// records and statements say. The error says why that is not the ref's head (nil if
// it is). "" if there is none.
func Furthest(c Candidate, t Trust, now time.Time, compile Compile) (commit string, head error) {
	c.Commit = t.Anchor
	v := &verifier{c: c, t: t, now: now}
	if err := answered(c, v.repository()); err != nil {
		return "", err
	}
	for at := len(v.line) - 1; at >= v.at; {
		v.rollback = &rollback{msg: RollbackMessage{From: v.before(at + 1), To: t.Anchor}, from: at}
		err := answered(c, v.leaves(compile))
		if head == nil {
			head = err
		}
		if err == nil {
			return v.rollback.msg.From, head
		}
		if c.Snapshot.Err() != nil {
			return "", err
		}
		at = v.blamed(err, at) - 1
	}
	return "", head
}

// leaves verifies what v.rollback goes back from, approval tags with their digests.
func (v *verifier) leaves(compile Compile) error {
	v.c.Steps, v.c.Earlier, v.earlier, v.record = nil, nil, nil, Record{}
	err := v.verifyRange()
	if err == nil && len(v.earlier) > 0 {
		v.c.Steps = []Step{}
		if v.c.Earlier, err = compared(v.c, v.t, v.earlier, compile); err == nil {
			err = v.verifyRange()
		}
	}
	return err
}

// CheckServed says whether the repository still stands behind what was approved last:
// nil, or a *Refusal. What is served stays in any case; this is for whoever asks.
func CheckServed(c Candidate, s State, t Trust, now time.Time) error {
	c.Commit = s.Commit
	v := &verifier{c: c, s: s, t: t, now: now}
	err := v.repository()
	if r := (*Refusal)(nil); errors.As(err, &r) && r.Link == LinkDescent {
		err = v.rewound(s.Commit)
	}
	if err == nil {
		v.rollback = v.newestRollback()
		err = v.recorded()
	}
	return answered(c, err)
}

// Before names what should be served when candidate c was refused with that error:
// the newest commit that has none of the refused one below it, and that was not
// served yet; or, if the newest rollback record goes back from that one or a later
// one, the record's `to`. "" if there is none: nothing stands in for what a record
// names. Whatever moment a server looks at, and whether or not it lost its state, it
// comes to serve the same; and somebody who may only push does not end a rollback.
func Before(c Candidate, s State, t Trust, now time.Time, refused error) (string, error) {
	v := &verifier{c: c, s: s, t: t, now: now}
	if err := answered(c, v.repository()); err != nil {
		return "", err
	}
	r := v.newestRollback()
	if r.covers(v.at) {
		return "", answered(c, nil)
	}
	from, first := s.Tip, v.index(s.Tip)+1
	if s.Commit == "" {
		from, first = t.Anchor, v.index(t.Anchor) // the anchor itself may be served; the root commit is at -1
	}
	if !v.onLine(from) {
		return "", answered(c, nil)
	}
	var out string
	if end := v.blamed(refused, v.at); v.env.NeedStatement {
		out = v.stated(first, end)
	} else if end > first {
		out = v.before(end)
	}
	if r != nil && (out == "" || r.covers(v.index(out))) {
		out = r.msg.To // a record goes back from what was approved last, or from something later
	}
	return out, answered(c, nil)
}

// blamed is the place in line of the commit that an error is about: at, or one below.
func (v *verifier) blamed(err error, at int) int {
	commit := ""
	var r *Refusal
	var g *gitrepo.Refused
	var c *CompileError
	switch {
	case errors.As(err, &c):
		commit = c.Commit
	case errors.As(err, &r):
		commit = r.Commit
	case errors.As(err, &g) && g.Commit != "":
		commit = g.Commit
	}
	if i := v.index(commit); i >= 0 && i < at {
		return i
	}
	return at
}

// stated is the commit of the newest statement among line[first:end]: the highest
// number where numbers count, else the furthest commit. "" if there is none.
func (v *verifier) stated(first, end int) string {
	out, furthest := "", -2
	for st, err := range statements(v.c.Snapshot, v.c.Environment, "", v.t, v.now) {
		i := v.index(st.tag.Commit)
		if err != nil || i < first || i >= end || i <= furthest || (i < 0 && st.tag.Commit != v.t.RootCommit) {
			continue
		}
		if out, furthest = st.tag.Commit, i; v.env.Position == ByTag {
			break
		}
	}
	return out
}
