package approval

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// What the signers of a tag signed is what compiling gives, for every commit of the
// chain: a commit on top does not make other digests count.
func TestDigestsBindEveryCommitOfTheChain(t *testing.T) {
	for name, spoil := range map[string]struct {
		change func(m *TagMessage)
		word   string
	}{
		"digest":        {func(m *TagMessage) { m.Releases = []ReleaseStep{{Digest: canonDigest("x")}} }, "compiling does not give what it approves"},
		"steps":         {func(m *TagMessage) { m.Releases = append(m.Releases, m.Releases[0]) }, "names 2 releases"},
		"instant":       {func(m *TagMessage) { m.Releases[0].From = "2026-01-02T13:00:00Z" }, "begins at"},
		"compiler":      {func(m *TagMessage) { m.Compiler = "v0" }, "otherCompiler: refuse"},
		"nothing":       {func(*TagMessage) {}, ""},
		"no signatures": {nil, "alice, bob"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			x := w.commit(&w.ops, "board/a.cue", "1") // takes tags of alice and bob
			m := TagMessage{Repository: repository, Commit: x, Environment: "prod", Compiler: w.compiler, Releases: releaseSteps(w.candidate(x).Steps)}
			if spoil.change != nil {
				spoil.change(&m)
				w.tag(w.alice, approvalTags("prod", x)+"alice", x, m)
				w.tag(w.bob, approvalTags("prod", x)+"bob", x, m)
			}
			top := w.commit(&w.alice, "bookinfo/a.cue", "1")
			for _, candidate := range []string{x, top} {
				a, err := w.verify(candidate, State{})
				if spoil.word == "" {
					if err != nil || len(a.Record().Commits[0].Vouches) != 3 {
						t.Errorf("%v: %+v", err, a.Record().Commits)
					}
					continue
				}
				if r := (*Refusal)(nil); !errors.As(err, &r) || r.Commit != x || r.Fix == "" || !strings.Contains(r.Reason, spoil.word) {
					t.Errorf("got %v, want %s refused with %q", err, short(x), spoil.word)
				}
			}
		})
	}
}

// A rollback that begins at a commit not seen yet does not carry its tags past the
// comparison either.
func TestDigestsBindWhatARollbackGoesBackFrom(t *testing.T) {
	w := newWorld(t)
	good := w.commit(&w.alice, "bookinfo/a.cue", "1")
	s := w.approved(good, State{}).State()
	x := w.commit(nil, "board/a.cue", "1")
	m := TagMessage{Repository: repository, Commit: x, Environment: "prod", Compiler: w.compiler, Releases: []ReleaseStep{{Digest: canonDigest("x")}}}
	w.tag(w.alice, approvalTags("prod", x)+"alice", x, m)
	w.tag(w.bob, approvalTags("prod", x)+"bob", x, m)
	w.rollBack(w.ops, x, good)
	_, err := w.verify(good, s)
	w.refused(err, LinkSignature, diag.CodeUnsigned, short(x), "compiling does not give")
}

// Tags that a commit does not need are no testimony, and cost no compiling.
func TestTagsOfEarlierCommitsAreReadWhereTheyAreNeeded(t *testing.T) {
	w := newWorld(t)
	x := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.approve(w.ops, x)
	y := w.commit(nil, "bookinfo/a.cue", "2")
	w.approve(w.ops, y)
	top := w.commit(&w.alice, "bookinfo/a.cue", "3")
	earlier, err := CheckHistory(Candidate{Snapshot: w.snapshot(), Environment: "prod", Commit: top, Compiler: "v1"}, State{}, w.trust(), w.now)
	if err != nil || len(earlier) != 1 || earlier[0] != y {
		t.Errorf("to compile: %v, %v", earlier, err)
	}
	compiled := map[string]int{}
	snap, trust := w.snapshot(), w.trust()
	compile := func(commit string) ([]Step, error) {
		compiled[commit]++
		return w.compile(snap)(commit)
	}
	for range 2 {
		a, err := Judge(Candidate{Snapshot: snap, Environment: "prod", Commit: top, Compiler: "v1"}, State{}, trust, w.now, compile)
		if err != nil {
			t.Fatal(err)
		}
		if c := a.Record().Commits; len(c[0].Vouches) != 1 || len(c[1].Vouches) != 1 || c[1].Vouches[0].Tag == "" {
			t.Errorf("evidence %+v", c)
		}
	}
	if compiled[x] != 0 || compiled[y] != 1 || compiled[top] != 2 {
		t.Errorf("compiled %v", compiled)
	}
}

