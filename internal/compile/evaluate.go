package compile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// What one package may take, whatever it holds. The process's own text and its end
// are in it: the child's limits are a little lower.
const (
	PackageTime   = 10 * time.Second
	PackageMemory = 512 << 20
)

// packageLimits are those of a child that evaluates.
func packageLimits() sandbox.Limits {
	return sandbox.Limits{Time: PackageTime - time.Second, Data: PackageMemory - 64<<20, Heap: PackageMemory - 192<<20, Output: 32 << 20}
}

// maxOver is how many packages may go over their limits before the rest is given
// up. There is no release then in any case; many such packages must not add up.
const maxOver = 3

// evaluateWork names the work of a child that evaluates.
const evaluateWork = "evaluate"

// workers is how many packages are evaluated at once: never one alone, so that a
// package without end does not hold up the others, and not more than memory allows.
func workers() int { return max(2, min(runtime.GOMAXPROCS(0), 4)) }

// evaluation is that of all packages of one tree.
type evaluation struct {
	ctx     context.Context //nolint:containedctx // that of the one call which makes and drops the evaluation
	program string
	limits  sandbox.Limits
	standby *standby

	mu   sync.Mutex
	idle []*sandbox.Child
	over int
	cost map[string]time.Duration // by package
}

// evaluate has a child evaluate a package, for compiler.Options.
func (e *evaluation) evaluate(j compiler.Job) ([]byte, diag.List) {
	parts, err := j.Encode()
	if err != nil {
		return nil, diag.List{diag.New(diag.CodeInternal, diag.Pos{File: j.File()}, "%v", err)}
	}
	if !e.goesOn() {
		return nil, diag.List{diag.New(diag.CodeNotEvaluated, diag.Pos{File: j.File()}, "package %q was not evaluated", j.Dir)}
	}
	begin := time.Now() //nolint:forbidigo // how long it takes is told, and changes no value
	answer, err := e.ask(parts)
	e.spent(j.Dir, time.Since(begin))
	if err == nil {
		return answer, nil
	}
	if e.ctx.Err() != nil {
		return nil, diag.List{diag.New(diag.CodeNotEvaluated, diag.Pos{File: j.File()}, "package %q was not evaluated to its end", j.Dir)}
	}
	return nil, diag.List{e.failed(j, err)}
}

// goesOn reports whether another package is to be evaluated.
func (e *evaluation) goesOn() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.over < maxOver && e.ctx.Err() == nil
}

func (e *evaluation) spent(dir string, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cost[dir] += d
}

// ask gives a request to a child that has nothing to do, or to a new one.
func (e *evaluation) ask(request [][]byte) ([]byte, error) {
	c, stood, err := e.child()
	if err != nil {
		return nil, err
	}
	answer, err := c.Do(e.ctx, request...)
	if ended := (*sandbox.Error)(nil); stood && errors.As(err, &ended) && ended.Kind == sandbox.Crashed {
		c.Close() // something ended it while it waited
		if c, err = sandbox.Start(e.program, evaluateWork, e.limits); err != nil {
			return nil, err
		}
		answer, err = c.Do(e.ctx, request...)
	}
	if !c.Fit() {
		c.Close()
		return answer, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = append(e.idle, c)
	return answer, err
}

// child also says whether it stood by.
func (e *evaluation) child() (c *sandbox.Child, stood bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.idle); n > 0 {
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		return c, false, nil
	}
	if c := e.standby.take(); c != nil {
		return c, true, nil
	}
	c, err = sandbox.Start(e.program, evaluateWork, e.limits)
	return c, false, err
}

// close ends the children, but for one that may stand by.
func (e *evaluation) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.idle {
		if !e.standby.give(c) {
			c.Close()
		}
	}
	e.idle = nil
}

// failed says why a package has no value.
func (e *evaluation) failed(j compiler.Job, err error) diag.Diagnostic {
	at := diag.Pos{File: j.File()}
	var s *sandbox.Error
	if !errors.As(err, &s) {
		return diag.New(diag.CodeSandbox, at, "the evaluation of package %q failed: %v", j.Dir, err)
	}
	l, what := s.Limits, fmt.Sprintf("the evaluation of package %q", j.Dir)
	var d diag.Diagnostic
	switch s.Kind {
	case sandbox.Memory:
		d = diag.New(diag.CodeMemoryLimit, at, "%s needs more than %d MiB of memory", what, l.Data>>20)
	case sandbox.Time:
		d = diag.New(diag.CodeTimeLimit, at, "%s takes longer than %v", what, l.Time)
	case sandbox.Output:
		d = diag.New(diag.CodeOutputLimit, at, "%s gives more than %d MiB", what, l.Output>>20)
	default:
		return broken(s, at, what)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over++
	return d.WithFix("make the package smaller or compute less in it: large comprehensions, repeated strings and many disjunctions are the usual causes; every package has %v and %d MiB, whatever its size",
		PackageTime, PackageMemory>>20)
}

// summed says in one line what was not evaluated, and why.
func (e *evaluation) summed(ds diag.List) diag.List {
	var out, skipped diag.List
	for _, d := range ds {
		if d.Code == diag.CodeNotEvaluated {
			skipped = append(skipped, d)
			continue
		}
		out = append(out, d)
	}
	if len(skipped) == 0 {
		return out
	}
	packages := "1 package was"
	if n := len(skipped); n > 1 {
		packages = fmt.Sprintf("%d packages were", n)
	}
	var over *ExceededError
	if errors.As(context.Cause(e.ctx), &over) {
		d := over.Diagnostic()
		d.Pos, d.Text = skipped[0].Pos, fmt.Sprintf("%s; %s not evaluated to the end, and most of the time went to %s", d.Text, packages, e.dearest())
		return append(out, d)
	}
	return append(out, diag.New(diag.CodeNotEvaluated, skipped[0].Pos, "%s not evaluated, because %d others went over their limits", packages, e.over).
		WithFix("mend those first"))
}

// dearest names the packages that took longest.
func (e *evaluation) dearest() string {
	const most = 3
	dirs := slices.SortedFunc(maps.Keys(e.cost), func(a, b string) int {
		return cmp.Or(cmp.Compare(e.cost[b], e.cost[a]), strings.Compare(a, b))
	})
	var out []string
	for _, dir := range dirs[:min(most, len(dirs))] {
		out = append(out, fmt.Sprintf("%q (%v)", dir, e.cost[dir].Round(time.Millisecond)))
	}
	return strings.Join(out, ", ")
}
