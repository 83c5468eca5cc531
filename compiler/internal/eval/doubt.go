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
			for _, r := range s.Routes {
				if p.Protocol.IsHTTP() {
					out = routeDoubts(out, m, s, p, r, c)
				}
			}
		}
	}
	for _, g := range m.Gateways {
		for _, h := range g.Hosts {
			out = append(out, gatewayDoubts(m, g, h, c)...)
		}
	}
	return out
}

// routeDoubts adds the doubt of a service's route, if there is one.
func routeDoubts(out []Doubt, m *model.Mesh, s *model.Service, p model.Port, r model.Route, c Column) []Doubt {
	for _, image := range images(r.TraitsAt(p.Name), r.To) {
		out = doubt(out, model.RoutePath(s.ID, r.Name), image, s, p, c, m)
	}
	return out
}

func gatewayDoubts(m *model.Mesh, g *model.Gateway, h model.Host, c Column) []Doubt {
	var out []Doubt
	for _, e := range m.GatewayRoutes(g, h) {
		route := model.GatewayRoutePath(g.ID, h.Name, e.Gateway.Name)
		if e.Unclear != "" {
			at := route // several destinations agree on what is behind
			if e.Service != nil {
				at = model.RoutePath(e.Service.ID, e.Inner.Name)
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
