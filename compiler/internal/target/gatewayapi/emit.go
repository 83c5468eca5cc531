package gatewayapi

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Profile is what the target depends on beside the mesh. The zero Profile is usable.
type Profile struct {
	// Locate gives the user's position of a mesh path (nil: the path stands in place of the file).
	Locate func(meshPath string) diag.Pos
}

// Emit compiles the mesh to Gateway API objects, one artifact each, sorted by path. gaps are
// what they do not say and the mesh does: whoever takes the artifacts answers for each. With
// an error among the problems there are no artifacts.
func Emit(m *model.Mesh, cells Column, conditions Conditions, parts []coverage.Part, p Profile) (arts []release.Artifact, gaps []coverage.Gap, problems diag.List) {
	if p.Locate == nil {
		p.Locate = func(path string) diag.Pos { return diag.Pos{File: path} }
	}
	e := &emitter{m: m, cells: cells, conditions: conditions, at: p.Locate, grants: map[[2]string]bool{}}
	e.check(parts)
	for _, s := range m.Services {
		e.service(s)
	}
	for _, g := range m.Gateways {
		e.gateway(g)
	}
	e.referenceGrants()
	if e.problems.HasErrors() {
		e.artifacts = nil
	}
	slices.SortFunc(e.artifacts, func(a, b release.Artifact) int { return cmp.Compare(a.Path, b.Path) })
	return e.artifacts, e.gaps, e.problems.Sorted()
}

type emitter struct {
	m          *model.Mesh
	cells      Column
	conditions Conditions
	at         func(string) diag.Pos
	artifacts  []release.Artifact
	gaps       []coverage.Gap
	problems   diag.List
	// grants are the pairs (namespace of a route, namespace of a Service behind it).
	grants map[[2]string]bool
}

// name is the target's.
const name = "gateway-api"

// wayOut is what helps against every refusal.
const wayOut = "take it out, or compile without the target gateway-api (`targets` in the root package)"

// seeToIt is what helps against every loss.
const seeToIt = "see that your implementation does what you want, or take it out"

func (e *emitter) problem(d diag.Diagnostic) {
	switch {
	case d.Fix != "":
	case d.IsError():
		d = d.WithFix(wayOut)
	default:
		d = d.WithFix(seeToIt)
	}
	e.problems = append(e.problems, d)
}

// check holds whole objects against the columns: no object here says anything of them.
func (e *emitter) check(parts []coverage.Part) {
	gaps, losses := coverage.Check(name, e.m, parts, e.where)
	e.gaps = append(e.gaps, gaps...)
	for _, l := range losses {
		e.problem(l)
	}
	for _, s := range e.m.Services {
		for _, p := range s.Ports {
			e.checkTraits(s.TraitsAt(p.Name), model.ServicePath(s.ID), false)
			for _, v := range s.Versions {
				e.checkTraits(v.TraitsAt(p.Name), model.VersionPath(s.ID, v.Name), false)
			}
		}
		for _, c := range s.Calls { // an HTTPRoute is for whoever calls
			e.checkTraits(c.Traits, s.CallPath(c), false)
		}
	}
	for _, g := range e.m.Gateways {
		e.checkTraits(g.Traits, model.GatewayPath(g.ID), false)
	}
}

// where is at for what may be the whole mesh: then it is what the root package says of the target.
func (e *emitter) where(path string) diag.Pos { return e.at(cmp.Or(path, "target/"+name)) }

// gap notes a feature that no object says.
func (e *emitter) gap(feature, path, why, text string) {
	at := path + "/" + feature
	e.gaps = append(e.gaps, coverage.Gap{Name: feature, Path: at, Why: why, Problem: diag.New(diag.CodeUnsupported, e.at(at), "the gateway-api target %s", text)})
}

