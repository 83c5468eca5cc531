package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Where an external is, and how it is reached there, is part of what becomes of requests: a plan
// puts it into the outcomes that lead there, as fields of a feature of that name. In a gateway's
// outcomes, which may lead to several, the features are named after each: "external shop/pay
// origination".
const (
	outside         = "external"
	outsideAddress  = "address"
	outsideProtocol = "protocol"
	outsideDialled  = "dialled"
	outsideVia      = "via"
)

// outsidePairs lines up the ports of externals: what is decided there for their callers.
func (c *comparison) outsidePairs() []pair {
	var out []pair
	for _, id := range c.externalIDs() {
		b, a := c.before.External(id), c.after.External(id)
		names := map[string]bool{}
		for _, x := range []*model.External{b, a} {
			if x != nil {
				for _, p := range x.Ports {
					names[p.Name] = true
				}
			}
		}
		for _, name := range sortedKeys(names) {
			p := pair{own: id, external: true, display: outside + "/" + id}
			if len(names) > 1 {
				p.display += ":" + name
			}
			p.near, _, _ = strings.Cut(id, "/")
			var inB, inA bool
			p.before, inB = c.outsideDecision(c.before, b, name)
			p.after, inA = c.outsideDecision(c.after, a, name)
			p.opened, p.removed = !inB, !inA
			s := space.Scope{Kind: space.External, ID: id, Port: name, Protocol: p.before.Scope.Protocol}
			p.before.Scope = s
			if inA {
				s.Protocol = p.after.Scope.Protocol
			}
			p.after.Scope = s
			out = append(out, p)
		}
	}
	return out
}

func (c *comparison) externalIDs() []string {
	ids := map[string]bool{}
	for _, e := range slices.Concat(c.before.Externals, c.after.Externals) {
		ids[e.ID] = true
	}
	return sortedKeys(ids)
}

// outsideDecision is what is decided for calls of an external's port, with where it is; false
// if there is no such port.
func (c *comparison) outsideDecision(m *model.Mesh, x *model.External, port string) (space.Decision, bool) {
	p, ok := portOf(x, port)
	if !ok {
		return nowhere(space.Scope{}), false
	}
	d := eval.Outside(m, x, p, c.meaning)
	there := c.there(m, x, p)
	d.Effective = labelled(d.Effective, func(o space.Outcome) []space.Field {
		if len(o.Shares) == 0 {
			return nil
		}
		return there
	})
	return d, true
}

// there is where the port of an external is, as fields.
func (c *comparison) there(m *model.Mesh, x *model.External, p model.Port) []space.Field {
	out := []space.Field{
		{Feature: outside, Name: outsideAddress, Value: strings.Join(endpoints(x.At(p)), " ")},
		{Feature: outside, Name: outsideProtocol, Value: string(p.Protocol)},
	}
	if m.Capture == model.Transparent {
		out = append(out, space.Field{Feature: outside, Name: outsideDialled, Value: decimal(p.Dialled())})
	}
	return out
}

func portOf(x *model.External, name string) (model.Port, bool) {
	if x == nil {
		return model.Port{}, false
	}
	i := slices.IndexFunc(x.Ports, func(p model.Port) bool { return p.Name == name })
	if i < 0 {
		return model.Port{}, false
	}
	return x.Ports[i], true
}

// labelled is a list whose outcomes have more fields.
func labelled(l space.List, more func(space.Outcome) []space.Field) space.List {
	out := slices.Clone(l)
	for i, r := range out {
		if fs := more(r.Then); len(fs) > 0 {
			out[i].Then.Fields = slices.Concat(r.Then.Fields, fs)
			out[i].Then = out[i].Then.Canonical()
		}
	}
	return out
}

