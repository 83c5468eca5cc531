package approval

import (
	"context"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/signing"
)

func TestSignedChainIsApproved(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.bob, "shop/a.cue", "1")
	a := w.approved(c2, State{})
	r := a.Record()
	if a.Commit() != c2 || a.Environment() != "prod" || r.Place != (Place{0, 2}) || len(r.Commits) != 2 {
		t.Fatalf("record %+v", r)
	}
	if v := r.Commits[0]; v.Commit != c1 || len(v.Vouches) != 1 || v.Vouches[0].Signer != "alice" || v.Vouches[0].Key != w.alice.Fingerprint {
		t.Errorf("evidence %+v", v)
	}
	if got := a.At(w.now).Digest(); got == "" || got != r.Releases[0].Digest {
		t.Errorf("serves %q", got)
	}
	c3 := w.commit(&w.ops, "mesh.cue", "2")
	if next := w.approved(c3, a.State()); len(next.Record().Commits) != 1 || next.Record().Place.Position != 3 {
		t.Errorf("the second time only what is new is verified: %+v", next.Record())
	}
}

// Each link of the chain left out in turn.
func TestEveryMissingLinkRefuses(t *testing.T) {
	type want struct {
		link Link
		code diag.Code
		word string
	}
	cases := map[string]struct {
		do   func(w *world) (string, State)
		want want
	}{
		"not on the ref": {func(w *world) (string, State) {
			w.commit(&w.alice, "bookinfo/a.cue", "1")
			return w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "2"}, Key: &w.alice, Ref: "refs/heads/other"}), State{}
		}, want{LinkDescent, diag.CodeNotDescended, "refs/heads/main"}},
		"older than the last approved": {func(w *world) (string, State) {
			c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
			return c1, w.approved(w.commit(&w.alice, "bookinfo/a.cue", "2"), State{}).State()
		}, want{LinkDescent, diag.CodeNotDescended, "approved after it"}},
		"unsigned in the middle": {func(w *world) (string, State) {
			w.commit(nil, "bookinfo/a.cue", "1")
			return w.commit(&w.alice, "bookinfo/a.cue", "2"), State{}
		}, want{LinkSignature, diag.CodeUnsigned, "not signed"}},
		"signer of another path": {func(w *world) (string, State) { return w.commit(&w.bob, "bookinfo/a.cue", "1"), State{} },
			want{LinkSigner, diag.CodeWrongSigner, `path "bookinfo/a.cue"`}},
		"unknown key": {func(w *world) (string, State) { return w.commit(&w.eve, "bookinfo/a.cue", "1"), State{} },
			want{LinkSigner, diag.CodeWrongSigner, "does not know"}},
		"no rule": {func(w *world) (string, State) { return w.commit(&w.ops, "new/a.cue", "1"), State{} },
			want{LinkSigner, diag.CodeNoRule, `"new/a.cue"`}},
		"one of two": {func(w *world) (string, State) { return w.commit(&w.alice, "vault/a.cue", "1"), State{} },
			want{LinkThreshold, diag.CodeThreshold, "needs 2"}},
		"tags demanded": {func(w *world) (string, State) {
			c := w.commit(&w.alice, "board/a.cue", "1")
			w.approve(w.bob, c)
			return c, State{}
		}, want{LinkThreshold, diag.CodeThreshold, "needs 2 approval tags"}},
		"expired key": {func(w *world) (string, State) {
			w.replace(`{ssh: "ALICE"}`, `{ssh: "ALICE", notAfter: 2026-01-02T12:30:00Z}`)
			return w.commit(&w.alice, "bookinfo/a.cue", "1"), State{}
		}, want{LinkSignature, diag.CodeKeyNotValid, "until"}},
		"revoked signer": {func(w *world) (string, State) {
			w.replace(`alice: {keys`, `alice: {revoked: true, keys`)
			return w.commit(&w.alice, "bookinfo/a.cue", "1"), State{}
		}, want{LinkSignature, diag.CodeKeyNotValid, "revoked"}},
		"no statement": {func(w *world) (string, State) {
			w.environment(", statement: required, statementSigners: [ops]")
			return w.commit(&w.alice, "bookinfo/a.cue", "1"), State{}
		}, want{LinkStatement, diag.CodeStatement, "no statement"}},
		"statement by the wrong signer": {func(w *world) (string, State) {
			w.environment(", statement: required, statementSigners: [ops]")
			c := w.commit(&w.alice, "bookinfo/a.cue", "1")
			w.tag(w.alice, statementName(1), c, w.statementFor(c, 1))
			return c, State{}
		}, want{LinkStatement, diag.CodeStatement, "may not sign statements"}},
		"statement about other bytes": {func(w *world) (string, State) {
			w.environment(", statementSigners: [ops]")
			c := w.commit(&w.alice, "bookinfo/a.cue", "1")
			m := w.statementFor(c, 1)
			m.Releases[0].Digest = w.statementFor(w.root, 1).Releases[0].Digest
			w.tag(w.ops, statementName(1), c, m)
			return c, State{}
		}, want{LinkReproduce, diag.CodeNotReproduced, "compiling gives"}},
		"statement by another compiler": {func(w *world) (string, State) {
			w.environment(", statementSigners: [ops]")
			c := w.commit(&w.alice, "bookinfo/a.cue", "1")
			w.state(w.ops, c)
			w.compiler = "v2"
			return c, State{}
		}, want{LinkReproduce, diag.CodeOtherCompiler, `"v1"`}},
		"sequence not later": {func(w *world) (string, State) {
			w.environment(", position: tag, statementSigners: [ops]")
			c := w.commit(&w.alice, "bookinfo/a.cue", "1")
			w.tag(w.ops, statementName(7), c, w.statementFor(c, 7))
			s := w.approved(c, State{}).State()
			c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
			w.tag(w.ops, statementName(6), c2, w.statementFor(c2, 6))
			return c2, s
		}, want{LinkPlace, diag.CodeNotLater, "position 6"}},
		"date before the parent's": {func(w *world) (string, State) {
			return w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "1"}, Key: &w.alice, When: gittest.Start().Add(-time.Second)}), State{}
		}, want{LinkDate, diag.CodeCommitDate, "before its parent"}},
		"date in the future": {func(w *world) (string, State) {
			return w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "1"}, Key: &w.alice, When: w.now.Add(ClockSkew + time.Second)}), State{}
		}, want{LinkDate, diag.CodeCommitDate, "in the future"}},
		"no such environment": {func(w *world) (string, State) {
			w.replace("  prod:", "  staging:")
			return w.root, State{}
		}, want{LinkRepository, diag.CodeTrustValue, `"prod"`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			commit, s := c.do(w)
			_, err := w.verify(commit, s)
			w.refused(err, c.want.link, c.want.code, c.want.word)
		})
	}
}

