package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
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
	whole := func(class Class, format string, args ...any) {
		c.add(piece{class: class, kind: KindMesh, scope: "mesh", change: fmt.Sprintf(format, args...)})
		for _, s := range c.after.Services {
			c.touchedServices[s.ID] = true
		}
	}
	if c.oldDomain != c.after.TrustDomain {
		whole(Narrowing, "trust domain %s → %s: proxies refuse each other until all have certificates of one domain", c.oldDomain, c.after.TrustDomain)
	}
	if b, a := c.before.Environment, c.after.Environment; b != a {
		whole(Neutral, "environment %s → %s", b, a)
	}
	if b, a := c.before.Capture, c.after.Capture; b != a {
		whole(Narrowing, "capture %s → %s: what is not reached in the new way gets nothing", b, a)
	}
}

// note adds a piece about one service that those who call it notice.
func (c *comparison) note(s *model.Service, class Class, kind Kind, format string, args ...any) {
	c.reachedServices[s.ID] = true
	c.mention(s, class, kind, format, args...)
}

// mention adds a piece about one service, which nobody else notices.
func (c *comparison) mention(s *model.Service, class Class, kind Kind, format string, args ...any) {
	path := model.ServicePath(s.ID)
	before, after := path, path
	if c.before.Service(s.ID) == nil {
		before = ""
	}
	if c.after.Service(s.ID) == nil {
		after = ""
	}
	c.mentionAt(s, class, kind, before, after, format, args...)
}

// mentionAt tells of something of a service that stands at a mesh path on either side;
// "" is nowhere.
func (c *comparison) mentionAt(s *model.Service, class Class, kind Kind, before, after, format string, args ...any) {
	c.touchedServices[s.ID] = true
	p := piece{class: class, kind: kind, scope: s.ID, name: s.Name, change: fmt.Sprintf(format, args...)}
	if before != "" {
		p.before = []space.Origin{space.Origin(before)}
	}
	if after != "" {
		p.after = []space.Origin{space.Origin(after)}
	}
	c.add(p)
}

// newService tells of a service. One in another package's namespace gains what the
// namespace is granted.
func (c *comparison) newService(s *model.Service) {
	if s.Package == "" {
		c.mention(s, Neutral, KindService, "service is new")
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
		return
	}
	if b, a := home(c.before, before.Namespace, before.Package), home(c.after, after.Namespace, after.Package); b != a {
		c.note(after, Widening, KindOwner, "belongs to %s → %s", folder(b), folder(a))
	}
	if before.Owner != after.Owner {
		c.note(after, Neutral, KindService, "owner %s → %s", before.Owner, after.Owner)
	}
	if b, a := before.Addresses, after.Addresses; !slices.Equal(b, a) {
		c.note(after, lostAny(b, a), KindAddress, "addresses: %s → %s", orNone(strings.Join(b, " ")), orNone(strings.Join(a, " ")))
	}
	if b, a := before.PodLabels(), after.PodLabels(); !maps.Equal(b, a) {
		c.note(after, Narrowing, KindAddress, "selector: %s → %s: pods without these labels get no requests", labels(b), labels(a))
	}
	c.ports(before, after)
	c.versions(before, after)
	c.calls(before, after)
	c.ownFeatures(before, after)
}

// ownFeatures compares what a service's own proxies do: for requests to all of its ports, and
// to those for which it is something else on either side.
func (c *comparison) ownFeatures(before, after *model.Service) {
	b, a := c.meaning.Fields(before.Traits), c.meaning.Fields(after.Traits)
	for _, f := range features(b, a) {
		if c.holdsSomewhere(f, b, a, before, after) {
			class, text := c.word(f, b, a)
			c.noteFeature(after, f, class, text)
		}
	}
	for _, p := range after.Ports {
		if _, was := before.Port(p.Name); !was || before.TraitsAt(p.Name).Equal(before.Traits) && after.TraitsAt(p.Name).Equal(after.Traits) {
			continue
		}
		ownB, ownA := c.meaning.Fields(before.TraitsAt(p.Name)), c.meaning.Fields(after.TraitsAt(p.Name))
		for _, f := range features(ownB, ownA) {
			if class, text := c.word(f, ownB, ownA); !slices.Equal(only(f, b), only(f, ownB)) || !slices.Equal(only(f, a), only(f, ownA)) {
				c.noteFeature(after, f, class, "port "+p.Name+": "+text)
			}
		}
	}
}

// holdsSomewhere reports whether a port of a service has of a feature, before and after, what is
// said for all of its ports: each may have something of its own, on either side.
func (c *comparison) holdsSomewhere(feature string, b, a []space.Field, before, after *model.Service) bool {
	lasting := slices.DeleteFunc(slices.Clone(after.Ports), func(p model.Port) bool { _, was := before.Port(p.Name); return !was })
	return len(lasting) == 0 || slices.ContainsFunc(lasting, func(p model.Port) bool {
		return slices.Equal(only(feature, b), only(feature, c.meaning.Fields(before.TraitsAt(p.Name)))) &&
			slices.Equal(only(feature, a), only(feature, c.meaning.Fields(after.TraitsAt(p.Name))))
	})
}