// withOutside is a gateway's decision with where the externals are that it leads to, and what
// is done on the way to them that its own routes do not say.
func (c *comparison) withOutside(m *model.Mesh, d space.Decision) space.Decision {
	d.Effective = labelled(d.Effective, func(o space.Outcome) []space.Field {
		var out []space.Field
		for _, s := range o.Shares {
			id, version := splitTarget(s.Target)
			name, leads := strings.CutPrefix(id, outside+" ")
			x := m.External(name)
			p, ok := portOf(x, targetPort(s.Target))
			if !leads || version != "" || !ok {
				continue
			}
			out = append(out, space.Field{Feature: id + " " + outside, Name: outsideAddress, Value: strings.Join(endpoints(x.At(p)), " ")},
				space.Field{Feature: id + " " + outside, Name: outsideProtocol, Value: string(p.Protocol)})
			for _, f := range append(c.meaning.Fields(x.TraitsAt(p)), eval.Through(x)...) {
				f.Feature = id + " " + f.Feature
				out = append(out, f)
			}
		}
		return out
	})
	return d
}

// wordOutside puts a change of where an external is into words. Whoever is there now gets the
// data, so that another address is weaker, whatever is there.
func wordOutside(before, after []space.Field) (Class, string) {
	class, moved := Nothing, Weakening
	if places := strings.Fields(Value(before, outsideAddress)); len(without(strings.Fields(Value(after, outsideAddress)), places)) == 0 {
		moved = Neutral // fewer of the same
	}
	var texts []string
	for _, x := range []struct {
		name  string
		class Class
		after string
	}{
		{outsideAddress, moved, ""},
		{outsideProtocol, protocolClass(before, after), ""},
		{outsideVia, viaClass(before, after), ""},
		{outsideDialled, Narrowing, ": whoever still calls %s is not answered"},
	} {
		b, a := Value(before, x.name), Value(after, x.name)
		if b == a {
			continue
		}
		text := fmt.Sprintf("%s %s → %s", x.name, cmp.Or(b, "none"), cmp.Or(a, "none"))
		if x.after != "" {
			text += fmt.Sprintf(x.after, b)
		}
		class, texts = Worst(class, x.class), append(texts, text)
	}
	return class, strings.Join(texts, ", ")
}

// viaClass is that of another gateway, or HTTP proxy, before an external. A first gateway holds who may call besides
// the callers' own proxies, and a first proxy of others may refuse, and reads no more than the name where TLS goes
// through it from end to end. Without what was there, or with another one, somebody else does than before, who may see all of it.
func viaClass(before, after []space.Field) Class {
	p := model.Protocol(Value(after, outsideProtocol))
	if v := Value(after, outsideVia); Value(before, outsideVia) == "" && (!strings.HasPrefix(v, eval.ProxyBefore) || p.Secured() || p == model.TLS) {
		return Narrowing
	}
	return Weakening
}

func protocolClass(before, after []space.Field) Class {
	if secured := func(fs []space.Field) bool { return model.Protocol(Value(fs, outsideProtocol)).Secured() }; secured(before) && !secured(after) {
		return Weakening
	}
	return Neutral
}

// ownOf are the fields of what an external does on all of its routes, where it is included.
func (c *comparison) ownOf(m *model.Mesh, p pair) []space.Field {
	x := m.External(p.own)
	port, ok := portOf(x, p.after.Scope.Port)
	if !ok {
		return nil
	}
	return slices.Concat(c.meaning.Fields(x.TraitsAt(port)), c.there(m, x, port), eval.Through(x))
}

// featureOf cuts the external from the name of a feature that is about one of several.
func featureOf(name string) (external, feature string) {
	if rest, ok := strings.CutPrefix(name, outside+" "); ok {
		id, feature, _ := strings.Cut(rest, " ")
		return outside + " " + id, feature
	}
	return "", name
}

