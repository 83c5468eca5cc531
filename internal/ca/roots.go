package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/diag"
)

// root is one self-signed certificate with its key. It signs from activeFrom on.
type root struct {
	cert       *x509.Certificate
	key        crypto.Signer
	activeFrom time.Time
}

func (c root) begun(now time.Time) bool { return !c.cert.NotBefore.After(now) }
func (c root) ended(now time.Time) bool { return !c.cert.NotAfter.After(now) }
func (c root) active(now time.Time) bool {
	return !c.activeFrom.After(now) && c.begun(now) && !c.ended(now)
}

// ring is the set of roots ever made, the last maxRoots of them in the order in
// which they were made. It is never changed, only replaced. What a root is good for
// at a moment follows from the moment: no root is thrown away because a clock says
// that its time is over, for the clock may be wrong.
type ring struct {
	td    spiffeid.TrustDomain
	roots []root
}

// maxRoots is how many are kept: some five years of them.
const maxRoots = 8

// signer is the youngest root that may sign at now; false if there is none: the
// authority was off for longer than a root lives, or the clock is wrong.
func (r ring) signer(now time.Time) (root, bool) {
	return r.last(func(c root) bool { return c.active(now) })
}

// newest is the one among those that have begun by now that signs last; false if
// none has begun.
func (r ring) newest(now time.Time) (root, bool) {
	return r.last(func(c root) bool { return c.begun(now) })
}

// last is the one among those that count that signs last; false if none counts.
func (r ring) last(counts func(root) bool) (root, bool) {
	var best root
	found := false
	for _, c := range r.roots {
		if counts(c) && (!found || c.activeFrom.After(best.activeFrom)) {
			best, found = c, true
		}
	}
	return best, found
}

// trusted are the roots that a workload must know at now. A root leaves when it
// has ended, or one certificate lifetime after a younger one began to sign: by then
// nothing that it signed is valid. One that has not begun was made under another
// clock: it is trusted, so that everybody knows it when its time comes.
func (r ring) trusted(now time.Time, l lifetimes) []root {
	by, signs := r.signer(now)
	retired := signs && now.After(by.activeFrom.Add(l.leaf))
	var out []root
	for _, c := range r.roots {
		if !c.ended(now) && !(retired && c.activeFrom.Before(by.activeFrom)) {
			out = append(out, c)
		}
	}
	return out
}

// bundle is what is trusted at now.
func (r ring) bundle(now time.Time, l lifetimes) *x509bundle.Bundle {
	b := x509bundle.New(r.td)
	for _, c := range r.trusted(now, l) {
		b.AddX509Authority(c.cert)
	}
	return b
}

// lifetimes of roots and of what they sign.
type lifetimes struct{ root, leaf time.Duration }

// advance returns the ring as it must be at now, and whether that differs. A new
// root comes when a third of the newest one's life is left, and waits one leaf
// lifetime before it signs: by then every workload has renewed, hence has the new
// bundle. While the clock says a time before all roots it is the clock that is
// wrong, and nothing is made.
func (r ring) advance(now time.Time, l lifetimes) (ring, bool, error) {
	newest, begun := r.newest(now)
	if !begun {
		return r, false, clockBehind(r, now)
	}
	if _, alive := r.signer(now); !alive {
		added, err := r.withNew(now, now, l)
		return added, err == nil, err
	}
	if !newest.activeFrom.After(now) && newest.cert.NotAfter.Sub(now) < l.root/3 {
		added, err := r.withNew(now, now.Add(l.leaf), l)
		return added, err == nil, err
	}
	return r, false, nil
}

// clockBehind says that nothing can be signed or made at now.
func clockBehind(r ring, now time.Time) error {
	first := r.roots[0].cert.NotBefore
	for _, c := range r.roots {
		if c.cert.NotBefore.Before(first) {
			first = c.cert.NotBefore
		}
	}
	return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "the clock says %s, and the oldest root of %q begins at %s",
		now.UTC().Format(time.RFC3339), r.td.Name(), first.UTC().Format(time.RFC3339)).
		WithFix("set this machine's clock; the roots are kept as they are"))
}

func (r ring) withNew(now, activeFrom time.Time, l lifetimes) (ring, error) {
	c, err := newRoot(r.td, now, activeFrom, l.root)
	if err != nil {
		return ring{}, err
	}
	roots := append(slices.Clone(r.roots), c)
	return ring{td: r.td, roots: roots[max(0, len(roots)-maxRoots):]}, nil
}

func newRoot(td spiffeid.TrustDomain, now, activeFrom time.Time, ttl time.Duration) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("making the key of a root: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return root{}, err
	}
	// Every root has a name of its own: verifiers find an issuer by name, and
	// two roots of one name cost them a failed try per handshake.
	name := pkix.Name{Organization: []string{td.Name()}, CommonName: "meshc root " + serial.Text(16)[:8]}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: name, URIs: []*url.URL{td.ID().URL()},
		NotBefore: now.Add(-backdate(ttl)), NotAfter: now.Add(ttl),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return root{}, fmt.Errorf("signing a root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return root{}, fmt.Errorf("reading back a root: %w", err)
	}
	return root{cert: cert, key: key, activeFrom: activeFrom.UTC().Truncate(time.Second)}, nil
}

// newSerial is 127 random bits with the top one set, so that its text has a
// fixed length.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil
}

// backdate is how far before its making a certificate begins, for clocks that
// are behind: five minutes, less for short lives, so that "half of life"
// counted from the begin stays useful.
func backdate(ttl time.Duration) time.Duration { return min(5*time.Minute, ttl/10) }

// Fingerprint is the SHA-256 of a certificate's DER form as "sha256:" and 64
// hexadecimal characters: what `meshc token create` prints and the agent pins.
func Fingerprint(c *x509.Certificate) string {
	s := sha256.Sum256(c.Raw)
	return "sha256:" + hex.EncodeToString(s[:])
}
