package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// objects compares what single requests do not show: modes of mTLS, features of
// services, calls, gateways, addresses, and what comes and goes.
func (c *comparison) objects() {
	c.wholeMesh()
	c.ownership()
	services := map[string]bool{}
	for _, m := range []*model.Mesh{c.before, c.after} {
		for _, s := range m.Services {
			services[s.ID] = true
		}
	}
	for _, id := range sortedKeys(services) {
		c.service(c.before.Service(id), c.after.Service(id))
	}
	c.gateways()
	c.externals()
}

func (c *comparison) wholeMesh() {
	for _, x := range []struct{ what, before, after string }{
		{"trust domain", c.before.TrustDomain, c.after.TrustDomain},
		{"environment", c.before.Environment, c.after.Environment},
		{"capture", string(c.before.Capture), string(c.after.Capture)},
	} {
		if x.before != x.after {
			c.add(piece{class: Neutral, kind: KindMesh, scope: "mesh", change: x.what + " " + x.before + " → " + x.after})
			for _, s := range c.after.Services {
				c.touchedServices[s.ID] = true
			}
		}
	}
}

// note adds a piece about one service.
func (c *comparison) note(s *model.Service, class Class, kind Kind, format string, args ...any) {
	c.touchedServices[s.ID] = true
	origin := []space.Origin{space.Origin(model.ServicePath(s.ID))}
	p := piece{class: class, kind: kind, scope: s.ID, name: s.Name, change: fmt.Sprintf(format, args...)}
	if c.before.Service(s.ID) != nil {
		p.before = origin
	}
	if c.after.Service(s.ID) != nil {
		p.after = origin
	}
	c.add(p)
}

// newService tells of a service. One in another package's namespace gains what the
// namespace is granted.
func (c *comparison) newService(s *model.Service) {
	if s.Package == "" {
		c.note(s, Neutral, KindService, "service is new")
		return
	}
	n, _ := c.after.Namespace(s.Namespace)
	c.note(s, Widening, KindOwner, "service is new, by %s in the namespace of %s: it gains what is granted to namespace %s", folder(s.Package), folder(n.Package), s.Namespace)
}

func (c *comparison) service(before, after *model.Service) {
	switch {
	case before == nil:
		c.newService(after)
		c.calls(&model.Service{ID: after.ID, Name: after.Name, Namespace: after.Namespace}, after)
		return
	case after == nil:
		c.note(before, Neutral, KindService, "service is gone")
		c.calls(before, &model.Service{ID: before.ID, Name: before.Name, Namespace: before.Namespace})
		return
	}
	if b, a := home(c.before, before.Namespace, before.Package), home(c.after, after.Namespace, after.Package); b != a {
		c.note(after, Widening, KindOwner, "belongs to %s → %s", folder(b), folder(a))
	}
	if before.Owner != after.Owner {
		c.note(after, Neutral, KindService, "owner %s → %s", before.Owner, after.Owner)
	}
	if b, a := orNone(strings.Join(before.Addresses, " ")), orNone(strings.Join(after.Addresses, " ")); b != a {
		c.note(after, Neutral, KindAddress, "addresses: %s → %s", b, a)
	}
	c.ports(before, after)
	c.versions(before, after)
	c.calls(before, after)
	b, a := c.meaning.Fields(before.Traits), c.meaning.Fields(after.Traits)
	for _, f := range features(b, a) {
		class, text := c.word(f, b, a)
		c.note(after, class, KindFeature, "%s", text)
	}
}

func (c *comparison) ports(before, after *model.Service) {
	names := map[string]bool{}
	for _, p := range slices.Concat(before.Ports, after.Ports) {
		names[p.Name] = true
	}
	for _, name := range sortedKeys(names) {
		b, inB := before.Port(name)
		a, inA := after.Port(name)
		switch {
		case !inB:
			c.note(after, Neutral, KindService, "port %s is new (%d, %s, mTLS %s)", name, a.Number, a.Protocol, a.MTLS)
			continue
		case !inA:
			c.note(after, Neutral, KindService, "port %s is gone", name)
			continue
		}
		if b.MTLS != a.MTLS {
			c.note(after, mtlsClass(b.MTLS, a.MTLS), KindMTLS, "mTLS of port %s: %s → %s", name, b.MTLS, a.MTLS)
		}
		if b.Number != a.Number {
			c.note(after, Neutral, KindAddress, "port %s: %d → %d", name, b.Number, a.Number)
		}
		if b.Protocol != a.Protocol && b.Protocol.IsHTTP() && a.Protocol.IsHTTP() {
			c.note(after, Neutral, KindService, "protocol of port %s: %s → %s", name, b.Protocol, a.Protocol)
		}
	}
}

