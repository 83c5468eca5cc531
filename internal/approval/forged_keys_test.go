package approval

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// forger signs honestly and then changes the signature.
type forger struct {
	s     ssh.Signer
	spoil func(s *sshsig.Signature)
	armor func(text string) string
}

func (f forger) Sign(r io.Reader) ([]byte, error) {
	sig, err := sshsig.Sign(r, f.s, sshsig.HashSHA512, "git")
	if err != nil {
		return nil, err
	}
	if f.spoil != nil {
		f.spoil(sig)
	}
	text := string(sshsig.Armor(sig))
	if f.armor != nil {
		text = f.armor(text)
	}
	return []byte(text), nil
}

func signerOf(t *testing.T, priv any) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorized(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

// SSH signatures that name a good key or hold a good signature, but not both.
func TestForgedSSHSignatures(t *testing.T) {
	w := newWorld(t)
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good, evil := signerOf(t, priv), signerOf(t, newEd25519(t))
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaSigner := signerOf(t, ec)
	cert := &ssh.Certificate{Key: good.PublicKey(), CertType: ssh.UserCert, KeyId: "alice", ValidPrincipals: []string{"git"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, good); err != nil {
		t.Fatal(err)
	}
	w.replace(`{ssh: "ALICE"}`, `{ssh: "`+authorized(good.PublicKey())+`"}, {ssh: "`+authorized(ecdsaSigner.PublicKey())+`"}`)
	for name, c := range map[string]struct {
		f    forger
		code diag.Code
	}{
		"good":                   {forger{s: good}, ""},
		"good ecdsa":             {forger{s: ecdsaSigner}, ""},
		"good key's name":        {forger{s: evil, spoil: func(s *sshsig.Signature) { s.PublicKey = good.PublicKey() }}, diag.CodeUnsigned},
		"certificate":            {forger{s: good, spoil: func(s *sshsig.Signature) { s.PublicKey = cert }}, diag.CodeWrongSigner},
		"other hash named":       {forger{s: good, spoil: func(s *sshsig.Signature) { s.HashAlgorithm = sshsig.HashSHA256 }}, diag.CodeUnsigned},
		"no hash":                {forger{s: good, spoil: func(s *sshsig.Signature) { s.HashAlgorithm = "none" }}, diag.CodeUnsigned},
		"empty namespace":        {forger{s: good, spoil: func(s *sshsig.Signature) { s.Namespace = "" }}, diag.CodeUnsigned},
		"other kind of key":      {forger{s: good, spoil: func(s *sshsig.Signature) { s.Signature.Format = ssh.KeyAlgoECDSA384 }}, diag.CodeUnsigned},
		"no signature":           {forger{s: good, spoil: func(s *sshsig.Signature) { s.Signature.Blob = nil }}, diag.CodeUnsigned},
		"kept from another":      {forger{s: good, spoil: func(s *sshsig.Signature) { s.Signature.Blob[0] ^= 1 }}, diag.CodeUnsigned},
		"bytes after it":         {forger{s: good, armor: func(a string) string { return strings.Replace(a, "\n-----END", "\nAAAA\n-----END", 1) }}, diag.CodeUnsigned},
		"security key's options": {forger{s: good, spoil: func(s *sshsig.Signature) { s.Signature.Rest = []byte{1, 0, 0, 0, 1} }}, diag.CodeUnsigned},
	} {
		t.Run(name, func(t *testing.T) {
			commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": name}, Signer: c.f, Parents: []string{w.root}})
			_, err := w.verify(commit, State{})
			switch r := (*Refusal)(nil); {
			case c.code == "" && err != nil:
				t.Error(err)
			case c.code == "":
			case !errors.As(err, &r) || r.Code != c.code || r.Fix == "":
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

// One person with two keys is one person, whichever way the keys are used.
func TestTwoKeysOfOnePersonCountOnce(t *testing.T) {
	w := newWorld(t)
	w.replace(`{ssh: "ALICE"}`, `{ssh: "ALICE"}, {ssh: "EVE"}`)
	c := w.commit(&w.alice, "vault/a.cue", "1")
	w.approve(w.eve, c)
	_, err := w.verify(c, State{})
	w.refused(err, LinkThreshold, diag.CodeThreshold, "has 1 (alice)")
	w.approve(w.bob, c)
	w.approved(c, State{})
}

// A signature inside a commit that is not the commit's own: the tag that a merge
// brought, its message, another commit's.
func TestBorrowedSignatures(t *testing.T) {
	w := newWorld(t)
	signed := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.tag(w.alice, "meshc/prod/1", signed, w.statementFor(signed, 1))
	tag := strings.ReplaceAll(strings.TrimRight(string(w.repo.Raw("tag", "meshc/prod/1")), "\n"), "\n", "\n ")
	raw := string(w.repo.Raw("commit", signed))
	sig := raw[strings.Index(raw, "gpgsig "):strings.Index(raw, "\n\n")]
	unsigned := strings.Replace(raw, sig+"\n", "", 1)
	for name, text := range map[string]string{
		"merged tag":             strings.Replace(unsigned, "\n\n", "\nmergetag "+tag+"\n\n", 1),
		"signature in message":   unsigned + sig + "\n",
		"armor in message":       unsigned + strings.ReplaceAll(strings.TrimPrefix(sig, "gpgsig "), "\n ", "\n") + "\n",
		"under another header":   strings.Replace(raw, "gpgsig ", "gpgsigx ", 1),
		"of the unchanged tree":  strings.Replace(raw, raw[:45], "tree "+w.repo.Git("rev-parse", w.root+"^{tree}"), 1),
		"with one more parent":   strings.Replace(raw, "author", "parent "+signed+"\nauthor", 1),
		"with no parent":         strings.Replace(raw, "parent "+w.root+"\n", "", 1),
		"with a mergetag behind": strings.Replace(raw, "\n\n", "\nmergetag "+tag+"\n\n", 1),
	} {
		h := w.repo.Object("commit", []byte(text))
		w.repo.Git("update-ref", "refs/heads/main", h)
		if _, err := w.verify(h, State{}); err == nil || text == raw {
			t.Errorf("%s: approved", name)
		}
	}
}

// Evidence replayed under another name, number or environment, by whoever can push.
func TestReplayedTags(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [ops]")
	w.replace("signers:\n", "  staging: {}\nsigners:\n")
	c1 := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.tag(w.ops, statementName(1), c1, w.statementFor(c1, 1))
	s := w.approved(c1, State{}).State()
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.tag(w.ops, statementName(2), c2, w.statementFor(c2, 2))
	s = w.approved(c2, s).State()
	w.rollBack(w.ops, c2, c1)
	w.tag(w.ops, statementName(3), c1, w.statementFor(c1, 3))
	s = w.approved(c1, s).State()
	c3 := w.commit(&w.alice, "bookinfo/a.cue", "3")
	w.tag(w.ops, statementName(4), c3, w.statementFor(c3, 4))
	s = w.approved(c3, s).State()
	for ref, from := range map[string]string{
		"meshc/prod/9":             statementName(2), // an old statement as the newest
		"meshc/prod/rollback/2":    rollbackTags("prod") + "1",
		"meshc/prod/rollback/3":    statementName(1),
		"meshc/staging/1":          statementName(4),
		"meshc/staging/rollback/1": rollbackTags("prod") + "1",
		"meshc/prod/01":            statementName(4),
		"meshc/prod/+5":            statementName(4),
	} {
		w.repo.Point("refs/tags/"+ref, w.repo.Git("rev-parse", "refs/tags/"+from))
	}
	for env, want := range map[string]string{"prod": c3, "staging": c3} {
		c := w.candidate(w.root)
		c.Environment = env
		state := s
		if env == "staging" {
			state = State{}
		}
		if next, err := Next(c, state, w.trust(), w.now); err != nil || next != want {
			t.Errorf("%s: next %s, %v; want %s", env, next, err, want)
		}
	}
	w.repo.Git("update-ref", "refs/heads/main", c2) // and the branch rewound to suit them
	_, err := w.verify(c2, s)
	w.refused(err, LinkDescent, diag.CodeNotDescended, "rewritten")
}

// Histories of odd shapes: only the first-parent line counts, and it counts whole.
func TestOddHistories(t *testing.T) {
	w := newWorld(t)
	a := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.repo.Git("reset", "-q", "--hard", w.root)
	b := w.repo.Commit(gittest.Commit{Key: &w.bob, Parents: []string{w.root}, Files: map[string]string{"shop/a.cue": "1"}, Ref: "refs/heads/b"})
	// Criss-cross: each side merged the other; the line of main is the one of a.
	w.repo.Git("reset", "-q", "--hard", a)
	w.repo.Git("checkout", "-q", b, "--", "shop")
	ab := w.repo.Commit(gittest.Commit{Key: &w.bob, Parents: []string{a, b}})
	ba := w.repo.Commit(gittest.Commit{Key: &w.alice, Parents: []string{b, a}, Ref: "refs/heads/b"})
	both := w.repo.Commit(gittest.Commit{Key: &w.alice, Parents: []string{ab, ba}})
	s := w.approved(both, State{}).State()
	// The same tree by the other line, signed by everybody: not a descendant.
	other := w.repo.Commit(gittest.Commit{Key: &w.ops, Parents: []string{ba, ab}})
	_, err := w.verify(other, s)
	w.refused(err, LinkDescent, diag.CodeNotDescended)
	w.repo.Git("update-ref", "refs/heads/main", both)
	// The same parent twice, and an octopus that smuggles a path from its third parent.
	twice := w.repo.Commit(gittest.Commit{Key: &w.bob, Parents: []string{both, both}})
	s = w.approved(twice, s).State()
	side := w.repo.Commit(gittest.Commit{Key: &w.eve, Parents: []string{both}, Files: map[string]string{"vault/x.cue": "evil"}, Ref: "refs/heads/side"})
	octopus := w.repo.Commit(gittest.Commit{Key: &w.alice, Parents: []string{twice, b, side}})
	_, err = w.verify(octopus, s)
	w.refused(err, LinkThreshold, diag.CodeThreshold, `path "vault/x.cue"`)
	// Moving a file out of somebody's folder takes the owners of both.
	w.repo.Git("reset", "-q", "--hard", twice)
	moved := w.commit(&w.alice, "shop/a.cue", "", "bookinfo/b.cue", "1")
	_, err = w.verify(moved, s)
	w.refused(err, LinkSigner, diag.CodeWrongSigner, `path "shop/a.cue"`)
	// A folder that becomes a file of the same name is two changes.
	w.repo.Git("reset", "-q", "--hard", twice)
	blob := w.repo.Object("blob", []byte("x"))
	tree := w.repo.Tree(gittest.Entry{Mode: "100644", Name: "bookinfo", Hash: blob}, gittest.Entry{Mode: "100644", Name: "mesh.cue", Hash: w.repo.Git("rev-parse", twice+":mesh.cue")},
		gittest.Entry{Mode: "40000", Name: "shop", Hash: w.repo.Git("rev-parse", twice+":shop")})
	_, err = w.verify(w.repo.Commit(gittest.Commit{Key: &w.alice, Tree: tree}), s)
	w.refused(err, LinkSigner, diag.CodeWrongSigner, `path "bookinfo"`)
}
