package compile

import (
	"context"
	"testing"
	"testing/synctest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
)

// Who waits for policies that somebody else compiles gets them, or compiles them himself where
// the other one's time ran out; and waits no longer than his own.
func TestPoliciesOfOthersAreAwaited(t *testing.T) {
	failed := policyResult{ds: diag.List{diag.New(diag.CodePolicyNone, diag.Pos{}, "out of time")}}
	made := policyResult{engine: &guard.Engine{}}
	for name, c := range map[string]struct {
		first, own policyResult
		builds     int
	}{
		"made":           {made, failed, 1},
		"out of time":    {failed, made, 2},
		"wrong for both": {failed, failed, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var courts courts
			builds := 0
			release, got := make(chan struct{}), make(chan policyResult, 1)
			go courts.compiled(t.Context(), "key", func() policyResult { builds++; <-release; return c.first })
			synctest.Wait()
			go func() {
				got <- courts.compiled(t.Context(), "key", func() policyResult { builds++; return c.own })
			}()
			synctest.Wait()

			hurried, cancel := context.WithCancel(t.Context())
			cancel()
			if r := courts.compiled(hurried, "key", func() policyResult { return failed }); r.engine != nil {
				t.Errorf("%s: who has no time got %v", name, r)
			}
			close(release)
			want := c.own
			if c.first.engine != nil {
				want = c.first
			}
			if r := <-got; r.engine != want.engine {
				t.Errorf("%s: got %v", name, r)
			}
			if builds != c.builds {
				t.Errorf("%s: compiled %d times, want %d", name, builds, c.builds)
			}
			if r := courts.compiled(t.Context(), "key", func() policyResult { return made }); r.engine != made.engine {
				t.Errorf("%s: afterwards %v", name, r)
			}
		})
	}
}
