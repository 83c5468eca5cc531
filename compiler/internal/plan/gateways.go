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
			c.gatewayNote(id, Neutral, KindGateway, Change{What: GatewayNew, After: sockets(a)})
			b = &model.Gateway{Host: a.Host, Ports: a.Ports, Account: a.Account, Owner: a.Owner, TrustedHops: a.TrustedHops, HTTP10: a.HTTP10, HTTP3: a.HTTP3, Autoscale: a.Autoscale, Traits: a.Traits}
		case a == nil:
			c.gatewayNote(id, Neutral, KindGateway, Change{What: GatewayGone})
			a = &model.Gateway{Host: b.Host, Ports: b.Ports, Account: b.Account, Former: b.Former, Owner: b.Owner, TrustedHops: b.TrustedHops, HTTP10: b.HTTP10, HTTP3: b.HTTP3, Autoscale: b.Autoscale, Traits: b.Traits}
		}
		c.gateway(id, b, a)
	}
}

func (c *comparison) gateway(id string, b, a *model.Gateway) {
	c.gatewayPorts(id, b, a)
	note := func(class Class, says Change) { c.gatewayNote(id, class, KindGateway, says) }
	if b.Account != a.Account {
		c.account(note, moved(GatewayAccount, b.Account, a.Account), moved(AccountKept, b.Account, a.Account), b.Account, a.Account, a.Former, c.free(a.Namespace, b.Account))
	}
	c.formers(note, FormerOfGateway, "", []string{b.Account}, a.Account, b.Former, a.Former)
	if b.Owner != a.Owner {
		c.gatewayNote(id, Neutral, KindGateway, moved(Owner, b.Owner, a.Owner))
	}
	c.trustedHops(id, b.TrustedHops, a.TrustedHops)
	switch {
	case a.HTTP10 && !b.HTTP10:
		c.gatewayNote(id, Widening, KindGateway, Change{What: OldTaken})
	case b.HTTP10 && !a.HTTP10:
		c.gatewayNote(id, Narrowing, KindGateway, Change{What: OldRefused})
	}
	switch {
	case a.HTTP3 && !b.HTTP3:
		c.gatewayNote(id, Widening, KindGateway, Change{What: QUICTaken})
	case b.HTTP3 && !a.HTTP3:
		c.gatewayNote(id, Narrowing, KindGateway, Change{What: QUICClosed})
	}
	if was, is := pods(b.Autoscale), pods(a.Autoscale); !slices.Equal(was, is) {
		c.gatewayNote(id, Neutral, KindGateway, Change{What: Pods, Before: was, After: is})
	}
	c.hostTLS(id, b, a)
	was, is := c.meaning.Fields(b.Traits), c.meaning.Fields(a.Traits)
	for _, f := range features(was, is) {
		if class, says := c.changedFeature(f, was, is); class != Nothing {
			c.gatewayNote(id, class, KindFeature, says)
			c.found[len(c.found)-1].feature = f
		}
	}
	c.hostCanaries(id, b, a)
	before, after := hostOwners(b), hostOwners(a)
	for _, name := range sortedKeys(after) {
		owner, ok := before[name]
		switch {
		case !ok:
			c.gatewayNote(id, Neutral, KindGateway, Change{What: HostOpened, Host: name})
		case owner != after[name]:
			c.gatewayNote(id, Neutral, KindGateway, ofHost(Owner, name, owner, after[name]))
		}
	}
	for _, name := range sortedKeys(before) {
		if _, ok := after[name]; !ok {
			c.gatewayNote(id, Neutral, KindGateway, Change{What: HostClosed, Host: name})
		}
	}
}

// trustedHops compares whom a gateway believes. Each proxy more is a place more at which
// somebody may write what he likes, if the proxy is not there or does not overwrite it.
func (c *comparison) trustedHops(id string, was, is uint32) {
	switch {
	case is > was:
		c.gatewayNote(id, Weakening, KindGateway, moved(TrustedMore, hops(was), hops(is)))
	case is < was:
		c.gatewayNote(id, Neutral, KindGateway, moved(TrustedFewer, hops(was), hops(is)))
	}
}

