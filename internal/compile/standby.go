package compile

import (
	"sync"

	"meshc.dev/meshc/internal/sandbox"
)

// standby is one child that waits between evaluations. Its start takes about as long as the
// evaluation of a package in which somebody mistyped a word.
type standby struct {
	mu    sync.Mutex
	on    bool
	child *sandbox.Child // nil while it works, or ended
}

// StandBy has a child ready for the next evaluation from now on, for somebody who evaluates
// one edit after the other. The caller owes a Close.
func (c *Compiler) StandBy() {
	c.standby.mu.Lock()
	defer c.standby.mu.Unlock()
	c.standby.on = true
	if c.standby.child == nil {
		if child, err := sandbox.Start(c.program, evaluateWork, c.limits); err == nil { // else the evaluation will tell
			c.standby.child = child
		}
	}
}

// Close ends the child that stands by, and lets none stand by any more.
func (c *Compiler) Close() {
	c.standby.mu.Lock()
	defer c.standby.mu.Unlock()
	if c.standby.child != nil {
		c.standby.child.Close()
	}
	c.standby.on, c.standby.child = false, nil
}

// take is the child that stands by, nil for none.
func (s *standby) take() *sandbox.Child {
	s.mu.Lock()
	defer s.mu.Unlock()
	child := s.child
	s.child = nil
	return child
}

// give lets a child without work stand by, and reports whether it may.
func (s *standby) give(child *sandbox.Child) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on || s.child != nil {
		return false
	}
	s.child = child
	return true
}
