package plan

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
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
			c.gatewayNote(id, Neutral, KindGateway, "gateway is new, on %s", socket(a))
			b = &model.Gateway{Host: a.Host, Port: a.Port, Account: a.Account, Owner: a.Owner, Autoscale: a.Autoscale}
		case a == nil:
			c.gatewayNote(id, Neutral, KindGateway, "gateway is gone")
			a = &model.Gateway{Host: b.Host, Port: b.Port, Account: b.Account, Owner: b.Owner, Autoscale: b.Autoscale}
		}
		c.gateway(id, b, a)
	}
}

func (c *comparison) gateway(id string, b, a *model.Gateway) {
	if b.Host != a.Host || b.Port != a.Port {
		class := Narrowing // who still dials the old socket is not answered
		if b.Port == a.Port && everywhere(a.Host) {
			class = Neutral
		}
		if loopback(b.Host) && !loopback(a.Host) {
			class = Worst(class, Weakening) // what one host could reach is now open to its network
		}
		c.gatewayNote(id, class, KindAddress, "listens on %s → %s", socket(b), socket(a))
	}
	if b.Account != a.Account {
		c.gatewayNote(id, Narrowing, KindGateway, "runs as %s → %s: services refuse it until it has the new account", b.Account, a.Account)
	}
	if b.Owner != a.Owner {
		c.gatewayNote(id, Neutral, KindGateway, "owner %s → %s", b.Owner, a.Owner)
	}
	if was, is := pods(b.Autoscale), pods(a.Autoscale); was != is {
		c.gatewayNote(id, Neutral, KindGateway, "has %s → %s", was, is)
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

func socket(g *model.Gateway) string { return net.JoinHostPort(g.Host, number(g.Port)) }

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
			c.externalNote(id, Neutral, "external is new, at %s", endpoints(a.Endpoints))
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
			{"endpoints", endpoints(b.Endpoints), endpoints(a.Endpoints), Weakening}, // this is where the data goes
			{"hosts", orNone(strings.Join(b.Hosts, " ")), orNone(strings.Join(a.Hosts, " ")), moreOrFewer(b.Hosts, a.Hosts)},
			{"addresses", orNone(strings.Join(b.Addresses, " ")), orNone(strings.Join(a.Addresses, " ")), moreOrFewer(b.Addresses, a.Addresses)},
			{"ports", portWords(b.Ports), portWords(a.Ports), Weakening},
			{"owner", b.Owner, a.Owner, Neutral},
		} {
			if x.before != x.after {
				c.externalNote(id, x.class, "%s: %s → %s", x.what, x.before, x.after)
			}
		}
	}
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
