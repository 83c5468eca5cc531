package plan

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// objects compares what single requests do not show: modes of mTLS, features of
// services, calls, gateways, addresses, and what comes and goes.
func (c *comparison) objects() {
	c.wholeMesh()
	c.ownership()
	c.overrides()
	c.nevers()
	services := map[string]bool{}
	for _, m := range []*model.Mesh{c.before, c.after} {
		for _, s := range m.Services {
			services[s.ID] = true
		}
	}
	for _, id := range sortedKeys(services) {
		c.service(c.before.Service(id), c.after.Service(id))
	}
	c.egress()
	c.gateways()
	c.externals()
}

// overrides tells which fields of packages an environment replaces, or no longer does. What
// comes of it other lines say.
func (c *comparison) overrides() {
	tell := func(o model.Override, says Change, before, after []space.Origin) {
		says.Name, says.Package = o.Field, o.Package
		c.add(piece{class: Neutral, kind: KindMesh, scope: "mesh", says: says, before: before, after: after})
	}
	for _, o := range without(c.after.Overrides, c.before.Overrides) {
		tell(o, Change{What: OverrideNew, After: []string{c.after.Environment}}, nil, []space.Origin{space.Origin(model.OverridePath(o))})
	}
	for _, o := range without(c.before.Overrides, c.after.Overrides) {
		tell(o, Change{What: OverrideGone, Before: []string{c.before.Environment}}, []space.Origin{space.Origin(model.OverridePath(o))}, nil)
	}
}

func (c *comparison) wholeMesh() {
	whole := func(class Class, what What, before, after string) {
		says := Change{What: what}
		if before != "" {
			says.Before = []string{before}
		}
		if after != "" {
			says.After = []string{after}
		}
		c.add(piece{class: class, kind: KindMesh, scope: "mesh", says: says})
		for _, s := range c.after.Services {
			c.touchedServices[s.ID] = true
		}
	}
	c.trustDomains(whole)
	if b, a := c.before.Environment, c.after.Environment; b != a {
		whole(Neutral, Environment, b, a)
	}
	if b, a := c.before.Capture, c.after.Capture; b != a {
		whole(Narrowing, Capture, string(b), string(a))
	}
}

// note adds a piece about one service that those who call it notice.
func (c *comparison) note(s *model.Service, class Class, kind Kind, says Change) {
	c.reachedServices[s.ID] = true
	c.mention(s, class, kind, says)
}

// mention adds a piece about one service, which nobody else notices.
func (c *comparison) mention(s *model.Service, class Class, kind Kind, says Change) {
	path := model.ServicePath(s.ID)
	before, after := path, path
	if c.before.Service(s.ID) == nil {
		before = ""
	}
	if c.after.Service(s.ID) == nil {
		after = ""
	}
	c.mentionAt(s, class, kind, before, after, says)
}

// mentionAt tells of something of a service that stands at a mesh path on either side;
// "" is nowhere.
func (c *comparison) mentionAt(s *model.Service, class Class, kind Kind, before, after string, says Change) {
	c.touchedServices[s.ID] = true
	p := piece{class: class, kind: kind, scope: s.ID, says: says}
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
		c.mention(s, Neutral, KindService, Change{What: ServiceNew})
		return
	}
	n, _ := c.after.Namespace(s.Namespace)
	c.note(s, Widening, KindOwner, Change{What: ServiceNew, Package: s.Package, Home: n.Package, Namespace: s.Namespace})
}

