package guard

import "time"

// crew are goroutines that evaluate policies and are kept for the next evaluation: one is
// so deep that a new goroutine spends as long on growing its stack as on the policies.
type crew struct{ work chan func() }

// kept is how long one without work stays.
const kept = 10 * time.Second

func newCrew() *crew { return &crew{work: make(chan func())} }

// do has f run by one that is free, or by a new one. It does not wait.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		go c.run(f)
	}
}

func (c *crew) run(f func()) {
	idle := time.NewTimer(kept)
	defer idle.Stop()
	for {
		f()
		idle.Reset(kept)
		select {
		case f = <-c.work:
		case <-idle.C:
			return
		}
	}
}
