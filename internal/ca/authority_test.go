package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"meshc.dev/meshc/internal/diag"
)

const web = "spiffe://mesh.local/ns/shop/sa/web"

func TestSignedCertificateIsAnSVID(t *testing.T) {
	clock := newClock()
	a := open(t, t.TempDir(), clock.now)
	chain, err := a.Sign(request(t, newKey(t), []string{web}, nil), spiffe(t, web), 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := x509svid.Verify(chain, a.Bundle(), x509svid.WithTime(clock.now()))
	if err != nil || id.String() != web {
		t.Fatalf("verified %q, %v", id, err)
	}
	leaf := chain[0]
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, key usage %v", leaf.IsCA, leaf.KeyUsage)
	}
	if d := leaf.NotAfter.Sub(clock.now()); d > 30*time.Minute || d < 29*time.Minute {
		t.Errorf("lives for %v", d)
	}
}

func TestSignRefuses(t *testing.T) {
	a := open(t, t.TempDir(), newClock().now)
	key := newKey(t)
	ext := func(oid string, v any) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) {
			der, err := asn1.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var id asn1.ObjectIdentifier
			for _, n := range strings.Split(oid, ".") {
				arc, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				id = append(id, arc)
			}
			r.ExtraExtensions = append(r.ExtraExtensions, pkix.Extension{Id: id, Value: der})
		}
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	tampered := request(t, key, []string{web}, nil)
	tampered[len(tampered)-1] ^= 1
	tests := map[string]struct {
		csr  []byte
		ttl  time.Duration
		want diag.Code
	}{
		"no name":         {request(t, key, nil, nil), time.Minute, diag.CodeRequestRefused},
		"two names":       {request(t, key, []string{web, web + "2"}, nil), time.Minute, diag.CodeRequestRefused},
		"another name":    {request(t, key, []string{web + "2"}, nil), time.Minute, diag.CodeIdentityMismatch},
		"the server's":    {request(t, key, []string{"spiffe://mesh.local/meshc/server"}, nil), time.Minute, diag.CodeIdentityMismatch},
		"a host name too": {request(t, key, []string{web}, func(r *x509.CertificateRequest) { r.DNSNames = []string{"web"} }), time.Minute, diag.CodeRequestRefused},
		"a CA": {request(t, key, []string{web}, ext(oidBasicConstraints, struct{ IsCA bool }{true})), time.Minute,
			diag.CodeRequestRefused},
		"usage certSign": {request(t, key, []string{web}, ext(oidKeyUsage, asn1.BitString{Bytes: []byte{0x04}, BitLength: 8})), time.Minute,
			diag.CodeRequestRefused},
		"a subject": {request(t, key, []string{web}, func(r *x509.CertificateRequest) { r.Subject.CommonName = "web" }), time.Minute, diag.CodeRequestRefused},
		"a name of another kind": {request(t, key, nil, ext(oidSAN, []asn1.RawValue{
			{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(web)}, {Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{0x2a, 0x03}},
		})), time.Minute, diag.CodeRequestRefused},
		"an attribute": {request(t, key, []string{web}, func(r *x509.CertificateRequest) {
			//nolint:staticcheck // the only way to write an attribute that is no extension
			r.Attributes = []pkix.AttributeTypeAndValueSET{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "secret"}}}}}
		}), time.Minute, diag.CodeRequestRefused},
		"usage code signing": {request(t, key, []string{web}, ext(oidExtKeyUsage, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}})), time.Minute,
			diag.CodeRequestRefused},
		"unknown extension": {request(t, key, []string{web}, ext("1.2.3", 1)), time.Minute, diag.CodeRequestRefused},
		"Ed25519":           {request(t, edKey, []string{web}, nil), time.Minute, diag.CodeRequestRefused},
		"P-521":             {request(t, p521, []string{web}, nil), time.Minute, diag.CodeRequestRefused},
		"signature":         {tampered, time.Minute, diag.CodeRequestRefused},
		"garbage":           {[]byte("x"), time.Minute, diag.CodeRequestRefused},
		"too large":         {make([]byte, maxCSR+1), time.Minute, diag.CodeRequestRefused},
		"too long":          {request(t, key, []string{web}, nil), 61 * time.Minute, diag.CodeRequestRefused},
		"no lifetime":       {request(t, key, []string{web}, nil), 0, diag.CodeRequestRefused},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := a.Sign(tc.csr, spiffe(t, web), tc.ttl)
			wantCode(t, err, tc.want)
		})
	}
	other := "spiffe://other.local/ns/shop/sa/web"
	_, err := a.Sign(request(t, key, []string{other}, nil), spiffe(t, other), time.Minute)
	wantCode(t, err, diag.CodeRequestRefused)
}

