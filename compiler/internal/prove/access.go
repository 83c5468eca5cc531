package prove

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Access asks who may do more or less at one scope: two lists that say for every
// request, whoever sends it, whether it is let through.
type Access struct {
	Scope         space.Scope
	Before, After space.List
	// Moves are callers that have another identity on each side.
	Moves []Move
	// Absent are identities that only moves have: of them nothing is told.
	Absent []string
	// Split are paths that witnesses should differ in.
	Split []space.Pattern
}

// Move is a caller that changes its identity.
type Move struct {
	// Name is whose identity it is, in the asker's words.
	Name          string
	Before, After string
}

// AccessChange is a set of requests that are let through on one side only: the
// product of its parts.
type AccessChange struct {
	// Gained says that they are let through after, else before.
	Gained bool
	// Who are the callers by identity, Movers those besides.
	Who    Set
	Movers []Move
	// Methods and Paths say which requests, Rest what else must hold of them.
	Methods, Paths Set
	Rest           []space.Test
	// Witnesses are such requests, the plainest first, at most MaxWitnesses.
	Witnesses []AccessWitness
}

// MaxWitnesses is how many requests an AccessChange carries at most.
const MaxWitnesses = 32

// AccessWitness is a request, as its caller sends it on each side, and the rules that
// decide it.
type AccessWitness struct {
	Before, After space.Request
	By            [2]space.Rule
}

// maxConditions bounds the distinct conditions on anything but caller, method and path
// that the rules of one scope ask: every combination of them is looked at.
const maxConditions = 10

// CompareAccess finds all requests that are let through on one side only. Together
// the changes are exactly these. What many callers gain or lose alike is one change,
// also where some of them gain or lose more.
func CompareAccess(q Access, lim Limits) ([]AccessChange, error) {
	q.Before, q.After = closedBy(q.Before, space.Refused()), closedBy(q.After, space.Refused())
	if len(q.Moves) == 0 && equalLists(q.Before, q.After) {
		return nil, nil
	}
	c, err := newAccessComparison(q, lim)
	if err != nil {
		return nil, err
	}
	c.everyCaller()
	return c.changes()
}

func closedBy(l space.List, o space.Outcome) space.List {
	if n := len(l); n > 0 && len(l[n-1].When) == 0 {
		return l
	}
	return append(slices.Clip(l), space.Rule{Then: o})
}

// accessComparison is one run of CompareAccess.
type accessComparison struct {
	q      Access
	p      *problem
	shared []space.Pattern
	search *search
	prefer *preferences
	sides  [2][]accessRule
	// conditions are what rules ask besides caller, method and path, none negated;
	// worlds are the combinations of their truth that some request has.
	conditions             []space.Test
	worlds                 []uint
	identity, method, path int // dimensions, -1 where no rule tests one
	// kinds are the callers in a world to whom the same happens, by the rules that apply.
	kinds map[string]*accessKind
	order []string
}

// accessRule is a rule over atoms, its further conditions as bits.
type accessRule struct {
	rule                   space.Rule
	identity, method, path bitset // nil: any
	want, not              uint
	lets                   bool
}

// area is a set of methods with a set of paths.
type area struct{ methods, paths bitset }

// asker is a kind of caller: an atom of identities, or a move.
type asker struct{ atom, move int } // move is -1 for an atom

// accessKind is what one side alone lets through of callers that meet the same rules.
type accessKind struct {
	all, left [2][]bitset // lost and gained: paths by method; left is what is not told yet
	in        map[asker][]uint
	callers   []asker
}

// accessGroup is one area in one set of worlds, with all whom it concerns.
type accessGroup struct {
	area
	gained bool
	worlds []uint
	who    bitset
	movers []Move
}

