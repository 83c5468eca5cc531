// Package pki makes the certificates of one run.
//
// In: SPIFFE IDs. Out: a root that lives as long as the run, and TLS 1.3
// configurations for both sides. Servers of all kinds get the same, so that
// nobody saves the handshake.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// TrustDomain is that of all identities here.
const TrustDomain = "mesh.local"

// ServerID is the identity of every server.
const ServerID = "spiffe://" + TrustDomain + "/ns/meshc/sa/server"

// Bundle is one side's key and certificate with the root, as PEM: what a child
// process is given.
type Bundle struct{ Cert, Key, Root []byte }

// Root signs.
type Root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewRoot makes a root of its own for one run.
func NewRoot() (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the root: %w", err)
	}
	t := template(1)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	raw, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the root: %w", err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("making the root: %w", err)
	}
	return &Root{cert, key}, nil
}

func template(serial int64) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

// Issue signs a certificate for a SPIFFE ID.
func (r *Root) Issue(id string) (Bundle, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Bundle{}, fmt.Errorf("issuing %q: %w", id, err)
	}
	u, err := url.Parse(id)
	if err != nil {
		return Bundle{}, fmt.Errorf("issuing %q: %w", id, err)
	}
	t := template(2)
	t.KeyUsage, t.URIs, t.DNSNames = x509.KeyUsageDigitalSignature, []*url.URL{u}, []string{"localhost"}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	raw, err := x509.CreateCertificate(rand.Reader, t, r.cert, key.Public(), r.key)
	if err != nil {
		return Bundle{}, fmt.Errorf("issuing %q: %w", id, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Bundle{}, fmt.Errorf("issuing %q: %w", id, err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return Bundle{block("CERTIFICATE", raw), block("PRIVATE KEY", secret), block("CERTIFICATE", r.cert.Raw)}, nil
}

func (b Bundle) parts() (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.X509KeyPair(b.Cert, b.Key)
	if err != nil {
		return cert, nil, fmt.Errorf("reading a key pair: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.Root)
	return cert, pool, nil
}

// Server is mutual TLS 1.3, the server's side.
func (b Bundle) Server() (*tls.Config, error) {
	cert, pool, err := b.parts()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, nil
}

// Client is mutual TLS 1.3, the client's side.
func (b Bundle) Client() (*tls.Config, error) {
	cert, pool, err := b.parts()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "localhost"}, nil
}