func TestTheReleaseMustBelongToTheCommit(t *testing.T) {
	w := newWorld(t)
	c := w.commit(&w.ops, "until", w.now.Add(time.Hour).Format(time.RFC3339))
	other := w.candidate(w.root)
	for name, spoil := range map[string]func(*Candidate){
		"none":              func(c *Candidate) { c.Steps = nil },
		"of another commit": func(c *Candidate) { c.Steps = other.Steps },
		"steps swapped":     func(c *Candidate) { c.Steps[0], c.Steps[1] = c.Steps[1], c.Steps[0] },
		"step at another instant": func(c *Candidate) {
			c.Steps[1].From = c.Steps[1].From.Add(time.Second)
		},
		"second step of other input": func(c *Candidate) { c.Steps[1] = Step{From: c.Steps[1].From, Release: other.Steps[0].Release} },
	} {
		t.Run(name, func(t *testing.T) {
			cand := w.candidate(c)
			spoil(&cand)
			_, err := Verify(cand, State{}, w.trust(), w.now)
			(&world{t: t}).refused(err, LinkSteps, diag.CodeSteps)
		})
	}
	a := w.approved(c, State{})
	if len(a.Steps()) != 2 || a.At(w.now).Digest() == a.At(w.now.Add(2*time.Hour)).Digest() {
		t.Errorf("the step after the expiry is not served: %+v", a.Record().Releases)
	}
}

