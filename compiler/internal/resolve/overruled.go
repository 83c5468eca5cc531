package resolve

import (
	"reflect"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// overruled is what is lost of a value that stands at one line, for all routes that have it from there.
type overruled struct {
	trait.Overruled
	words []string   // those that hold nowhere
	by    []diag.Pos // what holds in their place
	met   bool       // by some route behind
	idle  bool       // nothing of it holds anywhere
}

// checkOverruled warns of words that calls and gateways' routes say for nothing: whatever is behind writes its own. Of a
// call of which nothing holds at all checkCalls says so.
func (l *linker) checkOverruled() {
	found := map[diag.Pos]*overruled{}
	for _, s := range l.mesh.Services {
		for _, c := range s.Calls {
			l.overrule(found, routeAt{traits: c.Traits, path: s.CallPath(c)}, l.routesOf(c.To, c.Port))
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				l.overrule(found, routeAt{r, r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name), nil}, l.behindOf(r))
			}
		}
	}
	for line, o := range found {
		if len(o.words) == 0 || o.idle {
			continue
		}
		d := diag.Warn(diag.CodeNever, line, "of this %s only `%s` holds, for what is called has its own: nothing comes of `%s`", o.TraitName(), o.Kept(), strings.Join(o.words, "`, `"))
		slices.SortFunc(o.by, diag.Pos.Compare)
		for _, at := range slices.Compact(o.by) {
			d = d.WithRelated(at, "what holds")
		}
		l.add(d.WithFix("delete what does not hold, or let the owner of what is called write it"))
	}
}

// overrule notes what the routes behind a call or a gateway's route leave of what that says.
func (l *linker) overrule(found map[diag.Pos]*overruled, says routeAt, behind []routeAt) {
	for _, name := range says.traits.Names() {
		v, _ := says.traits.Lookup(name)
		own, ok := v.(trait.Overruled)
		line := l.lineOf(says.path + "/" + name)
		if !ok || says.traits.IsDefault(name) || line == (diag.Pos{}) {
			continue
		}
		o := found[line]
		if o == nil {
			o = &overruled{Overruled: own, idle: says.Name == ""}
			found[line] = o
		}
		for _, r := range behind {
			if _, meet := model.IntersectMatches(says.Match, r.Match); len(r.To) > 0 && (meet || !says.traits.Image().IsZero()) {
				l.overruleBy(o, own, name, says, r)
			}
		}
	}
}

// overruleBy notes what one route behind leaves of a value.
func (l *linker) overruleBy(o *overruled, own trait.Overruled, name string, says, r routeAt) {
	var lost []string
	next, ok := r.traits.Lookup(name)
	if ok && !r.traits.IsDefault(name) {
		lost = own.Lost(next)
		holds, _ := says.traits.Then(r.traits).Lookup(name)
		o.idle = o.idle && reflect.DeepEqual(holds, next)
		if at := l.lineOf(r.path + "/" + name); at != (diag.Pos{}) {
			o.by = append(o.by, at)
		}
	}
	if !o.met {
		o.words, o.met = lost, true
	}
	o.words = slices.DeleteFunc(o.words, func(w string) bool { return !slices.Contains(lost, w) })
}
