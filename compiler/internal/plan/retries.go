package plan

import (
	"cmp"
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
)

// amplification is, per service, how many requests one request at the edge of
// the call graph can become there in the worst case: the product of tries along
// the worst path of calls. Within a cycle nothing is multiplied; services in
// one are told by the second result.
func amplification(m *model.Mesh, count counter) (worst map[string]int, cyclic map[string]bool) {
	g := callGraph{tries: map[string]int{}, callers: map[string][]string{}, calls: map[edge]int{}}
	for _, s := range m.Services {
		g.tries[s.ID] = max(g.tries[s.ID], 1)
		for _, call := range s.Calls {
			for to, tries := range count.reached(m, call) {
				g.call(s.ID, to, tries)
			}
		}
	}
	for _, s := range m.Services {
		if len(g.callers[s.ID]) == 0 { // what its routes say is for whoever will
			g.tries[s.ID] = max(g.tries[s.ID], count.tries(s, "", trait.Set{}))
		}
	}
	for _, gw := range m.Gateways {
		for _, h := range gw.Hosts {
			for _, e := range m.GatewayRoutes(gw, h) {
				for _, t := range e.To {
					if _, ok := g.tries[t.Service]; ok {
						g.tries[t.Service] = max(g.tries[t.Service], count.meaning.Tries(e.Traits))
					}
				}
			}
		}
	}
	return g.worst(m)
}

// counter counts tries. It remembers those at services for callers that say nothing, of
// however many meshes: one object says the same in all of them.
type counter struct {
	meaning eval.Column
	silent  map[entry]int
}

// entry is a port of a service, "" for all of them.
type entry struct {
	to   *model.Service
	port string
}

// tries is how often a request of a call may be begun, whose caller may say something itself.
func (c counter) tries(to *model.Service, port string, says trait.Set) int {
	here := entry{to, port}
	if n, ok := c.silent[here]; ok && says.Len() == 0 {
		return n
	}
	n := 1
	for _, r := range to.Routes {
		if port != "" && !r.IsFor(port) {
			continue
		}
		n = max(n, c.meaning.Tries(model.Tightens(says, r.To, r.Traits)))
	}
	if says.Len() == 0 {
		c.silent[here] = n
	}
	return n
}

// reached is how often a request of a call may be begun, at the service that is called and at those to which its
// routes lead; nothing if it leaves the mesh.
func (c counter) reached(m *model.Mesh, call model.Call) map[string]int {
	to := m.Service(call.To)
	if to == nil {
		return nil
	}
	out := map[string]int{to.ID: c.tries(to, call.Port, call.Traits)}
	p, ok := to.Port(call.Port)
	if !ok || !to.LeadsOn() {
		return out
	}
	for _, e := range m.ServiceRoutes(to, p, model.EachCaller) {
		for _, t := range e.To {
			if t.Service != to.ID {
				out[t.Service] = max(out[t.Service], c.meaning.Tries(model.Tightens(call.Traits, e.To, e.Traits)))
			}
		}
	}
	return out
}

// callGraph is who calls whom: how often a request may be begun that a call makes, and one
// that comes from outside of all calls.
type callGraph struct {
	tries   map[string]int
	callers map[string][]string
	calls   map[edge]int
}

type edge struct{ from, to string }

// call notes that requests of one service come to another one, each begun so often.
func (g callGraph) call(from, to string, tries int) {
	g.callers[to] = append(g.callers[to], from)
	g.calls[edge{from, to}] = max(g.calls[edge{from, to}], tries)
}

// maxAmplification stops the product: beyond it the number says nothing more.
const maxAmplification = 1_000_000_000

