// Package space says what a request is, what a condition on it is, and what
// comes out: data only, canonical, comparable.
//
// The same values are interpreted by eval, compared for all requests by prove,
// and put into words by plan. No condition or outcome holds a function: one closure
// in a match would make a proof impossible.
//
//   - Request: one HTTP request (or TCP connection) as a proxy sees it, after
//     path normalisation.
//   - Dimension: what a request has values of; Test: a condition on one; Rule: a conjunction of tests and an
//     outcome; List: rules of which the first match decides.
//   - Act: what a feature does to a rule's requests, at a Station of their way.
//   - Decision: everything that is decided for one destination (a Scope).
package space

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Kind says how a Pattern's text is compared.
type Kind string

// The kinds of pattern. Template, Segment, Spelt and Moved are for paths only.
const (
	Exact    Kind = "exact"    // equal
	Prefix   Kind = "prefix"   // string prefix; "" matches every present value
	Segment  Kind = "segment"  // path prefix by segment: "/a" takes /a, /a/, /a/b, not /ab; "/" takes all
	Suffix   Kind = "suffix"   // string suffix
	Contains Kind = "contains" // has it somewhere
	Folded   Kind = "folded"   // another pattern, whatever the case of its letters (FoldedPattern)
	Template Kind = "template" // "/t/{x}/y": each {…} is one non-empty segment; "/*" at the end is whatever follows a slash
	Regex    Kind = "regex"    // RE2, the whole value, which is ASCII
	Line     Kind = "line"     // RE2, the whole line of a header, whatever bytes it has (Test.OnLines)
	Spelt    Kind = "spelt"    // a path in every spelling: "/a", or "/a/*" for it and all below (hop.Spellings)
	Wild     Kind = "wild"     // an identity, in which "*" is any text without a slash
	// Identified is an identity in which a segment "*" is any one, and as the last one or more. No segment is
	// empty, "." or "..", and none has other characters than SPIFFE allows; with "**" in its place any text will do.
	Identified Kind = "identified"
	Named      Kind = "named"  // a host, or "*.b" for all names below it, with any number of dots at its end
	Called     Kind = "called" // the same in every spelling that an application may take for it (hop.HostSpellings)
	Moved      Kind = "moved"  // a path of which a Move makes one of another pattern (MovedPattern)
)

// Pattern is a set of strings.
type Pattern struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// Dim is a dimension of the request: one of Dimensions, or of a family there.
type Dim string

// Test is a condition on one dimension: the value is in one of Any (for a
// header: some line is in one of Any). An empty Any means "present" (for a
// header: at least one line; any other dimension is always present). Not is the
// complement, absence included.
type Test struct {
	Dim Dim       `json:"dim"`
	Any []Pattern `json:"any,omitempty"`
	Not bool      `json:"not,omitempty"`
}

// Origin is a mesh path ("service/bookinfo/reviews/route/default"), the key of
// provenance. It is no part of a rule's identity or digest.
type Origin string

// Rule is a conjunction of tests and what follows. No tests match everything.
type Rule struct {
	When []Test  `json:"when,omitempty"`
	Then Outcome `json:"then"`
	// From names the deciding pieces of the mesh, in the order in which a
	// request meets them (route, then grant).
	From []Origin `json:"from,omitempty"`
	// Inside says that the callee's proxy answers, not the one at which the way begins; like
	// From it is no part of the rule's identity.
	Inside bool `json:"-"`
	// Handshake says that the callee's proxy ends the handshake, before there is a request; no part
	// of the identity either.
	Handshake bool `json:"-"`
	// Image is what the destination gets of the requests. Like From it is no part of the
	// rule's identity: the outcome's fields tell of it.
	Image Image `json:"image,omitzero"`
	// Images are what single destinations get in place of that, if they differ; their shares' fields
	// tell of it.
	Images []Image `json:"images,omitempty"`
}

// Arrives reports whether what arrives of requests is the same by both rules.
func (r Rule) Arrives(other Rule) bool {
	return r.Image.Equal(other.Image) && slices.EqualFunc(r.Images, other.Images, Image.Equal)
}

// List is an ordered list: the first rule that matches decides. The zero List
// matches nothing.
type List []Rule

// Verdict is what becomes of a request.
type Verdict string

// The verdicts, with the status that the caller sees where a proxy of the mesh answers.
const (
	Forward  Verdict = "forward"  // reaches a destination
	Denied   Verdict = "denied"   // 403 (HTTP), connection closed (TCP): no grant admits it, or a deny refuses it
	NotFound Verdict = "notFound" // 404: no route matches
	Redirect Verdict = "redirect" // the caller's own proxy answers with a 3xx
	Answered Verdict = "answered" // a proxy on the way answers, by a feature, with any other status
)