// checkTraits holds a set against the column. On a service no trait has a form.
func (e *emitter) checkTraits(s trait.Set, path string, route bool) {
	for _, name := range s.Names() {
		l, ok := e.cells[name]
		if v, _ := s.Lookup(name); l.unsaid != nil && reflect.DeepEqual(v, l.unsaid) {
			continue
		}
		switch {
		case !ok:
			e.problem(diag.New(diag.CodeUnsupported, e.at(path+"/"+name), "the gateway-api target does not know the feature %q", name))
		case l.refusal != "":
			e.gap(name, path, l.refusal, fmt.Sprintf("cannot say %q: %s", name, l.refusal))
		case !route || l.rule == nil:
			e.gap(name, path, "it has no form of it here", fmt.Sprintf("has no form of %q here", name))
		case l.loss != "":
			e.problem(diag.Warn(diag.CodeApproximate, e.at(path+"/"+name), "the gateway-api target says %q with a loss: %s", name, l.loss))
		}
	}
}

// backendName is the Service of a version.
func backendName(s *model.Service, version string) string {
	if len(s.Versions) == 1 {
		return s.Name
	}
	return s.Name + "-" + version
}

// service writes an HTTPRoute per HTTP port, attached to the Service (every
// caller in the mesh meets it).
func (e *emitter) service(s *model.Service) {
	for _, p := range s.Ports {
		if !p.Protocol.IsHTTP() {
			continue
		}
		var rs []rule
		for _, r := range e.m.ServiceRoutes(s, p, model.EachCaller) {
			rs = e.effective(rs, model.RoutePath(s.ID, r.Outer.Name), r)
		}
		core := ""
		parent := ParentRef{Group: &core, Kind: "Service", Name: s.Name, Port: p.Number}
		e.routes(s.Namespace, s.Name+".port."+p.Name, []ParentRef{parent}, nil, rs)
	}
}

// rule is a route before it is a Rule.
type rule struct {
	path     string
	match    model.Match
	to       []model.Target
	traits   trait.Set
	notFound bool
}

// effective adds a rule of an expansion whose first route has that path.
func (e *emitter) effective(rs []rule, path string, r model.EffectiveRoute) []rule {
	if len(r.Lost) > 0 {
		e.problem(diag.New(diag.CodeSplit, e.at(path), "the services of this split differ in %s, and one weighted route has only one of each", strings.Join(r.Lost, ", ")))
		return rs
	}
	return append(rs, rule{path: path, match: r.Match, to: r.To, traits: r.Traits, notFound: r.NotFound})
}

// routes writes the rules of one parent, in as many HTTPRoutes as the schema's
// limit on rules asks for.
func (e *emitter) routes(namespace, name string, parents []ParentRef, hostnames []string, rs []rule) {
	e.checkOrder(rs)
	var rules []Rule
	for _, r := range rs {
		if r.notFound {
			continue // what no rule takes is answered 404; checkOrder saw that none follows
		}
		rules = append(rules, e.rule(namespace, r))
	}
	for i := 0; i*maxRules < len(rules); i++ {
		n := fitName(name)
		if i > 0 {
			n += ".part" + strconv.Itoa(i+1)
		}
		part := rules[i*maxRules : min(len(rules), (i+1)*maxRules)]
		e.write(object{version, "HTTPRoute", metadata{n, namespace}, routeSpec{parents, hostnames, part}})
	}
}

func (e *emitter) rule(namespace string, r rule) Rule {
	ms, losses, err := e.conditions.matches(r.match)
	if err != nil {
		e.problem(diag.New(diag.CodeMatch, e.at(r.path), "the gateway-api target: %v", err))
	}
	for _, l := range losses {
		e.problem(diag.Warn(diag.CodeApproximate, e.at(r.path), "the gateway-api target: %s", l))
	}
	out := Rule{Matches: ms}
	var each []trait.Set
	r.to = model.Weighty(r.to)
	r.traits, each = model.Apart(r.traits, r.to)
	x := &Ctx{Mesh: e.m, path: r.path, problems: &e.problems, locate: e.at}
	weights := model.Weights(r.to)
	for i, t := range r.to {
		s := e.m.Service(t.Service)
		if s == nil {
			e.problem(diag.New(diag.CodeLowering, e.at(r.path), "the gateway-api target: the route leads to %q, and a backend is a Service", t.Service))
		}
		if s == nil {
			continue
		}
		p, _ := s.Port(t.Port)
		b := BackendRef{Name: backendName(s, t.Version), Port: p.Number, Weight: weights[i]}
		if s.Namespace != namespace {
			b.Namespace = s.Namespace
			e.grants[[2]string{namespace, s.Namespace}] = true
		}
		if each != nil { // a backend takes the filters that a rule does
			own := Rule{BackendRefs: []BackendRef{b}}
			e.lower(&own, each[i], r.path, x)
			b.Filters = own.Filters
		}
		out.BackendRefs = append(out.BackendRefs, b)
	}
	e.lower(&out, r.traits, r.path, x)
	if out.Timeouts != nil && out.Timeouts.Request != "" {
		text, err := duration(out.Timeouts.Request)
		if err != nil {
			x.Problem("%v", err)
		}
		out.Timeouts = &Timeouts{Request: text}
	}
	e.checkLimits(out, r.path)
	if len(r.to) == 0 && len(out.Filters) == 0 {
		e.problem(diag.New(diag.CodeNoAnswer, e.at(r.path), "the gateway-api target: the route sends requests nowhere and no feature answers them"))
	}
	return out
}

