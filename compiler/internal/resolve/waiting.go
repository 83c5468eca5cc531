package resolve

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// wait is a service whose requests wait until another one has answered a question, and what asks it.
type wait struct{ on, by, rule string }

// checkWaiting refuses services whose requests wait for others that wait for them in turn: each question
// would be a request about which the next one is asked, until all have waited too long.
func (l *linker) checkWaiting() {
	waits := map[string][]wait{}
	for _, s := range l.mesh.Services {
		for _, rule := range l.rules {
			v, ok := s.Traits.Lookup(rule.Name)
			if !ok || !rule.Waits {
				continue
			}
			for _, to := range rule.Uses(v) {
				waits[s.ID] = append(waits[s.ID], wait{on: to.Service, by: s.ID, rule: rule.Name})
			}
		}
	}
	var path []string
	done := map[string]bool{}
	var visit func(id string)
	visit = func(id string) {
		path = append(path, id)
		for _, w := range waits[id] {
			i := slices.Index(path, w.on)
			switch {
			case i >= 0:
				l.add(diag.New(diag.CodeCycle, l.lineOf(model.ServicePath(w.by)+"/"+w.rule), "who is asked about requests waits for the answers himself: %s", ringText(append(slices.Clone(path[i:]), w.on))).
					WithFix("take `%s` from %q, or let somebody else be asked", w.rule, w.by))
			case !done[w.on]:
				visit(w.on)
			}
		}
		path = path[:len(path)-1]
		done[id] = true
	}
	problems := len(l.diags)
	for _, s := range l.mesh.Services {
		if !done[s.ID] && len(waits[s.ID]) > 0 {
			visit(s.ID)
		}
	}
	if len(l.diags) == problems {
		l.warnWaiting(waits)
	}
}

// warnWaiting tells who is asked about requests and makes such requests himself, as far as is declared.
// They may be ones about which nobody is asked.
func (l *linker) warnWaiting(waits map[string][]wait) {
	for _, s := range l.mesh.Services {
		for _, w := range waits[s.ID] {
			back := l.wayBack(w.on, s.ID, waits)
			if back == nil {
				continue
			}
			l.add(diag.Warn(diag.CodeCycle, l.lineOf(model.ServicePath(s.ID)+"/"+w.rule), "who is asked about requests calls who asks: %s", ringText(append([]string{s.ID}, back...))).
				WithFix("let `%s` leave out the paths that %q needs, or take the call away", w.rule, w.on))
		}
	}
}

// asksOf are the services that one calls, with those to which their routes lead, and those whom it has asked about requests.
func (l *linker) asksOf(id string, waits map[string][]wait) (out []string) {
	if s := l.mesh.Service(id); s != nil {
		for _, c := range s.Calls {
			out = append(out, c.To)
			if to := l.mesh.Service(c.To); to != nil {
				for _, led := range l.mesh.LedTo(to)[1:] {
					out = append(out, led.ID)
				}
			}
		}
	}
	for _, w := range waits[id] {
		out = append(out, w.on)
	}
	return out
}

// wayBack is a shortest way from one service to another over calls and questions, with both, nil if there is none.
func (l *linker) wayBack(from, to string, waits map[string][]wait) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, id := range l.asksOf(queue[0], waits) {
			if _, seen := came[id]; !seen {
				came[id] = queue[0]
				queue = append(queue, id)
			}
		}
		if _, found := came[to]; found {
			break
		}
	}
	if _, found := came[to]; !found {
		return nil
	}
	var way []string
	for at := to; at != ""; at = came[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	return way
}
