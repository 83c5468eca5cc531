package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// turn is a change from one verdict or place to another, before turns on the same requests are
// joined.
type turn struct {
	told
	was, is *Fate
}

// told is a piece about requests with what says which: a conjunction, and what is
// taken out of it.
type told struct {
	piece
	box    []space.Test
	except [][]space.Test
	more   int // exceptions that are not listed
}

func (t told) part() Part { return Part{When: t.box, Except: t.except, More: t.more} }

// verdict tells a change from one verdict to another. What the grants of a service
// decide is told as access already, of requests that arrive as they did before, and where they did.
func (n *narrator) verdict(base told, ch prove.Change) {
	b, a := ch.Before.Then.Verdict, ch.After.Then.Verdict
	if n.p.external && (b == space.Denied || a == space.Denied) {
		return // it is called on one side only, and access says so
	}
	if n.p.opened && a == space.Denied || n.p.removed && b == space.Denied {
		return // nothing got through, and that the scope comes or goes has its own line
	}
	elsewhere := n.p.own != "" && !slices.Equal(deciding(ch.Before.From), deciding(ch.After.From))
	if n.p.own != "" && !elsewhere && byGrants(ch.Before.Then) && byGrants(ch.After.Then) && ch.Before.Arrives(ch.After) {
		return
	}
	base.class, base.kind = n.classOf(b, a), KindRoute
	if elsewhere && b == space.Denied && a == space.Forward {
		base.class = Widening // no access says so: another service lets in whom the first one kept out
	}
	n.turns = append(n.turns, turn{base, n.fate(ch.Before.Then, n.p.opened), n.fate(ch.After.Then, n.p.removed)})
}

// deciding are the services, sorted, whose proxies decided who gets in: a route may lead from one to another.
func deciding(from []space.Origin) []string {
	var out []string
	for _, o := range from {
		_, _, call := model.CallAt(string(o))
		id, ok := strings.CutPrefix(string(o), model.ServicePath(""))
		if parts := strings.Split(id, "/"); ok && !call && len(parts) > 1 && !slices.Contains(parts[2:], "route") {
			out = appendNew(out, parts[0]+"/"+parts[1])
		}
	}
	slices.Sort(out)
	return out
}

// byGrants reports whether who asks decides what becomes of requests, not who their user is.
func byGrants(o space.Outcome) bool {
	return o.Verdict == space.Forward || o.Verdict == space.Denied && o.By != space.ByUsers
}

// takenOut is what is left of a dimension when a rule with these tests besides takes its
// part, if one test says it.
func takenOut(own []space.Test) (space.Test, bool) {
	if len(own) != 1 {
		return space.Test{}, false
	}
	if dim, _ := own[0].Dim.Of(); dim.Lines || len(own[0].Any) == 0 {
		return space.Test{}, false
	}
	t := own[0]
	t.Not = !t.Not
	return t, true
}

func keys(tests []space.Test) map[string]bool {
	out := map[string]bool{}
	for _, t := range tests {
		out[t.Key()] = true
	}
	return out
}

// flush adds what was told. Turns on the same requests that differ in nothing but
// whether a grant lets them through are one piece; so are pieces that say the same of
// requests that together are all of some; and so are turns that change alike without
// getting through on either side.
func (n *narrator) flush() {
	var order []string
	groups := map[string][]turn{}
	for _, t := range n.turns {
		when := n.words(t.told)
		if groups[when] == nil {
			order = append(order, when)
		}
		groups[when] = append(groups[when], t)
	}
	blocked := map[string]bool{}
	for _, when := range order {
		for _, t := range joinDenied(groups[when]) {
			n.tells(&t.piece, Change{What: Outcome, Was: t.was, Is: t.is})
			if t.class == Neutral && t.was.Verdict != space.Forward && t.is.Verdict != space.Forward {
				blocked[t.key()] = true
			}
			n.pieces = append(n.pieces, t.told)
		}
	}
	byWords := map[string][]told{}
	order = nil
	for _, t := range n.pieces {
		if byWords[t.key()] == nil {
			order = append(order, t.key())
		}
		byWords[t.key()] = append(byWords[t.key()], t)
	}
	for _, key := range order {
		parts := n.united(byWords[key])
		if blocked[key] && len(parts) > 1 || len(parts) > mostAlike {
			first := parts[0].piece
			for _, t := range parts {
				first.parts = append(first.parts, t.part())
			}
			n.add(first)
			continue
		}
		for _, t := range parts {
			t.parts = []Part{t.part()}
			n.add(t.piece)
		}
	}
}

