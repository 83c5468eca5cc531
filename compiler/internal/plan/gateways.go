package plan

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

func (c *comparison) gateways() {
	ids := map[string]bool{}
	for _, g := range slices.Concat(c.before.Gateways, c.after.Gateways) {
		ids[g.ID] = true
	}
	for _, id := range sortedKeys(ids) {
		b, a := c.before.Gateway(id), c.after.Gateway(id)
		switch {
		case b == nil:
			c.gatewayNote(id, Neutral, KindGateway, "gateway is new, on %s", sockets(a))
			b = &model.Gateway{Host: a.Host, Ports: a.Ports, Account: a.Account, Owner: a.Owner, Autoscale: a.Autoscale, Traits: a.Traits}
		case a == nil:
			c.gatewayNote(id, Neutral, KindGateway, "gateway is gone")
			a = &model.Gateway{Host: b.Host, Ports: b.Ports, Account: b.Account, Owner: b.Owner, Autoscale: b.Autoscale, Traits: b.Traits}
		}
		c.gateway(id, b, a)
	}
}

func (c *comparison) gateway(id string, b, a *model.Gateway) {
	c.gatewayPorts(id, b, a)
	if b.Account != a.Account {
		c.gatewayNote(id, Narrowing, KindGateway, "runs as %s → %s: services refuse it until it has the new account", b.Account, a.Account)
	}
	if b.Owner != a.Owner {
		c.gatewayNote(id, Neutral, KindGateway, "owner %s → %s", b.Owner, a.Owner)
	}
	if was, is := pods(b.Autoscale), pods(a.Autoscale); was != is {
		c.gatewayNote(id, Neutral, KindGateway, "has %s → %s", was, is)
	}
	c.hostTLS(id, b, a)
	was, is := c.meaning.Fields(b.Traits), c.meaning.Fields(a.Traits)
	for _, f := range features(was, is) {
		if class, text := c.word(f, was, is); class != Nothing {
			c.gatewayNote(id, class, KindFeature, "%s", text)
			c.found[len(c.found)-1].feature = f
		}
	}
	before, after := hostOwners(b), hostOwners(a)
	for _, name := range sortedKeys(after) {
		owner, ok := before[name]
		switch {
		case !ok:
			c.gatewayNote(id, Neutral, KindGateway, "host %s is opened", name)
		case owner != after[name]:
			c.gatewayNote(id, Neutral, KindGateway, "owner of host %s %s → %s", name, owner, after[name])
		}
	}
	for _, name := range sortedKeys(before) {
		if _, ok := after[name]; !ok {
			c.gatewayNote(id, Neutral, KindGateway, "host %s is closed", name)
		}
	}
}

// everywhere reports whether a bind address is all that the host has.
func everywhere(host string) bool { return host == model.AnyAddress || host == model.AnyIPv4 }

func socket(g *model.Gateway, p model.Port) string { return net.JoinHostPort(g.Host, number(p.Number)) }

func sockets(g *model.Gateway) string {
	out := make([]string, len(g.Ports))
	for i, p := range g.Ports {
		out[i] = socket(g, p)
	}
	return strings.Join(out, " and ")
}

// gatewayPorts compares where a gateway listens, and for what.
func (c *comparison) gatewayPorts(id string, b, a *model.Gateway) {
	names := map[string]bool{}
	for _, p := range slices.Concat(b.Ports, a.Ports) {
		names[p.Name] = true
	}
	for _, name := range sortedKeys(names) {
		was, before := b.Port(name)
		is, after := a.Port(name)
		switch {
		case !before:
			c.gatewayNote(id, Neutral, KindAddress, "port %s is new: %s on %s", name, is.Protocol, socket(a, is))
			continue
		case !after:
			c.gatewayNote(id, Narrowing, KindAddress, "port %s is gone: %s is not answered any more", name, socket(b, was))
			continue
		}
		if b.Host != a.Host || was.Number != is.Number {
			class := Narrowing // who still dials the old socket is not answered
			if was.Number == is.Number && everywhere(a.Host) {
				class = Neutral
			}
			if loopback(b.Host) && !loopback(a.Host) {
				class = Worst(class, Weakening) // what one host could reach is now open to its network
			}
			c.gatewayNote(id, class, KindAddress, "port %s listens on %s → %s", name, socket(b, was), socket(a, is))
		}
		if was.Protocol != is.Protocol {
			class := Narrowing // who still speaks the old one is not answered
			if is.Protocol == model.HTTP {
				class = Weakening
			}
			c.gatewayNote(id, class, KindAddress, "port %s speaks %s → %s", name, was.Protocol, is.Protocol)
		}
	}
}

