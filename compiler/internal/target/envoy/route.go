package envoy

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// share is a destination of a route and its relative weight.
type share struct {
	cluster  string
	weight   uint32
	external bool
	// traits are what the destination says of itself.
	traits trait.Set
	// to is the destination, with what the route says of it alone.
	to model.Target
	// behind are the versions that take the share while nothing is where it goes, in their order.
	behind []string
}

// shares names the clusters of weighted destinations. Those without weight are
// left out: their clusters would be in the snapshot for nothing.
func (e *emitter) shares(to []model.Target) []share {
	var out []share
	weights := model.Weights(to)
	for i, t := range to {
		if t.Weight <= 0 {
			continue
		}
		s := share{cluster: model.ClusterName(t.Service, t.Port, t.Version), weight: uint32(weights[i]), to: t}
		if x := e.m.External(t.Service); x != nil {
			p, _ := x.Port(t.Port)
			s.cluster, s.external, s.traits = x.Upstream(t.Port), true, x.TraitsAt(p)
			if e.goesVia(x) { // whose proxies do what the external asks for
				s.cluster, s.traits = x.ViaName(t.Port), trait.Set{}
			}
		} else if to := e.m.Service(t.Service); to != nil {
			s.traits = to.TraitsTo(t.Port, t.Version)
		}
		out = append(out, s)
	}
	return spread(out)
}

// targetsOf are the destinations of shares, one for each: a destination may have several shares, or none.
func targetsOf(shares []share) []model.Target {
	out := make([]model.Target, len(shares))
	for i, s := range shares {
		out[i] = s.to
	}
	return out
}