func (c *comparison) service(before, after *model.Service) {
	switch {
	case before == nil:
		c.newService(after)
		c.serviceCanaries(nil, after)
		c.calls(&model.Service{ID: after.ID, Name: after.Name, Namespace: after.Namespace}, after)
		return
	case after == nil:
		c.note(before, Neutral, KindService, Change{What: ServiceGone})
		return
	}
	if b, a := c.before.Home(before.Namespace, before.Package), c.after.Home(after.Namespace, after.Package); b != a {
		c.note(after, Widening, KindOwner, moved(Belongs, b, a))
	}
	if before.Owner != after.Owner {
		c.note(after, Neutral, KindService, moved(Owner, before.Owner, after.Owner))
	}
	if b, a := before.Addresses, after.Addresses; !slices.Equal(b, a) {
		c.note(after, lostAny(b, a), KindAddress, Change{What: Addresses, Before: b, After: a})
	}
	if b, a := before.PodLabels(), after.PodLabels(); !maps.Equal(b, a) {
		c.note(after, Narrowing, KindAddress, Change{What: Selector, Before: pairsOf(b), After: pairsOf(a)})
	}
	c.serviceCanaries(before, after)
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
			c.noteFeature(after, Change{}, f, b, a)
		}
	}
	c.versionFeatures(before, after)
	for _, p := range after.Ports {
		if _, was := before.Port(p.Name); !was || before.TraitsAt(p.Name).Equal(before.Traits) && after.TraitsAt(p.Name).Equal(after.Traits) {
			continue
		}
		ownB, ownA := c.meaning.Fields(before.TraitsAt(p.Name)), c.meaning.Fields(after.TraitsAt(p.Name))
		for _, f := range features(ownB, ownA) {
			if !slices.Equal(only(f, b), only(f, ownB)) || !slices.Equal(only(f, a), only(f, ownA)) {
				c.noteFeature(after, Change{Port: p.Name}, f, ownB, ownA)
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
			slices.Equal(only(feature, a), only(feature, c.meaning.Fields(after.TraitsAt(p.Name)))) &&
			(len(after.Versions) == 0 || slices.ContainsFunc(after.Versions, func(v model.Version) bool {
				w, _ := before.Version(v.Name)
				return !hasOwn(v.TraitsAt(p.Name), feature) && !hasOwn(w.TraitsAt(p.Name), feature)
			}))
	})
}

// hasOwn reports whether a set says something of a feature.
func hasOwn(s trait.Set, feature string) bool { _, ok := s.Lookup(feature); return ok }

// versionFeatures compares what callers know of versions that say something of their own on
// either side: at all ports, or at those where it is something else.
func (c *comparison) versionFeatures(before, after *model.Service) {
	lasting := slices.DeleteFunc(slices.Clone(after.Ports), func(p model.Port) bool { _, was := before.Port(p.Name); return !was })
	for _, v := range after.Versions {
		w, was := before.Version(v.Name)
		if !was {
			continue
		}
		var found []ownChange
		for _, p := range lasting {
			b, a := c.meaning.Fields(before.TraitsTo(p.Name, v.Name)), c.meaning.Fields(after.TraitsTo(p.Name, v.Name))
			for _, f := range features(b, a) {
				if hasOwn(v.TraitsAt(p.Name), f) || hasOwn(w.TraitsAt(p.Name), f) { // else it is told of the service
					found = append(found, ownChange{f, p.Name, only(f, b), only(f, a)})
				}
			}
		}
		for i, o := range found {
			same := func(p ownChange) bool {
				return p.feature == o.feature && slices.Equal(p.before, o.before) && slices.Equal(p.after, o.after)
			}
			everywhere := len(slices.DeleteFunc(slices.Clone(found), func(p ownChange) bool { return !same(p) })) == len(lasting)
			switch {
			case everywhere && slices.ContainsFunc(found[:i], same): // told of all ports
			case everywhere:
				c.noteFeature(after, Change{Version: v.Name}, o.feature, o.before, o.after)
			default:
				c.noteFeature(after, Change{Version: v.Name, Port: o.port}, o.feature, o.before, o.after)
			}
		}
	}
}

// ownChange is what becomes of a feature of a version at a port.
type ownChange struct {
	feature, port string
	before, after []space.Field
}