// A commit in the middle that does not compile cannot have been approved by its
// releases: the refusal names it.
func TestTaggedCommitThatDoesNotCompile(t *testing.T) {
	w := newWorld(t)
	x := w.commit(nil, "bookinfo/a.cue", "1")
	w.approve(w.alice, x)
	top := w.commit(&w.alice, "bookinfo/a.cue", "2")
	snap := w.snapshot()
	c := Candidate{Snapshot: snap, Environment: "prod", Commit: top, Compiler: "v1"}
	_, err := Judge(c, State{}, w.trust(), w.now, func(commit string) ([]Step, error) {
		if commit == x {
			return nil, fmt.Errorf("broken")
		}
		return w.compile(snap)(commit)
	})
	w.refused(err, LinkReproduce, diag.CodeNotReproduced, short(x), "broken")
	if before, err := Before(c, State{}, w.trust(), w.now, err); err != nil || before != w.root {
		t.Errorf("before it %q, %v", before, err)
	}
}

// With more tagged commits than are compiled at once, a server gets there in steps.
func TestManyTaggedCommitsAreTakenInSteps(t *testing.T) {
	w := newWorld(t)
	var line []string
	for i := range maxEarlier + 3 {
		c := w.commit(nil, "bookinfo/a.cue", fmt.Sprint(i))
		line = append(line, c)
	}
	w.now = w.now.Add(maxEarlier * 60e9)
	snap := w.snapshot()
	for _, c := range line {
		steps, err := w.compile(snap)(c)
		if err != nil {
			t.Fatal(err)
		}
		m := TagMessage{Repository: repository, Commit: c, Environment: "prod", Compiler: "v1", Releases: releaseSteps(steps)}
		w.tag(w.alice, approvalTags("prod", c)+"alice", c, m)
	}
	_, err := w.verify(line[len(line)-1], State{})
	w.refused(err, LinkReproduce, diag.CodeNotReproduced, "200 at once")
	c := Candidate{Snapshot: w.snapshot(), Environment: "prod", Commit: line[len(line)-1], Compiler: "v1"}
	first, err := Before(c, State{}, w.trust(), w.now, err)
	if err != nil || first != line[maxEarlier-1] {
		t.Fatalf("first %s, %v", first, err)
	}
	s := w.approved(first, State{}).State()
	w.approved(line[len(line)-1], s)
}

// What lies before the anchor was never verified under this policy, and the anchor
// does not vouch for it: a rollback does not serve it.
func TestRollbackDoesNotLeadBeforeTheAnchor(t *testing.T) {
	w := newWorld(t)
	evil := w.commit(nil, "bookinfo/a.cue", "evil")
	anchor := w.commit(&w.alice, "bookinfo/a.cue", "1")
	top := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.replace("rootCommit: ROOT", "rootCommit: ROOT\nanchor: "+anchor)
	s := w.approved(top, State{}).State()
	m := RollbackMessage{Repository: repository, Environment: "prod", From: top, To: evil, Reason: "r"}
	if _, err := w.author(w.ops).RollBack(w.snapshot(), w.trust(), m); err == nil || !strings.Contains(err.Error(), "before the trust policy's anchor") {
		t.Errorf("written: %v", err)
	}
	w.tag(w.ops, rollbackTags("prod")+"1", evil, m)
	m.To = w.root
	w.tag(w.ops, rollbackTags("prod")+"2", w.root, m)
	for _, st := range []State{{}, s} {
		if next, err := Next(w.candidate(top), st, w.trust(), w.now); err != nil || next != top {
			t.Errorf("next %s, %v", next, err)
		}
		if ig := Ignored(w.candidate(top), st, w.trust(), w.now); len(ig) != 2 || !strings.Contains(ig[0].Error(), "anchor") {
			t.Errorf("ignored %v", ig)
		}
	}
	// To the anchor itself is fine.
	w.repo.Git("tag", "-d", rollbackTags("prod")+"1", rollbackTags("prod")+"2")
	w.rollBack(w.ops, top, anchor)
	w.approved(anchor, s)
}

