package importer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// route is an HTTPRoute.
type route struct {
	o       *object
	parents []parent
	hosts   []string // nil: those of the listener
	rules   []*rule
	created time.Time // zero where it is not written
}

// parent is where it wants to be attached.
type parent struct {
	gateway *gateway
	section string
	port    int
	at      node
}

// rule is one of its rules: alternatives, and what becomes of what one of them takes.
type rule struct {
	at       node
	name     string
	matches  []match
	backends []*backend
	mirrors  []mirrored
	// body is the route of intent without match and to.
	body *tree
	// answers says that the proxy answers by a redirect.
	answers bool
	// movesPrefix says that the path of the match has to be written.
	movesPrefix bool
	// redirect is set where it is one to a scheme, and nothing else.
	redirect *redirect
}

type mirrored struct {
	backend *backend
	percent string // "" for all
}

// redirect is what matters of one that leads plain HTTP to HTTPS.
type redirect struct {
	toHTTPS bool
	port    int // 0 where none is written
	code    int
	at      node
}

func (r *route) backends() []*backend {
	var out []*backend
	for _, rule := range r.rules {
		out = append(out, rule.backends...)
		for _, m := range rule.mirrors {
			out = append(out, m.backend)
		}
	}
	return out
}

// unreadRoute is of a kind that is not translated. Hosts that it is about must not be without
// it.
func (w *world) unreadRoute(o *object) {
	r := w.attached(o)
	for _, n := range o.top().down("spec", "rules").items() {
		r.rules = append(r.rules, &rule{at: n})
	}
	o.skip(o.root)
	o.broken = true
}

// attached reads where a route is.
func (w *world) attached(o *object) *route {
	r := &route{o: o}
	w.routes = append(w.routes, r)
	if at := o.top().down("metadata", "creationTimestamp"); at.there() {
		r.created, _ = time.Parse(time.RFC3339, at.raw())
	}
	spec := o.top().field("spec")
	for _, p := range spec.field("parentRefs").items() {
		w.parent(r, p)
		r.o.broken, r.o.lost = false, r.o.lost || r.o.broken // another place where it is stays whole
	}
	for _, h := range spec.field("hostnames").items() {
		r.hosts = append(r.hosts, h.text())
	}
	return r
}

func (w *world) route(o *object) {
	r, spec, silent := w.attached(o), o.top().field("spec"), 0
	rules := spec.field("rules").items()
	if len(rules) == 0 {
		spec.lacks(diag.CodeImportMissing, "has no rules").fix("write rules")
	}
	for _, n := range rules {
		rule := w.rule(r, n)
		r.rules = append(r.rules, rule)
		if !rule.answers && !n.field("timeouts").field("request").there() {
			silent++
		}
	}
	if silent > 0 {
		spec.note(diag.Note, diag.CodeImportLeft, "leaves the timeout of %s to the implementation: written as `timeout: \"none\"`", count(silent, "rule")).
			fix("write the timeout that your implementation has")
	}
}

func (w *world) parent(r *route, n node) {
	group, kind := n.field("group").textOr(gatewayGroup), n.field("kind").textOr("Gateway")
	if group == "" && kind == "Service" {
		n.refuse(diag.CodeImportValue, "is a Service: routes for callers inside the mesh are not translated").fix("write them as `service: %s: route`", label(n.field("name").text()))
		return
	}
	if group != gatewayGroup || kind != "Gateway" {
		n.refuse(diag.CodeImportValue, "is no Gateway").fix("write its routes by hand")
		return
	}
	p := parent{at: n, section: n.field("sectionName").text()}
	p.port, _ = n.field("port").number(1, 65535)
	ns, name := n.field("namespace").textOr(r.o.ns), n.field("name").text()
	for _, g := range w.gateways {
		if g.o.ns == ns && g.o.name_ == name {
			p.gateway = g
			r.parents = append(r.parents, p)
			return
		}
	}
	n.lacks(diag.CodeImportMissing, "is Gateway %s/%s, which is not among the objects", ns, name).fix("import it together with its routes")
}

