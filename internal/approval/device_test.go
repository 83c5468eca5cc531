package approval

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"math/big"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// device signs as a security key does (OpenSSH's PROTOCOL.u2f), with a private key in
// software: what is on the wire is the same.
type device struct {
	pub         ssh.PublicKey
	private     any
	application string // that it signs for, which the key's should be
	flags       byte
	rest        []byte // instead of flags and counter, if set
}

func newDevice(t testing.TB, ec bool) device {
	t.Helper()
	d := device{application: "ssh:", flags: 1}
	var blob []byte
	if ec {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		d.private = k
		blob = ssh.Marshal(struct {
			Type, Curve string
			Point       []byte
			Application string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point, "ssh:"})
	} else {
		pub, k, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		d.private = k
		blob = ssh.Marshal(struct {
			Type        string
			Key         []byte
			Application string
		}{ssh.KeyAlgoSKED25519, pub, "ssh:"})
	}
	var err error
	if d.pub, err = ssh.ParsePublicKey(blob); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d device) PublicKey() ssh.PublicKey { return d.pub }

func (d device) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(d.application)), sha256.Sum256(data)
	rest := []byte{d.flags, 0, 0, 0, 7}
	signed := append(append(append([]byte{}, app[:]...), rest...), message[:]...)
	s := &ssh.Signature{Format: d.pub.Type(), Rest: rest}
	if d.rest != nil {
		s.Rest = d.rest
	}
	switch k := d.private.(type) {
	case ed25519.PrivateKey:
		s.Blob = ed25519.Sign(k, signed)
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(signed)
		r, v, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			return nil, err
		}
		s.Blob = ssh.Marshal(struct{ R, S *big.Int }{r, v})
	}
	return s, nil
}

// Security keys count, if somebody touched them.
func TestSecurityKeys(t *testing.T) {
	for _, ec := range []bool{false, true} {
		w := newWorld(t)
		d := newDevice(t, ec)
		with := func(change func(d *device)) device {
			c := d
			change(&c)
			return c
		}
		other := newDevice(t, ec)
		w.replace("ALICE", authorized(d.pub))
		for name, c := range map[string]struct {
			d    forger
			word string
		}{
			"touched":           {forger{s: d}, ""},
			"and verified":      {forger{s: with(func(d *device) { d.flags = 5 })}, ""},
			"not touched":       {forger{s: with(func(d *device) { d.flags = 0 })}, "without a touch"},
			"only verified":     {forger{s: with(func(d *device) { d.flags = 4 })}, "without a touch"},
			"flag added":        {forger{s: with(func(d *device) { d.flags, d.rest = 0, []byte{1, 0, 0, 0, 7} })}, "does not fit"},
			"counter changed":   {forger{s: with(func(d *device) { d.rest = []byte{1, 0, 0, 0, 8} })}, "does not fit"},
			"no flags":          {forger{s: with(func(d *device) { d.rest = []byte{} })}, "does not fit"},
			"more than flags":   {forger{s: with(func(d *device) { d.rest = []byte{1, 0, 0, 0, 7, 0} })}, "does not fit"},
			"other application": {forger{s: with(func(d *device) { d.application = "https://example.test" })}, "does not fit"},
			"other device":      {forger{s: other, spoil: func(s *sshsig.Signature) { s.PublicKey = d.pub }}, "does not fit"},
		} {
			commit := w.repo.Commit(gittest.Commit{Files: map[string]string{"bookinfo/a.cue": name}, Signer: c.d, Parents: []string{w.root}})
			_, err := w.verify(commit, State{})
			if c.word == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			w.refused(err, LinkSignature, diag.CodeUnsigned, c.word)
		}
	}
}
