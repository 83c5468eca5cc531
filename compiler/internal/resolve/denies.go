package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// deniesOf reads the denies of what has the mesh path carrier, by name: those that hold, and those
// that are counted alone.
func (l *linker) deniesOf(carrier string, n intent.Node, read func(intent.Entry) model.Deny) (out, shadows []model.Deny) {
	for _, e := range n.Field("deny").Fields() {
		l.place(model.DenyPath(carrier, e.Name), e.Node.Pos())
		d := read(e) // checked, ended or not
		d.Owner, d.Reason = e.Node.Field("owner").Str(), e.Node.Field("reason").Str()
		l.endsWith(e.Node)
		switch {
		case l.expired(e.Node):
		case e.Node.Field("shadow").Bool():
			shadows = append(shadows, d)
		default:
			out = append(out, d)
		}
	}
	return out, shadows
}

func (l *linker) serviceDeny(p *pkg, s *model.Service, e intent.Entry) model.Deny {
	n, not := e.Node, e.Node.Field("not")
	d := model.Deny{Name: e.Name, Terms: l.termsOf(p, n), Not: l.exceptOf(p, not)}
	l.saysWho("deny "+strconv.Quote(e.Name), d.Terms, n, orAnyone)
	d.Ports, d.Not.Ports = l.servicePorts(s, n), l.servicePorts(s, not)
	l.describes(n, s.ID, d.Ports)
	asked := both(d.Terms, d.Not)
	asked.Ports = slices.DeleteFunc(portNames(s.Ports), func(port string) bool { return !d.At(port) })
	l.needRequests("deny", e, s, asked)
	l.seesClients("deny", e, d.Terms, d.Not)
	if n.Field("shadow").Bool() {
		l.canCount("deny", e, s, model.Terms{Ports: asked.Ports})
	}
	l.canDeny(e, d)
	return d
}

func (l *linker) gatewayDeny(p *pkg, e intent.Entry) model.Deny {
	n := e.Node
	d := model.Deny{Name: e.Name, Terms: l.termsOf(p, n), Not: l.exceptOf(p, n.Field("not"))}
	if !d.AsksRequests() && !d.Not.AsksRequests() {
		l.add(diag.New(diag.CodeWho, n.Pos(), "deny %q does not say what", e.Name).
			WithFix(`add methods, paths, hosts, headers, query, user or addresses: paths: ["/*"] refuses everything`))
	}
	l.canDeny(e, d)
	return d
}

// denyRequests refuses a gateway's denies where they are of requests and none come, and where connections
// come as well to which they would let in whoever they seem to keep out.
func (l *linker) denyRequests(g *model.Gateway, n intent.Node) {
	requests := slices.ContainsFunc(g.Ports, func(p model.Port) bool { return p.Protocol.IsHTTP() })
	bytes := slices.IndexFunc(g.Ports, func(p model.Port) bool { return p.Protocol == model.TCP || p.Protocol == model.TLS })
	elsewhere := "delete it; who may go out there is said by the grants of the externals"
	if bytes >= 0 {
		elsewhere = "delete it; whom a route of connections takes is said there: match: sources"
	}
	for _, e := range n.Field("deny").Fields() {
		own := slices.Concat(g.Denies, g.ShadowDenies)
		i := slices.IndexFunc(own, func(d model.Deny) bool { return d.Name == e.Name })
		switch {
		case !requests:
			l.add(diag.New(diag.CodeProtocol, e.Node.Pos(), "deny %q refuses requests, and no port of gateway %q takes any", e.Name, g.ID).WithFix("%s", elsewhere))
		case bytes >= 0 && i >= 0 && !ofRequestsAlone(own[i].Terms):
			l.add(diag.New(diag.CodeProtocol, e.Node.Pos(), "deny %q keeps addresses out, and connections to port %q of gateway %q would not be kept out", e.Name, g.Ports[bytes].Name, g.ID).
				WithRelated(l.lineOf(model.GatewayPortPath(g.ID, g.Ports[bytes].Name)), "the port").
				WithFix(`write it at the hosts, or add paths: ["/*"]; whom the port's routes take is said there: match: sources`))
		}
	}
}

// ofRequestsAlone reports whether terms name more of requests than where they come from.
func ofRequestsAlone(t model.Terms) bool {
	t.Sources, t.Clients = nil, nil
	return t.AsksRequests()
}

// canDeny refuses a deny whose own exceptions leave it nothing.
func (l *linker) canDeny(e intent.Entry, d model.Deny) {
	if !l.leaves(d.Terms, d.Not) || d.Ports != nil && !slices.ContainsFunc(d.Ports, d.At) {
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "deny %q refuses nothing: its `not` takes back all that it says", e.Name).
			WithFix("delete it, or what excepts too much"))
	}
}

// leaves reports whether terms leave something of others that hold.
func (l *linker) leaves(t, not model.Terms) bool {
	return slices.ContainsFunc(eval.Literally(l.trustDomain, t, not), func(when []space.Test) bool {
		_, possible := prove.Simplify(when, prove.Limits{})
		return possible
	})
}