func (w *world) rule(r *route, n node) *rule {
	out := &rule{at: n, name: n.field("name").text(), body: &tree{}}
	for _, m := range n.field("matches").items() {
		out.matches = append(out.matches, readMatch(m))
	}
	if len(out.matches) == 0 {
		out.matches = []match{{}}
	}
	w.filters(r, out, n.field("filters"))
	refs := n.field("backendRefs").items()
	for _, b := range refs {
		if x := w.backend(r, b); x != nil {
			x.edits = backendFilters(b.field("filters"))
			out.backends = append(out.backends, x)
		}
	}
	sum := 0
	for _, b := range out.backends {
		sum += b.weight
	}
	if !out.answers && sum == 0 && len(out.backends) == len(refs) {
		n.lacks(diag.CodeImportMissing, "sends requests nowhere, which is answered with 500").fix("write backendRefs, one with a weight")
	}
	if t := n.field("timeouts"); !out.answers {
		out.body.add("timeout", quote(requestTimeout(t.field("request"))))
		if b := t.field("backendRequest"); b.there() {
			b.refuse(diag.CodeImportValue, "bounds each try, of which nothing says how many there are").fix("write `retry: {attempts: N, perTry: %q, …}` on the route", b.raw())
		}
	}
	return out
}

// backend is a Service's port, nil with a finding where it is none.
func (w *world) backend(r *route, n node) *backend {
	b := &backend{weight: 1, at: n}
	if weight := n.field("weight"); weight.there() {
		b.weight, _ = weight.number(0, 1_000_000)
	}
	if n.field("group").text() != "" || n.field("kind").textOr("Service") != "Service" {
		n.refuse(diag.CodeImportValue, "is no Service").fix("write an `external` for what lies outside of the cluster, and lead the route there")
		return nil
	}
	ns, name := n.field("namespace").textOr(r.o.ns), n.field("name").text()
	number, _ := n.field("port").number(1, 65535)
	switch s := w.find(ns, name); {
	case s == nil:
		n.lacks(diag.CodeImportMissing, "is Service %s/%s, which is not among the objects", ns, name).fix("import it together with its routes")
		return nil
	case !w.mayRefer(r.o.ns, ns, name):
		n.lacks(diag.CodeImportMissing, "is a Service of %q, where no ReferenceGrant lets HTTPRoutes of %q name it: such requests are answered with 500", ns, r.o.ns).fix("import the ReferenceGrant, or take the backend out")
		return nil
	default:
		b.service, b.port = s, s.port(number)
	}
	if b.port == nil {
		n.lacks(diag.CodeImportMissing, "is port %d of Service %s/%s, which has none of that number", number, ns, name).fix("name a port that it has")
		return nil
	}
	return b
}

var durationForm = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// requestTimeout is meshc's word for how long an answer may take.
func requestTimeout(n node) string {
	if !n.there() {
		return "none"
	}
	text := n.text()
	d, err := time.ParseDuration(text)
	if !durationForm.MatchString(text) || err != nil {
		n.refuse(diag.CodeImportValue, "is no duration of Gateway API").fix("write one such as 10s, or 0s for none")
		return "none"
	}
	if d == 0 {
		return "none"
	}
	return text
}

// filters are what a rule does to requests and answers.
func (w *world) filters(r *route, out *rule, list node) {
	for _, n := range once(list) {
		switch kind := n.field("type"); kind.text() {
		case "RequestHeaderModifier":
			edits(out.body, "requestHeaders", n.field("requestHeaderModifier"))
		case "ResponseHeaderModifier":
			edits(out.body, "responseHeaders", n.field("responseHeaderModifier"))
		case "RequestRedirect":
			out.answers = true
			w.redirect(out, n.field("requestRedirect"))
		case "URLRewrite":
			u := n.field("urlRewrite")
			if h := u.field("hostname"); h.there() {
				out.body.child("rewrite").add("host", quote(h.text()))
			}
			newPath(out, out.body, "rewrite", u.field("path"))
		case "RequestMirror":
			w.mirror(r, out, n.field("requestMirror"))
		default:
			n.refuse(diag.CodeImportField, "is a filter of the type %q, which is not translated", kind.raw()).fix("%s", filterWay(kind.raw()))
		}
	}
}

