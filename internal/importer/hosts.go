package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// host is one host of a gateway, with all that HTTPRoutes say of it.
type host struct {
	gateway *gateway
	name    string
	at      map[*listener][]*route
	out     *tree
	to      map[*service][]string // the ports that it leads to
	// rules are those of which its routes are made, by the routes' names.
	rules map[string]*rule
	// spelt says that the prefix "/" is written where every path is meant: meshc tries a match with
	// a path before one without, so that all have one if one needs it.
	spelt   bool
	dropped bool
}

// hosts joins routes and listeners to hosts, and writes each.
func (w *world) hosts() {
	w.certified()
	for _, g := range w.gateways {
		all := w.hostsOf(g)
		for _, h := range all {
			w.write(h)
			w.units = append(w.units, h)
		}
		w.fallingBack(all)
	}
}

// fallingBack tells of hosts whose requests an implementation may lead to a wildcard's routes,
// where no route of the host's own takes them.
func (w *world) fallingBack(all []*host) {
	byName := map[string]*host{}
	for _, h := range all {
		byName[h.name] = h
	}
	for _, h := range all {
		for name := h.name; !h.dropped && name != "*"; {
			name = wider(name)
			if o := byName[name]; o != nil {
				if at, open := h.open(o); open {
					at.note(diag.Warning, diag.CodeImportLeft, "makes host %q, and host %q is wider: what no rule of the former takes is answered 404 in intent, where some implementations lead it to the latter's routes", h.name, o.name).
						fix("write a rule for all paths at host %q, if its other requests are to go where those of %q go", h.name, o.name)
					break
				}
			}
		}
	}
}

// wider is the next wildcard that takes a name.
func wider(name string) string {
	if _, parent, ok := strings.Cut(strings.TrimPrefix(name, "*."), "."); ok {
		return "*." + parent
	}
	return "*"
}

// open is one of the host's HTTPRoutes at a listener that another host is at as well, where there
// are requests that none of them takes.
func (h *host) open(o *host) (at node, open bool) {
	for _, l := range h.gateway.listeners {
		if h.at[l] == nil || o.at[l] == nil {
			continue
		}
		all := slices.ContainsFunc(h.at[l], func(r *route) bool {
			return slices.ContainsFunc(r.rules, func(x *rule) bool {
				return slices.ContainsFunc(x.matches, func(m match) bool { return m.covers(match{}) })
			})
		})
		if !all {
			return h.at[l][0].o.top().down("spec", "hostnames"), true
		}
	}
	return node{}, false
}

// hostsOf are a gateway's hosts, sorted by name.
func (w *world) hostsOf(g *gateway) []*host {
	all := map[string]*host{}
	for _, r := range w.routes {
		for _, p := range r.parents {
			if p.gateway != g {
				continue
			}
			attached := false
			for _, l := range g.listeners {
				if l.other || p.section != "" && p.section != l.name || p.port != 0 && p.port != l.port {
					continue
				}
				attached = w.attach(r, p, l, all) || attached
			}
			if whole := !r.o.broken; !attached {
				p.at.lacks(diag.CodeImportMissing, "is a Gateway of which no listener takes the route: it answers no request").fix("mend the route's hostnames, its sectionName or its port, or the listener's allowedRoutes; or leave the route out")
				r.o.broken, r.o.lost = !whole, true // another place where it is stays whole
			}
		}
	}
	var out []*host
	for _, name := range sortedKeys(all) {
		out = append(out, all[name])
	}
	return out
}

// attach adds a route to the hosts of a listener that it is about.
func (w *world) attach(r *route, p parent, l *listener, all map[string]*host) bool {
	ok, known := l.allows(r.o.ns)
	if !known {
		p.at.lacks(diag.CodeImportMissing, "is a Gateway that takes routes by the labels of their Namespace, and Namespace %q is not among the objects", r.o.ns).fix("import it as well")
	}
	if !ok {
		return false
	}
	wanted := r.hosts
	if len(wanted) == 0 {
		wanted = []string{l.hostname}
	}
	any := false
	for _, h := range wanted {
		name, ok := meet(h, l.hostname)
		if !ok {
			continue
		}
		any = true
		if all[name] == nil {
			all[name] = &host{gateway: l.gateway, name: name, at: map[*listener][]*route{}}
		}
		if !slices.Contains(all[name].at[l], r) {
			all[name].at[l] = append(all[name].at[l], r)
		}
	}
	return any
}

