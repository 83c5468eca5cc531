package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
)

// requests compares all scopes for all requests.
func (c *comparison) requests() error {
	say := newSpeaker(c.before, c.after)
	c.learnCallers()
	for _, p := range c.pairs() {
		if err := c.scope(p, say); err != nil {
			return err
		}
	}
	return c.names()
}

// destination is a port of a service or external that is called.
type destination struct{ id, port string }

// learnCallers lists callers that exist, for readable witnesses: those of each destination,
// and some of all.
func (c *comparison) learnCallers() {
	c.callersOf = map[destination][]string{}
	for _, m := range []*model.Mesh{c.after, c.before} {
		for _, s := range m.Services {
			for _, v := range s.Versions {
				id := s.Class(v).SPIFFEID(m.TrustDomain)
				for _, call := range s.Calls {
					for _, to := range []destination{{call.To, call.Port}, {id: call.To}} {
						c.callersOf[to] = appendNew(c.callersOf[to], id)
					}
				}
				if len(c.someone) < 32 {
					c.someone = appendNew(c.someone, id)
				}
			}
		}
	}
}

// gatewaySends reports whether a gateway with one of the identities sends to a service.
func (c *comparison) gatewaySends(service string, identities ...string) bool {
	return slices.ContainsFunc([]*model.Mesh{c.before, c.after}, func(m *model.Mesh) bool {
		return slices.ContainsFunc(m.Gateways, func(g *model.Gateway) bool {
			return slices.Contains(identities, g.Class().SPIFFEID(m.TrustDomain)) && sendsTo(g, func(to string) bool { return to == service })
		})
	})
}

// callsThere reports whether a service that calls what a pair is about has one of the identities.
func (c *comparison) callsThere(p pair, identities ...string) bool {
	known := c.callersOf[p.destination()]
	return slices.ContainsFunc(identities, func(id string) bool { return slices.Contains(known, id) })
}

func (c *comparison) scope(p pair, say speaker) error {
	if tcpChanged(p) {
		c.touch(p)
		c.add(piece{class: NotCompared, kind: KindService, scope: p.display, says: moved(OtherProtocol, p.before.Scope.Protocol, p.after.Scope.Protocol)})
		return nil
	}
	lim := c.lim
	if p.own != "" {
		lim.Identities = slices.Concat(c.callersOf[p.destination()], c.callersOf[destination{id: p.own}], c.someone, c.lim.Identities)
	} else {
		lim.Identities = nil // whoever calls a gateway is a stranger to it
	}
	n := narrator{c: c, p: p, say: say, seen: map[string]bool{}, simple: map[string]simple{}}
	if p.own != "" {
		if err := n.accessChanges(lim); err != nil {
			return c.notCompared(p, err)
		}
		if p.opened || p.removed {
			return nil // who may call it says what becomes of requests
		}
	}
	if err := n.outcomes(n.routed(p.before.Effective), n.routed(p.after.Effective), lim); err != nil {
		return err
	}
	if p.own != "" && !slices.EqualFunc(p.before.Routes, p.after.Routes, func(x, y space.Rule) bool { return x.Key() == y.Key() }) {
		for _, m := range c.movers.list {
			n.mover = &m
			if err := n.outcomes(eval.AsIdentity(p.before.Effective, m.Before), eval.AsIdentity(p.after.Effective, m.After), lim); err != nil {
				return err
			}
		}
	}
	n.flush()
	return nil
}

// outcomes compares what becomes of requests. What could not be compared is told.
func (n *narrator) outcomes(before, after space.List, lim prove.Limits) error {
	changes, err := prove.CompareLists(n.p.after.Scope, before, after, lim)
	if err != nil {
		return n.c.notCompared(n.p, err)
	}
	changes = slices.DeleteFunc(changes, n.oneSided)
	for _, ch := range changes {
		if callers := callersIn(ch); len(callers) > 0 {
			n.c.touchCallers(n.p, callers)
		} else {
			n.c.touch(n.p)
		}
	}
	// Requests that get through on a side come first: they make the better witness
	// for an effect that denied requests have as well.
	for _, ch := range slices.Concat(byDenied(changes, false), byDenied(changes, true)) {
		if err := n.tell(ch); err != nil {
			return err
		}
	}
	return nil
}

