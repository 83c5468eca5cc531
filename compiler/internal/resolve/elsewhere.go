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
	note := func(says routeAt, owned bool, behind ...routeAt) { l.noteElsewhere(found, says, owned, behind) }
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			for _, r := range l.routesOf(s.ID, p.Name) {
				note(r, true, at(s.ID, p.Name, r))
			}
		}
		for _, c := range s.Calls {
			note(routeAt{traits: c.Traits, path: s.CallPath(c)}, false, atAll(c.To, c.Port, l.routesOf(c.To, c.Port))...)
		}
	}
	for _, x := range l.mesh.Externals {
		for _, p := range x.Ports {
			for _, r := range l.routesOf(x.ID, p.Name) {
				note(r, true, at(x.ID, p.Name, r))
			}
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				note(routeAt{Route: r, traits: r.Traits, path: model.GatewayRoutePath(g.ID, h.Name, r.Name)}, false, l.behind(r.To)...)
			}
		}
	}
	return found
}

func (l *linker) noteElsewhere(found map[diag.Pos]*elsewhere, says routeAt, owned bool, behind []routeAt) {
	for _, name := range says.traits.Names() {
		v, _ := says.traits.Lookup(name)
		e, ok := v.(trait.Elsewhere)
		line := l.lineOf(says.path + "/" + name)
		if !ok || e.Elsewhere() == "" || says.traits.IsDefault(name) || line == (diag.Pos{}) {
			continue
		}
		if found[line] == nil {
			found[line] = &elsewhere{word: e.Elsewhere(), owned: owned}
		}
		found[line].ranked = found[line].ranked || slices.ContainsFunc(behind, l.ranked)
	}
}

// behind are the routes of the services to which a gateway's route sends.
func (l *linker) behind(to []model.Target) []routeAt {
	var out []routeAt
	for _, t := range to {
		out = append(out, atAll(t.Service, t.Port, l.routesOf(t.Service, t.Port))...)
	}
	return out
}

// at is a route of a destination with where it leads: what names no service means that one.
func at(id, port string, r routeAt) routeAt {
	r.To = slices.Clone(r.To)
	for i, t := range r.To {
		r.To[i].Service, r.To[i].Port = cmp.Or(t.Service, id), cmp.Or(t.Port, port)
	}
	return r
}

func atAll(id, port string, rs []routeAt) []routeAt {
	var out []routeAt
	for _, r := range rs {
		out = append(out, at(id, port, r))
	}
	return out
}

// ranked reports whether workloads have ranks at one of the destinations to which a route leads.
func (l *linker) ranked(r routeAt) bool {
	return slices.ContainsFunc(r.To, func(t model.Target) bool {
		if s := l.mesh.Service(t.Service); s != nil {
			return s.TraitsTo(t.Port, t.Version).Ranks()
		}
		x := l.mesh.External(t.Service)
		if x == nil {
			return false
		}
		p, _ := x.Port(t.Port)
		return x.TraitsAt(p).Ranks()
	})
}