// drop tells that nothing of a host is written.
func (w *world) drop(h *host, c diag.Code, at diag.Pos, why, way string) {
	h.dropped = true
	for _, rs := range h.at {
		for _, r := range rs {
			r.o.lost = true
		}
	}
	w.findings = append(w.findings, diag.New(c, at, "host %q of Gateway %s is not written: %s", h.name, h.gateway.o.id(), why).WithFix("%s", way))
}

// write makes a host's intent, or tells why there is none.
func (w *world) write(h *host) {
	var listeners []*listener
	for _, l := range h.gateway.listeners {
		if h.at[l] != nil {
			listeners = append(listeners, l)
		}
	}
	for _, l := range listeners {
		for _, r := range h.at[l] {
			r.o.rest() // what is left out of it, the hosts that it is about must not be without
			if r.o.broken {
				w.drop(h, diag.CodeImportWhole, r.o.top().at(), "a part of "+r.o.String()+" is not translated, and its requests would go elsewhere", "mend what is told of the route, or write the host by hand")
				return
			}
		}
		if l.bad {
			w.drop(h, diag.CodeImportWhole, l.at.at(), "its listener "+l.name+" is not translated", "mend what is told of the listener")
			return
		}
	}
	if !w.isolated(h, listeners) {
		return
	}
	var plain, secure []*listener
	for _, l := range listeners {
		if l.https {
			secure = append(secure, l)
		} else {
			plain = append(plain, l)
		}
	}
	h.out, h.to = &tree{}, map[*service][]string{}
	if strings.HasPrefix(h.name, "*") { // a rule asks who answers for all these names
		h.out.add("owner", quote(h.gateway.o.ns))
		listeners[0].at.note(diag.Warning, diag.CodeImportLeft, "takes all names of %q, and nobody is named who answers for them: the namespace is written as the host's owner", h.name).
			fix("write the team, or name the hosts")
	}
	h.ports(listeners)
	served := listeners
	if len(secure) > 0 {
		if !w.tls(h, plain, secure) {
			return
		}
		served = secure
	}
	for _, l := range served[1:] {
		if !slices.Equal(h.at[l], h.at[served[0]]) {
			w.drop(h, diag.CodeImportWhole, l.at.at(), "its listeners "+served[0].name+" and "+l.name+" have different routes", "give both the same routes, or the hosts different names")
			return
		}
	}
	w.order(h, served)
}

// isolated reports whether no other listener would take requests of the host: a request is the
// most specific listener's, whether that has a route for it or not.
func (w *world) isolated(h *host, listeners []*listener) bool {
	for _, l := range listeners {
		for _, o := range h.gateway.listeners {
			if o == l || o.port != l.port || o.hostname == l.hostname {
				continue
			}
			if within(o.hostname, l.hostname) && within(h.name, o.hostname) {
				w.drop(h, diag.CodeImportOrder, l.at.at(), "listener "+o.name+" is more specific, and takes its requests from listener "+l.name, "attach the routes to that listener")
				return false
			}
			if within(o.hostname, h.name) && o.hostname != h.name && !w.has(h.gateway, o) {
				w.drop(h, diag.CodeImportOrder, o.at.at(), "listener "+o.name+" takes a part of its requests and has no routes for them, so that they get 404", "attach routes to that listener, or take it out")
				return false
			}
		}
	}
	return true
}

// has reports whether a listener has a route for its whole hostname.
func (w *world) has(g *gateway, l *listener) bool {
	for _, r := range w.routes {
		for _, p := range r.parents {
			ok, _ := l.allows(r.o.ns)
			if p.gateway == g && ok && (p.section == "" || p.section == l.name) && (p.port == 0 || p.port == l.port) &&
				(len(r.hosts) == 0 || slices.ContainsFunc(r.hosts, func(x string) bool { return within(l.hostname, x) })) {
				return true
			}
		}
	}
	return false
}

