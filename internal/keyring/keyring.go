package keyring

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
)

// Options of a keyring; all but URI and First are required.
type Options struct {
	Store kept.Store
	// Name says whose roots they are: a trust domain. Roots of another name are refused.
	Name string
	// URI stands in each root as its name; nil for none.
	URI   *url.URL
	Life  Lifetimes
	Clock func() time.Time
	// First is asked before the first root is made; an error if there should be one. Nil
	// allows it.
	First func() error
	// Lost says what has to be done once all roots are lost: an order in half a sentence.
	Lost string
}

// Keyring is a replica's view of the roots. It is safe for concurrent use.
type Keyring struct {
	o   Options
	now atomic.Pointer[state]

	mu   sync.Mutex          // held while the roots are read or replaced
	told []*x509.Certificate // the trusted roots as Maintain found them last
}

// state is what was read last.
type state struct {
	ring ring
	text kept.Text
	read time.Time // when reading it began, by this machine's clock or the store's, whichever is behind
	skew error     // why this machine's clock is not believed, nil if it is
}

// Open reads the roots, or makes the first one. Problems: CodeAuthorityState,
// CodeTrustDomain, CodeAuthorityUnsure, and the store's own.
func Open(ctx context.Context, o Options) (*Keyring, error) {
	if !o.Life.sound() {
		return nil, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "certificates of %v under roots of %v", o.Life.Leaf, o.Life.Root).
			WithFix("certificates live at least a second, roots at least six times as long as certificates"))
	}
	k := &Keyring{o: o}
	if err := k.Refresh(ctx); err != nil {
		return nil, err
	}
	k.told = k.Trusted()
	return k, nil
}

// Trusted are the roots to be trusted now, the oldest first: one, or two or three around
// a rotation. They are as they were read last.
func (k *Keyring) Trusted() []*x509.Certificate {
	return k.now.Load().ring.trusted(k.o.Clock(), k.o.Life)
}

// Sign makes a certificate by a template, in which NotAfter is the latest end: it ends
// before its root does, and before another root may sign that this replica does not know
// yet. The root that signed is returned, too. Problems: CodeAuthorityState,
// CodeAuthorityUnsure.
func (k *Keyring) Sign(tmpl *x509.Certificate, pub crypto.PublicKey) (leaf, by *x509.Certificate, err error) {
	now, s := k.o.Clock(), k.now.Load()
	signer, err := k.signer(s, now, tmpl.NotAfter.Sub(now))
	if err != nil {
		return nil, nil, err
	}
	mine := *tmpl
	for _, end := range []time.Time{signer.cert.NotAfter, s.read.Add(k.o.Life.known())} {
		if end.Before(mine.NotAfter) {
			mine.NotAfter = end
		}
	}
	leaf, err = create(&mine, signer.cert, pub, signer.key)
	return leaf, signer.cert, err
}

// signer is the root that signs what is to last for life, or why there is none: a
// certificate that cannot have half of it, for want of knowledge, is not worth having.
func (k *Keyring) signer(s *state, now time.Time, life time.Duration) (root, error) {
	by, ok := s.ring.signer(now)
	_, begun := s.ring.newest(now)
	switch {
	case !begun:
		return root{}, clockBehind(s.ring, now)
	case s.skew != nil:
		return root{}, s.skew
	case !ok:
		return root{}, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "every root of %q that may sign has ended", k.o.Name).
			WithFix("let a server run that can write to %s: it makes a new root, which signs within hours; then %s", k.o.Store, k.o.Lost))
	case s.read.After(now.Add(k.o.Life.tolerance())) || s.read.Add(k.o.Life.known()).Before(now.Add(life/2)):
		return root{}, problem(diag.New(diag.CodeAuthorityUnsure, diag.Pos{}, "%s was read last at %s: others may sign with a root since then that this server does not know", k.o.Store, s.read.UTC().Format(time.RFC3339)).
			WithFix("see this server's log for why it cannot read it; ask another server meanwhile"))
	}
	return by, nil
}

// Ready says why nothing can be signed now, nil if it can.
func (k *Keyring) Ready() error {
	_, err := k.signer(k.now.Load(), k.o.Clock(), k.o.Life.Leaf)
	return err
}

// Refresh reads the roots, so that all that any replica had made before are known. What
// is known stays if they cannot be read.
func (k *Keyring) Refresh(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.look(ctx)
}

// Rotate makes a new root now, unless one waits already. It is trusted at once and signs
// later, as any other.
func (k *Keyring) Rotate(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.change(ctx, func(r ring, now time.Time) (ring, bool, error) {
		switch newest, begun := r.newest(now.Add(k.apart())); {
		case !begun:
			return r, false, clockBehind(r, now)
		case newest.activeFrom.After(now):
			return r, false, nil
		}
		next, err := r.withNew(now, now.Add(k.o.Life.lead()), k.o.Life, k.o.URI)
		return next, true, err
	})
}

// Maintain reads the roots, makes the one that is due, and reports whether those to be
// trusted are others than when it was called last.
func (k *Keyring) Maintain(ctx context.Context) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.change(ctx, func(r ring, now time.Time) (ring, bool, error) {
		return r.advance(now, k.o.Life, k.apart(), k.o.URI)
	})
	before := k.told
	k.told = k.Trusted()
	return !slices.EqualFunc(before, k.told, (*x509.Certificate).Equal), err
}

// apart is how far the clocks of replicas may differ: one that has a store of its own,
// which has no clock, is alone.
func (k *Keyring) apart() time.Duration {
	if k.now.Load().text.Now.IsZero() {
		return 0
	}
	return k.o.Life.apart()
}

