package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/keyring"
)

// authority is whose roots the webhook's are.
const authority = "webhook.meshc.dev"

// lifetimes of the webhook's roots and of what they sign.
func lifetimes() keyring.Lifetimes {
	return keyring.Lifetimes{Root: 365 * 24 * time.Hour, Leaf: 24 * time.Hour}
}

// Certificates are the webhook's own: roots that its replicas share, and leaves in memory
// that are replaced without anybody noticing. An API server learns of a root from the
// webhook's configurations, weeks before it signs.
type Certificates struct {
	roots *keyring.Keyring
	hosts []string
	now   func() time.Time
	life  keyring.Lifetimes

	mu      sync.Mutex
	trusted []*x509.Certificate // when the leaf was made
	leaf    *tls.Certificate
	until   time.Time // when the leaf is replaced
}

// OpenCertificates reads the roots, or makes the first one. hosts are the names and
// addresses under which the API server reaches the webhook.
func OpenCertificates(ctx context.Context, roots kept.Store, hosts []string, now func() time.Time) (*Certificates, error) {
	return openCertificates(ctx, roots, hosts, now, lifetimes())
}

func openCertificates(ctx context.Context, roots kept.Store, hosts []string, now func() time.Time, life keyring.Lifetimes) (*Certificates, error) {
	if len(hosts) == 0 {
		return nil, errors.New("webhook: a certificate needs a host")
	}
	ring, err := keyring.Open(ctx, keyring.Options{
		Store: roots, Name: authority, Life: life, Clock: now,
		Lost: "the webhook's configurations get the new root at once",
	})
	if err != nil {
		return nil, err
	}
	return &Certificates{roots: ring, hosts: hosts, now: now, life: life}, nil
}

// Run replaces roots in time, until ctx ends.
func (c *Certificates) Run(ctx context.Context, log *slog.Logger) error { return c.roots.Run(ctx, log) }

// Ready says why no certificate can be made now, nil if it can.
func (c *Certificates) Ready() error { return c.roots.Ready() }

// Bundle is what an API server must trust (PEM).
func (c *Certificates) Bundle() []byte {
	return pemOf(c.roots.Trusted())
}

func pemOf(certs []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

// TLS is the configuration of the server's side: TLS 1.3 and HTTP/1.1, nothing else. API
// servers ask over HTTP/1.1 by themselves, but for a webhook on loopback: all their questions
// would go over one connection to one replica, and outlast a replica that hangs by the time
// of its health check. With HTTP/1.1 a question that gets no answer ends its own connection.
func (c *Certificates) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
	}
}

// current is a leaf for an hour, or half of what it lasts, while the roots are the same. One that cannot be replaced
// is shown as long as it lasts.
func (c *Certificates) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, trusted := c.now(), c.roots.Trusted()
	same := c.leaf != nil && slices.EqualFunc(c.trusted, trusted, (*x509.Certificate).Equal)
	if same && now.Before(c.until) {
		return c.leaf, nil
	}
	leaf, err := c.newLeaf(now)
	if err != nil && same && now.Before(c.leaf.Leaf.NotAfter) {
		return c.leaf, nil
	}
	if err != nil {
		return nil, err
	}
	c.leaf, c.trusted, c.until = leaf, trusted, now.Add(min(leaf.Leaf.NotAfter.Sub(now)/2, time.Hour))
	return leaf, nil
}

func (c *Certificates) newLeaf(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the webhook's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making the webhook's certificate: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.hosts[0]}, NotBefore: now.Add(-keyring.Backdate(c.life.Leaf)), NotAfter: now.Add(c.life.Leaf),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, h := range c.hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	leaf, _, err := c.roots.Sign(t, &key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making the webhook's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
