package eval

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// Pace is how long both sides of a request take, which no intent can know.
type Pace struct {
	// Pause is how long the sender is silent before the request's end.
	Pause time.Duration
	// After is how long the destination works on each try, from the request's end to its answer.
	After time.Duration
	// Body says that the request has one, which a request with a pause always has.
	Body bool
}

// Bound is how long a part of a request may last before the first proxy answers.
type Bound struct {
	// Feature is the word that says so, "" where it is hop.Silence that nobody has changed.
	Feature string
	Span    space.Span
	After   time.Duration
}

// Bounds are those of requests with an outcome, in the order of its fields. Only what is
// forwarded has any, and what is kept for a while before a proxy answers.
func Bounds(o space.Outcome) []Bound {
	if o.Verdict != space.Forward && !slices.ContainsFunc(o.Partly, func(p space.Partial) bool { return p.Seconds > 0 }) {
		return nil
	}
	var out []Bound
	silence := Bound{Span: space.OfSilence, After: hop.Silence}
	for _, f := range o.Fields {
		if f.Bounds == space.OfSilence {
			silence.After = 0 // is another field, or off
		}
		if f.Bounds == "" || f.Number == 0 {
			continue
		}
		b := Bound{Feature: f.Feature, Span: f.Bounds, After: time.Duration(f.Number * float64(time.Second))}
		if b.Span == space.OfAnswer && silence.After > 0 {
			silence.After = max(silence.After, b.After) // a longer wait for an answer is no silence
		}
		out = append(out, b)
	}
	if silence.After > 0 {
		out = append(out, silence)
	}
	return out
}

// Statuses are the answers of o's first proxy in place of what is too long: to a request that the proxy has whole, and
// to one that has not ended, 0 if the bound does not count there.
func (b Bound) Statuses(o space.Outcome) (whole, before int) {
	if b.Span == space.OfSilence || b.Span == space.OfStream {
		return o.Said(gatewayTimeout), o.Said(requestTimeout)
	}
	return o.Said(gatewayTimeout), 0
}

// ToGRPC is an outcome for a request of gRPC, which is told a status of its own in place of each answer: none is replaced.
func ToGRPC(o space.Outcome, q space.Request) space.Outcome {
	if slices.ContainsFunc(q.Headers, func(h space.Header) bool {
		return strings.EqualFold(h.Name, "content-type") && strings.HasPrefix(h.Value, "application/grpc")
	}) {
		o.Instead = nil
	}
	return o
}

// Of is what becomes of a request for which Decide says a: in place of what lasts too long the
// first proxy answers, with 504 if it has the whole request and else with 408, or what is said instead. It is about
// requests, not about connections. What lasts exactly as long as it may is too long, because a
// proxy begins to count before its destination does.
func (p Pace) Of(a space.Answer, q space.Request) space.Answer {
	t := times{Pace: p, bounds: Bounds(a.Outcome), endless: q.Upgrade != "", said: a.Outcome.Said}
	met := a.Outcome.Partly
	a.Outcome.Partly = nil
	all := []wait{{share: 100}}
	for _, m := range met {
		if m.Seconds == 0 {
			a.Outcome.Partly = append(a.Outcome.Partly, m)
			if m.Ends() {
				return a
			}
			continue
		}
		var next []wait
		for _, w := range all {
			goes := w
			goes.share, w.share = w.share*(100-m.Percent)/100, w.share*m.Percent/100
			if goes.share > 0 {
				next = append(next, goes)
			}
			w.kept = append(slices.Clip(w.kept), w.sent()+time.Duration(m.Seconds*float64(time.Second)))
			next = append(next, t.end(w, false))
		}
		if all = settle(&a, next, lapse.everybody); len(all) == 0 {
			return a
		}
	}
	if a.Outcome.Verdict != space.Forward {
		return a
	}
	for i, w := range all {
		all[i] = t.end(w, true)
	}
	settle(&a, all, lapse.passedOn)
	return a
}

// wait is a share of the requests that wait equally long.
type wait struct {
	share float64 // in percent
	// kept are the moments from the request's beginning at which what keeps it lets it go.
	kept []time.Duration
	over lapse
}

// sent is when the proxy begins to pass a request on.
func (w wait) sent() time.Duration {
	if len(w.kept) == 0 {
		return 0
	}
	return w.kept[len(w.kept)-1]
}

