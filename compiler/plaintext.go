package compiler

import (
	"cmp"
	"maps"
	"slices"
)

// PlaintextCaller is one address from which requests came to a service without a certificate, and
// what became of those that one rule decided.
type PlaintextCaller struct {
	// To is the service: "shop/app".
	To string `json:"to"`
	// Owner answers for the service, as its proxy had it.
	Owner string `json:"owner,omitempty"`
	// Client is the address of the connection, "" where the line has none.
	Client   string `json:"client,omitempty"`
	Requests int    `json:"requests"`
	// First and Last are the times of the first and the last of them (RFC 3339).
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	// Verdict is "let in", "denied", "not granted", or "" where no rule was asked.
	Verdict string `json:"verdict,omitempty"`
	// Rule is the line of the intent that let them in or refused them.
	Rule *Mentioned `json:"rule,omitempty"`
}

// PlaintextCallers are those of a log, for whom strict mTLS would close the door.
type PlaintextCallers struct {
	// Release is the digest of the release that the intent compiles to.
	Release string            `json:"release"`
	Callers []PlaintextCaller `json:"callers"`
	// Requests are all that proxies of services wrote, with a certificate or without.
	Requests int `json:"requests"`
	// First and Last are the times of the first and the last of them (RFC 3339).
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	// Other is how many lines are none that a proxy of the mesh writes.
	Other int `json:"other,omitempty"`

	callers map[plaintextKey]*PlaintextCaller
}

type plaintextKey struct{ to, client, verdict, rule string }

// Add counts a line. Those of gateways say nothing of mTLS: visitors have no identity of the mesh.
func (c *PlaintextCallers) Add(l Logged) {
	if l.gateway {
		return
	}
	c.Requests++
	span(&c.First, &c.Last, l.Time)
	if l.Caller != "" {
		return
	}
	k := plaintextKey{to: l.By, client: l.Client, verdict: l.Verdict}
	if l.rule != nil {
		k.rule = l.rule.Path
	}
	one := c.callers[k]
	if one == nil {
		one = &PlaintextCaller{To: l.By, Owner: l.Owner, Client: l.Client, Verdict: l.Verdict, Rule: l.rule}
		if c.callers == nil {
			c.callers = map[plaintextKey]*PlaintextCaller{}
		}
		c.callers[k] = one
	}
	one.Requests++
	span(&one.First, &one.Last, l.Time)
}

// Done sorts the callers, by service, address and rule.
func (c *PlaintextCallers) Done() {
	c.Callers = []PlaintextCaller{}
	for _, k := range slices.SortedFunc(maps.Keys(c.callers), func(a, b plaintextKey) int {
		return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.client, b.client), cmp.Compare(a.rule, b.rule), cmp.Compare(a.verdict, b.verdict))
	}) {
		c.Callers = append(c.Callers, *c.callers[k])
	}
}

// span widens first and last to an instant. They are written alike, so that texts compare as times do.
func span(first, last *string, at string) {
	if at == "" {
		return
	}
	if *first == "" || at < *first {
		*first = at
	}
	*last = max(*last, at)
}