// callersIn are the services of whose own words at their calls a change is, none if it is about
// whoever calls.
func callersIn(ch prove.Change) []string {
	var out []string
	for _, o := range slices.Concat(ch.Before.From, ch.After.From) {
		if id, _, ok := model.CallAt(string(o)); ok {
			out = appendNew(out, id)
		}
	}
	return out
}

// oneSided reports whether a change is about what callers say at a call that they make on one side
// only: then there is nothing to compare their requests with, and the call is told.
func (n *narrator) oneSided(ch prove.Change) bool {
	if len(callersIn(ch)) == 0 {
		return false
	}
	before, after := ch.Witness.From, ch.Witness.From
	if n.mover != nil {
		before, after = n.mover.Before, n.mover.After
	}
	return callsAs(n.c.before, before, n.p.before.Scope) != callsAs(n.c.after, after, n.p.after.Scope)
}

// callsAs reports whether a service that has the identity calls the port of a scope.
func callsAs(m *model.Mesh, identity string, to space.Scope) bool {
	return slices.ContainsFunc(m.Services, func(s *model.Service) bool {
		return calls(s, to.ID, to.Port) && slices.ContainsFunc(s.Versions, func(v model.Version) bool {
			return slices.ContainsFunc(s.Classes(v), func(c release.Class) bool { return c.SPIFFEID(m.TrustDomain) == identity })
		})
	})
}

// touchCallers touches those whose own words about requests to what a pair is about change.
func (c *comparison) touchCallers(p pair, callers []string) {
	if !p.external {
		c.touchedServices[p.own] = true
	}
	for _, id := range callers {
		c.touchedServices[id] = true
		c.askers[Caller{Kind: CallerService, Name: id}] = true
	}
}

// routed is a list as callers meet it whose own proxies choose a route. A service's
// callers without an identity of the mesh have none: of them, access is all there is.
// Who moves is compared with itself.
func (n *narrator) routed(l space.List) space.List {
	if n.p.own == "" {
		return l
	}
	everyone := []space.Pattern{{Kind: space.Prefix, Text: "spiffe://" + n.c.after.TrustDomain + "/"}}
	stranger := space.Rule{When: []space.Test{{Dim: space.IdentityDim, Any: everyone, Not: true}}, Then: space.NotRouted()}
	out := space.List{stranger}
	for _, id := range n.c.movers.absent {
		nobody := []space.Test{{Dim: space.IdentityDim, Any: []space.Pattern{{Kind: space.Exact, Text: id}}}}
		out = append(out, space.Rule{When: nobody, Then: space.NotRouted()})
	}
	return slices.Concat(out, l)
}

// byDenied selects the changes that are about requests denied on both sides, or
// the others.
func byDenied(cs []prove.Change, denied bool) []prove.Change {
	var out []prove.Change
	for _, c := range cs {
		both := c.Before.Then.Verdict == space.Denied && c.After.Then.Verdict == space.Denied
		if both == denied {
			out = append(out, c)
		}
	}
	return out
}

func tcpChanged(p pair) bool {
	b, a := p.before.Scope.Protocol, p.after.Scope.Protocol
	return b != "" && a != "" && model.Protocol(b).IsHTTP() != model.Protocol(a).IsHTTP()
}

func (c *comparison) notCompared(p pair, err error) error {
	var unsupported *prove.UnsupportedError
	over := errors.Is(err, prove.ErrBudget)
	if !over && !errors.As(err, &unsupported) {
		return fmt.Errorf("comparing scope %q: %w", p.display, err)
	}
	c.touch(p)
	c.overBudget = c.overBudget || over
	c.add(piece{class: NotCompared, kind: KindRoute, scope: p.display, says: Change{What: BeyondComparing, Reason: err.Error()}})
	return nil
}