// Numbers that others wrote into tags do not make ours useless.
func TestNumbersOfTagsThatDoNotCount(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [bob]")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.state(w.bob, c1)
	w.state(w.bob, c2)
	s := w.approved(c2, State{}).State()
	good := RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: c1, Reason: "r"}
	st := w.statementFor(c2, maxSeq)
	// Known keys that may not sign this, other environments, other texts, wrong ends.
	w.tag(w.alice, rollbackTags("prod")+"5000", c1, good)
	w.tag(w.alice, rollbackTags("prod")+"900", c1, map[string]string{"text": "hello"})
	other := good
	other.Environment = "staging"
	w.tag(w.ops, rollbackTags("prod")+"901", c1, other)
	other = good
	other.From, other.To = c1, c2
	w.tag(w.ops, rollbackTags("prod")+"902", c2, other)
	w.tag(w.alice, statementName(maxSeq), c2, st)
	st.Repository = "other"
	w.tag(w.bob, statementName(maxSeq-1), c2, st)
	w.repo.Git("tag", rollbackTags("prod")+"1", c1)
	w.rollBack(w.ops, c2, c1)
	if r := w.approved(c1, s).Record(); r.Rollback == nil || r.Rollback.Tag != rollbackTags("prod")+"2" {
		t.Errorf("rollback %+v", r.Rollback)
	}
	w.repo.Git("tag", "-d", rollbackTags("prod")+"2")
	w.state(w.bob, c2)
	if r := w.approved(c2, State{}).Record(); r.Place.Position != 3 {
		t.Errorf("place %+v", r.Place)
	}
}

// When no number is left, that is an error with a way out.
func TestNoNumberIsLeft(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [bob]")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.state(w.bob, c1)
	w.tag(w.bob, statementName(maxSeq), c2, w.statementFor(c2, maxSeq))
	_, err := w.author(w.bob).Statement(w.candidate(c2), w.trust())
	noNumber := func(name string) {
		t.Helper()
		p := (*ProblemError)(nil)
		if !errors.As(err, &p) || p.D.Code != diag.CodeNoNumber || !strings.Contains(p.D.Fix, "git push origin :refs/tags/"+name) {
			t.Errorf("got %v", err)
		}
	}
	noNumber(statementName(maxSeq))
	junk := w.repo.Object("blob", []byte("x"))
	for i := range int64(maxSkip) {
		w.repo.Point("refs/tags/"+rollbackTags("prod")+itoa(i+1), junk)
	}
	_, err = w.author(w.ops).RollBack(w.snapshot(), w.trust(), RollbackMessage{Environment: "prod", From: c2, To: c1, Reason: "r"})
	noNumber(rollbackTags("prod") + "1")
	w.repo.Git("update-ref", "-d", "refs/tags/"+rollbackTags("prod")+"7")
	w.rollBack(w.ops, c2, c1)
	if r := w.approved(c1, State{}).Record(); r.Place.Rollbacks != 7 {
		t.Errorf("place %+v", r.Place)
	}
}

