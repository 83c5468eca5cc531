package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// setting is where routes stand.
type setting struct {
	ns string
	// gateway is "mesh" at a Service, else the Gateway's name.
	gateway string
	// own is the Service whose routes they are, nil at a gateway.
	own *serving
	// ports are those by which requests come, schemes theirs.
	ports   []int
	schemes []string
	// others are names that have another meaning in `to`.
	others map[string]bool
	where  string
	leads  func(*place)
}

// reaches reports whether a VirtualService leads to a Service, or is about its callers.
func (v *virtual) reaches(i *istio, s *service) bool {
	for _, h := range v.hosts {
		if i.named(h, v.o.ns) == s && slices.Contains(v.gateways, inMesh) {
			return true
		}
	}
	for _, r := range v.rules {
		for _, p := range r.all() {
			if p.service == s {
				return true
			}
		}
	}
	return false
}

// meshRoutes says how Services' own callers are led.
func (i *istio) meshRoutes() {
	for _, v := range i.virtual {
		v.o.rest() // what is left out of it, nothing that it is about must be without
		for at, h := range v.at.items() {
			if slices.Contains(v.gateways, inMesh) {
				i.inMesh(v, h, v.hosts[at])
			}
		}
	}
	for _, s := range i.services {
		if of := i.of[s]; len(of.virtual) > 0 && !s.dropped {
			i.serviceRoutes(of)
		}
	}
	for _, s := range i.services {
		of := i.of[s]
		for _, to := range of.leads {
			if o := i.of[to]; !s.dropped && o.routes != nil && !o.plain {
				i.dropService(s, of.virtual[0].at.at(), "its routes lead to "+to.o.String()+", whose own routes intent applies as well", "lead to versions of the Service itself")
			}
		}
	}
	for _, x := range i.outside {
		i.outsideRoutes(x)
	}
}

// inMesh finds what callers in the mesh reach by a host of a VirtualService.
func (i *istio) inMesh(v *virtual, n node, host string) {
	s, x := i.named(host, v.o.ns), i.outsideNamed(host)
	switch {
	case strings.HasPrefix(host, "*"):
		i.wildcard(v, n, host)
	case s != nil && slices.Contains(i.of[s].virtual, v): // the host stands there twice
	case s != nil:
		i.of[s].virtual = append(i.of[s].virtual, v)
	case x != nil:
		x.virtual = append(x.virtual, v)
	case len(v.gateways) == 1:
		n.lacks(diag.CodeImportMissing, "is %q, which is no Service or ServiceEntry among the objects", host).fix("import it together with its routes; of a Service in another namespace write the full name")
	default:
		n.note(diag.Warning, diag.CodeImportDefault, "is %q, which sidecars know by no Service: it is written at the gateways", host).fix("take %q out of gateways", inMesh)
	}
}

// wildcard drops what callers in the mesh reach by hosts of which only a pattern is written: which
// VirtualService leads there, nobody here says.
func (i *istio) wildcard(v *virtual, n node, pattern string) {
	way := "name the hosts, one VirtualService for each"
	if len(v.gateways) > 1 {
		way += fmt.Sprintf("; or take %q out of gateways", inMesh)
	}
	v.o.lost = true
	n.note(diag.Error, diag.CodeImportValue, "is %q, by which sidecars lead requests to all that fits", pattern).fix("%s", way)
	why := v.o.String() + fmt.Sprintf(" is about callers of %q in the mesh", pattern)
	for _, s := range i.services {
		if within(fqdn(s.o.name_, s.o.ns), pattern) {
			i.dropService(s, n.at(), why, way)
		}
	}
	for _, x := range i.outside {
		if slices.ContainsFunc(x.hosts, func(h string) bool { return within(h, pattern) }) {
			i.dropOutside(x, n.at(), why, way)
		}
	}
}

