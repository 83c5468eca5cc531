package compile

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// Bounds hold for a compile as a whole: reading, evaluating all packages, linking,
// output and policies. The operator sets them; nothing in a repository does.
type Bounds struct {
	// Time is from begin to end.
	Time time.Duration
	// Memory is what linking, output and policies may use, in bytes. The packages that are
	// evaluated meanwhile have their own (PackageMemory each, at most four at once).
	Memory int64
}

// Default is enough for meshes of ten thousand services.
func Default() Bounds { return Bounds{Time: 2 * time.Minute, Memory: 4 << 30} }

// Bounds of the bounds: below the least not even an empty mesh compiles, and what is
// above the most bounds nothing.
const (
	minTime   = time.Second
	maxTime   = 24 * time.Hour
	minMemory = 128 << 20
	maxMemory = 1 << 40
)

func (b Bounds) check() error {
	if b.Time < minTime || b.Memory < minMemory {
		return fmt.Errorf("a compile needs at least %v and %d MiB, not %v and %d MiB", minTime, minMemory>>20, b.Time, b.Memory>>20)
	}
	if b.Time > maxTime || b.Memory > maxMemory {
		return fmt.Errorf("a compile may have at most %v and %d MiB, not %v and %d MiB", maxTime, maxMemory>>20, b.Time, b.Memory>>20)
	}
	return nil
}

// ExceededError is a compile that went over its bounds as a whole.
type ExceededError struct {
	Kind   sandbox.Kind // Time, Memory or Output
	Bounds Bounds
}

// Error says it on one line.
func (e *ExceededError) Error() string { return e.Diagnostic().Text }

// Diagnostic is it as a problem that an operator can act on.
func (e *ExceededError) Diagnostic() diag.Diagnostic {
	var text string
	switch e.Kind {
	case sandbox.Memory:
		text = fmt.Sprintf("the compile as a whole needs more than %d MiB of memory", e.Bounds.Memory>>20)
	case sandbox.Output:
		text = fmt.Sprintf("the compile as a whole gives more than %d MiB", e.Bounds.output()>>20)
	default:
		text = fmt.Sprintf("the compile as a whole takes longer than %v", e.Bounds.Time)
	}
	return diag.New(diag.CodeCompileLimit, diag.Pos{}, "%s", text).WithFix("%s", higher)
}

const higher = "if the mesh is as it should be, allow more with --compile-time or --compile-memory"

// output bounds the bytes of all releases of a commit together.
func (b Bounds) output() int64 { return b.Memory / 4 }

// grace is how long work may take to notice that its time is over.
const grace = 2 * time.Second

// limits are those of a child that compiles as a whole. It looks at the time itself,
// and can say more about it.
func (b Bounds) limits() sandbox.Limits {
	return sandbox.Limits{Time: b.Time + 2*grace, Data: b.Memory, Heap: b.heap(), Output: b.output()}
}

// heap leaves room for the collector, which begins to work hard there.
func (b Bounds) heap() int64 { return b.Memory / 4 * 3 }

// gcPercent lets garbage be twice what is in use while work lasts: most of what it makes
// it keeps, so that looking for garbage finds little.
const gcPercent = 200

// watchEvery is how often the memory is looked at.
const watchEvery = 20 * time.Millisecond

// Within does work in this process. If it goes over the bounds, or ctx ends, Within
// returns all the same: the work is then left behind, and the process is to report
// and end. What the process held before is not the work's, and does not count.
func Within[T any](ctx context.Context, c *Compiler, work func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	held := sandbox.InUse()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(held + c.bounds.heap()))
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	ctx, cancel := c.bounds.limited(ctx)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		v, err := work(ctx)
		done <- outcome{v, err}
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			return o.value, o.err
		case <-ctx.Done():
			late := time.NewTimer(grace)
			defer late.Stop()
			select {
			case o := <-done:
				return o.value, o.err
			case <-late.C:
				return none, context.Cause(ctx)
			}
		case <-tick.C:
			if sandbox.InUse()-held > c.bounds.Memory {
				return none, &ExceededError{Kind: sandbox.Memory, Bounds: c.bounds}
			}
		}
	}
}

// limited is a context that ends with the time, for that cause.
func (b Bounds) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.Time, &ExceededError{Kind: sandbox.Time, Bounds: b})
}

// told makes a child's failure one of the compile as a whole.
func (b Bounds) told(err error) error {
	var e *sandbox.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Kind {
	case sandbox.Time, sandbox.Memory, sandbox.Output:
		return &ExceededError{Kind: e.Kind, Bounds: b}
	default:
		return diag.List{broken(e, diag.Pos{}, "the compile")}.Err()
	}
}

// broken is a child that ended without reason. what is the work that it did.
func broken(e *sandbox.Error, at diag.Pos, what string) diag.Diagnostic {
	return diag.New(diag.CodeSandbox, at, "%s failed: %v", what, e).
		WithFix("run it again; if it ends in the same way, report this text to the makers of meshc")
}
