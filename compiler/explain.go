package compiler

import (
	"reflect"
	"slices"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Written is a line that says something of a feature, of which an outcome has fields.
type Written struct {
	Feature string   `json:"feature"`
	Pos     diag.Pos `json:"pos"`
	// Default says that it is a default of the mesh or of a namespace.
	Default bool `json:"default,omitempty"`
}

// said is what an object says of a feature.
type said struct {
	Written
	value trait.Value
}

// Written are the lines by which an answer has its fields, in the order of the fields. Where
// several routes on the way say something of a feature, they are those without which the value
// would be another one; a default gives way to what is written.
func (p *Program) Written(a Answer) []Written {
	all := p.carriersOf(a)
	out := p.written(a.Outcome.Fields, all)
	told := map[string]bool{} // what single destinations have of their own, all that say it together
	for _, s := range a.Outcome.Shares {
		for _, f := range s.Fields {
			for _, w := range p.saying(f.Feature, all) {
				if !told[f.Feature] && !slices.Contains(out, w.Written) {
					out = append(out, w.Written)
				}
			}
			told[f.Feature] = true
		}
	}
	return out
}

// carried are the values that stand at a mesh path.
type carried struct {
	traits trait.Set
	// path is what the paths of the values' lines begin with.
	path string
}

// carriersOf are what says the fields of an answer, in the order in which a request meets it.
func (p *Program) carriersOf(a Answer) []carried {
	out := p.callsOf(a)
	if x := p.mesh.External(a.Scope.ID); x != nil && a.Scope.Kind == space.External {
		for _, r := range x.Routes {
			if path := model.ExternalRoutePath(x.ID, r.Name); a.met(path) {
				out = append(out, carried{r.Traits, path})
			}
		}
		return append(out, carried{x.Traits, model.ExternalPath(x.ID)})
	}
	if s := p.mesh.Service(a.Scope.ID); s != nil && a.Scope.Kind == "service" {
		out = append(out, routesOf(s, a.Scope.Port, func(r model.Route) bool { return a.met(model.RoutePath(s.ID, r.Name)) })...)
		for _, r := range s.Routes {
			if a.met(model.RoutePath(s.ID, r.Name)) {
				out = append(out, p.behind(r, a)...)
			}
		}
		return out
	}
	for _, g := range p.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				if path := model.GatewayRoutePath(g.ID, h.Name, r.Name); a.met(path) {
					out = append(append(out, carried{r.Traits, path}), destinationsOf(r, path)...)
					out = append(out, p.behind(r, a)...)
				}
			}
		}
	}
	return out
}

// callsOf are the calls by which the caller says something itself.
func (p *Program) callsOf(a Answer) []carried {
	var out []carried
	for _, of := range p.mesh.CallersOf(a.Scope.ID, a.Scope.Port) {
		for _, path := range of.Paths {
			if call, ok := p.mesh.Call(path); ok && a.met(path) && !slices.ContainsFunc(out, func(c carried) bool { return c.path == path }) {
				out = append(out, carried{call.Traits, path})
			}
		}
	}
	return out
}

// behind are the services' routes to which a gateway's or a service's route leads, and theirs: the one that a request
// met, or, where requests are spread over several services, the one for all requests of each.
func (p *Program) behind(r model.Route, a Answer) []carried {
	to := slices.DeleteFunc(slices.Clone(r.To), func(t model.Target) bool { return t.Weight == 0 })
	var out []carried
	for _, t := range to {
		if s := p.mesh.Service(t.Service); s != nil {
			meant := func(own model.Route) bool {
				return a.met(model.RoutePath(s.ID, own.Name)) || len(to) > 1 && own.Match.IsZero()
			}
			out = append(out, routesOf(s, t.Port, meant)...)
			for _, own := range s.ToPort(t.Port) {
				if own.LeadsOn() && t.Version == "" && meant(own) {
					out = append(out, p.behind(own, a)...)
				}
			}
		}
	}
	return out
}

// routesOf are those of a service's routes, for requests to one of its ports.
func routesOf(s *model.Service, port string, meant func(model.Route) bool) []carried {
	var out []carried
	for _, r := range s.ToPort(port) {
		if meant(r) {
			path := model.RoutePath(s.ID, r.Name)
			out = append(append(out, carried{r.TraitsAt(port), s.LinesAt(path, port)}), destinationsOf(r, path)...)
		}
	}
	return out
}

// met reports whether what stands at a mesh path decided.
func (a Answer) met(path string) bool {
	return slices.ContainsFunc(a.Steps, func(s Step) bool { return s.Path == path })
}

func (p *Program) written(fields []space.Field, carriers []carried) []Written {
	var out []Written
	for i, f := range fields {
		if i > 0 && fields[i-1].Feature == f.Feature {
			continue
		}
		for _, s := range deciding(p.saying(f.Feature, carriers)) {
			out = append(out, s.Written)
		}
	}
	return out
}

