package approval

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/gitrepo"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func canonDigest(s string) string { return canon.Digest([]byte(s)) }

// stepFor is a release with other bytes for the commit's date.
func stepFor(t *testing.T, w *world, commit, text string) release.Release {
	t.Helper()
	in := w.candidate(commit).Steps[0].Release.Inputs()
	r, err := release.Seal([]release.Artifact{{Path: "a", Bytes: []byte(text)}}, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type pgp struct {
	public, private, fingerprint string
	signer                       gitrepo.Signer
}

// newPGP makes a key that was born then and lives for that long (0: for ever).
func newPGP(t testing.TB, born time.Time, life time.Duration) pgp {
	t.Helper()
	e, err := openpgp.NewEntity("T", "", "t@example.test", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(life / time.Second), Time: func() time.Time { return born },
	})
	if err != nil {
		t.Fatal(err)
	}
	armored := func(kind string, write func(*bytes.Buffer) error) string {
		var inner, out bytes.Buffer
		if err := write(&inner); err != nil {
			t.Fatal(err)
		}
		w, err := armor.Encode(&out, kind, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(inner.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.String() + "\n"
	}
	p := pgp{fingerprint: pgpFingerprint(e.PrimaryKey), signer: pgpAt{e, born}}
	p.private = armored(openpgp.PrivateKeyType, func(b *bytes.Buffer) error { return e.SerializePrivateWithoutSigning(b, nil) })
	p.public = armored(openpgp.PublicKeyType, func(b *bytes.Buffer) error { return e.Serialize(b) })
	return p
}

// pgpAt signs as of an instant, so that tests do not depend on today.
type pgpAt struct {
	e  *openpgp.Entity
	at time.Time
}

func (p pgpAt) Sign(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	err := openpgp.ArmoredDetachSign(&b, p.e, r, &packet.Config{Time: func() time.Time { return p.at }})
	return b.Bytes(), err
}

func (p pgp) file(t *testing.T) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(f, []byte(p.private), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func quoteYAML(s string) string { return strconv.Quote(strings.TrimSpace(s) + "\n") }