// Share is a destination and its share of the requests.
type Share struct {
	// Target is "namespace/service/port/version".
	Target string `json:"target"`
	// Weight is relative; Outcome.Canonical reduces all by their common divisor.
	Weight int `json:"weight"`
	// Status is what the target's own proxy answers instead, 0 if the request gets through.
	Status int `json:"status,omitempty"`
	// Upgrades are the protocols to which a request may change its connection on the way
	// there, sorted, with commas in between.
	Upgrades string `json:"upgrades,omitempty"`
	// Fields are what features do to these requests and not to all of the outcome's, the whole of it.
	// Of what the target's proxy answers itself they are those about answers.
	Fields []Field `json:"fields,omitempty"`
}

// Percent is a share's part of the outcome's requests, of a hundred.
func (o Outcome) Percent(s Share) float64 {
	total := 0
	for _, x := range o.Shares {
		total += x.Weight
	}
	return 100 * float64(s.Weight) / float64(max(total, 1))
}

// like is all of a share but its weight, as a text.
func (s Share) like() string {
	out := s.Target + "\n" + strconv.Itoa(s.Status) + "\n" + s.Upgrades
	for _, f := range s.Fields {
		out += "\n" + f.key()
	}
	return out
}

// Upgradable reports whether a request to the share's target may change to the protocol.
func (s Share) Upgradable(protocol string) bool {
	return slices.Contains(strings.Split(s.Upgrades, ","), protocol)
}

// MayAnswer is what the value of a field holds of code that may answer requests by itself, which nobody knows before.
const MayAnswer = ", may answer"

// Field is one named effect of a feature on the requests that a rule takes
// ("timeouts", "request", "5s"). An opaque effect has a digest as its value.
type Field struct {
	Feature string `json:"feature"`
	Name    string `json:"name"`
	Value   string `json:"value"`
	// Number is the value of a field that has an amount: seconds for a time, else in
	// the unit that Value names. Two fields with equal values have equal numbers.
	Number float64 `json:"number,omitempty"`
	// Bounds is what may last no longer than Number, 0 for no bound: a proxy answers in its place. ""
	// is nothing. It follows from Feature and Name.
	Bounds Span `json:"bounds,omitempty"`
	// Does is what others see of it, for those who ask about one request. It follows from the rest.
	Does Deed `json:"-"`
}

// Deed is what a field does that somebody sees. The zero Deed is nothing of that.
type Deed struct {
	Kind DeedKind
	// Of is the header that is edited, or who gets copies: "namespace/service/port/version".
	Of string
}

// DeedKind is a kind of Deed.
type DeedKind int

// The kinds of deeds. The value of a field that sets or adds a line is the line.
const (
	Nothing DeedKind = iota
	ClearsRequest
	SetsRequest
	AddsRequest
	ClearsAnswer
	SetsAnswer
	AddsAnswer
	Copies
	SetsHost
	MayAddAnswer // a line of which nobody knows whether and what, behind all edits
)

// Edits are what fields do to headers, by those three kinds, in the order in which proxies do it.
func Edits(fields []Field, clears, sets, adds DeedKind) []Edit {
	var out []Edit
	of := func(name string) *Edit {
		i := slices.IndexFunc(out, func(e Edit) bool { return e.Name == name })
		if i < 0 {
			i, out = len(out), append(out, Edit{Name: name})
		}
		return &out[i]
	}
	for _, kind := range []DeedKind{clears, sets, adds} {
		for _, f := range fields {
			if f.Does.Kind != kind {
				continue
			}
			e := of(f.Does.Of)
			switch kind {
			case clears:
				e.Clear, e.Lines = true, nil
			case sets:
				e.Clear, e.Lines = true, []string{f.Value}
			default:
				e.Lines = append(e.Lines, f.Value)
			}
		}
	}
	return out
}

// key is the canonical text of a field.
func (f Field) key() string { return f.Feature + "." + f.Name + "=" + strconv.Quote(f.Value) }

