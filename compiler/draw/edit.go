package draw

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// Edit is the mesh with a few lines drawn anew, taken away or added. Every other edit is a
// turn: of what decides who gets through, who asks, and where it stands.
func (m *Mesh) Edit(r *rand.Rand) *Mesh {
	for {
		n := &Mesh{Services: m.Services, Gateways: m.Gateways, Externals: m.Externals, objects: m.objects, lines: slices.Clone(m.lines)}
		for range 1 + r.IntN(3) {
			if all := turns(); r.IntN(2) == 0 {
				all[r.IntN(len(all))](n, hand(r))
			} else {
				n.edit(r)
			}
		}
		if n.settle(r) && n.whole(m) && !maps.Equal(n.Files, m.Files) {
			return n
		}
	}
}

// thing is the line that makes a service, external or gateway, drawn or written by hand.
var thing = regexp.MustCompile(`^mesh: (service|external|gateway): [a-z0-9]+: \{`)

// whole reports whether no service, external or gateway has gone with what was refused, or come back.
func (m *Mesh) whole(before *Mesh) bool {
	things := func(m *Mesh) (n int) {
		for _, l := range m.lines {
			if thing.MatchString(l.text) {
				n++
			}
		}
		return n
	}
	return things(m) == things(before)
}

// edit draws a line anew, takes it away or adds one of the same object.
func (m *Mesh) edit(r *rand.Rand) {
	i := r.IntN(len(m.lines))
	l := m.lines[i]
	switch {
	case l.again == nil || r.IntN(3) == 0:
		if fs := l.of.free(); len(fs) > 0 {
			m.draw(r, l.of, fs[r.IntN(len(fs))])
		}
	case r.IntN(3) == 0:
		m.drop(l)
	default:
		m.lines[i] = m.write(r, l.of, l.field, l.again)
	}
}

// turns are edits that a reviewer wants to know of.
func turns() []func(*Mesh, *pen) {
	drawn := func(field string, on ...string) func(*Mesh, *pen) {
		return func(m *Mesh, p *pen) { m.turnDrawn(p, field, on) }
	}
	written := func(what string, with func(p *pen, old string) string) func(*Mesh, *pen) {
		pattern := regexp.MustCompile(what)
		return func(m *Mesh, p *pen) { m.turnWritten(p, pattern, with) }
	}
	other := func(words ...string) func(*pen, string) string {
		return func(p *pen, old string) string {
			return pick(p, slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == old })...)
		}
	}
	rules := []string{`anyone: true`, `mesh: true`, `namespaces: ["alpha"]`, `from: ["alpha/s0", "gateway/edge/gw"]`, `mesh: true, methods: ["GET"]`, `mesh: true, paths: ["/a", "/a/*"]`}
	way := func(p *pen, old string) string {
		_, ports, _ := strings.Cut(old, "ports: ")
		return "grant: way: {" + pick(p, rules...) + ", ports: " + ports
	}
	return []func(*Mesh, *pen){
		written(`grant: way: .*`, way), written(`grant: way: .*`, way),
		drawn("grant", "#Service"), drawn("deny", "#Service", "#Gateway", "#GatewayHost"),
		drawn("mtls", "#Service", "#ServicePort", "#Mesh"), drawn("mtls", "#Service", "#ServicePort"),
		written(`until": "[^"]*"`, other(`until": "2030-01-01T00:00:00Z"`, `until": "2027-03-01T12:00:00+01:00"`, `until": "2026-05-31T00:00:00Z"`)),
		written(`version: v\d: \{[^}]*\}`, func(p *pen, old string) string {
			version, _, _ := strings.Cut(old, ": {")
			return version + ": {" + other(``, `serviceAccount: "first"`, `serviceAccount: "second"`)(p, strings.TrimSuffix(strings.TrimPrefix(old, version+": {"), "}")) + "}"
		}),
		written(`number: 8080`, other("number: 8082", "number: 8084")), written(`number: 8443`, other("number: 8444")),
		written(`192\.0\.2\.\d+`, other("192.0.2.1", "192.0.2.2", "192.0.2.3")),
		func(m *Mesh, p *pen) { m.turnCalls(p) }, func(m *Mesh, p *pen) { m.turnNoCall(p) }, func(m *Mesh, p *pen) { m.turnHost(p) },
	}
}

// turnDrawn draws a field of one of the objects anew, takes it away or adds it.
func (m *Mesh) turnDrawn(p *pen, field string, on []string) {
	var there []int
	for i, l := range m.lines {
		if word, _, _ := strings.Cut(l.field, ":"); word == field && l.again != nil && slices.Contains(on, l.of.definition) {
			there = append(there, i)
		}
	}
	if len(there) > 0 && p.chance(70) {
		l := m.lines[pick(p, there...)]
		if p.chance(40) {
			m.drop(l)
			return
		}
		m.lines[slices.Index(m.lines, l)] = m.write(p.Rand, l.of, l.field, l.again)
		return
	}
	objects := slices.DeleteFunc(slices.Clone(m.objects), func(o *object) bool { return !slices.Contains(on, o.definition) || !slices.Contains(o.free(), field) })
	m.draw(p.Rand, pick(p, objects...), field)
}

// turnWritten changes what a line says by hand.
func (m *Mesh) turnWritten(p *pen, what *regexp.Regexp, with func(*pen, string) string) {
	var there []int
	for i, l := range m.lines {
		if what.MatchString(l.text) {
			there = append(there, i)
		}
	}
	if len(there) == 0 {
		return
	}
	i := pick(p, there...)
	l := *m.lines[i]
	at := pick(p, what.FindAllStringIndex(l.text, -1)...)
	l.text = l.text[:at[0]] + with(p, l.text[at[0]:at[1]]) + l.text[at[1]:]
	m.lines[i] = &l
}

// turnCalls makes a service call another one, or an external.
func (m *Mesh) turnCalls(p *pen) {
	var services []*object
	for _, o := range m.objects {
		if o.definition == "#Service" {
			services = append(services, o)
		}
	}
	o, to := pick(p, services...), pick(p, slices.Concat(m.Services, m.Externals)...)
	m.put(o, fmt.Sprintf("calls: %q: {}", to.ID))
}

// turnNoCall takes a call away, with what it says.
func (m *Mesh) turnNoCall(p *pen) {
	var calls []*line
	for _, l := range m.lines {
		if l.field == "" && l.of.definition == "#Call" {
			calls = append(calls, l)
		}
	}
	if len(calls) > 0 {
		m.drop(pick(p, calls...))
	}
}

// turnHost closes a host of a gateway, with its routes.
func (m *Mesh) turnHost(p *pen) {
	var hosts []*line
	for _, l := range m.lines {
		if l.field == "" && l.of.definition == "#GatewayHost" && !strings.Contains(l.of.at, "front.test") {
			hosts = append(hosts, l)
		}
	}
	if len(hosts) > 0 {
		m.drop(pick(p, hosts...))
	}
}
