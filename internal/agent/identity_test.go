package agent

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

func TestRestartNeedsNoToken(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	first := start(t, cfg)
	first.joined(t)
	boot, _ := os.ReadFile(first.cfg.BootstrapOut)
	before, err := loadSVID(cfg.StateDir, identityName)
	if err != nil {
		t.Fatal(err)
	}
	first.stop(t)
	if first.err != nil {
		t.Fatal(first.err)
	}
	if err := os.Remove(first.cfg.BootstrapOut); err != nil {
		t.Fatal(err)
	}
	p.server.Stop() // not even the server

	cfg.JoinToken, cfg.Fingerprints = "", nil
	second := start(t, cfg)
	second.joined(t)
	if again, _ := os.ReadFile(second.cfg.BootstrapOut); string(again) != string(boot) {
		t.Errorf("another bootstrap:\n%s\n%s", boot, again)
	}
	after, err := loadSVID(cfg.StateDir, identityName)
	if err != nil || !after.key.(*ecdsa.PrivateKey).Equal(before.key) {
		t.Errorf("another key, %v", err)
	}
}

func TestJoinFailsWithTheReason(t *testing.T) {
	p := newPlane(t, time.Hour)
	used := p.token(t, "shop/web")
	cfg := p.config(t, "shop/web")
	cfg.JoinToken = used
	r := start(t, cfg)
	r.joined(t)
	r.stop(t)
	tests := map[string]struct {
		change func(*Config)
		want   diag.Code
	}{
		"used token":         {func(c *Config) { c.JoinToken = used }, diag.CodeTokenUsed},
		"wrong token":        {func(c *Config) { c.JoinToken += "x" }, diag.CodeTokenUnknown},
		"wrong fingerprint":  {func(c *Config) { c.Fingerprints = []string{"sha256:" + strings.Repeat("ab", 32)} }, diag.CodeServerUnknown},
		"no fingerprint":     {func(c *Config) { c.Fingerprints = nil }, diag.CodeAgentFlag},
		"no token":           {func(c *Config) { c.JoinToken = "" }, diag.CodeAgentNoIdentity},
		"no token file":      {func(c *Config) { c.JoinToken, c.JoinTokenFile = "", "/no/such/file" }, diag.CodeAgentFlag},
		"an empty pod token": {func(c *Config) { c.JoinToken, c.TokenFile, c.TrustDomain = "", os.DevNull, "mesh.local" }, diag.CodeAgentFlag},
		"another identity":   {func(c *Config) { c.Identity = "shop/api" }, diag.CodeIdentityMismatch},
		"no Envoy":           {func(c *Config) { c.NoEnvoy, c.Envoy = false, "/no/such/file" }, diag.CodeEnvoyChild},
		"a file as socket":   {func(c *Config) { c.SDSSocket = os.Args[0] }, diag.CodeSocket},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := p.config(t, "shop/web")
			good := cfg.JoinToken
			tc.change(&cfg)
			r := start(t, cfg)
			r.wait(t)
			wantCode(t, r.err, tc.want)
			if l := problemsOf(r.err); l[0].Fix == "" {
				t.Error("no way out")
			}
			if strings.Contains(r.log.String(), good) {
				t.Error("the token is in the log")
			}
			cfg = p.config(t, "shop/web")
			cfg.JoinToken = good
			start(t, cfg).joined(t) // whatever went wrong, it did not cost the token
		})
	}
}