// ports names the ports that a host is at, where they are not those that it has by itself.
func (h *host) ports(listeners []*listener) {
	var names []string
	for _, l := range listeners {
		names = append(names, h.gateway.named[l.door()])
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < len(h.gateway.ports()) || len(names) > 1 {
		h.out.add("ports", quoteList(names))
	}
}

// tls says how a host is reached by HTTPS, and that plain HTTP is led there.
func (w *world) tls(h *host, plain, secure []*listener) bool {
	certificates := secure[0].certificates
	for _, l := range secure[1:] {
		if !slices.Equal(l.certificates, certificates) {
			w.drop(h, diag.CodeImportWhole, l.at.at(), "its listeners show different certificates", "name the same certificates")
			return false
		}
	}
	names := make([]string, len(certificates))
	for i, c := range certificates {
		names[i] = w.certificates[h.gateway.o.ns][c]
	}
	h.out.child("tls").add("certificates", quoteList(names))
	for _, l := range plain {
		r := h.at[l][0].rules[0]
		only := len(h.at[l]) == 1 && len(h.at[l][0].rules) == 1 && len(r.matches) == 1 && r.matches[0].covers(match{}) && r.redirect != nil && r.redirect.toHTTPS && len(r.body.fields) == 1
		switch {
		case !only:
			w.drop(h, diag.CodeImportWhole, l.at.at(), "it has routes by plain HTTP beside those by HTTPS, and intent serves a host with `tls` by plain HTTP only for a time", "redirect plain HTTP to HTTPS, with the status 308; or write `tls: http: \"serve\"` with owner, reason and until")
			return false
		case r.redirect.code != 308:
			w.drop(h, diag.CodeImportValue, r.redirect.at.at(), fmt.Sprintf("plain HTTP is led to HTTPS with the status %d, and intent does that with 308, by which a POST stays one", r.redirect.code), "write statusCode: 308")
			return false
		case cmp.Or(r.redirect.port, 443) != secure[0].port:
			w.drop(h, diag.CodeImportValue, r.redirect.at.at(), fmt.Sprintf("plain HTTP is led to port %d, and HTTPS is at %d", cmp.Or(r.redirect.port, 443), secure[0].port), "lead it to the listener's port")
			return false
		}
	}
	return true
}

// candidate is one alternative of one rule of one HTTPRoute.
type candidate struct {
	route    *route
	rule     *rule
	match    match
	ri, mi   int
	priority int
}

func (c candidate) name() string {
	if n := c.rule.name; n != "" && nameOf(n) == n && len(c.rule.matches) == 1 {
		return n
	}
	out := c.route.o.name_
	if len(c.route.rules) > 1 {
		out += fmt.Sprintf("-%d", c.ri+1)
	}
	if len(c.rule.matches) > 1 {
		out += fmt.Sprintf("-%d", c.mi+1)
	}
	return nameOf(out)
}

// maxMatches is how many matches a host may have: each is compared with each.
const maxMatches = 20_000

// order writes a host's routes in the order in which Gateway API tries them. Where meshc has no
// order of its own for two, priority says it.
func (w *world) order(h *host, served []*listener) {
	var all []candidate
	for _, r := range h.at[served[0]] {
		for i, rule := range r.rules {
			for j, m := range rule.matches {
				h.spelt = h.spelt || rule.movesPrefix && m.prefix == ""
				all = append(all, candidate{route: r, rule: rule, match: m, ri: i, mi: j})
			}
		}
	}
	if len(all) > maxMatches {
		w.drop(h, diag.CodeImportWhole, h.where(nil), fmt.Sprintf("its HTTPRoutes have more than %d matches", maxMatches), "write the host by hand")
		return
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(-a.match.precedes(b.match), a.route.created.Compare(b.route.created), strings.Compare(a.route.o.id(), b.route.o.id()), a.ri-b.ri, a.mi-b.mi)
	})
	all, ok := w.reached(h, all)
	if !ok {
		return
	}
	level := 0
	for i := len(all) - 1; i >= 0; i-- {
		for _, later := range all[i+1:] {
			if later.priority == level && all[i].match.outranks(later.match) <= 0 && !all[i].match.apart(later.match) {
				level++
				break
			}
		}
		all[i].priority = level
	}
	h.rules = map[string]*rule{}
	var given names
	for _, c := range all {
		t, problem := w.candidate(h, c, served)
		if problem != "" {
			w.drop(h, diag.CodeImportValue, c.rule.at.at(), problem, "write weights that are percentages with at most two decimals")
			return
		}
		if path := t.clashing(); path != "" {
			w.drop(h, diag.CodeImportValue, c.rule.at.at(), fmt.Sprintf("the rule says two things of `%s`", path), "say one of them")
			return
		}
		name := given.give(c.name())
		h.rules[name] = c.rule
		h.out.child("route").set(field{name: name, sub: t, comment: fmt.Sprintf("%s, rule %d", c.route.o, c.ri+1)})
	}
}

