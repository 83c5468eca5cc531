package envoy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// scope is a proxy class and what it stands for.
type scope struct {
	class    release.Class
	name     string // the class's text
	members  []member
	gateways []*model.Gateway
}

// member is a service version whose instances the class's sidecars stand before.
type member struct {
	service *model.Service
	version model.Version
}

// scopes cuts the mesh into proxy classes, sorted by name. A class is the union
// of what its account is used for.
func scopes(m *model.Mesh) []scope {
	by := map[release.Class]*scope{}
	at := func(c release.Class) *scope {
		if by[c] == nil {
			by[c] = &scope{class: c}
		}
		return by[c]
	}
	for _, s := range m.Services {
		for _, v := range s.Versions {
			for _, class := range s.Classes(v) {
				c := at(class)
				c.members = append(c.members, member{s, v})
			}
		}
	}
	for _, g := range m.Gateways {
		for _, class := range g.Classes() {
			c := at(class)
			c.gateways = append(c.gateways, g)
		}
	}
	out := make([]scope, 0, len(by))
	for _, c := range by {
		c.name = c.class.String()
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b scope) int { return cmp.Compare(a.name, b.name) })
	return out
}

// routeTrait is a trait of a route, as it bears on the clusters behind the route.
type routeTrait struct {
	value trait.Value
	path  string
	key   string // name and JSON: the identity of the value
}

// need is a cluster that a class must have.
type need struct {
	target target
	traits map[string]routeTrait
	// named says that the class needs it only if one of its routes names it.
	named bool
}

// needs maps the name of a cluster to why it is needed.
type needs map[string]*need

func (n needs) add(t target, traits []routeTrait) {
	name := t.cluster()
	if n[name] == nil || n[name].named {
		n[name] = &need{target: t, traits: map[string]routeTrait{}}
	}
	for _, r := range traits {
		if old, ok := n[name].traits[r.key]; !ok || r.path < old.path {
			n[name].traits[r.key] = r
		}
	}
}

// offer adds a cluster that a route may name.
func (n needs) offer(t target) {
	if name := t.cluster(); n[name] == nil {
		n[name] = &need{target: t, named: true}
	}
}

// sortedTraits are the traits in the order of their names and JSON forms.
func (n *need) sortedTraits() []routeTrait {
	out := make([]routeTrait, 0, len(n.traits))
	for _, k := range slices.Sorted(maps.Keys(n.traits)) {
		out = append(out, n.traits[k])
	}
	return out
}

// routeTraits are the traits of a route that bear on clusters.
func (e *emitter) routeTraits(s trait.Set, path string) []routeTrait {
	var out []routeTrait
	for _, name := range s.Names() {
		if e.cells[name].Lowering.routeClusters == nil {
			continue
		}
		v, _ := s.Lookup(name)
		raw, err := json.Marshal(v)
		if err != nil {
			raw = fmt.Appendf(nil, "%#v", v)
		}
		out = append(out, routeTrait{v, path, name + " " + string(raw)})
	}
	return out
}

// used offers the clusters of what the traits' cells name beside the route's own
// destinations, of which the class gets those that its routes name.
func (e *emitter) used(s trait.Set, n needs) {
	for _, name := range s.Names() {
		uses := e.cells[name].Uses
		if uses == nil {
			continue
		}
		v, _ := s.Lookup(name)
		for _, u := range uses(v) {
			t, ok := e.destination(u.Service, u.Port)
			if ok && t.service != nil {
				t.version, _ = t.service.Version(u.Version)
			}
			if ok {
				n.offer(t)
			}
		}
	}
}

// callNeeds adds the clusters of a call: where the callee's routes send, and what
// their traits use.
func (e *emitter) callNeeds(t target, n needs) {
	if t.external != nil {
		e.externalNeeds(t, n)
		return
	}
	for _, r := range e.m.ServiceRoutes(t.service, t.port, t.from) {
		e.routeNeeds(r, e.routeTraits(model.Tightens(t.says, r.To, r.Traits), model.RoutePath(t.service.ID, r.Outer.Name)), n)
		e.used(r.Traits, n)
	}
}

// routeNeeds adds the clusters to which a rule sends.
func (e *emitter) routeNeeds(r model.EffectiveRoute, traits []routeTrait, n needs) {
	e.needsOf(r.To, traits, n)
}

// externalNeeds adds the clusters of a call of an external.
func (e *emitter) externalNeeds(t target, n needs) {
	if !t.port.Protocol.IsHTTP() {
		n.add(t, nil)
		return
	}
	for _, r := range t.routes() {
		if len(r.To) > 0 {
			n.add(t, e.routeTraits(model.Tightens(t.says, r.To, r.Traits), model.ExternalRoutePath(t.external.ID, r.Name)))
		}
		e.used(r.Traits, n)
	}
}

// bind is an address at which a class takes requests for one application.
type bind struct {
	service *model.Service
	port    model.Port
	version model.Version
	number  uint32
}

func (b bind) given() []given {
	return []given{{service: b.service, port: b.port.Name, version: b.version.Name}}
}

// binds lists the inbound addresses of a class. Versions that share an address
// and an application are one; different applications behind one address are a
// problem: the proxy could not tell whose grants hold.
func (e *emitter) binds(c scope) ([]bind, diag.List) {
	var out []bind
	var problems diag.List
	at := map[string]int{}
	for _, mb := range c.members {
		for _, p := range mb.service.Ports {
			b := bind{mb.service, p, mb.version, e.inboundNumber(mb.version, p)}
			if e.m.Capture == model.Transparent && reserved(b.number) {
				problems = append(problems, e.reservedPort(model.ServicePath(b.service.ID), b.number, b.service.ID))
				continue
			}
			where := portText(b.number)
			if e.m.Capture == model.Explicit {
				where = cmp.Or(mb.version.Host(p), model.AnyIPv4) + " " + where
			}
			i, taken := at[where]
			if !taken {
				at[where] = len(out)
				out = append(out, b)
				continue
			}
			o := out[i]
			if o.service != b.service || o.port.Name != p.Name || o.version.AppListenPort(o.port) != b.version.AppListenPort(p) {
				problems = append(problems, diag.New(diag.CodeSharedAddress, e.at(model.ServicePath(b.service.ID)),
					"proxies of account %q would take requests for %s and %s at one address (%s)",
					c.class.Namespace+"/"+c.class.Account, describe(o), describe(b), strings.ReplaceAll(where, " ", ":")).
					WithFix("give them different service accounts, addresses or ports"))
			}
		}
	}
	return out, problems
}

// inboundNumber is the port that callers connect to: the proxy's own where intent
// writes its address, else (redirection) the application's.
func (e *emitter) inboundNumber(v model.Version, p model.Port) uint32 {
	if e.m.Capture == model.Transparent && v.Host(p) == "" {
		return v.AppListenPort(p)
	}
	return v.ListenPort(p)
}

func describe(b bind) string {
	return fmt.Sprintf("%s port %q (version %q)", b.service.ID, b.port.Name, b.version.Name)
}
