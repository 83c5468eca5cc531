package ca

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"meshc.dev/meshc/internal/operatorfile"
)

// Foreign are the roots of another authority of the same trust domain, such as SPIRE's,
// as a PEM file that somebody else replaces. Whom it has certified may ask for a
// configuration; it makes nobody a server and nothing that it has certified is renewed.
type Foreign struct {
	path  string
	clock func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	roots  []*x509.Certificate
	failed bool
}

// lookAgain is how long a file that was read counts as it was.
const lookAgain = time.Second

// OpenForeign reads the file, which must have roots now. Later, while it cannot be read
// the roots that it had last count.
func OpenForeign(path string, clock func() time.Time, log *slog.Logger) (*Foreign, error) {
	f := &Foreign{path: path, clock: clock, log: log, looked: clock()}
	var err error
	f.roots, err = f.read()
	return f, err
}

func (f *Foreign) read() ([]*x509.Certificate, error) {
	text, err := operatorfile.Read(f.path)
	if err != nil {
		return nil, err
	}
	roots, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	for _, c := range roots {
		if !c.IsCA {
			return nil, fmt.Errorf("a certificate in it, %q, is no authority's", c.Subject)
		}
	}
	return roots, nil
}

// trusted are the roots now; of nil none.
func (f *Foreign) trusted() []*x509.Certificate {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.clock(); now.Sub(f.looked).Abs() >= lookAgain {
		f.looked = now
		roots, err := f.read()
		if err == nil {
			f.roots = roots
		} else if !f.failed {
			f.log.Warn("the trust bundle cannot be read; what it had last counts", "path", f.path, "error", err)
		}
		f.failed = err != nil
	}
	return f.roots
}

// Accept has the authority take certificates of another one as well, before it serves.
func (a *Authority) Accept(f *Foreign) { a.foreign = f }

// accepted are the roots that clients may be certified by.
func (a *Authority) accepted() []*x509.Certificate {
	return slices.Concat(a.roots.Trusted(), a.foreign.trusted())
}

func (a *Authority) acceptedBundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(a.td, a.accepted())
}

// signed reports whether a verified chain leads to a root of the authority's own.
func (a *Authority) signed(chains [][]*x509.Certificate) bool {
	own := a.roots.Trusted()
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return len(chain) > 0 && slices.ContainsFunc(own, chain[len(chain)-1].Equal)
	})
}
