package envoy

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// checkTraits holds every trait of the mesh against the column, once.
func (e *emitter) checkTraits() diag.List {
	var out diag.List
	for _, s := range e.m.Services {
		if e.proven(s) {
			continue
		}
		out = append(out, e.checkSet(s.Traits, model.ServicePath(s.ID), "service", Lowering.onService)...)
		for _, r := range s.Routes {
			out = append(out, e.checkSet(r.Traits, model.RoutePath(s.ID, r.Name), "route", Lowering.onRoute)...)
		}
	}
	for _, g := range e.m.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				out = append(out, e.checkSet(r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name), "route", Lowering.onRoute)...)
			}
		}
	}
	return out
}

func (e *emitter) checkSet(s trait.Set, path, kind string, fits func(Lowering) bool) diag.List {
	var out diag.List
	for _, name := range s.Names() {
		cell, ok := e.cells[name]
		l := cell.Lowering
		slot, bad := l.misplaced()
		switch {
		case !ok:
			out = append(out, diag.New(diag.CodeUnsupported, e.at(path+"/"+name), "the envoy target does not know the feature %q", name))
		case l.refusal != "":
			out = append(out, diag.New(diag.CodeUnsupported, e.at(path+"/"+name), "the envoy target cannot say %q: %s", name, l.refusal))
		case !fits(l):
			out = append(out, diag.New(diag.CodeUnsupported, e.at(path+"/"+name), "the envoy target has no form of %q on a %s", name, kind))
		case bad:
			out = append(out, diag.New(diag.CodeInconsistent, e.at(path+"/"+name), "feature %q needs the filter slot %q, which its chain does not have", name, slot))
		case l.loss != "":
			out = append(out, diag.Warn(diag.CodeApproximate, e.at(path+"/"+name), "the envoy target says %q with a loss: %s", name, l.loss))
		}
	}
	return out
}

// checkRefs holds every name that a class's resources mention against the class:
// a missing cluster answers 503, a missing route configuration keeps a listener
// warming, and Envoy acknowledges both.
func (e *emitter) checkRefs(s snapshot) diag.List {
	have := map[string]bool{}
	var out diag.List
	for _, n := range s.entries {
		key := n.typ + " " + n.res.Name
		if have[key] {
			out = append(out, diag.New(diag.CodeInconsistent, e.at(n.origin), "proxies of %s get two resources %q", s.scope.class, n.res.Name))
		}
		have[key] = true
	}
	missing := func(n *entry, typ release.TypeURL, names []string, kind string) {
		for _, name := range names {
			if !have[typ+" "+name] {
				out = append(out, diag.New(diag.CodeInconsistent, e.at(n.origin),
					"resource %q of %s names the %s %q, which these proxies do not get", n.res.Name, s.scope.class, kind, name))
			}
		}
	}
	for _, n := range s.entries {
		missing(n, release.ClusterType, n.clusters, "cluster")
		missing(n, release.RouteType, n.routes, "route configuration")
	}
	return out
}
