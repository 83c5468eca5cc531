// Package rollout decides which of the approved contents of a class a proxy gets.
//
// In: the contents that were approved for the class, oldest first; what its proxies
// said of them (package evidence); bounds; the time. Out: a content for the class,
// and one for each of its proxies. Everything is a function of these arguments, so
// that servers with the same evidence decide the same.
//
// What always holds:
//   - Only approved contents are chosen, and the newest one unless evidence says
//     otherwise.
//   - A proxy that failed with a content is held at the newest one that it holds, and
//     tries again after a pause that doubles, up to a bound.
//   - No proxy gets a content that is older than the newest one that it holds: one that
//     it confirmed as a whole, or, where evidence may be missing, that is no newer than
//     what it has something of. What lies between is sent forward, never back. The
//     exception is a content that it failed with after it had confirmed it.
//   - Others of its class are held only when more than a share of the class's proxies
//     fails, and never where that would keep up what a later approval took away
//     (narrowing) or what has ended. Who confirmed the newest content keeps it.
//     When those who failed no longer try, the others do.
package rollout

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/xds-server/internal/evidence"
)

// Position orders approved releases: by signed rollbacks, then by the place in the
// history, then by the step of the approval, of which later ones follow an expiry.
type Position struct {
	Rollbacks, Place int64
	Step             int
}

// Compare orders positions.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Rollbacks, q.Rollbacks), cmp.Compare(p.Place, q.Place), cmp.Compare(p.Step, q.Step))
}

// String writes a position with letters, digits and hyphens: the place, and what is
// not zero of step and rollbacks behind it. The zero Position is "".
func (p Position) String() string {
	const base = 36
	if p == (Position{}) {
		return ""
	}
	s := strconv.FormatInt(p.Place, base)
	if p.Step != 0 || p.Rollbacks != 0 {
		s += "-" + strconv.FormatInt(int64(p.Step), base)
	}
	if p.Rollbacks != 0 {
		s += "-" + strconv.FormatInt(p.Rollbacks, base)
	}
	return s
}

// ParsePosition is the inverse of String; false for a text that it does not write.
func ParsePosition(s string) (Position, bool) {
	const base = 36
	var n [3]int64
	parts := strings.Split(s, "-")
	if s == "" || len(parts) > len(n) {
		return Position{}, s == ""
	}
	for i, part := range parts {
		v, err := strconv.ParseInt(part, base, 64)
		if err != nil || v < 0 || i == 1 && v > math.MaxInt32 {
			return Position{}, false
		}
		n[i] = v
	}
	p := Position{Place: n[0], Step: int(n[1]), Rollbacks: n[2]}
	return p, p.String() == s
}

// Bounds say when evidence counts for more than the proxy that gave it.
type Bounds struct {
	// Share of a class's proxies, in (0, 1], above which failures hold the class;
	// default 0.5: more than half.
	Share float64
	// FirstRetry is when a proxy that failed tries again, default 15 s; each further
	// failure doubles it, up to LastRetry, default 10 min.
	FirstRetry, LastRetry time.Duration
}

// WithDefaults fills the zero fields.
func (b Bounds) WithDefaults() Bounds {
	b.Share = cmp.Or(b.Share, 0.5)
	b.FirstRetry = cmp.Or(b.FirstRetry, 15*time.Second)
	b.LastRetry = cmp.Or(b.LastRetry, 10*time.Minute)
	return b
}

// Pause is how long after its so manieth failure a proxy waits.
func (b Bounds) Pause(failures int) time.Duration {
	const many = 30
	d := b.FirstRetry
	for range min(failures, many) - 1 {
		d = min(2*d, b.LastRetry)
	}
	return min(d, b.LastRetry)
}

// History is what was approved for a class.
type History struct {
	// Contents are digests, oldest first; the last is approved now. None stands twice.
	Contents []string
	// Positions say since when each is approved.
	Positions []Position
	// Withdrawn tells of each whether a signed rollback went back from it. Nobody gets
	// it; who holds it may go back as far as that rollback did.
	Withdrawn []bool
	// Narrows tells whether going back from the last content to the one with that
	// index would give back what was taken away: access, or what has ended. It is
	// true also if that is not known.
	Narrows func(to int) bool
}

func (h History) last() int { return len(h.Contents) - 1 }

// Class is the decision for a class.
type Class struct {
	// Content is the index of what its proxies get.
	Content int
	// Because is the newest failure of those that hold the class at an earlier content,
	// nil if it is not held.
	Because *evidence.Receipt
	// Until is when they no longer count, unless one of those proxies tries again.
	Until time.Time
}

// Holds tells whether the class is still held at now.
func (c Class) Holds(b Bounds, now time.Time) bool {
	return c.Because != nil && b.counts(*c.Because, now)
}

// ForClass decides for the proxies of a class that said nothing themselves.
func ForClass(h History, c evidence.Class, b Bounds, now time.Time) Class {
	last := h.last()
	because := refused(h.Contents[last], c, b, now)
	if because == nil {
		return Class{Content: last}
	}
	for i := last - 1; i >= 0; i-- {
		if h.Narrows(i) {
			break // what is older gives back even more
		}
		if !h.Withdrawn[i] && proven(h.Contents[i], c) && refused(h.Contents[i], c, b, now) == nil {
			return Class{Content: i, Because: because, Until: b.lapse(*because)}
		}
	}
	return Class{Content: last}
}

