package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/rollout"
)

var (
	epoch  = time.Unix(1_000_000, 0)
	bounds = rollout.Bounds{}.WithDefaults()
)

func who(i int) evidence.Instance { return evidence.Instance(fmt.Sprintf("%016x", i)) }

// world is a class's evidence under construction.
type world struct {
	set    evidence.Set
	at     time.Time
	since  map[string]time.Time // of confirmations
	joined map[int]time.Time
}

func newWorld() *world {
	return &world{at: epoch, since: map[string]time.Time{}, joined: map[int]time.Time{}}
}

func (w *world) class() evidence.Class { return w.set.Class("c") }

func (w *world) say(i int, content string, s ledger.State, attempts int) {
	w.at = w.at.Add(time.Millisecond)
	r := evidence.Receipt{Class: "c", Instance: who(i), Content: content, State: s, At: w.at, Since: w.at, Until: epoch.Add(12 * time.Hour)}
	if s != ledger.Acked {
		r.Type, r.Attempts, r.Failure = "clusters", attempts, &ledger.Failure{}
	}
	// As a log does it: since when the proxy has been saying the same.
	rec := w.class()[who(i)]
	if old, failing := rec.Failure(content); failing && r.Failed() {
		r.Since = old.Since
	} else if since, ok := w.since[fmt.Sprint(i, content)]; ok && !failing && !r.Failed() {
		r.Since = since
	}
	if _, ok := w.joined[i]; !ok {
		w.joined[i] = r.Since
	}
	r.Joined = w.joined[i]
	if !r.Failed() {
		w.since[fmt.Sprint(i, content)] = r.Since
	}
	w.set.Add(r)
}

func (w *world) confirm(content string, proxies ...int) {
	for _, i := range proxies {
		w.say(i, content, ledger.Acked, 0)
	}
}

func (w *world) refuse(content string, proxies ...int) {
	for _, i := range proxies {
		w.say(i, content, ledger.Nacked, 1)
	}
}

// history has contents 1, 2, …; going back before the given one narrows.
func history(n, barrier int) rollout.History {
	h := rollout.History{Narrows: func(to int) bool { return to < barrier }}
	h.Withdrawn = make([]bool, n)
	for i := range n {
		h.Contents, h.Positions = append(h.Contents, fmt.Sprint(i+1)), append(h.Positions, rollout.Position{Place: int64(i + 1)})
	}
	return h
}

// chosen is what a class and some of its proxies get, as contents.
func (w *world) chosen(h rollout.History, now time.Time, proxies ...int) []string {
	c := rollout.ForClass(h, w.class(), bounds, now)
	out := []string{h.Contents[c.Content]}
	for _, i := range proxies {
		out = append(out, h.Contents[rollout.ForProxy(h, w.class(), rollout.Subject{Instance: who(i)}, c, bounds, now).Content])
	}
	return out
}