// externals compares what no single request to an external shows.
func (c *comparison) externals() {
	for _, id := range c.externalIDs() {
		b, a := c.before.External(id), c.after.External(id)
		switch {
		case b == nil:
			c.externalNote(id, Neutral, Change{What: ExternalNew, After: whereabouts(a)})
			continue
		case a == nil:
			c.externalNote(id, Neutral, Change{What: ExternalGone})
			continue
		}
		from := len(c.found)
		if from, to := c.before.Home(b.Namespace, b.Package), c.after.Home(a.Namespace, a.Package); from != to {
			c.externalNote(id, Widening, moved(Belongs, from, to))
		}
		if b.Owner != a.Owner {
			c.externalNote(id, Neutral, moved(Owner, b.Owner, a.Owner))
		}
		c.externalGrants(id, b, a)
		if c.isCalled(id) {
			c.externalNames(id, b, a)
			c.externalPorts(id, b, a)
			continue
		}
		sent := func(g *model.Gateway) bool { return sendsTo(g, func(to string) bool { return to == id }) }
		if len(c.found) == from && !slices.ContainsFunc(slices.Concat(c.before.Gateways, c.after.Gateways), sent) && !sameJSON(b, a) {
			c.externalNote(id, Neutral, Change{What: ExternalUnused, After: whereabouts(a), Hosts: a.Hosts})
		}
	}
}

func sameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// externalNames compares by which names and addresses callers' proxies tell an external from others:
// what has none of them leads nowhere. One more lets requests out that had no way.
func (c *comparison) externalNames(id string, b, a *model.External) {
	hosts := func(x *model.External) []string {
		if c.after.Capture != model.Transparent { // each call has a socket of its own
			return nil
		}
		return x.Hosts
	}
	for _, x := range []struct {
		names  []string
		class  Class
		what   What
		byHost bool
	}{
		{without(hosts(a), hosts(b)), Widening, NameNew, true},
		{without(hosts(b), hosts(a)), Narrowing, NameGone, true},
		{without(a.Addresses, b.Addresses), Widening, DialledNew, false},
		{without(b.Addresses, a.Addresses), Narrowing, DialledGone, false},
	} {
		if len(x.names) == 0 {
			continue
		}
		says := Change{What: x.what, After: x.names}
		if x.class == Narrowing {
			says.Before, says.After = x.names, nil
		}
		c.externalNote(id, x.class, says)
		if x.byHost && len(b.Hosts) > 0 && len(a.Hosts) > 0 {
			c.found[len(c.found)-1].witness = c.byName(b, a, x.names[0])
		}
	}
}

// byName is a call of an external by a name that only one side knows, nil if no service makes one.
func (c *comparison) byName(b, a *model.External, host string) *Witness {
	for _, p := range a.Ports {
		if _, ok := portOf(b, p.Name); !ok || !p.Protocol.IsHTTP() {
			continue
		}
		w := Witness{Scope: space.Scope{Kind: space.External, ID: a.ID, Port: p.Name, Protocol: string(p.Protocol)}, Before: space.NotRouted(), After: space.NotRouted()}
		var known bool
		for _, s := range c.after.Services {
			if was := c.before.Service(s.ID); was == nil || !calls(s, a.ID, p.Name) || !calls(was, a.ID, p.Name) || len(s.Versions) == 0 {
				continue
			}
			w.Request = space.Request{From: s.Class(s.Versions[0]).SPIFFEID(c.after.TrustDomain), Method: "GET", Path: "/", Host: hostOf(host, slices.Concat(b.Hosts, a.Hosts))}
			w.Caller, known = s.ID, true
			break
		}
		if !known {
			return nil
		}
		for _, side := range []struct {
			x    *model.External
			m    *model.Mesh
			then *space.Outcome
		}{{b, c.before, &w.Before}, {a, c.after, &w.After}} {
			if own, ok := portOf(side.x, p.Name); ok && slices.ContainsFunc(side.x.Hosts, func(h string) bool { return model.HostCovers(h, w.Request.Host) }) {
				*side.then = eval.Call(eval.Outside(side.m, side.x, own, c.meaning), w.Request).Outcome
			}
		}
		return &w
	}
	return nil
}

func calls(s *model.Service, id, port string) bool {
	return slices.ContainsFunc(s.Calls, func(k model.Call) bool { return k.To == id && k.Port == port })
}

