package compiler

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// Coverage is which routes and grants the tests of the intent reach.
type Coverage struct {
	// Tests is how many there are.
	Tests  int     `json:"tests"`
	Routes Covered `json:"routes"`
	Grants Covered `json:"grants"`
}

// Covered is how many of one kind are reached, of those that somebody wrote.
type Covered struct {
	Written int `json:"written"`
	Reached int `json:"reached"`
	// Unreached are the others, in the order of their lines.
	Unreached []Unreached `json:"unreached,omitempty"`
}

// Unreached is what no test reaches.
type Unreached struct {
	// Path is its mesh path, "service/shop/cart/grant/all".
	Path string   `json:"path"`
	Pos  diag.Pos `json:"pos"`
}

// Coverage runs the tests and says what none of them reaches: a route that takes no test's request,
// a grant by which none gets through. Probes and scrapes are no grants here.
func (p *Program) Coverage() Coverage {
	reached := map[string]bool{}
	results := p.Test()
	for _, r := range results {
		for _, s := range r.Answer.Steps {
			reached[s.Path] = true
		}
	}
	out := Coverage{Tests: len(results)}
	note := func(c *Covered, path string) {
		pos, ok := p.positions.At(path)
		if !ok || pos == p.Position(parentOf(path)) {
			return // nobody wrote it
		}
		c.Written++
		if reached[path] {
			c.Reached++
			return
		}
		c.Unreached = append(c.Unreached, Unreached{path, pos})
	}
	routes, grants := p.routesAndGrants()
	for _, path := range routes {
		note(&out.Routes, path)
	}
	for _, path := range grants {
		note(&out.Grants, path)
	}
	for _, c := range []*Covered{&out.Routes, &out.Grants} {
		slices.SortFunc(c.Unreached, func(a, b Unreached) int { return cmp.Or(a.Pos.Compare(b.Pos), strings.Compare(a.Path, b.Path)) })
	}
	return out
}

// routesAndGrants are the mesh paths of those of the whole mesh.
func (p *Program) routesAndGrants() (routes, grants []string) {
	for _, s := range p.mesh.Services {
		for _, r := range s.Routes {
			routes = append(routes, model.RoutePath(s.ID, r.Name))
		}
		for _, g := range s.Grants {
			if !g.Asked {
				grants = append(grants, model.GrantPath(s.ID, g.Name))
			}
		}
	}
	for _, x := range p.mesh.Externals {
		for _, r := range x.Routes {
			routes = append(routes, model.ExternalRoutePath(x.ID, r.Name))
		}
		for _, g := range x.Grants {
			grants = append(grants, model.ExternalGrantPath(x.ID, g.Name))
		}
	}
	for _, g := range p.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				routes = append(routes, model.GatewayRoutePath(g.ID, h.Name, r.Name))
			}
		}
	}
	return routes, grants
}

// parentOf is the mesh path of what has the route or grant with that path.
func parentOf(path string) string {
	for _, kind := range []string{"/route/", "/grant/"} {
		if at := strings.LastIndex(path, kind); at >= 0 {
			return path[:at]
		}
	}
	return path
}