func TestChoice(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(*world)
		h    rollout.History
		want []string // the class, then proxies 1, 2, 3
	}{
		{"nothing is known", func(*world) {}, history(3, 0), []string{"3", "3", "3", "3"}},
		{"one refuses among two", func(w *world) { w.confirm("1", 1, 2); w.refuse("2", 1) }, history(2, 0), []string{"2", "1", "2", "2"}},
		{"one refuses before others have it", func(w *world) { w.confirm("1", 1, 2, 3); w.refuse("2", 1) }, history(2, 0), []string{"2", "1", "2", "2"}},
		{"most refuse", func(w *world) { w.confirm("1", 1, 2, 3); w.refuse("2", 1, 2) }, history(2, 0), []string{"1", "1", "1", "1"}},
		{"exactly half refuse", func(w *world) { w.confirm("1", 1, 2, 3, 4); w.refuse("2", 1, 2) }, history(2, 0), []string{"2", "1", "1", "2"}},
		{"the only one refuses", func(w *world) { w.confirm("1", 1); w.refuse("2", 1) }, history(2, 0), []string{"1", "1", "1", "1"}},
		{"most refuse what narrows", func(w *world) { w.confirm("1", 1, 2, 3); w.refuse("2", 1, 2) }, history(2, 1), []string{"2", "1", "1", "2"}},
		{"back to what narrowed, not behind it", func(w *world) { w.confirm("1", 1, 2); w.confirm("2", 1, 2); w.refuse("3", 1, 2) }, history(3, 1), []string{"2", "2", "2", "2"}},
		{"not behind it even if it was refused", func(w *world) { w.confirm("1", 1, 2); w.refuse("2", 1, 2); w.refuse("3", 1, 2) }, history(3, 1), []string{"3", "1", "1", "3"}},
		{"over what was refused before", func(w *world) { w.confirm("1", 1, 2); w.refuse("2", 1, 2); w.refuse("3", 1, 2) }, history(3, 0), []string{"1", "1", "1", "1"}},
		{"nothing to go back to", func(w *world) { w.refuse("1", 1, 2); w.refuse("2", 1, 2) }, history(2, 0), []string{"2", "2", "2", "2"}},
		{"over what nobody confirmed", func(w *world) { w.confirm("1", 1, 2); w.refuse("3", 1, 2) }, history(3, 0), []string{"1", "1", "1", "1"}},
		{"who confirmed keeps it", func(w *world) { w.confirm("1", 1, 2, 3); w.refuse("2", 1, 2); w.confirm("2", 3) }, history(2, 0), []string{"1", "1", "1", "2"}},
		{"a new one that refuses", func(w *world) { w.confirm("1", 2, 3); w.confirm("2", 2, 3); w.refuse("2", 1) }, history(2, 0), []string{"2", "1", "2", "2"}},
		{"refused, then confirmed", func(w *world) { w.confirm("1", 1); w.refuse("2", 1); w.confirm("2", 1) }, history(2, 0), []string{"2", "2", "2", "2"}},
		{"confirmed, then refused", func(w *world) { w.confirm("1", 1); w.confirm("2", 1); w.refuse("2", 1) }, history(2, 0), []string{"1", "1", "1", "1"}},
		{"who came later and was never given it", func(w *world) { w.confirm("1", 1); w.refuse("2", 1); w.confirm("1", 2, 3) }, history(2, 0), []string{"1", "1", "1", "1"}},
		{"who came later and confirmed it", func(w *world) { w.confirm("1", 1); w.refuse("2", 1); w.confirm("2", 2) }, history(2, 0), []string{"2", "1", "2", "2"}},
		{"silence counts", func(w *world) { w.confirm("1", 1); w.say(1, "2", ledger.Overdue, 1) }, history(2, 0), []string{"1", "1", "1", "1"}},
		{"a new release after a refusal", func(w *world) { w.confirm("1", 1); w.refuse("2", 1) }, history(3, 0), []string{"3", "3", "3", "3"}},
	} {
		w := newWorld()
		c.say(w)
		if got := w.chosen(c.h, w.at, 1, 2, 3); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestNothingOlder: whatever else is known, a proxy gets nothing older than what it
// holds: what it confirmed, or may have confirmed elsewhere.
func TestNothingOlder(t *testing.T) {
	at := func(place int64) rollout.Position { return rollout.Position{Place: place} }
	for _, c := range []struct {
		name      string
		say       func(*world)
		withdrawn []int // contents
		has       rollout.Position
		want      string
	}{
		{"the class is held behind what one confirmed", func(w *world) { w.confirm("1", 1, 2, 3); w.confirm("2", 1); w.refuse("2", 2, 3); w.refuse("4", 2, 3) }, nil, rollout.Position{}, "2"},
		{"the class is held behind what one may hold", func(w *world) { w.confirm("1", 1, 2, 3); w.refuse("2", 2, 3); w.refuse("4", 2, 3) }, nil, at(2), "2"},
		{"what one has something of protects no release that is refused", func(w *world) { w.confirm("3", 1, 2, 3); w.refuse("4", 2, 3) }, nil, at(4), "3"},
		{"evidence of another server is missing", func(w *world) { w.confirm("1", 1); w.refuse("4", 1) }, nil, at(4), "3"},
		{"and that was refused too", func(w *world) { w.confirm("1", 1); w.refuse("3", 1); w.refuse("4", 1) }, nil, at(4), "2"},
		{"it says that it has nothing newer", func(w *world) { w.confirm("1", 1); w.refuse("4", 1) }, nil, at(1), "1"},
		{"what it held is withdrawn", func(w *world) { w.confirm("1", 1); w.confirm("2", 1); w.refuse("4", 1) }, []int{2}, rollout.Position{}, "3"},
		{"what it held is withdrawn, what replaced it refused", func(w *world) { w.confirm("1", 1); w.confirm("2", 1); w.refuse("3", 1); w.refuse("4", 1) }, []int{2}, rollout.Position{}, "4"},
		{"a proxy without evidence gets nothing withdrawn", func(w *world) { w.confirm("1", 2); w.confirm("2", 2); w.refuse("4", 1) }, []int{2}, rollout.Position{}, "1"},
		{"nor does a class", func(w *world) {
			w.confirm("1", 2, 3, 4)
			w.confirm("2", 2)
			w.refuse("3", 2, 3, 4)
			w.refuse("4", 3, 4, 2)
		}, []int{2}, rollout.Position{}, "1"},
	} {
		w, h := newWorld(), history(4, 0)
		for _, i := range c.withdrawn {
			h.Withdrawn[i-1] = true
		}
		c.say(w)
		class := rollout.ForClass(h, w.class(), bounds, w.at)
		p := rollout.ForProxy(h, w.class(), rollout.Subject{Instance: who(1), Has: c.has}, class, bounds, w.at)
		if got := h.Contents[p.Content]; got != c.want || (p.Because == nil) != (got == "4") {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, p)
		}
	}
}