// noteFeature adds a piece about what a feature does to all of a service, or of the version and
// the port that at names.
func (c *comparison) noteFeature(s *model.Service, at Change, feature string, before, after []space.Field) {
	class, says := c.changedFeature(feature, before, after)
	if class == Nothing {
		return
	}
	says.Port, says.Version = at.Port, at.Version
	c.note(s, class, KindFeature, says)
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
			c.mention(after, Neutral, KindService, Change{What: PortNew, Port: name, Number: a.Number, Protocol: string(a.Protocol), MTLS: string(a.MTLS)})
			continue
		case !inA:
			c.note(after, Neutral, KindService, Change{What: PortGone, Port: name})
			continue
		}
		if b.MTLS != a.MTLS {
			c.mention(after, mtlsClass(b.MTLS, a.MTLS), KindMTLS, ofPort(PortMTLS, name, string(b.MTLS), string(a.MTLS)))
			c.mode(name, b.MTLS, a.MTLS)
			if b.MTLS == model.Disable || a.MTLS == model.Disable {
				c.reachedServices[after.ID] = true // callers begin TLS there, or no longer do
			}
		}
		if b.Number != a.Number {
			c.note(after, Narrowing, KindAddress, ofPort(PortNumber, name, decimal(b.Number), decimal(a.Number)))
		}
		if b.Protocol != a.Protocol && b.Protocol.IsHTTP() && a.Protocol.IsHTTP() {
			c.note(after, Neutral, KindService, ofPort(PortProtocol, name, string(b.Protocol), string(a.Protocol)))
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
	together := movesTogether(before, after)
	note := func(class Class, says Change) { c.note(after, class, KindService, says) }
	var was, formers []string // of any of its versions
	for _, v := range before.Versions {
		was, formers = append(was, v.Account), append(formers, v.Former...)
	}
	run := func(b, a model.Version, version string) {
		says := Change{Version: version, Before: []string{b.Account}, After: []string{a.Account}}
		if b.Account != a.Account {
			gone, kept := says, says
			gone.What, kept.What = Account, AccountKept
			c.account(note, gone, kept, b.Account, a.Account, a.Former, c.free(after.Namespace, b.Account))
		}
		c.formers(note, FormerNew, version, was, a.Account, b.Former, a.Former)
	}
	if together {
		run(before.Versions[0], after.Versions[0], "")
	}
	c.programs(before, after)
	names := map[string]bool{}
	for _, v := range slices.Concat(before.Versions, after.Versions) {
		names[v.Name] = true
	}
	for _, name := range sortedKeys(names) {
		b, inB := before.Version(name)
		a, inA := after.Version(name)
		switch {
		case !inB:
			c.note(after, Neutral, KindService, Change{What: VersionNew, Version: name})
			if !together {
				c.formers(note, FormerNew, name, slices.Concat(was, formers), a.Account, nil, a.Former)
			}
			continue
		case !inA:
			c.note(after, Neutral, KindService, Change{What: VersionGone, Version: name})
			continue
		}
		if !together {
			run(b, a, name)
		}
		c.places(before, after, b, a)
	}
}

// programs compares which versions have proxies. Who has none is held to nothing but by a program that is its own.
func (c *comparison) programs(before, after *model.Service) {
	changed := map[What][]string{}
	for _, a := range after.Versions {
		b, was := before.Version(a.Name)
		switch {
		case a.Proxyless && !b.Proxyless:
			changed[Proxyless] = append(changed[Proxyless], a.Name)
		case was && b.Proxyless && !a.Proxyless:
			changed[Proxied] = append(changed[Proxied], a.Name)
		}
	}
	for what, class := range map[What]Class{Proxyless: Weakening, Proxied: Narrowing} {
		if len(changed[what]) == len(after.Versions) {
			c.note(after, class, KindService, Change{What: what})
			continue
		}
		for _, name := range changed[what] {
			c.note(after, class, KindService, Change{What: what, Version: name})
		}
	}
}

