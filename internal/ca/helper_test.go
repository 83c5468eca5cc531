package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/internal/diag"
)

// testClock is a clock that tests move.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *testClock { return &testClock{t: time.Now()} }

func open(t *testing.T, dir string, clock func() time.Time) *Authority {
	t.Helper()
	a, err := Open(t.Context(), dir, Options{TrustDomain: "mesh.local", TTL: time.Hour, RootTTL: 12 * time.Hour, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func spiffe(t *testing.T, s string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// request makes a certificate request; change may spoil the template.
func request(t *testing.T, key any, uris []string, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	tmpl := &x509.CertificateRequest{}
	for _, u := range uris {
		p, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, p)
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func codeOf(err error) diag.Code {
	var l *diag.ListError
	if errors.As(err, &l) && len(l.List) > 0 {
		return l.List[0].Code
	}
	return ""
}

func wantCode(t *testing.T, err error, want diag.Code) {
	t.Helper()
	if got := codeOf(err); got != want {
		t.Fatalf("got code %q (%v), want %q", got, err, want)
	}
}

// serve runs the identity service on a free port over real TLS.
func serve(t *testing.T, a *Authority, tokens *Tokens, permit func(Identity) error) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.TLSConfig(Requested))))
	NewService(a, tokens, permit, slog.New(slog.DiscardHandler)).Register(s)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

func dial(t *testing.T, addr string, tr Trust) *Client {
	t.Helper()
	c, err := Dial([]string{addr}, tr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func certificate(key *ecdsa.PrivateKey, i Issued) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{i.Chain[0].Raw}, PrivateKey: key, Leaf: i.Chain[0]}
}
