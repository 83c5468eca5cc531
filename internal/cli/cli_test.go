package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// A part that does not end keeps no server from ending, nor from saying what failed.
func TestEnded(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		fail, want error
		stop       bool
	}{
		"told to stop": {want: context.Canceled, stop: true},
		"failed":       {fail: broken, want: broken},
	} {
		t.Run(name, func(t *testing.T) {
			outer, cancel := context.WithCancel(t.Context())
			defer cancel()
			group, ctx := errgroup.WithContext(outer)
			group.Go(func() error { <-stuck; return nil })
			group.Go(func() error {
				if c.stop {
					cancel()
				}
				return c.fail
			})
			if err := ended(ctx, group, time.Millisecond); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
