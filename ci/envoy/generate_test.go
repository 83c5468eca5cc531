package envoy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
)

// draft is a mesh in the making. Every line of intent is a whole declaration, so
// that one which the compiler refuses can be taken out alone.
type draft struct {
	*rand.Rand
	secured  bool // gateways have a port "https"
	files    map[string][]string
	services []*service
	gateways []string
	hosts    []string
	paths    []string // of all conditions (of query: its parameters): where requests are worth sending to
	// aside decides what came later than the rest, which does not hang on it then: with a
	// seed the same mesh but for that.
	aside *draft
	// forms decides how requests are written, for the same reason.
	forms *draft
	// edge decides who speaks HTTPS, and who lets connections change.
	edge *draft
	// denies decides what is denied, for the same reason.
	denies *draft
}

type service struct {
	id, namespace, name string
	ports               []string // "http" and perhaps "alt", "raw"
	main                string   // of several
	versions            []string
	plain               bool // one route without conditions, so that gateways may split to it
}

// generate drafts a mesh with a bit of every feature.
func generate(seed uint64) *draft {
	r := rand.New(rand.NewPCG(seed, 0))
	d := &draft{Rand: r, files: map[string][]string{}, aside: &draft{Rand: rand.New(rand.NewPCG(seed, 1))}, denies: &draft{Rand: rand.New(rand.NewPCG(seed, 3))}, forms: &draft{Rand: rand.New(rand.NewPCG(seed, 4))},
		edge: &draft{Rand: rand.New(rand.NewPCG(seed, 5))}}
	d.put("mesh.cue", `mesh: {trustDomain: "mesh.test", environment: local: {}}`)
	if d.chance(30) {
		d.put("mesh.cue", "mesh: mtls: "+d.mtls())
	}
	for i := range 4 {
		ns := []string{"alpha", "beta"}[i%2]
		d.service(ns, "s"+strconv.Itoa(i), i == 3)
	}
	d.put(file("beta"), `mesh: external: out: {port: http: number: 80, endpoints: static: ["192.0.2.1:80"], hosts: ["out.test"], grant: all: mesh: true}`)
	d.gateway("edge", "gw")
	d.attach("alpha", []string{"alpha/s0", "alpha/s2"})
	d.attach("beta", []string{"beta/s1", "beta/s3"})
	d.logs(seed)
	d.secure()
	return d
}

// secure gives the gateways of half of the meshes a port of HTTPS, and some of their hosts
// certificates for it.
func (d *draft) secure() {
	if d.edge.chance(50) {
		return
	}
	d.put(file("edge"), `mesh: certificate: {one: file: "one", two: file: "two"}`)
	for _, g := range d.gateways {
		d.put(file("edge"), `mesh: gateway: %s: port: https: {number: 9443, protocol: "https"}`, g)
		for _, h := range append([]string{"front.test"}, d.hosts...) {
			if d.edge.chance(40) && h != "front.test" { // a port without a host is closed
				continue
			}
			plain := pick(d.edge, "", "", `, http: "redirect"`, `, http: "refuse"`, `, http: "serve", owner: "ops", reason: "test", until: "2030-01-01T00:00:00Z"`)
			d.put(file("edge"), `mesh: gateway: %s: host: %q: tls: {certificates: [%q]%s}`, g, h, pick(d.edge, "one", "two"), plain)
		}
	}
	d.secured = true
}

// logs has some of the proxies tell of requests, which changes nothing of them. What it draws
// hangs on nothing else.
func (d *draft) logs(seed uint64) {
	own := &draft{Rand: rand.New(rand.NewPCG(seed, 2))}
	d.put("mesh.cue", `mesh: collector: all: otlp: to: "watch/otel"`)
	d.put(file("watch"), `mesh: service: otel: {port: grpc: {number: 4317, protocol: "grpc"}, grant: logs: mesh: true}`)
	log := func() string {
		when := pick(own, "sample: 100", "errors: true, denied: true", `slowerThan: "1ms", statuses: ["404", "2xx"]`)
		return fmt.Sprintf(`telemetry: logs: all: {when: {%s}, fields: host: "%%REQ(X-HOST?HOST):40%% %%UPSTREAM_HOST%%"}`, when)
	}
	if own.chance(30) {
		d.put("mesh.cue", "mesh: %s", log())
	}
	if own.chance(30) {
		d.put(file("alpha"), "mesh: %s", log())
	}
	for _, s := range d.services {
		if own.chance(30) {
			d.put(file(s.namespace), "mesh: service: %s: %s", s.name, log())
		}
	}
	if own.chance(30) {
		d.put(file("edge"), "mesh: gateway: gw: %s", log())
	}
}

