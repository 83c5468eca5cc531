package plan

import (
	"reflect"
	"slices"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// nevers compares what must never be allowed. Nothing becomes of it at once: what is said no longer
// may be allowed by a later change, which nothing stops then.
func (c *comparison) nevers() {
	find := func(m *model.Mesh, path string) (model.Never, bool) {
		i := slices.IndexFunc(m.Nevers, func(n model.Never) bool { return model.NeverPath(n) == path })
		if i < 0 {
			return model.Never{}, false
		}
		return m.Nevers[i], true
	}
	tell := func(class Class, what What, n model.Never, before, after bool) {
		path := model.NeverPath(n)
		p := piece{class: class, kind: KindMesh, scope: "mesh", says: Change{What: what, Name: n.Name}}
		if !n.Root() {
			p.says.Package = n.Package
		}
		if before {
			p.before = []space.Origin{space.Origin(path)}
		}
		if after {
			p.after = []space.Origin{space.Origin(path)}
		}
		c.add(p)
	}
	for _, b := range c.before.Nevers {
		a, is := find(c.after, model.NeverPath(b))
		switch {
		case is && saysAlike(a, b):
		case is && c.keeps(b):
			tell(Neutral, NeverOther, a, true, true)
		case is:
			tell(Weakening, NeverLess, a, true, true)
		case c.keeps(b):
			tell(Neutral, NeverMoved, b, true, false)
		default:
			tell(Weakening, NeverGone, b, true, false)
		}
	}
	for _, a := range c.after.Nevers {
		if _, was := find(c.before, model.NeverPath(a)); !was {
			tell(Neutral, NeverNew, a, false, true)
		}
	}
}

// saysAlike compares two nevers without who answers for them.
func saysAlike(a, b model.Never) bool {
	a.Owner, b.Owner = "", ""
	return reflect.DeepEqual(a, b)
}

// keeps reports whether the nevers of after forbid all that one of before does, of what there is after.
func (c *comparison) keeps(b model.Never) bool {
	m := c.after
	ok := true
	at := func(id, home string, ports []model.Port) {
		if !ok || !b.About(id, home) {
			return
		}
		for _, p := range ports {
			ok = ok && c.keepsAt(b, id, home, p)
		}
	}
	for _, s := range m.Services {
		at(s.ID, m.Home(s.Namespace, s.Package), s.Ports)
	}
	for _, x := range m.Externals {
		at(x.ID, m.Home(x.Namespace, x.Package), x.Ports)
	}
	return ok
}

func (c *comparison) keepsAt(b model.Never, id, home string, p model.Port) bool {
	said, says := eval.Forbidden(c.after.TrustDomain, p, b)
	if !says {
		return true
	}
	var l space.List
	for _, a := range c.after.Nevers {
		if kept, ok := eval.Forbidden(c.after.TrustDomain, p, a); ok && a.About(id, home) {
			l = append(l, space.Rule{When: slices.Concat(kept.Who, kept.What), Then: space.Refused()})
		}
	}
	l = append(l, space.Rule{Then: space.Outcome{Verdict: space.Forward}})
	_, left, err := prove.Never(space.Scope{ID: id, Port: p.Name, Protocol: string(p.Protocol)}, l, slices.Concat(said.Who, said.What), space.Forward, c.lim)
	return err == nil && !left // what cannot be told counts as less
}
