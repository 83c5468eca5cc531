package plan

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// verdict tells a change from one verdict to another. Where the grants decide it
// is about access, else about routes.
func (n *narrator) verdict(base piece, ch prove.Change) {
	b, a := ch.Before.Then.Verdict, ch.After.Then.Verdict
	if n.p.opened && a == space.Denied || n.p.removed && b == space.Denied {
		return // nothing got through, and that the scope comes or goes has its own line
	}
	base.class = n.classOf(b, a)
	aboutAccess := b == space.Denied && a == space.Forward || b == space.Forward && a == space.Denied
	// A service that comes or goes is read by who may call it, not by its routes.
	whole := n.p.own != "" && (n.p.opened && a == space.Forward || n.p.removed && b == space.Forward)
	if !aboutAccess && !whole {
		base.kind, base.when = KindRoute, n.conditions(ch)
		base.change = n.outcome(ch.Before.Then, n.p.opened) + " → " + n.outcome(ch.After.Then, n.p.removed)
		n.add(base)
		return
	}
	base.kind, base.gained = KindAccess, a == space.Forward
	routeB, accessB := split(ch.Before, n.before)
	routeA, accessA := split(ch.After, n.after)
	access := n.withoutTaken(slices.Concat(accessB, accessA), &ch)
	route := slices.Concat(routeB, routeA)
	if n.p.own == "" {
		base.who = "gateway/" + strings.TrimPrefix(n.p.after.Scope.ID, n.p.near+"/")
		base.when = "from " + base.who + " host " + n.p.after.Scope.Port
		route = slices.Concat(route, access)
		access = nil
	} else {
		base.who = n.say.who(access, n.p.near)
		base.when = "from " + base.who
	}
	n.access = append(n.access, accessPiece{
		piece: base, what: n.say.what(access), route: n.say.what(route), except: n.exceptions(ch, false),
		change: verdictWords(b, n.p.opened) + " → " + verdictWords(a, n.p.removed),
	})
}

// withoutTaken takes what earlier rules decide out of the change's own methods and
// callers, where such a rule differs in nothing else: "POST", not "GET, POST,
// except GET". The rules that this settles are no exceptions of ch any more.
func (n *narrator) withoutTaken(access []space.Test, ch *prove.Change) []space.Test {
	box := keys(slices.Concat(ch.Before.When, ch.After.When))
	out := slices.Clone(access)
	var others []space.Rule
	for _, r := range ch.Except {
		_, tests := split(r, n.after, n.before)
		own := slices.DeleteFunc(slices.Clone(tests), func(t space.Test) bool { return box[t.Key()] })
		if len(own) != 1 || !takeOut(out, own[0]) {
			others = append(others, r)
		}
	}
	ch.Except = others
	return out
}

// takeOut removes the patterns of one test from the test on the same dimension, if
// there is one and something of it is left.
func takeOut(tests []space.Test, taken space.Test) bool {
	if taken.Not || taken.Dim != space.MethodDim && taken.Dim != space.IdentityDim {
		return false
	}
	i := slices.IndexFunc(tests, func(t space.Test) bool { return t.Dim == taken.Dim && !t.Not })
	if i < 0 {
		return false
	}
	rest := slices.DeleteFunc(slices.Clone(tests[i].Any), func(p space.Pattern) bool { return slices.Contains(taken.Any, p) })
	if len(rest) == 0 || len(rest) == len(tests[i].Any) {
		return false
	}
	tests[i].Any = rest
	return true
}

func keys(tests []space.Test) map[string]bool {
	out := map[string]bool{}
	for _, t := range tests {
		out[t.Key()] = true
	}
	return out
}

// isRefusal knows the test by which mTLS refuses a caller. As an exception it is
// no news.
func isRefusal(t space.Test) bool { return t.Dim == space.IdentityDim && t.Not }

// accessPiece is an access change through one route; flush joins the routes.
type accessPiece struct {
	piece
	what, route, change string
	except              []string
}

// flush joins access changes that differ in their routes only.
func (n *narrator) flush() {
	type group struct {
		first  accessPiece
		routes []string
		all    bool
	}
	var order []string
	groups := map[string]*group{}
	for _, a := range n.access {
		key := string(a.class) + "|" + a.when + "|" + a.what + "|" + a.change
		g := groups[key]
		if g == nil {
			g = &group{first: a}
			groups[key] = g
			order = append(order, key)
		}
		g.all = g.all || a.route == ""
		g.routes = appendNew(g.routes, a.route)
	}
	for _, key := range order {
		g := groups[key]
		q := g.first.piece
		what := g.first.what
		if !g.all {
			routes := limited(g.routes, " or ")
			if what != "" && routes != what {
				routes = what + " as far as routed (" + routes + ")"
			}
			what = routes
		}
		q.what = what
		if what == "" {
			q.what = "everything"
		}
		q.what += except(g.first.except)
		q.when += ": " + q.what
		q.change = g.first.change
		n.add(q)
	}
}

// classOf classifies a change of verdict: rule 9 of the language.
func (n *narrator) classOf(before, after space.Verdict) Class {
	switch {
	case before == space.Forward:
		return Narrowing
	case after == space.Forward && (before == space.Denied || n.p.opened):
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

// outcome words a whole outcome; a forwarded one by where it goes.
func (n *narrator) outcome(o space.Outcome, missing bool) string {
	switch o.Verdict {
	case space.Forward:
		return n.shares(o)
	case space.Redirect:
		return "redirect (" + List(only(o.By, o.Fields)) + ")"
	case space.Answered:
		return "answered " + strconv.Itoa(o.Status) + " by " + o.By
	default:
		return verdictWords(o.Verdict, missing)
	}
}

// conditions words which requests a route decides, with what other routes take
// of them before.
func (n *narrator) conditions(ch prove.Change) string {
	routeB, _ := split(ch.Before, n.before)
	routeA, _ := split(ch.After, n.after)
	words := n.say.what(slices.Concat(routeB, routeA))
	if but := except(n.exceptions(ch, true)); but != "" {
		if words == "" {
			words = "all requests"
		}
		return words + but
	}
	return words
}

// exceptions words the earlier rules that take part of the change: by their
// routes only, or by their conditions on access only.
func (n *narrator) exceptions(ch prove.Change, routes bool) []string {
	box := keys(slices.Concat(ch.Before.When, ch.After.When))
	var out []string
	for _, r := range ch.Except {
		words := n.exception(r, box, routes)
		if words != "" {
			out = appendNew(out, words)
		}
	}
	if ch.More > 0 {
		out = append(out, strconv.Itoa(ch.More)+" more rules")
	}
	return out
}

func (n *narrator) exception(r space.Rule, box map[string]bool, routes bool) string {
	route, access := split(r, n.after, n.before)
	tests := access
	if routes {
		tests = route
	}
	if slices.ContainsFunc(tests, isRefusal) {
		return ""
	}
	var own []space.Test
	for _, t := range tests {
		if !box[t.Key()] {
			own = append(own, t)
		}
	}
	words := n.say.what(own)
	if slices.ContainsFunc(own, func(t space.Test) bool { return t.Dim == space.IdentityDim }) {
		words = strings.TrimSpace(words + " from " + n.say.who(own, n.p.near))
	}
	return words
}

// except lists at most three exceptions.
func except(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return ", except " + limited(words, "; ")
}

func limited(words []string, sep string) string {
	const most = 3
	if len(words) <= most {
		return strings.Join(words, sep)
	}
	return strings.Join(words[:most], sep) + " and " + strconv.Itoa(len(words)-most) + " more"
}
