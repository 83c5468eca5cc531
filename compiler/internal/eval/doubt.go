package eval

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Doubt is a route that changes requests so that it cannot be told of those that come to it
// which of them something behind it takes.
type Doubt struct {
	// Route is the mesh path of the route, At that of what is behind it.
	Route, At string
	// Why completes "it cannot be told which requests it takes: …".
	Why string
}

// Doubts are the mesh's, each route's first. What else is here is for meshes without any.
func Doubts(m *model.Mesh, c Column) []Doubt {
	var out []Doubt
	for _, s := range m.Services {
		for _, p := range s.Ports {
			own := s.TraitsAt(p.Name).Image() // grants and denies ask what its proxy has made of it
			for _, r := range Access(m, s, p) {
				if _, _, err := own.Before(r.When); err != nil && p.Protocol.IsHTTP() {
					out = append(out, Doubt{model.ServicePath(s.ID), string(r.From[0]), err.Error()})
					break
				}
			}
			if p.Protocol.IsHTTP() {
				out = routeDoubts(out, m, m.ServiceRoutes(s, p, model.EachCaller), c, func(e model.EffectiveRoute) string { return model.RoutePath(s.ID, e.Outer.Name) })
			}
		}
	}
	for _, g := range m.Gateways {
		for _, h := range g.Hosts {
			out = routeDoubts(out, m, m.GatewayRoutes(g, h), c, func(e model.EffectiveRoute) string { return model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name) })
		}
	}
	return out
}

// routeDoubts adds those of the rules of routes whose mesh paths path tells.
func routeDoubts(out []Doubt, m *model.Mesh, rules []model.EffectiveRoute, c Column, path func(model.EffectiveRoute) string) []Doubt {
	for _, e := range rules {
		route := path(e)
		if e.Unclear != "" {
			at := route // several destinations agree on what is behind
			if inner := e.InnerPaths(); len(inner) > 0 {
				at = inner[len(inner)-1]
			}
			out = append(out, Doubt{route, at, e.Unclear})
			continue
		}
		all := images(e.Traits, e.To)
		for i, t := range e.To {
			if s := m.Service(t.Service); s != nil {
				p, _ := s.Port(t.Port)
				out = doubt(out, route, all[i], s, p, c, m)
			}
		}
	}
	return out
}

// images are what each destination of a route gets, in their order.
func images(traits trait.Set, to []model.Target) []space.Image {
	out := make([]space.Image, len(to))
	common, each := model.Apart(traits, to)
	for i := range to {
		out[i] = common.Image()
		if each != nil {
			out[i] = each[i].Or(common).Image()
		}
	}
	return out
}

// doubt adds the doubt of a route whose requests come to a port, if there is one.
func doubt(out []Doubt, route string, image space.Image, s *model.Service, p model.Port, c Column, m *model.Mesh) []Doubt {
	if image.IsZero() || len(out) > 0 && out[len(out)-1].Route == route {
		return out
	}
	for _, r := range doorOf(s, p, c, c.access(m, s, p)).rules {
		if _, _, err := image.Before(r.When); err != nil {
			at := model.ServicePath(s.ID)
			if len(r.From) > 0 {
				at = string(r.From[0])
			}
			return append(out, Doubt{route, at, err.Error()})
		}
	}
	return out
}