func newAccessComparison(q Access, lim Limits) (*accessComparison, error) {
	extra := space.List{{When: []space.Test{{Dim: space.PathDim, Any: q.Split}}}}
	if len(q.Split) == 0 {
		extra = nil
	}
	var named []space.Pattern
	for _, id := range q.Absent {
		named = append(named, space.Pattern{Kind: space.Exact, Text: id})
	}
	for _, m := range q.Moves {
		named = append(named, space.Pattern{Kind: space.Exact, Text: m.Before}, space.Pattern{Kind: space.Exact, Text: m.After})
	}
	accounts := shared(q.Before, q.After)
	named = append(named, accounts...)
	if len(named) > 0 {
		extra = append(extra, space.Rule{When: []space.Test{{Dim: space.IdentityDim, Any: named}}})
	}
	if plain := literals(q.Before, q.After); len(plain) > 0 {
		extra = append(extra, space.Rule{When: []space.Test{{Dim: space.PathDim, Any: plain}}})
	}
	p, err := newProblem(q.Scope, lim, q.Before, q.After, extra)
	if err != nil {
		return nil, err
	}
	c := &accessComparison{q: q, p: p, shared: accounts, kinds: map[string]*accessKind{}}
	c.identity, c.method, c.path = slices.Index(p.dims, space.IdentityDim), slices.Index(p.dims, space.MethodDim), slices.Index(p.dims, space.PathDim)
	for side, l := range []space.List{q.Before, q.After} {
		for _, r := range l {
			c.sides[side] = append(c.sides[side], c.rule(r))
		}
	}
	if len(c.conditions) > maxConditions {
		return nil, &BudgetError{Scope: q.Scope, Budget: "more than " + strconv.Itoa(maxConditions) + " conditions of access"}
	}
	c.prefer = p.preferences()
	if err := c.possibleWorlds(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *accessComparison) rule(r space.Rule) accessRule {
	out := accessRule{rule: r, lets: r.Then.Verdict == space.Forward}
	var plain space.Rule
	for _, t := range r.When {
		if t.Dim == space.IdentityDim || t.Dim == space.MethodDim || t.Dim == space.PathDim {
			plain.When = append(plain.When, t)
			continue
		}
		negated := t.Not
		t.Not = false
		i := slices.IndexFunc(c.conditions, func(x space.Test) bool { return x.Key() == t.Key() })
		if i < 0 {
			i = len(c.conditions)
			c.conditions = append(c.conditions, t)
		}
		if bit := uint(1) << min(i, maxConditions); negated {
			out.not |= bit
		} else {
			out.want |= bit
		}
	}
	coded := c.p.code(plain)
	at := func(dim int) bitset {
		if dim < 0 {
			return nil
		}
		return coded.dims[dim]
	}
	out.identity, out.method, out.path = at(c.identity), at(c.method), at(c.path)
	return out
}

// tests are what holds in a world: each condition, or its negation; asked says which.
func (c *accessComparison) tests(world, asked uint) []space.Test {
	var out []space.Test
	for i, t := range c.conditions {
		if asked&(1<<i) != 0 {
			t.Not = world&(1<<i) == 0
			out = append(out, t)
		}
	}
	return out
}

func (c *accessComparison) possibleWorlds() error {
	all := uint(1)<<len(c.conditions) - 1
	for w := uint(0); w <= all; w++ {
		r := c.p.code(space.Rule{When: c.tests(w, all)})
		if c.search = c.p.newSearch(); c.search.find([]*coded{&r}, nil) {
			c.worlds = append(c.worlds, w)
		} else if err := c.search.budgetErr(); err != nil {
			return err
		}
	}
	return nil
}

// atomsOf is how many kinds of value a dimension has.
func (c *accessComparison) atomsOf(dim int) int {
	if dim < 0 {
		return 1
	}
	return len(c.p.atoms[dim].witness)
}

// absent are the atoms of callers of whom nothing is told.
func (c *accessComparison) absent() bitset {
	out := newBits(c.atomsOf(c.identity))
	for _, id := range c.q.Absent {
		if a := c.p.atoms[c.identity].atomOf(id); a >= 0 {
			out.add(a)
		}
	}
	return out
}

// everyCaller compares for all kinds of caller, then for those that move.
func (c *accessComparison) everyCaller() {
	absent := c.absent()
	for caller := range c.atomsOf(c.identity) {
		if !absent.has(caller) {
			c.caller(caller, caller, asker{caller, -1})
		}
	}
	for i, m := range c.q.Moves {
		b, a := c.p.atoms[c.identity].atomOf(m.Before), c.p.atoms[c.identity].atomOf(m.After)
		if b >= 0 && a >= 0 {
			c.caller(b, a, asker{-1, i})
		}
	}
}

// caller compares for one caller: an atom of identities on each side.
func (c *accessComparison) caller(before, after int, who asker) {
	for _, w := range c.worlds {
		b, a := c.applying(0, before, w), c.applying(1, after, w)
		key := fmt.Sprint(b, a)
		k := c.kinds[key]
		if k == nil {
			k = c.kind(b, a)
			c.kinds[key] = k
			c.order = append(c.order, key)
		}
		if k.in[who] == nil {
			k.callers = append(k.callers, who)
		}
		k.in[who] = append(k.in[who], w)
	}
}

// kind compares two lists of rules.
func (c *accessComparison) kind(before, after []int) *accessKind {
	k := &accessKind{in: map[asker][]uint{}}
	for m := range c.atomsOf(c.method) {
		b, a := c.letThrough(0, before, m), c.letThrough(1, after, m)
		k.all[0], k.all[1] = append(k.all[0], b.minus(a)), append(k.all[1], a.minus(b))
	}
	k.left = [2][]bitset{slices.Clone(k.all[0]), slices.Clone(k.all[1])}
	return k
}

// holds reports whether all of an area is in a table, paths by method.
func (x area) holds(in []bitset) bool {
	ok := true
	x.methods.each(func(m int) bool {
		ok = x.paths.within(in[m])
		return ok
	})
	return ok
}

func (x area) takenFrom(in []bitset) {
	x.methods.each(func(m int) bool {
		in[m] = in[m].minus(x.paths)
		return true
	})
}

// groups cuts what was found into products, those that tell the most first.
func (c *accessComparison) groups() []*accessGroup {
	var out []*accessGroup
	for side := range 2 {
		for areas := c.areasLeft(side); len(areas) > 0; areas = c.areasLeft(side) {
			for _, x := range areas {
				// What was told in part meanwhile is cut anew.
				if slices.ContainsFunc(c.order, func(key string) bool { return x.holds(c.kinds[key].left[side]) }) {
					out = append(out, c.groupsOf(side, x)...)
				}
			}
		}
	}
	return out
}

// areasLeft are the products of what is not told yet, those that tell the most first.
func (c *accessComparison) areasLeft(side int) []area {
	type scored struct {
		area
		tells int
	}
	var all []scored
	seen := map[string]bool{}
	for _, key := range c.order {
		for _, x := range rectangles(c.kinds[key].left[side], c.atomsOf(c.path)) {
			if id := fmt.Sprint(x); !seen[id] {
				seen[id] = true
				all = append(all, scored{x, c.concerned(side, x)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return b.tells - a.tells })
	out := make([]area, len(all))
	for i, x := range all {
		out[i] = x.area
	}
	return out
}

// concerned is how much an area tells: kinds of caller times kinds of request.
func (c *accessComparison) concerned(side int, x area) int {
	n := 0
	for _, key := range c.order {
		if k := c.kinds[key]; x.tells(k, side) {
			n += len(k.callers)
		}
	}
	return n * x.methods.count() * x.paths.count()
}

// tells reports whether all of an area happens to callers of a kind, and some of it is
// not told yet.
func (x area) tells(k *accessKind, side int) bool {
	left := false
	x.methods.each(func(m int) bool {
		left = x.paths.meets(k.left[side][m])
		return !left
	})
	return left && x.holds(k.all[side])
}

// groupsOf says of an area whom it concerns, by the worlds in which it does.
func (c *accessComparison) groupsOf(side int, x area) []*accessGroup {
	worlds := map[asker][]uint{}
	var callers []asker
	for _, key := range c.order {
		k := c.kinds[key]
		if !x.tells(k, side) {
			continue
		}
		x.takenFrom(k.left[side])
		for _, who := range k.callers {
			if worlds[who] == nil {
				callers = append(callers, who)
			}
			worlds[who] = append(worlds[who], k.in[who]...)
		}
	}
	var out []*accessGroup
	for _, who := range callers {
		slices.Sort(worlds[who])
		i := slices.IndexFunc(out, func(g *accessGroup) bool { return slices.Equal(g.worlds, worlds[who]) })
		if i < 0 {
			i = len(out)
			out = append(out, &accessGroup{area: x, gained: side == 1, worlds: worlds[who], who: newBits(c.atomsOf(c.identity))})
		}
		if who.move >= 0 {
			out[i].movers = append(out[i].movers, c.q.Moves[who.move])
		} else {
			out[i].who.add(who.atom)
		}
	}
	return out
}

// applying lists the rules of a side that a caller may meet in a world.
func (c *accessComparison) applying(side, caller int, world uint) []int {
	var out []int
	for i, r := range c.sides[side] {
		if (r.identity == nil || r.identity.has(caller)) && r.want&^world == 0 && r.not&world == 0 {
			out = append(out, i)
		}
	}
	return out
}

// letThrough are the paths that a list lets through with a method.
func (c *accessComparison) letThrough(side int, rules []int, method int) bitset {
	open, out := fullBits(c.atomsOf(c.path)), newBits(c.atomsOf(c.path))
	for _, i := range rules {
		r := &c.sides[side][i]
		if r.method != nil && !r.method.has(method) {
			continue
		}
		taken := open
		if r.path != nil {
			taken = open.and(r.path)
		}
		if r.lets {
			out.orInto(taken)
		}
		if open = open.minus(taken); open.empty() {
			break
		}
	}
	return out
}

// rectangles cuts a table, paths by method, into products: by methods or by paths,
// whichever makes fewer.
func rectangles(table []bitset, paths int) []area {
	var byMethods, byPaths []area
	for m, in := range table {
		if in.empty() {
			continue
		}
		i := slices.IndexFunc(byMethods, func(x area) bool { return slices.Equal(x.paths, in) })
		if i < 0 {
			i = len(byMethods)
			byMethods = append(byMethods, area{newBits(len(table)), in})
		}
		byMethods[i].methods.add(m)
	}
	if len(byMethods) < 2 {
		return byMethods
	}
	for p := range paths {
		methods := newBits(len(table))
		for m, in := range table {
			if in.has(p) {
				methods.add(m)
			}
		}
		if methods.empty() {
			continue
		}
		i := slices.IndexFunc(byPaths, func(x area) bool { return slices.Equal(x.methods, methods) })
		if i < 0 {
			i = len(byPaths)
			byPaths = append(byPaths, area{methods, newBits(paths)})
		}
		byPaths[i].paths.add(p)
	}
	if len(byPaths) < len(byMethods) {
		return byPaths
	}
	return byMethods
}

// changes words what was found.
func (c *accessComparison) changes() ([]AccessChange, error) {
	var out []AccessChange
	for g := range c.sayable(c.groups()) {
		base := AccessChange{Gained: g.gained, Movers: g.movers, Methods: c.words(c.method, g.methods), Paths: c.words(c.path, g.paths)}
		if !g.who.empty() {
			base.Who = c.words(c.identity, g.who.or(c.identitiesOf(g.movers)))
		}
		for _, part := range c.cubes(g.worlds) {
			ch := base
			ch.Rest = c.tests(part.world, part.asked)
			var err error
			if ch.Witnesses, err = c.witnesses(g, part.world); err != nil {
				return nil, err
			}
			out = append(out, ch)
		}
	}
	return out, nil
}

// sayable cuts groups whose callers no words say at once: some by name, beside others
// without a kind to which those belong.
func (c *accessComparison) sayable(groups []*accessGroup) iter.Seq[*accessGroup] {
	return func(yield func(*accessGroup) bool) {
		for _, g := range groups {
			for _, part := range c.parted(g) {
				if !yield(part) {
					return
				}
			}
		}
	}
}

func (c *accessComparison) parted(g *accessGroup) []*accessGroup {
	if c.identity < 0 || g.who.empty() {
		return []*accessGroup{g}
	}
	who, a := c.words(c.identity, g.who.or(c.identitiesOf(g.movers))), c.p.atoms[c.identity]
	named := a.domainOf(who.In)
	if !named.meets(a.domainOf(who.Except)) {
		return []*accessGroup{g}
	}
	some, others := *g, *g
	some.who, some.movers = g.who.and(named), nil
	others.who = g.who.minus(named)
	return slices.DeleteFunc([]*accessGroup{&some, &others}, func(g *accessGroup) bool { return g.who.empty() && len(g.movers) == 0 })
}

// identitiesOf are the atoms of both identities of moves: nobody else has them.
func (c *accessComparison) identitiesOf(moves []Move) bitset {
	out := newBits(c.atomsOf(c.identity))
	for _, m := range moves {
		for _, id := range []string{m.Before, m.After} {
			if slices.Contains(c.q.Absent, id) {
				out.add(max(0, c.p.atoms[c.identity].atomOf(id)))
			}
		}
	}
	return out
}

func (c *accessComparison) words(dim int, in bitset) Set {
	if dim < 0 {
		return Set{All: true}
	}
	a, candidates := c.p.atoms[dim], c.candidates(c.p.dims[dim])
	if plain, within := a.plainly(in, candidates); !within.empty() {
		return plain.cover(within, candidates)
	}
	return a.cover(in, candidates) // nothing but odd spellings
}

// shared are the accounts that two patterns of accounts both take, as far as one pattern says which: what is
// left of the one without the other may have to be told in other words than they are.
func shared(lists ...space.List) []space.Pattern {
	var all []space.Pattern
	for _, r := range slices.Concat(lists...) {
		for _, t := range r.When {
			if t.Dim == space.IdentityDim {
				all = append(all, t.Any...)
			}
		}
	}
	slices.SortFunc(all, comparePatterns)
	all = slices.DeleteFunc(slices.Compact(all), func(p space.Pattern) bool {
		return p.Kind != space.Wild && (p.Kind != space.Prefix || !strings.HasSuffix(p.Text, inNamespace))
	})
	var out []space.Pattern
	for i, p := range all {
		for _, o := range all[:i] {
			if b, ok := both(p, o); ok && b != p && b != o {
				out = append(out, b)
			}
		}
	}
	return out
}

// both is the pattern of the accounts that p and o take; false where there are none, or where it takes more
// than one pattern to say so.
func both(p, o space.Pattern) (space.Pattern, bool) {
	ps, os := strings.Split(glob(p), "/"), strings.Split(glob(o), "/")
	if len(ps) != len(os) {
		return space.Pattern{}, false
	}
	for i, s := range ps {
		within := func(part, whole string) bool {
			return part == whole || whole == "*" || !strings.Contains(part, "*") && (space.Pattern{Kind: space.Wild, Text: whole}).Matches(part)
		}
		switch {
		case within(s, os[i]):
		case within(os[i], s):
			ps[i] = os[i]
		default:
			return space.Pattern{}, false
		}
	}
	text := strings.Join(ps, "/")
	switch namespace, whole := strings.CutSuffix(text, inNamespace+"*"); {
	case !strings.Contains(text, "*"):
		return space.Pattern{Kind: space.Exact, Text: text}, true
	case whole && !strings.Contains(namespace, "*"):
		return space.Pattern{Kind: space.Prefix, Text: namespace + inNamespace}, true
	}
	return space.Pattern{Kind: space.Wild, Text: text}, true
}

// glob is a pattern of accounts with "*" for any text without a slash.
func glob(p space.Pattern) string {
	if p.Kind == space.Prefix {
		return p.Text + "*"
	}
	return p.Text
}

// inNamespace is what stands in an identity between the namespace and the account.
const inNamespace = "/sa/"

// candidates are the patterns that the lists themselves say, in their order.
func (c *accessComparison) candidates(d space.Dim) []space.Pattern {
	var out []space.Pattern
	for _, l := range []space.List{c.q.Before, c.q.After} {
		for _, r := range l {
			for _, t := range r.When {
				if t.Dim == d {
					out = append(out, t.Any...)
				}
			}
		}
	}
	if d == space.IdentityDim {
		out = append(out, c.shared...)
		for _, id := range c.q.Absent { // who moves may have to be left out
			out = append(out, space.Pattern{Kind: space.Exact, Text: id})
		}
	}
	slices.SortFunc(out, comparePatterns)
	return slices.Compact(out)
}

// cube is a set of worlds: those that agree with world in what is asked.
type cube struct{ world, asked uint }

// cubes says which conditions matter for a set of worlds: as few as do for one world after the
// other that no cube has yet, those that hold rather than those that do not.
func (c *accessComparison) cubes(worlds []uint) []cube {
	in := map[uint]bool{}
	for _, w := range worlds {
		in[w] = true
	}
	var others []uint
	for _, w := range c.worlds {
		if !in[w] {
			others = append(others, w)
		}
	}
	var out []cube
	for _, w := range worlds {
		if slices.ContainsFunc(out, func(x cube) bool { return x.world&x.asked == w&x.asked }) {
			continue
		}
		x := cube{w, uint(1)<<len(c.conditions) - 1}
		for _, holding := range []bool{false, true} {
			for i := range c.conditions {
				bit := uint(1) << i
				if (w&bit != 0) == holding && !slices.ContainsFunc(others, func(o uint) bool { return o&(x.asked&^bit) == w&(x.asked&^bit) }) {
					x.asked &^= bit
				}
			}
		}
		out = append(out, x)
	}
	return out
}

// witnesses are requests of a group in one world.
func (c *accessComparison) witnesses(g *accessGroup, world uint) ([]AccessWitness, error) {
	box := c.p.code(space.Rule{When: c.tests(world, uint(1)<<len(c.conditions)-1)})
	set := func(dim int, to bitset) {
		if dim >= 0 {
			box.dims[dim] = to
		}
	}
	set(c.method, g.methods)
	callers := [2]bitset{g.who, g.who}
	if g.who.empty() {
		m := g.movers[0]
		for side, id := range []string{m.Before, m.After} {
			callers[side] = newBits(c.atomsOf(c.identity))
			callers[side].add(c.p.atoms[c.identity].atomOf(id))
		}
	}
	var out []AccessWitness
	var err error
	for kind := range c.atomsOf(c.path) {
		if !g.paths.has(kind) || len(out) == MaxWitnesses {
			continue
		}
		one := newBits(c.atomsOf(c.path))
		one.add(kind)
		set(c.path, one)
		var w AccessWitness
		for side := range callers {
			set(c.identity, callers[side])
			if c.search = c.p.newSearch(); !c.search.find([]*coded{&box}, nil) {
				err = c.search.budgetErr()
				break
			}
			q := c.prefer.request(c.search)
			if side == 0 {
				w.Before = q
			} else {
				w.After = q
			}
			w.By[side] = c.decides(side, q, world)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return plainestFirst(out), nil
}

func plainestFirst(ws []AccessWitness) []AccessWitness {
	slices.SortStableFunc(ws, func(a, b AccessWitness) int {
		return len(a.After.Path) + len(a.After.Headers) - len(b.After.Path) - len(b.After.Headers)
	})
	return ws
}

// decides is the rule that a request of a world meets first.
func (c *accessComparison) decides(side int, q space.Request, world uint) space.Rule {
	atom := func(dim int, value string) int {
		if dim < 0 {
			return 0
		}
		return max(0, c.p.atoms[dim].atomOf(value))
	}
	from, method, path := atom(c.identity, q.From), atom(c.method, q.Method), atom(c.path, q.Path)
	in := func(set bitset, atom int) bool { return set == nil || set.has(atom) }
	for _, r := range c.sides[side] {
		if r.want&^world == 0 && r.not&world == 0 && in(r.identity, from) && in(r.method, method) && in(r.path, path) {
			return r.rule
		}
	}
	return space.Rule{Then: space.Refused()}
}
