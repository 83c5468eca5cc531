package approval

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// A server that lost its state must not be led behind the operator's anchor by an
// old rollback record and a ref that was rewound to suit it.
func TestAnOldRollbackDoesNotLeadBehindTheAnchor(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.rollBack(w.ops, c2, c1)
	c3 := w.commit(&w.alice, "bookinfo/a.cue", "3")
	w.replace("rootCommit: ROOT", "rootCommit: ROOT\nanchor: "+c3)
	w.approved(c3, State{})
	w.repo.Git("update-ref", "refs/heads/main", c2)
	for _, c := range []string{c1, c2} {
		_, err := w.verify(c, State{})
		w.refused(err, LinkDescent, diag.CodeNotDescended, "anchor", "rewritten")
	}
}

// Without rollbackSigners one person may not undo alone what takes two.
func TestOnePersonDoesNotRollBackWhatTakesTwo(t *testing.T) {
	w := newWorld(t)
	w.replace("rollbackSigners: [ops]", "")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "vault/a.cue", "1")
	w.approve(w.bob, c2)
	s := w.approved(c2, State{}).State()
	m := RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: c1, Reason: "r"}
	if _, err := w.author(w.alice).RollBack(w.snapshot(), w.trust(), m); err == nil {
		t.Error("a record that does not count is written")
	}
	w.tag(w.alice, rollbackTags("prod")+"1", c1, m)
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != c2 {
		t.Errorf("next %s, %v; want %s", next, err, c2)
	}
	ignored := Ignored(w.candidate(w.root), s, w.trust(), w.now)
	if len(ignored) != 1 || !strings.Contains(ignored[0].Error(), `"vault/a.cue"`) || !strings.Contains(ignored[0].Error(), "rollbackSigners") {
		t.Errorf("ignored: %v", ignored)
	}
}

// Who may not roll back is told so before a tag is written, and with it pushed.
func TestRollbackBySomebodyElseIsTold(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	s := w.approved(c2, State{}).State()
	m := RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: c1, Reason: "r"}
	if _, err := w.author(w.alice).RollBack(w.snapshot(), w.trust(), m); err == nil || !strings.Contains(err.Error(), "may not sign rollbacks") {
		t.Errorf("written: %v", err)
	}
	w.tag(w.alice, rollbackTags("prod")+"1", c1, m)
	if ignored := Ignored(w.candidate(w.root), s, w.trust(), w.now); len(ignored) != 1 || !strings.Contains(ignored[0].Error(), "may not sign rollbacks") {
		t.Errorf("ignored: %v", ignored)
	}
}

// A record with the number of the one in force, whose tag was deleted, is not obeyed,
// and whoever signed it is told; that one itself is nothing to tell of.
func TestRollbackWithANumberThatWasTaken(t *testing.T) {
	w := newWorld(t)
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	s := w.approved(c2, State{}).State()
	w.rollBack(w.ops, c2, c1)
	s = w.approved(c1, s).State()
	if ignored := Ignored(w.candidate(w.root), s, w.trust(), w.now); len(ignored) != 0 {
		t.Errorf("the record in force: %v", ignored)
	}
	name := rollbackTags("prod") + "1"
	w.repo.Git("tag", "-d", name)
	w.tag(w.ops, name, w.root, RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: w.root, Reason: "further"})
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != c1 {
		t.Errorf("next %s, %v", next, err)
	}
	if ignored := Ignored(w.candidate(w.root), s, w.trust(), w.now); len(ignored) != 1 || !strings.Contains(ignored[0].Error(), "number 1 was taken before") {
		t.Errorf("ignored: %v", ignored)
	}
}

// After a stolen key used up rollback numbers, the next record is numbered so
// that servers take it.
func TestRollbackNumbersAfterAStolenKey(t *testing.T) {
	w := newWorld(t)
	w.replace("rollbackSigners: [ops]", "rollbackSigners: [ops, robot]")
	w.replace("rules:", `  robot: {keys: [{ssh: "EVE"}]}`+"\nrules:")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	m := RollbackMessage{Repository: repository, Environment: "prod", From: c2, To: c1, Reason: "r"}
	s := w.approved(c2, State{}).State()
	w.tag(w.eve, rollbackTags("prod")+itoa(maxSkip), c1, m)
	s = w.approved(c1, s).State()
	w.replace("robot: {keys", "robot: {revoked: true, keys")
	c3 := w.commit(&w.alice, "bookinfo/a.cue", "3")
	s = w.approved(c3, s).State()
	w.rollBack(w.ops, c3, c1)
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != c1 {
		t.Errorf("next %s, %v; want %s", next, err, c1)
	}
	w.approved(c1, s)
}