func (g callGraph) worst(m *model.Mesh) (map[string]int, map[string]bool) {
	component := g.components(m)
	size := map[int]int{}
	for _, c := range component {
		size[c]++
	}
	out, cyclic := map[string]int{}, map[string]bool{}
	var visit func(id string) int
	visit = func(id string) int {
		if v, ok := out[id]; ok {
			return v
		}
		most := g.tries[id]
		for _, caller := range g.callers[id] {
			above := 1
			if caller == id || component[caller] == component[id] {
				cyclic[id] = true
			} else {
				above = visit(caller)
			}
			most = max(most, min(above*g.calls[edge{caller, id}], maxAmplification))
		}
		out[id] = most
		return out[id]
	}
	for _, s := range m.Services {
		visit(s.ID)
		if size[component[s.ID]] > 1 {
			cyclic[s.ID] = true
		}
	}
	return out, cyclic
}

// components numbers the strongly connected components (Tarjan).
func (g callGraph) components(m *model.Mesh) map[string]int {
	index, low, component := map[string]int{}, map[string]int{}, map[string]int{}
	var stack []string
	onStack := map[string]bool{}
	next, count := 0, 0
	var connect func(v string)
	connect = func(v string) {
		index[v], low[v] = next, next
		next++
		stack, onStack[v] = append(stack, v), true
		for _, w := range g.callers[v] {
			if _, ok := index[w]; !ok {
				connect(w)
				low[v] = min(low[v], low[w])
			} else if onStack[w] {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		for {
			w := stack[len(stack)-1]
			stack, onStack[w] = stack[:len(stack)-1], false
			component[w] = count
			if w == v {
				break
			}
		}
		count++
	}
	for _, s := range m.Services {
		if _, ok := index[s.ID]; !ok {
			connect(s.ID)
		}
	}
	return component
}

// retries tells where the worst case of retries along calls moves.
func (c *comparison) retries() {
	count := counter{c.meaning, map[entry]int{}}
	before, _ := amplification(c.before, count)
	after, cyclic := amplification(c.after, count)
	for _, s := range c.after.Services {
		b, a := before[s.ID], after[s.ID]
		if c.before.Service(s.ID) == nil {
			b = 1
		}
		if a == b {
			continue
		}
		class := Neutral
		if a > b {
			class = Weakening
		}
		if c.besideRetries(s.ID, class, b, a) {
			continue
		}
		what := Retries
		if cyclic[s.ID] {
			what = RetriesInCycle
		}
		c.mention(s, class, KindRetries, Change{What: what}) // who calls s sends what it sent before
		c.found[len(c.found)-1].tries = &Tries{To: s.ID, Before: b, After: a}
	}
}

// besideRetries puts the worst case into the line that tells of other retries on a
// service's own routes, if there is one: that line's class then is the worst case's.
func (c *comparison) besideRetries(id string, class Class, before, after int) bool {
	var repeating []string
	for _, m := range []*model.Mesh{c.before, c.after} {
		if s := m.Service(id); s != nil {
			for _, r := range s.Routes {
				repeating = append(repeating, c.meaning.Repeating(r.Traits)...)
			}
		}
	}
	i := slices.IndexFunc(c.found, func(p piece) bool {
		return p.kind == KindFeature && p.at.Kind == "service" && p.at.ID == id && slices.Contains(repeating, p.feature)
	})
	if i < 0 {
		return false
	}
	c.found[i].class = Worst(c.found[i].class, class)
	c.found[i].tries = &Tries{To: id, Before: before, After: after}
	return true
}

// triesWords say the worst of them.
func triesWords(kind Kind, ts []Tries) string {
	if len(ts) == 0 {
		return ""
	}
	worst := slices.MaxFunc(ts, func(x, y Tries) int {
		return cmp.Or(cmp.Compare(max(x.Before, x.After), max(y.Before, y.After)), cmp.Compare(y.To, x.To))
	})
	text := fmt.Sprintf("one request can become %d → %d", worst.Before, worst.After)
	if slices.ContainsFunc(ts, func(t Tries) bool { return t.Before != worst.Before || t.After != worst.After }) {
		text += " at " + worst.To + ", which is the most"
	}
	if kind == KindRetries {
		return ": " + text
	}
	return " (worst case along calls: " + text + ")"
}
