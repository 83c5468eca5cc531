package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/hop"
)

// Between two looks at an Envoy whose role is not known yet, and at one whose is.
const (
	roleSoon  = 200 * time.Millisecond
	roleLater = 5 * time.Second
)

// keepRole gives Envoy the limits of its role until ctx ends. Neither certificate
// nor bootstrap say whether a proxy is a sidecar or a gateway, and the server may
// change it: the names of the listeners do.
func keepRole(ctx context.Context, a *admin, log *slog.Logger) error {
	wait := roleSoon
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		switch changed, known, err := setRole(ctx, a); {
		case err != nil:
			log.Debug("role of Envoy not looked at", "error", err) // it starts, ends, or is another's
			wait = roleSoon
		case !known:
			wait = roleSoon
		default:
			wait = roleLater
			if changed {
				log.Info("limits set for the role of Envoy")
			}
		}
	}
}

// setRole sets the limits for the role that the listeners show; known is false while there are none.
func setRole(ctx context.Context, a *admin) (changed, known bool, err error) {
	names, err := a.listeners(ctx)
	if err != nil || len(names) == 0 {
		return false, false, err
	}
	want := hop.Runtime()
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, hop.GatewayListener) }) {
		want = hop.GatewayRuntime()
	}
	have, err := a.runtime(ctx)
	if err != nil {
		return false, true, err
	}
	for k, v := range want {
		if have[k] != fmt.Sprint(v) {
			return true, true, a.setRuntime(ctx, want)
		}
	}
	return false, true, nil
}
