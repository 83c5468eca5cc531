package resolve

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

func (l *linker) grantsOf(p *pkg, s *model.Service, n intent.Node) []model.Grant {
	var out []model.Grant
	for _, e := range n.Field("grant").Fields() {
		l.place(model.GrantPath(s.ID, e.Name), e.Node.Pos())
		g := l.grant(p, s, e) // checked, ended or not
		if l.expired(e.Node) {
			continue
		}
		if n := e.Node; g.Anyone && n.Field("until").Exists() {
			l.exceptions = append(l.exceptions, Exception{Path: model.GrantPath(s.ID, g.Name), Kind: "grant",
				Owner: n.Field("owner").Str(), Reason: n.Field("reason").Str(), Until: n.Field("until").Str()})
		}
		out = append(out, g)
	}
	return out
}

func (l *linker) grant(p *pkg, s *model.Service, e intent.Entry) model.Grant {
	n := e.Node
	g := model.Grant{Name: e.Name, Mesh: n.Field("mesh").Bool(), Anyone: n.Field("anyone").Bool()}
	from, spaces := n.Field("from"), n.Field("namespaces")
	if len(from.List()) == 0 && len(spaces.List()) == 0 && !g.Mesh && !g.Anyone {
		l.add(diag.New(diag.CodeWho, n.Pos(), "grant %q does not say who", e.Name).
			WithFix("add `from`, `namespaces`, `mesh: true` (every workload) or `anyone: true` (callers without identity too)"))
	}
	for _, f := range from.List() {
		g.Accounts = append(g.Accounts, l.caller(p, f)...)
	}
	slices.Sort(g.Accounts)
	g.Accounts = slices.Compact(g.Accounts)
	for _, s := range spaces.List() {
		if known := sortedKeys(l.domains); !slices.Contains(known, s.Str()) {
			l.add(l.unknown(s.Pos(), "namespace", s.Str(), known))
		}
	}
	g.Namespaces = spaces.Strings()
	l.nonEmpty(n.Field("methods"), "methods")
	g.Methods = l.methods(n.Field("methods"))
	for _, pn := range n.Field("paths").List() {
		if path, ok := l.grantPath(pn); ok {
			g.Paths = append(g.Paths, path)
		}
	}
	l.nonEmpty(n.Field("paths"), "paths")
	sortPaths(g.Paths)
	g.Ports = l.grantPorts(s, n)
	l.grantFits(s, g, n)
	return g
}

func sortPaths(ps []model.Path) {
	slices.SortFunc(ps, func(a, b model.Path) int { return strings.Compare(a.Value+string(a.Kind), b.Value+string(b.Kind)) })
}

// grantFits refuses conditions that no port of the grant can have.
func (l *linker) grantFits(s *model.Service, g model.Grant, n intent.Node) {
	if len(g.Methods) == 0 && len(g.Paths) == 0 {
		return
	}
	for _, p := range s.Ports {
		if !p.Protocol.IsHTTP() && (g.Ports == nil || slices.Contains(g.Ports, p.Name)) {
			l.add(diag.New(diag.CodeProtocol, n.Pos(), "grant %q restricts methods or paths, but port %q is tcp", g.Name, p.Name).
				WithFix("name the http ports in `ports`, and write a grant of its own for port %q", p.Name))
		}
	}
}

// grantPorts are the ports that a grant is for. Where it names none of several, it is for
// the main one: a port that is added lets nobody in. nil is the only port.
func (l *linker) grantPorts(s *model.Service, n intent.Node) []string {
	ports := n.Field("ports")
	for _, port := range ports.List() {
		if _, ok := s.Port(port.Str()); !ok {
			l.add(l.unknown(port.Pos(), "port", port.Str(), portNames(s.Ports)))
		}
	}
	if ports.Exists() || len(s.Ports) < 2 {
		return l.nonEmpty(ports, "ports")
	}
	if p, ok := l.port(s.ID, intent.Node{}, n, "ports"); ok {
		return []string{p.Name}
	}
	return nil
}

// nonEmpty reads a list that restricts; an empty one would let nobody through, which is a mistake here.
func (l *linker) nonEmpty(n intent.Node, field string) []string {
	if n.Exists() && len(n.List()) == 0 {
		l.add(diag.New(diag.CodeNever, n.Pos(), "an empty list of %s lets nobody through", field).
			WithFix("leave `%s` out to not restrict, or delete the grant", field))
	}
	return n.Strings()
}

// grantPath reads "/a" (exactly) or "/a/*" (everything below "/a/").
func (l *linker) grantPath(n intent.Node) (model.Path, bool) {
	s := n.Str()
	below, isBelow := strings.CutSuffix(s, "*")
	why := badPath(below, false)
	if isBelow && why == "" && !strings.HasSuffix(below, "/") {
		why = "has * that is not a whole segment"
	}
	if why != "" {
		l.add(diag.New(diag.CodePath, n.Pos(), "path %q %s", s, why).
			WithFix("write \"/a\" for exactly that path, or \"/a/*\" for everything below \"/a/\""))
		return model.Path{}, false
	}
	if isBelow {
		return model.Path{Kind: model.PathBelow, Value: below}, true
	}
	return model.Path{Kind: model.PathExact, Value: s}, true
}
