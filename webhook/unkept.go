package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"

	"meshc.dev/meshc/internal/diag"
)

// unkept tells why configurations and admission policies are not kept: each cause once,
// however many requests meet it, and at the end that they are kept again.
type unkept struct {
	log *slog.Logger

	mu      sync.Mutex
	failing map[string]bool // whose last request failed, by what it is for
	told    map[string]bool // causes, since all was well
}

func newUnkept(log *slog.Logger) *unkept {
	return &unkept{log: log, failing: map[string]bool{}, told: map[string]bool{}}
}

// note takes what became of the last request for something, nil for the best.
func (u *unkept) note(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.failing[what] = true
		if why := cause(err); !u.told[why] {
			u.told[why] = true
			u.log.Error("webhook configurations and admission policies not kept", "code", diag.CodeConfiguration, "reason", err,
				"fix", wayOut(err, "those on both webhook configurations, admission policies and their bindings"))
		}
		return
	}
	delete(u.failing, what)
	if len(u.failing) == 0 && len(u.told) > 0 {
		clear(u.told)
		u.log.Info("webhook configurations and admission policies kept again")
	}
}

// cause is an error without what differs from request to request: the address that was asked
// and the port that was asked from.
func cause(err error) string {
	var asked *url.Error
	if !errors.As(err, &asked) {
		return err.Error()
	}
	var way *net.OpError
	if errors.As(asked, &way) {
		return way.Err.Error()
	}
	return asked.Err.Error()
}