// checkDenies tells what denies make of each other and of grants.
func (l *linker) checkDenies() {
	if l.diags.HasErrors() {
		return
	}
	for _, s := range l.mesh.Services {
		l.checkPatterns(s)
		if len(s.Denies) > 0 {
			l.checkEffect(s)
		}
	}
}

// visitorHeader is where a gateway says for whom it calls.
const visitorHeader = "x-forwarded-for"

// checkVisitors refuses routes of gateways that write themselves who the visitor is, to a service that tells visitors
// apart by it.
func (l *linker) checkVisitors() {
	if l.diags.HasErrors() {
		return
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, e := range l.mesh.GatewayRoutes(g, h) {
				if !slices.ContainsFunc(e.Traits.Image().Headers, func(h space.Edit) bool { return h.Name == visitorHeader }) {
					continue
				}
				for _, t := range e.To {
					if s := l.mesh.Service(t.Service); s != nil && s.AsksVisitors() {
						l.add(diag.New(diag.CodeRange, l.lineOf(model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name)), "what is sent to %q has its %s edited on the way, by which that tells visitors apart", s.ID, visitorHeader).
							WithRelated(l.lineOf(model.ServicePath(s.ID)), "its grants or denies say `clients`").WithFix("edit a header of your own"))
						break
					}
				}
			}
		}
	}
}

// checkEffect warns of grants of which denies leave nothing, and of denies that nobody meets.
func (l *linker) checkEffect(s *model.Service) {
	var order []space.Origin
	effect := map[space.Origin]bool{}
	for _, d := range s.Denies {
		order = append(order, space.Origin(model.DenyPath(model.ServicePath(s.ID), d.Name)))
	}
	for _, p := range s.Ports {
		list := eval.Access(l.mesh, s, p)
		grants := slices.IndexFunc(list, func(r space.Rule) bool { return r.Then.Verdict == space.Forward })
		for i, r := range list[:len(list)-1] {
			if grants >= 0 && i >= grants || r.Then.By == space.ByDeny {
				if !slices.Contains(order, r.From[0]) {
					order = append(order, r.From[0])
				}
				effect[r.From[0]] = effect[r.From[0]] || l.hasEffect(list, i)
			}
		}
	}
	for _, o := range order {
		switch g := strings.TrimPrefix(string(o), model.GrantPath(s.ID, "")); {
		case effect[o]:
		case g != string(o):
			l.add(diag.Warn(diag.CodeIdle, l.lineOf(string(o)), "grant %q lets nobody through: denies refuse all that it allows", g).
				WithFix("delete the grant, or give the denies a `not`"))
		default:
			l.add(diag.Warn(diag.CodeIdle, l.lineOf(string(o)), "deny %q refuses nobody: as mTLS is at its ports, nobody whom it names comes there", strings.TrimPrefix(string(o), model.DenyPath(model.ServicePath(s.ID), ""))).
				WithFix("name others, or see to the ports' mTLS"))
		}
	}
}

// checkPatterns refuses patterns of accounts at ports of bytes where something is taken out of
// somebody: the handshake holds callers to what they may, and its matchers have no opposite.
func (l *linker) checkPatterns(s *model.Service) {
	for _, p := range s.Ports {
		if p.Protocol.IsHTTP() {
			continue
		}
		for _, g := range s.Grants {
			if g.Ports != nil && !slices.Contains(g.Ports, p.Name) {
				continue
			}
			cut := len(g.Not.Accounts)+len(g.Not.Namespaces)+len(g.Not.Identities) > 0 || slices.ContainsFunc(s.Denies, func(d model.Deny) bool { return d.At(p.Name) })
			if g.Not.OfPatterns() || cut && g.OfPatterns() {
				l.refusePatterns(model.GrantPath(s.ID, g.Name), p)
			}
		}
		for _, d := range s.Denies {
			if d.At(p.Name) && (d.OfPatterns() || d.Not.OfPatterns()) {
				l.refusePatterns(model.DenyPath(model.ServicePath(s.ID), d.Name), p)
			}
		}
	}
}

func (l *linker) refusePatterns(path string, p model.Port) {
	l.add(diag.New(diag.CodeProtocol, l.lineOf(path), "port %q takes bytes, whose callers the handshake tells apart: of a pattern of callers nothing can be taken out there, and none can be taken out of others", p.Name).
		WithFix("name services in `from`, or namespaces, or write a grant of its own for port %q", p.Name))
}

// hasEffect reports whether a request meets rule i of an access list that the handshake
// lets through, and no deny refuses: other grants are not looked at.
func (l *linker) hasEffect(list space.List, i int) bool {
	before := list[:i:i]
	if list[i].Then.By == space.ByDeny {
		before = slices.DeleteFunc(slices.Clone(before), func(r space.Rule) bool { return r.Then.By == space.ByDeny })
	} else {
		before = slices.DeleteFunc(slices.Clone(before), func(r space.Rule) bool { return r.Then.Verdict == space.Forward })
	}
	shadows, err := prove.Shadowed(space.Scope{Kind: "service"}, append(before, list[i]), prove.Limits{Steps: togetherSteps})
	return err != nil || !slices.ContainsFunc(shadows, func(s prove.Shadow) bool { return s.Index == len(before) })
}