func hops(n uint32) string {
	switch n {
	case 0:
		return "no proxy"
	case 1:
		return "1 proxy"
	}
	return fmt.Sprintf("%d proxies", n)
}

// everywhere reports whether a bind address is all that the host has.
func everywhere(host string) bool { return host == model.AnyAddress || host == model.AnyIPv4 }

func socket(g *model.Gateway, p model.Port) string {
	return net.JoinHostPort(g.Host, decimal(p.Number))
}

func sockets(g *model.Gateway) []string {
	out := make([]string, len(g.Ports))
	for i, p := range g.Ports {
		out[i] = socket(g, p)
	}
	return out
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
			c.gatewayNote(id, Neutral, KindAddress, Change{What: PortNew, Port: name, Number: is.Number, Protocol: string(is.Protocol), After: []string{socket(a, is)}})
			continue
		case !after:
			c.gatewayNote(id, Narrowing, KindAddress, Change{What: PortGone, Port: name, Before: []string{socket(b, was)}})
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
			c.gatewayNote(id, class, KindAddress, ofPort(PortSocket, name, socket(b, was), socket(a, is)))
		}
		c.proxies(id, name, b.Says[name].Proxies, a.Says[name].Proxies)
		if was.Protocol == is.Protocol {
			c.wayOut(id, name, b.Says[name].Namespaces, a.Says[name].Namespaces)
		}
		if was.Protocol != is.Protocol {
			class := Narrowing // who still speaks the old one is not answered
			if is.Protocol == model.HTTP || was.Protocol == model.MeshTLS {
				class = Weakening
			}
			c.gatewayNote(id, class, KindAddress, ofPort(PortProtocol, name, string(was.Protocol), string(is.Protocol)))
		}
	}
}

// proxies compares whom a port believes where connections come from. Who comes from elsewhere, or
// does not say it, is closed out.
func (c *comparison) proxies(id, port string, was, is []string) {
	class := Nothing
	if len(without(was, is)) > 0 || len(was) == 0 {
		class = Narrowing
	}
	if len(without(is, was)) > 0 || len(is) == 0 {
		class = Weakening
	}
	if !slices.Equal(was, is) {
		c.gatewayNote(id, class, KindAddress, Change{What: ProxiesBelieved, Port: port, Before: was, After: is})
	}
}

// wayOut compares whose externals may go out at a port. Which of them do is told of the externals;
// this is who may say so without the gateway's owner.
func (c *comparison) wayOut(id, port string, was, is []string) {
	class := Neutral
	if len(was) > 0 && (len(is) == 0 || len(without(is, was)) > 0) {
		class = Widening
	}
	if !slices.Equal(was, is) {
		c.gatewayNote(id, class, KindAddress, Change{What: WayOutFor, Port: port, Before: was, After: is})
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
			c.gatewayNote(id, Neutral, KindAddress, Change{What: HTTPSNew, Host: is.Name, After: shown(is.TLS), Plain: string(is.TLS.Plain)})
			c.visitorsTLS(id, is.Name, &model.HostTLS{}, is.TLS)
		case is.TLS == nil:
			c.gatewayNote(id, Weakening, KindAddress, Change{What: HTTPSGone, Host: is.Name, Before: shown(was.TLS)})
			c.visitorsTLS(id, is.Name, was.TLS, &model.HostTLS{})
		default:
			c.changedTLS(id, is.Name, was.TLS, is.TLS)
		}
	}
}

func (c *comparison) changedTLS(id, host string, was, is *model.HostTLS) {
	// Whoever has the key of what is shown is the host to its visitors.
	class, b, a := Nothing, certificatesAt(was), certificatesAt(is)
	if len(without(b, a)) > 0 {
		class = Narrowing // visitors may know no other kind of key
	}
	if len(without(a, b)) > 0 {
		class = Weakening
	}
	if class != Nothing {
		c.gatewayNote(id, class, KindAddress, Change{What: Certificates, Host: host, Before: shown(was), After: shown(is)})
	}
	if was.Min != is.Min {
		class := Narrowing // older visitors are closed out
		if is.Min < was.Min {
			class = Weakening
		}
		c.gatewayNote(id, class, KindAddress, ofHost(OldestTLS, host, string(was.Min), string(is.Min)))
	}
	c.visitorsTLS(id, host, was, is)
	if was.Plain != is.Plain {
		order := []model.Plain{model.PlainServe, model.PlainRedirect, model.PlainRefuse}
		class := Narrowing
		if slices.Index(order, is.Plain) < slices.Index(order, was.Plain) {
			class = Neutral // a redirect gives nothing away
		}
		if is.Plain == model.PlainServe {
			class = Weakening
		}
		c.gatewayNote(id, class, KindAddress, ofHost(PlainHTTP, host, string(was.Plain), string(is.Plain)))
	}
}

