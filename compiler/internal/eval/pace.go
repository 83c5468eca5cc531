package eval

import (
	"cmp"
	"fmt"
	"slices"
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
}

// Bound is how long a part of a request may last before the first proxy answers.
type Bound struct {
	// Feature is the word that says so, "" where it is hop.Silence that nobody has changed.
	Feature string
	Span    space.Span
	After   time.Duration
}

// Bounds are those of requests with an outcome, in the order of its fields. Only what is
// forwarded has any.
func Bounds(o space.Outcome) []Bound {
	if o.Verdict != space.Forward {
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

// Statuses are the answers in place of what is too long: to a request that the proxy has whole, and
// to one that has not ended, 0 if the bound does not count there.
func (b Bound) Statuses() (whole, before int) {
	if b.Span == space.OfSilence || b.Span == space.OfStream {
		return gatewayTimeout, requestTimeout
	}
	return gatewayTimeout, 0
}

// Of is what becomes of a request for which Decide says a: in place of what lasts too long the
// first proxy answers, with 504 if it has the whole request and else with 408. It is about
// requests, not about connections. What lasts exactly as long as it may is too long, because a
// proxy begins to count before its destination does.
func (p Pace) Of(a space.Answer, q space.Request) space.Answer {
	var first lapse
	for _, b := range Bounds(a.Outcome) {
		if l := p.beyond(b, q.Upgrade != ""); l.status != 0 && (first.status == 0 || l.at < first.at) {
			first = l
		}
	}
	if first.status == 0 {
		return a
	}
	return first.instead(a)
}

// lapse is the moment at which a bound is reached; status 0 is never.
type lapse struct {
	at     time.Duration // from the request's beginning
	status int
	bound  Bound
	why    string
}

// beyond is when a bound is reached. A request that changes its connection's protocol has no
// end: what counts from there counts from its head, and of what does not Envoy says that it has
// not all of it (Http::Utility::maybeRequestTimeoutCode).
func (p Pace) beyond(b Bound, endless bool) lapse {
	from := time.Duration(0) // since when it counts
	switch b.Span {
	case space.OfAnswer, space.OfTry:
		from, endless = p.Pause, false
	case space.OfSilence, space.OfStream:
		if b.After <= p.Pause {
			return lapse{b.After, requestTimeout, b, fmt.Sprintf("its sender is silent for %s, and %s ends after %s", p.Pause, b.what(), b.After)}
		}
		if b.Span == space.OfSilence {
			from = p.Pause
		}
	}
	if from+b.After > p.Pause+p.After {
		return lapse{}
	}
	status := gatewayTimeout
	if endless {
		status = requestTimeout
	}
	return lapse{from + b.After, status, b, fmt.Sprintf("its answer takes %s, and %s ends after %s", p.After, b.what(), b.After)}
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

// instead is the answer of the first proxy to those requests that are passed on.
func (l lapse) instead(a space.Answer) space.Answer {
	a.Why = l.why
	refused := func(s space.Share) bool { return s.Status != 0 }
	if slices.ContainsFunc(a.Outcome.Shares, refused) { // who is refused behind waits for nothing
		a.Outcome.Shares = slices.Clone(a.Outcome.Shares)
		for i, s := range a.Outcome.Shares {
			a.Outcome.Shares[i].Status = cmp.Or(s.Status, l.status)
		}
		return a
	}
	a.Outcome.Verdict, a.Outcome.Status, a.Outcome.By, a.Outcome.Shares = space.Answered, l.status, cmp.Or(l.bound.Feature, ByProxy), nil
	return a
}