// isCalled reports whether a service calls an external on either side.
func (c *comparison) isCalled(id string) bool {
	return slices.ContainsFunc([]*model.Mesh{c.before, c.after}, func(m *model.Mesh) bool {
		return slices.ContainsFunc(m.Services, func(s *model.Service) bool {
			return slices.ContainsFunc(s.Calls, func(k model.Call) bool { return k.To == id })
		})
	})
}

func (c *comparison) externalPorts(id string, b, a *model.External) {
	for _, p := range a.Ports {
		if _, ok := portOf(b, p.Name); !ok {
			c.externalNote(id, Neutral, Change{What: PortNew, Port: p.Name, Number: p.Number, Protocol: string(p.Protocol), After: endpoints(a.At(p))})
		}
	}
	for _, p := range b.Ports {
		if _, ok := portOf(a, p.Name); !ok {
			c.externalNote(id, Neutral, Change{What: PortGone, Port: p.Name})
		}
	}
}

// externalGrants compares who may call an external from other namespaces.
func (c *comparison) externalGrants(id string, before, after *model.External) {
	b, a := c.granted(before.Grants), c.granted(after.Grants)
	// Who is known by name on one side may be meant by more than that on the other.
	meant := func(gs []model.Grant) func(Caller) bool {
		return func(x Caller) bool {
			return x.Kind == CallerAccount && slices.ContainsFunc(gs, func(g model.Grant) bool { return g.IsAbout(x.Name) })
		}
	}
	if more := slices.DeleteFunc(without(a, b), meant(before.Grants)); len(more) > 0 {
		c.externalNote(id, Widening, Change{What: CallersNew, Callers: more})
	}
	if fewer := slices.DeleteFunc(without(b, a), meant(after.Grants)); len(fewer) > 0 {
		c.externalNote(id, Narrowing, Change{What: CallersGone, Callers: fewer})
	}
}

// whereabouts are where an external's ports are.
func whereabouts(x *model.External) []string {
	var out []string
	for _, p := range x.Ports {
		for _, e := range endpoints(x.At(p)) {
			out = appendNew(out, e)
		}
	}
	return out
}

// granted are whom grants of an external name, sorted: where some are left out, the accounts that there are.
func (c *comparison) granted(gs []model.Grant) []Caller {
	var out []Caller
	for _, g := range gs {
		if len(g.Not.Accounts)+len(g.Not.Namespaces)+len(g.Not.Patterns) > 0 {
			for _, a := range slices.Concat(accountsIn(c.before), accountsIn(c.after)) {
				if g.IsAbout(a) {
					out = append(out, Caller{Kind: CallerAccount, Name: a})
				}
			}
			continue
		}
		if g.Mesh {
			out = append(out, Caller{Kind: CallerMesh})
		}
		for _, n := range g.Namespaces {
			out = append(out, Caller{Kind: CallerNamespace, Name: n})
		}
		for _, a := range g.Patterns {
			out = append(out, Caller{Kind: CallerAccounts, Name: a})
		}
		for _, a := range g.Accounts {
			out = append(out, Caller{Kind: CallerAccount, Name: a})
		}
	}
	slices.SortFunc(out, Caller.compare)
	return slices.Compact(out)
}

// accountsIn are all accounts of a mesh, "namespace/account".
func accountsIn(m *model.Mesh) []string {
	var out []string
	for _, s := range m.Services {
		for _, v := range s.Versions {
			out = append(out, s.Namespace+"/"+v.Account)
		}
	}
	for _, g := range m.Gateways {
		out = append(out, g.Namespace+"/"+g.Account)
	}
	return out
}

func (c *comparison) externalNote(id string, class Class, says Change) {
	c.reachedServices[id] = true
	origin := []space.Origin{space.Origin(model.ExternalPath(id))}
	p := piece{class: class, kind: KindAddress, scope: outside + "/" + id, says: says}
	if c.before.External(id) != nil {
		p.before = origin
	}
	if c.after.External(id) != nil {
		p.after = origin
	}
	c.add(p)
}