func (c *comparison) touch(p pair) {
	switch {
	case p.external:
		c.reachedServices[p.own] = true
		return
	case p.own != "":
		c.touchedServices[p.own], c.reachedServices[p.own] = true, true
		return
	}
	c.touchedGateways[p.after.Scope.ID] = true
}

// touchBehind touches the services that get requests on one side only, beside the one that is called.
func (c *comparison) touchBehind(p pair, b, a space.Outcome) {
	for _, x := range [][2]space.Outcome{{b, a}, {a, b}} {
		for _, s := range x[0].Shares {
			service, version := splitTarget(s.Target)
			other := func(o space.Share) bool { to, _ := splitTarget(o.Target); return to == service }
			if version != "" && service != p.own && !slices.ContainsFunc(x[1].Shares, other) {
				c.touchedServices[service] = true
			}
		}
	}
}

// narrator turns the changes of one scope into pieces.
type narrator struct {
	c      *comparison
	p      pair
	say    speaker
	turns  []turn
	pieces []told
	seen   map[string]bool
	simple map[string]simple
	mover  *prove.Move // whose requests are compared, nil for those who do not move
}

func routeKey(from []space.Origin) string {
	var b strings.Builder
	for _, o := range from {
		if !strings.Contains(string(o), "/route/") {
			break
		}
		b.WriteString(string(o) + "\n")
	}
	return b.String()
}

// beforeAccess are the tests of an effective rule that a request meets before those of
// access: its route's, and those of what features do on the way. What goes to destinations with edits of
// their own meets access once for each of its images, in their order.
func beforeAccess(r space.Rule, access space.List) []space.Test {
	images := r.Images
	if len(images) == 0 {
		images = []space.Image{r.Image}
	}
	for i, image := range slices.Backward(images) {
		if !slices.ContainsFunc(images[:i], image.Equal) {
			r.When, r.From = beforeOne(r, image, access)
		}
	}
	return r.When
}

// beforeOne is what a rule asks before what access asks of an image at its end, and who asks it.
func beforeOne(r space.Rule, image space.Image, access space.List) ([]space.Test, []space.Origin) {
	for _, a := range access {
		var err error
		if a.When, _, err = image.Before(a.When); err != nil {
			continue // as with a rule that takes none of them
		}
		at, from := len(r.When)-len(a.When), len(r.From)-len(a.From)
		if at >= 0 && from >= 0 && slices.Equal(r.From[from:], a.From) && slices.EqualFunc(r.When[at:], a.When, sameTest) {
			return r.When[:at], r.From[:from]
		}
	}
	return r.When, r.From
}

func sameTest(a, b space.Test) bool { return a.Key() == b.Key() }

// tell checks the witness of one change and makes its pieces.
func (n *narrator) tell(ch prove.Change) error {
	w, err := n.confirm(ch)
	if err != nil {
		return err
	}
	base := told{piece: piece{
		scope: n.p.display, at: n.p.after.Scope, witness: w,
		before: ch.Before.From, after: ch.After.From,
	}}
	n.conditions(&base, ch)
	b, a := ch.Before.Then, ch.After.Then
	n.c.touchBehind(n.p, b, a)
	if b.Verdict != a.Verdict {
		n.verdict(base, ch)
		return nil
	}
	same := func(x, y space.Share) bool {
		return x.Target == y.Target && x.Weight == y.Weight && x.Status == y.Status
	}
	if !slices.EqualFunc(places(b), places(a), same) {
		q := base
		q.kind, q.class = KindRoute, shareClass(b, a)
		n.turns = append(n.turns, turn{q, n.fate(b, false), n.fate(a, false)})
	}
	b.Fields, a.Fields = allFields(b), allFields(a)
	for _, f := range features(b.Fields, a.Fields) {
		q := base
		of, feature := featureOf(f)
		q.kind, q.feature = KindFeature, feature
		if at := of + " " + outside; of != "" && (len(only(at, b.Fields)) == 0 || len(only(at, a.Fields)) == 0) {
			continue // where requests go says so
		}
		var says Change
		q.class, says = n.c.changedFeature(f, b.Fields, a.Fields)
		n.tells(&q.piece, says)
		if n.p.external && n.ownsFeature(f, b.Fields, a.Fields) {
			q.box, q.except, q.more = nil, nil, 0
		}
		q.class = n.cutClass(f, q.class, b, a)
		if b.Verdict == space.Denied {
			if slices.ContainsFunc(n.pieces, func(o told) bool { return o.feature == q.feature && o.change == q.change && n.words(o) == n.words(q) }) {
				continue
			}
			says.ThenDenied = true
			n.tells(&q.piece, says)
		}
		if q.class != Nothing {
			n.pieces = append(n.pieces, q)
		}
	}
	return nil
}

