package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/upstream"
)

// Renewal falls at a random moment between these parts of a certificate's
// life: always before half, and not for all proxies at once.
const (
	renewEarliest = 0.30
	renewLatest   = 0.45
)

// keeper gets the identity and keeps it fresh.
type keeper struct {
	cfg   Config
	hold  *holder
	log   *slog.Logger
	stats *stats
	// before is the identity before the present one, nil if there is none: what is
	// left if the present one was made under a wrong clock and has not begun.
	before *svid
	// look is how often the clock is looked at while there is nothing to do, at most.
	look time.Duration
}

// lookEvery is the look of an agent.
const lookEvery = time.Minute

// first makes sure that there is a valid identity: the stored one, or a join.
// While the server is away it tries again until ctx ends.
func (k *keeper) first(ctx context.Context) error {
	s, err := loadSVID(k.cfg.StateDir, identityName)
	k.before, _ = loadSVID(k.cfg.StateDir, beforeName) // only a help
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k.join(ctx, nil)
	case err != nil:
		return err
	}
	if err := k.cfg.wants(s.id); err != nil {
		return err
	}
	if s.ended(k.cfg.Clock()) {
		return k.join(ctx, s)
	}
	k.use(s, "stored")
	return nil
}

// join gets the first certificate. ended is the one that is over, if any.
func (k *keeper) join(ctx context.Context, ended *svid) error {
	wait := delays{least: 200 * time.Millisecond, most: 5 * time.Second}
	for {
		s, err := k.tryJoin(ctx, ended)
		if err == nil {
			k.keep(s, "joined")
			return nil
		}
		if !ca.Temporary(err) {
			return err
		}
		k.log.Warn("join failed; trying again", "servers", upstream.Names(k.cfg.Servers), "error", err)
		if !pause(ctx, wait.next()) {
			return err
		}
	}
}

func (k *keeper) tryJoin(ctx context.Context, ended *svid) (*svid, error) {
	token, err := k.cfg.token()
	if err != nil {
		return nil, err
	}
	switch {
	case token == "" && k.cfg.TokenFile != "":
		return nil, problem(flagProblem("mount a projected token of the pod there", "--token-file: %q is empty", k.cfg.TokenFile))
	case token == "":
		return nil, noToken(ended, k.cfg.Clock())
	}
	id, err := k.cfg.identity(token)
	if err != nil {
		return nil, err
	}
	if err := k.cfg.wants(id); err != nil {
		return nil, err
	}
	if ended != nil && ended.id != id {
		return nil, problem(diag.New(diag.CodeIdentityMismatch, diag.Pos{}, "the token is for %q, this state folder for %q", id, ended.id).
			WithFix("make a token for %q, or use an empty --state", ended.id))
	}
	trust, err := k.joinTrust(id.TrustDomain())
	if err != nil {
		return nil, err
	}
	return k.ask(ctx, id, trust, func(ctx context.Context, c *ca.Client, csr []byte) (ca.Issued, error) {
		return c.Join(ctx, token, csr)
	})
}

func noToken(ended *svid, now time.Time) error {
	if ended != nil && ended.notBefore().After(now) {
		return problem(diag.New(diag.CodeIdentityExpired, diag.Pos{}, "the stored certificate of %q begins at %s, which is still to come",
			ended.id, ended.notBefore().Format(time.RFC3339)).
			WithFix("set this machine's clock; if it is right, make a token with `meshc token create` and start with --join-token-file"))
	}
	if ended != nil {
		return problem(diag.New(diag.CodeIdentityExpired, diag.Pos{}, "the stored certificate of %q ended at %s",
			ended.id, ended.notAfter().Format(time.RFC3339)).
			WithFix("make a token with `meshc token create` and start with --join-token-file"))
	}
	return problem(diag.New(diag.CodeAgentNoIdentity, diag.Pos{}, "there is neither a stored certificate nor a join token").
		WithFix("make a token with `meshc token create` and start with --join-token-file"))
}

// joinTrust is how the server is known before there is a bundle.
func (k *keeper) joinTrust(td spiffeid.TrustDomain) (ca.Trust, error) {
	t := ca.Trust{TrustDomain: td, Pins: k.cfg.Fingerprints, Clock: k.cfg.Clock}
	var err error
	if t.Roots, err = k.cfg.roots(); err != nil {
		return t, err
	}
	if len(t.Pins) == 0 && len(t.Roots) == 0 {
		return t, problem(flagProblem("`meshc token create` prints it with the token",
			"to join, the agent must know the server: --server-fingerprint or --server-bundle is missing"))
	}
	return t, nil
}