// Going back twice in a row: the second record goes back from what the first
// served, or from the same start, and both are numbered in order.
func TestRollingBackTwiceInARow(t *testing.T) {
	w := newWorld(t)
	var line []string
	for i := range 4 {
		line = append(line, w.commit(&w.alice, "bookinfo/a.cue", fmt.Sprint(i)))
	}
	s := w.approved(line[3], State{}).State()
	w.rollBack(w.ops, line[3], line[2])
	s = w.approved(line[2], s).State()
	// Still broken: further back, from the same furthest commit.
	w.rollBack(w.ops, line[3], line[1])
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != line[1] {
		t.Fatalf("next %s, %v; want %s", next, err, line[1])
	}
	a := w.approved(line[1], s)
	if r := a.Record(); r.Place.Rollbacks != 2 || r.Tip != line[3] || r.Rollback.From != line[3] {
		t.Errorf("record %+v", r)
	}
	s = a.State()
	// What was left behind is not served again, whatever asks for it.
	for _, c := range []string{line[3], line[2]} {
		_, err := w.verify(c, s)
		w.refused(err, LinkRollback, diag.CodeRollback)
	}
	// Forward again, to a commit between: a record too.
	w.rollBack(w.ops, line[3], line[2])
	s = w.approved(line[2], s).State()
	// The repair ends it; the next rollback starts from the repair.
	repair := w.commit(&w.alice, "bookinfo/a.cue", "repaired")
	s = w.approved(repair, s).State()
	w.rollBack(w.ops, repair, line[0])
	if r := w.approved(line[0], s).Record(); r.Place.Rollbacks != 4 || r.Tip != repair {
		t.Errorf("record %+v", r)
	}
	// A server without state comes to the same.
	if r := w.approved(line[0], State{}).Record(); r.Place.Rollbacks != 4 || r.Tip != repair {
		t.Errorf("record %+v", r)
	}
}

// Which commit takes the place of a refused one.
func TestBefore(t *testing.T) {
	w := newWorld(t)
	one := w.commit(&w.alice, "bookinfo/a.cue", "1")
	two := w.commit(&w.alice, "bookinfo/a.cue", "2")
	bad := w.commit(nil, "bookinfo/a.cue", "3")
	top := w.commit(&w.alice, "bookinfo/a.cue", "4")
	before := func(s State, commit string, err error) string {
		t.Helper()
		got, ferr := Before(Candidate{Snapshot: w.snapshot(), Environment: "prod", Commit: commit, Compiler: "v1"}, s, w.trust(), w.now, err)
		if ferr != nil {
			t.Fatal(ferr)
		}
		return got
	}
	_, refused := w.verify(top, State{})
	w.refused(refused, LinkSignature, diag.CodeUnsigned, short(bad))
	if got := before(State{}, top, refused); got != two {
		t.Errorf("%s, want %s", got, two)
	}
	s := w.approved(one, State{}).State()
	if got := before(s, top, refused); got != two {
		t.Errorf("with state: %s, want %s", got, two)
	}
	// Something about the candidate alone, down to what was served, and not below.
	if got := before(s, two, &CompileError{two, nil}); got != "" {
		t.Errorf("%s was served already", got)
	}
	if got := before(State{}, one, &CompileError{one, nil}); got != w.root {
		t.Errorf("%s, want the root commit", got)
	}
	if got := before(State{}, w.root, &CompileError{w.root, nil}); got != "" {
		t.Errorf("%s lies before the anchor", got)
	}
	// The ref was rewritten: there is nothing to choose.
	s = w.approved(two, s).State()
	w.repo.Git("reset", "-q", "--hard", one)
	side := w.commit(&w.alice, "bookinfo/a.cue", "side")
	_, refused = w.verify(side, s)
	if got := before(s, side, refused); got != "" {
		t.Errorf("%s on another line", got)
	}
}