// saying is what carriers say of a feature in lines of their own.
func (p *Program) saying(feature string, carriers []carried) []said {
	var all []said
	for _, c := range carriers {
		v, ok := c.traits.Lookup(feature)
		pos, has := p.positions.At(c.path + "/" + feature)
		if ok && has {
			all = append(all, said{Written{feature, pos, c.traits.IsDefault(feature)}, v})
		}
	}
	return all
}

// destinationsOf are those of a route's destinations that say something themselves.
func destinationsOf(r model.Route, path string) []carried {
	var out []carried
	for _, t := range r.To {
		if t.Name != "" && t.Weight > 0 {
			out = append(out, carried{t.Traits, model.DestinationPath(path, t.Name)})
		}
	}
	return out
}

// deciding are those of several on a request's way, in its order, that make the value.
func deciding(all []said) []said {
	if slices.ContainsFunc(all, func(s said) bool { return !s.Default }) {
		all = slices.DeleteFunc(all, func(s said) bool { return s.Default })
	}
	if len(all) < 2 {
		return all
	}
	if _, joins := all[0].value.(trait.Chained); !joins {
		return all[:1]
	}
	whole := joined(all)
	for i := len(all) - 1; i >= 0 && len(all) > 1; i-- {
		if rest := slices.Delete(slices.Clone(all), i, i+1); reflect.DeepEqual(joined(rest), whole) {
			all = rest
		}
	}
	return all
}

// joined is what the values come to, the first of which joins others.
func joined(all []said) trait.Value {
	v := all[len(all)-1].value
	for _, s := range slices.Backward(all[:len(all)-1]) {
		v = s.value.(trait.Chained).Then(v)
	}
	return v
}

// Beside is what a service or an external has for all requests together, whatever their routes.
type Beside struct {
	// To is its ID.
	To string `json:"to"`
	// Version is the version that says something of its own, "" for all of them.
	Version string        `json:"version,omitempty"`
	Fields  []space.Field `json:"fields"`
	// Written are the lines that say so. What has none is as the table of defaults says.
	Written []Written `json:"written,omitempty"`
}

// beside is what the destinations have to which an outcome leads, in its order: a limit that
// the proxies keep may still refuse a request that is forwarded.
func (p *Program) beside(o Outcome) []Beside {
	var out []Beside
	for _, share := range o.Shares {
		b, says, set := p.whose(share.Target)
		if b.To == "" || slices.ContainsFunc(out, func(o Beside) bool { return o.To == b.To && o.Version == b.Version }) {
			continue
		}
		for _, f := range catalog.Meaning().Fields(set) {
			if !slices.Contains(o.Fields, f) {
				b.Fields = append(b.Fields, f)
			}
		}
		if b.Written = p.written(b.Fields, says); len(b.Fields) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// whose is the destination whose cluster has that name, what says something of it, the nearest
// first, and all that holds there. Of nobody's it has no name.
func (p *Program) whose(cluster string) (Beside, []carried, trait.Set) {
	for _, s := range p.mesh.Services {
		for _, port := range s.Ports {
			i := slices.IndexFunc(s.Versions, func(v model.Version) bool { return model.ClusterName(s.ID, port.Name, v.Name) == cluster })
			if i < 0 {
				continue
			}
			b, v := Beside{To: s.ID}, s.Versions[i]
			own := v.TraitsAt(port.Name)
			if own.Len() > 0 {
				b.Version = v.Name
			}
			return b, []carried{
				{own, s.LinesAt(model.VersionPath(s.ID, v.Name), port.Name)},
				{s.TraitsAt(port.Name), s.LinesAt(model.ServicePath(s.ID), port.Name)},
			}, s.TraitsTo(port.Name, v.Name)
		}
	}
	for _, x := range p.mesh.Externals {
		for _, port := range x.Ports {
			if model.ExternalClusterName(x.ID, port.Name) == cluster {
				return Beside{To: x.ID}, []carried{{x.TraitsAt(port), model.ExternalPath(x.ID)}}, x.TraitsAt(port)
			}
		}
	}
	return Beside{}, nil, trait.Set{}
}

// notCalled is a service that has the identity, if none that has it calls the port: its own
// proxy has no way there, whatever is granted.
func (p *Program) notCalled(from string, to space.Scope) string {
	caller := ""
	for _, s := range p.mesh.Services {
		if !slices.ContainsFunc(s.Versions, func(v model.Version) bool {
			return slices.ContainsFunc(s.Classes(v), func(c release.Class) bool { return c.SPIFFEID(p.mesh.TrustDomain) == from })
		}) {
			continue
		}
		if slices.ContainsFunc(s.Calls, func(c model.Call) bool { return c.To == to.ID && c.Port == to.Port }) {
			return ""
		}
		caller = s.ID
	}
	return caller
}