// ask makes a new key, has it certified and checks the answer.
func (k *keeper) ask(ctx context.Context, id spiffeid.ID, t ca.Trust,
	call func(context.Context, *ca.Client, []byte) (ca.Issued, error),
) (*svid, error) {
	key, csr, err := newRequest(id)
	if err != nil {
		return nil, err
	}
	c, err := ca.Dial(k.cfg.Servers, t)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	got, err := call(ctx, c, csr)
	if err != nil {
		return nil, err
	}
	return newSVID(id, key, got, k.cfg.Clock())
}

func (k *keeper) renew(ctx context.Context, s *svid) (*svid, error) {
	t := ca.Trust{TrustDomain: s.id.TrustDomain(), Roots: s.bundle, Certificate: s.tls(), Clock: k.cfg.Clock}
	token := ""
	if k.cfg.TokenFile != "" { // whoever joined as a pod shows that it is still there
		var err error
		if token, err = k.cfg.token(); err != nil {
			return nil, err
		}
	}
	return k.ask(ctx, s.id, t, func(ctx context.Context, c *ca.Client, csr []byte) (ca.Issued, error) {
		return c.Renew(ctx, token, csr)
	})
}

// run renews until ctx ends. It gives up on nothing: while the server refuses
// or is away, the old certificate is used to its end; after its end the only
// way is a new token, for which the token file is read again.
func (k *keeper) run(ctx context.Context) error {
	wait := delays{least: time.Second, most: time.Minute}
	for {
		s, _ := k.hold.get()
		due := s.at(renewEarliest + rand.Float64()*(renewLatest-renewEarliest))
		if !k.until(ctx, s, due) {
			return nil
		}
		if now := k.cfg.Clock(); !s.begun(now) && k.before != nil && k.before.id == s.id && k.before.begun(now) && !k.before.ended(now) {
			k.log.Warn("the certificate has not begun: the clock was wrong; the one before is used and renewed", "id", s.id.String(), "not_before", s.notBefore())
			s = k.before
			k.use(s, "the one before")
		}
		for next := (*svid)(nil); next == nil; {
			var err error
			if next, err = k.replace(ctx, s); err == nil {
				k.stats.renewals.Add(1)
				k.keep(next, "renewed")
				wait = delays{least: time.Second, most: time.Minute}
				break
			}
			k.stats.renewFailures.Add(1)
			k.log.Error("certificate not renewed", "id", s.id.String(), "not_after", s.notAfter(), "error", err)
			// Short-lived certificates cannot afford a long pause.
			if !pause(ctx, min(wait.next(), max(s.lifetime()/20, 50*time.Millisecond))) {
				return nil
			}
		}
	}
}

func (k *keeper) replace(ctx context.Context, s *svid) (*svid, error) {
	if now := k.cfg.Clock(); s.ended(now) || !s.begun(now) {
		return k.tryJoin(ctx, s)
	}
	return k.renew(ctx, s)
}

// keep stores and uses s. If the disk is full the new certificate is used all
// the same: the old one on disk is good for as long again.
func (k *keeper) keep(s *svid, how string) {
	var err error
	if cur, _ := k.hold.get(); cur != nil {
		k.before = cur
		err = cur.save(k.cfg.StateDir, beforeName)
	}
	if err = errors.Join(err, s.save(k.cfg.StateDir, identityName)); err != nil {
		k.log.Error("identity not stored: a restart may need a new token", "error", fmt.Errorf("storing the identity: %w", err))
	}
	k.use(s, how)
}

func (k *keeper) use(s *svid, how string) {
	k.hold.set(s)
	k.log.Info("identity", "how", how, "id", s.id.String(), "serial", s.chain[0].SerialNumber.Text(16),
		"not_after", s.notAfter(), "roots", len(s.bundle))
}

// until waits for a moment of the clock, or for the clock to say that s has not
// begun. It looks at the clock again and again: timers stand still while a machine
// sleeps, certificates do not.
func (k *keeper) until(ctx context.Context, s *svid, t time.Time) bool {
	for {
		now := k.cfg.Clock().Round(0) // what counts is what the clock says
		left := t.Sub(now)
		if left <= 0 || !s.begun(now) {
			return ctx.Err() == nil
		}
		if !pause(ctx, min(left, k.look)) {
			return false
		}
	}
}

// delays double from least to most, with up to a quarter of chance.
type delays struct{ least, most, last time.Duration }

func (b *delays) next() time.Duration {
	b.last = min(max(b.least, 2*b.last), b.most)
	return b.last - time.Duration(rand.Int64N(int64(b.last)/4))
}

// pause waits for d; false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