// hostTLS compares how visitors reach hosts by HTTPS.
func (c *comparison) hostTLS(id string, b, a *model.Gateway) {
	before := map[string]model.Host{}
	for _, h := range b.Hosts {
		before[h.Name] = h
	}
	for _, is := range a.Hosts {
		was, ok := before[is.Name]
		if !ok {
			continue
		}
		switch {
		case was.TLS == nil && is.TLS == nil:
		case was.TLS == nil:
			c.gatewayNote(id, Neutral, KindAddress, "host %s is reached by HTTPS, with %s; plain HTTP: serve → %s", is.Name, shown(is.TLS), is.TLS.Plain)
		case is.TLS == nil:
			c.gatewayNote(id, Weakening, KindAddress, "host %s is not reached by HTTPS any more, which showed %s", is.Name, shown(was.TLS))
		default:
			c.changedTLS(id, is.Name, was.TLS, is.TLS)
		}
	}
}

func (c *comparison) changedTLS(id, host string, was, is *model.HostTLS) {
	if b, a := shown(was), shown(is); b != a {
		c.gatewayNote(id, Neutral, KindAddress, "host %s shows %s → %s", host, b, a)
	}
	if was.Min != is.Min {
		class := Narrowing // older visitors are closed out
		if is.Min < was.Min {
			class = Weakening
		}
		c.gatewayNote(id, class, KindAddress, "host %s takes TLS %s → %s and newer", host, was.Min, is.Min)
	}
	if was.Plain != is.Plain {
		order := []model.Plain{model.PlainServe, model.PlainRedirect, model.PlainRefuse}
		class := Narrowing
		if slices.Index(order, is.Plain) < slices.Index(order, was.Plain) {
			class = Neutral // a redirect gives nothing away
		}
		if is.Plain == model.PlainServe {
			class = Weakening
		}
		c.gatewayNote(id, class, KindAddress, "plain HTTP of host %s: %s → %s", host, was.Plain, is.Plain)
	}
}

// shown says which certificates visitors are shown, and where they lie.
func shown(t *model.HostTLS) string {
	out := make([]string, len(t.Certificates))
	for i, c := range t.Certificates {
		out[i] = fmt.Sprintf("certificate %s (%s)", c.ID, c.Place())
	}
	return strings.Join(out, " or ")
}

// pods says how many a gateway has.
func pods(s *model.Autoscale) string {
	if s == nil {
		return "a fixed number of pods"
	}
	return fmt.Sprintf("%d to %d pods at %d%% of their CPU", s.Min, s.Max, s.CPU)
}

func hostOwners(g *model.Gateway) map[string]string {
	out := map[string]string{}
	for _, h := range g.Hosts {
		owner := h.Owner
		if owner == "" {
			owner = g.Owner
		}
		out[h.Name] = owner
	}
	return out
}

func (c *comparison) gatewayNote(id string, class Class, kind Kind, format string, args ...any) {
	c.touchedGateways[id] = true
	p := piece{class: class, kind: kind, scope: "gateway/" + id, name: "gateway/" + id, change: fmt.Sprintf(format, args...)}
	origin := []space.Origin{space.Origin(model.GatewayPath(id))}
	if c.before.Gateway(id) != nil {
		p.before = origin
	}
	if c.after.Gateway(id) != nil {
		p.after = origin
	}
	c.add(p)
}

func (c *comparison) externals() {
	ids := map[string]bool{}
	for _, e := range slices.Concat(c.before.Externals, c.after.Externals) {
		ids[e.ID] = true
	}
	for _, id := range sortedKeys(ids) {
		b, a := c.before.External(id), c.after.External(id)
		switch {
		case b == nil:
			c.externalNote(id, Neutral, "external is new, at %s", whereabouts(a))
			continue
		case a == nil:
			c.externalNote(id, Neutral, "external is gone")
			continue
		}
		if from, to := home(c.before, b.Namespace, b.Package), home(c.after, a.Namespace, a.Package); from != to {
			c.externalNote(id, Widening, "belongs to %s → %s", folder(from), folder(to))
		}
		for _, x := range []struct {
			what, before, after string
			class               Class
		}{
			{"endpoints", whereabouts(b), whereabouts(a), Weakening}, // this is where the data goes
			{"hosts", orNone(strings.Join(b.Hosts, " ")), orNone(strings.Join(a.Hosts, " ")), moreOrFewer(b.Hosts, a.Hosts)},
			{"addresses", orNone(strings.Join(b.Addresses, " ")), orNone(strings.Join(a.Addresses, " ")), moreOrFewer(b.Addresses, a.Addresses)},
			{"ports", portWords(b.Ports), portWords(a.Ports), Weakening},
			{"owner", b.Owner, a.Owner, Neutral},
		} {
			if x.before != x.after {
				c.externalNote(id, x.class, "%s: %s → %s", x.what, x.before, x.after)
			}
		}
		c.externalRules(id, b, a)
	}
}

