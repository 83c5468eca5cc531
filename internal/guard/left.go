package guard

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// left are the evaluations that went on when their time was over: a built-in function
// does not always look at its context, and nothing ends a goroutine from outside.
type left struct {
	mu      sync.Mutex
	running map[string][]int // package → their numbers, in the order in which they were left
	last    int
}

// maxLeft bounds those of one policy. More of them would take the processors from all.
const maxLeft = 2

// full says why a policy is not asked, nil if it is.
func (l *left) full(pkg string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.running[pkg]); n >= maxLeft {
		return fmt.Errorf("%d earlier evaluations of it could not be stopped and still run: %w", n, errLeft)
	}
	return nil
}

// begin notes one; what it returns notes its end.
func (l *left) begin(pkg string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		l.running = map[string][]int{}
	}
	l.last++
	number := l.last
	l.running[pkg] = append(l.running[pkg], number)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.running[pkg], number)
		l.running[pkg] = slices.Delete(l.running[pkg], i, i+1)
	}
}

// Stuck is the evaluation that was left first of those that still run after their time,
// by a number of its own and the policy's package; 0 if there is none.
func (e *Engine) Stuck() (number int, pkg string) {
	e.left.mu.Lock()
	defer e.left.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(e.left.running)) {
		if of := e.left.running[name]; len(of) > 0 && (number == 0 || of[0] < number) {
			number, pkg = of[0], name
		}
	}
	return number, pkg
}