// mostAlike is how many lines of one scope say the same of different requests.
const mostAlike = 3

// mostUnited bounds the pieces that are looked at in pairs.
const mostUnited = 48

// united drops from pieces that say the same what needs not be said: an exception of
// which another piece says the same, and a piece that another one holds.
func (n *narrator) united(ts []told) []told {
	for changed := true; changed && len(ts) > 1 && len(ts) <= mostUnited; {
		changed = false
		for i := range ts {
			ts[i].except = slices.DeleteFunc(slices.Clone(ts[i].except), func(e []space.Test) bool {
				part := n.key(slices.Concat(ts[i].box, e))
				covered := slices.ContainsFunc(ts, func(o told) bool {
					return len(o.except)+o.more == 0 && !apart(o.box, ts[i].box) && n.key(o.box) == part
				})
				changed = changed || covered
				return covered
			})
		}
		var kept []told
		for i, t := range ts {
			own := n.key(t.box)
			held := slices.ContainsFunc(ts, func(o told) bool {
				return len(o.except)+o.more == 0 && !apart(o.box, t.box) && n.key(o.box) != own && n.key(slices.Concat(o.box, t.box)) == own
			})
			twice := slices.ContainsFunc(ts[:i], func(o told) bool { return n.words(o) == n.words(t) })
			if !held && !twice {
				kept = append(kept, t)
			}
		}
		changed = changed && len(kept) < len(ts)
		ts = kept
	}
	return ts
}

// key is the canonical text of a conjunction.
func (n *narrator) key(box []space.Test) string {
	tests, _ := n.simplified(box)
	return space.Rule{When: tests}.Key()
}

// simplified is prove.Simplify, once for the same tests.
func (n *narrator) simplified(box []space.Test) ([]space.Test, bool) {
	raw := space.Rule{When: box}.Key()
	known, ok := n.simple[raw]
	if !ok {
		known.tests, known.possible = prove.Simplify(box, n.c.lim)
		n.simple[raw] = known
	}
	return known.tests, known.possible
}

// simple is what prove.Simplify says.
type simple struct {
	tests    []space.Test
	possible bool
}

// joinDenied makes one turn of those on the same requests, if each side has one outcome
// besides the denial.
func joinDenied(ts []turn) []turn {
	var sides [2]map[string]*Fate
	denied := [2]bool{}
	out := ts[0]
	for _, t := range ts {
		for side, f := range []*Fate{t.was, t.is} {
			if f.Verdict == space.Denied {
				denied[side] = true
				continue
			}
			if sides[side] == nil {
				sides[side] = map[string]*Fate{}
			}
			sides[side][f.text(place{own: self}, true)] = f
		}
		if rank(t.class) < rank(out.class) {
			out = t
		}
	}
	if len(ts) == 1 || len(sides[0]) > 1 || len(sides[1]) > 1 {
		return ts
	}
	for side, to := range []**Fate{&out.was, &out.is} {
		for _, f := range sides[side] {
			joined := *f
			joined.OrDenied = denied[side]
			*to = &joined
		}
	}
	return []turn{out}
}

// classOf classifies a change of verdict: rule 9 of the language. From outside, or to there,
// whatever kept a request, that it passes is widening; in the mesh, access says so.
func (n *narrator) classOf(before, after space.Verdict) Class {
	across := n.p.own == "" || n.p.external
	switch {
	case before == space.Forward:
		return Narrowing
	case across && (after == space.Forward || before == space.Denied && after == space.Redirect):
		return Widening
	}
	return Neutral
}

func verdictWords(v space.Verdict, missing bool) string {
	switch v {
	case space.Forward:
		return "allowed"
	case space.Denied:
		return "denied"
	case space.Redirect:
		return "redirected"
	case space.Answered:
		return "answered"
	case space.NotFound:
	}
	if missing {
		return "not there"
	}
	return "404"
}