func (i *istio) serviceRoutes(of *serving) {
	v := of.virtual[0]
	switch {
	case len(of.virtual) > 1:
		i.dropService(of.service, of.virtual[1].at.at(), fmt.Sprintf("%s and %s are both about it, and Istio takes the older one alone", v.o, of.virtual[1].o), "write one")
		return
	case v.o.broken:
		i.dropService(of.service, v.at.at(), "a part of "+v.o.String()+" is not translated, and its requests would go elsewhere", "mend what is told of the VirtualService, or write the service by hand")
		return
	}
	at := setting{ns: of.o.ns, gateway: inMesh, own: of, others: map[string]bool{}, where: of.o.String(), schemes: []string{"http"}}
	for _, p := range of.ports {
		if p.protocol != "tcp" {
			at.ports = append(at.ports, p.number)
		}
	}
	for _, x := range of.versions {
		at.others[x.name] = true
	}
	at.leads = func(p *place) {
		if p.service != nil && p.service != of.service {
			of.leads = append(of.leads, p.service)
		}
	}
	out, n, problem := i.routes(of.virtual, at)
	if problem != "" {
		i.dropService(of.service, n.at(), problem, "mend the rule, or write the service by hand")
		return
	}
	of.routes = out
	of.plain = len(out.fields) == 1 && !slices.ContainsFunc(out.fields[0].sub.fields, func(f field) bool {
		return f.name != "to" && f.name != "retry" && (f.name != "timeout" || f.value != `"none"`)
	})
}

// routes are those of VirtualServices, in a setting.
func (i *istio) routes(all []*virtual, at setting) (out *tree, n node, problem string) {
	type of struct{ v *virtual }
	var list []ordered
	owner := map[*steps]of{}
	var last []ordered // what takes every request, which Istio puts behind the rules of all
	for _, v := range all {
		one, where, problem := at.alternatives(v)
		if problem != "" {
			return nil, where, problem
		}
		for _, c := range one {
			if owner[c.rule] = (of{v}); c.asked.everything() {
				last = append(last, c)
				break // what comes behind it in its own VirtualService is never reached
			}
			list = append(list, c)
		}
	}
	list = append(list, last...)
	if len(list) > maxMatches {
		return nil, all[0].at, fmt.Sprintf("there are more than %d matches", maxMatches)
	}
	out = &tree{}
	var given names
	for _, c := range inOrder(list, at.where) {
		v := owner[c.rule].v
		t, problem := i.route(c, at)
		if problem != "" {
			return nil, c.rule.at, problem
		}
		if path := t.clashing(); path != "" {
			return nil, c.rule.at, fmt.Sprintf("the rule says two things of `%s`", path)
		}
		n := c.rule.at
		out.set(field{name: given.give(c.name(v)), sub: t, comment: fmt.Sprintf("%s, rule %d", v.o, c.ri+1), at: &n})
	}
	if len(out.fields) == 0 {
		return nil, all[0].at, "none of its rules is about it"
	}
	return out, node{}, ""
}

// alternatives are those of a VirtualService that are about a setting, in their order.
func (s setting) alternatives(v *virtual) (out []ordered, n node, problem string) {
	for ri, r := range v.rules {
		for mi, a := range r.matches {
			holds, problem := s.holds(v, a)
			if problem != "" {
				return nil, a.at, problem
			}
			if holds {
				out = append(out, ordered{asked: a, rule: r, ri: ri, mi: mi})
			}
		}
	}
	return out, node{}, ""
}

// holds reports whether an alternative is about a setting.
func (s setting) holds(v *virtual, a asked) (_ bool, problem string) {
	in := a.gateways
	if len(in) == 0 {
		in = v.gateways
	}
	if !slices.Contains(in, s.gateway) {
		return false, ""
	}
	if a.port != 0 && len(s.ports) > 1 {
		return false, "a rule is about one of several ports, and a route of intent is about all"
	}
	if s.own == nil && (a.from != nil || a.namespace != "") {
		return false, "a rule asks for a caller's labels or namespace, and visitors have none"
	}
	if s.own != nil && a.scheme != "" {
		return false, "a rule asks for the scheme, which is one for all callers in the mesh"
	}
	return a.port == 0 || slices.Contains(s.ports, a.port), ""
}

