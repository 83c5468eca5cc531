package compiler

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// Written is a line that says something of a feature, of which an outcome has fields.
type Written struct {
	Feature string   `json:"feature"`
	Pos     diag.Pos `json:"pos"`
	// Default says that it is a default of the mesh or of a namespace.
	Default bool `json:"default,omitempty"`
}

// Written are the lines by which an answer has its fields, in the order of the fields. Where
// several routes on the way say something of a feature, it is the first, or all if they add up;
// a default gives way to what is written.
func (p *Program) Written(a Answer) []Written {
	sets := p.routeTraits(a.Scope.Port)
	var out []Written
	for i, f := range a.Outcome.Fields {
		if i > 0 && a.Outcome.Fields[i-1].Feature == f.Feature {
			continue
		}
		said, adds := []Written(nil), false
		for _, s := range a.Steps {
			v, ok := sets[s.Path].Lookup(f.Feature)
			pos, has := p.positions.At(s.Path + "/" + f.Feature)
			if !ok || !has {
				continue
			}
			_, adds = v.(trait.Chained)
			said = append(said, Written{f.Feature, pos, sets[s.Path].IsDefault(f.Feature)})
		}
		if len(said) > 1 {
			said = slices.DeleteFunc(said, func(w Written) bool { return w.Default })
		}
		if len(said) > 1 && !adds {
			said = said[:1]
		}
		out = append(out, said...)
	}
	return out
}

// routeTraits are the traits of all routes for requests to a port, by the routes' mesh paths.
func (p *Program) routeTraits(port string) map[string]trait.Set {
	out := map[string]trait.Set{}
	for _, s := range p.mesh.Services {
		for _, r := range s.Routes {
			out[model.RoutePath(s.ID, r.Name)] = r.TraitsAt(port)
		}
	}
	for _, x := range p.mesh.Externals {
		for _, r := range x.Routes {
			out[model.ExternalRoutePath(x.ID, r.Name)] = r.Traits
		}
	}
	for _, g := range p.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				out[model.GatewayRoutePath(g.ID, h.Name, r.Name)] = r.Traits
			}
		}
	}
	return out
}

// Beside is what a service has for all requests together, whatever their routes.
type Beside struct {
	// To is the service's ID.
	To     string        `json:"to"`
	Fields []space.Field `json:"fields"`
}

// beside is what the services have that an outcome leads to, in its order: a limit that the
// proxies keep may still refuse a request that is forwarded.
func (p *Program) beside(o Outcome) []Beside {
	var out []Beside
	for _, share := range o.Shares {
		parts := strings.Split(share.Target, "/") // namespace/service/port/version
		if len(parts) != 4 {
			continue
		}
		s := p.mesh.Service(parts[0] + "/" + parts[1])
		if s == nil || slices.ContainsFunc(out, func(b Beside) bool { return b.To == s.ID }) {
			continue
		}
		b := Beside{To: s.ID}
		for _, f := range catalog.Meaning().Fields(s.TraitsAt(parts[2])) {
			if !slices.Contains(o.Fields, f) {
				b.Fields = append(b.Fields, f)
			}
		}
		if len(b.Fields) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// notCalled is a service that has the identity, if none that has it calls the port: its own
// proxy has no way there, whatever is granted.
func (p *Program) notCalled(from string, to space.Scope) string {
	caller := ""
	for _, s := range p.mesh.Services {
		if !slices.ContainsFunc(s.Versions, func(v model.Version) bool { return s.Class(v).SPIFFEID(p.mesh.TrustDomain) == from }) {
			continue
		}
		if slices.ContainsFunc(s.Calls, func(c model.Call) bool { return c.To == to.ID && c.Port == to.Port }) {
			return ""
		}
		caller = s.ID
	}
	return caller
}
