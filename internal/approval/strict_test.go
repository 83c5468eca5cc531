package approval

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgpecdsa "github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/signing"
)

// sshForm is the same public key as SSH writes it.
func sshForm(t *testing.T, p *packet.PublicKey) string {
	t.Helper()
	var pub any
	switch k := p.PublicKey.(type) {
	case *rsa.PublicKey:
		pub = k
	case *eddsa.PublicKey:
		pub = ed25519.PublicKey(k.X)
	case *pgpecdsa.PublicKey:
		point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.MarshalPoint())
		if err != nil {
			t.Fatal(err)
		}
		pub = point
	default:
		t.Fatalf("%T", k)
	}
	s, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return authorized(s)
}

// One private key is one person, in whatever forms it is listed: as SSH's and PGP's
// key, as a subkey, twice for one signer.
func TestOnePrivateKeyInTwoForms(t *testing.T) {
	born := time.Now().Add(-time.Hour)
	for name, c := range map[string]*packet.Config{
		"ed25519": {Algorithm: packet.PubKeyAlgoEdDSA}, "rsa": {Algorithm: packet.PubKeyAlgoRSA, RSABits: 3072}, "ecdsa": {Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256},
	} {
		c.Time = func() time.Time { return born }
		e, err := openpgp.NewEntity("T", "", "t@example.test", c)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddSigningSubkey(c); err != nil {
			t.Fatal(err)
		}
		armored := quoteYAML(publicPGP(t, e))
		primary, sub := sshForm(t, e.PrimaryKey), sshForm(t, e.Subkeys[len(e.Subkeys)-1].PublicKey)
		for _, ssh := range []string{primary, sub} {
			for what, signers := range map[string]string{
				"two people":       `alice: {keys: [{ssh: "` + ssh + `"}]}` + "\n  bob: {keys: [{pgp: " + armored + "}]}",
				"the other way":    `alice: {keys: [{pgp: ` + armored + `}]}` + "\n  bob: {keys: [{ssh: \"" + ssh + "\"}]}",
				"one, one revoked": `alice: {keys: [{ssh: "` + ssh + `", revoked: true}, {pgp: ` + armored + `}]}`,
			} {
				tr, l := load(t, strings.Replace(minimal, `alice: {keys: [{ssh: "KEY"}]}`, signers, 1))
				if tr.Repository != "" || !l.HasErrors() || l[0].Code != diag.CodeTrustKey || !strings.Contains(l[0].Text, "another form") || l[0].Fix == "" {
					t.Errorf("%s, %s: %v", name, what, l)
				}
			}
		}
		// The key alone, with its subkeys, is one.
		if _, l := load(t, strings.Replace(minimal, `ssh: "KEY"`, "pgp: "+armored, 1)); l.HasErrors() {
			t.Errorf("%s: %v", name, l)
		}
	}
	// A security key's point is one in any form, too.
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sk, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Curve string
		Point       []byte
		Application string
	}{ssh.KeyAlgoSKECDSA256, "nistp256", point, "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	plain := gittest.KeyOf(t, k).Public
	if _, l := load(t, strings.Replace(minimal, `{ssh: "KEY"}`, `{ssh: "`+plain+`"}, {ssh: "`+authorized(sk)+`"}`, 1)); !l.HasErrors() {
		t.Error("a point in two forms")
	}
}

// subkeyed is an entity with a subkey for signing, changed and bound again.
func subkeyed(t *testing.T, born time.Time, c packet.Config) *openpgp.Entity {
	t.Helper()
	base := packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return born }}
	e, err := openpgp.NewEntity("T", "", "t@example.test", &base)
	if err != nil {
		t.Fatal(err)
	}
	c.Algorithm = packet.PubKeyAlgoEdDSA
	if c.Time == nil {
		c.Time = base.Time
	}
	if err := e.AddSigningSubkey(&c); err != nil {
		t.Fatal(err)
	}
	return e
}