// route is one alternative as intent.
func (i *istio) route(c ordered, at setting) (_ *tree, problem string) {
	out, body := &tree{}, c.rule.rewritten(c.asked)
	if c.priority > 0 {
		out.add("priority", fmt.Sprint(c.priority))
	}
	if m := c.asked.tree(at.ns); m != nil {
		out.put("match", m)
	}
	if port, problem := c.rule.names(at); problem != "" {
		return nil, problem
	} else if port != 0 {
		to := body.child("redirect")
		to.add("port", fmt.Sprint(port))
		slices.SortStableFunc(to.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	}
	if len(c.rule.edge.fields) > 0 {
		if at.own != nil {
			return nil, "a rule has corsPolicy for callers in the mesh, where intent has `cors` at the service"
		}
		body.join(c.rule.edge.copied())
	}
	i.grpcRetries(c.rule, body)
	shares, sum := []*place{}, 0
	for _, p := range c.rule.to {
		if sum += p.weight; p.weight > 0 && !c.rule.answers {
			shares = append(shares, p)
		}
	}
	given := names{other: at.others}
	for _, p := range shares {
		part, ok := percent(p.weight, sum)
		if !ok {
			return nil, fmt.Sprintf("the weight %d of %d is no percentage with two decimals", p.weight, sum)
		}
		name, problem := i.destination(out, p, "to", at, &given)
		if problem != "" {
			return nil, problem
		}
		out.child("to").add(name, part)
	}
	for _, m := range c.rule.mirrors {
		name, problem := i.destination(out, m.place, "mirror", at, &given)
		if problem != "" {
			return nil, problem
		}
		t := &tree{}
		if m.percent != "100" {
			t.add("percent", m.percent)
		}
		if out.holds("mirror", name) {
			return nil, "copies go to one place twice, and intent sends one copy of a request to a place, or none"
		}
		out.child("mirror").put(name, t)
	}
	out.join(body)
	return out, ""
}

// grpcRetries adds the statuses of gRPC on which a request is sent again, where somebody speaks it.
func (i *istio) grpcRetries(r *steps, body *tree) {
	if len(r.grpc) == 0 {
		return
	}
	n := r.at.down("retries", "retryOn")
	speaks := slices.ContainsFunc(r.to, func(p *place) bool {
		return p.service != nil && slices.ContainsFunc(p.service.ports, func(x *port) bool {
			return x.protocol == "grpc" && (p.port == 0 || p.port == x.number)
		})
	})
	if told := n.at().String() + " grpc"; !i.told[told] {
		i.told[told] = true
		if speaks {
			n.note(diag.Warning, diag.CodeImportDefault, "sends calls of gRPC again that the callee may have begun: written with `idempotent: true`, which says that it may get them twice").fix("look whether it may")
		} else {
			n.note(diag.Warning, diag.CodeImportDefault, "has %s, which are about gRPC, and no destination says that it speaks it: left out", strings.Join(r.grpc, ", ")).fix("name the port grpc, or grpc-…, if it does")
		}
	}
	if t := body.child("retry"); speaks {
		if t.add("grpc", quoteList(r.grpc)); !t.has("idempotent") {
			t.add("idempotent", "true")
		}
	}
}

// destination is the name by which a route leads to a place, spelt out where a name alone does
// not say it.
func (i *istio) destination(out *tree, p *place, word string, at setting, given *names) (name, problem string) {
	if p.outside != nil {
		return i.outwards(out, p, at, given)
	}
	of := i.of[p.service]
	version := p.subset
	if version == "" && len(of.versions) == 1 {
		version = of.versions[0].name
	}
	if version == "" && len(of.versions) > 1 {
		return "", fmt.Sprintf("a rule leads to all workloads of %s, and others to its subsets: in intent each has a share of its own", p.service.o)
	}
	d := &tree{}
	own := at.own == of
	switch {
	case own && len(p.service.ports) > 1 && (len(at.ports) > 1 || p.port != at.ports[0]):
		return "", "a rule names one of several ports of its own Service, and intent keeps the one that is called"
	case own && p.edits.empty() && word == "to" && !out.holds(word, cmp.Or(version, "default")):
		return cmp.Or(version, "default"), ""
	case own && (len(of.versions) > 0 || word == "to"):
		d.add("version", quote(cmp.Or(version, "default")))
	}
	at.leads(p)
	switch {
	case !own:
		if name, problem = p.elsewhere(out, d, word, version, at); name != "" || problem != "" {
			return name, problem
		}
	case word == "mirror" && len(of.versions) == 0:
		return "", "a rule sends copies to the Service itself, all of whose workloads get the requests"
	}
	if !p.edits.empty() {
		d.join(p.edits.copied())
	}
	name = p.service.o.name_
	if version != "" {
		name += "-" + version
	}
	if word == "mirror" {
		name = "copy-" + name
	}
	name = given.give(name)
	out.child("destination").put(name, d)
	return name, ""
}

// elsewhere says in a destination that it is another Service; it is a name alone, if that says it.
func (p *place) elsewhere(out, d *tree, word, version string, at setting) (name, problem string) {
	if at.own != nil && p.service.o.ns != at.ns && word == "to" {
		return "", fmt.Sprintf("a rule leads to %s, which is another package's: that is not a route's to say", p.service.o)
	}
	ref := p.service.ref(at.ns)
	if p.edits.empty() && len(p.service.ports) == 1 && version == "" && at.own == nil && !out.holds(word, ref) {
		return ref, ""
	}
	d.add("service", quote(ref))
	if port := p.service.port(p.port); len(p.service.ports) > 1 && port != nil {
		d.add("port", quote(port.name))
	}
	if version != "" {
		d.add("version", quote(version))
	}
	return "", ""
}

func (t *tree) empty() bool { return t == nil || len(t.fields) == 0 }

// through tells why a gateway's route to a place would not do what Istio's does, where the
// Service has routes of its own: intent applies these as well.
func (i *istio) through(p *place) string {
	if p.service == nil {
		return ""
	}
	of := i.of[p.service]
	if of.routes == nil || of.plain {
		return ""
	}
	return fmt.Sprintf("it leads to %s, whose own routes (%s) intent applies to visitors' requests as well, and Istio does not", p.service.o, of.virtual[0].o)
}

// edge is a Gateway. In intent it lies where its proxies run, and has their account, so that who it
// is to others stays the same.
type edge struct {
	o        *object
	ns, name string
	account  string // "" for the name
	selector map[string]string
	servers  []*server
	hosts    []*edgeHost
	// neighbours are the names of the Services in its namespace.
	neighbours map[string]bool
	// accounts are those of its proxies, as "namespace/name", where the objects say them.
	accounts []string
	// workloads are its proxies, those that the objects say; conventional says that they are taken to
	// be those that Istio installs.
	workloads    []*workload
	conventional bool
	// why is set where something decides about its visitors that is not translated.
	why string
}

// server is one of its doors.
type server struct {
	at        node
	name      string
	port      int
	https     bool
	redirects bool
	hosts     [][2]string // namespaces of VirtualServices, hosts
	secret    string
	shows     string // the certificate's name in intent
	least     string
	bad       bool
}

// edgeHost is one host of a Gateway.
type edgeHost struct {
	edge    *edge
	name    string
	at      diag.Pos
	servers []*server
	virtual []*virtual
	out     *tree
	to      []*service
	dropped bool
}

func (h *edgeHost) shows(certificate string) bool {
	return slices.ContainsFunc(h.servers, func(s *server) bool { return s.secret != "" && s.shows == certificate })
}

func (i *istio) edge(o *object) {
	e := &edge{o: o, selector: map[string]string{}, neighbours: map[string]bool{}}
	spec := o.top().field("spec")
	for _, x := range spec.field("selector").entries() {
		e.selector[x.name] = x.text()
	}
	for _, n := range spec.field("servers").items() {
		before := len(i.findings)
		s := i.server(e, n)
		s.bad = slices.ContainsFunc(i.findings[before:], diag.Diagnostic.IsError)
		e.servers = append(e.servers, s)
	}
	for _, path := range o.rest() {
		for at, s := range e.servers {
			s.bad = s.bad || strings.HasPrefix(path, fmt.Sprintf("spec.servers[%d]", at)) || !strings.HasPrefix(path, "spec.servers")
		}
	}
	i.run(e)
	for _, s := range e.servers {
		s.shows = i.certificate(e.ns, s.secret)
	}
	var given names
	for _, s := range e.servers {
		if nameOf(s.name) == s.name && given.take(s.name) {
			continue
		}
		s.name = given.give(fmt.Sprintf("%s-%d", map[bool]string{false: "http", true: "https"}[s.https], s.port))
	}
	for at, s := range e.servers { // one of a number and a protocol is one port of intent
		for _, before := range e.servers[:at] {
			if before.port == s.port && before.https == s.https {
				s.name = before.name
				break
			}
		}
	}
	i.edges = append(i.edges, e)
}

// certificate is the name of a Secret's certificate.
func (i *istio) certificate(ns, secret string) string {
	if i.certificates[ns] == nil {
		i.certificates[ns] = map[string]string{}
	}
	if i.certificates[ns][secret] == "" && secret != "" {
		i.certificates[ns][secret] = i.giving("certificate", ns).give(secret)
	}
	return i.certificates[ns][secret]
}

// run says where a gateway's proxies run, and as whom.
func (i *istio) run(e *edge) {
	e.ns, e.name = e.o.ns, e.o.name_
	for _, w := range i.workloads {
		if len(e.selector) == 0 || !fits(e.selector, w.labels) {
			continue
		}
		e.workloads = append(e.workloads, w)
		if id := w.o.ns + "/" + w.account; !slices.Contains(e.accounts, id) {
			e.accounts = append(e.accounts, id)
		}
	}
	top := e.o.top()
	if e.selector["istio"] == "ingressgateway" && len(e.accounts) == 0 {
		e.conventional = true
		e.accounts = []string{istioRoot + "/istio-ingressgateway-service-account"}
		top.note(diag.Warning, diag.CodeImportDefault, "is run by proxies that are not among the objects: taken to be those that Istio installs, with the account %q", e.accounts[0]).fix("import their Deployment, if they are others")
	}
	switch len(e.accounts) {
	case 1:
		if e.ns, e.account, _ = strings.Cut(e.accounts[0], "/"); e.account == e.name {
			e.account = ""
		}
	case 0:
		e.accounts = []string{e.ns + "/" + e.name}
		top.note(diag.Warning, diag.CodeImportDefault, "is run by proxies that are not among the objects (%s): taken to be in its own namespace, with the account %q", selectorText(e.selector), e.name).fix("import their Deployment")
	default:
		e.why = "its proxies have several accounts: " + strings.Join(e.accounts, ", ")
	}
	if given := i.giving("gateway", e.ns); !given.take(e.name) {
		e.name = given.give(e.o.ns + "-" + e.name)
	}
	for _, o := range i.edges {
		if slices.ContainsFunc(o.accounts, func(id string) bool { return slices.Contains(e.accounts, id) }) {
			top.note(diag.Warning, diag.CodeImportDefault, "is run by the same proxies as %s, and in intent each gateway has its own", o.o).fix("write one gateway with the ports and hosts of both, if they are to stay one")
		}
	}
	for _, s := range i.services {
		if s.o.ns == e.ns {
			e.neighbours[s.o.name_] = true
		}
	}
}

// id is the gateway's name in intent, with its namespace.
func (e *edge) id() string { return e.ns + "/" + e.name }

func selectorText(m map[string]string) string {
	var out []string
	for _, key := range sortedKeys(m) {
		out = append(out, key+"="+m[key])
	}
	return cmp.Or(strings.Join(out, ","), "all")
}

func (i *istio) server(e *edge, n node) *server {
	p := n.field("port")
	s := &server{at: n, name: p.field("name").text()}
	n.field("name").skip()
	s.port, _ = p.field("number").number(1, 65535)
	if t := p.field("targetPort"); t.there() {
		t.skip()
		t.note(diag.Warning, diag.CodeImportLeft, "means nothing to Istio any more, and is not carried over: the proxies listen at the port itself").fix("take it out, and say in the proxies' Service where visitors come")
	}
	switch x := p.field("protocol"); strings.ToUpper(x.text()) {
	case "HTTP", "HTTP2":
	case "HTTPS":
		s.https = true
	default:
		x.refuse(diag.CodeImportValue, "is %q; only HTTP and HTTPS are translated", x.raw()).fix("write a port of the protocol \"tls\" or \"tcp\" at the gateway, with routes of its own")
	}
	for _, h := range n.field("hosts").items() {
		ns, name, both := strings.Cut(h.text(), "/")
		if !both {
			ns, name = "*", ns
		}
		if ns == "." {
			ns = e.o.ns
		}
		s.hosts = append(s.hosts, [2]string{ns, name})
	}
	tls := n.field("tls")
	r := tls.field("httpsRedirect")
	r.skip()
	if s.redirects = r.raw() == "true"; s.redirects && !s.https {
		r.note(diag.Warning, diag.CodeImportDefault, "answers 301, and intent 308, by which a POST stays one").fix("nothing, if visitors are browsers")
	}
	if s.https {
		i.serverTLS(s, tls)
	}
	return s
}

func (i *istio) serverTLS(s *server, tls node) {
	if m := tls.field("mode"); m.textOr("PASSTHROUGH") != "SIMPLE" {
		tls.lacks(diag.CodeImportValue, "has the mode %q, and SIMPLE is translated", m.raw()).fix("write `tls: client` on the hosts, if visitors show certificates; or a port of the protocol \"tls\", if TLS goes on as it is")
	}
	c := tls.field("credentialName")
	if s.secret = c.text(); s.secret == "" {
		tls.lacks(diag.CodeImportMissing, "names no Secret").fix("name one in credentialName")
	}
	switch v := tls.field("minProtocolVersion"); v.text() {
	case "", "TLS_AUTO", "TLSV1_2":
	case "TLSV1_3":
		s.least = "1.3"
	default:
		v.refuse(diag.CodeImportValue, "is older than 1.2").fix("write TLSV1_2")
	}
}

// edgeHosts joins VirtualServices and servers to hosts, and writes each.
func (i *istio) edgeHosts() {
	for _, e := range i.edges {
		all := map[string]*edgeHost{}
		for _, v := range i.virtual {
			if slices.Contains(v.gateways, e.o.id()) && !e.attach(v, all) {
				v.at.lacks(diag.CodeImportMissing, "are hosts of which %s takes none", e.o).fix("mend the hosts, or take the Gateway out of gateways")
			}
		}
		for _, name := range sortedKeys(all) {
			h := all[name]
			e.hosts = append(e.hosts, h)
			i.edgeHost(h)
		}
	}
}

// attach adds a VirtualService to the hosts that it is about; ok is false if there are none.
func (e *edge) attach(v *virtual, all map[string]*edgeHost) (ok bool) {
	for at, n := range v.at.items() {
		for _, s := range e.servers {
			for _, h := range s.hosts {
				name, both := meet(v.hosts[at], h[1])
				if !both || h[0] != "*" && h[0] != v.o.ns {
					continue
				}
				ok = true
				if all[name] == nil {
					all[name] = &edgeHost{edge: e, name: name, at: n.at()}
				}
				all[name].add(s, v)
			}
		}
	}
	return ok
}

func (h *edgeHost) add(s *server, v *virtual) {
	if !slices.Contains(h.servers, s) {
		h.servers = append(h.servers, s)
	}
	if !slices.Contains(h.virtual, v) {
		h.virtual = append(h.virtual, v)
	}
}

// dropEdgeHost tells that nothing of a host is written.
func (i *istio) dropEdgeHost(h *edgeHost, c diag.Code, at diag.Pos, why, way string) {
	h.dropped = true
	for _, v := range h.virtual {
		v.o.lost = true
	}
	i.findings = append(i.findings, diag.New(c, at, "host %q of Gateway %s is not written: %s", h.name, h.edge.o.id(), why).WithFix("%s", way))
}

// sound reports whether all that a host is made of is translated.
func (i *istio) sound(h *edgeHost) bool {
	for _, v := range h.virtual {
		if v.o.broken {
			i.dropEdgeHost(h, diag.CodeImportWhole, v.at.at(), "a part of "+v.o.String()+" is not translated, and its requests would go elsewhere", "mend what is told of the VirtualService, or write the host by hand")
			return false
		}
	}
	slices.SortStableFunc(h.virtual, func(a, b *virtual) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.o.id(), b.o.id()))
	})
	if len(h.virtual) > 1 && h.virtual[0].created.IsZero() {
		i.dropEdgeHost(h, diag.CodeImportOrder, h.virtual[1].at.at(), fmt.Sprintf("%s and %s are both about it, and the older one's rules come first, but their creationTimestamp is not written", h.virtual[0].o, h.virtual[1].o),
			"import them as the API server has them, or write one")
		return false
	}
	for _, s := range h.servers {
		if s.bad {
			i.dropEdgeHost(h, diag.CodeImportWhole, s.at.at(), "its server is not translated", "mend what is told of the server")
			return false
		}
	}
	if h.edge.why != "" {
		i.dropEdgeHost(h, diag.CodeImportWhole, h.at, h.edge.why, "write `deny` on the gateway by hand")
		return false
	}
	return true
}

