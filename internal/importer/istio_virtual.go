package importer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// virtual is a VirtualService.
type virtual struct {
	o        *object
	hosts    []string
	at       node // of hosts
	gateways []string
	rules    []*steps
	created  time.Time
}

// inMesh is the name of all sidecars, beside those of gateways.
const inMesh = "mesh"

// steps are what becomes of requests that one rule takes.
type steps struct {
	at      node
	name    string
	matches []asked
	to      []*place
	mirrors []copies
	// body is the route of intent without match, to, rewrite and what only gateways have.
	body *tree
	// edge are words that a gateway's route has, and a service's has not.
	edge *tree
	// answers says that the proxy answers by itself.
	answers bool
	// grpc are statuses of gRPC on which a request is sent again.
	grpc []string
	// path is the new path, or what stands for the prefix that the rule matches.
	path     *string
	rewrites node
	// port is the one that a redirect names, 0 if none, and scheme its scheme, "" for the request's; derived says that
	// it names the port by which the request came.
	port    int
	scheme  string
	derived bool
}

// place is a destination.
type place struct {
	service *service
	outside *outside
	subset  string
	port    int
	weight  int
	edits   *tree
	at      node
}

type copies struct {
	*place
	percent string
}

func (r *steps) all() []*place {
	out := slices.Clone(r.to)
	for _, m := range r.mirrors {
		out = append(out, m.place)
	}
	return out
}

// created is when the API server got an object, zero where that is not written.
func created(o *object) time.Time {
	at, _ := time.Parse(time.RFC3339, o.top().down("metadata", "creationTimestamp").raw())
	return at
}

// gatewayID is a gateway's name with its namespace.
func (v *virtual) gatewayID(name string) string {
	if name == inMesh || strings.Contains(name, "/") {
		return name
	}
	return v.o.ns + "/" + name
}

func (i *istio) virtualService(o *object) {
	spec := o.top().field("spec")
	v := &virtual{o: o, at: spec.field("hosts"), created: created(o)}
	i.virtual = append(i.virtual, v)
	exported(spec.field("exportTo"))
	for _, h := range v.at.items() {
		v.hosts = append(v.hosts, h.text())
	}
	for _, g := range spec.field("gateways").items() {
		id := v.gatewayID(g.text())
		v.gateways = append(v.gateways, id)
		if id != inMesh && !slices.ContainsFunc(i.edges, func(e *edge) bool { return e.o.id() == id }) {
			g.lacks(diag.CodeImportMissing, "is Gateway %s, which is not among the objects", id).fix("import it together with its routes")
		}
	}
	if len(v.gateways) == 0 {
		v.gateways = []string{inMesh}
	}
	for _, kind := range []string{"tcp", "tls"} {
		if x := spec.field(kind); x.there() {
			x.refuse(diag.CodeImportField, "leads connections, which is not translated").fix("write a port of the protocol %q at the gateway, with routes of its own; inside, connections go to all versions of a service", kind)
		}
	}
	http := spec.field("http").items()
	if len(http) == 0 {
		spec.lacks(diag.CodeImportMissing, "has no rules of http").fix("write them")
	}
	for _, n := range http {
		v.rules = append(v.rules, i.steps(v, n))
	}
	i.defaults(v)
}

// defaults tells what Istio does by itself on routes that say nothing.
func (i *istio) defaults(v *virtual) {
	silent := 0
	for _, r := range v.rules {
		if !r.answers && !r.body.has("retry") {
			silent++
		}
	}
	if silent > 0 {
		v.o.top().field("spec").note(diag.Warning, diag.CodeImportDefault, "leaves retries of %s to Istio, which are two, also where the callee may have begun (503, and unavailable or cancelled of gRPC): written are two where it cannot have", count(silent, "rule")).
			fix("write `retry: {attempts: 2, statuses: [503], idempotent: true}` on services that may get a request twice")
	}
}