// mtlsClass: toward plaintext is weakening. Toward strict is told neutral here;
// who loses access by it has a line of its own.
func mtlsClass(before, after model.MTLS) Class {
	order := []model.MTLS{model.Disable, model.Permissive, model.Strict}
	if slices.Index(order, after) < slices.Index(order, before) {
		return Weakening
	}
	return Neutral
}

func (c *comparison) versions(before, after *model.Service) {
	names := map[string]bool{}
	for _, v := range slices.Concat(before.Versions, after.Versions) {
		names[v.Name] = true
	}
	for _, name := range sortedKeys(names) {
		b, inB := before.Version(name)
		a, inA := after.Version(name)
		switch {
		case !inB:
			c.note(after, Neutral, KindService, "version %s is new", name)
			continue
		case !inA:
			c.note(after, Neutral, KindService, "version %s is gone", name)
			continue
		}
		if b.Account != a.Account {
			c.note(after, Neutral, KindService, "version %s runs as %s → %s", name, b.Account, a.Account)
		}
		type change struct{ what, before, after string }
		var changes []change
		for _, p := range before.Ports {
			if _, ok := after.Port(p.Name); ok {
				of := " of port " + p.Name
				changes = append(changes, change{"address" + of, address(b.Ports[p.Name]), address(a.Ports[p.Name])},
					change{"application port" + of, number(b.Ports[p.Name].App), number(a.Ports[p.Name].App)})
			}
		}
		for _, x := range append(changes, []change{
			{"endpoints", endpoints(b.Endpoints), endpoints(a.Endpoints)},
			{"labels", labels(b.Labels), labels(a.Labels)},
			{"local ports", locals(b.Locals), locals(a.Locals)},
		}...) {
			if x.before != x.after {
				c.note(after, Neutral, KindAddress, "%s of version %s: %s → %s", x.what, name, x.before, x.after)
			}
		}
	}
}

func address(v model.VersionPort) string {
	switch {
	case v.Host == "":
		return "discovered"
	case v.Port == 0:
		return v.Host
	}
	return v.Host + ":" + number(v.Port)
}

func number(n uint32) string {
	if n == 0 {
		return "the port's number"
	}
	return strconv.FormatUint(uint64(n), 10)
}

func endpoints(e model.Endpoints) string {
	switch {
	case len(e.Static) > 0:
		return strings.Join(e.Static, " ")
	case e.DNS != "":
		return "DNS " + e.DNS
	case e.File != "":
		return "file " + e.File
	}
	return "discovered"
}

func labels(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return orNone(strings.Join(parts, " "))
}

func locals(m map[string]uint32) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+" at "+number(m[k]))
	}
	return orNone(strings.Join(parts, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// calls compares whom a service calls. A call to a service is scoping only (the
// callee's grants decide); a call to an external opens or closes egress.
func (c *comparison) calls(before, after *model.Service) {
	type key struct{ to, port string }
	index := func(s *model.Service) map[key]model.Call {
		out := map[key]model.Call{}
		for _, call := range s.Calls {
			out[key{call.To, call.Port}] = call
		}
		return out
	}
	b, a := index(before), index(after)
	for _, call := range slices.Concat(before.Calls, after.Calls) {
		k := key{call.To, call.Port}
		x, inB := b[k]
		y, inA := a[k]
		delete(b, k) // each pair once
		delete(a, k)
		switch {
		case !inB && !inA:
		case !inB:
			c.note(after, c.callClass(call.To, Widening), KindCall, "%s %s", c.callWords(call.To, "now calls", "egress opened: may now reach"), call.To)
		case !inA:
			c.note(after, c.callClass(call.To, Narrowing), KindCall, "%s %s", c.callWords(call.To, "no longer calls", "egress closed: may no longer reach"), call.To)
		case x.Local != y.Local:
			c.note(after, Neutral, KindAddress, "local port for %s: %d → %d", call.To, x.Local, y.Local)
		}
	}
}

func (c *comparison) isExternal(id string) bool {
	return c.after.External(id) != nil || c.before.External(id) != nil
}

func (c *comparison) callClass(to string, egress Class) Class {
	if c.isExternal(to) {
		return egress
	}
	return Neutral
}

func (c *comparison) callWords(to, service, egress string) string {
	if c.isExternal(to) {
		return egress
	}
	return service
}

// loopback reports whether a bind address is reachable from its own host only.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
