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
)

// root is one self-signed certificate with its key. It is trusted from the
// moment it is in the ring, and signs from activeFrom on.
type root struct {
	cert       *x509.Certificate
	key        crypto.Signer
	activeFrom time.Time
}

// ring is the set of roots at one moment, oldest first. It is never changed,
// only replaced.
type ring struct {
	td    spiffeid.TrustDomain
	roots []root
}

// signer is the youngest root that may sign at now; false if every root is
// over (the authority was off for longer than a root lives).
func (r ring) signer(now time.Time) (root, bool) {
	for _, c := range slices.Backward(r.roots) {
		if !c.activeFrom.After(now) && c.cert.NotAfter.After(now) {
			return c, true
		}
	}
	return root{}, false
}

// bundle is every root that a workload must trust.
func (r ring) bundle() *x509bundle.Bundle {
	b := x509bundle.New(r.td)
	for _, c := range r.roots {
		b.AddX509Authority(c.cert)
	}
	return b
}

// lifetimes of roots and of what they sign.
type lifetimes struct{ root, leaf time.Duration }

// advance returns the ring as it must be at now, and whether that differs. A
// new root comes when a third of the newest one's life is left, and waits one
// leaf lifetime before it signs: by then every workload has renewed, hence has
// the new bundle. An old root goes one leaf lifetime after its successor began
// to sign: by then nothing that it signed is valid.
func (r ring) advance(now time.Time, l lifetimes) (ring, bool, error) {
	next, changed := r.withoutRetired(now, l)
	newest := len(next.roots) - 1
	_, alive := next.signer(now)
	switch {
	case !alive:
		added, err := next.withNew(now, now, l)
		return added, true, err
	case !next.roots[newest].activeFrom.After(now) && next.roots[newest].cert.NotAfter.Sub(now) < l.root/3:
		added, err := next.withNew(now, now.Add(l.leaf), l)
		return added, true, err
	}
	return next, changed, nil
}

func (r ring) withoutRetired(now time.Time, l lifetimes) (ring, bool) {
	out := ring{td: r.td}
	for i, c := range r.roots {
		replaced := i+1 < len(r.roots) && now.After(r.roots[i+1].activeFrom.Add(l.leaf))
		if !replaced && c.cert.NotAfter.After(now) {
			out.roots = append(out.roots, c)
		}
	}
	return out, len(out.roots) != len(r.roots)
}

func (r ring) withNew(now, activeFrom time.Time, l lifetimes) (ring, error) {
	c, err := newRoot(r.td, now, activeFrom, l.root)
	if err != nil {
		return ring{}, err
	}
	return ring{td: r.td, roots: append(slices.Clone(r.roots), c)}, nil
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