// places compares where a version's workloads are found. Who is not found where callers
// look gets no requests, so that a place that is taken away is narrowing.
func (c *comparison) places(before, after *model.Service, b, a model.Version) {
	type change struct {
		what          What
		port          string
		before, after []string
		class         Class
	}
	var changes []change
	for _, p := range before.Ports {
		if _, ok := after.Port(p.Name); ok {
			changes = append(changes, change{VersionAddress, p.Name, address(b.Ports[p.Name]), address(a.Ports[p.Name]), Narrowing},
				change{ApplicationPort, p.Name, written(b.Ports[p.Name].App), written(a.Ports[p.Name].App), Narrowing})
		}
	}
	lost := Narrowing
	kept := func(before, after []string) bool {
		return slices.ContainsFunc(before, func(e string) bool { return slices.Contains(after, e) })
	}
	if kept(b.Endpoints.Static, a.Endpoints.Static) || kept(b.Endpoints.Hosts(), a.Endpoints.Hosts()) {
		lost = Neutral // some instances are left, or come
	}
	for _, x := range append(changes, []change{
		{Endpoints, "", endpoints(b.Endpoints), endpoints(a.Endpoints), lost},
		{Labels, "", pairsOf(b.Labels), pairsOf(a.Labels), Narrowing},
		{LocalPorts, "", locals(b.Locals), locals(a.Locals), lostLocal(b.Locals, a.Locals)},
	}...) {
		if !slices.Equal(x.before, x.after) {
			c.note(after, x.class, KindAddress, Change{What: x.what, Port: x.port, Version: b.Name, Before: x.before, After: x.after})
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

// address is where a version's port is, nothing if that is discovered.
func address(v model.VersionPort) []string {
	switch {
	case v.Host == "":
		return nil
	case v.Port == 0:
		return []string{v.Host}
	}
	return []string{v.Host + ":" + decimal(v.Port)}
}

// written is a number, nothing for 0.
func written(n uint32) []string {
	if n == 0 {
		return nil
	}
	return []string{decimal(n)}
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// endpoints are the addresses, or one word for how they are found; nothing if there are none.
func endpoints(e model.Endpoints) []string {
	switch {
	case e.None:
		return nil
	case len(e.Static) > 0:
		return e.Static
	case e.DNS != "":
		return []string{"DNS " + e.DNS}
	case e.File != "":
		return []string{"file " + e.File}
	case len(e.Workloads) > 0:
		return workloads(e.Workloads)
	case e.Dynamic:
		return []string{"whatever the name is looked up to"}
	}
	return []string{"discovered"}
}

// workloads are hosts in words: "vm1 at 10.4.0.7 in eu-1, weight 2".
func workloads(ws []model.Workload) []string {
	var out []string
	for _, w := range ws {
		text := w.Name + " at " + w.Address
		if place := strings.Trim(w.Region+"/"+w.Zone, "/"); place != "" {
			text += " in " + place
		}
		if w.Weight > 1 {
			text += ", weight " + decimal(w.Weight)
		}
		out = append(out, text)
	}
	return out
}

func pairsOf(m map[string]string) []string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return parts
}

func locals(m map[string]uint32) []string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+" at "+decimal(m[k]))
	}
	return parts
}

// moved is a change of one value.
func moved(what What, before, after string) Change {
	return Change{What: what, Before: []string{before}, After: []string{after}}
}

// ofPort is a change of one value of a port.
func ofPort(what What, port, before, after string) Change {
	return Change{What: what, Port: port, Before: []string{before}, After: []string{after}}
}

// ofHost is a change of one value of a host.
func ofHost(what What, host, before, after string) Change {
	return Change{What: what, Host: host, Before: []string{before}, After: []string{after}}
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
		external, says, at := c.isExternal(call.To), Change{To: call.To, Port: c.portTold(call)}, after.CallPath(call)
		told := func(class Class, kind Kind, was, is string, what What) {
			says.What = what
			c.mentionAt(after, class, kind, was, is, says)
		}
		switch {
		case !inB && !inA:
		case inB != inA && external: // access says so
			c.touchedServices[after.ID] = true
		case !inB:
			told(Neutral, KindCall, "", at, CallNew)
		case !inA && c.gotThrough(before, call):
			told(Narrowing, KindCall, at, "", CallGone)
		case !inA:
			told(Neutral, KindCall, at, "", CallGoneUnused)
		case x.Local != y.Local:
			class := Narrowing
			if x.Local == 0 {
				class = Neutral
			}
			says.Before, says.After = written(x.Local), written(y.Local)
			told(class, KindAddress, at, at, CallLocalPort)
		}
	}
}

// portTold is the port of a call where there are several.
func (c *comparison) portTold(call model.Call) string {
	for _, m := range []*model.Mesh{c.before, c.after} {
		if s := m.Service(call.To); s != nil && len(s.Ports) > 1 {
			return call.Port
		}
		if e := m.External(call.To); e != nil && len(e.Ports) > 1 {
			return call.Port
		}
	}
	return ""
}

// gotThrough reports whether some request of a call reached its callee before.
func (c *comparison) gotThrough(caller *model.Service, call model.Call) bool {
	to := c.before.Service(call.To)
	if to == nil {
		return false
	}
	port, ok := to.Port(call.Port)
	if !ok {
		return false
	}
	d := eval.ServiceScope(c.before, to, port, c.meaning)
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
