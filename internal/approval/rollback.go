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

// maxSkip bounds how many rollback records a server may have missed.
const maxSkip = 1000

// rollback is a rollback record that counts.
type rollback struct {
	n   int64
	msg RollbackMessage
	who Vouch
	tag gitrepo.Tag
	// from is the place of msg.From in the line, -1 if it is no longer there.
	from int
}

// covers says whether the record names what is served in place of line[i]: whatever
// the ref had up to From, and everything if From is no longer on the ref.
func (r *rollback) covers(i int) bool { return r != nil && (r.from < 0 || i <= r.from) }

// newestRollback finds the newest record after those already taken into account.
func (v *verifier) newestRollback() *rollback {
	prefix := rollbackTags(v.c.Environment)
	var out *rollback
	for _, name := range v.c.Snapshot.TagNames(prefix) {
		n, ok := number(strings.TrimPrefix(name, prefix))
		if ok && n == v.s.Place.Rollbacks && v.s.rolledBack() {
			v.another(name, n)
		}
		if !ok || n <= v.s.Place.Rollbacks || (out != nil && n < out.n) {
			continue
		}
		if n > v.s.Place.Rollbacks+maxSkip {
			v.ignore(name, fmt.Errorf("number %d is far beyond the last, %d", n, v.s.Place.Rollbacks))
			continue
		}
		r, err := v.readRollback(name, n)
		if err == nil {
			err = v.follows(r.msg)
		}
		if err != nil {
			v.ignore(name, err)
			continue
		}
		out = r
	}
	return out
}

// another tells of a record that has the number of the one in force and is another
// one: whoever signed it, after that one's tag was deleted, waits for it in vain.
func (v *verifier) another(name string, n int64) {
	r, err := v.readRollback(name, n)
	if err == nil && (r.msg.To != v.s.Commit || r.msg.From != v.s.Tip) {
		v.ignore(name, fmt.Errorf("number %d was taken before, to go back to %s; sign it again, with the next number", n, short(v.s.Commit)))
	}
}

func (v *verifier) readRollback(name string, n int64) (*rollback, error) {
	tag, err := v.c.Snapshot.Tag(name)
	if err != nil {
		return nil, err
	}
	w, no := v.t.vouch(tag.Hash, tag.Signature, v.now)
	if no != nil {
		return nil, no
	}
	return v.rollbackBy(w, n, tag)
}

// rollbackBy reads a record that somebody known signed.
func (v *verifier) rollbackBy(w Vouch, n int64, tag gitrepo.Tag) (*rollback, error) {
	r := &rollback{n: n, who: w, tag: tag}
	if !v.mayAtAll(w) {
		return nil, fmt.Errorf("%q (%s) may not sign rollbacks", w.Signer, w.Key)
	}
	if err := decode(tag.Message, &r.msg); err != nil {
		return nil, err
	}
	m := r.msg
	switch {
	case m.Repository != v.t.Repository:
		return nil, fmt.Errorf("it is about repository %q, this is %q", m.Repository, v.t.Repository)
	case m.Environment != v.c.Environment:
		return nil, fmt.Errorf("it is about environment %q", m.Environment)
	case m.To != tag.Commit || !gitrepo.IsHash(m.From) || m.From == m.To:
		return nil, fmt.Errorf("from and to are not two commits, or to is not the tagged one")
	case strings.TrimSpace(m.Reason) == "":
		return nil, fmt.Errorf("it gives no reason")
	case !v.onLine(m.To):
		return nil, fmt.Errorf("it goes to %s, which is not on %s", short(m.To), v.t.Ref)
	}
	if err := v.ancestor(m); err != nil {
		return nil, err
	}
	if err := v.mayRollBack(m, w); err != nil {
		return nil, err
	}
	r.from = v.index(m.From)
	return r, nil
}

// follows checks From against what was approved: it must be the furthest approved
// commit, or a later one that this server has not seen yet and verifies now. A
// server without state has the operator's anchor instead.
func (v *verifier) follows(m RollbackMessage) error {
	after := v.index(m.From) >= 0 && v.onLine(v.t.Anchor) && v.index(m.From) >= v.index(v.t.Anchor)
	if v.s.Commit != "" {
		after = m.From == v.s.Tip || v.index(m.From) > v.index(v.s.Tip)
		if m.From != v.s.Tip && v.index(v.s.Tip) < 0 && v.s.Tip != v.t.RootCommit {
			after = false
		}
	}
	if !after {
		return fmt.Errorf("it goes back from %s, which is not the last approved commit", short(m.From))
	}
	return nil
}