// settle answers those of the requests whose time is over, and returns the others. instead is what
// a lapse makes of all requests that are left.
func settle(a *space.Answer, all []wait, instead func(lapse, space.Answer) space.Answer) []wait {
	var left, over []wait
	whole := 0.0
	for _, w := range all {
		whole += w.share
		i := slices.IndexFunc(over, func(o wait) bool { return o.over.status == w.over.status && o.over.bound == w.over.bound })
		switch {
		case w.over.status == 0:
			left = append(left, w)
		case i < 0:
			over = append(over, w)
		default:
			over[i].share += w.share
		}
	}
	for i, w := range over {
		if len(left) == 0 && i == len(over)-1 {
			*a = instead(w.over, *a)
			break
		}
		a.Outcome.Partly = append(a.Outcome.Partly, space.Partial{Feature: cmp.Or(w.over.bound.Feature, ByProxy), Status: w.over.status, Percent: 100 * w.share / whole})
		whole -= w.share
	}
	return left
}

// lapse is the moment at which a bound is reached; status 0 is never.
type lapse struct {
	at     time.Duration // from the request's beginning
	status int
	bound  Bound
	why    string
}

// times are what counts for one request. One that changes its connection's protocol has no end
// (endless).
type times struct {
	Pace
	bounds  []Bound
	endless bool
	// said is what the proxy says of a status.
	said func(status int) int
}

// end is a wait with the first of the bounds that it reaches: until its destination has answered, or
// else until it is passed on.
func (t times) end(w wait, answered bool) wait {
	begin, end := w.sent(), w.sent()
	if answered {
		begin = max(t.Pause, w.sent()) // the destination has it whole
		end = begin + t.After
	}
	for _, b := range t.bounds {
		at, reached := time.Duration(0), false
		switch b.Span {
		case space.OfAnswer, space.OfTry:
			at, reached = begin+b.After, answered && b.After <= t.After
		case space.OfStream:
			at, reached = b.After, b.After <= end
		case space.OfSilence:
			at, reached = t.silent(w, b.After, end)
		}
		if reached && (w.over.status == 0 || at < w.over.at) {
			w.over = t.lapse(b, at, w)
		}
	}
	return w
}

// silent is when nothing has moved for so long on a request that is there until end. What moves is
// its head, the end of its body, and a body that has come while it was kept.
func (t times) silent(w wait, bound, end time.Duration) (at time.Duration, reached bool) {
	moves := []time.Duration{0}
	if t.Pause > 0 {
		moves = append(moves, t.Pause)
	}
	for _, k := range w.kept {
		if (t.Pause > 0 || t.Body) && t.Pause <= k {
			moves = append(moves, k)
		}
	}
	slices.Sort(moves)
	for i, m := range moves {
		next := end
		if i+1 < len(moves) {
			next = min(moves[i+1], end)
		}
		if m+bound <= next {
			return m + bound, true
		}
	}
	return 0, false
}

// lapse is what a bound does that is reached. Of a request without an end Envoy says that it has not
// all of it, but where it counts from the end (Http::Utility::maybeRequestTimeoutCode).
func (t times) lapse(b Bound, at time.Duration, w wait) lapse {
	l := lapse{at: at, status: gatewayTimeout, bound: b}
	counts := b.Span == space.OfAnswer || b.Span == space.OfTry
	if !counts && (t.endless || at <= t.Pause) {
		l.status = requestTimeout
	}
	l.status = t.said(l.status)
	kept := ""
	if sent := w.sent(); sent > 0 {
		kept = fmt.Sprintf("it is kept for %s, ", sent)
	}
	switch {
	case !counts && at <= t.Pause:
		l.why = fmt.Sprintf("its sender is silent for %s, and %s ends after %s", t.Pause, b.what(), b.After)
	case at <= w.sent():
		l.why = fmt.Sprintf("%sand %s ends after %s", kept, b.what(), b.After)
	default:
		l.why = fmt.Sprintf("%sits answer takes %s, and %s ends after %s", kept, t.After, b.what(), b.After)
	}
	return l
}

// what is bounded, in words.
func (b Bound) what() string {
	switch b.Span {
	case space.OfAnswer:
		return "waiting for it"
	case space.OfTry:
		return "each try"
	case space.OfStream:
		return "the request"
	default:
		return "silence"
	}
}

// everybody has the answer of the first proxy, whatever would have become of the request.
func (l lapse) everybody(a space.Answer) space.Answer {
	a.Why = l.why
	a.Outcome.Verdict, a.Outcome.Status, a.Outcome.By, a.Outcome.Path, a.Outcome.Shares = space.Answered, l.status, cmp.Or(l.bound.Feature, ByProxy), nil, nil
	return a
}

// passedOn are those who have the first proxy's answer of the requests that are passed on: who is
// refused behind waits for nothing.
func (l lapse) passedOn(a space.Answer) space.Answer {
	if !slices.ContainsFunc(a.Outcome.Shares, func(s space.Share) bool { return s.Status != 0 }) {
		return l.everybody(a)
	}
	a.Why = l.why
	a.Outcome.Shares = slices.Clone(a.Outcome.Shares)
	for i, s := range a.Outcome.Shares {
		a.Outcome.Shares[i].Status = cmp.Or(s.Status, l.status)
	}
	return a
}
