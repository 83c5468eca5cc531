package importer

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// outside is a ServiceEntry.
type outside struct {
	o       *object
	at      node
	name    string
	hosts   []string
	ports   []string
	numbers map[string]int // of ports
	out     *tree
	virtual []*virtual
	rule    *destinationRule
	dropped bool
}

// outsideNamed is the ServiceEntry of a host.
func (i *istio) outsideNamed(host string) *outside {
	for _, x := range i.outside {
		if slices.Contains(x.hosts, host) {
			return x
		}
	}
	return nil
}

// outsideRule has a DestinationRule say how requests to what lies outside are carried. One that
// begins TLS is about more than that.
func (i *istio) outsideRule(r *destinationRule, policy node) {
	x, why := r.outside, ""
	mode := policy.down("tls", "mode")
	ports := policy.field("portLevelSettings")
	switch {
	case len(x.hosts) > 1:
		why = "is about one of its hosts"
	case x.rule != nil:
		why = "is about it, and so is " + x.rule.o.String()
	case mode.there() && mode.raw() != "DISABLE":
		why = "begins TLS to it, which is not translated"
	case ports.there():
		why = "is about single ports of it, which is not translated"
	}
	if why != "" {
		i.dropOutside(x, r.o.top().at(), r.o.String()+" "+why, "write `external: "+label(x.name)+"` by hand: `protocol: \"https\"` of a port begins TLS")
		return
	}
	x.rule = r
	x.out.join(r.tuning.copied())
}

// dropOutside tells that nothing of what lies outside is written.
func (i *istio) dropOutside(x *outside, at diag.Pos, why, way string) {
	if !x.dropped {
		x.dropped, x.o.lost = true, true
		i.findings = append(i.findings, diag.New(diag.CodeImportWhole, at, "%s is not written: %s", x.o, why).WithFix("%s", way))
	}
}

func (i *istio) serviceEntry(o *object) {
	spec := o.top().field("spec")
	x := &outside{o: o, at: o.top(), name: nameOf(o.name_), numbers: map[string]int{}, out: &tree{}}
	i.outside = append(i.outside, x)
	if i.find(o.ns, x.name) != nil {
		x.name += "-external"
	}
	x.name = i.giving("external", o.ns).give(x.name)
	x.hosts = texts(spec.field("hosts"))
	exported(spec.field("exportTo"))
	if l := spec.field("location"); l.raw() == "MESH_INTERNAL" {
		l.refuse(diag.CodeImportValue, "is within the mesh").fix("write `endpoints` on a service")
	} else {
		l.skip()
	}
	for _, n := range spec.field("ports").items() {
		i.outsidePort(x, n)
	}
	x.out.add("hosts", quoteList(x.hosts))
	i.outsideEndpoints(x, spec)
	if a := spec.field("addresses"); a.there() {
		var ranges []string
		for _, n := range a.items() {
			r, ok := ipRange(n.text())
			if !ok {
				n.lacks(diag.CodeImportValue, "is no address").fix("write one, or a range")
			}
			ranges = append(ranges, r)
		}
		x.out.add("addresses", quoteList(ranges))
	}
	o.top().note(diag.Warning, diag.CodeImportAccess, "is open to everybody in the mesh: written are all namespaces that there are; who calls it no object says, but for a Sidecar").
		fix("write `calls` on each caller, and who may in place of all")
	if o.rest(); o.broken {
		x.dropped = true
	}
}

func (i *istio) outsidePort(x *outside, n node) {
	number, ok := n.field("number").number(1, 65535)
	if !ok {
		return
	}
	words := map[string]string{"HTTP": "http", "HTTP2": "http2", "GRPC": "grpc", "HTTPS": "tls", "TLS": "tls", "TCP": "tcp", "MONGO": "tcp"}
	p := n.field("protocol")
	word := words[strings.ToUpper(p.textOr("TCP"))]
	if word == "" {
		p.refuse(diag.CodeImportValue, "is %q, for which there is no word", p.raw()).fix("write a port of bytes: TCP")
		return
	}
	if t, ok := n.field("targetPort").number(1, 65535); ok && t != number {
		n.field("targetPort").lacks(diag.CodeImportValue, "is another port than callers ask for").fix("write the external by hand: `protocol: \"https\"` begins TLS for callers of port 80")
	}
	name := nameOf(n.field("name").text())
	x.numbers[name] = number
	x.ports = append(x.ports, name)
	t := &tree{}
	t.add("number", fmt.Sprint(number))
	t.add("protocol", quote(word))
	x.out.child("port").put(name, t)
}