// An approval by another compiler names digests: trusting it does not mean that
// anything else may be served in its name.
func TestApprovalByAnotherCompilerStillNamesTheDigests(t *testing.T) {
	w := newWorld(t)
	w.environment(", otherCompiler: trustStatement")
	c := w.commit(nil, "bookinfo/a.cue", "1")
	m := TagMessage{Repository: repository, Commit: c, Environment: "prod", Compiler: "v0", Releases: []ReleaseStep{{Digest: canonDigest("x")}}}
	w.tag(w.alice, approvalTags("prod", c)+"alice", c, m)
	_, err := w.verify(c, State{})
	w.refused(err, LinkSignature, diag.CodeUnsigned, "compiling does not give what it approves")
	m.Releases = releaseSteps(w.candidate(c).Steps)
	w.tag(w.alice, approvalTags("prod", c)+"alice", c, m)
	w.approved(c, State{})
}

// The way out names those whose approval is missing, not those who gave it.
func TestTheWayOutNamesWhoIsMissing(t *testing.T) {
	w := newWorld(t)
	c := w.commit(&w.alice, "vault/a.cue", "1")
	_, err := w.verify(c, State{})
	w.refused(err, LinkThreshold, diag.CodeThreshold, `path "vault/a.cue"`, "needs 2", "has 1 (alice)")
	if r := (*Refusal)(nil); errors.As(err, &r) && !strings.Contains(r.Fix, "1 of bob, ops:") {
		t.Errorf("way out: %s", r.Fix)
	}
}

// Whoever can push tags cannot make a refusal, a log or a record as long as they like.
func TestJunkTagsDoNotFillTheRefusal(t *testing.T) {
	w := newWorld(t)
	w.environment(", statement: required, statementSigners: [ops]")
	c := w.commit(nil, "bookinfo/a.cue", "1")
	junk := w.repo.Object("blob", []byte("x"))
	for i := range 50 {
		w.repo.Point("refs/tags/"+approvalTags("prod", c)+"junk"+itoa(int64(i)), junk)
		w.repo.Point("refs/tags/meshc/prod/rollback/"+itoa(int64(i+1)), junk)
		w.repo.Point("refs/tags/"+statementName(int64(i+100)), junk)
	}
	_, err := w.verify(c, State{})
	w.refused(err, LinkSignature, diag.CodeUnsigned, "not counted", "and 30 more")
	w.approve(w.alice, c)
	_, err = w.verify(c, State{})
	w.refused(err, LinkStatement, diag.CodeStatement, "and 30 more")
	w.state(w.ops, c)
	if r := w.approved(c, State{}).Record(); len(r.Ignored) == 0 || len(r.Ignored) > maxNotes {
		t.Errorf("%d tags are recorded", len(r.Ignored))
	}
}

// A commit that changes no file takes anyone whom some rule names, by name.
func TestCommitWithoutChanges(t *testing.T) {
	w := newWorld(t)
	w.replace("rules:", `  idle: {keys: [{ssh: "EVE"}]}`+"\nrules:")
	for name, c := range map[string]struct {
		key  *gittest.Key
		link Link
		code diag.Code
	}{"nobody": {nil, LinkSignature, diag.CodeUnsigned}, "a signer without a rule": {&w.eve, LinkSigner, diag.CodeWrongSigner}} {
		h := w.repo.Commit(gittest.Commit{Key: c.key, Parents: []string{w.root}})
		_, err := w.verify(h, State{})
		w.refused(err, c.link, c.code)
		if r := (*Refusal)(nil); errors.As(err, &r) && !strings.Contains(r.Fix, "1 of alice, bob, ops:") {
			t.Errorf("%s: way out: %s", name, r.Fix)
		}
	}
	w.approved(w.repo.Commit(gittest.Commit{Key: &w.bob, Parents: []string{w.root}}), State{})
}