func TestJoinWaitsForTheServer(t *testing.T) {
	p := newPlane(t, time.Hour)
	p.server.Stop()
	cfg := p.config(t, "shop/web")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(cfg.JoinToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.JoinToken, cfg.JoinTokenFile = "", file
	r := start(t, cfg)
	eventually(t, "a failed join", func() error {
		if !strings.Contains(r.log.String(), "join failed") {
			return os.ErrNotExist
		}
		return nil
	})
	if code, body := r.get(t, "/ready"); code != 503 || !strings.Contains(body, "no identity yet") {
		t.Errorf("%d %s", code, body)
	}
	p.start(t)
	r.joined(t)
}

// endedState is the state of an agent whose certificate is over.
func endedState(t *testing.T, p *plane) Config {
	t.Helper()
	cfg := p.config(t, "shop/web")
	r := start(t, cfg)
	r.joined(t)
	r.stop(t)
	s, err := loadSVID(cfg.StateDir, identityName)
	if err != nil {
		t.Fatal(err)
	}
	end := s.notAfter().Add(time.Second)
	cfg.Clock = func() time.Time { return end }
	return cfg
}

func TestEndedCertificateIsNotUsed(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := endedState(t, p)
	cfg.JoinToken = ""
	r := start(t, cfg)
	r.wait(t)
	wantCode(t, r.err, diag.CodeIdentityExpired)

	// With a token it is a new beginning, for the same identity only.
	cfg.Clock = time.Now
	s, err := loadSVID(cfg.StateDir, identityName)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{cfg: cfg}
	k.cfg.JoinToken = p.token(t, "shop/api")
	_, err = k.tryJoin(t.Context(), s)
	wantCode(t, err, diag.CodeIdentityMismatch)
	k.cfg.JoinToken = p.token(t, "shop/web")
	if _, err = k.tryJoin(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// While the server is away the certificate ends; afterwards a new token in
// the file brings the agent back, without a restart.
func TestAgentComesBackWithANewTokenFile(t *testing.T) {
	p := newPlane(t, 1500*time.Millisecond)
	cfg := p.config(t, "shop/web")
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cfg.JoinToken)
	cfg.JoinToken, cfg.JoinTokenFile = "", file
	r := start(t, cfg)
	r.joined(t)
	p.server.Stop()
	eventually(t, "the end of the certificate", func() error {
		if _, body := r.get(t, "/ready"); !strings.Contains(body, "certificate has ended") {
			return os.ErrNotExist
		}
		return nil
	})
	p.start(t)
	eventually(t, "the spent token to be refused", func() error {
		if !strings.Contains(r.log.String(), string(diag.CodeTokenUsed)) {
			return os.ErrNotExist
		}
		return nil
	})
	write(p.token(t, "shop/web"))
	eventually(t, "a certificate", func() error {
		if _, body := r.get(t, "/ready"); strings.Contains(body, "certificate has ended") {
			return os.ErrExist
		}
		return nil
	})
}

func TestDamagedStateIsNotGuessedAt(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	r := start(t, cfg)
	r.joined(t)
	r.stop(t)
	path := filepath.Join(cfg.StateDir, "identity.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"cut": string(good[:len(good)/2]), "empty": "", "version": strings.Replace(string(good), "/v1", "/v2", 1),
		"name": strings.Replace(string(good), "sa/web", "sa/api", 1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		r := start(t, cfg)
		r.wait(t)
		if codeOf(r.err) != diag.CodeAgentState {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	r.wait(t)
	wantCode(t, r.err, diag.CodeAgentState)
}

func TestOneAgentPerStateFolder(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	first := start(t, cfg)
	first.joined(t)
	second := start(t, cfg)
	second.wait(t)
	wantCode(t, second.err, diag.CodeAgentState)

	// Another folder, but a socket of the first.
	other := p.config(t, "shop/web")
	other.ADSSocket = first.cfg.ADSSocket
	third := start(t, other)
	third.wait(t)
	wantCode(t, third.err, diag.CodeSocket)
	if _, err := os.Stat(first.cfg.ADSSocket); err != nil {
		t.Errorf("the first agent's socket is gone: %v", err)
	}
}

func TestFlagsAreCheckedTogether(t *testing.T) {
	_, l := Config{Servers: []string{"nowhere"}, StateDir: "/tmp/" + strings.Repeat("x", 100), Drain: -1, AdminPort: 70000, Identity: "Shop",
		JoinToken: "a", JoinTokenFile: "b", Fingerprints: []string{"sha256:zz"}}.Normalise()
	count := map[diag.Code]int{}
	for _, d := range l {
		count[d.Code]++
		if d.Fix == "" {
			t.Errorf("no way out: %v", d)
		}
	}
	if count[diag.CodeAgentFlag] != 6 || count[diag.CodeSocket] != 3 || count[diag.CodeIdentity] != 1 || count[diag.CodeTokenUnknown] != 1 {
		t.Errorf("%v", l)
	}
}

// TestWrongClock: a machine whose clock is wrong is told so, and keeps its token.
func TestWrongClock(t *testing.T) {
	p := newPlane(t, time.Hour)
	for name, by := range map[string]time.Duration{"behind": -30 * time.Minute, "ahead": 2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			cfg := p.config(t, "shop/web")
			good := cfg.JoinToken
			cfg.Clock = func() time.Time { return time.Now().Add(by) }
			r := start(t, cfg)
			r.wait(t)
			wantCode(t, r.err, diag.CodeServerUnknown)
			if l := problemsOf(r.err); !strings.Contains(l[0].Fix, "clock") {
				t.Errorf("the way out is %q", l[0].Fix)
			}
			cfg = p.config(t, "shop/web")
			cfg.JoinToken = good
			start(t, cfg).joined(t)
		})
	}
}
