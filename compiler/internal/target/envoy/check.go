package envoy

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// checkParts holds the mesh against the column of structure. What is served must be whole:
// nobody can accept a gap.
func (e *emitter) checkParts(parts []coverage.Part) diag.List {
	gaps, out := coverage.Check("envoy", e.m, parts, e.at)
	for _, g := range gaps {
		out = append(out, g.Problem)
	}
	return out
}

// checkTraits holds every trait of the mesh against the column, once.
func (e *emitter) checkTraits() diag.List {
	var out diag.List
	for _, s := range e.m.Services {
		if e.proven(s) {
			continue
		}
		for _, p := range s.Ports {
			out = append(out, e.checkSet(s.TraitsAt(p.Name), model.ServicePath(s.ID), "service", Lowering.onService)...)
			for _, v := range s.Versions {
				out = append(out, e.checkSet(v.TraitsAt(p.Name), model.VersionPath(s.ID, v.Name), "version", Lowering.onCluster)...)
			}
			for _, r := range s.Routes {
				out = append(out, e.checkSet(r.TraitsAt(p.Name), model.RoutePath(s.ID, r.Name), "route", Lowering.onRoute)...)
			}
		}
		for _, k := range s.Calls {
			out = append(out, e.checkSet(k.Traits, s.CallPath(k), "call", Lowering.onRoute)...)
		}
	}
	for _, x := range e.m.Externals {
		out = append(out, e.checkSet(x.Traits, model.ExternalPath(x.ID), "external", Lowering.onCluster)...)
		for _, r := range x.Routes {
			out = append(out, e.checkSet(r.Traits, model.ExternalRoutePath(x.ID, r.Name), "route", Lowering.onRoute)...)
		}
	}
	for _, g := range e.m.Gateways {
		out = append(out, e.checkSet(g.Traits, model.GatewayPath(g.ID), "gateway", Lowering.onGateway)...)
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

// checkRefs holds every name that a class's resources mention against the class.
func (e *emitter) checkRefs(s release.Snapshot, entries []*entry) diag.List {
	type key struct {
		typ  release.TypeURL
		name string
	}
	origin := map[key]string{}
	var out diag.List
	for _, n := range entries {
		k := key{n.typ, n.res.Name}
		if _, twice := origin[k]; twice {
			out = append(out, diag.New(diag.CodeInconsistent, e.at(n.origin), "proxies of %s get two resources %q", s.Class, n.res.Name))
		}
		origin[k] = n.origin
	}
	for _, d := range s.Dangling() {
		out = append(out, diag.New(diag.CodeInconsistent, e.at(origin[key{d.From, d.Name}]), "%s", d))
	}
	return out
}
