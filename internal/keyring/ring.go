package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

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
	name  string // whose roots they are
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

// trusted are the roots to be trusted at now. A root leaves when it has ended by all clocks,
// or after a younger one has signed for as long as a certificate lasts that a replica with
// another clock signed meanwhile: by then nothing that it signed is valid. One that has not
// begun was made under another clock: it is trusted, so that everybody knows it when its
// time comes.
func (r ring) trusted(now time.Time, l Lifetimes) []*x509.Certificate {
	by, signs := r.signer(now)
	retired := signs && now.After(by.activeFrom.Add(l.Leaf+l.apart()))
	var out []*x509.Certificate
	for _, c := range r.roots {
		if !c.ended(now.Add(-l.apart())) && !(retired && c.activeFrom.Before(by.activeFrom)) {
			out = append(out, c.cert)
		}
	}
	return out
}

// joined is r with what before has and r lacks of roots that last by some clock; false if
// there are some and none of before's is in r, so that they are of two authorities.
func (r ring) joined(before ring, now time.Time, l Lifetimes) (ring, bool) {
	has := func(in ring, c root) bool {
		return slices.ContainsFunc(in.roots, func(d root) bool { return d.cert.Equal(c.cert) })
	}
	out, related, lacking := ring{name: r.name, roots: slices.Clone(r.roots)}, false, false
	for _, c := range before.roots {
		switch {
		case has(r, c):
			related = true
		case !c.ended(now.Add(-l.apart())):
			lacking = true
			out.roots = append(out.roots, c)
		}
	}
	slices.SortStableFunc(out.roots, func(a, b root) int { return a.cert.NotBefore.Compare(b.cert.NotBefore) })
	out.roots = out.roots[max(0, len(out.roots)-maxRoots):]
	return out, related || !lacking
}

// Lifetimes of roots and of what they sign, and what follows from them.
type Lifetimes struct{ Root, Leaf time.Duration }

// lead is how long a root is trusted before it signs: whatever was given out by somebody who
// did not know it has ended by then.
func (l Lifetimes) lead() time.Duration { return l.Leaf + l.Root/12 }

// known is how long after it read the roots a replica can be sure to know every root that
// signs, whatever the clocks of others say.
func (l Lifetimes) known() time.Duration { return l.lead() - l.apart() }

// tolerance is how far a replica's clock may be from the store's, which tells its time in
// seconds.
func (l Lifetimes) tolerance() time.Duration {
	return max(min(time.Hour, l.Root/48), 2*time.Second)
}

// apart is how far the clocks of two replicas may differ.
func (l Lifetimes) apart() time.Duration { return 2 * l.tolerance() }

// sound reports whether the overlap of two roots fits into a root's life.
func (l Lifetimes) sound() bool { return l.Leaf >= time.Second && l.Root >= 6*l.Leaf }

// advance returns the ring as it must be at now, and whether that differs. A new
// root comes when a third of the newest one's life is left, which is longer than it waits
// before it signs. If all have ended, the new one signs as soon as all clocks say so, which
// may differ by apart: so does a root count that has not begun by this one. While the clock says a time before all roots it is the clock that is
// wrong, and nothing is made.
func (r ring) advance(now time.Time, l Lifetimes, apart time.Duration, uri *url.URL) (ring, bool, error) {
	newest, begun := r.newest(now.Add(apart))
	if !begun {
		return r, false, clockBehind(r, now)
	}
	if newest.ended(now) {
		added, err := r.withNew(now, newest.cert.NotAfter.Add(apart), l, uri)
		return added, err == nil, err
	}
	if !newest.activeFrom.After(now) && newest.cert.NotAfter.Sub(now) < l.Root/3 {
		added, err := r.withNew(now, now.Add(l.lead()), l, uri)
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
		now.UTC().Format(time.RFC3339), r.name, first.UTC().Format(time.RFC3339)).
		WithFix("set this machine's clock; the roots are kept as they are"))
}

func (r ring) withNew(now, activeFrom time.Time, l Lifetimes, uri *url.URL) (ring, error) {
	c, err := newRoot(r.name, uri, now, activeFrom, l.Root)
	if err != nil {
		return ring{}, err
	}
	roots := append(slices.Clone(r.roots), c)
	return ring{name: r.name, roots: roots[max(0, len(roots)-maxRoots):]}, nil
}

func newRoot(name string, uri *url.URL, now, activeFrom time.Time, ttl time.Duration) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("making the key of a root: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return root{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		// Every root has a name of its own: verifiers find an issuer by name, and
		// two roots of one name cost them a failed try per handshake.
		Subject:   pkix.Name{Organization: []string{name}, CommonName: "meshc root " + serial.Text(16)[:8]},
		NotBefore: now.Add(-Backdate(ttl)), NotAfter: now.Add(ttl),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if uri != nil {
		tmpl.URIs = []*url.URL{uri}
	}
	cert, err := create(tmpl, tmpl, key.Public(), key)
	if err != nil {
		return root{}, fmt.Errorf("making a root: %w", err)
	}
	return root{cert: cert, key: key, activeFrom: activeFrom.UTC().Truncate(time.Second)}, nil
}

func create(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back: %w", err)
	}
	return cert, nil
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

// Backdate is how far before its making a certificate begins, for clocks that
// are behind: five minutes, less for short lives, so that "half of life"
// counted from the begin stays useful.
func Backdate(ttl time.Duration) time.Duration { return min(5*time.Minute, ttl/10) }
