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
	for _, s := range l.mesh.Services {
		if !done[s.ID] && len(waits[s.ID]) > 0 {
			visit(s.ID)
		}
	}
}
