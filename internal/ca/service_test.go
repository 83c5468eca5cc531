package ca

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/internal/diag"
)

// site is an authority that serves, with its tokens.
type site struct {
	a      *Authority
	tokens *Tokens
	clock  *testClock
	dir    string
	addr   string
}

func newSite(t *testing.T, permit func(Identity) error) *site {
	t.Helper()
	s := &site{clock: newClock(), dir: t.TempDir()}
	s.a = open(t, s.dir, s.clock.now)
	var err error
	if s.tokens, err = OpenTokens(s.dir, s.clock.now); err != nil {
		t.Fatal(err)
	}
	s.addr = serve(t, s.a, s.tokens, permit)
	return s
}

func (s *site) token(t *testing.T) string {
	t.Helper()
	text, err := s.tokens.Create(t.Context(), spiffe(t, web), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (s *site) pinned() Trust {
	return Trust{TrustDomain: s.a.TrustDomain(), Pins: s.a.Fingerprints(), Clock: s.clock.now}
}

func TestJoinThenRenew(t *testing.T) {
	s := newSite(t, nil)
	key := newKey(t)
	got, err := dial(t, s.addr, s.pinned()).Join(timeout(t), s.token(t), request(t, key, []string{web}, nil))
	if err != nil {
		t.Fatal(err)
	}
	mine := Trust{TrustDomain: s.a.TrustDomain(), Roots: got.Bundle, Certificate: certificate(key, got), Clock: s.clock.now}
	c := dial(t, s.addr, mine)
	next := newKey(t)
	again, err := c.Renew(timeout(t), "", request(t, next, []string{web}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if !next.PublicKey.Equal(again.Chain[0].PublicKey) || again.Chain[0].URIs[0].String() != web {
		t.Error("the renewed certificate is for another key or name")
	}
	first, ok := LineageOf(got.Chain[0])
	if second, _ := LineageOf(again.Chain[0]); !ok || first != second {
		t.Errorf("the renewed certificate stands for replica %q, the first one for %q", second, first)
	}
	other, err := dial(t, s.addr, s.pinned()).Join(timeout(t), s.token(t), request(t, newKey(t), []string{web}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if l, _ := LineageOf(other.Chain[0]); l == first {
		t.Error("two joins are one replica")
	}
	_, err = c.Renew(timeout(t), "", request(t, next, []string{web + "2"}, nil))
	wantCode(t, err, diag.CodeIdentityMismatch)

	// The connection stays open while the certificate ends.
	s.clock.add(61 * time.Minute)
	if _, err := s.a.Maintain(t.Context()); err != nil { // as Run does all the time
		t.Fatal(err)
	}
	_, err = c.Renew(timeout(t), "", request(t, next, []string{web}, nil))
	wantCode(t, err, diag.CodeIdentityExpired)
	// A new connection fails at the handshake.
	_, err = dial(t, s.addr, mine).Renew(timeout(t), "", request(t, next, []string{web}, nil))
	wantCode(t, err, diag.CodeIdentityExpired)
}

func TestRenewNeedsACertificate(t *testing.T) {
	s := newSite(t, nil)
	_, err := dial(t, s.addr, s.pinned()).Renew(timeout(t), "", request(t, newKey(t), []string{web}, nil))
	wantCode(t, err, diag.CodeNoCertificate)
}

func TestForeignCertificateIsRefused(t *testing.T) {
	s := newSite(t, nil)
	foreign := open(t, t.TempDir(), s.clock.now)
	key := newKey(t)
	chain, err := foreign.Sign(request(t, key, []string{web}, nil), spiffe(t, web), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tr := s.pinned()
	tr.Certificate = &tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}
	_, err = dial(t, s.addr, tr).Renew(timeout(t), "", request(t, key, []string{web}, nil))
	if err == nil {
		t.Fatal("a foreign root was accepted")
	}
	wantCode(t, err, diag.CodeIdentityExpired)
}

func TestJoinRefuses(t *testing.T) {
	s := newSite(t, nil)
	c := dial(t, s.addr, s.pinned())
	key := newKey(t)
	csr := request(t, key, []string{web}, nil)

	good := s.token(t)
	_, err := c.Join(timeout(t), good, request(t, key, []string{web + "2"}, nil))
	wantCode(t, err, diag.CodeIdentityMismatch)
	_, err = c.Join(timeout(t), good, []byte("nonsense"))
	wantCode(t, err, diag.CodeRequestRefused)
	if _, err = c.Join(timeout(t), good, csr); err != nil {
		t.Fatalf("refused requests spent the token: %v", err)
	}
	_, err = c.Join(timeout(t), good, csr)
	wantCode(t, err, diag.CodeTokenUsed)
	for _, bad := range []string{"", "x", good[:len(good)-1], good + "A", strings.Repeat("a", 5000)} {
		_, err = c.Join(timeout(t), bad, csr)
		wantCode(t, err, diag.CodeTokenUnknown)
	}
	late := s.token(t)
	s.clock.add(2 * time.Minute)
	_, err = c.Join(timeout(t), late, csr)
	wantCode(t, err, diag.CodeTokenExpired)
}

func TestWrongServerIsRefused(t *testing.T) {
	s := newSite(t, nil)
	token, csr := s.token(t), request(t, newKey(t), []string{web}, nil)
	tr := s.pinned()
	tr.Pins = []string{"sha256:" + strings.Repeat("0", 64)}
	_, err := dial(t, s.addr, tr).Join(timeout(t), token, csr)
	wantCode(t, err, diag.CodeServerUnknown)
	tr.Pins = nil // no pin trusts nobody
	_, err = dial(t, s.addr, tr).Join(timeout(t), token, csr)
	wantCode(t, err, diag.CodeServerUnknown)
	if _, err := dial(t, s.addr, s.pinned()).Join(timeout(t), token, csr); err != nil {
		t.Fatalf("the token reached the wrong server: %v", err)
	}
}

func TestServerAwayIsTemporary(t *testing.T) {
	s := newSite(t, nil)
	_, err := dial(t, "127.0.0.1:1", s.pinned()).Join(timeout(t), s.token(t), request(t, newKey(t), []string{web}, nil))
	wantCode(t, err, diag.CodeServerUnreachable)
	if !Temporary(err) {
		t.Error("not temporary")
	}
}

func TestDeniedIdentity(t *testing.T) {
	s := newSite(t, func(i Identity) error { return errors.New("stolen laptop") })
	_, err := dial(t, s.addr, s.pinned()).Join(timeout(t), s.token(t), request(t, newKey(t), []string{web}, nil))
	wantCode(t, err, diag.CodeIdentityDenied)
	if strings.Contains(err.Error(), "laptop") {
		t.Error("the reason left the server")
	}
}

// An operator locks an identity out by a line in a file, and lets it in again, while
// the server runs; a line that nobody understands locks out everybody.
func TestDeniedFile(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, Denied(dir))
	file := filepath.Join(dir, "denied")
	join := func() error {
		_, err := dial(t, s.addr, s.pinned()).Join(timeout(t), s.token(t), request(t, newKey(t), []string{web}, nil))
		return err
	}
	for _, c := range []struct {
		text   string
		denied bool
	}{
		{"# nobody\n\nshop/other # left\n", false}, {"shop/other\nshop/web # laptop stolen\n", true}, {"", false}, {"shop web\n", true}, {"shop/other\r\nshop/web\r\n", true},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := join(); (codeOf(err) == diag.CodeIdentityDenied) != c.denied || (!c.denied && err != nil) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := join(); err != nil {
		t.Errorf("without the file: %v", err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := join(); codeOf(err) != diag.CodeIdentityDenied {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// Forty callers with one token, through two handles on the folder as two
// processes would have: exactly one gets a certificate.
func TestTokenRace(t *testing.T) {
	s := newSite(t, nil)
	other, err := OpenTokens(s.dir, s.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	addrs := []string{s.addr, serve(t, s.a, other, nil)}
	token, csr := s.token(t), request(t, newKey(t), []string{web}, nil)
	var won, used atomic.Int32
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 40 {
		c := dial(t, addrs[i%2], s.pinned())
		wg.Go(func() {
			<-start
			switch _, err := c.Join(timeout(t), token, csr); {
			case err == nil:
				won.Add(1)
			case codeOf(err) == diag.CodeTokenUsed:
				used.Add(1)
			default:
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 || used.Load() != 39 {
		t.Errorf("%d won, %d were told that it was used", won.Load(), used.Load())
	}
}

func TestTokensAreNotOnDisk(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t)
	if id, err := TokenID(token); err != nil || id.String() != web {
		t.Errorf("%v %v", id, err)
	}
	secret := token[strings.LastIndex(token, ".")+1:]
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data)+path, secret) {
			t.Errorf("%s holds the token", path)
		}
		if info, _ := d.Info(); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ttl := range []time.Duration{0, -time.Second, MaxTokenTTL + 1} {
		_, err := s.tokens.Create(t.Context(), spiffe(t, web), ttl)
		wantCode(t, err, diag.CodeTokenTTL)
	}
	// Long after its end a token leaves no trace.
	s.clock.add(2*MaxTokenTTL + time.Hour)
	s.token(t)
	if left, _ := filepath.Glob(filepath.Join(s.dir, "tokens", "*.json")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestRateLimit(t *testing.T) {
	s := newSite(t, nil)
	c, csr := dial(t, s.addr, s.pinned()), request(t, newKey(t), []string{web}, nil)
	for i := range limitBurst + 1 {
		_, err := c.Join(timeout(t), "wrong", csr)
		if i < limitBurst {
			wantCode(t, err, diag.CodeTokenUnknown)
		} else {
			wantCode(t, err, diag.CodeTooManyRequests)
		}
	}
	s.clock.add(time.Second)
	if _, err := c.Join(timeout(t), s.token(t), csr); err != nil {
		t.Errorf("after a second: %v", err)
	}
}

func TestLimiterMemoryIsBounded(t *testing.T) {
	l := &limiter{clock: newClock().now, buckets: map[netip.Prefix]bucket{}}
	for i := range 3 * limitClients {
		if !l.allow(fmt.Sprintf("10.%d.%d.1:1", i/256, i%256)) {
			t.Fatal("a new client was refused")
		}
	}
	if len(l.buckets) > limitClients {
		t.Errorf("%d clients remembered", len(l.buckets))
	}
	for i := range limitBurst + 1 { // one /64 is one client
		if ok := l.allow(fmt.Sprintf("[2001:db8::%x]:1", i+1)); ok != (i < limitBurst) {
			t.Fatalf("request %d: %v", i, ok)
		}
	}
}

// TestSilentCallerIsLeft: anybody may call Join; who then sends no request must
// not hold a call for ever.
func TestSilentCallerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := within(t.Context(), func() error { <-t.Context().Done(); return nil })
		if status.Code(err) != codes.DeadlineExceeded || time.Since(start) > time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}