func file(namespace string) string { return namespace + "/" + namespace + ".cue" }

func (d *draft) put(file, format string, args ...any) {
	if d.files[file] == nil {
		pkg, ns := "mesh", ""
		if dir, _, ok := strings.Cut(file, "/"); ok {
			pkg, ns = dir, fmt.Sprintf("mesh: namespace: %q", dir)
		}
		d.files[file] = []string{"package " + pkg, `import "meshc.dev/intent"`, "mesh: intent.#Mesh", ns}
	}
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	d.files[file] = append(d.files[file], format)
}

// fsys is the intent as files.
func (d *draft) fsys() fstest.MapFS {
	out := fstest.MapFS{}
	for name, lines := range d.files {
		out[name] = &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n"), Mode: 0o444}
	}
	return out
}

func (d *draft) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d *draft, xs ...T) T { return xs[d.IntN(len(xs))] }

// some picks a few of xs, at least one.
func some[T any](d *draft, xs []T) []T {
	out := slices.Clone(xs)
	d.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:1+d.IntN(len(out))]
}

func (d *draft) mtls() string {
	return fmt.Sprintf(`{mode: %q, until: "2030-01-01T00:00:00Z", owner: "ops", reason: "test"}`, pick(d, "strict", "permissive", "permissive", "disable"))
}

func (d *draft) service(ns, name string, plain bool) {
	s := &service{id: ns + "/" + name, namespace: ns, name: name, ports: []string{"http"}, plain: plain}
	at := "mesh: service: " + name + ": "
	d.put(file(ns), `%sport: http: {number: 8080, protocol: %q}`, at, pick(d, "http", "http", "http", "http2", "grpc"))
	if d.chance(30) {
		s.ports = append(s.ports, "alt")
		d.put(file(ns), `%sport: alt: {number: 8081, protocol: %q}`, at, pick(d, "http", "http2"))
	}
	if plain || d.chance(40) {
		s.ports = append(s.ports, "raw")
		d.put(file(ns), `%sport: raw: {number: 9000, protocol: "tcp"}`, at)
	}
	if len(s.ports) > 1 {
		s.main = pick(d.aside, s.ports[:max(1, len(s.ports)-1)]...)
		d.put(file(ns), "%sport: %s: main: true", at, s.main)
	}
	for i := range 1 + d.IntN(3) {
		v := "v" + strconv.Itoa(i+1)
		s.versions = append(s.versions, v)
		account := ""
		if d.chance(15) {
			account = fmt.Sprintf("serviceAccount: %q", name+"-"+v)
		}
		d.put(file(ns), "%sversion: %s: {%s}", at, v, account)
	}
	if d.chance(60) {
		d.put(file(ns), "%smtls: %s", at, d.mtls())
	}
	if slices.Contains(s.ports, "alt") && d.chance(50) {
		d.put(file(ns), "%sport: alt: mtls: %s", at, d.mtls())
	}
	if d.chance(20) {
		d.put(file(ns), "%sport: http: mtls: %s", at, d.mtls())
	}
	d.services = append(d.services, s)
	if plain {
		if d.chance(70) {
			d.put(file(ns), "%sroute: only: {%s}", at, strings.Join(append(d.effects(s), "to: "+d.weights(s.versions)), ", "))
		}
	} else {
		for i := range d.IntN(8) {
			d.route(file(ns), at, "r"+strconv.Itoa(i), s, func() string { return d.weights(s.versions) })
		}
		if d.chance(60) {
			d.put(file(ns), "%sroute: rest: {%s}", at, strings.Join(append(d.effects(s), "priority: -1", "to: "+d.weights(s.versions)), ", "))
		}
	}
	for i := range 1 + d.IntN(5) {
		d.put(file(ns), "%sgrant: g%d: {%s}", at, i, d.grant(s))
	}
	if d.edge.chance(30) {
		d.put(file(ns), `%sprobe: live: {port: "http", path: %q}`, at, pick(d.edge, "/a", "/a/b", "/b"))
	}
	for i := range d.denies.IntN(3) {
		d.put(file(ns), "%sdeny: d%d: {%s}", at, i, d.deny(s))
	}
	if d.chance(30) {
		d.put(file(ns), "%scircuitBreaker: {maxConnections: 1000, maxPendingRequests: 1000}", at)
	}
	if d.chance(30) {
		d.put(file(ns), `%soutlier: {consecutive5xx: 1000, interval: "10s"}`, at)
	}
	if d.chance(30) {
		d.put(file(ns), `%srateLimit: {requests: 100000, per: "1s"}`, at)
	}
	if d.aside.chance(40) {
		d.put(file(ns), "%scors: %s", at, d.aside.cors())
	}
	if d.edge.chance(40) {
		d.put(file(ns), `%supgrade: ["websocket"]`, at)
	}
}