// direct adds the owner's signature over the key itself.
func direct(t *testing.T, e *openpgp.Entity, s *packet.Signature) string {
	t.Helper()
	s.Version, s.SigType, s.PubKeyAlgo, s.Hash, s.IssuerKeyId = 4, packet.SigTypeDirectSignature, e.PrimaryKey.PubKeyAlgo, crypto.SHA256, &e.PrimaryKey.KeyId
	if err := s.SignDirectKeyBinding(e.PrimaryKey, e.PrivateKey, &packet.Config{Time: func() time.Time { return s.CreationTime }}); err != nil {
		t.Fatal(err)
	}
	var key, sig, out bytes.Buffer
	if err := e.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	if err := s.Serialize(&sig); err != nil {
		t.Fatal(err)
	}
	// After the primary key's packet.
	var head bytes.Buffer
	if err := e.PrimaryKey.Serialize(&head); err != nil {
		t.Fatal(err)
	}
	raw := append(append(bytes.Clone(head.Bytes()), sig.Bytes()...), key.Bytes()[head.Len():]...)
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

func secs(d time.Duration) *uint32 {
	n := uint32(d / time.Second)
	return &n
}

// What gpg asks of dates: of the key, the subkey, its binding, and the signature.
func TestPGPDates(t *testing.T) {
	now := gittest.Start().Add(time.Hour)
	born := now.Add(-30 * time.Minute)
	at := func(when time.Time) func() time.Time { return func() time.Time { return when } }
	plain := subkeyed(t, born, packet.Config{})
	short := subkeyed(t, born, packet.Config{KeyLifetimeSecs: 1200})
	lasting := subkeyed(t, born, packet.Config{KeyLifetimeSecs: 7200})
	unborn := subkeyed(t, born, packet.Config{Time: at(now.Add(10 * time.Minute))})
	for name, c := range map[string]struct {
		key  *openpgp.Entity
		text string // instead of the plain export
		when time.Time
		word string
	}{
		"by a subkey":                   {key: plain, when: born.Add(time.Minute)},
		"by a subkey that lasts":        {key: lasting, when: born.Add(time.Minute)},
		"the subkey has expired":        {key: short, when: born.Add(time.Minute), word: "expired"},
		"the subkey is not born":        {key: unborn, when: now.Add(10 * time.Minute), word: "from the future"},
		"a clock a little ahead":        {key: plain, when: now.Add(ClockSkew - time.Second)},
		"a clock far ahead":             {key: plain, when: now.Add(ClockSkew + time.Second), word: "in the future"},
		"before its key":                {key: plain, when: born.Add(-time.Minute), word: "was made after its signature"},
		"the key's own end has come":    {key: plain, text: direct(t, plain, &packet.Signature{CreationTime: born, KeyLifetimeSecs: secs(20 * time.Minute)}), when: born.Add(time.Minute), word: "has expired"},
		"the key's own end is to come":  {key: plain, text: direct(t, plain, &packet.Signature{CreationTime: born, KeyLifetimeSecs: secs(time.Hour)}), when: born.Add(time.Minute)},
		"an end that was said too late": {key: plain, text: direct(t, plain, &packet.Signature{CreationTime: born, SigLifetimeSecs: secs(time.Minute), KeyLifetimeSecs: secs(20 * time.Minute)}), when: born.Add(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.text == "" {
				c.text = publicPGP(t, c.key)
			}
			w.replace(`{ssh: "ALICE"}`, `{pgp: `+quoteYAML(c.text)+`}`)
			by := pgpWith{e: c.key, config: &packet.Config{Time: at(c.when), SigningKeyId: c.key.Subkeys[len(c.key.Subkeys)-1].PublicKey.KeyId}}
			if c.when.Before(born) {
				by.hash = crypto.SHA256 // the library refuses to sign, not to verify
			}
			commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": name}, Signer: by})
			_, err := w.verify(commit, State{})
			if c.word == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			w.refused(err, LinkSignature, diag.CodeKeyNotValid, c.word)
		})
	}
}

// A key that others could have bound together is refused when the policy is read.
func TestWeakBindingsOfPGPKeys(t *testing.T) {
	born := time.Now().Add(-time.Hour)
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return born }}
	e, err := openpgp.NewEntity("T", "", "t@example.test", config)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range e.Identities {
		salt := false
		config.NonDeterministicSignaturesViaNotation = &salt
		id.SelfSignature.Hash = crypto.SHA1
		if err := id.SelfSignature.SignUserId(id.UserId.Id, e.PrimaryKey, e.PrivateKey, config); err != nil {
			t.Fatal(err)
		}
	}
	_, l := load(t, strings.Replace(minimal, `ssh: "KEY"`, "pgp: "+quoteYAML(publicPGP(t, e)), 1))
	if !l.HasErrors() || !strings.Contains(l[0].Text, "SHA-1") || l[0].Code != diag.CodeTrustKey {
		t.Errorf("%v", l)
	}
	// A subkey for signing that does not name its primary key is somebody else's.
	mine, theirs := subkeyed(t, born, packet.Config{}), subkeyed(t, born, packet.Config{})
	stolen := &theirs.Subkeys[len(theirs.Subkeys)-1]
	stolen.Sig.EmbeddedSignature = nil
	if err := stolen.Sig.SignKey(stolen.PublicKey, mine.PrivateKey, config); err != nil {
		t.Fatal(err)
	}
	mine.Subkeys = append(mine.Subkeys, *stolen)
	_, l = load(t, strings.Replace(minimal, `ssh: "KEY"`, "pgp: "+quoteYAML(publicPGP(t, mine)), 1))
	if !l.HasErrors() || !strings.Contains(l[0].Text, "cross-signature") {
		t.Errorf("%v", l)
	}
}