// lower says values of a route, or of one of its destinations, by a rule.
func (e *emitter) lower(out *Rule, s trait.Set, path string, x *Ctx) {
	e.checkTraits(s, path, true)
	for _, name := range s.Names() {
		if f := e.cells[name].rule; f != nil {
			v, _ := s.Lookup(name)
			f(out, v, x)
		}
	}
}

// checkOrder refuses rules that Gateway API would try in another order than the
// mesh does: it sorts by kind and length of the path, method and headers, and
// keeps the written order only for equals within one object.
func (e *emitter) checkOrder(rs []rule) {
	like := make([]Match, len(rs))
	for i, r := range rs {
		like[i] = e.like(r)
	}
	for j, b := range rs {
		for i, a := range rs[:j] {
			if _, both := model.IntersectMatches(a.match, b.match); !both {
				continue
			}
			first, tie, known := precedes(like[i], like[j])
			sameObject := i/maxRules == j/maxRules
			switch {
			case a.notFound:
				e.problem(diag.New(diag.CodeOrder, e.at(b.path), "the gateway-api target cannot answer 404 for what %q takes without a route of its service, and would try this route", a.path))
			case !known:
				e.problem(diag.New(diag.CodeOrder, e.at(b.path), "the gateway-api target leaves it to the implementation whether %q or this route takes a request that both match", a.path))
			case !first || (tie && !sameObject):
				e.problem(diag.New(diag.CodeOrder, e.at(b.path), "the gateway-api target would try this route before %q, which the mesh tries first", a.path).
					WithFix("make their matches disjoint, or order them by path, method and headers"))
			}
		}
	}
}

// like is one of a rule's alternatives, which are alike in what Gateway API sorts by. What has no
// form is told where the rule is written.
func (e *emitter) like(r rule) Match {
	ms, _, _ := e.conditions.matches(r.match)
	if len(ms) == 0 {
		return Match{}
	}
	return ms[0]
}

// referenceGrants allow routes to name Services of other namespaces.
func (e *emitter) referenceGrants() {
	pairs := slices.SortedFunc(maps.Keys(e.grants), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, p := range pairs {
		e.write(object{beta, "ReferenceGrant", metadata{"meshc-from-" + p[0], p[1]}, grantSpec{
			From: []grantRef{{Group: group, Kind: "HTTPRoute", Namespace: p[0]}},
			To:   []grantRef{{Group: "", Kind: "Service"}},
		}})
	}
}

// write adds an object's artifact. YAML of plain structs cannot fail.
func (e *emitter) write(o object) {
	b, err := yaml.Marshal(o)
	if err != nil {
		e.problem(diag.New(diag.CodeInconsistent, e.at(""), "writing %s %q: %v", o.Kind, o.Metadata.Name, err))
		return
	}
	e.artifacts = append(e.artifacts, release.Artifact{
		Path:  "targets/gateway-api/" + o.Metadata.Namespace + "/" + strings.ToLower(o.Kind) + "-" + o.Metadata.Name + ".yaml",
		Bytes: b,
	})
}