// TestRetry: a proxy that failed tries again by itself, later and later; others wait
// for it, and their class is free again when it succeeds or its certificate ends.
func TestRetry(t *testing.T) {
	h := history(2, 0)
	w := newWorld()
	w.confirm("1", 1)
	for attempts, pause := range map[int]time.Duration{1: 15 * time.Second, 2: 30 * time.Second, 3: time.Minute, 6: 8 * time.Minute, 7: 10 * time.Minute, 1000: 10 * time.Minute} {
		w.say(1, "2", ledger.Nacked, attempts)
		for after, want := range map[time.Duration][]string{
			0: {"1", "1", "1"}, pause - 1: {"1", "1", "1"}, pause: {"1", "2", "1"}, -time.Hour: {"2", "2", "2"}, // that clock was wrong
			-pause:      {"1", "2", "1"},                             // another server's clock is
			4*pause - 1: {"1", "2", "1"}, 4 * pause: {"2", "2", "2"}, // it is gone, the others try
		} {
			if got := w.chosen(h, w.at.Add(after), 1, 2); !slices.Equal(got, want) {
				t.Errorf("%s after failure %d: %v, want %v", after, attempts, got, want)
			}
		}
	}
	w.confirm("2", 1)
	if got := w.chosen(h, w.at, 1, 2); !slices.Equal(got, []string{"2", "2", "2"}) {
		t.Errorf("after it succeeded: %v", got)
	}
	w.refuse("2", 1)
	if got := w.chosen(h, w.at, 2); got[1] != "1" {
		t.Errorf("after it failed again: %v", got)
	}
	w.at = epoch.Add(12*time.Hour - time.Second)
	w.refuse("2", 1)
	if got := w.chosen(h, epoch.Add(12*time.Hour), 2); got[1] != "2" {
		t.Errorf("after its certificate ended: %v", got)
	}
}

func TestPositions(t *testing.T) {
	order := []rollout.Position{{}, {Step: 1}, {Place: 1}, {Place: 1, Step: 1}, {Place: 7}, {Rollbacks: 1}, {Rollbacks: 1, Place: 3}}
	for i, a := range order {
		for j, b := range order {
			if got := a.Compare(b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%v and %v: %d", a, b, got)
			}
		}
	}
}

func TestPositionsAreWritten(t *testing.T) {
	for p, want := range map[rollout.Position]string{
		{}: "", {Place: 41}: "15", {Place: 1, Step: 2}: "1-2", {Rollbacks: 3}: "0-0-3", {Rollbacks: 1, Place: 36, Step: 1}: "10-1-1",
	} {
		if got, ok := rollout.ParsePosition(want); p.String() != want || !ok || got != p {
			t.Errorf("%+v: %q, back %+v", p, p.String(), got)
		}
	}
	for _, bad := range []string{"-", "x-", "1-2-3-4", "-1", "+1", "0", "01", "1-0", "1.2", "zzzzzzzzzzzzzzzzzzzz", "1-zzzzzzz", "A"} {
		if p, ok := rollout.ParsePosition(bad); ok {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}

// TestAlways are the rules that hold for any evidence: one proxy among three decides
// for no other; whoever confirmed the newest content has it; nobody gets what he
// failed with within his pause if there is something better; and what narrows is
// never given back to whoever did not fail.
func TestAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, n := newWorld(), rapid.IntRange(1, 5).Draw(t, "contents")
		barrier := rapid.IntRange(0, n).Draw(t, "barrier")
		h := history(n, barrier)
		const proxies = 4
		w.confirm("1", 1, 2, 3, 4)
		for range rapid.IntRange(0, 25).Draw(t, "facts") {
			content, i := fmt.Sprint(rapid.IntRange(1, n).Draw(t, "content")), rapid.IntRange(1, proxies).Draw(t, "proxy")
			w.say(i, content, rapid.SampledFrom([]ledger.State{ledger.Acked, ledger.Nacked, ledger.Overdue}).Draw(t, "state"), 1)
		}
		newest := h.Contents[n-1]
		failing := 0
		for i := 1; i <= proxies; i++ {
			if _, failed := w.class()[who(i)].Failure(newest); failed {
				failing++
			}
		}
		c := rollout.ForClass(h, w.class(), bounds, w.at)
		if held := c.Because != nil; held != (c.Content != n-1) || held && (2*failing <= proxies || c.Content < barrier) {
			t.Fatalf("class at %d of %d because of %d failures, barrier %d", c.Content+1, n, failing, barrier)
		}
		for i := 1; i <= proxies; i++ {
			p := rollout.ForProxy(h, w.class(), rollout.Subject{Instance: who(i)}, c, bounds, w.at)
			rec := w.class()[who(i)]
			_, failed := rec.Failure(newest)
			_, confirmed := rec.Confirmed(newest)
			switch {
			case failed && p.Content == n-1:
				for k := range n - 1 {
					if _, bad := rec.Failure(h.Contents[k]); !bad {
						if _, ok := rec.Confirmed(h.Contents[k]); ok {
							t.Fatalf("proxy %d gets what it failed with, though it confirmed %d", i, k+1)
						}
					}
				}
			case !failed && confirmed && p.Content != n-1:
				t.Fatalf("proxy %d confirmed the newest and gets %d", i, p.Content+1)
			case !failed && p.Content != n-1 && (2*failing <= proxies || p.Content < barrier):
				t.Fatalf("proxy %d gets %d because of %d others, barrier %d", i, p.Content+1, failing, barrier)
			}
		}
	})
}
