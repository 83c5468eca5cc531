package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/ledger"
)

// TestOneIdentityLeavesRoom: a client that comes under ever new names, and fails in
// a loop, neither pushes out what is known of others nor slows them down.
func TestOneIdentityLeavesRoom(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := ledger.New(func() time.Time { return now })
	fail := func(class, why string) { l.Fail(ledger.Failure{At: now, Class: class, Why: why}) }
	fail("good", "the one to see")
	start := time.Now()
	for i := range 50_000 {
		l.Connect("bad", fmt.Sprint("node-", i), "bad", "delta").Close()
		fail("bad", fmt.Sprint(i))
	}
	t.Logf("50,000 streams: %s", time.Since(start))
	l.Connect("good", "p", "good", "delta").Close()
	st := l.Status()
	bad, good := 0, 0
	for _, p := range st.Proxies {
		if p.Identity == "bad" {
			bad++
		} else {
			good++
		}
	}
	if bad != 1000 || good != 1 {
		t.Errorf("%d of the bad one, %d of the good one remembered", bad, good)
	}
	if len(st.Failures) != 100 || st.Failures[0].Why != "the one to see" || st.Failures[99].Why != "49999" {
		t.Errorf("%d failures, first %q, last %q", len(st.Failures), st.Failures[0].Why, st.Failures[len(st.Failures)-1].Why)
	}
	// A proxy that comes back is not gone, and later nobody is.
	e := l.Connect("good", "p", "good", "delta")
	if n := len(l.Status().Proxies); n != 1001 {
		t.Errorf("%d proxies", n)
	}
	now = now.Add(time.Hour)
	if n := len(l.Status().Proxies); n != 1 {
		t.Errorf("%d proxies an hour later", n)
	}
	for i := range 2000 {
		l.Connect("bad", fmt.Sprint("again-", i), "bad", "delta").Close()
	}
	if n := len(l.Status().Proxies); n != 1001 {
		t.Errorf("%d proxies after another round", n)
	}
	e.Close()
}