func (i *istio) steps(v *virtual, n node) *steps {
	out := &steps{at: n, name: n.field("name").text(), body: &tree{}, edge: &tree{}}
	for _, m := range n.field("match").items() {
		out.matches = append(out.matches, i.asked(v, m))
	}
	if len(out.matches) == 0 {
		out.matches = []asked{{at: n}}
	}
	if d := n.field("delegate"); d.there() {
		d.refuse(diag.CodeImportField, "leaves the rule to another VirtualService").fix("write its rules here; or in intent `delegate` and `attach`")
	}
	redirects(out, n.field("redirect"))
	responds(out, n.field("directResponse"))
	sum := 0
	routes := n.field("route").items()
	for _, r := range routes {
		p := i.place(v, r.field("destination"))
		if p == nil {
			continue
		}
		if p.weight = 0; len(routes) == 1 {
			p.weight = 1
		}
		if w, ok := r.field("weight").number(0, 1<<31-1); ok && (w > 0 || len(routes) > 1) {
			p.weight = w
		}
		p.edits = &tree{}
		headers(p.edits, r.field("headers"))
		sum += p.weight
		out.to = append(out.to, p)
	}
	if !out.answers && sum == 0 && len(out.to) == len(routes) {
		n.lacks(diag.CodeImportMissing, "sends requests nowhere").fix("write a route with a weight")
	}
	headers(out.body, n.field("headers"))
	rewrites(out, n.field("rewrite"))
	i.bounds(out, n)
	i.faults(out, n.field("fault"))
	i.copies(v, out, n)
	crossOrigin(out, n.field("corsPolicy"))
	return out
}

// place is a destination, nil with a finding where it is none of the objects.
func (i *istio) place(v *virtual, n node) *place {
	host := n.field("host")
	p := &place{at: n, subset: n.field("subset").text()}
	p.port, _ = n.down("port", "number").number(1, 65535)
	if p.service = i.named(host.text(), v.o.ns); p.service == nil {
		if p.outside = i.outsideNamed(host.text()); p.outside != nil && p.subset == "" {
			return p
		}
		n.lacks(diag.CodeImportMissing, "is host %q, which is no Service or ServiceEntry among the objects", host.raw()).fix("import it together with its routes; of a Service in another namespace write the full name")
		return nil
	}
	if p.port != 0 && p.service.port(p.port) == nil && !p.service.dropped {
		n.lacks(diag.CodeImportMissing, "is port %d of %s, which has none of that number", p.port, p.service.o).fix("name a port that it has")
	}
	if len(p.service.ports) > 1 && p.port == 0 {
		n.lacks(diag.CodeImportValue, "names no port, and %s has several: the request keeps the one by which it came", p.service.o).fix("name the port")
	}
	rule := i.of[p.service].rule
	if p.subset != "" && (rule == nil || !slices.ContainsFunc(rule.subsets, func(s *subset) bool { return s.name == p.subset })) {
		n.field("subset").lacks(diag.CodeImportMissing, "is %q, which no DestinationRule in the Service's namespace says", p.subset).fix("import the DestinationRule as well")
	}
	return p
}

// headers reads edits of headers.
func headers(body *tree, n node) {
	for name, word := range map[string]string{"request": "requestHeaders", "response": "responseHeaders"} {
		ops, out := n.field(name), &tree{}
		for _, how := range []string{"set", "add"} {
			for _, e := range ops.field(how).entries() {
				value, h := e.text(), strings.ToLower(e.name)
				switch {
				case h == "host" || strings.HasPrefix(h, ":"):
					e.lacks(diag.CodeImportValue, "is no header that edits change in intent").fix("write `rewrite: host`")
				case strings.Contains(value, "%"):
					e.lacks(diag.CodeImportValue, "has a %% in its value, by which Envoy puts in something else").fix("write the value out")
				case out.child(how).has(h):
					e.lacks(diag.CodeImportValue, "names %q a second time", h).fix("leave one of them")
				default:
					out.child(how).add(h, quote(value))
				}
			}
		}
		var removed []string
		for _, h := range ops.field("remove").items() {
			removed = append(removed, strings.ToLower(h.text()))
		}
		if len(removed) > 0 {
			out.add("remove", quoteList(removed))
		}
		out.fields = slices.DeleteFunc(out.fields, func(f field) bool { return f.sub != nil && len(f.sub.fields) == 0 })
		if len(out.fields) > 0 {
			body.put(word, out)
		}
	}
	// In the order of the words, whatever the one above.
	slices.SortStableFunc(body.fields, func(a, b field) int {
		if strings.HasSuffix(a.name, "Headers") && strings.HasSuffix(b.name, "Headers") {
			return strings.Compare(a.name, b.name)
		}
		return 0
	})
}

