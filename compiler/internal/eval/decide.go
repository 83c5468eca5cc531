package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// Decide returns what becomes of q in scope d and which pieces of the mesh
// decided it. q.Path must be normalised (Normalise).
func Decide(d space.Decision, q space.Request) space.Answer {
	if r, plain := First(d.Plain, q); plain {
		switch {
		case q.Upgrade == "" || r.Handshake:
		case !(space.Share{Upgrades: d.PlainUpgrades}).Upgradable(q.Upgrade):
			return space.Answer{Outcome: space.Refused(), From: d.Plain[len(d.Plain)-1].From, Inside: true, Why: "the service lets no connection change to " + q.Upgrade}
		case q.Method != "GET" && r.Then.Verdict == space.Forward:
			return byGet(r, q)
		}
		return answerOf(r, q)
	}
	if q.Upgrade != "" {
		if a, ok := notUpgraded(d, q); ok {
			return a
		}
	}
	r, ok := First(d.Effective, q)
	if !ok {
		return space.Answer{Outcome: space.NotRouted()}
	}
	return answerOf(r, q)
}

// answerOf is the answer of the rule that takes a request.
func answerOf(r space.Rule, q space.Request) space.Answer {
	if q.Upgrade == "" {
		return space.Answer{Outcome: r.Then, From: r.From, Inside: r.Inside, Handshake: r.Handshake, Image: r.Image}
	}
	return upgraded(r, q)
}

// Unasked is what the callee's proxy says to who has none and asks what no route takes, such as CONNECT: access stands
// at routes, and without one nobody is let in.
func Unasked(d space.Decision) space.Answer {
	return space.Answer{Outcome: space.Refused(), From: d.Plain[len(d.Plain)-1].From, Inside: true}
}

// Closed reports whether the handshake ends every connection of the caller, whatever it asks.
func Closed(d space.Decision, caller string) bool {
	r, ok := First(d.Plain, space.Request{From: caller})
	return ok && r.Handshake && !slices.ContainsFunc(r.When, func(t space.Test) bool { return t.Dim != space.IdentityDim })
}

// notUpgraded refuses a request that wants to change its connection to what its route does
// not let through, before anything else of the route acts. Where no route takes it, that is
// the answer.
func notUpgraded(d space.Decision, q space.Request) (space.Answer, bool) {
	first := q
	if d.Again { // the filters that are to let it pass are those of the first choice
		first.Users = nil
	}
	i := slices.IndexFunc(d.Routes, func(r space.Rule) bool { return space.Matches(r.When, first) })
	if i < 0 || i == len(d.Routes)-1 && !d.Again { // the last is what no route takes
		return space.Answer{}, false
	}
	r := d.Routes[i]
	if slices.ContainsFunc(r.Then.Shares, func(s space.Share) bool { return s.Upgradable(q.Upgrade) }) {
		if q.Method == "GET" {
			return space.Answer{}, false
		}
		return byGet(r, q), true
	}
	return space.Answer{Outcome: space.Refused(), From: r.From, Why: "the route lets no connection change to " + q.Upgrade}, true
}

// byGet refuses a request that wants to change its connection by another method than GET.
func byGet(r space.Rule, q space.Request) space.Answer {
	return space.Answer{Outcome: space.Refused(), From: r.From, Why: "connections change to " + q.Upgrade + " by GET, not by " + q.Method}
}

// upgraded is the answer of a rule to such a request that its route lets through: of its
// destinations some may refuse it.
func upgraded(r space.Rule, q space.Request) space.Answer {
	a := space.Answer{Outcome: r.Then, From: r.From, Inside: r.Inside, Handshake: r.Handshake, Image: r.Image}
	a.Outcome.Shares = slices.Clone(r.Then.Shares)
	passed := len(a.Outcome.Shares) == 0
	for i, s := range a.Outcome.Shares {
		if s.Status == 0 && !s.Upgradable(q.Upgrade) {
			a.Outcome.Shares[i].Status = space.Refused().Status
			a.Why = "the service lets no connection change to " + q.Upgrade
		}
		passed = passed || a.Outcome.Shares[i].Status == 0
	}
	if !passed {
		a.Outcome.Verdict, a.Outcome.Status, a.Outcome.Shares = space.Denied, space.Refused().Status, nil
		a.Inside = true
	}
	return a
}

// First returns the first rule of l that matches q.
func First(l space.List, q space.Request) (space.Rule, bool) {
	for _, r := range l {
		if space.Matches(r.When, q) {
			return r, true
		}
	}
	return space.Rule{}, false
}
