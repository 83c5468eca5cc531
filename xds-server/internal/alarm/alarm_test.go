package alarm_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"meshc.dev/meshc/xds-server/internal/alarm"
)

// clock is a wall clock that a test sets; between two settings it goes on.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) step(d time.Duration) { c.offset.Add(int64(d)) }

func TestRingsByTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := &clock{}
		c, start := alarm.New(wall.now), wall.now()
		rang := make(chan string, 8)
		at := func(d time.Duration, name string) func() {
			return c.At(start.Add(d), func() { rang <- name })
		}
		want := func(when string, names ...string) {
			t.Helper()
			time.Sleep(alarm.Tick + time.Millisecond)
			synctest.Wait()
			var got []string
			for len(rang) > 0 {
				got = append(got, <-rang)
			}
			if !slices.Equal(got, names) {
				t.Fatalf("%s: rang %v, want %v", when, got, names)
			}
		}
		at(2*time.Hour, "later")
		at(time.Hour, "sooner")
		cancel := at(time.Hour, "cancelled")
		at(-time.Hour, "past")
		want("at once", "past")
		cancel()
		cancel()
		wall.step(90 * time.Minute) // a suspend, or a clock that was set
		want("after a step forward", "sooner")
		wall.step(-5 * time.Hour)
		want("after a step back")
		wall.step(6 * time.Hour)
		want("after a step forward", "later")
		wall.step(-24 * time.Hour)
		at(-21*time.Hour, "soon")
		want("half an hour before")
		time.Sleep(time.Hour)
		want("an hour later", "soon")
		// Nothing is left to wait for: the bubble would not end with a loop in it.
	})
}

func TestAlarmsMaySetAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := alarm.New(time.Now)
		n := 0
		var again func()
		again = func() {
			if n++; n < 5 {
				c.At(time.Now().Add(10*time.Minute), again)
			}
		}
		c.At(time.Now(), again)
		time.Sleep(41 * time.Minute)
		synctest.Wait()
		if n != 5 {
			t.Errorf("rang %d times", n)
		}
		cancel := c.At(time.Now().Add(time.Hour), func() { t.Error("rang") })
		cancel()
		time.Sleep(2 * time.Hour)
	})
}
