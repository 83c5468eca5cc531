package plan

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// Query asks what a caller can do at one scope. Empty fields of Request are
// open: the answer then is the exact set. Request.Headers, if any, are tested
// as present with those values.
type Query struct {
	// AnyCaller leaves the caller open; else Request.From is it, "" being a
	// caller without identity.
	AnyCaller bool
	Request   space.Request
}

// Can is how much of a question is allowed.
type Can string

// The answers.
const (
	Yes    Can = "yes"
	No     Can = "no"
	Partly Can = "partly"
)

// CanAnswer is the answer to a Query.
type CanAnswer struct {
	Can Can `json:"can"`
	// Set is what gets through, exactly: one entry per deciding rule; the union
	// is the answer. Empty if nothing does.
	Set []CanEntry `json:"set,omitempty"`
	// Refused is what denies keep out of what would get through without them: one entry
	// for each that does, in the order in which they are asked.
	Refused []CanEntry `json:"refused,omitempty"`
	// Example is a request that shows the answer: one that gets through, else
	// one that a deny keeps out, else one that does not; with what decides it.
	Example space.Request `json:"example"`
	Answer  space.Answer  `json:"answer"`
	// Near is what would get through instead, where the answer is no: nil if nobody gets
	// through there, whatever is asked.
	Near *Near `json:"near,omitempty"`
}

// Near is what gets through of a question that leaves open more.
type Near struct {
	// Differs are the parts of the question that are left open, as few as do: "path", "method", "from".
	Differs []string   `json:"differs"`
	Set     []CanEntry `json:"set"`
}

// CanEntry is what one rule lets through, or keeps out.
type CanEntry struct {
	// Text is "GET under /reviews, from productpage".
	Text    string         `json:"text"`
	Witness space.Request  `json:"witness"`
	From    []space.Origin `json:"from,omitempty"`
	// Refused are the destinations that refuse their shares of it.
	Refused []RefusedShare `json:"refused,omitempty"`
	// Bounds are how long parts of what gets through may last, as the first proxy keeps it.
	Bounds []Bound `json:"bounds,omitempty"`
}

// RefusedShare is what a destination of a route does not let through of its requests.
type RefusedShare struct {
	// Target is "namespace/service/port/version".
	Target string `json:"target"`
	// Percent is its share of the route's requests, with two decimals.
	Percent float64 `json:"percent"`
	Status  int     `json:"status"`
}

// refusedOf are the shares of an outcome that do not get through.
func refusedOf(o space.Outcome) (out []RefusedShare) {
	for _, s := range o.Shares {
		if s.Status != 0 && s.Weight > 0 {
			out = append(out, RefusedShare{s.Target, math.Round(100*o.Percent(s)) / 100, s.Status})
		}
	}
	return out
}

// CanI answers a query about scope d of mesh m. A redirect counts as not
// getting through, nor does what a fault answers for all: the destination never sees the request.
func CanI(m *model.Mesh, d space.Decision, q Query, lim prove.Limits) (CanAnswer, error) {
	out, err := canI(m, d, q, lim)
	if err == nil && out.Can == No {
		out.Near, err = near(m, d, q, lim)
	}
	return out, err
}

// near opens one part of a question after the other, and then several, until something
// gets through.
func near(m *model.Mesh, d space.Decision, q Query, lim prove.Limits) (*Near, error) {
	parts := []struct {
		name string
		said bool
		open func(*Query)
	}{
		{"path", q.Request.Path != "", func(q *Query) { q.Request.Path, q.Request.Query = "", "" }},
		{"method", q.Request.Method != "", func(q *Query) { q.Request.Method = "" }},
		{"from", !q.AnyCaller, func(q *Query) { q.AnyCaller, q.Request.From = true, "" }},
	}
	for _, open := range [][]int{{0}, {1}, {0, 1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}} {
		wider, out := q, Near{}
		for _, i := range open {
			if parts[i].said {
				parts[i].open(&wider)
				out.Differs = append(out.Differs, parts[i].name)
			}
		}
		if len(out.Differs) < len(open) {
			continue // fewer parts were asked already
		}
		ans, err := canI(m, d, wider, lim)
		if err != nil {
			return nil, err
		}
		if out.Set = ans.Set; len(out.Set) > 0 {
			return &out, nil
		}
	}
	return nil, nil //nolint:nilnil // nobody gets through, as Near says
}