// ancestor checks that To lies on the way to From, and not before the anchor: what
// lies there nobody has approved under this policy, and nobody vouches for it.
func (v *verifier) ancestor(m RollbackMessage) error {
	for _, c := range []struct{ from, to, problem string }{
		{m.To, m.From, "is not a first-parent ancestor of " + short(m.From)},
		{v.t.Anchor, m.To, "lies before the trust policy's anchor " + short(v.t.Anchor) + ": nobody vouches for it"},
	} {
		if _, err := v.c.Snapshot.Chain(c.from, c.to); errors.Is(err, gitrepo.ErrNotAncestor) {
			return fmt.Errorf("%s %s", short(m.To), c.problem)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// mayAtAll says whether somebody may sign rollbacks, of some paths at least.
func (v *verifier) mayAtAll(w Vouch) bool {
	if len(v.env.RollbackSigners) > 0 {
		return slices.Contains(v.env.RollbackSigners, w.Signer)
	}
	return slices.Contains(v.t.ruleSigners(), w.Signer)
}

// mayRollBack asks the policy: the environment's rollback signers or, without
// any, somebody who alone may approve every path that going back changes: a record
// has one signature, so that it cannot undo what takes several.
func (v *verifier) mayRollBack(m RollbackMessage, w Vouch) error {
	if !v.mayAtAll(w) {
		return fmt.Errorf("%q (%s) may not sign rollbacks", w.Signer, w.Key)
	}
	if len(v.env.RollbackSigners) > 0 {
		return nil
	}
	from, err := v.c.Snapshot.Commit(m.From)
	if err != nil {
		return err
	}
	to, err := v.c.Snapshot.Commit(m.To)
	if err != nil {
		return err
	}
	paths, err := v.c.Snapshot.Differ(from.Tree, to.Tree)
	if err != nil {
		return err
	}
	for _, p := range paths {
		rule, ok := v.t.RuleFor(p)
		if !ok || !slices.Contains(rule.Signers, w.Signer) {
			return fmt.Errorf("%q (%s) may not approve path %q, which going back changes", w.Signer, w.Key, p)
		}
		if rule.Threshold > 1 {
			return fmt.Errorf("path %q, which going back changes, takes %d signers and a record has one; rollbackSigners of environment %q may sign alone",
				p, rule.Threshold, v.c.Environment)
		}
	}
	return nil
}

// goingBack settles what a rollback record, new or already taken, allows. Its `to`
// is acceptable by it at any time: while what follows `from` is refused, the search
// for something to serve ends there (Before). Anything else up to `from` is not, as
// long as the ref has nothing that follows it.
func (v *verifier) goingBack() error {
	v.rollback = v.newestRollback()
	if r := v.rollback; r != nil {
		v.keys = append(v.keys, r.who.Key)
		if err := v.recorded(); err != nil {
			return err
		}
		if v.goesBack() {
			v.record.Rollback = &RollbackTaken{TagEvidence{r.tag.Name, r.who.Signer, r.who.Key}, r.msg.From, r.msg.Reason}
			return nil
		}
		if v.at > r.from {
			return nil
		}
	}
	if v.s.Commit != "" && v.s.rolledBack() && v.onLine(v.s.Tip) && v.at <= v.index(v.s.Tip) {
		return refuse(LinkRollback, diag.CodeRollback, v.c.Commit, "%s is served since a rollback from %s", short(v.s.Commit), short(v.s.Tip)).
			fix("add a commit after %s that repairs what was wrong", short(v.s.Tip))
	}
	return nil
}

// goesBack says whether the candidate is what the newest record goes back to.
func (v *verifier) goesBack() bool {
	return v.rollback != nil && v.c.Commit == v.rollback.msg.To
}

// recorded refuses what a record does not name while nothing on the ref follows it.
func (v *verifier) recorded() error {
	r := v.rollback
	if v.goesBack() || !r.covers(len(v.line)-1) {
		return nil
	}
	return refuse(LinkRollback, diag.CodeRollback, v.c.Commit, "rollback %d (%q) says that %s is served", r.n, r.msg.Reason, short(r.msg.To)).
		fix("add a commit after %s that repairs what was wrong", short(r.msg.From))
}

// Next names the commit that should be served now: with positions by tag that of the
// newest statement, else the ref's head; in place of what a rollback record goes back
// from, the newest record's `to`. It says nothing about whether that commit is
// approved.
func Next(c Candidate, s State, t Trust, now time.Time) (string, error) {
	c.Commit = t.RootCommit
	v := &verifier{c: c, s: s, t: t, now: now}
	if err := v.repository(); err != nil {
		var r *Refusal
		if errors.As(err, &r) {
			r.Commit = c.Snapshot.Head()
		}
		return "", err
	}
	asks := c.Snapshot.Head()
	if v.env.Position == ByTag {
		for st, err := range statements(c.Snapshot, c.Environment, "", t, now) {
			if err == nil && v.onLine(st.tag.Commit) {
				asks = st.tag.Commit
				break
			}
		}
	}
	at := v.index(asks)
	if r := v.newestRollback(); r.covers(at) {
		return r.msg.To, nil
	}
	if s.Commit != "" && s.rolledBack() && at <= v.index(s.Tip) {
		return s.Commit, nil
	}
	return asks, nil
}

// Ignored says which tags ask for something that would be served now, and why
// they do not count: rollback records after the last that was taken and, with
// positions by tag, statements after the last that was served. Approval tags that
// do not count are named by the refusal of their commit.
func Ignored(c Candidate, s State, t Trust, now time.Time) []error {
	c.Commit = t.RootCommit
	v := &verifier{c: c, s: s, t: t, now: now}
	if v.repository() != nil {
		return nil // the refusal says more
	}
	_ = v.newestRollback()
	if v.env.Position == ByTag {
		for st, err := range statements(c.Snapshot, c.Environment, "", t, now) {
			if st.seq <= s.Place.Position {
				break
			}
			if err != nil {
				v.ignore(st.name, err)
			}
		}
	}
	var out []error
	for _, text := range v.record.Ignored {
		d := diag.New(diag.CodeTagIgnored, diag.Pos{}, "%s", text)
		out = append(out, &ProblemError{d.WithFix("delete the tag, and have somebody sign it whom the trust policy names for it")})
	}
	return out
}

// NewestEvidence is the newest date of anything signed that still points at what
// is served: a new statement about the same commit counts as a sign of life.
func NewestEvidence(a Approved, snap *gitrepo.Snapshot, t Trust, now time.Time) time.Time {
	newest := a.record.EvidenceAt
	for s, err := range statements(snap, a.Environment(), a.Commit(), t, now) {
		if at := s.tag.Tagger.When; err == nil && at.After(newest) && !at.After(now) {
			newest = at
		}
	}
	return newest
}