// rearmored signs honestly and changes the armor.
type rearmored struct {
	s      gitrepo.Signer
	change func(text string) string
}

func (r rearmored) Sign(in io.Reader) ([]byte, error) {
	b, err := r.s.Sign(in)
	return []byte(r.change(string(b))), err
}

// What gpg and ssh-keygen make of the armor: lines that are none, headers, checksums.
func TestArmor(t *testing.T) {
	w := newWorld(t)
	key := newPGP(t, w.now.Add(-time.Hour), 0)
	w.replace(`bob: {keys: [{ssh: "BOB"}]}`, `bob: {keys: [{pgp: `+quoteYAML(key.public)+`}]}`)
	trust := w.trust()
	replace := func(old, by string) func(string) string {
		return func(s string) string {
			out := strings.Replace(s, old, by, 1)
			if out == s {
				t.Fatalf("no %q in %s", old, s)
			}
			return out
		}
	}
	same := func(s string) string { return s }
	for name, c := range map[string]struct {
		s      gitrepo.Signer
		kind   gitrepo.SignatureKind
		change func(string) string
		good   bool
	}{
		"ssh":                   {w.alice.Signer(), gitrepo.SSHSignature, same, true},
		"ssh, wrapped":          {w.alice.Signer(), gitrepo.SSHSignature, replace("U1NI", "U1\n NI"), true},
		"ssh with a header":     {w.alice.Signer(), gitrepo.SSHSignature, replace("-----\n", "-----\nComment: x\n\n"), false},
		"ssh with other signs":  {w.alice.Signer(), gitrepo.SSHSignature, replace("U1NI", "U1-NI"), false},
		"ssh, text before":      {w.alice.Signer(), gitrepo.SSHSignature, func(s string) string { return "x\n" + s }, false},
		"ssh, text after":       {w.alice.Signer(), gitrepo.SSHSignature, func(s string) string { return s + "x\n" }, false},
		"ssh, twice":            {w.alice.Signer(), gitrepo.SSHSignature, func(s string) string { return s + s }, false},
		"ssh, cut":              {w.alice.Signer(), gitrepo.SSHSignature, func(s string) string { return s[:len(s)-10] }, false},
		"pgp":                   {key.signer, gitrepo.PGPSignature, same, true},
		"pgp with headers":      {key.signer, gitrepo.PGPSignature, replace("-----\n", "-----\nVersion: GnuPG v2\nComment: x\n"), true},
		"pgp, CR LF":            {key.signer, gitrepo.PGPSignature, func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }, true},
		"pgp, odd header":       {key.signer, gitrepo.PGPSignature, replace("-----\n", "-----\nVersion\n"), false},
		"pgp, no empty line":    {key.signer, gitrepo.PGPSignature, replace("-----\n\n", "-----\n"), false},
		"pgp, no checksum":      {key.signer, gitrepo.PGPSignature, func(s string) string { return s[:strings.LastIndex(s, "\n=")] + "\n-----END PGP SIGNATURE-----\n" }, true},
		"pgp, wrong checksum":   {key.signer, gitrepo.PGPSignature, func(s string) string { i := strings.LastIndex(s, "\n=") + 2; return s[:i] + "AAAA" + s[i+4:] }, false},
		"pgp, checksum too far": {key.signer, gitrepo.PGPSignature, replace("\n-----END", "\n=AAAA\n-----END"), false},
		"pgp, other signs":      {key.signer, gitrepo.PGPSignature, replace("\n\n", "\n\n!"), false},
		"pgp, text before":      {key.signer, gitrepo.PGPSignature, func(s string) string { return "x\n" + s }, false},
		"pgp, twice":            {key.signer, gitrepo.PGPSignature, func(s string) string { return s + "\n" + s }, false},
		"pgp as another kind":   {key.signer, gitrepo.PGPSignature, func(s string) string { return strings.ReplaceAll(s, "SIGNATURE", "MESSAGE") }, false},
	} {
		text, err := rearmored{c.s, c.change}.Sign(strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, no := trust.vouch("", gitrepo.Signature{Kind: c.kind, Armor: string(text), Payload: []byte("x")}, w.now); (no == nil) != c.good {
			t.Errorf("%s: %v\n%s", name, no, text)
		}
	}
}