func (i *istio) edgeHost(h *edgeHost) {
	if !i.sound(h) {
		return
	}
	h.out = &tree{}
	if strings.HasPrefix(h.name, "*") { // a rule asks who answers for all these names
		h.out.add("owner", quote(h.edge.ns))
	}
	served, ok := i.hostPorts(h)
	if !ok {
		return
	}
	h.out.add("timeout", `"none"`)
	h.out.add("idle", `"none"`)
	h.out.child("retry").add("attempts", "2")
	at := setting{ns: h.edge.ns, gateway: h.edge.o.id(), others: h.edge.neighbours, where: fmt.Sprintf("host %q", h.name), ports: served, schemes: h.schemes()}
	problem := ""
	var led []*place
	at.leads = func(p *place) {
		problem = cmp.Or(problem, i.through(p))
		led = append(led, p)
	}
	out, n, why := i.routes(h.virtual, at)
	if why = cmp.Or(why, problem); why != "" {
		where := h.at
		if n.key != nil {
			where = n.at()
		}
		i.dropEdgeHost(h, diag.CodeImportWhole, where, why, "mend the rule, or write the host by hand")
		return
	}
	for _, p := range led {
		if p.service != nil {
			h.to = append(h.to, p.service)
		}
	}
	h.out.put("route", out)
}