// fate is what becomes of requests in the narrator's scope.
func (n *narrator) fate(o space.Outcome, missing bool) *Fate {
	return fate(o, n.p.after.Scope, missing)
}

// sameEnds reports whether requests come to the same destinations, or are refused by the same.
func sameEnds(b, a space.Outcome) bool {
	return b.Verdict == a.Verdict && slices.EqualFunc(places(b), places(a), func(x, y space.Share) bool { return x.Target == y.Target && x.Status == y.Status })
}

// conditions says which requests a change is about, with what other rules take of them
// before: at a service by the routes, whoever may ask, at a gateway by whatever decides.
func (n *narrator) conditions(t *told, ch prove.Change) {
	box, earlier := slices.Concat(ch.Before.When, ch.After.When), ch.Except
	t.more = ch.More
	if n.p.own != "" {
		before, after := n.p.before, n.p.after
		was, is := before.Access, after.Access
		if sameEnds(ch.Before.Then, ch.After.Then) { // else who is let in where they lead is what changes
			was, is = before.AllAccess(), after.AllAccess()
		}
		box = slices.Concat(beforeAccess(ch.Before, was), beforeAccess(ch.After, is))
		earlier = slices.Concat(earlierRoutes(before.Routes, ch.Before), earlierRoutes(after.Routes, ch.After))
		for _, r := range ch.Except { // what the same route does with some of its requests
			if !n.p.external { // whose access is no part of what takes effect
				r.When = beforeAccess(space.Rule{When: beforeAccess(r, was), From: r.From}, is)
			}
			earlier = append(earlier, r)
		}
		t.more = 0
	}
	if n.p.external { // whoever calls it, as access says
		box = slices.Concat(n.withoutCallers(ch.Before), n.withoutCallers(ch.After))
	}
	known := keys(box)
	for _, r := range earlier {
		if apart(r.When, box) {
			continue
		}
		r.When = slices.DeleteFunc(slices.Clone(r.When), func(t space.Test) bool { return known[t.Key()] })
		own := n.withoutCallers(r)
		if one, ok := takenOut(own); ok && one.Dim != space.IdentityDim {
			box = append(box, one)
		} else if len(own) > 0 {
			t.except = append(t.except, own)
		}
	}
	t.box, _ = n.simplified(box)
	if over := len(t.except) - prove.MaxExcept; over > 0 {
		t.except, t.more = t.except[:prove.MaxExcept], t.more+over
	}
	t.except = n.exceptions(t.box, t.except)
}

// withoutCallers are the tests of a rule but those of who asks, unless that is what the rule is for
// or its route asks it.
func (n *narrator) withoutCallers(r space.Rule) []space.Test {
	if len(callersIn(prove.Change{Before: r})) > 0 {
		return r.When
	}
	routes := map[string]bool{}
	for _, x := range slices.Concat(n.p.before.Routes, n.p.after.Routes) {
		if routeKey(x.From) == routeKey(r.From) {
			maps.Copy(routes, keys(x.When))
		}
	}
	return slices.DeleteFunc(slices.Clone(r.When), func(t space.Test) bool { return t.Dim == space.IdentityDim && !routes[t.Key()] })
}

// earlierRoutes are the routes that a request meets before the one of a rule.
func earlierRoutes(routes space.List, r space.Rule) space.List {
	key := routeKey(r.From)
	i := slices.IndexFunc(routes, func(x space.Rule) bool { return routeKey(x.From) == key })
	return routes[:max(i, 0)]
}

// apart reports whether two conjunctions plainly ask for other paths.
func apart(a, b []space.Test) bool {
	return slices.ContainsFunc(a, func(x space.Test) bool {
		return x.Dim == space.PathDim && !x.Not && slices.ContainsFunc(b, func(y space.Test) bool {
			return y.Dim == space.PathDim && !y.Not && !slices.ContainsFunc(x.Any, func(p space.Pattern) bool {
				return slices.ContainsFunc(y.Any, func(q space.Pattern) bool { return mayMeet(p, q) || mayMeet(q, p) })
			})
		})
	})
}

