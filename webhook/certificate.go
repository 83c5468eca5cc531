package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"meshc.dev/meshc/internal/durable"
)

// How long certificates are good for. A root's successor is made when two thirds of
// its life are over, and signs only after the API server has had time to learn of it.
const (
	rootLife  = 365 * 24 * time.Hour
	leafLife  = 24 * time.Hour
	overlap   = time.Hour
	clockSkew = 5 * time.Minute
)

const rootsFile = "webhook-roots.pem"

// Certificates are the webhook's own: a root in a file, and leaves in memory that are
// replaced without anybody noticing.
type Certificates struct {
	path  string
	hosts []string
	now   func() time.Time

	mu    sync.Mutex
	roots []root // the oldest first
	leaf  *tls.Certificate
	until time.Time // when the leaf is replaced
}

type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenCertificates reads the roots of a folder, or makes the first one. hosts are the
// names and addresses under which the API server reaches the webhook.
func OpenCertificates(dir string, hosts []string, now func() time.Time) (*Certificates, error) {
	if len(hosts) == 0 {
		return nil, errors.New("webhook: a certificate needs a host")
	}
	c := &Certificates{path: filepath.Join(dir, rootsFile), hosts: hosts, now: now}
	raw, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the webhook's roots: %w", err)
	}
	if c.roots, err = parseRoots(raw); err != nil {
		return nil, fmt.Errorf("reading the webhook's roots from %q: %w", c.path, err)
	}
	if _, err := c.Maintain(); err != nil {
		return nil, err
	}
	return c, nil
}

func parseRoots(raw []byte) ([]root, error) {
	var out []root
	for len(bytes.TrimSpace(raw)) > 0 {
		var cert, key *pem.Block
		if cert, raw = pem.Decode(raw); cert == nil || cert.Type != "CERTIFICATE" {
			return nil, errors.New("there is no certificate where one should be")
		}
		if key, raw = pem.Decode(raw); key == nil || key.Type != "EC PRIVATE KEY" {
			return nil, errors.New("there is no key where one should be")
		}
		c, err := x509.ParseCertificate(cert.Bytes)
		if err != nil {
			return nil, err
		}
		k, err := x509.ParseECPrivateKey(key.Bytes)
		if err != nil {
			return nil, err
		}
		if !k.PublicKey.Equal(c.PublicKey) {
			return nil, errors.New("a key does not fit its certificate")
		}
		out = append(out, root{c, k})
	}
	return out, nil
}

// Maintain makes what is due: the first root, or a successor; what has expired goes. It
// reports whether Bundle changed.
func (c *Certificates) Maintain() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var keep []root
	for _, r := range c.roots {
		if now.Before(r.cert.NotAfter) {
			keep = append(keep, r)
		}
	}
	due := len(keep) == 0
	if !due {
		newest := keep[len(keep)-1].cert
		due = now.After(newest.NotBefore.Add(newest.NotAfter.Sub(newest.NotBefore) * 2 / 3))
	}
	if due {
		r, err := newRoot(now)
		if err != nil {
			return false, err
		}
		keep = append(keep, r)
	}
	if !due && len(keep) == len(c.roots) {
		return false, nil
	}
	var text []byte
	for _, r := range keep {
		key, err := x509.MarshalECPrivateKey(r.key)
		if err != nil {
			return false, fmt.Errorf("writing the webhook's key: %w", err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})...)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})...)
	}
	if err := durable.WriteFile(c.path, text, 0o600); err != nil {
		return false, fmt.Errorf("writing the webhook's roots: %w", err)
	}
	c.roots, c.leaf = keep, nil
	return true, nil
}

// Bundle is what an API server must trust (PEM).
func (c *Certificates) Bundle() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []byte
	for _, r := range c.roots {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})...)
	}
	return out
}

// TLS is the configuration of the server's side: TLS 1.3 and nothing else.
func (c *Certificates) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
	}
}

func (c *Certificates) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.leaf != nil && now.Before(c.until) {
		return c.leaf, nil
	}
	leaf, err := newLeaf(c.signer(now), c.hosts, now)
	if err != nil {
		return nil, err
	}
	c.leaf, c.until = leaf, now.Add(min(leafLife/2, overlap))
	return leaf, nil
}

// signer is the newest root that the API server has had time to learn of.
func (c *Certificates) signer(now time.Time) root {
	for i := len(c.roots) - 1; i > 0; i-- {
		if now.After(c.roots[i].cert.NotBefore.Add(clockSkew + overlap)) {
			return c.roots[i]
		}
	}
	return c.roots[0]
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func newRoot(now time.Time) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("making the webhook's key: %w", err)
	}
	n, err := serial()
	if err != nil {
		return root{}, err
	}
	t := &x509.Certificate{
		SerialNumber: n, Subject: pkix.Name{CommonName: "meshc webhook"}, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return root{}, fmt.Errorf("making the webhook's root: %w", err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return root{}, fmt.Errorf("making the webhook's root: %w", err)
	}
	return root{cert, key}, nil
}

func newLeaf(by root, hosts []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the webhook's key: %w", err)
	}
	n, err := serial()
	if err != nil {
		return nil, err
	}
	until := now.Add(leafLife)
	if until.After(by.cert.NotAfter) {
		until = by.cert.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber: n, Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: now.Add(-clockSkew), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, fmt.Errorf("making the webhook's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}
