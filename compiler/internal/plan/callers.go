package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
)

// CallerKind says what sort of caller a Caller is.
type CallerKind string

// The kinds of caller.
const (
	CallerService   CallerKind = "service"   // a service, by its ID
	CallerGateway   CallerKind = "gateway"   // a gateway, by its ID
	CallerAccount   CallerKind = "account"   // an account "namespace/name" that no service has alone
	CallerNamespace CallerKind = "namespace" // every account of a namespace
	CallerAccounts  CallerKind = "accounts"  // accounts that a pattern takes, "*/admin"
	CallerMesh      CallerKind = "mesh"      // every identity of the trust domain
	CallerPlaintext CallerKind = "plaintext" // callers without identity
	CallerAnyone    CallerKind = "anyone"    // whoever reaches the port
	CallerOther     CallerKind = "other"     // an identity, or a pattern of them
)

// Caller is one of those whom a change of access is about.
type Caller struct {
	Kind CallerKind `json:"kind"`
	// Name is an ID or a name, "" for the kinds that have none.
	Name string `json:"name,omitempty"`
	// Version is the only version of the service that is meant, "" for all.
	Version string `json:"version,omitempty"`
}

func (c Caller) compare(o Caller) int {
	return cmp.Or(cmp.Compare(c.Kind, o.Kind), cmp.Compare(c.Name, o.Name), cmp.Compare(c.Version, o.Version))
}

// text is the caller as a user writes it in namespace near.
func (c Caller) text(near string) string {
	name := strings.TrimPrefix(c.Name, near+"/")
	switch c.Kind {
	case CallerGateway:
		return "gateway/" + name
	case CallerAccount:
		return "account " + c.Name
	case CallerNamespace:
		return "namespace " + c.Name
	case CallerAccounts:
		return "accounts " + c.Name
	case CallerMesh:
		return "anyone in the mesh"
	case CallerPlaintext:
		return "callers without identity"
	case CallerAnyone:
		return "anyone"
	case CallerOther:
		return c.Name
	case CallerService:
	}
	if c.Version != "" {
		name += " " + c.Version
	}
	return name
}

// callerSet is who a change of access is about.
type callerSet struct {
	in, except []Caller
	// rough says that of except only some are not meant.
	rough bool
}

func (s callerSet) equal(o callerSet) bool {
	return slices.Equal(s.in, o.in) && slices.Equal(s.except, o.except) && s.rough == o.rough
}

func (s callerSet) text(near string) string {
	words := func(cs []Caller) string {
		parts := make([]string, 0, len(cs))
		for _, c := range cs {
			parts = append(parts, c.text(near))
		}
		slices.Sort(parts)
		return limited(parts, ", ", mostCallers)
	}
	text := words(s.in)
	if len(s.except) > 0 {
		text += but(s.rough) + words(s.except)
	}
	return text
}

// mostCallers is how many callers a text names.
const mostCallers = 8

// callers are those of a proof, by what they are called on both sides.
func (s speaker) callers(who prove.Set, movers []prove.Move, moved map[string]Caller) callerSet {
	out := callerSet{rough: who.Rough}
	add := func(to *[]Caller, ps []space.Pattern) {
		for _, p := range ps {
			if c := s.callerOf(p); c.Kind == CallerService && !s.whole(c.Name, ps) {
				*to = append(*to, s.accountNamed(p.Text))
			} else {
				*to = append(*to, c)
			}
		}
	}
	add(&out.in, who.In)
	add(&out.in, who.Wide)
	add(&out.except, who.Except)
	if who.All {
		out.in = append(out.in, Caller{Kind: CallerAnyone})
	}
	if has := func(k CallerKind) bool {
		return slices.ContainsFunc(out.in, func(c Caller) bool { return c.Kind == k })
	}; has(CallerMesh) && has(CallerPlaintext) {
		out.in = slices.DeleteFunc(out.in, func(c Caller) bool { return c.Kind == CallerMesh || c.Kind == CallerPlaintext })
		out.in = append(out.in, Caller{Kind: CallerAnyone})
	}
	for _, m := range movers {
		out.in = append(out.in, moved[m.Name])
	}
	for _, cs := range []*[]Caller{&out.in, &out.except} {
		slices.SortFunc(*cs, Caller.compare)
		*cs = slices.Compact(*cs)
	}
	return out
}

