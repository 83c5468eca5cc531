package xdsserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/xds-server/internal/evidence"
)

// member starts a server of an authority that exchanges evidence with others.
func member(t *testing.T, a *ca.Authority, peers ...string) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: time.Now}
	cfg := w.config(t)
	cfg.TLS = func() (*tls.Config, error) { return a.TLSConfig(ca.Requested), nil }
	cfg.Peers = Peers{Addresses: peers, TLS: a.PeerTLS(), Check: a.CheckServer}
	return w.startWith(t, cfg)
}

// workload is a certificate of the authority.
func workload(t *testing.T, a *ca.Authority, id string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	who := spiffeid.RequireFromString(id)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{who.URL()}}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Sign(csr, who, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}
}

// TestTwoServersAgree: each sees one refusal of two among three proxies; after they
// have exchanged them both hold the class, and a new proxy gets the same from either.
// A workload may not take part.
func TestTwoServersAgree(t *testing.T) {
	a, err := ca.Open(t.Context(), t.TempDir(), ca.Options{TrustDomain: trustDomain, TTL: time.Hour, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	one := member(t, a)
	two := member(t, a, one.Addr().String())
	var servers []*world
	var proxies []*choosy
	connect := func(w *world) *choosy {
		p := &choosy{cert: workload(t, a, web.SPIFFEID(trustDomain)), refuses: map[string]bool{versionOf(t, 2*time.Second): true}, got: make(chan string, 64)}
		p.connect(t, w, nil)
		return p
	}
	for _, w := range []*world{one, two} {
		w.approveAt(t, "commit-1", time.Second, 1)
		servers = append(servers, w)
		proxies = append(proxies, connect(w))
	}
	for _, p := range proxies {
		p.next(t)
	}
	for _, w := range servers {
		w.arrived(t, "commit-1", 1)
		soon(t, func() string {
			if rs, _ := w.facts.Since(0, 100); len(rs) != 2 {
				return "the confirmations are not exchanged"
			}
			return ""
		})
	}
	for _, w := range servers {
		w.approveAt(t, "commit-2", 2*time.Second, 2)
	}
	for _, w := range servers {
		soon(t, func() string {
			if c := w.Status().Classes[0]; !c.Held || c.ServingCommit != "commit-1" {
				return "a server does not hold the class"
			}
			return ""
		})
		if v := connect(w).next(t); v != versionOf(t, time.Second) {
			t.Errorf("a new proxy is given %s", v)
		}
	}
	x, _ := one.facts.Since(0, 100)
	y, _ := two.facts.Since(0, 100)
	if len(x) < 4 || !slices.ContainsFunc(y, func(r evidence.Receipt) bool { return r.Instance == x[0].Instance }) {
		t.Errorf("%d and %d receipts", len(x), len(y))
	}
	conn, err := grpc.NewClient(one.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{workload(t, a, web.SPIFFEID(trustDomain))},
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Invoke(ctx, exchangeMethod, wrapperspb.Bytes([]byte("{}")), new(wrapperspb.BytesValue)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a workload: %v", err)
	}
}

// TestAServerThatIsBehindIsNotReady: it goes on serving what it has, and is ready again when
// it has what another serves, or the other one is gone.
func TestAServerThatIsBehindIsNotReady(t *testing.T) {
	a, err := ca.Open(t.Context(), t.TempDir(), ca.Options{TrustDomain: trustDomain, TTL: time.Hour, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	one := member(t, a)
	two := member(t, a, one.Addr().String())
	ready := func(w *world, want string) {
		t.Helper()
		soon(t, func() string {
			text := ""
			if err := w.Ready(); err != nil {
				text = err.Error()
			}
			if text != want {
				return "ready: " + text
			}
			return ""
		})
	}
	for _, w := range []*world{one, two} {
		w.approveAt(t, "commit-1", time.Second, 1)
		ready(w, "")
	}
	for i, late := range []*world{two, one} { // who asks, and who is asked
		first := map[*world]*world{one: two, two: one}[late]
		commit, at := []string{"commit-2", "commit-3"}[i], time.Duration(i+2)*time.Second
		first.approveAt(t, commit, at, int64(i+2))
		ready(late, "another server serves a later commit, "+commit)
		ready(first, "")
		late.approveAt(t, commit, at, int64(i+2))
		ready(late, "")
	}
	one.approveAt(t, "commit-4", 5*time.Second, 4)
	ready(two, "another server serves a later commit, commit-4")
	one.stop()
	ready(two, "")
}