// pgpWith signs with a changed configuration or form.
type pgpWith struct {
	e      *openpgp.Entity
	config *packet.Config
	text   bool
	hash   crypto.Hash // one that the library refuses to sign with
}

func (p pgpWith) Sign(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	if p.hash != 0 {
		sig := &packet.Signature{Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: p.e.PrivateKey.PubKeyAlgo, Hash: p.hash,
			CreationTime: p.config.Now(), IssuerKeyId: &p.e.PrimaryKey.KeyId}
		salt := false
		p.config.NonDeterministicSignaturesViaNotation = &salt
		h := p.hash.New()
		if _, err := io.Copy(h, r); err != nil {
			return nil, err
		}
		if err := sig.Sign(h, p.e.PrivateKey, p.config); err != nil {
			return nil, err
		}
		a, err := armor.Encode(&b, openpgp.SignatureType, nil)
		if err != nil {
			return nil, err
		}
		if err := sig.Serialize(a); err != nil {
			return nil, err
		}
		err = a.Close()
		return b.Bytes(), err
	}
	sign := openpgp.ArmoredDetachSign
	if p.text {
		sign = openpgp.ArmoredDetachSignText
	}
	err := sign(&b, p.e, r, p.config)
	return b.Bytes(), err
}

// PGP signatures that some programs accept: with SHA-1, of texts (which do not see
// the ends of lines), with a critical notation, by a key that may not sign, dated
// ahead of the clock, and expired.
func TestPGPSignaturesOfOtherForms(t *testing.T) {
	w := newWorld(t)
	born := w.now.Add(-time.Hour)
	at := func(when time.Time) func() time.Time { return func() time.Time { return when } }
	entity := func() *openpgp.Entity {
		e, err := openpgp.NewEntity("T", "", "t@example.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: at(born)})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	mute := entity()
	for _, id := range mute.Identities {
		id.SelfSignature.FlagSign = false
		if err := id.SelfSignature.SignUserId(id.UserId.Id, mute.PrimaryKey, mute.PrivateKey, &packet.Config{Time: at(born)}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		s    pgpWith
		code diag.Code
		word string
	}{
		"plain":             {pgpWith{entity(), &packet.Config{Time: at(born)}, false, 0}, "", ""},
		"sha-1":             {pgpWith{entity(), &packet.Config{Time: at(born)}, false, crypto.SHA1}, diag.CodeUnsigned, "SHA-1"},
		"of a text":         {pgpWith{entity(), &packet.Config{Time: at(born)}, true, 0}, diag.CodeUnsigned, "of a text"},
		"critical notation": {pgpWith{entity(), &packet.Config{Time: at(born), SignatureNotations: []*packet.Notation{{Name: "x@example.test", Value: []byte("1"), IsCritical: true, IsHumanReadable: true}}}, false, 0}, diag.CodeUnsigned, "critical notation"},
		"expired":           {pgpWith{entity(), &packet.Config{Time: at(born), SigLifetimeSecs: 60}, false, 0}, diag.CodeKeyNotValid, "expired"},
		"of tomorrow":       {pgpWith{entity(), &packet.Config{Time: at(w.now.Add(24 * time.Hour))}, false, 0}, diag.CodeKeyNotValid, ""},
		"key may not sign":  {pgpWith{mute, &packet.Config{Time: at(born)}, false, 0}, diag.CodeUnsigned, "does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.s.e == mute {
				for _, id := range mute.Identities {
					id.SelfSignature.FlagSign = true // the signing program does not care
					defer func() { id.SelfSignature.FlagSign = false }()
				}
			}
			w.policy = strings.Replace(policyText, `{ssh: "ALICE"}`, `{pgp: `+quoteYAML(publicPGP(t, c.s.e))+`}`, 1)
			commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": name}, Signer: c.s, Parents: []string{w.root}})
			_, err := w.verify(commit, State{})
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			(&world{t: t}).refused(err, LinkSignature, c.code, "alice", c.word)
		})
	}
}

func publicPGP(t testing.TB, e *openpgp.Entity) string {
	t.Helper()
	var out bytes.Buffer
	a, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(a); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}