// callerOf names a pattern of identities.
func (s speaker) callerOf(p space.Pattern) Caller {
	if p.Kind == space.Exact {
		return s.callerNamed(p.Text)
	}
	inside, ok := strings.CutPrefix(p.Text, "spiffe://"+s.trustDomain+"/")
	switch {
	case p.Kind == space.Identified:
		return Caller{Kind: CallerOther, Name: identified(p)}
	case ok && p.Kind == space.Wild:
		return Caller{Kind: CallerAccounts, Name: strings.Replace(strings.TrimPrefix(inside, "ns/"), "/sa/", "/", 1)}
	case !ok || p.Kind != space.Prefix:
		return Caller{Kind: CallerOther, Name: s.identityPattern(p, "")}
	case inside == "":
		return Caller{Kind: CallerMesh}
	}
	return Caller{Kind: CallerNamespace, Name: strings.TrimSuffix(strings.TrimPrefix(inside, "ns/"), "/sa/")}
}

func (s speaker) callerNamed(identity string) Caller {
	if identity == "" {
		return Caller{Kind: CallerPlaintext}
	}
	if name, ok := s.names[identity]; ok {
		if gateway, is := strings.CutPrefix(name, "gateway/"); is {
			return Caller{Kind: CallerGateway, Name: gateway}
		}
		return Caller{Kind: CallerService, Name: name}
	}
	return s.accountNamed(identity)
}

func (s speaker) accountNamed(identity string) Caller {
	rest, inside := strings.CutPrefix(identity, "spiffe://"+s.trustDomain+"/ns/")
	if ns, account, ok := strings.Cut(rest, "/sa/"); inside && ok {
		return Caller{Kind: CallerAccount, Name: ns + "/" + account}
	}
	return Caller{Kind: CallerOther, Name: identity}
}

// whole reports whether patterns have all identities that a service has on one of the sides:
// else its name would say too much of its versions' accounts.
func (s speaker) whole(name string, ps []space.Pattern) bool {
	several := false
	for _, side := range s.sides {
		ids := side[name]
		several = several || len(ids) > 0
		if len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(ps, space.Pattern{Kind: space.Exact, Text: id}) }) {
			return true
		}
	}
	return !several
}

// moves are the workloads that run as another account after the change: what these may
// do is compared across both identities.
type moves struct {
	list   []prove.Move
	absent []string          // identities that only these have
	names  map[string]Caller // by a move's name
}

// holders maps an identity to the workloads that have it: a service's versions, gateways.
func holders(m *model.Mesh) map[string][]string {
	out := map[string][]string{}
	for _, s := range m.Services {
		for _, v := range s.Versions {
			id := s.Class(v).SPIFFEID(m.TrustDomain)
			out[id] = append(out[id], s.ID+" "+v.Name)
		}
	}
	for _, g := range m.Gateways {
		id := g.Class().SPIFFEID(m.TrustDomain)
		out[id] = append(out[id], "gateway/"+g.ID)
	}
	return out
}

// formerly are the identities of former accounts in either mesh: some workloads have them before and after.
func formerly(ms ...*model.Mesh) map[string]bool {
	out := map[string]bool{}
	note := func(m *model.Mesh, classes []release.Class) {
		for _, c := range classes[1:] {
			out[c.SPIFFEID(m.TrustDomain)] = true
		}
	}
	for _, m := range ms {
		for _, s := range m.Services {
			for _, v := range s.Versions {
				note(m, s.Classes(v))
			}
		}
		for _, g := range m.Gateways {
			note(m, g.Classes())
		}
	}
	return out
}

