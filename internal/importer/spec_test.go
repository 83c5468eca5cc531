package importer_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/importer"
)

// This file reads the specification of Gateway API by itself: objects at random, and what becomes
// of a request by them. The importer's intent has to do the same.

type (
	specMatch struct {
		Path    *specPath   `json:"path,omitempty"`
		Method  string      `json:"method,omitempty"`
		Headers []specValue `json:"headers,omitempty"`
		Query   []specValue `json:"queryParams,omitempty"`
	}
	specPath struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	specValue struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	specBackend struct {
		Name   string `json:"name"`
		Port   int    `json:"port"`
		Weight int    `json:"weight"`
	}
	specRule struct {
		Matches  []specMatch      `json:"matches,omitempty"`
		Filters  []map[string]any `json:"filters,omitempty"`
		Backends []specBackend    `json:"backendRefs,omitempty"`
		redirect *specRedirect
		rewrite  *specRewrite
	}
	specRedirect struct {
		scheme, host, whole string
		prefix              *string
		port, code          int
	}
	specRewrite struct {
		host, whole string
		prefix      *string
	}
	specRoute struct {
		name, created, section string
		hosts                  []string
		rules                  []specRule
	}
	specListener struct {
		Name     string `json:"name"`
		Port     int    `json:"port"`
		Protocol string `json:"protocol"`
		Hostname string `json:"hostname,omitempty"`
	}
	specWorld struct {
		listeners []specListener
		routes    []specRoute
	}
	specRequest struct {
		port               int
		host, method, path string
		headers, query     map[string]string
	}
)

// answer is what the specification says of a request.
func (w specWorld) answer(r specRequest) string { return w.answered(r, false) }

