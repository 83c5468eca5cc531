// Package testca is an authority for tests, which signs whatever certificate a test thinks
// up, good or not.
//
// In: what a certificate is to say. Out: the certificate with its key, also as PEM.
//
// What always holds: what a template does not say (serial number, when it holds: from 1970
// to 2242) is filled in and nothing else is changed. Only tests use it.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority is a root of its own. The zero Authority signs nothing: each of its
// certificates is signed by itself.
type Authority struct {
	// Root is its certificate; Pool has that one alone.
	Root *x509.Certificate
	Pool *x509.CertPool
	key  *ecdsa.PrivateKey
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	return Of(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test root"}, KeyUsage: x509.KeyUsageCertSign})
}

// Of makes an authority whose root says more.
func Of(t testing.TB, root *x509.Certificate) *Authority {
	t.Helper()
	root.IsCA, root.BasicConstraintsValid = true, true
	leaf, key := new(Authority).sign(t, root)
	a := &Authority{Root: leaf, Pool: x509.NewCertPool(), key: key}
	a.Pool.AddCert(a.Root)
	return a
}

// Key is the authority's own, for what it signs beside certificates.
func (a *Authority) Key() *ecdsa.PrivateKey { return a.key }

// Sign makes a key and signs a certificate for it.
func (a *Authority) Sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	leaf, key := a.sign(t, template)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func (a *Authority) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := *template
	if c.SerialNumber == nil {
		if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
			t.Fatal(err)
		}
	}
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Unix(0, 0), time.Unix(1<<33, 0)
	}
	parent, by := a.Root, a.key
	if by == nil {
		parent, by = &c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, key
}

// PEM is a certificate and its key as files hold them, the key as PKCS #8.
func PEM(t testing.TB, c tls.Certificate) (chain, key []byte) {
	t.Helper()
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