// visitorsTLS compares whom a host takes by certificate, and what it speaks with them.
func (c *comparison) visitorsTLS(id, host string, was, is *model.HostTLS) {
	if !was.Client.Equal(is.Client) {
		c.gatewayNote(id, visitors(was.Client, is.Client), KindAddress, Change{What: VisitorsAsked, Host: host, Before: takes(was.Client), After: takes(is.Client)})
	}
	if !slices.Equal(was.Ciphers, is.Ciphers) {
		c.gatewayNote(id, Narrowing, KindAddress, Change{What: Ciphers, Host: host, Before: was.Ciphers, After: is.Ciphers}) // all of them are good, and visitors may know no other
	}
	if !slices.Equal(was.ALPN, is.ALPN) {
		c.gatewayNote(id, Neutral, KindAddress, Change{What: ALPN, Host: host, Before: was.ALPN, After: is.ALPN})
	}
}

// visitors compares whom a host takes: what is not surely fewer is more.
func visitors(was, is *model.ClientTLS) Class {
	switch {
	case was == nil:
		return Narrowing
	case is == nil || was.Required && !is.Required || was.CRL && !is.CRL || was.Roots.Place() != is.Roots.Place():
		return Widening
	}
	for _, x := range []struct{ was, is []string }{{was.SANs, is.SANs}, {was.SPKI, is.SPKI}} {
		within := func(n string) bool {
			return slices.ContainsFunc(x.was, func(w string) bool { return w == n || model.HostCovers(w, n) })
		}
		if len(x.was) > 0 && (len(x.is) == 0 || slices.ContainsFunc(x.is, func(n string) bool { return !within(n) })) {
			return Widening
		}
	}
	return Narrowing
}

// takes says whom a host takes, nothing for anyone.
func takes(t *model.ClientTLS) []string {
	if t == nil {
		return nil
	}
	out := []string{"one by the authorities in " + t.Roots.Place()}
	if !t.Required {
		out[0] = "none or " + out[0]
	}
	if t.CRL {
		out = append(out, "not withdrawn")
	}
	if len(t.SANs) > 0 {
		out = append(out, "for "+strings.Join(t.SANs, " or "))
	}
	if len(t.SPKI) > 0 {
		out = append(out, "with the key "+strings.Join(t.SPKI, " or "))
	}
	return out
}

// shown says which certificates visitors are shown, and where they lie.
func shown(t *model.HostTLS) []string {
	out := make([]string, len(t.Certificates))
	for i, c := range t.Certificates {
		out[i] = fmt.Sprintf("certificate %s (%s)", c.ID, c.Place())
	}
	return out
}

// certificatesAt is where the certificates lie.
func certificatesAt(t *model.HostTLS) []string {
	var out []string
	for _, c := range t.Certificates {
		out = appendNew(out, c.Place())
	}
	return out
}

// pods says how many a gateway has, nothing if that does not change by itself.
func pods(s *model.Autoscale) []string {
	if s == nil {
		return nil
	}
	return []string{fmt.Sprintf("%d to %d pods", s.Min, s.Max), fmt.Sprintf("%d%% of their CPU", s.CPU)}
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

func (c *comparison) gatewayNote(id string, class Class, kind Kind, says Change) {
	c.touchedGateways[id] = true
	p := piece{class: class, kind: kind, scope: "gateway/" + id, says: says}
	origin := []space.Origin{space.Origin(model.GatewayPath(id))}
	if c.before.Gateway(id) != nil {
		p.before = origin
	}
	if c.after.Gateway(id) != nil {
		p.after = origin
	}
	c.add(p)
}
