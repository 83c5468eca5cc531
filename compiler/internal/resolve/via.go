package resolve

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// wayOut is what externals have to know of a gateway to be called through it.
type wayOut struct {
	account string
	host    string // the address that it binds, "" for all
	ports   []doorOut
}

// doorOut is a port of a gateway for proxies of the mesh.
type doorOut struct {
	model.Port
	// namespaces are those whose externals may go out there, nil for all.
	namespaces []string
}

// declareWayOut enters a gateway's ports for proxies of the mesh into the tables.
func (l *linker) declareWayOut(id string, e intent.Entry) {
	w := wayOut{account: gatewayAccount(e)}
	if ip, err := netip.ParseAddr(e.Node.Field("address").Str()); err == nil && !ip.IsUnspecified() {
		w.host = ip.String()
	}
	for _, f := range e.Node.Field("port").Fields() {
		if model.Protocol(f.Node.Field("protocol").Str()) != model.MeshTLS {
			continue
		}
		d := doorOut{Port: model.Port{Name: f.Name, Number: uint32(f.Node.Field("number").Int()), Protocol: model.MeshTLS, Main: f.Node.Field("main").Bool()}}
		for _, n := range f.Node.Field("namespaces").List() {
			d.namespaces = append(d.namespaces, n.Str())
		}
		w.ports = append(w.ports, d)
	}
	l.waysOut[id] = w
}

// text is all that a way out says, as lines of a table.
func (w wayOut) text() []string {
	out := []string{w.account, w.host}
	for _, d := range w.ports {
		out = append(out, d.Name, strconv.FormatUint(uint64(d.Number), 10), strconv.FormatBool(d.Main), strings.Join(d.namespaces, " "))
	}
	return out
}

// via reads through which gateway an external is called; nil for none.
func (l *linker) via(p *pkg, x *model.External, n intent.Node) *model.Via {
	ref := n.Field("via").Field("gateway")
	if !ref.Exists() {
		return nil
	}
	id := p.qualify(ref.Str())
	w, ok := l.waysOut[id]
	if !ok {
		var known []string
		for _, g := range sortedKeys(l.waysOut) {
			if len(l.waysOut[g].ports) > 0 {
				known = append(known, strings.TrimPrefix(g, p.namespace+"/"))
			}
		}
		l.add(l.unknown(ref.Pos(), "gateway", ref.Str(), known))
		return nil
	}
	var ports []model.Port
	for _, d := range w.ports {
		ports = append(ports, d.Port)
	}
	door, ok := model.Unnamed(ports)
	switch i := slices.IndexFunc(w.ports, func(d doorOut) bool { return d.Name == door.Name }); {
	case len(ports) == 0:
		l.add(diag.New(diag.CodeVia, ref.Pos(), "external %q goes out through gateway %q, which has no port for proxies of the mesh", x.ID, id).
			WithRelated(l.lineOf(model.GatewayPath(id)), "the gateway").WithFix(`add to the gateway: port: mesh: {number: 15443, protocol: "mesh"}`))
		return nil
	case !ok:
		l.add(diag.New(diag.CodePort, ref.Pos(), "gateway %q has several ports of the protocol mesh and none is the main one", id).
			WithRelated(l.lineOf(model.GatewayPath(id)), "the gateway").WithFix("let one of %s say `main: true`", strings.Join(portNames(ports), ", ")))
		return nil
	case w.ports[i].namespaces != nil && !slices.Contains(w.ports[i].namespaces, p.namespace):
		l.add(diag.New(diag.CodeVia, ref.Pos(), "external %q goes out through port %q of gateway %q, which is for externals of other namespaces", x.ID, door.Name, id).
			WithRelated(l.lineOf(model.GatewayPortPath(id, door.Name)), "the port").WithFix("let the port say: namespaces: [%q] as well, or choose another gateway", p.namespace))
		return nil
	case l.capture == model.Explicit && w.host == "":
		l.add(diag.New(diag.CodeVia, ref.Pos(), "external %q goes out through gateway %q, and nothing says where that is: with explicit capture nobody finds it", x.ID, id).
			WithRelated(l.lineOf(model.GatewayPath(id)), "the gateway").WithFix(`let the gateway say at which address its proxies listen: address: "10.0.0.7"`))
		return nil
	}
	v := &model.Via{Gateway: id, Account: w.account, Port: door.Name, Number: door.Number, Host: w.host}
	for _, account := range l.accountsOf(gatewayPrefix + id) {
		if _, name, _ := strings.Cut(account, "/"); name != w.account {
			v.Former = append(v.Former, name)
		}
	}
	return v
}