// moved finds the workloads whose identity changes. Versions of one service that move
// together are one mover.
func (c *comparison) moved() moves {
	out := moves{names: map[string]Caller{}}
	movers := map[string]bool{}
	add := func(who Caller, before, after string) {
		m := prove.Move{Name: who.text("") + " " + before + " " + after, Before: before, After: after}
		if _, ok := out.names[m.Name]; !ok {
			out.names[m.Name] = who
			out.list = append(out.list, m)
		}
	}
	for _, a := range c.after.Services {
		b := c.before.Service(a.ID)
		if b == nil {
			continue
		}
		together := movesTogether(b, a)
		for _, v := range a.Versions {
			was, ok := b.Version(v.Name)
			if !ok || was.Account == v.Account {
				continue
			}
			movers[a.ID+" "+v.Name] = true
			who := Caller{Kind: CallerService, Name: a.ID, Version: v.Name}
			if together {
				who.Version = ""
			}
			add(who, b.Class(was).SPIFFEID(c.after.TrustDomain), a.Class(v).SPIFFEID(c.after.TrustDomain))
		}
	}
	for _, a := range c.after.Gateways {
		if b := c.before.Gateway(a.ID); b != nil && b.Account != a.Account {
			movers["gateway/"+a.ID] = true
			add(Caller{Kind: CallerGateway, Name: a.ID}, b.Class().SPIFFEID(c.after.TrustDomain), a.Class().SPIFFEID(c.after.TrustDomain))
		}
	}
	before, after := holders(c.before), holders(c.after)
	kept := formerly(c.before, c.after)
	for _, m := range out.list {
		for _, id := range []string{m.Before, m.After} {
			if !kept[id] && !slices.ContainsFunc(slices.Concat(before[id], after[id]), func(w string) bool { return !movers[w] }) {
				out.absent = appendNew(out.absent, id)
			}
		}
	}
	return out
}

// movesTogether reports whether every version has one old and one new account.
func movesTogether(b, a *model.Service) bool {
	one := func(s *model.Service) bool {
		return !slices.ContainsFunc(s.Versions, func(v model.Version) bool {
			return v.Account != s.Versions[0].Account || !slices.Equal(v.Former, s.Versions[0].Former)
		})
	}
	return len(b.Versions) > 0 && len(a.Versions) > 0 && one(b) && one(a)
}

// access compares what the destination's proxy lets through from whoever holds an
// identity, whatever that one's own proxy would do with the request.
func (n *narrator) accessChanges(lim prove.Limits) error {
	changes, err := prove.CompareAccess(prove.Access{
		Scope: n.p.after.Scope, Before: n.known(n.p.before.Access), After: n.known(n.p.after.Access),
		Moves: n.c.movers.list, Absent: n.c.movers.absent, Split: n.routedPaths(),
	}, lim)
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if err := n.accessChange(ch, lim); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		n.c.touch(n.p)
	}
	return nil
}

// known is a list as those meet it whom a proxy can know: by an identity of the mesh, or by none.
// Whoever has one of another trust domain gets through no handshake, but where a grant names it, and has none in plaintext.
func (n *narrator) known(l space.List) space.List {
	if n.p.external {
		return l
	}
	who := []space.Pattern{{Kind: space.Prefix, Text: "spiffe://" + n.c.after.TrustDomain + "/"}, {Kind: space.Exact}}
	for _, m := range []*model.Mesh{n.c.before, n.c.after} {
		for _, domain := range foreign(m, n.p.after.Scope) {
			who = append(who, space.Pattern{Kind: space.Prefix, Text: "spiffe://" + domain + "/"})
		}
	}
	stranger := space.Rule{When: []space.Test{{Dim: space.IdentityDim, Any: who, Not: true}}, Then: space.Refused()}
	return append(space.List{stranger}, l...)
}