// Run maintains the roots until ctx ends. What goes wrong is told once, and tried again:
// the roots in use stay good.
func (k *Keyring) Run(ctx context.Context, log *slog.Logger) error {
	const most, least = 10 * time.Second, 100 * time.Millisecond
	every := time.NewTicker(min(max(k.o.Life.Leaf/12, least), most))
	defer every.Stop()
	failing := ""
	for {
		changed, err := k.Maintain(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if changed {
			log.Info("roots changed", "of", k.o.Name, "trusted", len(k.Trusted()))
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		switch {
		case text == failing:
		case err != nil:
			log.Error("roots not maintained; those that are known stay in use", append([]any{"of", k.o.Name}, reason(err)...)...)
		default:
			log.Info("roots maintained again", "of", k.o.Name)
		}
		failing = text
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

func reason(err error) []any {
	var l *diag.ListError
	if errors.As(err, &l) && len(l.List) > 0 {
		return []any{"code", l.List[0].Code, "reason", l.List[0].Text, "fix", l.List[0].Fix}
	}
	return []any{"reason", err}
}

// attempts bounds how often somebody else may be faster.
const attempts = 10

// change reads the roots and replaces them by what next says. If somebody else is faster,
// next is asked again about what he wrote.
func (k *Keyring) change(ctx context.Context, next func(ring, time.Time) (ring, bool, error)) error {
	for range attempts {
		if err := k.look(ctx); err != nil {
			return err
		}
		s := k.now.Load()
		if s.skew != nil {
			return s.skew
		}
		r, due, err := next(s.ring, k.o.Clock())
		if err != nil || !due {
			return err
		}
		if err := k.replace(ctx, s.text, r); !errors.Is(err, kept.ErrConflict) {
			return err
		}
	}
	return k.crowded()
}

func (k *Keyring) crowded() error {
	return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s is replaced again and again by others", k.o.Store).
		WithFix("find out who writes there: servers do so some times a year"))
}

// look reads what is there now and makes it what is known. If there is nothing, it makes
// the first root, or puts back what it knows.
func (k *Keyring) look(ctx context.Context) error {
	for range attempts {
		began := k.o.Clock()
		text, err := k.o.Store.Read(ctx)
		if err != nil {
			return fmt.Errorf("reading the roots: %w", err)
		}
		known, skew := k.now.Load(), k.skewed(text, began)
		var r ring
		switch {
		case text.Data == nil && known == nil:
			if r, err = k.first(); err != nil {
				return err
			}
		case text.Data == nil:
			r = known.ring
		case known != nil && known.text.Version == text.Version:
			k.now.Store(&state{ring: known.ring, text: text, read: since(text, began), skew: skew})
			return nil
		default:
			var more bool
			if r, more, err = k.read(text, known); err != nil {
				return err
			}
			if !more {
				k.now.Store(&state{ring: r, text: text, read: since(text, began), skew: skew})
				return nil
			}
		}
		if skew != nil {
			return skew
		}
		if err := k.replace(ctx, text, r); !errors.Is(err, kept.ErrConflict) {
			return err
		}
	}
	return k.crowded()
}

// first makes the first root, if there was none before.
func (k *Keyring) first() (ring, error) {
	if k.o.First != nil {
		if err := k.o.First(); err != nil {
			return ring{}, err
		}
	}
	now := k.o.Clock() // it signs as soon as it has begun, also by a clock that is behind
	return ring{name: k.o.Name}.withNew(now, now.Add(-Backdate(k.o.Life.Root)), k.o.Life, k.o.URI)
}

// read reads a text, and reports whether it lacks roots that are known: somebody has put
// an older one in its place.
func (k *Keyring) read(text kept.Text, known *state) (r ring, more bool, err error) {
	r, err = decode(k.o.Store, text.Data, k.o.Name, k.o.Lost)
	if err != nil || known == nil {
		return r, false, err
	}
	all, related := r.joined(known.ring, k.o.Clock(), k.o.Life)
	if !related {
		return r, false, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s has the roots of another authority than this server", k.o.Store).
			WithFix("%s; or start this server again, and it is one of the other authority", k.o.Store.Restore()))
	}
	return all, len(all.roots) > len(r.roots), nil
}

// skewed says why this machine's clock is not believed: by it, a root would sign before
// others know it, or be made too early.
func (k *Keyring) skewed(text kept.Text, began time.Time) error {
	if text.Now.IsZero() {
		return nil
	}
	ended := k.o.Clock()
	if most := k.o.Life.tolerance(); text.Now.Before(began.Add(-most)) || text.Now.After(ended.Add(most)) {
		return problem(diag.New(diag.CodeAuthorityUnsure, diag.Pos{}, "this machine's clock says %s, where %s is it is %s: they may differ by %v", began.UTC().Format(time.RFC3339), k.o.Store, text.Now.UTC().Format(time.RFC3339), most).
			WithFix("set the clock that is wrong; this server signs nothing until then"))
	}
	return nil
}

// replace stores first and uses afterwards: what signs must survive a crash.
func (k *Keyring) replace(ctx context.Context, old kept.Text, r ring) error {
	data, err := encode(r)
	if err != nil {
		return err
	}
	began := k.o.Clock()
	text, err := k.o.Store.Replace(ctx, old, data)
	if err != nil {
		return fmt.Errorf("replacing the roots: %w", err)
	}
	text.Now = old.Now // whether the store has a clock is known from what was read
	k.now.Store(&state{ring: r, text: text, read: since(text, began)})
	return nil
}

// since is from when a text that was read counts as known, by the clock that is behind: from
// one that is ahead, certificates would last while others sign with a root that came
// afterwards.
func since(text kept.Text, began time.Time) time.Time {
	if !text.Now.IsZero() && text.Now.Before(began) {
		return text.Now
	}
	return began
}