// meshPort refuses what a gateway's port for proxies of the mesh cannot say, and the reverse.
func (l *linker) meshPort(g *model.Gateway, port model.Port, n intent.Node) {
	own := n.Field("namespaces")
	if port.Protocol != model.MeshTLS {
		if own.Exists() {
			l.add(diag.New(diag.CodeVia, own.Pos(), "port %q of gateway %q is for visitors: `namespaces` says whose externals go out at a port of the protocol mesh", port.Name, g.ID).
				WithFix(`delete it, or let the port say protocol: "mesh"`))
		}
		return
	}
	l.some(own, "namespace")
	for _, x := range own.List() {
		if l.domains[x.Str()] == nil {
			l.add(l.unknown(x.Pos(), "namespace", x.Str(), sortedKeys(l.domains)))
		}
	}
	for _, word := range []string{"route", "proxyProtocol"} {
		if w := n.Field(word); w.Exists() {
			l.add(diag.New(diag.CodeVia, w.Pos(), "port %q of gateway %q is for proxies of the mesh, which say themselves who they are and which external they want: `%s` means nothing there", port.Name, g.ID, word).
				WithFix("delete it, or say it of a port for visitors"))
		}
	}
}

// settleExits tells gateways which externals are called through them, and by whom. It is asked once all
// is linked.
func (l *linker) settleExits() {
	by := map[string]*model.Gateway{}
	for _, g := range l.mesh.Gateways {
		by[g.ID] = g
	}
	var asked askers
	for _, x := range l.mesh.Externals {
		if x.Via == nil || by[x.Via.Gateway] == nil {
			continue
		}
		if asked == nil {
			asked = l.askers()
		}
		g := by[x.Via.Gateway]
		g.Exits = append(g.Exits, model.Exit{External: x.ID, Port: x.Via.Port, Admits: admitting(g, x, asked[x.ID])})
	}
	for _, g := range l.mesh.Gateways {
		slices.SortFunc(g.Exits, func(a, b model.Exit) int { return strings.Compare(a.External, b.External) })
	}
}

// asking is an account whose proxies send to a port of an external.
type asking struct {
	account, port string
	// itself says that the proxies do so without being called.
	itself bool
}

// askers gathers who sends to externals, by ID.
type askers map[string][]asking

func (l *linker) askers() askers {
	out := askers{}
	callers := l.callersOf()
	for _, s := range l.mesh.Services {
		own := l.accountsOf(s.ID)
		for _, c := range s.Calls {
			for _, account := range own {
				out.add(c.To, asking{account, c.Port, false})
			}
		}
		l.fetch(out, s.Traits, own)
		for _, port := range sortedKeys(s.PortTraits) {
			l.fetch(out, s.PortTraits[port], own)
		}
		for _, r := range s.Routes {
			l.fetch(out, r.Traits, callers[s.ID])
		}
	}
	for _, g := range l.mesh.Gateways {
		l.askedBy(out, g)
	}
	return out
}

// askedBy adds what a gateway sends to.
func (l *linker) askedBy(out askers, g *model.Gateway) {
	own := l.accountsOf(gatewayPrefix + g.ID)
	to := func(ts []model.Target) {
		for _, t := range ts {
			for _, account := range own {
				out.add(t.Service, asking{account, t.Port, false})
			}
		}
	}
	l.fetch(out, g.Traits, own)
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			l.fetch(out, r.Traits, own)
			to(r.To)
		}
	}
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			to(s.To)
		}
	}
}

func (a askers) add(id string, who asking) {
	if !slices.Contains(a[id], who) {
		a[id] = append(a[id], who)
	}
}

// fetch adds what proxies of accounts send to by themselves, because of a set.
func (l *linker) fetch(out askers, set trait.Set, accounts []string) {
	for _, rule := range l.rules {
		v, ok := set.Lookup(rule.Name)
		if !ok || rule.Uses == nil {
			continue
		}
		for _, to := range rule.Uses(v) {
			for _, account := range accounts {
				out.add(to.Service, asking{account, to.Port, true})
			}
		}
	}
}

// admitting are the grants by which a gateway lets callers get to an external. The gateway itself needs none.
func admitting(g *model.Gateway, x *model.External, all []asking) []model.Grant {
	var out []model.Grant
	for _, p := range x.Ports {
		by := map[string][]string{}
		for _, a := range all {
			if a.port != p.Name || a.account == g.Namespace+"/"+g.Account {
				continue
			}
			if name := admittedBy(x, a); name != "" && !slices.Contains(by[name], a.account) {
				by[name] = append(by[name], a.account)
			}
		}
		for _, name := range sortedKeys(by) {
			slices.Sort(by[name])
			out = append(out, model.Grant{Name: name, Terms: model.Terms{Accounts: by[name], Ports: []string{p.Name}}})
		}
	}
	return out
}

// admittedBy is the name of what lets a caller get to an external, "" for nothing.
func admittedBy(x *model.External, a asking) string {
	namespace, _, _ := strings.Cut(a.account, "/")
	i := slices.IndexFunc(x.Grants, func(g model.Grant) bool { return g.IsAbout(a.account) })
	switch {
	case namespace == x.Namespace:
		return model.OwnNamespace
	case i >= 0:
		return x.Grants[i].Name
	case a.itself:
		return model.Fetching
	}
	return ""
}