// schemes are those by which its routes are asked.
func (h *edgeHost) schemes() (out []string) {
	for _, s := range h.servers {
		scheme := map[bool]string{false: "http", true: "https"}[s.https]
		if (s.https || !s.redirects) && !slices.Contains(out, scheme) {
			out = append(out, scheme)
		}
	}
	return out
}

// hostPorts says by which ports visitors come, and which of them its routes are for.
func (i *istio) hostPorts(h *edgeHost) (served []int, ok bool) {
	var plain, secure []*server
	var names []string
	redirects := 0
	for _, s := range h.servers {
		names = append(names, s.name)
		if s.https {
			secure = append(secure, s)
			continue
		}
		if plain = append(plain, s); s.redirects {
			redirects++
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 1 || len(names) < len(h.edge.ports()) {
		h.out.add("ports", quoteList(names))
	}
	if !i.hostTLS(h, plain, secure, redirects) {
		return nil, false
	}
	for _, s := range h.servers {
		if (s.https || !s.redirects) && !slices.Contains(served, s.port) {
			served = append(served, s.port)
		}
	}
	return served, true
}

// hostTLS says how a host is reached by HTTPS, and what plain HTTP gets.
func (i *istio) hostTLS(h *edgeHost, plain, secure []*server, redirects int) bool {
	if len(secure) == 0 && redirects > 0 {
		i.dropEdgeHost(h, diag.CodeImportValue, plain[0].at.at(), "plain HTTP is led to HTTPS, where nothing of it is served", "write a server of HTTPS")
		return false
	}
	if len(secure) == 0 {
		return true
	}
	t := h.out.child("tls")
	t.add("certificates", quoteList([]string{secure[0].shows}))
	for _, s := range secure[1:] {
		if s.secret != secure[0].secret || s.least != secure[0].least {
			i.dropEdgeHost(h, diag.CodeImportWhole, s.at.at(), "its servers show different certificates", "name the same one")
			return false
		}
	}
	if secure[0].least != "" {
		t.add("min", quote(secure[0].least))
	}
	if redirects < len(plain) && (redirects > 0 || i.answer.Owner == "") {
		i.dropEdgeHost(h, diag.CodeImportAnswer, plain[0].at.at(), "it is served by plain HTTP beside HTTPS, which intent does for a time only, with somebody who answers for it", "write httpsRedirect, or give --owner, --reason and --until")
		return false
	}
	if len(plain) > 0 && redirects == 0 {
		t.add("http", `"serve"`)
		i.answered(t)
	}
	return true
}

// ports are the gateway's ports of intent, by their names.
func (e *edge) ports() map[string]*server {
	out := map[string]*server{}
	for _, s := range e.servers {
		if !s.bad {
			out[s.name] = s
		}
	}
	return out
}

// edgeTree writes a gateway with its hosts, if it has any.
func (i *istio) edgeTree(e *edge) {
	out, hosts, used := &tree{}, &tree{}, map[string]bool{}
	for _, h := range e.hosts {
		if h.dropped {
			continue
		}
		for _, s := range h.servers {
			used[s.name] = true
			if s.secret != "" && !i.page(e.ns).holds("certificate", s.shows) {
				c := &tree{}
				c.add("secret", quote(s.secret))
				i.page(e.ns).child("certificate").put(s.shows, c)
			}
		}
		n := h.virtual[0].at
		hosts.set(field{name: h.name, sub: h.out.copied(), at: &n})
	}
	if len(hosts.fields) == 0 {
		return
	}
	for _, name := range sortedKeys(e.ports()) {
		if !used[name] {
			continue
		}
		p := out.child("port").child(name)
		p.add("number", fmt.Sprint(e.ports()[name].port))
		if e.ports()[name].https {
			p.add("protocol", `"https"`)
		}
	}
	if e.account != "" {
		out.add("serviceAccount", quote(e.account))
	}
	out.put("host", hosts)
	n := e.o.top()
	i.page(e.ns).child("gateway").set(field{name: e.name, sub: out, at: &n})
}