func (i *istio) outsideEndpoints(x *outside, spec node) {
	numbers := x.numbers
	var addresses []string
	for _, e := range spec.field("endpoints").items() {
		address := e.field("address").text()
		ports := map[string]int{}
		for _, p := range e.field("ports").entries() {
			ports[p.name], _ = p.number(1, 65535)
		}
		for _, name := range sortedKeys(numbers) {
			number := numbers[name]
			if to := ports[name]; to != 0 {
				number = to
			}
			if strings.Contains(address, ":") {
				address = "[" + address + "]"
			}
			addresses = append(addresses, fmt.Sprintf("%s:%d", address, number))
		}
	}
	resolution := spec.field("resolution")
	switch kind := resolution.textOr("NONE"); {
	case len(addresses) > 0 && len(numbers) > 1:
		spec.field("endpoints").lacks(diag.CodeImportValue, "are of several ports").fix("write a ServiceEntry for each port")
	case kind == "STATIC" && len(addresses) > 0:
		x.out.child("endpoints").add("static", quoteList(addresses))
	case strings.HasPrefix(kind, "DNS") && len(addresses) == 1:
		x.out.child("endpoints").add("dns", quote(addresses[0]))
	case strings.HasPrefix(kind, "DNS") && len(addresses) == 0 && len(x.hosts) == 1:
	case kind == "DYNAMIC_DNS" && len(addresses) == 0:
		x.out.child("endpoints").child("dynamic")
	default:
		spec.lacks(diag.CodeImportValue, "has the resolution %s with %s and %s, which intent cannot say", kind, count(len(x.hosts), "host"), count(len(addresses), "endpoint")).
			fix("write the external by hand: `endpoints: dynamic: {}` looks each name up")
	}
}

// ipRange is an address or a range of them, with zeros behind the prefix.
func ipRange(text string) (string, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String(), a.Zone() == ""
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked().String(), err == nil
}

// outsideRoutes tells of rules about what lies outside.
func (i *istio) outsideRoutes(x *outside) {
	for _, v := range x.virtual {
		v.o.broken = true
		i.dropOutside(x, v.at.at(), v.o.String()+" is about its requests, which is not translated", "write `external: "+label(x.name)+": route` by hand")
	}
}

// outwards is a gateway's destination outside.
func (i *istio) outwards(out *tree, p *place, at setting, given *names) (name, problem string) {
	if at.own != nil {
		return "", "a rule leads out of the mesh, which a service's routes do not"
	}
	if p.outside.dropped {
		return "", "a rule leads to " + p.outside.o.String() + ", which is not written"
	}
	name = p.outside.name
	if p.outside.o.ns != at.ns {
		name = p.outside.o.ns + "/" + name
	}
	if p.edits.empty() && len(p.outside.ports) == 1 {
		return name, ""
	}
	d := &tree{}
	d.add("service", quote(name))
	for _, n := range p.outside.ports {
		if p.outside.numbers[n] == p.port && len(p.outside.ports) > 1 {
			d.add("port", quote(n))
		}
	}
	if !p.edits.empty() {
		d.join(p.edits.copied())
	}
	name = given.give(p.outside.name)
	out.child("destination").put(name, d)
	return name, ""
}

// issuers is a RequestAuthentication.
type issuers struct {
	aim
	names   []string // of providers
	issuer  []string
	trees   []*tree
	dropped string // why
}

func (i *istio) requestAuthentication(o *object) {
	spec := o.top().field("spec")
	p := &issuers{aim: aimed(o, spec.field("selector"))}
	i.issuers = append(i.issuers, p)
	rules := spec.field("jwtRules").items()
	for at, n := range rules {
		name := o.name_
		if len(rules) > 1 {
			name += fmt.Sprintf("-%d", at+1)
		}
		issuer := n.field("issuer").text()
		p.names, p.issuer = append(p.names, i.giving("jwt", o.ns).give(name)), append(p.issuer, issuer)
		p.trees = append(p.trees, i.jwtRule(n, issuer))
	}
	if o.rest(); o.broken {
		p.dropped = "a part of " + o.String() + " is not translated, and it decides whose tokens count"
	}
}

func (i *istio) jwtRule(n node, issuer string) *tree {
	out := &tree{}
	out.add("issuer", quote(issuer))
	if a := texts(n.field("audiences")); len(a) > 0 {
		out.add("audiences", quoteList(a))
	}
	if k := n.field("jwks"); k.there() {
		out.child("keys").add("inline", quote(k.text()))
	} else {
		keysURL(n.field("jwksUri"))
	}
	from := &tree{}
	for _, h := range n.field("fromHeaders").items() {
		from.child("headers").add(strings.ToLower(h.field("name").text()), quote(h.field("prefix").text()))
	}
	if q := texts(n.field("fromParams")); len(q) > 0 {
		from.add("query", quoteList(q))
	}
	if c := texts(n.field("fromCookies")); len(c) > 0 {
		from.add("cookies", quoteList(c))
	}
	if len(from.fields) > 0 {
		out.put("from", from)
	} else {
		n.note(diag.Warning, diag.CodeImportDefault, "names no place, where Istio looks into Authorization and into the parameter access_token: written is the first").fix("write `from: query: [\"access_token\"]`, if tokens come so")
	}
	f := n.field("forwardOriginalToken")
	if f.skip(); f.raw() == "true" {
		out.add("forward", "true")
	}
	for _, c := range n.field("outputClaimToHeaders").items() {
		out.child("claims").add(strings.ToLower(c.field("header").text()), quote(c.field("claim").text()))
	}
	if x := n.field("outputPayloadToHeader"); x.there() {
		x.lacks(diag.CodeImportValue, "hands on all that the token says").fix("name the claims in outputClaimToHeaders")
	}
	if x := n.field("timeout"); x.there() {
		x.partly("bounds the fetching of keys").fix("take it out: nobody waits for keys longer than 3 s")
	}
	return out
}

