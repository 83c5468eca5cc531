package approval

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// A statement tag moved to another commit keeps its number: not later.
func TestMovedStatementTagIsNotLater(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [ops]")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.tag(w.ops, statementName(7), c1, w.statementFor(c1, 7))
	s := w.approved(c1, State{}).State()
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.tag(w.ops, statementName(7), c2, w.statementFor(c2, 7))
	_, err := w.verify(c2, s)
	w.refused(err, LinkPlace, diag.CodeNotLater, "position 7")
}

func TestReleaseOfAnotherEnvironmentIsRefused(t *testing.T) {
	w := newWorld(t)
	cand := w.candidate(w.commit(&w.ops, "mesh.cue", "2"))
	commit, err := cand.Snapshot.Commit(cand.Commit)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := cand.Snapshot.FS(commit)
	if err != nil {
		t.Fatal(err)
	}
	if cand.Steps, err = compile(tree, "staging", w.compiler, commit.Committer.When); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(cand, State{}, w.trust(), w.now)
	w.refused(err, LinkSteps, diag.CodeSteps, "staging")
}

func TestThePolicyBoundsPGPKeysToo(t *testing.T) {
	w := newWorld(t)
	key := newPGP(t, w.now.Add(-time.Hour), 0)
	for how, code := range map[string]diag.Code{"notAfter: 2026-01-02T12:30:00Z": diag.CodeKeyNotValid, "notBefore: 2026-03-01T00:00:00Z": diag.CodeKeyNotValid, "revoked: true": diag.CodeKeyNotValid} {
		w.policy = strings.Replace(policyText, `{ssh: "ALICE"}`, `{pgp: `+quoteYAML(key.public)+`, `+how+`}`, 1)
		c := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": how}, Signer: key.signer, Parents: []string{w.root}})
		_, err := w.verify(c, State{})
		w.refused(err, LinkSignature, code, key.fingerprint)
	}
}

// twice signs with two PGP keys inside one armored block.
type twice struct{ a, b pgp }

func (s twice) Sign(r io.Reader) ([]byte, error) {
	payload, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return joinPGP(string(payload), s.a, s.b)
}

// Programs differ in which of several signatures they look at.
func TestSeveralPGPSignaturesInOneBlock(t *testing.T) {
	w := newWorld(t)
	good, other := newPGP(t, w.now.Add(-time.Hour), 0), newPGP(t, w.now.Add(-time.Hour), 0)
	w.replace(`{ssh: "ALICE"}`, `{pgp: `+quoteYAML(good.public)+`}`)
	for _, s := range []twice{{good, other}, {other, good}, {good, good}} {
		c := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "x"}, Signer: s, Parents: []string{w.root}})
		_, err := w.verify(c, State{})
		w.refused(err, LinkSignature, diag.CodeUnsigned, "2 signatures")
	}
}

// oldSigner signs with any algorithm of an RSA key, and for any namespace.
type oldSigner struct {
	s         ssh.AlgorithmSigner
	algorithm string
	namespace string
}

type pinned struct {
	ssh.AlgorithmSigner
	algorithm string
}

func (p pinned) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return p.SignWithAlgorithm(r, data, p.algorithm)
}

func (p pinned) SignWithAlgorithm(r io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return p.AlgorithmSigner.SignWithAlgorithm(r, data, p.algorithm)
}

func (o oldSigner) Sign(r io.Reader) ([]byte, error) {
	sig, err := sshsig.Sign(r, pinned{o.s, o.algorithm}, sshsig.HashSHA512, o.namespace)
	if err != nil {
		return nil, err
	}
	return sshsig.Armor(sig), nil
}

func TestOldAndForeignSSHSignatures(t *testing.T) {
	priv, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	sg, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	signer, ok := sg.(ssh.AlgorithmSigner)
	if !ok {
		t.Fatal("an RSA key that cannot choose its algorithm")
	}
	w := newWorld(t)
	w.replace("ALICE", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sg.PublicKey()))))
	for name, c := range map[string]struct {
		s    oldSigner
		word string
	}{
		"sha-1":     {oldSigner{signer, ssh.KeyAlgoRSA, "git"}, "rsa-sha2"},
		"namespace": {oldSigner{signer, ssh.KeyAlgoRSASHA512, "file"}, "other than git"},
		"good":      {oldSigner{signer, ssh.KeyAlgoRSASHA512, "git"}, ""},
	} {
		commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": name}, Signer: c.s, Parents: []string{w.root}})
		if _, err := w.verify(commit, State{}); c.word == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else {
			w.refused(err, LinkSignature, diag.CodeUnsigned, c.word)
		}
	}
}

// A message that is not byte for byte what meshc writes may read differently in
// another program.
func TestTagMessagesAreCanonical(t *testing.T) {
	w := newWorld(t)
	w.environment(", statement: required, statementSigners: [ops]")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.state(w.ops, c)
	w.approved(c, State{})
	tag, err := w.snapshot().Tag(statementName(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"doubled key":   strings.Replace(tag.Message, `"seq": 1`, `"seq": 2,`+"\n"+`  "seq": 1`, 1),
		"other case":    strings.Replace(tag.Message, `"seq"`, `"Seq"`, 1),
		"unknown field": strings.Replace(tag.Message, `"seq"`, `"extra": 1,`+"\n"+`  "seq"`, 1),
		"spacing":       strings.Replace(tag.Message, "  ", " ", 1),
		"two values":    tag.Message + tag.Message,
		"no JSON":       "approved, thanks",
	} {
		if bad == tag.Message {
			t.Fatalf("%s changes nothing", name)
		}
		n := gitrepo.NewTag{Name: statementName(1), Commit: c, Tagger: tag.Tagger, Message: bad, Replace: true}
		if _, err := gitrepo.WriteTag(w.repo.Dir, n, w.ops.Signer()); err != nil {
			t.Fatal(err)
		}
		_, err := w.verify(c, State{})
		w.refused(err, LinkStatement, diag.CodeStatement, "JSON")
	}
}
