package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ClientCert says what a TLS server wants of its clients.
type ClientCert int

const (
	// Demanded means no handshake without a valid SVID. For ADS on a port of its own.
	Demanded ClientCert = iota
	// Requested means that a certificate is verified if given, but a client may have
	// none. For a port that also serves Join; every other method there must
	// call PeerFromContext.
	Requested
)

// TLSConfig is the server's side of mutual TLS 1.3: its own SVID (ServerID),
// made and renewed in memory, and the present bundle for clients. Follows root
// rotation without a restart. The chain shown includes the root, so that a
// joining agent can compare it with its fingerprint.
func (a *Authority) TLSConfig(c ClientCert) *tls.Config {
	s := &serverTLS{a: a, auth: tls.RequireAndVerifyClientCert}
	if c == Requested {
		s.auth = tls.VerifyClientCertIfGiven
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.config()
		},
	}
}

// serverTLS holds the settings of the last handshake while its certificate is in
// the first half of its life and the roots are the same. A certificate that was made
// while the clock was wrong is in no half of it, and another is made.
type serverTLS struct {
	a    *Authority
	auth tls.ClientAuthType

	mu      sync.Mutex
	trusted []*x509.Certificate
	last    *tls.Config
	leaf    *x509.Certificate
}

func (s *serverTLS) config() (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.a.clock()
	trusted := s.a.accepted()
	same := s.last != nil && slices.EqualFunc(s.trusted, trusted, (*x509.Certificate).Equal)
	if same && firstHalf(s.leaf, now) {
		return s.last, nil
	}
	cert, err := s.a.serverCertificate()
	if err != nil && same && !now.Before(s.leaf.NotBefore) && now.Before(s.leaf.NotAfter) {
		return s.last, nil // good as long as it lasts
	}
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range trusted {
		pool.AddCert(c)
	}
	s.trusted, s.leaf = trusted, cert.Leaf
	s.last = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{cert},
		ClientAuth:   s.auth,
		ClientCAs:    pool,
		Time:         s.a.clock,
		// A resumed session would carry an old answer to "is it valid?".
		SessionTicketsDisabled: true,
		VerifyConnection:       s.verifyClient,
	}
	return s.last, nil
}

// firstHalf tells whether a certificate is valid at now and stays so for a while.
func firstHalf(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore)/2))
}

// verifyClient adds the SPIFFE rules to what crypto/tls has verified.
func (s *serverTLS) verifyClient(c tls.ConnectionState) error {
	if len(c.PeerCertificates) == 0 {
		return nil // Requested only: crypto/tls ends the handshake otherwise
	}
	id, chains, err := x509svid.Verify(c.PeerCertificates, s.a.acceptedBundle(), x509svid.WithTime(s.a.clock()))
	if err != nil {
		return fmt.Errorf("verifying the client: %w", err)
	}
	if !id.MemberOf(s.a.td) {
		return fmt.Errorf("verifying the client: %q is not in trust domain %q", id, s.a.td.Name())
	}
	if _, ours := lineageOf(c.PeerCertificates[0]); ours && !s.a.signed(chains) {
		return fmt.Errorf("verifying the client: the serial number of %q is one of ours, and another authority has given it", id)
	}
	return nil
}

// serverCertificate makes a new key and certificate for the xDS server.
func (a *Authority) serverCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the server's key: %w", err)
	}
	line, err := newLineage()
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, by, err := a.issue(key.Public(), ServerID(a.td), a.ttl, line)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, by.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
