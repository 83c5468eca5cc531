package ca

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/keyring"
)

// Lifetimes that hold where Options says nothing.
const (
	// DefaultTTL of a workload's certificate. Renewal comes before half of it,
	// so the server may be away for six hours before anybody notices.
	DefaultTTL = 12 * time.Hour
	// DefaultRootTTL is one year; the next root comes after eight months.
	DefaultRootTTL = 365 * 24 * time.Hour
)

// Options of an authority. The zero value of a lifetime means its default.
type Options struct {
	// TrustDomain like "mesh.local". Empty: the one of the roots that are there, which
	// must exist then.
	TrustDomain string
	// TTL is the lifetime of certificates, and the most that Sign grants. At least one second.
	TTL time.Duration
	// RootTTL is the lifetime of a root: at least six times TTL, so that the
	// overlap of two roots fits in.
	RootTTL time.Duration
	// Clock tells the time; required.
	Clock func() time.Time
	// Roots is where the roots are; nil: the file ca/roots.json in the state folder.
	Roots kept.Store
}

// Authority signs certificates for one trust domain. It is safe for
// concurrent use.
type Authority struct {
	td      spiffeid.TrustDomain
	ttl     time.Duration
	clock   func() time.Time
	roots   *keyring.Keyring
	foreign *Foreign // nil for none
}

// Open reads the authority of a server with the state folder dir, or makes it if there
// is none. Any number of servers may have one authority, if they share Options.Roots. Two
// processes may open one folder (the server and `meshc token create`); only one of them may
// Run. Problems: CodeAuthorityState, CodeAuthorityUnsure, CodeTrustDomain.
func Open(ctx context.Context, dir string, o Options) (*Authority, error) {
	if o.Roots == nil {
		o.Roots = kept.File(rootsFile(dir))
	}
	if o.TrustDomain == "" {
		name, err := Domain(ctx, dir, o.Roots)
		if err != nil {
			return nil, err
		}
		if name == "" {
			return nil, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "there is no authority yet: %s is missing or empty", o.Roots).
				WithFix("start `meshc serve` with this place first, or name that of one that runs"))
		}
		o.TrustDomain = name
	}
	td, err := spiffeid.TrustDomainFromString(o.TrustDomain)
	if err != nil {
		return nil, problem(diag.New(diag.CodeTrustDomain, diag.Pos{}, "%q is no trust domain: %v", o.TrustDomain, err).
			WithFix("write something like mesh.local"))
	}
	life := keyring.Lifetimes{Root: o.RootTTL, Leaf: o.TTL}
	if life.Root == 0 {
		life.Root = DefaultRootTTL
	}
	if life.Leaf == 0 {
		life.Leaf = DefaultTTL
	}
	a := &Authority{td: td, ttl: life.Leaf, clock: o.Clock}
	a.roots, err = keyring.Open(ctx, keyring.Options{
		Store: o.Roots, Name: td.Name(), URI: td.ID().URL(), Life: life, Clock: o.Clock,
		First: func() error { return missing(dir, o.Roots) }, Lost: "let every agent join with a new token",
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func rootsFile(dir string) string { return filepath.Join(dir, "ca", "roots.json") }

// Domain is the trust domain of the authority with the state folder dir, or with those
// roots; "" if there is none yet. Problem: CodeAuthorityState.
func Domain(ctx context.Context, dir string, roots kept.Store) (string, error) {
	if roots == nil {
		roots = kept.File(rootsFile(dir))
	}
	text, err := roots.Read(ctx)
	if err != nil || text.Data == nil {
		return "", err
	}
	name := keyring.NameIn(text.Data)
	if name == "" {
		return "", problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s is damaged", roots).WithFix("%s", roots.Restore()))
	}
	return name, nil
}

// missing refuses to make an authority where there was one: agents would not know
// it, and nobody would learn why they are gone. Tokens are opened after an authority,
// so their folder tells.
func missing(dir string, roots kept.Store) error {
	tokens := filepath.Join(dir, tokensDir)
	if _, err := os.Stat(tokens); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s is missing, and the state folder was in use", roots).
		WithFix("%s; or remove %q, start again and let every agent join with a new token", roots.Restore(), tokens))
}

// TrustDomain of everything that the authority signs.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.td }

// Bundle is every root to be trusted now: one, or two or three around a rotation.
func (a *Authority) Bundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(a.td, a.roots.Trusted())
}

// Fingerprints are those of every root in the bundle, for agents to pin.
func (a *Authority) Fingerprints() []string {
	var out []string
	for _, c := range a.roots.Trusted() {
		out = append(out, Fingerprint(c))
	}
	return out
}

// Ready says why the authority signs nothing now, nil if it does.
func (a *Authority) Ready() error { return a.roots.Ready() }

// Refresh reads the roots that other servers of the authority may have made.
func (a *Authority) Refresh(ctx context.Context) error { return a.roots.Refresh(ctx) }

// Rotate adds a new root now, unless one is waiting to sign. It is trusted at once and
// signs when everybody knows it.
func (a *Authority) Rotate(ctx context.Context) error { return a.roots.Rotate(ctx) }

// Maintain brings the roots up to date and reports whether the bundle is another
// than when it was called last.
func (a *Authority) Maintain(ctx context.Context) (bool, error) { return a.roots.Maintain(ctx) }

// Run keeps the roots up to date until ctx ends.
func (a *Authority) Run(ctx context.Context, log *slog.Logger) error { return a.roots.Run(ctx, log) }
