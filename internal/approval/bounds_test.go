package approval

import (
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// Of several new records the one with the highest number holds, by number and not by
// spelling; a number as far ahead as servers look still counts, one more does not.
func TestWhichRollbackHolds(t *testing.T) {
	w := newWorld(t)
	var line []string
	for _, v := range []string{"1", "2", "3", "4"} {
		line = append(line, w.commit(&w.alice, "bookinfo/a.cue", v))
	}
	s := w.approved(line[3], State{}).State()
	record := func(n int64, to string) {
		w.tag(w.ops, rollbackTags("prod")+itoa(n), to, RollbackMessage{Repository: repository, Environment: "prod", From: line[3], To: to, Reason: "r"})
	}
	next := func(want string) {
		t.Helper()
		if got, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || got != want {
			t.Errorf("next %s, %v; want %s", got, err, want)
		}
	}
	record(2, line[2])
	record(10, line[1])
	next(line[1])
	record(maxSkip, line[0])
	next(line[0])
	record(maxSkip+1, line[2])
	next(line[0])
	a := w.approved(line[0], s)
	if p := a.Record().Place; p.Rollbacks != maxSkip {
		t.Errorf("place %+v", p)
	}
	s = a.State()
	next(line[2]) // within reach now
	s = w.approved(line[2], s).State()
	next(line[2]) // it stays, without anything new
	repair := w.commit(&w.alice, "bookinfo/a.cue", "repaired")
	next(repair)
	s = w.approved(repair, s).State()
	next(repair)
	if p := s.Place; p.Rollbacks != maxSkip+1 || p.Position != 5 {
		t.Errorf("place %+v", p)
	}
}

// A server that was away while a rollback came and was repaired counts it all the
// same: places are the same on all servers.
func TestARollbackThatIsOverCounts(t *testing.T) {
	w := newWorld(t)
	one := w.commit(&w.alice, "bookinfo/a.cue", "1")
	s := w.approved(one, State{}).State()
	two := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.rollBack(w.ops, two, one)
	repair := w.commit(&w.alice, "bookinfo/a.cue", "3")
	for _, st := range []State{s, {}} {
		if r := w.approved(repair, st).Record(); r.Place.Rollbacks != 1 || r.Rollback != nil || r.Tip != repair {
			t.Errorf("record %+v", r)
		}
		_, err := w.verify(two, st)
		if err == nil {
			continue // before the repair was seen it may be looked at by name
		}
	}
}

// Everything that a statement says is compared.
func TestEverythingInAStatementIsCompared(t *testing.T) {
	w := newWorld(t)
	w.environment(", statement: required, statementSigners: [ops]")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	for name, spoil := range map[string]func(m *StatementMessage){
		"schema":     func(m *StatementMessage) { m.Schema = "other" },
		"policy":     func(m *StatementMessage) { m.Policy = "other" },
		"release":    func(m *StatementMessage) { m.Releases[0].Digest = canonDigest("x") },
		"steps":      func(m *StatementMessage) { m.Releases = append(m.Releases, m.Releases[0]) },
		"no release": func(m *StatementMessage) { m.Releases = nil },
		"instant":    func(m *StatementMessage) { m.Releases[0].From = "2026-01-02T13:00:00Z" },
	} {
		m := w.statementFor(c, 1)
		spoil(&m)
		w.tag(w.ops, statementName(1), c, m)
		_, err := w.verify(c, State{})
		if r, code := refusalOf(err); r != LinkReproduce || code != diag.CodeNotReproduced {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := w.statementFor(c, 1)
	m.Compiler = "v0"
	w.tag(w.ops, statementName(1), c, m)
	_, err := w.verify(c, State{})
	w.refused(err, LinkReproduce, diag.CodeOtherCompiler, `"v0"`)
	// The newest statement counts, whatever older ones say.
	w.tag(w.ops, statementName(2), c, w.statementFor(c, 2))
	w.approved(c, State{})
	w.tag(w.ops, statementName(10), c, m)
	m.Seq = 10
	w.tag(w.ops, statementName(10), c, m)
	_, err = w.verify(c, State{})
	w.refused(err, LinkReproduce, diag.CodeOtherCompiler)
}

func refusalOf(err error) (Link, diag.Code) {
	if r, ok := err.(interface{ Diagnostic() diag.Diagnostic }); ok {
		d := r.Diagnostic()
		for _, l := range []Link{LinkReproduce, LinkStatement, LinkSignature, LinkSteps} {
			if strings.Contains(d.Text, "not approved: "+string(l)+":") {
				return l, d.Code
			}
		}
	}
	return "", ""
}

// Dates that evidence claims count up to now and not beyond: nothing makes a source
// look fresher than it is.
func TestEvidenceIsNeverOfTomorrow(t *testing.T) {
	w := newWorld(t)
	w.environment(", statementSigners: [ops]")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.now = gittest.Start().Add(time.Minute) // of the commit
	if r := w.approved(c, State{}).Record(); !r.EvidenceAt.Equal(w.now) {
		t.Errorf("evidence of %s, now is %s", r.EvidenceAt, w.now)
	}
	at := func(when time.Time, write func()) {
		now := w.now
		w.now = when
		write()
		w.now = now
	}
	w.now = w.now.Add(time.Hour)
	later := w.now.Add(-time.Minute)
	at(later, func() { w.approve(w.ops, c) })
	a := w.approved(c, State{})
	if !a.Record().EvidenceAt.Equal(later) {
		t.Errorf("evidence of %s, the approval is of %s", a.Record().EvidenceAt, later)
	}
	at(w.now.Add(time.Hour), func() { w.approve(w.bob, c) })
	if r := w.approved(c, State{}).Record(); !r.EvidenceAt.Equal(w.now) {
		t.Errorf("evidence of %s, now is %s", r.EvidenceAt, w.now)
	}
	at(w.now.Add(time.Hour), func() { w.state(w.ops, c) })
	if got := NewestEvidence(a, w.snapshot(), w.trust(), w.now); !got.Equal(later) {
		t.Errorf("newest %s, want %s", got, later)
	}
	at(w.now.Add(-time.Second), func() { w.state(w.ops, c) })
	if got := NewestEvidence(a, w.snapshot(), w.trust(), w.now); !got.Equal(w.now.Add(-time.Second)) {
		t.Errorf("newest %s", got)
	}
}

// The ends of what a date may be.
func TestDatesAtTheirBounds(t *testing.T) {
	w := newWorld(t)
	head := gittest.Start()
	same := w.repo.Commit(gittest.Commit{Key: &w.alice, Files: map[string]string{"bookinfo/a.cue": "1"}, When: head})
	w.approved(same, State{}) // as its parent's
	w.now = head
	ahead := w.repo.Commit(gittest.Commit{Key: &w.alice, Files: map[string]string{"bookinfo/a.cue": "2"}, When: head.Add(ClockSkew)})
	w.approved(ahead, State{})
	w.now = head.Add(-time.Second)
	_, err := w.verify(ahead, State{})
	w.refused(err, LinkDate, diag.CodeCommitDate, "in the future")
}

// Keys count at their bounds.
func TestKeysAtTheirBounds(t *testing.T) {
	at := gittest.Start()
	for name, c := range map[string]struct {
		k    Key
		word string
	}{
		"from now":     {Key{NotBefore: at}, ""},
		"until now":    {Key{NotAfter: at}, ""},
		"from later":   {Key{NotBefore: at.Add(time.Second)}, "counts only from"},
		"until before": {Key{NotAfter: at.Add(-time.Second)}, "counted only until"},
		"revoked":      {Key{Revoked: true}, "is revoked"},
	} {
		if got := c.k.valid(at); (c.word == "") != (got == "") || !strings.Contains(got, c.word) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What was approved last is stood behind, or not, by the repository as it is.
func TestCheckServed(t *testing.T) {
	w := newWorld(t)
	one := w.commit(&w.alice, "bookinfo/a.cue", "1")
	two := w.commit(&w.alice, "bookinfo/a.cue", "2")
	a := w.approved(two, State{})
	check := func(c Candidate, s State) error { return CheckServed(c, s, w.trust(), w.now) }
	candidate := func() Candidate { return Candidate{Snapshot: w.snapshot(), Environment: "prod", Compiler: "v1"} }
	if err := check(candidate(), a.State()); err != nil {
		t.Error(err)
	}
	// A newer commit, approved or not, does not change that.
	w.commit(nil, "bookinfo/a.cue", "3")
	if err := check(candidate(), a.State()); err != nil {
		t.Error(err)
	}
	w.repo.Git("reset", "-q", "--hard", two)
	w.rollBack(w.ops, two, one)
	w.refused(check(candidate(), a.State()), LinkRollback, diag.CodeRollback, short(one))
	back := w.approved(one, a.State()).State()
	if err := check(candidate(), back); err != nil {
		t.Error(err)
	}
	w.repo.Git("update-ref", "refs/heads/main", one)
	w.refused(check(candidate(), a.State()), LinkDescent, diag.CodeNotDescended, "rewritten")
	if err := check(candidate(), back); err != nil {
		t.Error(err) // what is served is on the ref
	}
	other := newWorld(t)
	w.refused(check(Candidate{Snapshot: other.snapshot(), Environment: "prod"}, a.State()), LinkRepository, diag.CodeOtherRepository)
	if err := a.CheckFor("prod", repository); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"staging", repository}, {"prod", "other"}} {
		if err := a.CheckFor(c[0], c[1]); err == nil {
			t.Errorf("for %v", c)
		}
	}
}

// Sequence numbers have one spelling.
func TestNumbersHaveOneSpelling(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "10": 10, itoa(maxSeq): maxSeq, itoa(maxSeq + 1): 0, "0": 0, "-1": 0, "+1": 0, "01": 0, "1 ": 0, "": 0, "1e3": 0, "٣": 0} {
		if n, ok := number(s); ok != (want > 0) || (ok && n != want) {
			t.Errorf("%q: %d, %v", s, n, ok)
		}
	}
}

// A key of the policy that a strange program's signature does not fit is noticed
// before a tag is written.
func TestASignatureThatWouldNotCountIsNotWritten(t *testing.T) {
	w := newWorld(t)
	c := w.commit(nil, "bookinfo/a.cue", "1")
	a := w.author(w.alice)
	eve := w.author(w.eve)
	eve.Key.Fingerprint = a.Key.Fingerprint
	if _, err := eve.Approve(w.candidate(c), w.trust()); err == nil || !strings.Contains(err.Error(), "would not count") {
		t.Errorf("written: %v", err)
	}
	if names := w.snapshot().TagNames("meshc/"); len(names) > 0 {
		t.Errorf("tags %v", names)
	}
}