// noteFeature adds a piece about what a feature does to all of a service.
func (c *comparison) noteFeature(s *model.Service, feature string, class Class, text string) {
	if class == Nothing {
		return
	}
	c.note(s, class, KindFeature, "%s", text)
	c.found[len(c.found)-1].feature = feature
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
			c.mention(after, Neutral, KindService, "port %s is new (%d, %s, mTLS %s)", name, a.Number, a.Protocol, a.MTLS)
			continue
		case !inA:
			c.note(after, Neutral, KindService, "port %s is gone", name)
			continue
		}
		if b.MTLS != a.MTLS {
			c.mention(after, mtlsClass(b.MTLS, a.MTLS), KindMTLS, "mTLS of port %s: %s → %s", name, b.MTLS, a.MTLS)
			if b.MTLS == model.Disable || a.MTLS == model.Disable {
				c.reachedServices[after.ID] = true // callers begin TLS there, or no longer do
			}
		}
		if b.Number != a.Number {
			c.note(after, Narrowing, KindAddress, "port %s: %d → %d: whoever still calls %d is not answered", name, b.Number, a.Number, b.Number)
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

// untilMoved is what the order of moving workloads has to reckon with.
const untilMoved = "its pods are refused, and refuse, until they have the new account"

func (c *comparison) versions(before, after *model.Service) {
	together := movesTogether(before, after)
	if together && before.Versions[0].Account != after.Versions[0].Account {
		c.note(after, Narrowing, KindService, "runs as %s → %s: %s", before.Versions[0].Account, after.Versions[0].Account, untilMoved)
	}
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
		if b.Account != a.Account && !together {
			c.note(after, Narrowing, KindService, "version %s runs as %s → %s: %s", name, b.Account, a.Account, untilMoved)
		}
		c.places(before, after, b, a)
	}
}

// places compares where a version's workloads are found. Who is not found where callers
// look gets no requests, so that a place that is taken away is narrowing.
func (c *comparison) places(before, after *model.Service, b, a model.Version) {
	type change struct {
		what, before, after string
		class               Class
	}
	var changes []change
	for _, p := range before.Ports {
		if _, ok := after.Port(p.Name); ok {
			of := " of port " + p.Name
			changes = append(changes, change{"address" + of, address(b.Ports[p.Name]), address(a.Ports[p.Name]), Narrowing},
				change{"application port" + of, number(b.Ports[p.Name].App), number(a.Ports[p.Name].App), Narrowing})
		}
	}
	lost := Narrowing
	if len(b.Endpoints.Static) > 0 && slices.ContainsFunc(b.Endpoints.Static, func(e string) bool { return slices.Contains(a.Endpoints.Static, e) }) {
		lost = Neutral // some instances are left, or come
	}
	for _, x := range append(changes, []change{
		{"endpoints", endpoints(b.Endpoints), endpoints(a.Endpoints), lost},
		{"labels", labels(b.Labels), labels(a.Labels), Narrowing},
		{"local ports", locals(b.Locals), locals(a.Locals), lostLocal(b.Locals, a.Locals)},
	}...) {
		if x.before != x.after {
			c.note(after, x.class, KindAddress, "%s of version %s: %s → %s", x.what, b.Name, x.before, x.after)
		}
	}
}

// lostAny is narrowing if something of before is not in after.
func lostAny(before, after []string) Class {
	if len(without(before, after)) > 0 {
		return Narrowing
	}
	return Neutral
}

func lostLocal(before, after map[string]uint32) Class {
	for to, port := range before {
		if after[to] != port {
			return Narrowing
		}
	}
	return Neutral
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
	case e.None:
		return "none"
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
// callee's grants decide), so that a new one alone is neutral; without one, requests
// that got through no longer do. A call of an external is the access to it.
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
		external, callee, at := c.isExternal(call.To), c.callee(call), model.CallPath(after.ID, call.To)
		switch {
		case !inB && !inA:
		case inB != inA && external: // access says so
			c.touchedServices[after.ID] = true
		case !inB:
			c.mentionAt(after, Neutral, KindCall, "", at, "now calls %s", callee)
		case !inA && c.gotThrough(before, call):
			c.mentionAt(after, Narrowing, KindCall, at, "", "no longer calls %s", callee)
		case !inA:
			c.mentionAt(after, Neutral, KindCall, at, "", "no longer calls %s, which let nothing of it through", callee)
		case x.Local != y.Local:
			class := Narrowing
			if x.Local == 0 {
				class = Neutral
			}
			c.mentionAt(after, class, KindAddress, at, at, "local port for %s: %s → %s", callee, orNo(x.Local), orNo(y.Local))
		}
	}
}

func orNo(port uint32) string {
	if port == 0 {
		return "none"
	}
	return number(port)
}

// callee names whom a call is to, with its port where there are several.
func (c *comparison) callee(call model.Call) string {
	for _, m := range []*model.Mesh{c.before, c.after} {
		if s := m.Service(call.To); s != nil && len(s.Ports) > 1 {
			return call.To + ":" + call.Port
		}
		if e := m.External(call.To); e != nil && len(e.Ports) > 1 {
			return call.To + ":" + call.Port
		}
	}
	return call.To
}

// gotThrough reports whether some request of a call reached its callee before.
func (c *comparison) gotThrough(caller *model.Service, call model.Call) bool {
	d, ok := c.scopesBefore["service/"+call.To+"/"+call.Port]
	if !ok {
		return false
	}
	return slices.ContainsFunc(caller.Versions, func(v model.Version) bool {
		id := caller.Class(v).SPIFFEID(c.before.TrustDomain)
		return slices.ContainsFunc(eval.AsIdentity(d.Effective, id), func(r space.Rule) bool { return r.Then.Verdict == space.Forward })
	})
}

func (c *comparison) isExternal(id string) bool {
	return c.after.External(id) != nil || c.before.External(id) != nil
}

// loopback reports whether a bind address is reachable from its own host only.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
