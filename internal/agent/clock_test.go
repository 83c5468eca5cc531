package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// An agent that renewed while its clock and the server's were wrong goes back to the
// certificate before, which is valid, and renews that; also after a restart.
func TestACertificateOfAWrongClockIsReplaced(t *testing.T) {
	var offset atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	p := newPlaneAt(t, 12*time.Hour, clock)
	cfg, problems := p.config(t, "shop/web").Normalise()
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	cfg.Clock = clock
	fresh := func() *keeper {
		return &keeper{cfg: cfg, hold: newHolder(), log: slog.New(slog.DiscardHandler), stats: &stats{}, look: 5 * time.Millisecond}
	}
	run := func(k *keeper) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		if err := k.first(ctx); err != nil {
			t.Fatal(err)
		}
		go func() { done <- k.run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	valid := func(k *keeper) {
		t.Helper()
		eventually(t, "a certificate that is valid now", func() error {
			s, _ := k.hold.get()
			if now := clock(); !s.begun(now) || s.ended(now) {
				return fmt.Errorf("valid from %s to %s, now is %s", s.notBefore(), s.notAfter(), now)
			}
			return nil
		})
	}
	k := fresh()
	stop := run(k)
	first, _ := k.hold.get()
	offset.Store(int64(6 * time.Hour))
	eventually(t, "a renewal under the wrong clock", func() error {
		if s, _ := k.hold.get(); s == first {
			return errors.New("none")
		}
		return nil
	})
	stop()
	offset.Store(0)
	k = fresh() // the restart finds the one that has not begun
	stop = run(k)
	valid(k)
	eventually(t, "a renewal under the right clock", func() error {
		if k.stats.renewals.Load() == 0 {
			return errors.New("none")
		}
		return nil
	})
	valid(k)
	stop()
	s, err := loadSVID(cfg.StateDir, identityName)
	if err != nil || !s.begun(clock()) {
		t.Errorf("stored: %v, %v", s, err)
	}

	// Without one before, the reason is the clock.
	k = fresh()
	k.cfg.JoinToken = ""
	offset.Store(int64(-24 * time.Hour))
	if _, err := k.replace(t.Context(), s); !hasCode(err, diag.CodeIdentityExpired) {
		t.Errorf("under a clock that is a day behind: %v", err)
	}
}

func hasCode(err error, want diag.Code) bool {
	ds := problemsOf(err)
	return len(ds) > 0 && ds[0].Code == want
}