func canI(m *model.Mesh, d space.Decision, q Query, lim prove.Limits) (CanAnswer, error) {
	region := region(d, q)
	if !q.AnyCaller {
		lim.Identities = []string{q.Request.From}
	}
	d.Effective = slices.Concat(d.Plain, d.Effective)
	hits, err := prove.Reach(d.Scope, d.Effective, region, lim)
	if err != nil {
		return CanAnswer{}, err
	}
	say, decide := newSpeaker(m), eval.Decide
	if d.Scope.Kind == space.External {
		decide = eval.Call
	}
	home, _, _ := strings.Cut(d.Scope.ID, "/")
	out := CanAnswer{Can: No}
	for _, h := range hits {
		if h.Rule.Then.Verdict == space.Forward && !slices.ContainsFunc(h.Rule.Then.Partly, space.Partial.Ends) {
			w := completed(h.Witness, q)
			e := CanEntry{Text: say.set(h, region, home), Witness: w, From: decide(d, w).From, Refused: refusedOf(h.Rule.Then)}
			if d.Scope.Protocol != string(model.TCP) {
				e.Bounds = BoundsOf(h.Rule.Then)
			}
			out.Set = append(out.Set, e)
			continue
		}
		if h.Rule.Then.By != space.ByDeny {
			continue
		}
		w, is, err := keptOut(d, h, region, lim)
		if err != nil {
			return CanAnswer{}, err
		}
		own := h.Rule.From[len(h.Rule.From)-1:]
		if is && !slices.ContainsFunc(out.Refused, func(e CanEntry) bool { return slices.Equal(e.From, own) }) {
			out.Refused = append(out.Refused, CanEntry{Text: say.set(prove.Hit{Rule: h.Rule}, region, home), Witness: completed(w, q), From: own})
		}
	}
	switch {
	case len(out.Set) == len(hits) && len(hits) > 0 && !slices.ContainsFunc(out.Set, func(e CanEntry) bool { return len(e.Refused) > 0 }):
		out.Can = Yes
	case len(out.Set) > 0:
		out.Can = Partly
	}
	if example, ok := exampleOf(out, hits); ok {
		out.Example = completed(example, q)
		out.Answer = decide(d, out.Example)
	}
	return out, nil
}

// exampleOf is the request that shows an answer; false if the question was about none.
func exampleOf(out CanAnswer, hits []prove.Hit) (space.Request, bool) {
	switch {
	case len(out.Set) > 0:
		return out.Set[0].Witness, true
	case len(out.Refused) > 0:
		return out.Refused[0].Witness, true
	case len(hits) == 0:
		return space.Request{}, false
	}
	// Nothing would get through without denies: none of them is the reason.
	i := slices.IndexFunc(hits, func(h prove.Hit) bool { return h.Rule.Then.By != space.ByDeny })
	return hits[max(0, i)].Witness, true
}

// keptOut finds a request of the region that a deny decides, and that would get through if
// neither it nor any behind it were there.
func keptOut(d space.Decision, h prove.Hit, region []space.Test, lim prove.Limits) (space.Request, bool, error) {
	without := slices.Clone(d.Effective[:h.Index])
	for _, r := range d.Effective[h.Index+1:] {
		if r.Then.By != space.ByDeny {
			without = append(without, r)
		}
	}
	hits, err := prove.Reach(d.Scope, without, slices.Concat(region, h.Rule.When), lim)
	for _, x := range hits {
		if x.Index >= h.Index && x.Rule.Then.Verdict == space.Forward {
			return x.Witness, true, err
		}
	}
	return space.Request{}, false, err
}

// region is the query as tests, as far as something in d looks at what it says; headers are
// told apart in any case.
func region(d space.Decision, q Query) []space.Test {
	var when []space.Test
	asked := map[space.Dim]bool{}
	fix := func(d space.Dim) {
		dim, name := d.Of()
		if asked[d] || !dim.Fixes(q.Request, name) {
			return
		}
		asked[d] = true
		for _, v := range dim.Values(q.Request, name) {
			when = append(when, space.Values(d, v))
		}
	}
	if !q.AnyCaller {
		when = append(when, space.Values(space.IdentityDim, q.Request.From))
	}
	tests := func(asked space.Dim) bool {
		return slices.ContainsFunc(d.Effective, func(r space.Rule) bool {
			return slices.ContainsFunc(r.When, func(t space.Test) bool { return t.Dim == asked })
		})
	}
	for _, dim := range space.Dimensions() {
		if !dim.IsFamily() && dim.Fixes != nil && (dim.Place != space.Addition || tests(space.Dim(dim.Name))) {
			fix(space.Dim(dim.Name))
		}
	}
	for _, h := range q.Request.Headers {
		fix(space.HeaderDim(h.Name))
	}
	for _, r := range d.Effective {
		for _, t := range r.When {
			if dim, _ := t.Dim.Of(); dim.IsFamily() {
				fix(t.Dim)
			}
		}
	}
	return when
}

