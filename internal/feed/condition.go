package feed

import (
	"maps"
	"time"
)

// Condition is how it is with the source at a moment.
type Condition struct {
	// Reachable says whether the repository answers, Since from when on that was so.
	// LookedAt is when the last look ended. Both times are zero before the first has.
	Reachable       bool
	Since, LookedAt time.Time
	// Head is the ref's commit as last seen, "" before that.
	Head string
	// Line are the newest commits on the ref's first-parent history, the head first, as the
	// last look found them. They may be approved or not. Read only.
	Line []string
	// Refused is what is not approved, the zero Refusal if nothing is refused.
	Refused Refusal
	// Wrong is what is wrong, by the kind of the event that told it.
	Wrong map[Kind]error
}

// Refusal is what was refused and when that was told; Wrong[Refused] says why. Commit
// is "" if it is the repository.
type Refusal struct {
	Commit string
	At     time.Time
}

// Condition is how it is with the source now. Unlike the rest of a Feed it may be
// called from any goroutine.
func (f *Feed) Condition() Condition {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.now
	c.Wrong = maps.Clone(c.Wrong)
	return c
}

// condition changes what Condition returns.
func (f *Feed) condition(change func(*Condition)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
}

// looked notes that a look has ended.
func (f *Feed) looked() {
	at := f.c.Now()
	f.condition(func(c *Condition) {
		if c.LookedAt.IsZero() || c.Reachable != (f.unreachable == "") {
			c.Since = at
		}
		c.Reachable, c.LookedAt = f.unreachable == "", at
		if f.snap != nil {
			c.Head = f.snap.Head()
		}
	})
}

// accept notes that nothing is refused.
func (f *Feed) accept() {
	f.condition(func(c *Condition) { c.Refused = Refusal{} })
	f.note(Refused, nil)
}

// note keeps what is wrong now; nil that it no longer is.
func (f *Feed) note(k Kind, err error) {
	f.condition(func(c *Condition) {
		if err == nil {
			delete(c.Wrong, k)
			return
		}
		if c.Wrong == nil {
			c.Wrong = map[Kind]error{}
		}
		c.Wrong[k] = err
	})
}