// once are the filters of a list; one of a type that is there already is refused, but for
// those that Gateway API lets be repeated.
func once(list node) (out []node) {
	seen := map[string]bool{}
	for _, n := range list.items() {
		kind := n.field("type").text()
		if seen[kind] && kind != "RequestMirror" && kind != "ExtensionRef" {
			n.refuse(diag.CodeImportValue, "is a second filter of the type %q, and a rule has one", kind).fix("write one that does all")
			continue
		}
		seen[kind] = true
		out = append(out, n)
	}
	return out
}

func filterWay(kind string) string {
	switch kind {
	case "CORS":
		return "write `cors` on the host or the route"
	case "ExternalAuth":
		return "write an `authorizer`, and `authorize` on the host or the route"
	}
	return "say what it does by words of intent"
}

// edits are those of headers.
func edits(body *tree, word string, n node) {
	for _, how := range []string{"set", "add"} {
		for _, h := range n.field(how).items() {
			name := strings.ToLower(h.field("name").text())
			t := body.child(word).child(how)
			if t.has(name) {
				h.lacks(diag.CodeImportValue, "names %q a second time", name).fix("leave one of them")
				continue
			}
			t.add(name, quote(h.field("value").text()))
		}
	}
	var names []string
	for _, h := range n.field("remove").items() {
		names = append(names, strings.ToLower(h.text()))
	}
	if len(names) > 0 {
		body.child(word).add("remove", quoteList(names))
	}
}

// backendFilters are those of one backend, nil if there are none.
func backendFilters(list node) *tree {
	out := &tree{}
	for _, n := range once(list) {
		switch kind := n.field("type"); kind.text() {
		case "RequestHeaderModifier":
			edits(out, "requestHeaders", n.field("requestHeaderModifier"))
		case "ResponseHeaderModifier":
			edits(out, "responseHeaders", n.field("responseHeaderModifier"))
		default:
			n.refuse(diag.CodeImportField, "is a filter of the type %q on one backend, which is not translated", kind.raw()).fix("say it of the whole route, or of a route of its own")
		}
	}
	if len(out.fields) == 0 {
		return nil
	}
	return out
}

// all reports whether something holds for each alternative of a rule.
func (r *rule) all(holds func(match) bool) bool {
	return !slices.ContainsFunc(r.matches, func(m match) bool { return !holds(m) })
}

// newPath is a path that takes the place of the request's. What takes its own place, intent does
// not say.
func newPath(out *rule, body *tree, word string, n node) {
	if !n.there() {
		return
	}
	switch kind := n.field("type"); kind.text() {
	case "ReplaceFullPath":
		if to := n.field("replaceFullPath").text(); !out.all(func(m match) bool { return m.exact == to }) {
			body.child(word).add("path", quote(to))
		}
	case "ReplacePrefixMatch":
		to := n.field("replacePrefixMatch").text()
		if to != "/" {
			to = strings.TrimSuffix(to, "/")
		}
		if to == "" {
			to = "/"
		}
		if out.all(func(m match) bool { return m.exact == "" && cmp.Or(m.prefix, "/") == to }) {
			return
		}
		body.child(word).add("prefix", quote(to))
		out.movesPrefix = true
		if slices.ContainsFunc(out.matches, func(m match) bool { return m.exact != "" }) {
			n.lacks(diag.CodeImportValue, "replaces a prefix, and a match of the rule has none").fix("match by PathPrefix, or replace the full path")
		}
	default:
		n.refuse(diag.CodeImportValue, "is of the type %q, which Gateway API does not have", kind.raw()).fix("write ReplaceFullPath or ReplacePrefixMatch")
	}
}