// inOrder are fields in their canonical order.
func inOrder(fields []Field) []Field {
	out := slices.Clone(fields)
	slices.SortFunc(out, func(a, b Field) int {
		return cmp.Or(cmp.Compare(a.Feature, b.Feature), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	return out
}

// Span is a part of the time that a request takes.
type Span string

// The spans.
const (
	OfAnswer  Span = "answer"  // from the end of the request to that of its answer
	OfTry     Span = "try"     // the same of one of the tries to get it
	OfSilence Span = "silence" // in which nothing moves in either direction
	OfStream  Span = "stream"  // from the request's beginning to the end of all that follows it
)

// Outcome is what follows for a request; two outcomes are the same behaviour
// exactly if their Keys are equal.
type Outcome struct {
	Verdict Verdict `json:"verdict"`
	// Status is what the proxy answers that ends the way, 0 if a destination does.
	Status int `json:"status,omitempty"`
	// Path is what a redirect makes of the path, nil if that stays; Fields tell it in words.
	Path *Move `json:"path,omitempty"`
	// By is the feature that ends the way, or ByDeny; "" if no route or no grant took the request.
	By string `json:"by,omitempty"`
	// Partly is what a share of the requests meets before, in the order in which they meet it.
	Partly []Partial `json:"partly,omitempty"`
	Shares []Share   `json:"shares,omitempty"`
	Fields []Field   `json:"fields,omitempty"`
	// Instead is what the first proxy says in place of statuses of its own; Fields tell it in words.
	Instead []Instead `json:"instead,omitempty"`
}

// Said is the status that the first proxy says where it would say this one of what goes wrong on the way.
func (o Outcome) Said(status int) int {
	for _, s := range o.Instead {
		if s.Of == status {
			return s.Status
		}
	}
	return status
}

// ByUsers is what ends the way of a request that nobody has signed for whom a proxy believes.
const ByUsers = "users"

// Refused is the outcome of a request that no grant admits.
func Refused() Outcome { return Outcome{Verdict: Denied, Status: 403} }

// ByDeny is what ends the way of a request that a deny refuses.
const ByDeny = "deny"

// RefusedByDeny is the outcome of a request that a deny refuses, whatever grants say.
func RefusedByDeny() Outcome { return Outcome{Verdict: Denied, Status: 403, By: ByDeny} }

// NotRouted is the outcome of a request that no route takes.
func NotRouted() Outcome { return Outcome{Verdict: NotFound, Status: 404} }

// Canonical returns o with shares merged, sorted and reduced, zero shares left
// out, and fields sorted.
func (o Outcome) Canonical() Outcome {
	o.Shares, o.Fields, o.Partly = merged(o.Shares), inOrder(o.Fields), inAnyOrder(o.Partly)
	return o
}

// merged are shares in their canonical order, like ones as one, with weights that have no divisor.
func merged(all []Share) []Share {
	var shares []Share
	at, g := map[string]int{}, 0
	for _, s := range all {
		if s.Weight <= 0 {
			continue
		}
		if len(s.Fields) > 0 {
			s.Fields = inOrder(s.Fields)
		}
		key := s.like()
		if i, ok := at[key]; ok {
			shares[i].Weight += s.Weight
			continue
		}
		at[key] = len(shares)
		shares = append(shares, s)
	}
	for _, s := range shares {
		g = gcd(g, s.Weight)
	}
	for i := range shares {
		shares[i].Weight /= g
	}
	slices.SortFunc(shares, func(a, b Share) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Upgrades, b.Upgrades), cmp.Compare(a.like(), b.like()))
	})
	return shares
}

// Apart is how o differs from what is done to all of its requests alike: nil, unless shares have fields of
// their own.
func (o Outcome) Apart() []Share {
	return slices.DeleteFunc(slices.Clone(o.Shares), func(s Share) bool { return len(s.Fields) == 0 })
}

// inAnyOrder sorts what keeps requests between two answers: the sum of the times is the same.
func inAnyOrder(met []Partial) []Partial {
	out := slices.Clone(met)
	for from := 0; from < len(out); {
		to := from
		for to < len(out) && out[to].Seconds > 0 {
			to++
		}
		slices.SortFunc(out[from:to], func(a, b Partial) int {
			return cmp.Or(cmp.Compare(a.Feature, b.Feature), cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(a.Percent, b.Percent))
		})
		from = to + 1
	}
	return out
}