// ofDestinations calls f for each feature that destinations have, with its distinct values in
// their order.
func (e *emitter) ofDestinations(shares []share, f func(l Lowering, vs []trait.Value)) {
	values := map[string][]trait.Value{}
	for _, s := range shares {
		for _, name := range s.traits.Names() {
			v, _ := s.traits.Lookup(name)
			if !slices.ContainsFunc(values[name], func(w trait.Value) bool { return reflect.DeepEqual(v, w) }) {
				values[name] = append(values[name], v)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f(e.cells[name].Lowering, values[name])
	}
}

// routeSpec is one rule before it is an Envoy route.
type routeSpec struct {
	name   string // mesh path, so that logs and explain can join
	path   string // where the intent stands
	match  model.Match
	shares []share
	traits trait.Set
	x      Ctx
	host   string // the request's host at its destination, "" for what it has
}

// buildRoute makes the route and lets the traits have their say: one route, or in front of it a twin for
// some of its requests. nil after a problem.
func (e *emitter) buildRoute(s routeSpec, out *entry) []*routev3.Route {
	match, err := e.routeMatch(s.match)
	if errors.Is(err, errNever) {
		return nil
	}
	if err != nil {
		out.problem(e.matchProblem(s.path, err))
		return nil
	}
	e.refuseRoute(s, out)
	r := &routev3.Route{Name: s.name, Match: match}
	var each []trait.Set
	if len(s.shares) > 0 {
		s.traits, each = model.Apart(s.traits, targetsOf(s.shares))
		action := out.forward(s.shares)
		if s.host != "" {
			action.Route.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: s.host}
		}
		r.Action = action
	}
	x := s.x
	x.Match, x.Traits, x.apart, x.said = s.match, s.traits, each, s.traits
	x.Mesh, x.path, x.out, x.locate, x.keys = e.m, s.path, out, e.at, e.profile.Keys
	x.sidecars = !slices.ContainsFunc(s.shares, func(sh share) bool { return sh.external })
	for _, sh := range s.shares {
		x.behind = append(x.behind, sh.traits)
	}
	for _, name := range s.traits.Names() {
		if f := e.cells[name].Lowering.route; f != nil {
			v, _ := s.traits.Lookup(name)
			f(r, v, &x)
		}
	}
	e.ofEach(r.GetRoute().GetWeightedClusters().GetClusters(), each, &x)
	if r.GetRoute() != nil { // unless a feature answers in place of the destinations
		out.needClusters(s.shares)
		e.ofDestinations(s.shares, func(l Lowering, vs []trait.Value) {
			if l.routesTo != nil {
				l.routesTo(r, vs, &x)
			}
		})
	}
	if r.Action == nil && !e.grpc { // else what would have answered is refused
		out.problem(diag.New(diag.CodeNoAnswer, e.at(s.path), "the route sends requests nowhere and no feature answers them").
			WithFix("give it `to`, or a feature that answers, such as `redirect`"))
	}
	if r.Action == nil {
		return nil
	}
	return e.withTwin(r, s.traits, &x)
}

// withTwin puts a route in front for some of its requests, which at most one feature asks for.
func (e *emitter) withTwin(r *routev3.Route, traits trait.Set, x *Ctx) []*routev3.Route {
	for _, name := range traits.Names() {
		if f := e.cells[name].Lowering.twin; f != nil {
			v, _ := traits.Lookup(name)
			if twin := proto.CloneOf(r); f(twin, r, v, x) {
				return []*routev3.Route{twin, r}
			}
		}
	}
	return []*routev3.Route{r}
}

// ofEach lowers what each of a route's destinations has of its own.
func (e *emitter) ofEach(clusters []*routev3.WeightedCluster_ClusterWeight, each []trait.Set, x *Ctx) {
	for i, c := range clusters {
		if each == nil {
			return
		}
		for _, name := range each[i].Names() {
			if f := e.cells[name].Lowering.share; f != nil {
				v, _ := each[i].Lookup(name)
				f(c, v, x)
			}
		}
	}
}

// routeMatch is the form of a match for the class in hand.
func (e *emitter) routeMatch(m model.Match) (*routev3.RouteMatch, error) {
	if e.grpc {
		return e.conditions.callMatch(m)
	}
	return e.conditions.routeMatch(m)
}

func (e *emitter) matchProblem(path string, err error) diag.Diagnostic {
	if e.grpc {
		return cannot(e.at(path), "tell requests by %v", err).WithFix("write the condition otherwise, or let a proxy call")
	}
	return matchProblem(e.at(path), err)
}

func matchProblem(at diag.Pos, err error) diag.Diagnostic {
	return diag.New(diag.CodeMatch, at, "the envoy target: %v", err).WithFix("write the condition with another test, or give the requests that it leaves out a route of their own before it")
}

// needClusters notes the names of destinations.
func (n *entry) needClusters(shares []share) {
	for _, s := range shares {
		n.need(release.ClusterType, s.cluster)
	}
}

// forward is forward, and notes the clusters' names.
func (n *entry) forward(shares []share) *routev3.Route_Route {
	n.needClusters(shares)
	return forward(shares)
}

// forward sends requests to weighted clusters.
func forward(shares []share) *routev3.Route_Route {
	if len(shares) == 1 {
		return &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: shares[0].cluster},
		}}
	}
	w := &routev3.WeightedCluster{}
	for _, s := range shares {
		w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: s.cluster, Weight: UInt32(s.weight)})
	}
	return &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: w},
	}}
}

// notFound answers 404: the list that was chosen has no route for the request.
func notFound(name string, match *routev3.RouteMatch) *routev3.Route {
	return &routev3.Route{Name: name, Match: match, Action: &routev3.Route_DirectResponse{
		DirectResponse: &routev3.DirectResponseAction{Status: 404},
	}}
}

// serviceRoutes are the routes of requests to a service's port. There is no
// catch-all: where no route matches, Envoy answers 404.
func (e *emitter) serviceRoutes(t target, out *entry) []*routev3.Route {
	var rs []*routev3.Route
	for _, r := range e.m.ServiceRoutes(t.service, t.port, t.from) {
		r.Traits = model.Tightens(t.says, r.To, r.Traits)
		rs = append(rs, e.effectiveRoute(model.RoutePath(t.service.ID, r.Outer.Name), r, Ctx{}, out)...)
	}
	return rs
}

