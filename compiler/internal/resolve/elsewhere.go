package resolve

import (
	"cmp"
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// elsewhere is a word, said at one line, by which requests go to another rank of workloads.
type elsewhere struct {
	word   string
	owned  bool // by who says it, together with what is called
	ranked bool // somewhere
}

// checkElsewhere refuses words about another rank of workloads where nothing of what is called ranks them. Of a call and of a
// gateway's route it warns: what is called is somebody else's, and may do without ranks tomorrow.
func (l *linker) checkElsewhere() {
	for line, e := range l.elsewheres() {
		const text = "%s is about another rank of workloads, and nothing that is called there ranks them by where they are"
		switch fix := `let what is called say: locality: prefer: "zone", or delete it`; {
		case e.ranked:
		case e.owned:
			l.add(diag.New(diag.CodeNever, line, text, e.word).WithFix("%s", fix))
		default:
			l.add(diag.Warn(diag.CodeNever, line, text, e.word).WithFix("%s", fix))
		}
	}
}

// elsewheres are such words, by their lines.
func (l *linker) elsewheres() map[diag.Pos]*elsewhere {
	found := map[diag.Pos]*elsewhere{}
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			for _, r := range l.routesOf(s.ID, p.Name) {
				l.noteElsewhere(found, r, true, func() bool { return l.ranked(s.ID, p.Name, r) })
			}
		}
		for _, c := range s.Calls {
			l.noteElsewhere(found, routeAt{traits: c.Traits, path: s.CallPath(c)}, false, func() bool { return l.ranks(c.To, c.Port) })
		}
	}
	for _, x := range l.mesh.Externals {
		for _, p := range x.Ports {
			for _, r := range l.routesOf(x.ID, p.Name) {
				l.noteElsewhere(found, r, true, func() bool { return l.ranked(x.ID, p.Name, r) })
			}
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				l.noteElsewhere(found, routeAt{r, r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name), nil}, false, func() bool {
					return slices.ContainsFunc(r.To, func(t model.Target) bool { return l.ranks(t.Service, t.Port) })
				})
			}
		}
	}
	return found
}

// noteElsewhere notes such words of a route. It asks whether what is behind ranks its workloads only where there is one: most
// routes have none.
func (l *linker) noteElsewhere(found map[diag.Pos]*elsewhere, says routeAt, owned bool, ranked func() bool) {
	for _, name := range says.traits.Names() {
		v, _ := says.traits.Lookup(name)
		e, ok := v.(trait.Elsewhere)
		if !ok || e.Elsewhere() == "" || says.traits.IsDefault(name) {
			continue
		}
		line := l.lineOf(says.path + "/" + name)
		if line == (diag.Pos{}) {
			continue
		}
		if found[line] == nil {
			found[line] = &elsewhere{word: e.Elsewhere(), owned: owned}
		}
		found[line].ranked = found[line].ranked || ranked()
	}
}

// ranks reports whether some route of a destination leads to workloads that have ranks.
func (l *linker) ranks(id, port string) bool {
	return slices.ContainsFunc(l.routesOf(id, port), func(r routeAt) bool { return l.ranked(id, port, r) })
}

// ranked reports whether workloads have ranks at one of those to which a route of that destination leads.
func (l *linker) ranked(id, port string, r routeAt) bool {
	return slices.ContainsFunc(r.To, func(t model.Target) bool {
		to, port := cmp.Or(t.Service, id), cmp.Or(t.Port, port)
		if s := l.mesh.Service(to); s != nil {
			return s.TraitsTo(port, t.Version).Ranks()
		}
		x := l.mesh.External(to)
		if x == nil {
			return false
		}
		p, _ := x.Port(port)
		return x.TraitsAt(p).Ranks()
	})
}
