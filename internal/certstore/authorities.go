package certstore

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"meshc.dev/meshc/internal/certref"
)

// Names of the files that hold the authorities of visitors' certificates and what those have
// withdrawn, as PEM. cert-manager writes the first into its Secrets.
const (
	RootsName   = "ca.crt"
	RevokedName = "ca.crl"
)

// Authorities sign certificates of visitors.
type Authorities struct {
	// Roots and Revoked are PEM, and nothing but what was checked. Revoked is nil where it was not asked for.
	Roots, Revoked []byte

	certificates []*x509.Certificate
	lists        []*x509.RevocationList
}

// authoritiesOf reads authorities. A proxy refuses all of what it cannot read, so that nothing else
// is given to it: each block must be a certificate that may sign, each list of one of these.
func authoritiesOf(kind certref.Kind, roots, revoked []byte) (*Authorities, error) {
	a := &Authorities{}
	err := blocks(roots, RootsName, "CERTIFICATE", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if !c.IsCA {
			return fmt.Errorf("the certificate of %q is of no authority", c.Subject)
		}
		a.certificates = append(a.certificates, c)
		a.Roots = append(a.Roots, encoded("CERTIFICATE", der)...)
		return nil
	})
	if err != nil || kind != certref.Revoking {
		return a, err
	}
	err = blocks(revoked, RevokedName, "X509 CRL", func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(a.certificates, func(c *x509.Certificate) bool { return l.CheckSignatureFrom(c) == nil }) {
			return fmt.Errorf("the list of %q is signed by none of the authorities in %s", l.Issuer, RootsName)
		}
		a.lists = append(a.lists, l)
		a.Revoked = append(a.Revoked, encoded("X509 CRL", der)...)
		return nil
	})
	return a, err
}

// blocks calls f for each block of PEM, of which there must be one, and none of another type.
func blocks(text []byte, file, kind string, f func(der []byte) error) error {
	for n := 0; ; n++ {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && n == 0:
			return fmt.Errorf("there is nothing in %s: PEM is expected, -----BEGIN %s-----", file, kind)
		case block == nil:
			return nil
		case block.Type != kind:
			return fmt.Errorf("in %s is a %s, and a %s is expected", file, block.Type, kind)
		}
		if err := f(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		text = rest
	}
}

func encoded(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *Authorities) same(c Content) bool {
	o, is := c.(*Authorities)
	return is && bytes.Equal(a.Roots, o.Roots) && bytes.Equal(a.Revoked, o.Revoked)
}

func (a *Authorities) names() []string {
	out := make([]string, len(a.certificates))
	for i, c := range a.certificates {
		out[i] = c.Subject.String()
	}
	return out
}

// ends is when the first of the lists is too old, else when the last authority ends.
func (a *Authorities) ends() time.Time {
	var end time.Time
	for _, c := range a.certificates {
		if c.NotAfter.After(end) {
			end = c.NotAfter
		}
	}
	for _, l := range a.lists {
		if !l.NextUpdate.IsZero() && l.NextUpdate.Before(end) {
			end = l.NextUpdate
		}
	}
	return end
}

// dates: a list that is too old says nothing of who has been withdrawn since, so that a proxy lets
// nobody in by it.
func (a *Authorities) dates(now time.Time) string {
	for _, l := range a.lists {
		if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			return fmt.Sprintf("the list of %q ended at %s: nobody gets in", l.Issuer, l.NextUpdate.UTC().Format(time.RFC3339))
		}
	}
	if end := a.ends(); now.After(end) {
		return "the last authority ended at " + end.UTC().Format(time.RFC3339)
	}
	return ""
}