// effectiveRoute is one rule of an expansion whose first route has that path. Its name joins the mesh paths of all
// its routes, so that a log line tells them.
func (e *emitter) effectiveRoute(path string, r model.EffectiveRoute, x Ctx, out *entry) []*routev3.Route {
	if len(r.Lost) > 0 {
		out.problem(diag.New(diag.CodeSplit, e.at(path),
			"the services of this split differ in %s, and one weighted route has only one of each", strings.Join(r.Lost, ", ")).
			WithFix("set the same values on the services' routes, or on this route what holds for all of them (of a timeout the shortest)"))
		return nil
	}
	name := strings.Join(append([]string{path}, r.InnerPaths()...), "/")
	if r.NotFound {
		match, err := e.routeMatch(r.Match)
		if errors.Is(err, errNever) {
			return nil
		}
		if err != nil {
			out.problem(e.matchProblem(path, err))
			return nil
		}
		return []*routev3.Route{notFound(name, match)}
	}
	if x.Service = r.Service; r.Service != nil {
		x.Port, _ = r.Service.Port(r.Port)
	} else if r.External != nil {
		x.Port, _ = r.External.Port(r.Port)
	}
	return e.buildRoute(routeSpec{name: name, path: path, match: r.Match, shares: e.shares(r.To), traits: r.Traits, x: x}, out)
}

// answerTimeout bounds answers of what has no routes; it is Envoy's own default.
const answerTimeout = 15 * time.Second

// externalRoutes are the routes of requests to an external's port.
func (e *emitter) externalRoutes(t target, out *entry) []*routev3.Route {
	x, p := t.external, t.port
	var rs []*routev3.Route
	if x.Endpoints.Dynamic {
		rs = append(rs, otherPorts(p))
	}
	for _, r := range t.routes() {
		path := model.ExternalRoutePath(x.ID, r.Name)
		built := e.buildRoute(routeSpec{
			name: path, path: path, match: r.Match, shares: e.shares(outsideTargets(x, p, r.To)), traits: model.Tightens(t.says, r.To, r.Traits),
			x: Ctx{External: x, Port: p}, host: e.calledAs(x),
		}, out)
		for _, route := range built {
			if x.Endpoints.Dynamic && !t.via {
				lookUpHost(route, x, p)
			}
		}
		rs = append(rs, built...)
	}
	return rs
}

// outsideTargets completes the destinations of an external's own route.
func outsideTargets(x *model.External, p model.Port, to []model.Target) []model.Target {
	out := make([]model.Target, len(to))
	for i, t := range to {
		out[i] = model.Target{Service: x.ID, Port: p.Name, Weight: t.Weight}
	}
	return out
}

// calledAs is the host that is put in place of what the application said, "" for none: with
// explicit capture it has called a loopback address, and the external expects its own name.
func (e *emitter) calledAs(x *model.External) string {
	if e.m.Capture == model.Explicit && !x.Endpoints.Dynamic {
		return x.Host()
	}
	return ""
}

// outboundConfig is the RouteConfiguration for requests to one callee's port,
// the same bytes for every caller that says nothing itself (explicit capture). The name is the same
// for all, so that a caller who begins to say something gets other routes and keeps its listener.
func (e *emitter) outboundConfig(t target) *entry {
	name := model.OutboundName(t.id(), t.port.Name)
	return e.get("route "+name+t.mark(), []given{t.given()}, func(out *entry) {
		h := &routev3.VirtualHost{Name: t.id(), Domains: []string{"*"}, Routes: e.targetRoutes(t, out)}
		if e.profile.Names != nil && t.external == nil {
			h.Domains = e.profile.Names(t.id())
		}
		if t.external != nil && t.external.Endpoints.Dynamic {
			h.Domains = t.external.Hosts
		}
		e.sealRoutes(out, t.path(), &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{h}})
	})
}

func (e *emitter) targetRoutes(t target, out *entry) []*routev3.Route {
	if t.external != nil {
		return e.externalRoutes(t, out)
	}
	return e.serviceRoutes(t, out)
}