// Where statements are needed, commits that have none are passed over; where their
// numbers count, by number.
func TestBeforeWithStatements(t *testing.T) {
	for _, env := range []string{", statement: required, statementSigners: [ops]", ", position: tag, statementSigners: [ops]"} {
		w := newWorld(t)
		w.environment(env)
		one := w.commit(&w.alice, "bookinfo/a.cue", "1")
		w.tag(w.ops, statementName(1), one, w.statementFor(one, 1))
		two := w.commit(&w.alice, "bookinfo/a.cue", "2")
		w.tag(w.ops, statementName(2), two, w.statementFor(two, 2))
		w.commit(&w.alice, "bookinfo/a.cue", "3")
		bad := w.commit(&w.alice, "bookinfo/a.cue", "4")
		m := w.statementFor(bad, 3)
		m.Releases[0].Digest = canonDigest("x")
		w.tag(w.ops, statementName(3), bad, m)
		c := Candidate{Snapshot: w.snapshot(), Environment: "prod", Commit: bad, Compiler: "v1"}
		_, err := w.verify(bad, State{})
		w.refused(err, LinkReproduce, diag.CodeNotReproduced)
		got, err := Before(c, State{}, w.trust(), w.now, err)
		if err != nil || got != two {
			t.Errorf("%s: %s, %v; want %s", env, got, err, two)
		}
		c.Commit = two
		if got, err = Before(c, State{}, w.trust(), w.now, &CompileError{two, nil}); err != nil || got != one {
			t.Errorf("%s: %s, %v; want %s", env, got, err, one)
		}
	}
}

// While a record is in force it says what is served: nothing stands in for it.
func TestBeforeDoesNotGoAroundARollback(t *testing.T) {
	w := newWorld(t)
	one := w.commit(&w.alice, "bookinfo/a.cue", "1")
	bad := w.commit(nil, "bookinfo/a.cue", "2")
	w.rollBack(w.ops, bad, one)
	_, err := w.verify(one, State{})
	w.refused(err, LinkSignature, diag.CodeUnsigned, short(bad))
	c := Candidate{Snapshot: w.snapshot(), Environment: "prod", Commit: one, Compiler: "v1"}
	if got, err := Before(c, State{}, w.trust(), w.now, err); err != nil || got != "" {
		t.Errorf("%s, %v", got, err)
	}
}

// Going down from a refused head ends at the record that goes back from what is met
// there, or from something above it, and nothing stands in for its target.
func TestBeforeAtARollback(t *testing.T) {
	w := newWorld(t)
	good := w.commit(&w.alice, "vault/a.cue", "1")
	w.approve(w.bob, good)
	bad := w.commit(&w.alice, "vault/a.cue", "2")
	w.approve(w.bob, bad)
	seen := w.approved(bad, State{}).State()
	w.rollBack(w.ops, bad, good)
	refusedAt := w.commit(&w.alice, "vault/a.cue", "3") // one of the two that it takes
	walk := func(s State) (path []string, a Approved) {
		t.Helper()
		c := Candidate{Snapshot: w.snapshot(), Environment: "prod", Compiler: w.compiler}
		var err error
		for c.Commit, err = Next(c, s, w.trust(), w.now); err == nil && c.Commit != ""; c.Commit, err = Before(c, s, w.trust(), w.now, err) {
			path = append(path, c.Commit)
			if a, err = w.verify(c.Commit, s); err == nil {
				break
			}
			w.refused(err, LinkThreshold, diag.CodeThreshold)
		}
		return path, a
	}
	for name, s := range map[string]State{"saw it": seen, "new": {}} {
		path, a := walk(s)
		if len(path) != 2 || path[0] != refusedAt || path[1] != good {
			t.Fatalf("one that is %s: %v", name, path)
		}
		if r := a.Record(); r.Place != (Place{1, 1}) || r.Tip != bad || r.Rollback == nil || r.Rollback.From != bad {
			t.Errorf("record %+v", r)
		}
	}
	// Somebody deletes what approved the commit that the record goes back from: nothing
	// that lies between is served in its place.
	w.repo.Git("tag", "-d", approvalTags("prod", bad)+"bob")
	path, a := walk(State{})
	if len(path) != 2 || path[1] != good || a.Commit() != "" {
		t.Errorf("%v, approved %q", path, a.Commit())
	}
	if _, a = walk(seen); a.Commit() != good {
		t.Errorf("approved %q", a.Commit())
	}
}