// redirect is the proxy's own answer. The port that it names depends on the listener where none
// is written (hosts settles it).
func (w *world) redirect(out *rule, n node) {
	to := out.body.child("redirect")
	code := 302
	if c := n.field("statusCode"); c.there() {
		code, _ = c.number(301, 308)
	}
	if code != 301 {
		to.add("code", fmt.Sprint(code))
	}
	scheme := n.field("scheme").text()
	if scheme != "" {
		to.add("scheme", quote(scheme))
	}
	host := n.field("hostname")
	if host.there() {
		to.add("host", quote(host.text()))
	}
	newPath(out, out.body, "redirect", n.field("path"))
	port, _ := n.field("port").number(1, 65535)
	out.redirect = &redirect{code: code, port: port, at: n, toHTTPS: scheme == "https" && !host.there() && !n.field("path").there()}
}

// wellKnown is a scheme's own port.
func wellKnown(scheme string) int { return map[string]int{"http": 80, "https": 443}[scheme] }

// leads completes a redirect of a host at its listeners; ok is false if it names another port at each of them.
// Gateway API leaves out a port that is its scheme's own. What meshc does not name is what the visitor wrote behind the
// host, which is the listener's port: that is left out only if it is its scheme's own. Else the redirect names the host,
// or the port where the host is a wildcard, which says the same.
func (r *rule) leads(to *tree, host string, listeners []*listener) (ok bool) {
	named, exact := to.has("host"), !strings.HasPrefix(host, "*")
	port, own := r.portOf(to, listeners[0], named)
	same := true
	for _, l := range listeners[1:] {
		other, _ := r.portOf(to, l, named)
		same = same && other == port
	}
	switch {
	case !named && exact && (own || !same):
		to.add("host", quote(host))
		return r.leads(to, host, listeners)
	case port != 0 && same:
		to.add("port", fmt.Sprint(port))
	}
	return same
}

// portOf is the port that a redirect from a listener names, 0 where it names none; own says that it is the scheme's.
func (r *rule) portOf(to *tree, l *listener, named bool) (port int, own bool) {
	from := map[bool]string{false: "http", true: "https"}[l.https]
	scheme, port := from, l.port
	if s, ok := to.text("scheme"); ok {
		scheme, port = s, wellKnown(s)
	}
	if r.redirect.port != 0 {
		port = r.redirect.port
	}
	if own = port == wellKnown(scheme); own && (named || l.port == wellKnown(from)) {
		return 0, false
	}
	return port, own
}

func (w *world) mirror(r *route, out *rule, n node) {
	b := w.backend(r, n.field("backendRef"))
	m := mirrored{backend: b}
	if p := n.field("percent"); p.there() {
		percent, _ := p.number(0, 100)
		m.percent = fmt.Sprint(percent)
	}
	if f := n.field("fraction"); f.there() {
		of := 100
		if d := f.field("denominator"); d.there() {
			of, _ = d.number(1, 1<<31-1)
		}
		part, _ := f.field("numerator").number(0, 1<<31-1)
		var ok bool
		if m.percent, ok = percent(part, of); !ok {
			f.lacks(diag.CodeImportValue, "is %d of %d, which is no percentage with two decimals", part, of).fix("write a part that is one")
		}
	}
	if b == nil || m.percent == "0" {
		return
	}
	if slices.ContainsFunc(out.mirrors, func(o mirrored) bool { return o.backend.service == b.service && o.backend.port == b.port }) {
		n.lacks(diag.CodeImportValue, "sends copies to %s, port %d, a second time, and intent sends one copy of a request to a place, or none", b.service.o, b.port.number).
			fix("write one share, if one copy is enough; else a second Service of the same pods")
		return
	}
	out.mirrors = append(out.mirrors, m)
}

// percent is a share in percent, if two decimals hold it.
func percent(part, of int) (string, bool) {
	if of <= 0 || part > of || part*10_000%of != 0 {
		return "0", false
	}
	hundredths := part * 10_000 / of
	text := fmt.Sprintf("%d.%02d", hundredths/100, hundredths%100)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), "."), true
}