// pauses is after how many of its pauses a failure no longer counts for others than its
// proxy: long after that would have tried again, if it still ran.
const pauses = 4

// lapse is when a failure no longer counts for others.
func (b Bounds) lapse(r evidence.Receipt) time.Time { return r.At.Add(pauses * b.Pause(r.Attempts)) }

// longest is how far away the lapse of a failure can be. Servers' clocks differ a
// little; one that is further away is of a clock that has been set back since.
func (b Bounds) longest(r evidence.Receipt) time.Duration {
	return (pauses + 1) * b.Pause(r.Attempts)
}

// counts tells whether a failure counts for others than its proxy.
func (b Bounds) counts(r evidence.Receipt, now time.Time) bool {
	left := b.lapse(r).Sub(now)
	return left > 0 && left <= b.longest(r)
}

// refused returns the newest failure with the content if more than the share of the
// class's proxies failed with it. Who joined since the first of these failures and
// was never given the content says nothing about it, and does not count.
func refused(content string, c evidence.Class, b Bounds, now time.Time) *evidence.Receipt {
	var newest *evidence.Receipt
	var first time.Time
	failed := 0
	for who, rec := range c {
		r, ok := rec.Failure(content)
		if !ok || !rec.Member(now) {
			continue
		}
		failed++
		if first.IsZero() || r.Since.Before(first) {
			first = r.Since
		}
		if newest == nil || r.At.After(newest.At) || r.At.Equal(newest.At) && who < newest.Instance {
			newest = &r
		}
	}
	if failed == 0 || !b.counts(*newest, now) {
		return nil
	}
	members := 0
	for _, rec := range c {
		if rec.Member(now) && (rec.Says(content) || rec.Before(first)) {
			members++
		}
	}
	if float64(failed) <= b.Share*float64(members) {
		return nil
	}
	return newest
}

// proven tells whether some proxy has confirmed the content.
func proven(content string, c evidence.Class) bool {
	for _, rec := range c {
		if _, ok := rec.Confirmed(content); ok {
			if _, failed := rec.Failure(content); !failed {
				return true
			}
		}
	}
	return false
}

// Subject is a proxy to decide for.
type Subject struct {
	Instance evidence.Instance
	// Has is the newest position that it had something of when it came. What it
	// confirmed to other servers, or in words that were lost, is no newer than that.
	Has Position
}

// Proxy is the decision for one proxy.
type Proxy struct {
	// Content is the index of what it gets.
	Content int
	// Because is the failure that holds it at an earlier content, its own or one of
	// its class; nil if it is not held.
	Because *evidence.Receipt
	// Retry is when that failure no longer counts; zero if it is not held. It is not
	// further away than Longest, unless the clock has been set back.
	Retry   time.Time
	Longest time.Duration
}

// ForProxy decides for one proxy, given the decision for its class.
func ForProxy(h History, c evidence.Class, who Subject, class Class, b Bounds, now time.Time) Proxy {
	rec, last := c[who.Instance], h.last()
	if f, failed := rec.Failure(h.Contents[last]); failed {
		return own(h, c, who, f, b, now)
	}
	if _, ok := rec.Confirmed(h.Contents[last]); ok {
		return Proxy{Content: last}
	}
	if !class.Holds(b, now) {
		return Proxy{Content: last}
	}
	if i := max(class.Content, h.heldBy(rec, who.Has)); i < last {
		return Proxy{Content: i, Because: class.Because, Retry: class.Until, Longest: b.longest(*class.Because)}
	}
	return Proxy{Content: last}
}

// own decides for a proxy that failed with the newest content.
func own(h History, c evidence.Class, who Subject, f evidence.Receipt, b Bounds, now time.Time) Proxy {
	rec, last := c[who.Instance], h.last()
	pause := b.Pause(f.Attempts)
	retry := f.At.Add(pause)
	// A time in the far future is one that a clock gave which has been set back since.
	if !now.Before(retry) || retry.Sub(now) > pause {
		return Proxy{Content: last}
	}
	switch i := h.heldBy(rec, who.Has); i {
	case last:
		return Proxy{Content: last}
	case -1:
	default:
		return Proxy{Content: i, Because: &f, Retry: retry, Longest: pause}
	}
	for i := last - 1; i >= 0; i-- {
		if _, failed := rec.Failure(h.Contents[i]); !failed && !h.Withdrawn[i] && proven(h.Contents[i], c) {
			return Proxy{Content: i, Because: &f, Retry: retry, Longest: pause}
		}
	}
	return Proxy{Content: last} // there is nothing to go back to
}

// heldBy returns the newest content before the last that the proxy holds, or may
// hold, and did not fail with since; -1 if there is none. If that one is withdrawn, it
// is the next one that is not, and at the latest the last: what is older was not signed
// to be gone back to.
func (h History) heldBy(rec evidence.Record, has Position) int {
	next := h.last()
	for i := h.last() - 1; i >= 0; i-- {
		_, confirmed := rec.Confirmed(h.Contents[i])
		_, failed := rec.Failure(h.Contents[i])
		if failed {
			continue
		}
		if !h.Withdrawn[i] {
			next = i
		}
		if confirmed || (has != Position{} && h.Positions[i].Compare(has) <= 0) {
			return next
		}
	}
	return -1
}