// keysURL tells where keys are fetched.
func keysURL(n node) {
	if !n.there() {
		n.lacks(diag.CodeImportMissing, "has no keys, which Istio then looks for at the issuer").fix("write jwks or jwksUri")
		return
	}
	u, err := url.Parse(n.text())
	if err != nil || u.Scheme != "https" || u.Path == "" || u.RawQuery != "" {
		n.lacks(diag.CodeImportValue, "is no https URL with a path alone").fix("write one, or jwks")
		return
	}
	n.lacks(diag.CodeImportMissing, "is fetched by Istio's control plane from %s, and in intent by proxies from an external", u.Hostname()).
		fix("write `external: idp: {hosts: [%q], port: https: number: 443}` and `keys: url: {to: \"idp\", path: %q}`; or write the keys in jwks", u.Hostname(), u.Path)
}

// signIn has Services look at tokens.
func (i *istio) signIn() {
	for _, p := range i.issuers {
		for _, s := range i.services {
			all, none := i.meets(p.aim, s)
			switch {
			case none:
			case !all:
				i.dropService(s, p.o.top().at(), p.o.String()+" is about some of its workloads, or about which ones the objects do not say", "select all workloads of the Service, or import them")
			case p.dropped != "":
				i.dropService(s, p.o.top().at(), p.dropped, "mend what is told of it, or write `jwt` and `users` by hand")
			default:
				of := i.of[s]
				if of.users == nil {
					of.users = &tree{}
				}
				for _, name := range p.names {
					of.users.child(i.providerRef(p, name, s))
				}
			}
		}
		for _, e := range i.edges {
			if i.meetsEdge(p.aim, e) {
				i.refuseEdge(p.aim, e)
			}
		}
	}
	i.providers()
}

// providers drops Services of which a rule asks for end users of whom nobody knows who signs them in.
func (i *istio) providers() {
	for _, s := range i.services {
		of := i.of[s]
		for _, r := range slices.Concat(of.access.grants, of.access.denies) {
			lacks := r.user != nil && i.providerOf(of, r.issuer) == "" || r.userNot != nil && i.providerOf(of, r.issuerNot) == ""
			if lacks && !s.dropped {
				i.dropService(s, r.at.at(), "a rule asks for end users, and there is not one RequestAuthentication of its issuer", "import one, or write `users` by hand")
			}
		}
	}
}

func (i *istio) providerRef(p *issuers, name string, s *service) string {
	if p.o.ns == s.o.ns {
		return name
	}
	return p.o.ns + "/" + name
}

// providerOf is the provider of a Service's tokens by an issuer, or by the only one; "" if there
// is none, or several.
func (i *istio) providerOf(s *serving, issuer string) string {
	var out []string
	for _, p := range i.issuers {
		for at, name := range p.names {
			ref := i.providerRef(p, name, s.service)
			if s.users != nil && s.users.has(ref) && (issuer == "" || issuer == p.issuer[at]) {
				out = append(out, ref)
			}
		}
	}
	if len(out) != 1 {
		return ""
	}
	return out[0]
}

func (i *istio) issuerTrees(p *issuers) {
	if p.dropped != "" {
		return
	}
	used := false
	for _, s := range i.services {
		all, _ := i.meets(p.aim, s)
		used = used || all && !s.dropped
	}
	for at, name := range p.names {
		if n := p.o.top(); used {
			i.page(p.o.ns).child("jwt").set(field{name: name, sub: p.trees[at].copied(), at: &n})
		}
	}
}

// dropIssuer drops a provider with the Services that look for its tokens.
func (i *istio) dropIssuer(p *issuers, name, why, way string) {
	if !slices.Contains(p.names, name) || p.dropped != "" {
		return
	}
	p.dropped, p.o.broken = why, true
	for _, s := range i.services {
		if all, _ := i.meets(p.aim, s); all {
			i.dropService(s, p.o.top().at(), p.o.String()+" is not written: "+why, way)
		}
	}
}
