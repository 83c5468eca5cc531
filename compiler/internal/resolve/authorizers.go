package resolve

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

const (
	// judging is the protocol of authorizers.
	judging = "Envoy's external authorization"
	// processing is the protocol of processors.
	processing = "Envoy's external processing"
	// usualConsideration is how long a request waits for an authorizer if nobody says it: what Envoy takes.
	usualConsideration = 200 * time.Millisecond
	// mostTold is how much of a body an authorizer is told at most: proxies keep it meanwhile.
	mostTold = trait.MiB
)

// declareAuthorizers enters whom a package asks: services with one version, at a port on which they speak gRPC.
func (l *linker) declareAuthorizers(p *pkg) {
	for _, e := range p.node.Field("authorizer").Fields() {
		id := p.namespace + "/" + e.Name
		if !l.free(model.AuthorizerPath(id), "authorizer", id, e.Node.Pos()) {
			continue
		}
		x := Place{l: l}
		a := model.Authorizer{ID: id, FailOpen: e.Node.Field("failOpen").Bool(), Timeout: x.Counted(e.Node.Field("timeout"), usualConsideration)}
		if body := e.Node.Field("body"); body.Exists() {
			a.Body, _ = x.Size(body, mostTold)
		}
		headers := e.Node.Field("headers")
		a.Told, a.Sets = l.headerNames(headers, "told"), l.headerNames(headers, "sets")
		l.settable("authorizer \""+a.ID+"\"", diag.CodeAuthorizer, a.Sets, headers.Field("sets"))
		if to, ok := l.collecting(p, "authorizer", e.Name, judging, e.Node); ok {
			a.Receiver = to
		}
		l.authorizers[id] = a
	}
}

// MaySet are the headers that one of a carrier's scripts or processors may set by its `sets`, in lower case, sorted. Those by
// which proxies go, by which a provider tells who the user is, or that another one of the kind sets are a problem; taken
// are these last.
func (x *Place) MaySet(kind string, e intent.Entry, taken map[string]bool) []string {
	headers := e.Node.Field("headers")
	names := x.l.headerNames(headers, "sets")
	x.l.settable(kind+" "+strconv.Quote(e.Name), diag.CodeScript, names, headers.Field("sets"))
	for _, h := range names {
		if taken[h] {
			x.Problem(diag.New(diag.CodeScript, e.Node.Pos(), "two %ss set header %s, and nobody behind could tell whose word it is", kind, h).WithFix("let each set a header of its own"))
		}
		taken[h] = true
	}
	return names
}

// HeaderNames are those of a list of a field, in lower case, sorted; nil if there is none.
func (x *Place) HeaderNames(n intent.Node, field string) []string { return x.l.headerNames(n, field) }

// Processor is the service that n names by `to` and `port`, which is given what passes a proxy. A problem is noted.
func (x *Place) Processor(name string, n intent.Node) (model.Receiver, bool) {
	return x.l.collecting(x.pkg, "processor", name, processing, n)
}

// SetsAlone refuses headers that a carrier's scripts or processors set and another one of its features changes.
func (x *Place) SetsAlone(kind string, v interface {
	trait.Value
	trait.Changing
}, others trait.Set, n intent.Node,
) {
	for _, name := range others.Names() {
		o, _ := others.Lookup(name)
		c, ok := o.(trait.Changing)
		if !ok || name == v.TraitName() {
			continue
		}
		for _, h := range c.Image().Headers {
			if slices.ContainsFunc(v.Image().Headers, func(e space.Edit) bool { return e.Name == h.Name }) {
				x.Problem(diag.New(diag.CodeScript, n.Pos(), "a %s sets header %s, and so does `%s`", kind, h.Name, name).WithFix("let the %s set another header", kind))
			}
		}
	}
}

// ToldUsers are the headers by which the providers of the mesh tell who the user is, sorted.
func (x *Place) ToldUsers() []string {
	var out []string
	for _, p := range x.l.providers {
		for _, c := range p.Claims {
			out = append(out, c.Header)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Attached reports whether the field is of a gateway's route that another package than the gateway's attaches.
func (x *Place) Attached() bool {
	return x.Gateway && x.l.home[model.GatewayPath(x.self)] != x.pkg
}

// headerNames are those of a list, in lower case, sorted.
func (l *linker) headerNames(n intent.Node, field string) []string {
	var out []string
	if !n.Has(field) {
		return nil
	}
	for _, name := range l.nonEmpty(n.Field(field), field) {
		out = append(out, strings.ToLower(name))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// settable refuses headers by which proxies go, or by which a provider tells who the user is: whoever wrote
// them could be anybody.
func (l *linker) settable(who string, code diag.Code, names []string, at intent.Node) {
	for _, name := range names {
		if hop.Reserved(name) || hop.OfConnection(name) || strings.HasPrefix(name, "x-forwarded-") {
			l.add(diag.New(code, at.Pos(), "%s sets header %s, by which proxies go themselves", who, name).WithFix("let it set another header, such as x-role"))
		}
		for _, id := range sortedKeys(l.providers) {
			if slices.ContainsFunc(l.providers[id].Claims, func(c model.Claim) bool { return c.Header == name }) {
				l.add(diag.New(code, at.Pos(), "%s sets header %s, by which provider %q tells who the user is", who, name, id).WithFix("let it set another header"))
			}
		}
	}
}

// Authorizer resolves the name of an authorizer: the package's own, or "namespace/name". A problem is noted.
func (x *Place) Authorizer(name string, at intent.Node) (model.Authorizer, bool) {
	a, ok := x.l.authorizers[x.pkg.qualify(name)]
	if !ok {
		x.l.add(x.l.unknown(at.Pos(), "authorizer", name, sortedKeys(x.l.authorizers)))
	}
	return a, ok && a.To != ""
}

// declareSettable enters which headers the authorizers may set that the package asks at each of its gateways: all
// authorizers are known.
func (l *linker) declareSettable(p *pkg) {
	for _, g := range p.node.Field("gateway").Fields() {
		var out []string
		add := func(n intent.Node) {
			for _, e := range n.Field("authorize").Fields() {
				out = append(out, l.authorizers[p.qualify(e.Name)].Sets...)
			}
		}
		for _, h := range g.Node.Field("host").Fields() {
			add(h.Node)
			for _, r := range h.Node.Field("route").Fields() {
				add(r.Node)
			}
		}
		slices.Sort(out)
		l.settableAt[p.namespace+"/"+g.Name] = slices.Compact(out)
	}
}

// AuthorizersSet are the headers that authorizers may set whom the package asks at its gateway, sorted; none for what
// others attach there.
func (x *Place) AuthorizersSet() []string {
	if x.Attached() {
		return nil
	}
	return x.l.settableAt[x.self]
}