func TestApprovalTagsCureARefusedCommitAndMeetThresholds(t *testing.T) {
	w := newWorld(t)
	bad := w.commit(nil, "bookinfo/a.cue", "1")
	w.approve(w.bob, bad)
	_, err := w.verify(bad, State{})
	w.refused(err, LinkSigner, diag.CodeWrongSigner, "bob")
	w.approve(w.alice, bad)
	a := w.approved(bad, State{})
	if e := a.Record().Commits[0]; e.Note != "it is not signed" || len(e.Vouches) != 2 {
		t.Errorf("evidence %+v", e)
	}
	two := w.commit(&w.alice, "vault/a.cue", "1")
	w.approve(w.alice, two) // her own tag does not count twice
	_, err = w.verify(two, a.State())
	w.refused(err, LinkThreshold, diag.CodeThreshold, "has 1")
	w.approve(w.bob, two)
	a = w.approved(two, a.State())
	board := w.commit(nil, "board/a.cue", "1")
	w.approve(w.alice, board)
	w.approve(w.bob, board)
	w.approved(board, a.State())
}

func TestRefusedCommitMayBeRewound(t *testing.T) {
	w := newWorld(t)
	s := w.approved(w.commit(&w.alice, "bookinfo/a.cue", "1"), State{}).State()
	bad := w.commit(nil, "bookinfo/a.cue", "2")
	if _, err := w.verify(bad, s); err == nil {
		t.Fatal("unsigned and approved")
	}
	w.repo.Git("reset", "-q", "--hard", s.Commit)
	w.approved(w.commit(&w.alice, "bookinfo/a.cue", "3"), s)
}

func TestApprovalTagMustBeBoundToEverything(t *testing.T) {
	w := newWorld(t)
	c := w.commit(nil, "bookinfo/a.cue", "1")
	good := TagMessage{Repository: repository, Commit: c, Environment: "prod", Compiler: w.compiler, Releases: releaseSteps(w.candidate(c).Steps)}
	name := approvalTags("prod", c) + "alice"
	for what, spoil := range map[string]func(m *TagMessage){
		"repository":  func(m *TagMessage) { m.Repository = "https://git.example.test/other.git" },
		"commit":      func(m *TagMessage) { m.Commit = w.root },
		"environment": func(m *TagMessage) { m.Environment = "staging" },
		"releases":    func(m *TagMessage) { m.Releases = []ReleaseStep{{Digest: canonDigest("x")}} },
		"no releases": func(m *TagMessage) { m.Releases = nil },
		"compiler":    func(m *TagMessage) { m.Compiler = "v0" },
	} {
		t.Run(what, func(t *testing.T) {
			m := good
			spoil(&m)
			w.tag(w.alice, name, c, m)
			_, err := w.verify(c, State{})
			(&world{t: t}).refused(err, LinkSignature, diag.CodeUnsigned, "not counted")
		})
	}
	w.tag(w.alice, name, w.root, good) // the tag is on another commit
	_, err := w.verify(c, State{})
	w.refused(err, LinkSignature, diag.CodeUnsigned, "another commit")
	w.tag(w.alice, approvalTags("prod", c)+"ops", c, good) // in somebody else's name
	_, err = w.verify(c, State{})
	w.refused(err, LinkSignature, diag.CodeUnsigned, `signed by "alice"`)
	w.tag(w.alice, name, c, good)
	w.approved(c, State{})
}

func TestOtherCompilerMayBeTrusted(t *testing.T) {
	w := newWorld(t)
	w.environment(", otherCompiler: trustStatement, statementSigners: [ops]")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.state(w.ops, c)
	cand := w.candidate(c) // the bytes that compiler v1 made
	cand.Compiler = "v2"
	if _, err := Verify(cand, State{}, w.trust(), w.now); err != nil {
		t.Errorf("trusted statement refused: %v", err)
	}
	cand.Steps = w.candidate(w.root).Steps
	cand.Steps[0].Release = stepFor(t, w, c, "other")
	_, err := Verify(cand, State{}, w.trust(), w.now)
	w.refused(err, LinkReproduce, diag.CodeNotReproduced)
}