// foreign are the trust domains of others whose identities the port of a scope takes.
func foreign(m *model.Mesh, at space.Scope) []string {
	if s := m.Service(at.ID); s != nil {
		if p, ok := s.Port(at.Port); ok {
			return s.Foreign(p)
		}
	}
	return nil
}

// routedPaths are the paths that routes look at, as long as they are few: a witness
// that a route takes says more than one that is hidden behind a 404.
func (n *narrator) routedPaths() []space.Pattern {
	const most = 64
	var out []space.Pattern
	for _, d := range []space.Decision{n.p.before, n.p.after} {
		for _, r := range d.Routes {
			for _, t := range r.When {
				if t.Dim == space.PathDim {
					out = append(out, t.Any...)
				}
			}
		}
	}
	if len(out) > most {
		return nil
	}
	return out
}

func (n *narrator) accessChange(ch prove.AccessChange, lim prove.Limits) error {
	w, by, err := n.accessWitness(ch, lim)
	if err != nil {
		return err
	}
	p := piece{kind: KindAccess, class: Narrowing, scope: n.p.display, at: n.p.after.Scope, witness: w}
	p.gained, p.callers = ch.Gained, n.say.callers(ch.Who, ch.Movers, n.c.movers.names)
	p.methods, p.paths, p.rest = ch.Methods, ch.Paths, ch.Rest
	p.before, p.after = n.origins(by[0], n.p.opened), n.origins(by[1], n.p.removed)
	b, a := space.Forward, space.Denied
	if ch.Gained {
		p.class, b, a = Widening, a, b
	}
	p.says = Change{What: AccessOf, Was: accessFate(b, n.p.opened), Is: accessFate(a, n.p.removed)}
	if n.p.external {
		n.egress(&p)
	}
	if len(ch.Movers) > 0 && len(ch.Who.In) == 0 {
		w.Caller = n.c.movers.names[ch.Movers[0].Name].text("")
	}
	for _, who := range p.callers.in {
		n.c.askers[who] = true
	}
	n.c.add(p)
	return nil
}

// egress words a way out of the mesh, which is all or nothing. Whoever is gone lost none.
func (n *narrator) egress(p *piece) {
	if p.says = (Change{What: EgressClosed}); p.gained {
		p.says.What = EgressOpened
	}
	gone := func(x Caller) bool { return x.Kind == CallerService && n.c.after.Service(x.Name) == nil }
	if !p.gained && !slices.ContainsFunc(p.callers.in, func(x Caller) bool { return !gone(x) }) {
		p.class = Neutral
	}
}

func accessFate(v space.Verdict, missing bool) *Fate {
	if missing {
		return &Fate{Verdict: space.NotFound, Missing: true}
	}
	return &Fate{Verdict: v}
}

func (n *narrator) origins(r space.Rule, missing bool) []space.Origin {
	if missing {
		return nil
	}
	return r.From
}

// accessWitness chooses the request to show: one that its caller's own proxy sends on as
// well, if there is one, else one that is put to the destination's proxy itself.
func (n *narrator) accessWitness(ch prove.AccessChange, lim prove.Limits) (*Witness, [2]space.Rule, error) {
	for _, w := range ch.Witnesses {
		b, a := n.lets(n.p.before.Access, w.Before), n.lets(n.p.after.Access, w.After)
		if b == a || a != ch.Gained {
			return nil, w.By, fmt.Errorf("internal error: the evaluator does not confirm the witness %+v of access to %q", w, n.p.display)
		}
	}
	if n.p.external {
		return n.egressWitness(ch.Witnesses[0], lim)
	}
	for _, w := range ch.Witnesses {
		if !n.c.callsThere(n.p, w.Before.From, w.After.From) {
			continue
		}
		b, a := eval.Decide(n.p.before, w.Before), eval.Decide(n.p.after, w.After)
		if (b.Outcome.Verdict == space.Forward) == (a.Outcome.Verdict == space.Forward) {
			continue
		}
		by := [2]space.Rule{{From: b.From}, {From: a.From}}
		return n.witness(w, b.Outcome, a.Outcome, false), by, nil
	}
	w := ch.Witnesses[0]
	return n.witness(w, n.said(w.By[0], n.p.opened), n.said(w.By[1], n.p.removed), true), w.By, nil
}