// gpg runs the real gpg.
func gpg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...).Output()
	if err != nil {
		t.Fatalf("gpg %v: %v", args, err)
	}
	return string(out)
}

// Real keys of gpg: a subkey signs, then is revoked, then the key expires; policy and
// gpg say the same at each step.
func TestRealGPGKeys(t *testing.T) {
	home, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg(t, "--quick-gen-key", "Ana <ana@example.test>", "rsa3072", "cert", "0")
	k, err := signing.Open(context.Background(), "gpg:ana@example.test", signing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	gpg(t, "--quick-add-key", k.Fingerprint, "ed25519", "sign", "0")
	w := newWorld(t)
	w.now = time.Now().Add(time.Minute)
	ssh := w.policy
	trusts := func() {
		w.policy = strings.Replace(ssh, `{ssh: "ALICE"}`, `{pgp: `+quoteYAML(gpg(t, "--armor", "--export", k.Fingerprint))+`}`, 1)
	}
	trusts()
	commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "1"}, Signer: k, Parents: []string{w.root}})
	if v := w.approved(commit, State{}).Record().Commits[0].Vouches; len(v) != 1 || v[0].Key != k.Fingerprint {
		t.Errorf("vouches %+v", v)
	}
	status := func() string {
		cmd := exec.Command("git", "-C", w.repo.Dir, "verify-commit", "--raw", commit)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, _ := cmd.CombinedOutput() // what it says is what counts
		return string(out)
	}
	if s := status(); !strings.Contains(s, "GOODSIG") {
		t.Errorf("gpg: %s", s)
	}
	// Revoke the subkey.
	cmd := exec.Command("gpg", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--command-fd", "0", "--no-tty", "--edit-key", k.Fingerprint)
	cmd.Stdin = strings.NewReader("key 1\nrevkey\ny\n0\n\ny\nsave\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	trusts()
	if s := status(); !strings.Contains(s, "REVKEYSIG") {
		t.Errorf("gpg: %s", s)
	}
	_, err = w.verify(commit, State{})
	w.refused(err, LinkSignature, diag.CodeKeyNotValid, "revoked by its owner")
	// Another subkey, and the key as a whole expires.
	gpg(t, "--quick-add-key", k.Fingerprint, "rsa3072", "sign", "0")
	trusts()
	commit = w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": "2"}, Signer: k, Parents: []string{w.root}})
	w.approved(commit, State{})
	gpg(t, "--quick-set-expire", k.Fingerprint, "seconds=2000")
	trusts()
	w.approved(commit, State{})
	w.now = w.now.Add(3000 * time.Second)
	_, err = w.verify(commit, State{})
	w.refused(err, LinkSignature, diag.CodeKeyNotValid, "expired")
}