func TestRollback(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	s1 := w.approved(c1, State{}).State()
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	s2 := w.approved(c2, s1).State()
	w.rollBack(w.ops, c2, c1)
	for name, s := range map[string]State{"server that served the commit": s2, "server that never saw it": s1, "new server": {}} {
		t.Run(name, func(t *testing.T) {
			next, err := Next(w.candidate(w.root), s, w.trust(), w.now)
			if err != nil || next != c1 {
				t.Fatalf("next %s, %v; want %s", next, err, c1)
			}
			_, err = w.verify(c2, s)
			(&world{t: t}).refused(err, LinkRollback, diag.CodeRollback, "it broke")
			a := w.approved(c1, s)
			if r := a.Record(); r.Place != (Place{1, 1}) || r.Tip != c2 || r.Rollback == nil || r.Rollback.Signer != "ops" {
				t.Errorf("record %+v", r)
			}
			if next, err := Next(w.candidate(w.root), a.State(), w.trust(), w.now); err != nil || next != c1 {
				t.Errorf("then next %s, %v; want still %s", next, err, c1)
			}
		})
	}
	back := w.approved(c1, s2)
	c3 := w.commit(&w.alice, "bookinfo/a.cue", "3")
	a := w.approved(c3, back.State())
	if r := a.Record(); r.Place != (Place{1, 3}) || len(r.Commits) != 1 || r.Tip != c3 || r.Rollback != nil {
		t.Errorf("after the repair: %+v", r)
	}
	w.rollBack(w.ops, c3, c1)
	if r := w.approved(c1, a.State()).Record(); r.Place != (Place{2, 1}) {
		t.Errorf("second rollback: %+v", r.Place)
	}
}

func TestRollbackRecordsThatDoNotCount(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	s := w.approved(c2, State{}).State()
	good := RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: c1, Reason: "r"}
	for name, c := range map[string]struct {
		key   gittest.Key
		n     int64
		spoil func(*RollbackMessage)
	}{
		"signer":      {w.alice, 1, func(*RollbackMessage) {}},
		"stranger":    {w.eve, 1, func(*RollbackMessage) {}},
		"repository":  {w.ops, 1, func(m *RollbackMessage) { m.Repository = "x" }},
		"environment": {w.ops, 1, func(m *RollbackMessage) { m.Environment = "x" }},
		"from":        {w.ops, 1, func(m *RollbackMessage) { m.From = c1; m.To = w.root }},
		"reason":      {w.ops, 1, func(m *RollbackMessage) { m.Reason = " " }},
		"number":      {w.ops, maxSkip + 1, func(*RollbackMessage) {}},
	} {
		t.Run(name, func(t *testing.T) {
			m := good
			c.spoil(&m)
			tag := rollbackTags("prod") + itoa(c.n)
			w.tag(c.key, tag, m.To, m)
			defer w.repo.Git("tag", "-d", tag)
			if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != c2 {
				t.Errorf("next %s, %v; want %s", next, err, c2)
			}
		})
	}
	w.replace("rollbackSigners: [ops]", "") // then the paths' signers may
	w.rollBack(w.alice, c2, c1)
	w.approved(c1, s)
}

func TestRollbackDoesNotCoverAnUnapprovedRange(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	s := w.approved(c1, State{}).State()
	evil := w.commit(&w.eve, "bookinfo/a.cue", "evil")
	w.rollBack(w.ops, evil, c1)
	_, err := w.verify(c1, s)
	w.refused(err, LinkSigner, diag.CodeWrongSigner, "does not know")
}

func TestPGPSignatures(t *testing.T) {
	w := newWorld(t)
	key := newPGP(t, w.now.Add(-time.Hour), 0)
	w.replace(`{ssh: "ALICE"}`, `{pgp: `+quoteYAML(key.public)+`}`)
	c := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "1"}, Signer: key.signer})
	a := w.approved(c, State{})
	if v := a.Record().Commits[0].Vouches[0]; v.Method != PGPKey || v.Key != key.fingerprint || v.Signer != "alice" {
		t.Errorf("vouch %+v", v)
	}
	short := newPGP(t, w.now.Add(-time.Hour), 30*time.Minute)
	w.replace(`{pgp: `+quoteYAML(key.public)+`}`, `{pgp: `+quoteYAML(short.public)+`}`)
	_, err := w.verify(w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "2"}, Signer: short.signer}), a.State())
	w.refused(err, LinkSignature, diag.CodeKeyNotValid, "expired")
	sk, err := signing.Open(context.Background(), key.file(t), signing.Options{})
	if err != nil || sk.Fingerprint != key.fingerprint {
		t.Errorf("signing key %+v, %v", sk, err)
	}
}

func TestCheckHistoryRefusesBeforeAnythingIsCompiled(t *testing.T) {
	w := newWorld(t)
	c := Candidate{Snapshot: nil, Environment: "prod", Compiler: "v1", Commit: w.commit(&w.eve, "bookinfo/a.cue", "1")}
	c.Snapshot = w.snapshot()
	_, err := CheckHistory(c, State{}, w.trust(), w.now)
	w.refused(err, LinkSigner, diag.CodeWrongSigner)
}