// said is what the destination's proxy says by a rule; where there is none, nobody says anything.
func (n *narrator) said(r space.Rule, missing bool) space.Outcome {
	if missing {
		return space.NotRouted()
	}
	return r.Then
}

// egressWitness is a request of a witness's caller that gets out on one side, if there is
// one: outside is no proxy that could be asked by itself, and a route may take few requests.
func (n *narrator) egressWitness(w prove.AccessWitness, lim prove.Limits) (*Witness, [2]space.Rule, error) {
	changes, err := prove.CompareLists(n.p.after.Scope, eval.AsIdentity(n.p.before.Effective, w.Before.From), eval.AsIdentity(n.p.after.Effective, w.After.From), lim)
	if err != nil {
		return nil, w.By, fmt.Errorf("looking for a call of %q: %w", n.p.own, err)
	}
	for _, ch := range changes {
		if (ch.Before.Then.Verdict == space.Forward) != (ch.After.Then.Verdict == space.Forward) {
			from := [2]string{w.Before.From, w.After.From}
			w.Before, w.After = ch.Witness, ch.Witness
			w.Before.From, w.After.From = from[0], from[1]
			break
		}
	}
	b, a := eval.Decide(n.p.before, w.Before), eval.Decide(n.p.after, w.After)
	return n.witness(w, b.Outcome, a.Outcome, false), [2]space.Rule{{From: b.From}, {From: a.From}}, nil
}

func (n *narrator) lets(l space.List, q space.Request) bool {
	r, ok := eval.First(l, q)
	return ok && r.Then.Verdict == space.Forward
}

func (n *narrator) witness(w prove.AccessWitness, b, a space.Outcome, direct bool) *Witness {
	out := &Witness{Scope: n.p.after.Scope, Request: w.After, Caller: n.say.caller(w.After.From, ""), Before: b, After: a, Direct: direct}
	if w.Before.From != w.After.From {
		out.FromBefore = w.Before.From
	}
	return out
}

// area words methods, paths and further conditions: "GET /reviews/*", "everything".
func area(methods, paths prove.Set, rest []space.Test) string {
	var parts []string
	if m := setWords(methods, func(p space.Pattern) string { return p.Text }); m != "" {
		parts = append(parts, m)
	} else if len(methods.Except) > 0 {
		parts = append(parts, "all methods but "+join(methods.Except, func(p space.Pattern) string { return p.Text }))
	}
	words := setWords(paths, space.PathWords)
	if len(paths.Except) > 0 {
		if words == "" {
			words = "all paths"
		}
		words += but(paths.Rough) + join(paths.Except, space.PathWords)
		if len(paths.In) > 0 && len(paths.Wide) > 0 {
			words = join(paths.Wide, space.PathWords) + but(paths.Rough) + join(paths.Except, space.PathWords) + ", and " + join(paths.In, space.PathWords)
		}
	}
	if words != "" {
		if len(parts) > 0 && len(methods.Except) > 0 {
			words = "on " + words // else the paths read as what is left out
		}
		parts = append(parts, words)
	}
	if r := requested(rest); r != "" {
		parts = append(parts, r)
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, " ")
}

func but(rough bool) string {
	if rough {
		return " except some of "
	}
	return " except "
}

func setWords(s prove.Set, word func(space.Pattern) string) string {
	return join(slices.Concat(s.In, s.Wide), word)
}
