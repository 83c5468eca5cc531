// Package alarm waits for instants of the wall clock.
//
// In: instants, and functions to call. Out: each function is called once, within
// about Tick of the moment at which the clock says that its instant has come, in
// the order of the instants, one after the other.
//
// A timer of the runtime counts time that passes for this process: it stands still
// while the machine sleeps, and knows nothing of a clock that is set. One loop
// looks at the clock instead, and only while there is something to wait for. What
// has rung does not ring again if the clock goes back.
package alarm

import (
	"container/heap"
	"sync"
	"time"
)

// Tick is how often the clock is looked at.
const Tick = time.Second

// Clock holds alarms. Make one with New; it is safe for concurrent use.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex
	due  queue
	stop chan struct{} // ends the loop that runs; nil if none does
}

// entry is one alarm; index is its place in the queue, -1 outside.
type entry struct {
	at    time.Time
	ring  func()
	index int
}

// New makes a clock without alarms. now tells the time.
func New(now func() time.Time) *Clock { return &Clock{now: now} }

// At has ring called when the clock has reached t, also if it has already. ring
// must not take long. The function that it returns takes the alarm back, if it
// has not rung.
func (c *Clock) At(t time.Time, ring func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Without its monotonic part: what counts is what the clock says.
	e := &entry{at: t.Round(0), ring: ring}
	heap.Push(&c.due, e)
	if c.stop == nil {
		c.stop = make(chan struct{})
		go c.loop(c.stop)
	}
	return func() { c.cancel(e) }
}

func (c *Clock) cancel(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.index >= 0 {
		heap.Remove(&c.due, e.index)
	}
	if len(c.due) == 0 && c.stop != nil {
		close(c.stop)
		c.stop = nil
	}
}

// loop rings until it is stopped or nothing is left to wait for.
func (c *Clock) loop(stop chan struct{}) {
	t := time.NewTicker(Tick)
	defer t.Stop()
	for {
		for e := c.next(stop); e != nil; e = c.next(stop) {
			e.ring()
		}
		select {
		case <-stop:
			return
		case <-t.C:
		}
	}
}

// next takes the first alarm whose instant has come; nil if there is none. With
// the last alarm it ends the loop.
func (c *Clock) next(stop chan struct{}) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != stop {
		return nil
	}
	if len(c.due) == 0 {
		close(c.stop)
		c.stop = nil
		return nil
	}
	if c.due[0].at.After(c.now().Round(0)) {
		return nil
	}
	e, _ := heap.Pop(&c.due).(*entry)
	return e
}

// queue is a heap of alarms by instant.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e, _ := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1], e.index = nil, -1
	*q = old[:len(old)-1]
	return e
}