func rewrites(out *steps, n node) {
	if !n.there() {
		return
	}
	out.rewrites = n
	if a := n.field("authority"); a.there() {
		out.body.child("rewrite").add("host", quote(a.text()))
	}
	if u := n.field("uri"); u.there() {
		to := u.text()
		out.path = &to
	}
	if r := n.field("uriRegexRewrite"); r.there() {
		pattern, to := r.field("match").text(), r.field("rewrite").text()
		whole := strings.HasPrefix(pattern, "^") && strings.HasSuffix(pattern, "$") && !strings.Contains(pattern, "|")
		if !whole {
			r.lacks(diag.CodeImportValue, "replaces what the expression finds anywhere in the path, and in intent it takes the whole path").fix("write one from ^ to $, with groups for what stays")
		}
		t := out.body.child("rewrite").child("regex")
		t.add("pattern", quote(strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")))
		t.add("to", quote(to))
	}
}

// rewritten is the body with the new path: Istio replaces a prefix by characters, all of an exact
// path or of one that an expression takes, and the slash that all paths begin with.
func (r *steps) rewritten(a asked) *tree {
	out := r.body.copied()
	if r.path == nil {
		return out
	}
	t := out.child("rewrite")
	switch a.path.kind {
	case "exact", "regex":
		t.add("path", quote(*r.path))
	default:
		fold := ""
		if a.fold {
			fold = "(?i)"
		}
		t.child("regex").add("pattern", quote(fold+regexp.QuoteMeta(cmp.Or(a.path.value, "/"))+"(.*)"))
		t.child("regex").add("to", quote(strings.ReplaceAll(*r.path, `\`, `\\`)+`\1`))
	}
	return out
}

func redirects(out *steps, n node) {
	if !n.there() {
		return
	}
	out.answers = true
	to := out.body.child("redirect")
	if code, ok := n.field("redirectCode").number(300, 399); ok && code != 301 {
		to.add("code", fmt.Sprint(code))
	}
	for name, word := range map[string]string{"authority": "host", "scheme": "scheme"} {
		if x := n.field(name); x.there() {
			to.add(word, quote(x.text()))
		}
	}
	if u := n.field("uri"); u.there() {
		if to.add("path", quote(u.text())); strings.ContainsAny(u.text(), "%?#") {
			u.lacks(diag.CodeImportValue, "is more than a path").fix("write a path alone")
		}
	}
	if p := n.field("prefixRewrite"); p.there() {
		p.lacks(diag.CodeImportValue, "replaces a prefix by characters").fix("write `redirect: prefix`, beside a match by segments")
	}
	out.scheme = strings.ToLower(n.field("scheme").text())
	out.port, _ = n.field("port").number(1, 65535)
	d := n.field("derivePort")
	d.skip()
	out.derived = d.raw() == "FROM_REQUEST_PORT"
	slices.SortStableFunc(to.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
}

// names is the port that a redirect names in a setting, 0 if none: Istio leaves out the one that is the scheme's own.
func (r *steps) names(at setting) (_ int, problem string) {
	port := r.port
	if r.derived {
		if len(at.ports) != 1 {
			return 0, "a redirect names the port by which a request came, and there are several"
		}
		port = at.ports[0]
	}
	schemes, left := at.schemes, 0
	if r.scheme != "" {
		schemes = []string{r.scheme}
	}
	for _, s := range schemes {
		if port == map[string]int{"http": 80, "https": 443}[s] {
			left++
		}
	}
	switch left {
	case 0:
		return port, ""
	case len(schemes):
		return 0, ""
	}
	return 0, fmt.Sprintf("a redirect names port %d, which Istio leaves out for visitors by one of two schemes", port)
}

func responds(out *steps, n node) {
	if !n.there() {
		return
	}
	out.answers = true
	to := out.body.child("respond")
	if status, ok := n.field("status").number(200, 599); ok {
		to.add("status", fmt.Sprint(status))
	}
	body := n.field("body")
	if b := body.field("bytes"); b.there() {
		b.lacks(diag.CodeImportValue, "is a body of bytes").fix("write it as string")
	}
	if s := body.field("string"); s.there() {
		to.add("body", quote(s.text()))
	}
}

// bounds are how long an answer may take, and when a request is sent again.
func (i *istio) bounds(out *steps, n node) {
	if t := n.field("timeout"); t.there() && !out.answers {
		text := span(t)
		if zero(text) || text == "" {
			text = "none"
		}
		out.body.add("timeout", quote(text))
	} else if t.there() {
		t.note(diag.Note, diag.CodeImportLeft, "bounds an answer of the proxy's own").fix("take it out")
	}
	r := n.field("retries")
	if !r.there() || out.answers {
		r.skip()
		return
	}
	t := &tree{}
	attempts, _ := r.field("attempts").number(0, 10)
	t.add("attempts", fmt.Sprint(attempts))
	if at := r; attempts == 0 { // then nothing else of it means anything
		r.skip()
		out.body.set(field{name: "retry", sub: t, at: &at})
		return
	}
	on := retryOn(r.field("retryOn"), attempts)
	if per := span(r.field("perTryTimeout")); per != "" && !zero(per) && on.slow {
		t.add("perTry", quote(per))
	} else if per != "" && !zero(per) {
		r.field("perTryTimeout").partly("bounds a try, and what is tried again here fails at once").fix("write `perTry`, with `on` and `idempotent: true` on services that may get a request twice")
	}
	if len(on.failures) > 0 {
		t.add("on", quoteList(on.failures))
	}
	if out.grpc = on.grpc; len(on.statuses) > 0 {
		t.add("statuses", "["+strings.Join(on.statuses, ", ")+"]")
	}
	if b := span(r.field("backoff")); b != "" && !zero(b) {
		t.child("backoff").add("base", quote(b))
	}
	if x := r.field("retryIgnorePreviousHosts"); x.there() {
		if x.skip(); x.raw() == "false" {
			t.add("otherHost", "false")
		}
	}
	if on.slow || len(on.statuses) > 0 {
		t.add("idempotent", "true")
		r.note(diag.Warning, diag.CodeImportDefault, "sends requests again that the callee may have begun: written with `idempotent: true`, which says that it may get them twice").
			fix("look whether it may; else leave connect-failure and refused-stream alone")
	}
	if x := r.field("retryRemoteLocalities"); x.there() {
		if x.skip(); x.raw() == "true" {
			x.partly("has a retry go to another zone, which needs an order of zones").fix(`write ` + "`locality`" + ` on the service, and otherZone: true here`)
		}
	}
	at := r
	out.body.set(field{name: "retry", sub: t, at: &at})
}

// retried are the failures after which a request is sent again. Those that are slow, statuses and
// those of gRPC the callee may have begun.
type retried struct {
	failures, statuses, grpc []string
	slow                     bool
}

func retryOn(n node, attempts int) (out retried) {
	if !n.there() {
		if attempts > 0 {
			n.note(diag.Warning, diag.CodeImportDefault, "has retries without retryOn, so that Istio sends again what the callee may have begun (503, and unavailable or cancelled of gRPC): written are those that it cannot have").
				fix("write `statuses: [503], idempotent: true` there, if it may get a request twice")
		}
		return out
	}
	words := map[string]bool{"connect-failure": false, "refused-stream": false, "reset-before-request": false, "gateway-error": true, "reset": true, "5xx": true, "retriable-4xx": true}
	for word := range strings.SplitSeq(n.text(), ",") {
		word = strings.TrimSpace(word)
		slow, known := words[word]
		status, err := strconv.Atoi(word)
		switch {
		case slices.Contains(out.failures, word), slices.Contains(out.statuses, word), slices.Contains(out.grpc, word), word == "retriable-status-codes":
		case known:
			out.failures, out.slow = append(out.failures, word), out.slow || slow
		case err == nil && status >= 400 && status <= 599:
			out.statuses = append(out.statuses, fmt.Sprint(status))
		case slices.Contains([]string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}, word):
			out.grpc = append(out.grpc, word)
		default:
			n.partly("has %q, for which there is no word", word).fix("write `on`, `statuses` or `grpc` of `retry`, and `idempotent: true`")
		}
	}
	return out
}

func (i *istio) faults(out *steps, n node) {
	if !n.there() {
		return
	}
	t := &tree{}
	if d := n.field("delay"); d.there() {
		duration, percent := span(d.field("fixedDelay")), share(d)
		if percent != "0" {
			t.child("delay").add("duration", quote(duration))
			t.child("delay").add("percent", percent)
		}
	}
	if a := n.field("abort"); a.there() {
		status, ok := a.field("httpStatus").number(200, 599)
		if !ok {
			a.lacks(diag.CodeImportValue, "is no status of HTTP").fix("write httpStatus")
		}
		if percent := share(a); percent != "0" {
			t.child("abort").add("status", fmt.Sprint(status))
			t.child("abort").add("percent", percent)
		}
	}
	switch {
	case t.empty():
		return // it breaks nothing
	case i.answer.Owner == "":
		n.refuse(diag.CodeImportAnswer, "breaks requests on purpose, which intent does for a time only, with somebody who answers for it").fix("give --owner, --reason and --until; or take it out")
		return
	}
	i.answered(t)
	out.body.put("fault", t)
}

// share is the percentage of a part, none where none is written.
func share(n node) string {
	out := "0"
	if p := n.field("percentage"); p.there() {
		out = percentage(p.field("value"))
	} else if old := n.field("percent"); old.there() {
		number, _ := old.number(0, 100)
		out = fmt.Sprint(number)
	}
	if zero := strings.Trim(out, "0.") == ""; zero {
		n.note(diag.Warning, diag.CodeImportLeft, "breaks no request, for Istio takes 0 %% where no percentage is written: it is left out").fix("take it out, or write its percentage")
		return "0"
	}
	return out
}

var twoDecimals = regexp.MustCompile(`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`)

func percentage(p node) string {
	if !p.there() {
		return "0"
	}
	if p.skip(); !twoDecimals.MatchString(p.raw()) {
		p.lacks(diag.CodeImportValue, "is no percentage with two decimals at most").fix("write one")
		return "100"
	}
	return p.raw()
}

func (i *istio) copies(v *virtual, out *steps, n node) {
	add := func(p *place, percent string) {
		if p != nil && percent != "0" {
			out.mirrors = append(out.mirrors, copies{p, percent})
		}
	}
	if m := n.field("mirror"); m.there() {
		percent := "100"
		for _, name := range []string{"mirrorPercentage", "mirrorPercent", "mirror_percent"} {
			if p := n.field(name); p.there() && name == "mirrorPercentage" {
				percent = percentage(p.field("value"))
			} else if p.there() {
				number, _ := p.number(0, 100)
				percent = fmt.Sprint(number)
			}
		}
		add(i.place(v, m), percent)
	}
	for _, m := range n.field("mirrors").items() {
		percent := "100"
		if p := m.field("percentage"); p.there() {
			percent = percentage(p.field("value"))
		}
		add(i.place(v, m.field("destination")), percent)
	}
}

// crossOrigin is CORS, which a gateway's routes have.
func crossOrigin(out *steps, n node) {
	if !n.there() {
		return
	}
	t := &tree{}
	var origins []string
	for _, o := range n.field("allowOrigin").items() {
		origins = append(origins, o.text())
	}
	for _, o := range n.field("allowOrigins").items() {
		x := testOf(o)
		if x.kind != "exact" {
			o.lacks(diag.CodeImportValue, "is not exact").fix("write origins, or https://*.suffix")
			continue
		}
		origins = append(origins, x.value)
	}
	if t.add("origins", quoteList(origins)); len(origins) == 0 {
		n.lacks(diag.CodeImportValue, "lets no origin call").fix("name one in allowOrigins")
	}
	for _, w := range [][2]string{{"allowMethods", "methods"}, {"allowHeaders", "headers"}, {"exposeHeaders", "expose"}} {
		var all []string
		for _, x := range n.field(w[0]).items() {
			all = append(all, x.text())
		}
		if len(all) > 0 {
			t.add(w[1], quoteList(all))
		}
	}
	if age := span(n.field("maxAge")); age != "" {
		t.add("maxAge", quote(age))
	}
	if c := n.field("allowCredentials"); c.there() {
		if c.skip(); c.raw() == "true" {
			t.add("credentials", "true")
		}
	}
	if u := n.field("unmatchedPreflights"); u.raw() == "IGNORE" {
		u.refuse(diag.CodeImportValue, "answers preflights of other origins, which intent sends on").fix("write FORWARD")
	} else {
		u.skip()
	}
	out.edge.put("cors", t)
}
