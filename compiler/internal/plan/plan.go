// Package plan says what a change of a mesh means: what requests are treated
// differently, who may now do what, which proxies are touched.
//
// In: two meshes, the features' meanings and words. Out: a Plan, plain data
// that encodes as JSON and renders as text and markdown.
//
// Invariants: every line about requests is proved for all requests (package
// prove) and carries a witness that was run again through package eval on both
// sides; what could not be compared is a line of its own, above all others, and
// never neutral; a feature without a Word is not compared; the order of lines
// does not depend on the order of input.
package plan

import (
	"cmp"
	"slices"
	"time"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Kind says what a line is about.
type Kind string

// The kinds of line.
const (
	KindAccess  Kind = "access"  // who may do what
	KindRoute   Kind = "route"   // where requests go
	KindFeature Kind = "feature" // what happens to them on the way
	KindMTLS    Kind = "mtls"    // a port's mode
	KindCall    Kind = "call"    // who calls whom, egress included
	KindGateway Kind = "gateway" // a gateway or one of its hosts
	KindService Kind = "service" // a service, version, port or external
	KindAddress Kind = "address" // endpoints and listeners
	KindRetries Kind = "retries" // worst case of retries along calls
	KindMesh    Kind = "mesh"    // what holds for the whole mesh
	KindPolicy  Kind = "policy"  // a rule beside the intent
	KindRule    Kind = "rule"    // what is let through in a cluster although a rule refuses it
	KindLoss    Kind = "loss"    // what a target's objects do not say, beside Envoy's configuration
	KindOwner   Kind = "owner"   // whose a namespace is, and what its owner lets others do
)

// Plan is what changes between two meshes.
type Plan struct {
	// Verdict is the worst class of all lines, those of steps included, "" if nothing changes.
	Verdict Class `json:"verdict"`
	// OverBudget says that some line is not compared because of a limit (exit
	// code 5 whatever else was asked for).
	OverBudget bool   `json:"over_budget,omitempty"`
	Blast      Blast  `json:"blast"`
	Lines      []Line `json:"lines,omitempty"`
	// Steps are later instants at which either side changes by itself, in order.
	Steps []Step `json:"steps,omitempty"`
	// Places are where the mesh paths of lines stand in the intent. Compare knows none.
	Places Places `json:"places,omitzero"`
}

// Places are positions by the mesh paths of each side.
type Places struct {
	Before map[space.Origin]diag.Pos `json:"before,omitempty"`
	After  map[space.Origin]diag.Pos `json:"after,omitempty"`
}

// Step is what holds once something of either side has ended.
type Step struct {
	// After is the last instant at which it is in force.
	After time.Time `json:"after"`
	// Lines say what differs between both sides from then on, of what is not told for
	// the instant before.
	Lines []Line `json:"lines,omitempty"`
	// Ends say what then changes by itself on the second side. They are no part of what
	// differs between both.
	Ends []Line `json:"ends,omitempty"`
}

// AddStep adds the next step; over says that some line of it is over budget.
func (p *Plan) AddStep(s Step, over bool) {
	p.Steps = append(p.Steps, s)
	p.OverBudget = p.OverBudget || over
	for _, l := range s.Lines {
		p.Verdict = Worst(p.Verdict, l.Class)
	}
}

// Line is one change in words.
type Line struct {
	Class Class `json:"class"`
	Kind  Kind  `json:"kind"`
	// Text says it in a sentence, which is made of the other fields.
	Text string `json:"text"`
	// Says is what changes.
	Says Change `json:"says"`
	// Feature is the name of the feature that it is about, "" if none.
	Feature string `json:"feature,omitempty"`
	// At are the scopes of requests that it holds for, in the order of Scopes; empty
	// where the line is not about requests.
	At []space.Scope `json:"at,omitempty"`
	// Requests say which it is about, of all that go to these scopes: those of any part.
	// Of a change of access, Access does.
	Requests []Part `json:"requests,omitempty"`
	// Access is what a change of access gives or takes, and whom.
	Access *Access `json:"access,omitempty"`
	// Scopes are the services and gateway hosts that it holds for, sorted.
	Scopes []string `json:"scopes"`
	// Code says that running workloads are refused while the change goes round: the same in Steps does not. "" if it is none
	// of that kind.
	Code diag.Code `json:"code,omitempty"`
	// Steps are the commits that come to the same, or those that are left, each with what has to hold before the next one.
	Steps []string `json:"in_steps,omitempty"`
	// Tries say what becomes of the worst case of retries at these, in their order.
	Tries []Tries `json:"tries,omitempty"`
	// Witness is a request whose outcome changes; nil where requests do not show it.
	Witness *Witness `json:"witness,omitempty"`
	// Before and After are the mesh paths that decide on each side: keys of each
	// side's provenance.
	Before []space.Origin `json:"before,omitempty"`
	After  []space.Origin `json:"after,omitempty"`
}

// Tries is how many requests one can become at a service in the worst case, along all calls
// that lead there.
type Tries struct {
	To     string `json:"to"`
	Before int    `json:"before"`
	After  int    `json:"after"`
}

// Part is a set of requests: those for which all of When holds and none of Except.
type Part struct {
	When   []space.Test   `json:"when,omitempty"`
	Except [][]space.Test `json:"except,omitempty"`
	// More is how many further exceptions there are.
	More int `json:"more,omitempty"`
}

// Witness is a request to one scope with what becomes of it on both sides.
type Witness struct {
	Scope   space.Scope   `json:"scope"`
	Request space.Request `json:"request"`
	// Caller is who the request is from, in the intent's words.
	Caller string        `json:"caller"`
	Before space.Outcome `json:"before"`
	After  space.Outcome `json:"after"`
	// Direct says that the request is put to the destination's proxy itself, past the
	// caller's own routes; Before and After are then what that proxy says.
	Direct bool `json:"direct,omitempty"`
	// Uncalled says that no service with the caller's identity calls the destination: its own
	// proxy lets it ask as soon as one does.
	Uncalled bool `json:"uncalled,omitempty"`
	// FromBefore is the caller's identity before, if it has another one after.
	FromBefore string `json:"from_before,omitempty"`
}

// Access is one gain or loss of access, the same at all of a line's scopes.
type Access struct {
	Gained bool `json:"gained"`
	// Callers are all who gain or lose it.
	Callers []Caller `json:"callers"`
	// Except are callers of Callers that are not meant.
	Except []Caller `json:"except,omitempty"`
	// Rough says that only some of Except are not meant: intent has no words for which.
	Rough bool `json:"rough,omitempty"`
	// Methods and Paths are what they may ask, or no longer, Conditions what else must hold.
	Methods    prove.Set    `json:"methods"`
	Paths      prove.Set    `json:"paths"`
	Conditions []space.Test `json:"conditions,omitempty"`
	// Each says who it is at which scope, where that is not the same for all.
	Each []AccessAt `json:"each,omitempty"`
}

// AccessAt is who gains or loses access at one scope.
type AccessAt struct {
	At      space.Scope `json:"at"`
	Callers []Caller    `json:"callers"`
	Except  []Caller    `json:"except,omitempty"`
	Rough   bool        `json:"rough,omitempty"`
}

// Blast is what a change touches. All sorted.
type Blast struct {
	// Proxies are the proxy classes that are served other bytes. Compare sees no
	// bytes and leaves it to who compares the releases.
	Proxies  []string `json:"proxies,omitempty"`
	Services []string `json:"services,omitempty"`
	Callers  []string `json:"callers,omitempty"`
	Gateways []string `json:"gateways,omitempty"`
	// Series is about how many series of metrics the proxies have, if that changes. Compare knows
	// none.
	Series *Series `json:"series,omitempty"`
}

// Series is a number of series on both sides: of one proxy of each kind, for how many there are
// is not in the intent.
type Series struct {
	Before int `json:"before"`
	After  int `json:"after"`
}

// Locate fills Places in.
func (p *Plan) Locate(before, after func(space.Origin) diag.Pos) {
	p.Places = Places{Before: map[space.Origin]diag.Pos{}, After: map[space.Origin]diag.Pos{}}
	note := func(to map[space.Origin]diag.Pos, at func(space.Origin) diag.Pos, paths []space.Origin) {
		for _, o := range paths {
			if pos := at(o); pos.File != "" {
				to[o] = pos
			}
		}
	}
	both := func(ls []Line) {
		for _, l := range ls {
			note(p.Places.Before, before, l.Before)
			note(p.Places.After, after, l.After)
		}
	}
	both(p.Lines)
	for _, s := range p.Steps {
		both(s.Lines)
		for _, l := range s.Ends { // of the second side alone
			note(p.Places.After, after, slices.Concat(l.Before, l.After))
		}
	}
}

// Changed reports whether behaviour changes, or may, now or later.
func (p Plan) Changed() bool { return p.Verdict != Nothing }

// rank orders classes by how much they gate, the worst first.
func rank(c Class) int {
	return slices.Index([]Class{NotCompared, Widening, Narrowing, Weakening, Neutral}, c)
}

// Worst is the class that gates more.
func Worst(a, b Class) Class {
	switch {
	case a == "":
		return b
	case b == "" || rank(a) <= rank(b):
		return a
	}
	return b
}

// Side is one of the two that are compared.
type Side struct {
	Mesh        *model.Mesh
	Enforcement release.Enforcement
	// Losses are sorted by target and name.
	Losses []Loss
}

// Compare says what changes from before to after. Both must have been compiled
// for one date. The error is an internal one: a witness that the evaluator does
// not confirm.
func Compare(before, after Side, meaning eval.Column, words Words, lim prove.Limits) (Plan, error) {
	lim.Cuts = &prove.Cuts{}
	c := &comparison{
		before: inDomain(before.Mesh, after.Mesh.TrustDomain), after: after.Mesh, meaning: meaning, words: words, lim: lim,
		oldDomain:       before.Mesh.TrustDomain,
		touchedServices: map[string]bool{}, reachedServices: map[string]bool{}, touchedGateways: map[string]bool{}, askers: map[Caller]bool{},
	}
	c.movers = c.moved()
	if err := c.requests(); err != nil {
		return Plan{}, err
	}
	c.objects()
	c.retries()
	c.enforcement(before.Enforcement, after.Enforcement)
	c.losses(before.Losses, after.Losses)
	p := Plan{Lines: c.merged(), OverBudget: c.overBudget, Blast: c.blast()}
	for _, l := range p.Lines {
		p.Verdict = Worst(p.Verdict, l.Class)
	}
	return p, nil
}

// inDomain is the mesh with another trust domain, which moves every identity alike.
func inDomain(m *model.Mesh, domain string) *model.Mesh {
	if m.TrustDomain == domain {
		return m
	}
	out := *m
	out.TrustDomain = domain
	return &out
}

// comparison is one run of Compare.
type comparison struct {
	// before has the trust domain of after; its own is oldDomain.
	before, after *model.Mesh
	oldDomain     string
	movers        moves
	// callersOf are the identities of those that call a destination, or any port of it;
	// someone those of any services.
	callersOf  map[destination][]string
	someone    []string
	meaning    eval.Column
	words      Words
	lim        prove.Limits
	found      []piece
	overBudget bool
	// touchedServices change; of those in reachedServices the callers are touched as well.
	touchedServices, reachedServices map[string]bool
	touchedGateways                  map[string]bool
	// askers are those whose access changes.
	askers map[Caller]bool
}

// piece is one change in one scope; pieces that read alike become one Line.
type piece struct {
	class Class
	kind  Kind
	says  Change
	// change is the text of says, in which self stands for the scope's own name, about that
	// of which requests it is about.
	change  string
	about   string
	scope   string // scope's display name
	feature string
	at      space.Scope // the zero Scope if it is not about requests
	parts   []Part
	// For access: who may now, or no longer, do what.
	callers        callerSet
	methods, paths prove.Set
	rest           []space.Test
	gained         bool
	witness        *Witness
	before         []space.Origin
	after          []space.Origin
	tries          *Tries // what becomes of the worst case of retries
	code           diag.Code
	steps          []string
}

// self stands for a scope's own service in a text; no name can hold it.
const self = "\x00"

func (c *comparison) add(p piece) {
	if p.class != Nothing {
		if p.change == "" {
			p.change = p.says.text(place{own: self, port: p.at.Port}, c.words)
		}
		p.about = partsText(p.parts)
		if p.kind == KindAccess {
			p.about = area(p.methods, p.paths, p.rest)
		}
		c.found = append(c.found, p)
	}
}

func sortPieces(ps []piece) {
	slices.SortStableFunc(ps, func(a, b piece) int {
		return cmp.Or(cmp.Compare(rank(a.class), rank(b.class)), cmp.Compare(a.kind, b.kind),
			cmp.Compare(a.about, b.about), cmp.Compare(a.change, b.change), cmp.Compare(a.scope, b.scope))
	})
}