// reached leaves out what no request comes to. Of two HTTPRoutes that are alike the older one
// counts: without their ages there is no order.
func (w *world) reached(h *host, all []candidate) ([]candidate, bool) {
	var out []candidate
	for _, c := range all {
		dead := false
		for _, before := range out {
			if before.match.precedes(c.match) == 0 && !before.match.apart(c.match) && before.route != c.route && (before.route.created.IsZero() || c.route.created.IsZero()) {
				w.drop(h, diag.CodeImportOrder, c.rule.at.at(), fmt.Sprintf("%s and %s take the same requests, and the older one counts, but their creationTimestamp is not written", before.route.o, c.route.o),
					"import them as the API server has them, or make their matches differ")
				return nil, false
			}
			dead = dead || before.match.covers(c.match)
		}
		if dead {
			at := c.rule.at
			if c.match.at != nil {
				at = *c.match.at
			}
			at.note(diag.Note, diag.CodeImportLeft, "is never reached at host %q: another rule takes every request before it", h.name).fix("take it out")
			continue
		}
		out = append(out, c)
	}
	return out, true
}

// candidate is one route of intent.
func (w *world) candidate(h *host, c candidate, served []*listener) (_ *tree, problem string) {
	out, body := &tree{}, c.rule.body.copied()
	if c.priority > 0 {
		out.add("priority", fmt.Sprint(c.priority))
	}
	if m := c.match.tree(h.spelt); m != nil {
		out.put("match", m)
	}
	if c.rule.redirect != nil && !c.rule.leads(body.child("redirect"), h.name, served) {
		return nil, "a redirect names another port at each of its listeners"
	}
	shares, sum := []*backend{}, 0
	for _, b := range c.rule.backends {
		if sum += b.weight; b.weight > 0 {
			shares = append(shares, b)
		}
	}
	given := names{other: h.gateway.neighbours}
	if !c.rule.answers {
		for _, b := range shares {
			share, ok := percent(b.weight, sum)
			if !ok {
				return nil, fmt.Sprintf("the weight %d of %d is no percentage with two decimals", b.weight, sum)
			}
			name := h.destination(out, b, "to", &given)
			out.child("to").add(name, share)
		}
	}
	for _, m := range c.rule.mirrors { // each by chances of its own, as in Gateway API
		t := &tree{}
		if m.percent != "" {
			t.add("percent", m.percent)
		}
		name := h.destination(out, m.backend, "mirror", &given)
		out.child("mirror").put(name, t)
	}
	out.join(body)
	return out, ""
}

// destination is the name by which a route leads to a backend, or sends copies there; one with
// several ports, or with edits of its own, is spelt out, and so is one that stands below the
// word ("to" or "mirror") already. given are the names of the route's destinations.
func (h *host) destination(out *tree, b *backend, word string, given *names) string {
	h.to[b.service] = append(h.to[b.service], b.port.name)
	ref := b.service.id()
	if b.service.o.ns == h.gateway.o.ns {
		ref = b.service.o.name_
	}
	if len(b.service.ports) == 1 && b.edits == nil && !out.holds(word, ref) {
		return ref
	}
	d := &tree{}
	d.add("service", quote(ref))
	if len(b.service.ports) > 1 {
		d.add("port", quote(b.port.name))
	}
	if b.edits != nil {
		d.join(b.edits.copied())
	}
	name := b.service.o.name_ + "-" + b.port.name
	if word == "mirror" {
		name = "copy-" + name
	}
	name = given.give(name)
	out.child("destination").put(name, d)
	return name
}
