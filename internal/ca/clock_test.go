package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// A clock that was wrong for a moment leaves nothing behind: who was known before is
// known after, with the certificate that he has, and new ones are good.
func TestAWrongClockLeavesNothingBehind(t *testing.T) {
	for _, jump := range []time.Duration{13 * time.Hour, 5 * time.Hour, 40 * time.Minute, -40 * time.Minute, -13 * time.Hour, 20_000 * time.Hour, -20_000 * time.Hour, -450_000 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			clock := newClock()
			dir := t.TempDir()
			a := open(t, dir, clock.now)
			web := spiffe(t, "spiffe://mesh.local/ns/shop/sa/web")
			key := newKey(t)
			before, err := a.Sign(request(t, key, []string{web.String()}, nil), web, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			conf := a.TLSConfig(Demanded)
			bundle := a.Bundle().X509Authorities()

			clock.add(jump)
			_, _ = conf.GetConfigForClient(nil) // a reconnect while the clock is wrong; it may fail
			_, merr := a.Maintain(t.Context())
			if _, err := os.Stat(rootsFile(dir)); err != nil {
				t.Fatal(err)
			}
			_, oerr := Open(t.Context(), dir, Options{TrustDomain: "mesh.local", TTL: time.Hour, RootTTL: 12 * time.Hour, Clock: clock.now})
			if jump < -time.Hour && (merr == nil || codeOf(merr) != diag.CodeAuthorityState || !strings.Contains(merr.Error(), "clock")) || oerr != nil {
				t.Errorf("under the wrong clock: maintain %v, open %v", merr, oerr)
			}

			clock.add(-jump)
			for name, now := range map[string]*Authority{"running": a, "restarted": open(t, dir, clock.now)} {
				if _, err := now.Maintain(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, c := range bundle {
					if !now.Bundle().HasX509Authority(c) {
						t.Errorf("%s: a root is no longer trusted", name)
					}
				}
				if now != a {
					conf = now.TLSConfig(Demanded)
				}
				shown, err := conf.GetConfigForClient(nil)
				if err != nil {
					t.Fatal(err)
				}
				server := shown.Certificates[0].Leaf
				trust := Trust{TrustDomain: now.TrustDomain(), Roots: bundle, Clock: clock.now}
				if d, ok := trust.verifyServer([]*x509.Certificate{server}); !ok {
					t.Errorf("%s: who knows the roots of before refuses the server: %v", name, d)
				}
				if err := shown.VerifyConnection(tls.ConnectionState{PeerCertificates: before}); err != nil {
					t.Errorf("%s: a proxy of before is refused: %v", name, err)
				}
				after, err := now.Sign(request(t, key, []string{web.String()}, nil), web, time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				if err := shown.VerifyConnection(tls.ConnectionState{PeerCertificates: after}); err != nil {
					t.Errorf("%s: a new proxy is refused: %v", name, err)
				}
			}
		})
	}
}

// Roots that a wrong clock made do not get in the way when their time comes.
func TestARootOfAnotherTimeIsTrustedBeforeItSigns(t *testing.T) {
	clock := newClock()
	a := open(t, t.TempDir(), clock.now)
	clock.add(15 * time.Hour) // past the only root: another is made
	if _, err := a.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.add(-15 * time.Hour)
	web := spiffe(t, "spiffe://mesh.local/ns/shop/sa/web")
	for range 40 * 4 { // two days by quarters of an hour
		known := a.Bundle().X509Authorities()
		clock.add(15 * time.Minute)
		if _, err := a.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		leaf, err := a.Sign(request(t, newKey(t), []string{web.String()}, nil), web, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		trusted := false
		for _, c := range known {
			trusted = trusted || leaf[0].CheckSignatureFrom(c) == nil
		}
		if !trusted {
			t.Fatal("signed by a root that nobody knew a quarter of an hour before")
		}
	}
}

func TestATokenOfTheFutureIsRefused(t *testing.T) {
	clock := newClock()
	tokens, err := OpenTokens(t.TempDir(), clock.now)
	if err != nil {
		t.Fatal(err)
	}
	clock.add(13 * time.Hour)
	token, err := tokens.Create(t.Context(), spiffe(t, "spiffe://mesh.local/ns/shop/sa/web"), 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	clock.add(-13 * time.Hour)
	if _, err := tokens.check(t.Context(), token); codeOf(err) != diag.CodeTokenExpired || !strings.Contains(err.Error(), "still to come") {
		t.Errorf("a token that would live for thirteen hours: %v", err)
	}
	clock.add(13 * time.Hour)
	if _, err := tokens.check(t.Context(), token); err != nil {
		t.Error(err)
	}
}

// An authority that was there and is gone is not made anew in silence.
func TestAMissingAuthorityIsRefused(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	a := open(t, dir, clock.now)
	if _, err := OpenTokens(dir, clock.now); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(rootsFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	options := Options{TrustDomain: "mesh.local", TTL: time.Hour, RootTTL: 12 * time.Hour, Clock: clock.now}
	for _, gone := range []string{rootsFile(dir), filepath.Dir(rootsFile(dir))} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), dir, options)
		if codeOf(err) != diag.CodeAuthorityState || !strings.Contains(err.Error(), "is missing") {
			t.Errorf("without %s: %v", gone, err)
		}
		if _, err := os.Stat(rootsFile(dir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("another authority was made: %v", err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(rootsFile(dir)), 0o700), os.WriteFile(rootsFile(dir), saved, 0o600)); err != nil {
		t.Fatal(err)
	}
	if back := open(t, dir, clock.now); !back.Bundle().Equal(a.Bundle()) {
		t.Error("put back, it is another one")
	}
	if err := errors.Join(os.Remove(rootsFile(dir)), os.RemoveAll(filepath.Join(dir, tokensDir))); err != nil {
		t.Fatal(err)
	}
	if fresh := open(t, dir, clock.now); fresh.Bundle().Equal(a.Bundle()) {
		t.Error("no new authority")
	}
}