// Key is the canonical text of o.
func (o Outcome) Key() string {
	c := o.Canonical()
	var b strings.Builder
	b.WriteString(string(c.Verdict))
	if c.Status != 0 {
		b.WriteString(" " + strconv.Itoa(c.Status))
	}
	if c.By != "" {
		b.WriteString(" by " + c.By)
	}
	for _, p := range c.Partly {
		b.WriteString("|" + p.Feature + " " + p.Told() + " for " + strconv.FormatFloat(p.Percent, 'f', -1, 64) + "%")
		if p.Seconds != 0 {
			b.WriteString(" kept " + strconv.FormatFloat(p.Seconds, 'f', -1, 64))
		}
	}
	for _, s := range c.Shares {
		b.WriteString("|" + strconv.Quote(s.Target) + "=" + strconv.Itoa(s.Weight))
		if s.Status != 0 {
			b.WriteString(" answered " + strconv.Itoa(s.Status))
		}
		if s.Upgrades != "" {
			b.WriteString(" upgrades " + s.Upgrades)
		}
		for _, f := range s.Fields {
			b.WriteString(" " + f.key())
		}
	}
	for _, f := range c.Fields {
		b.WriteString("|" + f.key())
	}
	return b.String()
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Key is the canonical text of a test: equal tests have equal keys.
func (t Test) Key() string {
	pats := make([]string, 0, len(t.Any))
	for _, p := range t.Any {
		pats = append(pats, string(p.Kind)+":"+strconv.Quote(p.Text))
	}
	slices.Sort(pats)
	not := ""
	if t.Not {
		not = "!"
	}
	return not + string(t.Dim) + "(" + strings.Join(slices.Compact(pats), ",") + ")"
}

// Key is the canonical text of a rule's conditions and outcome, without origin.
func (r Rule) Key() string {
	tests := make([]string, 0, len(r.When))
	for _, t := range r.When {
		tests = append(tests, t.Key())
	}
	slices.Sort(tests)
	return strings.Join(slices.Compact(tests), "&") + "=>" + r.Then.Key()
}

// Header is one header line. Name is lower case.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Request is one request. Path is normalised and without query. From is the
// caller's SPIFFE ID, "" if it has none. A header may stand on several lines. Query is
// what follows the "?", as it was sent.
type Request struct {
	From    string   `json:"from"`
	Host    string   `json:"host,omitempty"`
	Method  string   `json:"method"`
	Path    string   `json:"path"`
	Query   string   `json:"query,omitempty"`
	Headers []Header `json:"headers,omitempty"`
	// Upgrade is the protocol to which it wants to change its connection, in lower case; ""
	// for none.
	Upgrade string `json:"upgrade,omitempty"`
	// Scheme is how a visitor came, as the gateway believes it: "http" or "https"; "" elsewhere.
	Scheme string `json:"scheme,omitempty"`
	// Users are those who are signed in, and other tokens, one for each provider at most; for none
	// that is not here it has a token.
	Users []User `json:"users,omitempty"`
	// Source is the address of the connection by which it comes to its first proxy, Client the visitor's as a
	// gateway of ours saw it, and Hop that of the gateway's connection to what is behind it; "" where unknown.
	Source string `json:"source,omitempty"`
	Client string `json:"client,omitempty"`
	Hop    string `json:"hop,omitempty"`
}

// Target is the path with its query.
func (q Request) Target() string {
	if q.Query == "" {
		return q.Path
	}
	return q.Path + "?" + q.Query
}

// Kinds of scopes that are told from others: an external's port, and a gateway's host, whose name is the scope's Port.
const (
	External = "external"
	Gateway  = "gateway"
)

// Scope names what a decision is about.
type Scope struct {
	// Kind is "service", Gateway or External.
	Kind string `json:"kind"`
	// ID is "namespace/name".
	ID string `json:"id"`
	// Port is the port's name, or the host's.
	Port string `json:"port"`
	// Protocol is "http", "http2", "grpc" or "tcp".
	Protocol string `json:"protocol"`
	// Besides are the names, with blanks between, of the gateway's hosts that take what this one's wildcard
	// would: none of their requests comes here.
	Besides string `json:"-"`
}

// String gives kind/id/port.
func (s Scope) String() string { return s.Kind + "/" + s.ID + "/" + s.Port }

// Decision is everything that is decided for the requests to one scope.
type Decision struct {
	Scope Scope `json:"scope"`
	// Access is who may do what to a service: allowances, then deny. Outcomes
	// carry only Forward or Denied. Empty for a gateway.
	Access List `json:"access,omitempty"`
	// Behind is Access of the services to which a service's routes lead, for what comes there.
	Behind List `json:"-"`
	// Routes is where requests go and what happens to them on the way.
	Routes List `json:"routes,omitempty"`
	// Again says that a route is chosen as if nobody were signed in, and once more when it is known who is.
	Again bool `json:"-"`
	// Effective composes both as they take effect: a route that does not match
	// hides a denial, a redirect comes before one. Its last rule matches all.
	Effective List `json:"effective"`
	// Plain is what takes effect for callers of a service without an identity of the mesh. They have no
	// proxy that would choose a route: what they reach is what they dial. Each rule tests who calls, and
	// together they take all of these requests.
	Plain List `json:"-"`
	// PlainUpgrades are the protocols to which they may change their connections, before all else.
	PlainUpgrades string `json:"-"`
}

// AllAccess is who may do what to a service, and to those to which its routes lead.
func (d Decision) AllAccess() List { return slices.Concat(d.Access, d.Behind) }

// Answer is the outcome for one request and what decided it.
type Answer struct {
	Outcome Outcome  `json:"outcome"`
	From    []Origin `json:"from,omitempty"`
	// Inside says that the callee's proxy answers, if one does.
	Inside bool `json:"-"`
	// Handshake says that it ends the handshake instead.
	Handshake bool `json:"-"`
	// Image is what the destination gets of the request.
	Image Image `json:"image,omitzero"`
	// Why says why a proxy refuses the request that no grant has to do with.
	Why string `json:"why,omitempty"`
}