// ownsFeature reports whether fields are what the external does on every route.
func (n *narrator) ownsFeature(f string, before, after []space.Field) bool {
	return slices.Equal(only(f, before), only(f, n.c.ownOf(n.c.before, n.p))) && slices.Equal(only(f, after), only(f, n.c.ownOf(n.c.after, n.p)))
}

// places are where requests go. To what they may change there, a feature says.
func places(o space.Outcome) []space.Share {
	out := slices.Clone(o.Shares)
	for i := range out {
		out[i].Upgrades, out[i].Fields = "", nil
	}
	return space.Outcome{Shares: out}.Canonical().Shares
}

// cutClass is the class of a feature's change that also begins or ends to answer all
// requests itself.
func (n *narrator) cutClass(feature string, class Class, b, a space.Outcome) Class {
	was, is := answersAll(feature, b), answersAll(feature, a)
	switch {
	case b.Verdict != space.Forward || was == is:
		return class
	case is:
		return Worst(class, Narrowing)
	case n.p.own == "" || n.p.external:
		return Worst(class, Widening) // from outside or to there, whatever kept it
	}
	return class
}

// answersAll reports whether a feature answers in place of every destination.
func answersAll(feature string, o space.Outcome) bool {
	return slices.ContainsFunc(o.Partly, func(p space.Partial) bool { return p.Feature == feature && p.Ends() })
}

// confirm runs the witness through the evaluator on both sides.
func (n *narrator) confirm(ch prove.Change) (*Witness, error) {
	q := ch.Witness
	if n.p.own == "" {
		q.Host, q.From = cmp.Or(q.Host, n.p.host), ""
	}
	was := q
	if n.mover != nil {
		was.From, q.From = n.mover.Before, n.mover.After
	}
	b, a := eval.Decide(n.p.before, was).Outcome, eval.Decide(n.p.after, q).Outcome
	if b.Key() != ch.Before.Then.Key() || a.Key() != ch.After.Then.Key() || b.Key() == a.Key() {
		return nil, fmt.Errorf("internal error: the evaluator does not confirm the witness %+v of scope %q: %s → %s, proved was %s → %s",
			q, n.p.display, b.Key(), a.Key(), ch.Before.Then.Key(), ch.After.Then.Key())
	}
	w := &Witness{Scope: n.p.after.Scope, Request: q, Caller: n.say.caller(q.From, ""), Before: b, After: a}
	if n.mover != nil {
		w.FromBefore, w.Caller = was.From, n.c.movers.names[n.mover.Name].text("")
	}
	w.Uncalled = n.p.own != "" && !n.c.callsThere(n.p, was.From, q.From) && !n.c.gatewaySends(n.p.own, was.From, q.From)
	return w, nil
}

// add keeps one piece of a kind and text per scope.
func (n *narrator) add(q piece) {
	if key := q.key(); !n.seen[key] {
		n.seen[key] = true
		n.c.add(q)
	}
}

func (p piece) key() string {
	return string(p.class) + "|" + string(p.kind) + "|" + partsText(p.parts) + "|" + p.change
}