// mayMeet reports whether p may take a value of q, as far as a text that q begins with
// tells. Two patterns are apart if neither may.
func mayMeet(p, q space.Pattern) bool {
	switch {
	case q.Kind == space.Exact:
		return p.Matches(q.Text)
	case p.Kind == space.Exact:
		return q.Matches(p.Text)
	case beginsAnyhow(p) || beginsAnyhow(q):
		return true
	}
	return strings.HasPrefix(q.Text, strings.TrimSuffix(p.Text, "/"))
}

// beginsAnyhow reports whether the text of a pattern is not what its values begin with.
func beginsAnyhow(p space.Pattern) bool {
	return slices.Contains([]space.Kind{space.Regex, space.Line, space.Folded, space.Contains, space.Template, space.Suffix, space.Spelt, space.Wild, space.Identified, space.Named, space.Called, space.Moved}, p.Kind)
}

// exceptions are those that take something of the box which no other one takes.
func (n *narrator) exceptions(box []space.Test, all [][]space.Test) [][]space.Test {
	var out [][]space.Test
	for i, e := range all {
		if _, possible := n.simplified(slices.Concat(box, e)); !possible {
			continue
		}
		own := n.key(e)
		held := false
		for j, o := range all {
			same := n.key(o) == own
			held = held || same && j < i || !same && n.key(slices.Concat(o, e)) == own
		}
		if !held {
			out = append(out, e)
		}
	}
	return out
}

func (n *narrator) words(t told) string { return t.part().text() }

// text says which requests: "GET under /v1, except /v1/health", "" for all.
func (p Part) text() string {
	taken := func(t space.Test) bool {
		return t.Not && len(t.Any) > 0 && (t.Dim == space.PathDim || t.Dim == space.MethodDim || t.Dim == space.IdentityDim)
	}
	words := asked(slices.DeleteFunc(slices.Clone(p.When), taken))
	var but []string
	for _, x := range p.When {
		if taken(x) {
			x.Not = false
			if words := asked([]space.Test{x}); words != "" { // else it is about all of the mesh
				but = append(but, words)
			}
		}
	}
	for _, e := range p.Except {
		but = appendNew(but, asked(e))
	}
	if p.More > 0 {
		but = append(but, strconv.Itoa(p.More)+" more rules")
	}
	if len(but) > 0 && words == "" {
		words = "all requests"
	}
	return words + except(but)
}

// asked words the tests on requests and, by their accounts, on those who make them.
func asked(when []space.Test) string {
	words := requested(when)
	var from []string
	for _, t := range when {
		if t.Dim != space.IdentityDim || t.Not {
			continue
		}
		for _, p := range t.Any {
			switch ns, account, ok := accountOf(p); {
			case ok && account == "":
				from = appendNew(from, "namespace "+ns)
			case ok:
				from = appendNew(from, ns+"/"+account)
			}
		}
	}
	switch {
	case len(from) == 0:
		return words
	case words == "":
		return "from " + strings.Join(from, ", ")
	}
	return words + " from " + strings.Join(from, ", ")
}

// accountOf is the account that a pattern is for, "" if for all of a namespace; false if it is for
// others.
func accountOf(p space.Pattern) (namespace, account string, ok bool) {
	rest, isID := strings.CutPrefix(p.Text, "spiffe://")
	_, rest, _ = strings.Cut(rest, "/ns/")
	namespace, account, ok = strings.Cut(rest, "/sa/")
	return namespace, account, ok && isID && (p.Kind == space.Exact || p.Kind == space.Prefix && account == "")
}

// partsText says which requests are in any of the parts.
func partsText(parts []Part) string {
	var out []string
	for _, p := range parts {
		out = appendNew(out, p.text())
	}
	return limited(out, " or ", 3)
}

// except lists at most three exceptions.
func except(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return ", except " + limited(words, "; ", 3)
}

func limited(words []string, sep string, most int) string {
	if len(words) <= most {
		return strings.Join(words, sep)
	}
	return strings.Join(words[:most], sep) + " and " + strconv.Itoa(len(words)-most) + " more"
}
