package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
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
	// TrustDomain like "mesh.local". Empty: the one of the state folder, which
	// must exist then.
	TrustDomain string
	// TTL is the lifetime of certificates, and the most that Sign grants. At least one second.
	TTL time.Duration
	// RootTTL is the lifetime of a root: at least six times TTL, so that the
	// overlap of two roots fits in.
	RootTTL time.Duration
	// Clock tells the time; required.
	Clock func() time.Time
}

// Authority signs certificates for one trust domain. It is safe for
// concurrent use.
type Authority struct {
	td    spiffeid.TrustDomain
	life  lifetimes
	clock func() time.Time
	path  string

	mu   sync.Mutex // held while the ring is replaced
	ring atomic.Pointer[ring]
	told []root // the bundle as Maintain found it last
}

// Open reads the authority in folder dir, or makes it if there is none. Two
// processes may open one folder (the server and `meshc token create`); only
// one of them may Run. Problems: CodeAuthorityState, CodeTrustDomain.
func Open(dir string, o Options) (*Authority, error) {
	a, err := configure(dir, o)
	if err != nil {
		return nil, err
	}
	if err := privateDir(filepath.Dir(a.path)); err != nil {
		return nil, err
	}
	err = a.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = missing(dir, a.path); err == nil {
			err = a.create()
		}
		if err == nil {
			err = a.load()
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func configure(dir string, o Options) (*Authority, error) {
	path := filepath.Join(dir, "ca", "roots.json")
	if o.TrustDomain == "" {
		name, err := storedDomain(path)
		if err != nil {
			return nil, err
		}
		o.TrustDomain = name
	}
	td, err := spiffeid.TrustDomainFromString(o.TrustDomain)
	if err != nil {
		return nil, problem(diag.New(diag.CodeTrustDomain, diag.Pos{}, "%q is no trust domain: %v", o.TrustDomain, err).
			WithFix("write something like mesh.local"))
	}
	l := lifetimes{root: o.RootTTL, leaf: o.TTL}
	if l.root == 0 {
		l.root = DefaultRootTTL
	}
	if l.leaf == 0 {
		l.leaf = DefaultTTL
	}
	if l.leaf < time.Second || l.root < 6*l.leaf {
		return nil, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "certificates of %v under roots of %v", l.leaf, l.root).
			WithFix("certificates live at least a second, roots at least six times as long as certificates"))
	}
	return &Authority{td: td, life: l, clock: o.Clock, path: path}, nil
}

func (a *Authority) load() error {
	data, err := readPrivate(a.path)
	if err != nil {
		return fmt.Errorf("reading the roots: %w", err)
	}
	r, err := decodeRing(a.path, data, a.td)
	if err != nil {
		return err
	}
	a.ring.Store(&r)
	a.told = r.trusted(a.clock(), a.life)
	return nil
}

// missing refuses to make an authority where there was one: agents would not know
// it, and nobody would learn why they are gone. Tokens are opened after an authority,
// so their folder tells.
func missing(dir, path string) error {
	tokens := filepath.Join(dir, tokensDir)
	if _, err := os.Stat(tokens); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q is missing, and the state folder was in use", path).
		WithFix("put the file back from a backup; or remove %q, start again and let every agent join with a new token", tokens))
}

// create writes the first root unless another process is faster.
func (a *Authority) create() error {
	now := a.clock()
	r, err := ring{td: a.td}.withNew(now, now, a.life)
	if err != nil {
		return err
	}
	data, err := encodeRing(r)
	if err != nil {
		return err
	}
	if err := durable.CreateFile(a.path, data, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the first root: %w", err)
	}
	return nil
}

// TrustDomain of everything that the authority signs.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.td }

// Bundle is every root to be trusted now: one, or two or three around a rotation.
func (a *Authority) Bundle() *x509bundle.Bundle { return a.ring.Load().bundle(a.clock(), a.life) }

// Fingerprints are those of every root in the bundle, for agents to pin.
func (a *Authority) Fingerprints() []string {
	var out []string
	for _, c := range a.Bundle().X509Authorities() {
		out = append(out, Fingerprint(c))
	}
	return out
}

// Rotate adds a new root now. It is trusted at once and signs after one
// certificate lifetime; the old one leaves the bundle after another. It does
// nothing while a root is already waiting to sign.
func (a *Authority) Rotate() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, cur := a.clock(), *a.ring.Load()
	switch newest, begun := cur.newest(now); {
	case !begun:
		return clockBehind(cur, now)
	case newest.activeFrom.After(now):
		return nil
	}
	next, err := cur.withNew(now, now.Add(a.life.leaf), a.life)
	if err != nil {
		return err
	}
	return a.replace(next)
}

// Maintain brings the roots up to date and reports whether the bundle is another
// than when it was called last.
func (a *Authority) Maintain() (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	next, changed, err := a.ring.Load().advance(now, a.life)
	if err == nil && changed {
		err = a.replace(next)
	}
	if err != nil {
		return false, err
	}
	before := a.told
	a.told = a.ring.Load().trusted(now, a.life)
	return before != nil && !sameRoots(before, a.told), nil
}

func sameRoots(a, b []root) bool {
	return slices.EqualFunc(a, b, func(c, d root) bool { return c.cert == d.cert })
}

// replace stores first and uses afterwards: what signs must survive a crash.
func (a *Authority) replace(r ring) error {
	data, err := encodeRing(r)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(a.path, data, 0o600); err != nil {
		return fmt.Errorf("replacing the roots: %w", err)
	}
	a.ring.Store(&r)
	return nil
}

// Run keeps the roots up to date until ctx ends. A failure (a full disk) is
// logged and tried again: the roots in use stay good for months.
func (a *Authority) Run(ctx context.Context, log *slog.Logger) error {
	every := time.NewTicker(max(a.life.leaf/12, 100*time.Millisecond))
	defer every.Stop()
	for {
		changed, err := a.Maintain()
		switch {
		case err != nil:
			log.Error("roots not maintained", "error", err)
		case changed:
			log.Info("roots changed", "fingerprints", a.Fingerprints())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}