// tells sets what a piece says.
func (n *narrator) tells(p *piece, c Change) {
	p.says, p.change = c, c.text(place{own: self, port: p.at.Port}, n.c.words)
}

// changedFeature is the change of one feature, by the name that it has in outcomes.
func (c *comparison) changedFeature(feature string, before, after []space.Field) (Class, Change) {
	of, name := featureOf(feature)
	own := func(fs []space.Field) []space.Field {
		out := only(feature, fs)
		for i := range out {
			out[i].Feature = name
		}
		return out
	}
	says := Change{What: FeatureOf, External: strings.TrimPrefix(of, outside+" "), FieldsBefore: own(before), FieldsAfter: own(after)}
	class, _ := word(c.words, name, says.FieldsBefore, says.FieldsAfter)
	return class, says
}

// word asks the feature's row; a feature without one is not compared.
func word(words Words, feature string, b, a []space.Field) (Class, string) {
	w, ok := words[feature]
	if feature == outside {
		w, ok = wordOutside, true
	}
	opaque := slices.ContainsFunc(slices.Concat(b, a), func(f space.Field) bool { return f.Name == eval.OpaqueField })
	if !ok || w == nil || opaque {
		return NotCompared, "feature " + feature + " changes, and how bad that is is not known"
	}
	return w(b, a)
}

func only(feature string, fs []space.Field) []space.Field {
	var out []space.Field
	for _, f := range fs {
		if f.Feature == feature {
			out = append(out, f)
		}
	}
	return out
}

// features lists, sorted, the features whose fields differ.
func features(before, after []space.Field) []string {
	var out []string
	for _, f := range slices.Concat(before, after) {
		if !slices.Equal(only(f.Feature, before), only(f.Feature, after)) {
			out = appendNew(out, f.Feature)
		}
	}
	slices.Sort(out)
	return out
}

// shareClass looks at destinations that refuse their part: one that no longer
// does is access gained, one that begins to is access lost.
func shareClass(before, after space.Outcome) Class {
	class := Neutral
	b, a := refused(before), refused(after)
	for target, was := range b {
		now, ok := a[target]
		switch {
		case ok && was > now:
			class = Worst(class, Widening)
		case ok && was < now:
			class = Worst(class, Narrowing)
		}
	}
	for target, now := range a {
		_, ok := b[target]
		switch {
		case ok:
		case now > 0:
			class = Worst(class, Narrowing) // a part of what got through goes where it is refused
		case strings.HasPrefix(target, "external/"):
			class = Worst(class, Widening) // a way out of the mesh
		}
	}
	return class
}

// refused is how much of what goes to a target its proxy refuses: all or nothing, unless shares with
// edits of their own go there.
func refused(o space.Outcome) map[string]float64 {
	all, out := map[string]float64{}, map[string]float64{}
	for _, s := range o.Shares {
		all[s.Target] += float64(s.Weight)
		if s.Status != 0 {
			out[s.Target] += float64(s.Weight)
		}
	}
	for target, whole := range all {
		out[target] /= whole
	}
	return out
}

// allFields are the fields of an outcome: of those that are not for all of its shares, with the share
// that they are for.
func allFields(o space.Outcome) []space.Field {
	out, total, parts := slices.Clone(o.Fields), 0, map[string]int{}
	for _, s := range o.Shares {
		total += s.Weight
		parts[s.Target]++
	}
	for _, s := range o.Shares {
		to, version := splitTarget(s.Target)
		what := strings.TrimSpace(to + " " + version)
		if parts[s.Target] > 1 {
			what = percent(s.Weight, total) + " to " + what
		}
		for _, f := range s.Fields {
			if slices.ContainsFunc(o.Shares, func(x space.Share) bool { return !slices.Contains(x.Fields, f) }) {
				f.Value = strings.TrimSpace(f.Value + " for " + what)
			}
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return space.Outcome{Fields: out}.Canonical().Fields
}