// weights shares 100 among some of the names, one of them perhaps with nothing.
func (d *draft) weights(names []string) string {
	names = some(d, names)
	left, out := 100, []string{}
	for i, n := range names {
		w := left
		if i < len(names)-1 {
			w = d.IntN(left + 1)
		}
		left -= w
		out = append(out, fmt.Sprintf("%q: %d", n, w))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// route drafts a route with a match; to gives its destinations.
func (d *draft) route(file, at, name string, s *service, to func() string) {
	d.put(file, "%sroute: %s: {%s}", at, name, strings.Join(append([]string{fmt.Sprintf("priority: %d", d.IntN(1000))}, d.routeParts(s, to)...), ", "))
}

// routeParts are what a route says beside its priority.
func (d *draft) routeParts(s *service, to func() string) []string {
	var parts []string
	match := d.match()
	if match != "" {
		parts = append(parts, "match: "+match)
	}
	if d.chance(15) {
		parts = append(parts, "redirect: "+d.redirect())
	} else {
		forwards := append([]string{"to: " + to()}, d.effects(s)...)
		if d.aside.chance(30) {
			forwards = append(forwards, "rewrite: "+d.rewrite(match))
		}
		if d.edge.chance(35) {
			forwards = append(forwards, `upgrade: ["websocket"]`)
		}
		if d.edge.chance(10) {
			forwards = append(forwards, `buffer: "64KiB"`)
		}
		if d.aside.chance(12) {
			forwards = []string{"respond: " + d.aside.respond(), "responseHeaders: " + d.aside.edits()}
		}
		parts = append(parts, forwards...)
	}
	if d.chance(15) {
		parts = append(parts, "fault: "+d.fault())
	}
	return parts
}

// attach drafts routes of another package at the gateway's hosts, and hosts of its
// own under a wildcard, with the owner's word for all or some of the paths.
func (d *draft) attach(ns string, own []string) {
	paths := pick(d, "{}", "{}", "{}", `paths: ["/a", "/a/*", "/b", "/b/*"]`, `paths: ["/*"]`)
	for i, h := range append(some(d, d.hosts), ns+".shop.test", ns+".a.shop.test") {
		delegated, word := h, paths
		if strings.HasPrefix(h, ns) {
			delegated, word = "*."+strings.TrimPrefix(h, ns+"."), "{}"
		}
		d.put(file("edge"), "mesh: delegate: %s: hosts: %q: %s", ns, delegated, word)
		for j := range 1 + d.IntN(4) {
			parts := d.routeParts(nil, func() string { return fmt.Sprintf("{%q: 100}", pick(d, own...)) })
			d.put(file(ns), `mesh: attach: "edge/gw": host: %q: route: a%d: {%s}`, h, i*10+j, strings.Join(parts, ", "))
		}
		if !slices.Contains(d.hosts, h) {
			d.hosts = append(d.hosts, h)
		}
	}
}

func (d *draft) fault() string {
	return fmt.Sprintf(`{abort: {status: %s, percent: %d}, owner: "ops", reason: "test", until: "2030-01-01T00:00:00Z"}`,
		pick(d, "418", "503", "404", "403", "200"), pick(d, 100, 100, 100, 50, 0))
}

// effects are features of a route that forwards.
func (d *draft) effects(_ *service) []string {
	var out []string
	if d.chance(35) {
		out = append(out, "requestHeaders: "+d.edits())
	}
	if d.chance(35) {
		out = append(out, "responseHeaders: "+d.edits())
	}
	if d.chance(20) {
		out = append(out, `timeout: "9s"`)
	}
	if d.chance(20) {
		out = append(out, `retry: {attempts: 2, on: ["connect-failure"]}`)
	}
	if d.chance(10) && len(d.services) > 1 {
		t := pick(d, d.services[:len(d.services)-1]...)
		out = append(out, fmt.Sprintf("mirror: {to: %q, version: %q}", t.id, pick(d, t.versions...)))
	}
	return out
}

func (d *draft) edits() string {
	var out []string
	names := some(d, some(d, []string{"x-a", "X-B", "x-new", "x-app", "x-app-two", "user-agent", "x_under", "x-forwarded-for", "x-forwarded-host", "content-type", "via", "authorization", "cookie", "cache-control", "server"}))
	for i, n := range names {
		value := strconv.Quote(pick(d, "one", "two words", "50%", "%REQ(:path)%", "%", "%%", "a,b", "a;b=\"c\"", "", "~", "{x}", "é"))
		switch pick(d, "set", "add", "remove") {
		case "set":
			out = append(out, fmt.Sprintf("set: %q: %s", n, value))
		case "add":
			out = append(out, fmt.Sprintf("add: %q: %s", n, value))
		default:
			if !strings.Contains(strings.Join(out, " "), "remove") {
				out = append(out, fmt.Sprintf("remove: [%q]", names[i]))
			}
		}
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func (d *draft) redirect() string {
	var out []string
	if d.chance(60) {
		out = append(out, fmt.Sprintf("path: %q", pick(d, "/", "/new", "/new/place/", "/a%20b", "/%7Eme")))
	}
	if d.chance(50) || len(out) == 0 {
		out = append(out, fmt.Sprintf("host: %q", pick(d, "new.test", "a.b.new.test")))
	}
	if d.chance(30) {
		out = append(out, fmt.Sprintf("scheme: %q", pick(d, "https", "http")))
	}
	if d.chance(60) {
		out = append(out, fmt.Sprintf("code: %d", pick(d, 301, 302, 303, 307, 308)))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// rewrite moves what a route with such a match takes, to where other conditions look for it.
func (d *draft) rewrite(match string) string {
	to := pick(d.aside, append(d.paths, "/", "/a", "/b", "/a/b", "/items/$", "/x/")...)
	if !strings.HasPrefix(to, "/") || strings.Contains(to, "?") { // a parameter's
		to = "/a"
	}
	var out []string
	switch {
	case strings.Contains(match, "path: prefix") && d.aside.chance(75):
		out = append(out, fmt.Sprintf("prefix: %q", to))
	case strings.Contains(match, "{x}") && d.aside.chance(75):
		out = append(out, fmt.Sprintf("path: %q", pick(d.aside, "/a/{x}", "/{x}", "/b/{x}/a", "/{x}/{x}", strings.TrimSuffix(to, "/")+"/{x}/")))
	default:
		out = append(out, fmt.Sprintf("path: %q", to))
	}
	if d.aside.chance(30) {
		out = append(out, fmt.Sprintf("host: %q", pick(d.aside, "inner.test", "a.inner.test")))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func (d *draft) respond() string {
	return pick(d, "{status: 200}", "{status: 204}", "{status: 404}", "{status: 418, body: \"no\"}", "{status: 503, body: \"{}\\r\\n\"}", "{status: 300}", "{status: 599, body: \"%REQ(:path)% é\"}")
}

func (d *draft) cors() string {
	return fmt.Sprintf(`{origins: %s, methods: ["PUT"]}`, quoted(some(d, append(origins(), "https://*.a.test", "*"))))
}

// origins are of conditions and of requests alike.
func origins() []string {
	return []string{"https://a.test", "http://a.test:3000", "https://x.a.test"}
}

func (d *draft) segment() string {
	return pick(d, "a", "b", "items", "A", "x.y", "b-c", "~t", "a;p", "a:b", "a@b", "%20", "a%2Cb", "a=b", "$")
}

func (d *draft) path() string {
	var b strings.Builder
	for range 1 + d.IntN(3) {
		b.WriteString("/" + pick(d, "a", "b", "a", d.segment()))
	}
	p := b.String()
	if d.chance(10) {
		p = "/"
	}
	d.paths = append(d.paths, p)
	return p
}

func (d *draft) match() string {
	var out []string
	switch pick(d, "exact", "prefix", "prefix", "template", "none") {
	case "exact":
		out = append(out, fmt.Sprintf("path: exact: %q", d.path()+pick(d, "", "", "/")))
	case "prefix":
		out = append(out, fmt.Sprintf("path: prefix: %q", d.path()))
	case "template":
		p := d.path()
		segments := strings.Split(p, "/")
		i := 1 + d.IntN(len(segments)-1)
		segments[i] = "{x}"
		out = append(out, fmt.Sprintf("path: template: %q", strings.Join(segments, "/")))
	}
	if d.chance(30) {
		out = append(out, "methods: "+quoted(some(d, methods()[:4])))
	}
	if d.chance(35) {
		var hs []string
		for _, n := range some(d, headerNames())[:1] {
			kind := pick(d, "exact", "prefix", "suffix", "present")
			value := strconv.Quote(pick(d, headerValues()...))
			if kind == "present" {
				value = "true"
			}
			not := ""
			if d.chance(35) && (kind != "exact" || value != `""`) { // Envoy cannot say that: MESH0306
				not = ", not: true"
			}
			hs = append(hs, fmt.Sprintf("%q: {%s: %s%s}", n, kind, value, not))
		}
		out = append(out, "headers: {"+strings.Join(hs, ", ")+"}")
	}
	if d.aside.chance(12) {
		out = append(out, "query: "+d.aside.queryMatch())
	}
	if len(out) == 0 {
		return ""
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func (d *draft) queryMatch() string {
	var out []string
	for _, n := range some(d, queryNames())[:1+d.IntN(2)] {
		kind, value := pick(d, "exact", "prefix", "suffix", "present"), pick(d, queryValues()...)
		d.paths = append(d.paths, n+"="+value)
		if value = strconv.Quote(value); kind == "present" {
			value = "true"
		}
		out = append(out, fmt.Sprintf("%q: %s: %s", n, kind, value))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// queryNames and queryValues are of conditions and of requests alike.
func queryNames() []string { return []string{"q", "Q", "a.b", "x?y", "%71"} }

func queryValues() []string {
	return []string{"", "1", "one", "1=2", "=", "a%20b", "a+b", "?", ";q=1", "/a", "%26"}
}

func methods() []string {
	return []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PURGE", "MKCOL"}
}

func headerNames() []string {
	return []string{"x-a", "X-B", "end-user", "cookie", "accept", "host", "x-forwarded-for", "x-forwarded-proto", "x-envoy-foo", "x-envoy-retry-on", "x-request-id", "x-forwarded-client-cert", "via", "content-type", "user-agent", "x_under", "forwarded", "origin", "authorization", "x-forwarded-host", "server", "date"}
}

func headerValues() []string {
	return []string{"one", "two", "one,two", "on", "", "One", "o.e", "one two", "jason", "é"}
}

func quoted(xs []string) string {
	out := make([]string, len(xs))
	for i, x := range xs {
		out[i] = strconv.Quote(x)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (d *draft) grant(s *service) string {
	var out []string
	switch pick(d, "from", "from", "namespaces", "mesh", "anyone", "anyone") {
	case "from":
		out = append(out, "from: "+quoted(some(d, []string{"alpha/s0", "beta/s1", "alpha/s2", "gateway/edge/gw"})[:1]))
	case "namespaces":
		out = append(out, "namespaces: "+quoted(some(d, []string{"alpha", "beta", "edge"})))
	case "mesh":
		out = append(out, "mesh: true")
	default:
		out = append(out, "anyone: true")
	}
	out[0] = strings.ReplaceAll(out[0], "gateway/edge/gw", "gateway/gw")
	if slices.Contains(s.ports, "raw") && d.chance(50) {
		out = append(out, `ports: ["raw"]`)
		return strings.Join(out, ", ")
	}
	if len(s.ports) > 1 && d.aside.chance(80) {
		out = append(out, "ports: "+pick(d, `["http"]`, `["http"]`, quoted(slices.DeleteFunc(slices.Clone(s.ports), func(p string) bool { return p == "raw" }))))
	}
	if d.chance(35) {
		out = append(out, "methods: "+quoted(some(d, methods())))
	}
	if d.chance(50) {
		var ps []string
		for range 1 + d.IntN(3) {
			ps = append(ps, pick(d, "", "/*", "/*")+"")
			ps[len(ps)-1] = d.path() + ps[len(ps)-1]
		}
		ps[0] = strings.Replace(ps[0], "//", "/", 1)
		out = append(out, "paths: "+quoted(ps))
	}
	return strings.Join(out, ", ")
}

// deny is a deny of a service, or of a gateway or a host of it (nil).
func (d *draft) deny(s *service) string {
	var out, not []string
	own := d.denies
	path := func() string {
		if len(d.paths) > 0 && own.chance(60) { // where something else looks for it
			if p := pick(own, d.paths...); strings.HasPrefix(p, "/") {
				return p
			}
		}
		p := own.path()
		d.paths = append(d.paths, p)
		return p
	}
	below := func(p string) string { return strings.TrimSuffix(p, "/") + "/*" }
	what := []string{
		"methods: " + quoted(some(own, methods()[:5])),
		"paths: " + quoted([]string{pick(own, path(), below(path()))}),
	}
	if s != nil {
		callers := []string{`from: ["alpha/s0"]`, `from: ["beta/s1", "alpha/s2"]`, `from: ["gateway/gw"]`, `namespaces: ["alpha"]`, `namespaces: ["edge", "beta"]`, "mesh: true"}
		out = append(out, pick(own, append(callers, "anyone: true", "anyone: true")...))
		if own.chance(40) {
			not = append(not, pick(own, callers...))
		}
		if len(s.ports) > 1 {
			out = append(out, "ports: "+quoted(some(own, s.ports)))
		}
	}
	if s == nil || own.chance(75) {
		out = append(out, some(own, what)...)
	}
	if own.chance(30) {
		not = append(not, pick(own, "methods: "+quoted(some(own, methods()[:4])[:1]), "paths: "+quoted([]string{below(path())})))
	}
	if len(not) > 0 {
		out = append(out, "not: {"+strings.Join(not, ", ")+"}")
	}
	return strings.Join(out, ", ")
}

func (d *draft) gateway(ns, name string) {
	d.put(file(ns), "mesh: gateway: %s: port: http: number: 8443", name)
	if d.denies.chance(30) {
		d.put(file(ns), "mesh: gateway: %s: deny: all: {%s}", name, d.deny(nil))
	}
	d.gateways = append(d.gateways, name)
	d.put(file(ns), `mesh: gateway: %s: host: "front.test": route: all: to: "beta/s3": 100`, name)
	d.put(file(ns), `mesh: gateway: %s: host: "front.test": route: broken: {match: methods: ["GET"], to: "beta/s3": 100, fault: %s}`, name, d.fault())
	for _, h := range some(d, []string{"shop.test", "a.shop.test", "*.shop.test", "*.a.shop.test", "*", "b.a.shop.test"}) {
		d.hosts = append(d.hosts, h)
		at := fmt.Sprintf("mesh: gateway: %s: host: %q: ", name, h)
		for i := range 1 + d.IntN(5) {
			d.route(file(ns), at, "r"+strconv.Itoa(i), nil, d.gatewayTargets)
		}
		if d.aside.chance(40) {
			d.put(file(ns), "%scors: %s", at, d.aside.cors())
		}
		if d.denies.chance(30) {
			d.put(file(ns), "%sdeny: here: {%s}", at, d.deny(nil))
		}
		if d.aside.chance(40) {
			d.put(file(ns), "%sroute: shared: {match: path: prefix: \"/a\", to: {%q: 100}, cors: %s}", at, d.services[0].id, d.aside.cors())
		}
		if d.chance(40) {
			d.put(file(ns), "%sroute: rest: {priority: -1, to: %s}", at, d.gatewayTargets())
		}
	}
}

func (d *draft) gatewayTargets() string {
	switch {
	case d.chance(15):
		return `{"beta/out": 100}`
	case d.chance(20):
		return d.weights([]string{"beta/out", "beta/s3"})
	}
	s := pick(d, d.services...)
	if d.aside.chance(30) {
		return fmt.Sprintf("{there: 100}, destination: there: {service: %q, port: %q, version: %q}", s.id, pick(d.aside, s.ports...), pick(d.aside, s.versions...))
	}
	return fmt.Sprintf("{%q: 100}", s.id)
}