// answered is that, or what is said by an implementation that falls back to routes of wider
// hostnames.
func (w specWorld) answered(r specRequest, fallsBack bool) string {
	// A listener with the most specific hostname that fits is the one, whatever its routes.
	var listener *specListener
	for i, l := range w.listeners {
		if l.Port == r.port && fitness(l.Hostname, r.host) > 0 && (listener == nil || fitness(l.Hostname, r.host) > fitness(listener.Hostname, r.host)) {
			listener = &w.listeners[i]
		}
	}
	if listener == nil {
		return "404"
	}
	type hit struct {
		fit        int
		route      specRoute
		rule       specRule
		match      specMatch
		ri, mi, ai int
	}
	var hits []hit
	best := 0
	for ai, route := range w.routes {
		if route.section != "" && route.section != listener.Name {
			continue
		}
		fit := 0
		for _, h := range route.hosts {
			if joined := specMeet(h, listener.Hostname); joined != "" {
				fit = max(fit, fitness(joined, r.host))
			}
		}
		if len(route.hosts) == 0 {
			fit = fitness(listener.Hostname, r.host)
		}
		if fit == 0 {
			continue
		}
		best = max(best, fit)
		for i, rule := range route.rules {
			matches := rule.Matches
			if len(matches) == 0 {
				matches = []specMatch{{}}
			}
			for j, m := range matches {
				if m.takes(r) {
					hits = append(hits, hit{fit, route, rule, m, i, j, ai})
				}
			}
		}
	}
	// Only the routes of the most specific hostname count.
	hits = slices.DeleteFunc(hits, func(h hit) bool { return h.fit < best && !fallsBack })
	if len(hits) == 0 {
		return "404"
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(
			cmp.Compare(b.fit, a.fit),
			cmp.Compare(b.match.exact(), a.match.exact()),
			cmp.Compare(b.match.length(), a.match.length()),
			cmp.Compare(min(1, len(b.match.Method)), min(1, len(a.match.Method))),
			cmp.Compare(len(b.match.Headers), len(a.match.Headers)),
			cmp.Compare(len(b.match.Query), len(a.match.Query)),
			cmp.Compare(a.route.created, b.route.created),
			cmp.Compare(a.route.name, b.route.name),
			cmp.Compare(a.ri, b.ri), cmp.Compare(a.mi, b.mi))
	})
	first := hits[0]
	if d := first.rule.redirect; d != nil {
		return d.location(r, *listener, first.match)
	}
	path, host := r.path, r.host
	if m := first.rule.rewrite; m != nil {
		path = moved(path, first.match, m.whole, m.prefix)
		host = cmp.Or(m.host, host)
	}
	sum, shares := 0, map[string]int{}
	for _, b := range first.rule.Backends {
		sum += b.Weight
		shares[b.Name] += b.Weight
	}
	var out []string
	for name, weight := range shares {
		if weight > 0 {
			out = append(out, fmt.Sprintf("%s %d/10000", name, weight*10_000/sum))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ") + " " + host + path
}

// fitness says how well a hostname fits a host, 0 if it does not: one without a wildcard is better
// than every other, then the one with more letters.
func fitness(hostname, host string) int {
	switch {
	case hostname == "":
		return 1
	case hostname == host:
		return 1000 + len(hostname)
	case strings.HasPrefix(hostname, "*.") && strings.HasSuffix(host, hostname[1:]) && len(host) > len(hostname[1:]):
		return 1 + len(hostname)
	}
	return 0
}

// specMeet is the more special of two hostnames that have names in common.
func specMeet(a, b string) string {
	switch {
	case b == "" || a == b:
		return a
	case strings.HasPrefix(b, "*.") && strings.HasSuffix(a, b[1:]):
		return a
	case strings.HasPrefix(a, "*.") && strings.HasSuffix(b, a[1:]):
		return b
	}
	return ""
}

func (m specMatch) exact() int {
	if m.Path != nil && m.Path.Type == "Exact" {
		return 1
	}
	return 0
}

func (m specMatch) length() int {
	if m.Path == nil {
		return 1
	}
	return len(m.Path.Value)
}

func (m specMatch) takes(r specRequest) bool {
	if m.Path != nil {
		prefix := strings.TrimSuffix(m.Path.Value, "/")
		switch {
		case m.Path.Type == "Exact" && r.path != m.Path.Value:
			return false
		case m.Path.Type == "PathPrefix" && r.path != prefix && !strings.HasPrefix(r.path, prefix+"/"):
			return false
		}
	}
	ok := m.Method == "" || m.Method == r.method
	for _, h := range m.Headers {
		v, there := r.headers[strings.ToLower(h.Name)]
		ok = ok && there && v == h.Value
	}
	for _, q := range m.Query {
		v, there := r.query[q.Name]
		ok = ok && there && v == q.Value
	}
	return ok
}

// moved is a path with another in its place, or another in place of what the match's prefix took.
func moved(path string, m specMatch, whole string, prefix *string) string {
	if whole != "" {
		return whole
	}
	if prefix == nil {
		return path
	}
	took := ""
	if m.Path != nil {
		took = strings.TrimSuffix(m.Path.Value, "/")
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(path, took), "/")
	out := strings.TrimSuffix(*prefix, "/")
	if path != took && (rest != "" || strings.HasSuffix(path, "/")) {
		out += "/" + rest
	}
	return cmp.Or(out, "/")
}

func (d specRedirect) location(r specRequest, l specListener, m specMatch) string {
	scheme := cmp.Or(d.scheme, "http")
	port := d.port
	if port == 0 {
		if port = l.Port; d.scheme != "" {
			port = map[string]int{"http": 80, "https": 443}[d.scheme]
		}
	}
	host := cmp.Or(d.host, r.host)
	if port != map[string]int{"http": 80, "https": 443}[scheme] {
		host = fmt.Sprintf("%s:%d", host, port)
	}
	return fmt.Sprintf("%d %s://%s%s", d.code, scheme, host, moved(r.path, m, d.whole, d.prefix))
}

// yaml writes the world as files.
func (w specWorld) yaml(t *testing.T) []importer.Input {
	object := func(kind, name string, meta map[string]any, spec map[string]any) []byte {
		metadata := map[string]any{"name": name, "namespace": "n"}
		for k, v := range meta {
			metadata[k] = v
		}
		version := "gateway.networking.k8s.io/v1"
		if kind == "Service" {
			version = "v1"
		}
		b, err := yaml.Marshal(map[string]any{"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		return append(b, "---\n"...)
	}
	var text []byte
	for _, s := range specServices() {
		text = append(text, object("Service", s, nil, map[string]any{"selector": map[string]any{"app": s}, "ports": []map[string]any{{"port": 80}}})...)
	}
	text = append(text, object("Gateway", "g", nil, map[string]any{"gatewayClassName": "x", "listeners": w.listeners})...)
	for _, r := range w.routes {
		parent := map[string]any{"name": "g"}
		if r.section != "" {
			parent["sectionName"] = r.section
		}
		spec := map[string]any{"parentRefs": []any{parent}, "rules": r.rules}
		if len(r.hosts) > 0 {
			spec["hostnames"] = r.hosts
		}
		text = append(text, object("HTTPRoute", r.name, map[string]any{"creationTimestamp": r.created}, spec)...)
	}
	return []importer.Input{{Name: "world.yaml", Text: text}}
}

func specServices() []string { return []string{"s1", "s2", "s3"} }

// drawing makes worlds and requests of few words, so that they meet.
type drawing struct{ *rand.Rand }

func pick[T any](d drawing, from ...T) T { return from[d.IntN(len(from))] }

func (d drawing) world() specWorld {
	w := specWorld{listeners: []specListener{{Name: "a", Port: pick(d, 80, 8080), Protocol: "HTTP", Hostname: pick(d, "", "", "*.x.test")}}}
	if d.IntN(3) == 0 {
		w.listeners = append(w.listeners, specListener{Name: "b", Port: w.listeners[0].Port + d.IntN(2), Protocol: "HTTP", Hostname: pick(d, "a.x.test", "*.y.test")})
	}
	for i := range 1 + d.IntN(3) {
		r := specRoute{name: fmt.Sprintf("r%d", 9-i), created: pick(d, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")}
		if len(w.listeners) > 1 {
			r.section = pick(d, "", "a", "b")
		}
		for range d.IntN(3) {
			if h := pick(d, "a.x.test", "b.x.test", "*.x.test", "c.y.test", "*.test"); !slices.Contains(r.hosts, h) {
				r.hosts = append(r.hosts, h)
			}
		}
		for range 1 + d.IntN(3) {
			r.rules = append(r.rules, d.rule())
		}
		w.routes = append(w.routes, r)
	}
	return w
}

func (d drawing) rule() specRule {
	var r specRule
	prefixes := true
	for range d.IntN(3) {
		var m specMatch
		if d.IntN(4) > 0 {
			m.Path = &specPath{pick(d, "PathPrefix", "PathPrefix", "Exact"), pick(d, "/", "/a", "/a/", "/b", "/a/b", "/aa")}
			prefixes = prefixes && m.Path.Type == "PathPrefix"
		}
		if d.IntN(4) == 0 {
			m.Method = pick(d, "GET", "POST")
		}
		for _, name := range []string{"X-A", "x-b"} {
			if d.IntN(4) == 0 {
				m.Headers = append(m.Headers, specValue{name, pick(d, "1", "2")})
			}
		}
		if d.IntN(5) == 0 {
			m.Query = append(m.Query, specValue{"q", pick(d, "1", "2")})
		}
		r.Matches = append(r.Matches, m)
	}
	switch n := d.IntN(10); {
	case n < 2:
		r.redirect = &specRedirect{code: pick(d, 301, 302, 307), scheme: pick(d, "", "", "https", "http"), host: pick(d, "", "out.other"), port: pick(d, 0, 0, 80, 443, 8443)}
		spec := map[string]any{"statusCode": r.redirect.code}
		set(spec, "scheme", r.redirect.scheme)
		set(spec, "hostname", r.redirect.host)
		if r.redirect.port != 0 {
			spec["port"] = r.redirect.port
		}
		r.redirect.whole, r.redirect.prefix = d.path(spec, prefixes)
		r.Filters = append(r.Filters, map[string]any{"type": "RequestRedirect", "requestRedirect": spec})
		return r
	case n < 5:
		spec := map[string]any{}
		r.rewrite = &specRewrite{host: pick(d, "", "in.other")}
		set(spec, "hostname", r.rewrite.host)
		r.rewrite.whole, r.rewrite.prefix = d.path(spec, prefixes)
		r.Filters = append(r.Filters, map[string]any{"type": "URLRewrite", "urlRewrite": spec})
	}
	for _, s := range specServices()[:1+d.IntN(3)] {
		r.Backends = append(r.Backends, specBackend{s, 80, pick(d, 0, 1, 1, 3, 4)})
	}
	r.Backends[0].Weight = max(1, r.Backends[0].Weight)
	return r
}

func set(into map[string]any, name, value string) {
	if value != "" {
		into[name] = value
	}
}

// path draws what a filter makes of the path.
func (d drawing) path(spec map[string]any, prefixes bool) (whole string, prefix *string) {
	switch n := d.IntN(3); {
	case n == 0:
		whole = pick(d, "/new", "/new/er")
		spec["path"] = map[string]any{"type": "ReplaceFullPath", "replaceFullPath": whole}
	case n == 1 && prefixes:
		to := pick(d, "/", "/p", "/p/", "")
		prefix = &to
		spec["path"] = map[string]any{"type": "ReplacePrefixMatch", "replacePrefixMatch": to}
	}
	return whole, prefix
}

func (d drawing) request(w specWorld) specRequest {
	r := specRequest{port: pick(d, w.listeners...).Port, host: pick(d, "a.x.test", "b.x.test", "d.b.x.test", "c.y.test", "z.test", "other"), method: pick(d, "GET", "POST", "PUT"),
		path: pick(d, "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/aa", "/b"), headers: map[string]string{}, query: map[string]string{}}
	for _, name := range []string{"x-a", "x-b"} {
		if d.IntN(2) == 0 {
			r.headers[name] = pick(d, "1", "2")
		}
	}
	if d.IntN(2) == 0 {
		r.query["q"] = pick(d, "1", "2")
	}
	return r
}

// says is the evaluator's answer, in the words of the specification's.
func says(t *testing.T, p *compiler.Program, w specWorld, r specRequest) string {
	t.Helper()
	var name string
	for _, l := range w.listeners {
		if l.Port == r.port {
			name = l.Name
		}
	}
	same := 0
	for _, l := range w.listeners {
		if l.Port == r.port {
			same++
		}
	}
	if same > 1 {
		name = fmt.Sprintf("http-%d", r.port)
	}
	host := r.host
	if r.port != 80 {
		host = fmt.Sprintf("%s:%d", host, r.port)
	}
	q := compiler.Request{To: "gateway/n/g", Port: name, Host: host, Method: r.method, Path: r.path}
	for k, v := range r.query {
		q.Path += "?" + k + "=" + v
	}
	for _, k := range []string{"x-a", "x-b"} {
		if v, ok := r.headers[k]; ok {
			q.Headers = append(q.Headers, compiler.Header{Name: k, Value: v})
		}
	}
	a, err := p.Decide(q)
	switch {
	case err != nil && (strings.Contains(err.Error(), "has no gateway") || strings.Contains(err.Error(), "has no port")):
		return "404" // nobody is there
	case err != nil:
		return err.Error()
	case a.Status == 404:
		return "404"
	case a.Redirects():
		has := map[string]string{"scheme": a.Scheme, "host": host}
		for _, f := range a.Outcome.Fields {
			if f.Feature == a.Outcome.By && f.Name != "path" {
				has[f.Name] = f.Value
			}
		}
		own := map[string]string{"http": ":80", "https": ":443"}
		if port := has["port"]; port != "" {
			bare, _, _ := strings.Cut(has["host"], ":")
			has["host"] = strings.TrimSuffix(bare+":"+port, own[has["scheme"]]) // the same place
		}
		return fmt.Sprintf("%d %s://%s%s", a.Status, has["scheme"], has["host"], a.RedirectPath())
	case !a.Allowed():
		return a.Words()
	}
	sum := 0
	for _, s := range a.Outcome.Shares {
		sum += s.Weight
	}
	shares := map[string]int{}
	for _, s := range a.Outcome.Shares {
		shares[strings.Split(s.Target, "/")[1]] += s.Weight
	}
	var out []string
	for name, weight := range shares {
		out = append(out, fmt.Sprintf("%s %d/10000", name, weight*10_000/sum))
	}
	slices.Sort(out)
	path, _, _ := strings.Cut(cmp.Or(a.Arrives.Path, r.path), "?")
	return strings.Join(out, ", ") + " " + cmp.Or(a.Arrives.Host, r.host) + path
}

// What is written does what the objects do, for requests at random.
func TestIntentDoesWhatTheSpecificationSays(t *testing.T) {
	asked, written, wider := 0, 0, 0
	for seed := range uint64(150) {
		d := drawing{rand.New(rand.NewPCG(seed, 1))}
		w := d.world()
		in := w.yaml(t)
		res, err := importer.GatewayAPI(in, check)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, in[0].Text)
		}
		var dropped []string
		for _, f := range res.Findings {
			if name, ok := strings.CutPrefix(f.Text, "host "); ok {
				dropped = append(dropped, strings.Split(name, `"`)[1])
			}
		}
		p, ds := load(res.Files)
		if p == nil || ds.HasErrors() {
			t.Fatalf("seed %d: %v", seed, ds)
		}
		for range 60 {
			r := d.request(w)
			want, got := w.answer(r), says(t, p, w, r)
			told := slices.ContainsFunc(dropped, func(h string) bool { return h == "*" || fitness(h, r.host) > 0 })
			if told && got == "404" {
				continue // and not written
			}
			if want == "404" && w.answered(r, true) != want {
				if wider++; !slices.ContainsFunc(res.Findings, func(f diag.Diagnostic) bool {
					_, rest, _ := strings.Cut(f.Text, "makes host \"")
					narrow, rest, ok := strings.Cut(rest, "\", and host \"")
					wide, _, _ := strings.Cut(rest, "\"")
					return ok && fitness(narrow, r.host) > 0 && (wide == "*" || fitness(wide, r.host) > 0)
				}) {
					t.Fatalf("seed %d: %+v: nothing tells that it may go to the routes of a wider host\n%s", seed, r, in[0].Text)
				}
			}
			if asked++; want != "404" {
				written++
			}
			if got != want {
				t.Fatalf("seed %d: %+v\nthe specification says %q\nthe intent says        %q\n%s", seed, r, want, got, in[0].Text)
			}
		}
	}
	t.Logf("%d requests, %d of which are answered, and %d might be by a wider host", asked, written, wider)
	if wider < 20 {
		t.Errorf("only %d requests met a wider host alone", wider)
	}
	if written < 500 {
		t.Errorf("only %d requests met a route", written)
	}
}
