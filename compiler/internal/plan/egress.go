package plan

import (
	"net"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// egressOf is what becomes of what a service sends to where nothing is declared: the loosest mode of its proxies.
func egressOf(m *model.Mesh, modes map[release.Class]model.Openness, s *model.Service) model.Openness {
	var out model.Openness
	if s == nil || m.Capture != model.Transparent {
		return out
	}
	for _, v := range s.Versions {
		for _, c := range s.Classes(v) {
			if mode := modes[c]; !v.Proxyless && out.Tighter(mode) {
				out = mode
			}
		}
	}
	return out
}

// egress compares what becomes of what services send to where nothing is declared, and where that is: of those that
// let it out on both sides, what others declare changes what they reach.
func (c *comparison) egress() {
	before, after := c.before.EgressModes(), c.after.EgressModes()
	var come, gone []model.Declared
	var example string
	for _, s := range c.after.Services {
		was := c.before.Service(s.ID)
		b, a := egressOf(c.before, before, was), egressOf(c.after, after, s)
		if b != a {
			if example == "" {
				example = undeclared(c.before, c.after)
			}
			c.egressMode(s, was, b, a, example)
		}
		if b == "" || a == "" {
			continue
		}
		if come == nil {
			come, gone = undone(c.after, c.before), undone(c.before, c.after)
		}
		if told := uncalled(come, s); len(told) > 0 {
			c.mentionAt(s, Narrowing, KindCall, model.EgressPath(s.ID), model.EgressPath(s.ID), Change{What: EgressDeclared, After: told})
		}
		if told := uncalled(gone, was); len(told) > 0 {
			c.mentionAt(s, Widening, KindCall, model.EgressPath(s.ID), model.EgressPath(s.ID), Change{What: EgressUndeclared, Before: told})
		}
	}
}

func (c *comparison) egressMode(s, was *model.Service, b, a model.Openness, example string) {
	class := Neutral // counted or not, it is let out
	switch {
	case b == "":
		class = Widening
	case a == "":
		class = Narrowing
	}
	words := map[model.Openness]string{"": "closed", model.Counted: "let out and counted", model.Uncounted: "let out"}
	from := model.EgressPath(s.ID)
	if was == nil {
		from = ""
	}
	c.mentionAt(s, class, KindCall, from, model.EgressPath(s.ID), Change{What: EgressMode, To: example, Before: []string{words[b]}, After: []string{words[a]}})
}

// undone is what is declared in a mesh and not in another.
func undone(in, other *model.Mesh) []model.Declared {
	has := map[string]bool{}
	for _, d := range other.Declared() {
		has[d.String()] = true
	}
	out := []model.Declared{}
	for _, d := range in.Declared() {
		if !has[d.String()] {
			out = append(out, d)
		}
	}
	return out
}

// uncalled is how those of some declarations are dialled that a service does not call.
func uncalled(ds []model.Declared, by *model.Service) []string {
	var out []string
	for _, d := range ds {
		if !slices.ContainsFunc(by.Calls, func(k model.Call) bool { return k.To == d.ID }) {
			out = append(out, d.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// undeclared is an address for documentation (RFC 5737) with a port number at which nothing is declared on either side:
// an example of what nobody declares.
func undeclared(ms ...*model.Mesh) string {
	taken := map[uint32]bool{}
	for _, m := range ms {
		for _, d := range m.Declared() {
			taken[d.Number] = true
		}
		for _, s := range m.Services {
			for _, p := range s.Ports {
				taken[p.Number] = true
				for _, v := range s.Versions {
					taken[v.AppListenPort(p)] = true
				}
			}
		}
	}
	n := uint32(8443)
	for taken[n] {
		n++
	}
	return net.JoinHostPort("192.0.2.1", strconv.FormatUint(uint64(n), 10))
}