func TestRootSurvivesRestartAndIsPrivate(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	_, err := Open(t.Context(), dir, Options{Clock: clock.now})
	wantCode(t, err, diag.CodeAuthorityState) // whose authority would it be?
	first := open(t, dir, clock.now)
	if a, err := Open(t.Context(), dir, Options{Clock: clock.now}); err != nil || a.TrustDomain().Name() != "mesh.local" {
		t.Errorf("opened by folder alone: %v", err)
	}
	if again := open(t, dir, clock.now); !again.Bundle().Equal(first.Bundle()) {
		t.Error("another root after a restart")
	}
	path := filepath.Join(dir, "ca", "roots.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	_, err = Open(t.Context(), dir, Options{TrustDomain: "other.local", Clock: clock.now})
	wantCode(t, err, diag.CodeTrustDomain)
	_, err = Open(t.Context(), dir, Options{TrustDomain: "no spaces", Clock: clock.now})
	wantCode(t, err, diag.CodeTrustDomain)

	good, _ := os.ReadFile(path)
	for name, data := range map[string][]byte{
		"short": good[:len(good)/2], "empty": nil, "format": []byte(strings.Replace(string(good), "v1", "v9", 1)),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), dir, Options{TrustDomain: "mesh.local", Clock: clock.now})
		if wantCode(t, err, diag.CodeAuthorityState); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir, Options{TrustDomain: "mesh.local", Clock: clock.now})
	wantCode(t, err, diag.CodeAuthorityState)
}

func TestConcurrentOpenMakesOneRoot(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	var wg sync.WaitGroup
	bundles := make([]*x509bundle.Bundle, 8)
	for i := range bundles {
		wg.Go(func() { bundles[i] = open(t, dir, clock.now).Bundle() })
	}
	wg.Wait()
	for _, b := range bundles[1:] {
		if !b.Equal(bundles[0]) {
			t.Fatal("two roots")
		}
	}
}

// During a whole rotation, in steps of ten minutes, any two workloads that
// renew at least every half hour trust each other: each one's certificate
// verifies against the other's bundle, however old both are.
func TestRotationNeverBreaksTrust(t *testing.T) {
	clock := newClock()
	a := open(t, t.TempDir(), clock.now)
	type workload struct {
		chain  []*x509.Certificate
		bundle *x509bundle.Bundle
		at     time.Time
	}
	var all []workload
	first, sawOverlap := a.Bundle(), false
	for range 6 * 30 { // 30 hours: two rotations of 12-hour roots
		if _, err := a.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		chain, err := a.Sign(request(t, newKey(t), []string{web}, nil), spiffe(t, web), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, workload{chain, a.Bundle(), clock.now()})
		live := all[max(0, len(all)-4):] // nobody's state is older than half an hour
		for _, w := range live {
			for _, v := range live {
				if _, _, err := x509svid.Verify(w.chain, v.bundle, x509svid.WithTime(clock.now())); err != nil {
					t.Fatalf("at %v, certificate of %v against bundle of %v: %v", clock.now(), w.at, v.at, err)
				}
			}
		}
		n := len(a.Bundle().X509Authorities())
		sawOverlap = sawOverlap || n > 1
		if n > 2 {
			t.Fatalf("%d roots", n)
		}
		clock.add(10 * time.Minute)
	}
	if !sawOverlap || a.Bundle().HasX509Authority(first.X509Authorities()[0]) {
		t.Error("the first root was not replaced with an overlap")
	}
}

func TestRotateByHandSurvivesRestart(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	a := open(t, dir, clock.now)
	for range 2 { // the second call finds a root already waiting
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(a.Fingerprints()); n != 2 {
		t.Fatalf("%d roots", n)
	}
	if got := len(open(t, dir, clock.now).Fingerprints()); got != 2 {
		t.Fatalf("%d roots after a restart", got)
	}
}

func TestAuthorityThatSleptPastItsRootStartsAgain(t *testing.T) {
	clock := newClock()
	a := open(t, t.TempDir(), clock.now)
	clock.add(13 * time.Hour)
	_, err := a.Sign(request(t, newKey(t), []string{web}, nil), spiffe(t, web), time.Minute)
	wantCode(t, err, diag.CodeAuthorityState)
	if _, err := a.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(request(t, newKey(t), []string{web}, nil), spiffe(t, web), time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestIdentities(t *testing.T) {
	for _, s := range []string{"", "web", "shop/", "shop/Web", "a/b/c", "-a/b", "a/b-"} {
		_, err := ParseIdentity(s)
		if codeOf(err) != diag.CodeIdentity {
			t.Errorf("%q: %v", s, err)
		}
	}
	i, err := ParseIdentity("shop/web")
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, t.TempDir(), newClock().now)
	id, err := i.SPIFFE(a.TrustDomain())
	if back, err2 := IdentityOf(id); err != nil || err2 != nil || back != i || id.String() != web {
		t.Errorf("%v %v %v %v", id, back, err, err2)
	}
	if _, err := IdentityOf(ServerID(a.TrustDomain())); codeOf(err) != diag.CodeIdentity {
		t.Errorf("the server is a workload: %v", err)
	}
}
