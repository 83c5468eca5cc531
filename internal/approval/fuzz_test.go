package approval

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// Signatures come from whoever can push: whatever their bytes, reading them ends,
// and none counts but the one that was made.
func FuzzSignature(f *testing.F) {
	now := gittest.Start()
	ssh, pgp := gittest.NewKey(f), newPGP(f, now.Add(-time.Hour), 0)
	w := &world{t: f, policy: policyText, alice: ssh, bob: gittest.NewKey(f), ops: gittest.NewKey(f), root: strings.Repeat("1", 40), now: now}
	w.replace(`bob: {keys: [{ssh: "BOB"}]}`, `bob: {keys: [{pgp: `+quoteYAML(pgp.public)+`}]}`)
	t := w.trust()
	const payload = "tree 1\n"
	for _, s := range []gitrepo.Signer{ssh.Signer(), pgp.signer} {
		text, err := s.Sign(strings.NewReader(payload))
		if err != nil {
			f.Fatal(err)
		}
		if b, err := armor.Decode(bytes.NewReader(text)); err == nil {
			raw, err := io.ReadAll(b.Body)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
			continue
		}
		block, _ := pem.Decode(text)
		f.Add(block.Bytes)
	}
	f.Fuzz(func(tt *testing.T, body []byte) {
		for _, kind := range []gitrepo.SignatureKind{gitrepo.SSHSignature, gitrepo.PGPSignature} {
			name := strings.ToUpper(string(kind)) + " SIGNATURE-----\n"
			text := "-----BEGIN " + name + "\n" + base64.StdEncoding.EncodeToString(body) + "\n-----END " + name
			for _, signed := range []string{payload, "tree 2\n"} {
				v, no := t.vouch("", gitrepo.Signature{Kind: kind, Armor: text, Payload: []byte(signed)}, now)
				if no == nil && signed != payload {
					tt.Errorf("%q vouches for something else: %+v", text, v)
				}
			}
		}
	})
}

// The form in which FuzzSignature offers bytes is one that good signatures pass.
func TestFuzzedFormIsRead(t *testing.T) {
	w := newWorld(t)
	text, err := w.alice.Signer().Sign(strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	again := "-----BEGIN SSH SIGNATURE-----\n\n" + base64.StdEncoding.EncodeToString(block.Bytes) + "\n-----END SSH SIGNATURE-----\n"
	if v, no := w.trust().vouch("", gitrepo.Signature{Kind: gitrepo.SSHSignature, Armor: again, Payload: []byte("x")}, w.now); no != nil || v.Signer != "alice" {
		t.Errorf("%+v, %v", v, no)
	}
}

// A policy is written by people: whatever stands in the file, reading it ends, and
// what is wrong has a code, a place in the file and a way out.
func FuzzTrust(f *testing.F) {
	key := gittest.NewKey(f).Public
	good := strings.Replace(minimal, "KEY", key, 1)
	for _, text := range []string{good, "", "---\n", "- 1\n", "x", "{{{", "a: &a [*a]\n", good + "---\n" + good, strings.Replace(good, "alice: {", "alice: {revoked: yes, ", 1), strings.Replace(good, "rules:", "? [a]\n: b\nrules:", 1), "%YAML 1.1\n---\n" + good} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		p := filepath.Join(dir, "trust.yaml")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tr, l := LoadTrust(p)
		if (tr.Repository == "") != l.HasErrors() {
			t.Errorf("policy %+v with %v", tr, l)
		}
		for _, d := range l {
			if d.Code < "MESH0530" || d.Code > "MESH0533" || d.Pos.Line < 1 || d.Pos.Line > strings.Count(text, "\n")+2 || d.Fix == "" {
				t.Errorf("%q: %v", text, d)
			}
		}
	})
}