// What a rollback goes back from is what was approved last, tags with their digests
// included, whatever lies on top and whatever other records say.
func TestFurthest(t *testing.T) {
	w := newWorld(t)
	want := func(commit string, words ...string) {
		t.Helper()
		snap := w.snapshot()
		got, err := Furthest(Candidate{Snapshot: snap, Environment: "prod", Compiler: w.compiler}, w.trust(), w.now, w.compile(snap))
		if got != commit || (err == nil) != (len(words) == 0) {
			t.Fatalf("%s, %v; want %s", short(got), err, short(commit))
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not say %q", err, word)
			}
		}
	}
	want(w.root)
	good := w.commit(&w.alice, "bookinfo/a.cue", "1")
	want(good)
	tagged := w.commit(nil, "bookinfo/a.cue", "2")
	want(good, short(tagged), "not signed")
	w.approve(w.alice, tagged)
	want(tagged)
	w.rollBack(w.ops, tagged, good)
	want(tagged)
	w.commit(nil, "bookinfo/a.cue", "3")
	w.commit(&w.alice, "bookinfo/a.cue", "4")
	want(tagged, "not signed")
	m := TagMessage{Repository: repository, Commit: tagged, Environment: "prod", Compiler: w.compiler, Releases: []ReleaseStep{{Digest: canonDigest("x")}}}
	w.tag(w.alice, approvalTags("prod", tagged)+"alice", tagged, m)
	want(good, "not signed") // the head's reason
	w.replace("rootCommit: ROOT", "rootCommit: ROOT\nanchor: "+tagged)
	want(tagged, "not signed")
}

// Records whose ends are not what they have to be.
func TestEndsOfRollbackRecords(t *testing.T) {
	w := newWorld(t)
	head := w.commit(&w.alice, "bookinfo/a.cue", "1")
	side := w.repo.Commit(gittest.Commit{Key: &w.eve, Parents: []string{w.root}, Files: map[string]string{"bookinfo/a.cue": "evil"}, Ref: "refs/heads/side"})
	w.repo.Git("update-ref", "refs/heads/main", head)
	s := w.approved(w.root, State{}).State()
	for i, m := range []RollbackMessage{
		{From: side, To: w.root, Reason: "from another line"},
		{From: head, To: head, Reason: "nowhere"},
		{From: "main", To: w.root, Reason: "from a name"},
		{From: head[:39], To: w.root, Reason: "from a short name"},
		{From: head, To: w.root, Reason: " "},
		{From: w.root, To: head, Reason: "forwards"},
	} {
		m.Repository, m.Environment = repository, "prod"
		w.tag(w.ops, rollbackTags("prod")+itoa(int64(i+1)), m.To, m)
		for _, st := range []State{{}, s} {
			if next, err := Next(w.candidate(w.root), st, w.trust(), w.now); err != nil || next != head {
				t.Errorf("%s: next %s, %v", m.Reason, next, err)
			}
			if ig := Ignored(w.candidate(w.root), st, w.trust(), w.now); len(ig) != i+1 {
				t.Errorf("%s: %v", m.Reason, ig)
			}
		}
	}
	// The tag stands on another commit than it says.
	m := RollbackMessage{Repository: repository, Environment: "prod", From: head, To: w.root, Reason: "r"}
	w.tag(w.ops, rollbackTags("prod")+"9", head, m)
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != head {
		t.Errorf("next %s, %v", next, err)
	}
}
