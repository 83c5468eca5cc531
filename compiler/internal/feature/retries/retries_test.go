package retries

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// What a callee gets more of weakens, and so does what comes back sooner; when and where else is nobody's load. A failure that
// the callee may have begun counts in the worst case, however it is written.
func TestMoreTriesWeaken(t *testing.T) {
	retry := func(change func(*Retry)) Retry {
		r := byDefault
		r.Attempts, r.Statuses = 2, []int{429}
		change(&r)
		return r
	}
	waits := func(base, most time.Duration) Retry {
		return retry(func(r *Retry) { r.Base, r.Max = trait.Duration(base), trait.Duration(most) })
	}
	fewer := func(change func(*Retry)) Retry {
		return retry(func(r *Retry) { r.Attempts = 1; change(r) })
	}
	none := func(*Retry) {}
	for _, c := range []struct {
		what          string
		before, after Retry
		want          plan.Class
		tries         int
	}{
		{"more", retry(none), retry(func(r *Retry) { r.Attempts = 3 }), plan.Weakening, 4},
		{"fewer", retry(none), retry(func(r *Retry) { r.Attempts = 1 }), plan.Neutral, 2},
		{"on another status", retry(none), retry(func(r *Retry) { r.Statuses = []int{429, 500} }), plan.Weakening, 3},
		{"of calls", retry(none), retry(func(r *Retry) { r.Statuses, r.GRPC = nil, []string{"unavailable"} }), plan.Weakening, 3},
		{"of what cannot have begun", retry(none), retry(func(r *Retry) { r.Statuses = nil }), plan.Neutral, 1},
		{"later", retry(none), waits(time.Second, time.Second), plan.Neutral, 3},
		{"sooner", waits(time.Second, 2*time.Second), waits(time.Second, time.Second), plan.Weakening, 3},
		{"as soon as by default", waits(time.Second, time.Second), retry(none), plan.Weakening, 3},
		{"later at first, and sooner at last", waits(time.Second, 10*time.Second), waits(2*time.Second, 9*time.Second), plan.Weakening, 3},
		{"sooner at first, and later at last", waits(time.Second, 10*time.Second), waits(time.Millisecond, 20*time.Second), plan.Weakening, 3},
		{"fewer, on another status", retry(none), fewer(func(r *Retry) { r.Statuses = []int{401} }), plan.Weakening, 2},
		{"fewer, on what may have begun", retry(none), fewer(func(r *Retry) { r.On = []string{"5xx"} }), plan.Weakening, 2},
		{"fewer, of calls", retry(none), fewer(func(r *Retry) { r.GRPC = []string{"unavailable"} }), plan.Weakening, 2},
		{"fewer, and sooner", retry(none), fewer(func(r *Retry) { r.Base, r.Max = trait.Duration(time.Millisecond), trait.Duration(time.Millisecond) }), plan.Weakening, 2},
		{"fewer, with a larger budget", retry(none), fewer(func(r *Retry) { r.Percent = 100 }), plan.Weakening, 2},
		{"fewer, and later", retry(none), fewer(func(r *Retry) { r.Base, r.Max = trait.Duration(time.Second), trait.Duration(time.Second) }), plan.Neutral, 2},
		{"none any more", retry(none), retry(func(r *Retry) { r.Attempts, r.Statuses = 0, []int{401} }), plan.Neutral, 1},
		{"as told", retry(none), retry(func(r *Retry) { r.After = trait.Duration(time.Second) }), plan.Neutral, 3},
		{"at the same workload", retry(none), retry(func(r *Retry) { r.SameHost = true }), plan.Neutral, 3},
	} {
		acts := meaning(c.after)
		class, text := change(fields(c.before), fields(c.after))
		if class != c.want || acts[0].Tries != c.tries {
			t.Errorf("%s: %q and %d tries, want %q and %d (%s)", c.what, class, acts[0].Tries, c.want, c.tries, text)
		}
	}
}

func fields(r Retry) []space.Field { return meaning(r)[0].Fields }

// What changes is said whole, whatever becomes of the attempts.
func TestChangesOfTriesAreSaidWhole(t *testing.T) {
	before := byDefault
	before.Attempts, before.Statuses = 3, []int{429}
	for _, attempts := range []int{2, 3, 4} {
		after := before
		after.Attempts, after.Statuses = attempts, []int{401}
		_, text := change(fields(before), fields(after))
		for _, part := range []string{"attempts 3", "on statuses 429", "on statuses 401", "attempts " + strconv.Itoa(attempts)} {
			if !strings.Contains(text, part) {
				t.Errorf("%d attempts: %q does not say %q", attempts, text, part)
			}
		}
	}
}