// whereabouts are where an external's ports are.
func whereabouts(x *model.External) string {
	var out []string
	for _, p := range x.Ports {
		out = appendNew(out, endpoints(x.At(p)))
	}
	return strings.Join(out, " ")
}

// externalRules compares what callers' proxies do with requests to an external, and whom it is for.
func (c *comparison) externalRules(id string, before, after *model.External) {
	say := func(where string, b, a trait.Set) {
		was, is := c.meaning.Fields(b), c.meaning.Fields(a)
		for _, f := range features(was, is) {
			if class, text := c.word(f, was, is); class != Nothing {
				c.externalNote(id, class, "%s%s", where, text)
			}
		}
	}
	say("", before.Traits, after.Traits)
	if b, a := routeWords(before.Routes), routeWords(after.Routes); b != a {
		c.externalNote(id, Weakening, "routes: %s → %s", b, a) // others may leave the mesh now
	}
	for _, r := range after.Routes {
		if i := slices.IndexFunc(before.Routes, func(x model.Route) bool { return x.Name == r.Name }); i >= 0 {
			say("route "+r.Name+": ", before.Routes[i].Traits, r.Traits)
		}
	}
	b, a := grantWords(before.Grants), grantWords(after.Grants)
	if more := without(a, b); len(more) > 0 {
		c.externalNote(id, Widening, "may be called by %s, too", strings.Join(more, ", "))
	}
	if fewer := without(b, a); len(fewer) > 0 {
		c.externalNote(id, Narrowing, "may no longer be called by %s", strings.Join(fewer, ", "))
	}
}

// routeWords are routes in the order of trial, with what they take and whether they answer.
func routeWords(rs []model.Route) string {
	parts := make([]string, 0, len(rs))
	for _, r := range rs {
		text := r.Name
		if !r.Match.IsZero() {
			text += " for some requests"
			if raw, err := json.Marshal(r.Match); err == nil {
				text = r.Name + " for " + string(raw)
			}
		}
		if len(r.To) == 0 {
			text += ", which answers itself"
		}
		parts = append(parts, text)
	}
	return orNone(strings.Join(parts, "; "))
}

// grantWords are whom grants of an external name, sorted.
func grantWords(gs []model.Grant) []string {
	var out []string
	for _, g := range gs {
		if g.Mesh {
			out = append(out, "everyone in the mesh")
		}
		for _, n := range g.Namespaces {
			out = append(out, "everyone in "+n)
		}
		out = append(out, g.Accounts...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// moreOrFewer is the class of another list of what callers reach outside by.
func moreOrFewer(before, after []string) Class {
	class := lostAny(before, after)
	if len(without(after, before)) > 0 {
		return Worst(class, Weakening)
	}
	return class
}

func portWords(ps []model.Port) string {
	out := ""
	for _, p := range ps {
		out += fmt.Sprintf(" %s %d %s", p.Name, p.Number, p.Protocol)
	}
	return orNone(out)
}

func (c *comparison) externalNote(id string, class Class, format string, args ...any) {
	origin := []space.Origin{space.Origin(model.ExternalPath(id))}
	p := piece{class: class, kind: KindAddress, scope: "external/" + id, name: id, change: fmt.Sprintf(format, args...)}
	if c.before.External(id) != nil {
		p.before = origin
	}
	if c.after.External(id) != nil {
		p.after = origin
	}
	c.add(p)
	for _, m := range []*model.Mesh{c.before, c.after} {
		for _, s := range m.Services {
			if slices.ContainsFunc(s.Calls, func(x model.Call) bool { return x.To == id }) {
				c.touchedServices[s.ID] = true
			}
		}
		for _, g := range m.Gateways {
			if sendsTo(g, func(to string) bool { return to == id }) {
				c.touchedGateways[g.ID] = true
			}
		}
	}
}