// inboundConfig is the RouteConfiguration for requests that arrive at a version's
// port: one route to the application, with the port's authorization and the
// service's inbound features on the virtual host. Timeouts are the caller's
// business: here they are off, or the defaults of 15 s for an answer and 5 min
// without a byte would cut longer ones.
func (e *emitter) inboundConfig(s *model.Service, p model.Port, v model.Version) *entry {
	return e.arriving(s, p, v, model.InboundName(s.ID, p.Name, v.Name), s.Grants)
}

// askedConfig is the RouteConfiguration for what those without a certificate may ask of a port
// that demands one.
func (e *emitter) askedConfig(s *model.Service, p model.Port, v model.Version) *entry {
	return e.arriving(s, p, v, model.AskedName(s.ID, p.Name, v.Name), s.Asked(p))
}

func (e *emitter) arriving(s *model.Service, p model.Port, v model.Version, name string, grants []model.Grant) *entry {
	return e.get("route "+name, bind{service: s, port: p, version: v}.given(), func(out *entry) {
		path := model.ServicePath(s.ID)
		action := out.forward([]share{{cluster: model.LocalClusterName(s.ID, p.Name, v.Name), weight: 1}})
		action.Route.Timeout, action.Route.IdleTimeout = Duration(0), Duration(0)
		h := &routev3.VirtualHost{Name: s.ID, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Name:   path,
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: action,
		}}}
		HostFilter(h, SlotRBAC, counting(e.allow(grants, p), e.allow(countedBeside(s, p), p)))
		if rules, shadow := e.denials(p, s.Denies), e.denials(p, s.ShadowDenies); len(rules.Policies)+len(shadow.Policies) > 0 {
			HostFilter(h, SlotDeny, counting(rules, shadow))
		}
		x := Ctx{Mesh: e.m, Service: s, Port: p, Version: v, path: path, out: out, locate: e.at, keys: e.profile.Keys}
		traits := s.TraitsAt(p.Name)
		for _, n := range traits.Names() {
			if f := e.cells[n].Lowering.inbound; f != nil {
				value, _ := traits.Lookup(n)
				f(h, value, &x)
			}
		}
		e.finish(h, traits, &x)
		// Its routes are made at the callers. What is wrong with them is told if nobody calls yet,
		// too: whoever begins to would be refused for it.
		if v.Name == s.Versions[0].Name { // they are the same for all
			var untold entry
			e.serviceRoutes(target{service: s, port: p, from: model.AnyCaller}, &untold)
			if e.finishes(traits) { // its clusters may be refused as well
				e.buildServiceCluster(target{service: s, port: p, version: v, from: model.AnyCaller}, nil, &untold)
			}
			out.problems = append(out.problems, untold.problems...)
		}
		e.sealRoutes(out, path, &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{h}})
	})
}

// sealRoutes encodes the configuration.
func (e *emitter) sealRoutes(out *entry, path string, rc *routev3.RouteConfiguration) {
	// Hosts are told apart without their port, but keep it: redirects and
	// applications need it.
	rc.IgnorePortInHostMatching = true
	if !slices.ContainsFunc(rc.VirtualHosts, func(h *routev3.VirtualHost) bool { return slices.Contains(h.Domains, "*") }) {
		// What no proxy takes is refused for hosts that nobody knows, too; the rest is not found.
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: "unknown host", Domains: []string{"*"}})
	}
	parts := partsOf(out, e.run.before != nil)
	hosts := make([][]byte, len(rc.VirtualHosts))
	for i, h := range rc.VirtualHosts {
		// Nobody but the callee's proxy says it: what an application writes goes here, before that
		// proxy answers for it, and the caller's proxy keeps to itself what it was told.
		h.ResponseHeadersToRemove = append(h.ResponseHeadersToRemove, hop.NotAnswered)
		hosts[i] = parts.host(h)
	}
	rc.VirtualHosts = nil
	b := canon.WithArray(parts.text(rc), "virtual_hosts", hosts)
	out.parts = parts.now
	e.sealText(out, release.RouteType, rc.Name, path, b, parts.err)
}