// completed gives a witness what the query fixed.
func completed(w space.Request, q Query) space.Request {
	if !q.AnyCaller {
		w.From = q.Request.From
	}
	w.Host = cmp.Or(q.Request.Host, w.Host)
	w.Headers = slices.DeleteFunc(slices.Clone(w.Headers), func(h space.Header) bool {
		return slices.ContainsFunc(q.Request.Headers, func(asked space.Header) bool { return asked.Name == h.Name })
	})
	w.Headers = append(w.Headers, q.Request.Headers...)
	for _, dim := range space.Dimensions() {
		if dim.Door {
			w = dim.With(w, "", dim.Values(q.Request, "")[0])
		}
	}
	if q.Request.Query != "" {
		w.Query = q.Request.Query
	}
	return w
}

// set words what a rule takes of a region, with what earlier rules take away.
func (s speaker) set(h prove.Hit, region []space.Test, near string) string {
	when := slices.Concat(region, h.Rule.When)
	known := map[string]bool{}
	for _, t := range when {
		known[t.Key()] = true
	}
	if slices.ContainsFunc(region, ofDoor) {
		when = slices.DeleteFunc(when, ofDoor)
	}
	what := requested(withoutWider(when, space.MethodDim, space.PathDim))
	if what == "" {
		what = "everything"
	}
	from := s.who(withoutWider(when, space.IdentityDim), near)
	text := what + ", from " + from
	var but []string
	for _, r := range h.Except {
		var own []space.Test
		for _, t := range withoutWider(slices.Concat(region, r.When), space.MethodDim, space.PathDim) {
			if !known[t.Key()] {
				own = append(own, t)
			}
		}
		if r.Then.Verdict == space.Forward || refusedByMTLS(r, own) {
			continue // what another entry lets through is no exception from the whole
		}
		words := requested(own)
		if slices.ContainsFunc(own, func(t space.Test) bool { return t.Dim == space.IdentityDim }) {
			words = strings.TrimSpace(words + " from " + s.who(own, near))
		}
		if words != "" {
			but = appendNew(but, words)
		}
	}
	return text + except(but)
}

// ofDoor reports whether a test holds for all requests by one door, or for none.
func ofDoor(t space.Test) bool {
	dim, _ := t.Dim.Of()
	return dim.Door
}

// refusedByMTLS knows the rule by which a handshake refuses a caller, by what it tests. As an
// exception it is no news.
func refusedByMTLS(r space.Rule, own []space.Test) bool {
	return r.Then.By == "" && slices.ContainsFunc(own, func(t space.Test) bool { return t.Dim == space.IdentityDim && t.Not })
}

// withoutWider drops, for each of dims, all tests if the query fixes one exact
// value: the rule's own pattern says nothing more then.
func withoutWider(when []space.Test, dims ...space.Dim) []space.Test {
	var out []space.Test
	fixed := map[space.Dim]bool{}
	for _, t := range when {
		if fixed[t.Dim] {
			continue
		}
		out = append(out, t)
		if slices.Contains(dims, t.Dim) && !t.Not && len(t.Any) == 1 && t.Any[0].Kind == space.Exact {
			fixed[t.Dim] = true
		}
	}
	return out
}

// MatrixCell is what one caller may do at one service port.
type MatrixCell struct {
	Who   string      `json:"who"` // SPIFFE ID, "" for a caller without identity
	Scope space.Scope `json:"scope"`
	// What is the methods and paths that grants allow, "everything" if
	// unrestricted; their union is allowed.
	What []string `json:"what"`
}

// Matrix lists who may do what: a cell for each identity and service port with
// at least one grant that applies, in the order of ds, then of identities.
// Routes are not looked at: a granted request may still meet a 404.
func Matrix(m *model.Mesh, ds []space.Decision, identities []string) []MatrixCell {
	var out []MatrixCell
	for _, d := range ds {
		if d.Scope.Kind != "service" {
			continue
		}
		for _, id := range identities {
			cell := MatrixCell{Who: id, Scope: d.Scope}
			for _, r := range eval.AsIdentity(d.Access, id) {
				if r.Then.Verdict != space.Forward {
					continue
				}
				what := requested(r.When)
				if what == "" {
					what = "everything"
				}
				cell.What = appendNew(cell.What, what)
			}
			if len(cell.What) > 0 {
				out = append(out, cell)
			}
		}
	}
	return out
}
