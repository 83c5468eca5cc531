package imports

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// drawing makes objects and requests of few words, so that they meet.
type drawing struct{ *rand.Rand }

func pick[T any](d drawing, from ...T) T { return from[d.IntN(len(from))] }

// one reports whether a thing happens that happens once in so many times.
func (d drawing) one(in int) bool { return d.IntN(in) == 0 }

// gateway draws a Gateway with its HTTPRoutes.
func (d drawing) gateway(name string) gateway {
	g := gateway{name: name, Class: "any"}
	from := pick(d, "All", "All", "Same")
	allowed := map[string]any{"namespaces": map[string]any{"from": from}}
	add := func(name string, port int, hostname string) {
		l := listener{Name: name, Port: port, Protocol: "HTTP", Hostname: hostname, Allowed: allowed}
		if port == 443 || port == 8443 {
			l.Protocol, l.TLS = "HTTPS", map[string]any{"certificateRefs": []any{map[string]any{"name": certificate}}}
		}
		g.Listeners = append(g.Listeners, l)
	}
	any := pick(d, "", "*.x.test")
	switch kind := d.IntN(6); kind {
	case 0:
		add("a", pick(d, 80, 8080), any)
	case 1: // two at one port
		port := pick(d, 80, 8080)
		add("a", port, "*.x.test")
		add("b", port, pick(d, "*.y.test", "c.y.test", "a.x.test"))
	case 2: // with the same routes
		add("a", pick(d, 80, 8080), any)
		add("b", 8081, any)
		g.together = true
	case 3: // with different ones
		add("a", pick(d, 80, 8080), "*.x.test")
		add("b", 8081, pick(d, "*.y.test", "c.y.test"))
	case 4:
		add("a", 80, "*.y.test")
		add("s", pick(d, 443, 8443), "*.x.test")
	default: // where HTTP leads to HTTPS
		add("a", 80, any)
		add("s", pick(d, 443, 8443), any)
		g.leads = true
	}
	for i := range 2 + d.IntN(3) {
		g.routes = append(g.routes, d.route(g, i))
	}
	of := pick(d, g.routes...)
	pick(d, pointers(of.Rules)...).untag()
	if g.leads {
		g.routes = append(g.routes, g.lead())
	}
	return g
}

// lead is the HTTPRoute that leads plain HTTP to the HTTPS of the same hosts.
func (g gateway) lead() route {
	to := redirect{Scheme: "https", Code: 308}
	if port := g.Listeners[1].Port; port != 443 {
		to.Port = port
	}
	r := route{name: g.name + "-lead", namespace: own, created: "2026-01-01T00:00:00Z", Parents: []parent{{Name: g.name, Section: g.Listeners[0].Name}},
		Rules: []rule{{Filters: []filter{{Type: "RequestRedirect", Redirect: &to}}}}} // intent says it by itself, and edits nothing
	for _, o := range g.routes {
		if len(o.Hosts) == 0 && g.Listeners[0].Hostname == "" { // a route of all hosts is about none of its own
			r.Hosts = nil
			return r
		}
		hosts := o.Hosts
		if len(hosts) == 0 {
			hosts = []string{g.Listeners[0].Hostname}
		}
		for _, h := range hosts {
			if !slices.Contains(r.Hosts, h) {
				r.Hosts = append(r.Hosts, h)
			}
		}
	}
	return r
}

// certificate is the Secret that HTTPS listeners show.
const certificate = "shown"

func (d drawing) route(g gateway, i int) route {
	// Names go against age.
	r := route{name: fmt.Sprintf("%s-r%d", g.name, 9-i), namespace: own, created: pick(d, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")}
	p := parent{Name: g.name, Namespace: own}
	if d.one(4) {
		r.namespace, r.created = other, pick(d, "2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z")
	}
	l := pick(d, g.Listeners...)
	if g.leads {
		l = g.Listeners[1]
	}
	if len(g.Listeners) > 1 && !g.together && (g.leads || !d.one(3)) {
		switch {
		case d.one(4):
			p.Port = l.Port
		case d.one(4) && !g.leads: // at each of them, one by one
			r.Parents = append(r.Parents, parent{Name: g.name, Namespace: own, Section: g.Listeners[0].Name})
			p.Section = g.Listeners[1].Name
		default:
			p.Section = l.Name
		}
	}
	r.Parents = append(r.Parents, p)
	for range d.IntN(3) {
		h := pick(d, "a.x.test", "b.x.test", "*.x.test", "c.y.test", "*.y.test")
		met := slices.ContainsFunc(g.Listeners, func(l listener) bool { return fits(l.Hostname, h) || fits(h, l.Hostname) })
		if (met || d.one(10)) && !slices.Contains(r.Hosts, h) {
			r.Hosts = append(r.Hosts, h)
		}
	}
	for j := range 1 + d.IntN(4) {
		r.Rules = append(r.Rules, d.rule(r, fmt.Sprintf("%s.%d", r.name, j)))
	}
	return r
}

// tag is the header of answers by which all rules of a gateway but one say that it was they.
const tag = "x-rule"

// untagged stands for the tag of that one, so that the answers of a rule are seen that does not edit them.
const untagged = "the one without a tag"

// untag takes the tag off a rule.
func (r *rule) untag() {
	f := &r.Filters[len(r.Filters)-1]
	f.Response.Set = f.Response.Set[:len(f.Response.Set)-1]
	if len(f.Response.Set)+len(f.Response.Add)+len(f.Response.Remove) == 0 {
		r.Filters = r.Filters[:len(r.Filters)-1]
	}
}

func (d drawing) rule(of route, name string) rule {
	var r rule
	for range pick(d, 0, 1, 1, 1, 2) {
		r.Matches = append(r.Matches, d.match())
	}
	answer := edits{}
	if d.one(5) {
		r.Filters = append(r.Filters, filter{Type: "RequestRedirect", Redirect: d.redirect(r)})
	} else {
		d.forward(&r, of, &answer)
	}
	answer.Set = append(answer.Set, value{tag, name})
	r.Filters = append(r.Filters, filter{Type: "ResponseHeaderModifier", Response: &answer})
	return r
}

func (d drawing) match() match {
	var m match
	if !d.one(5) {
		m.Path = &pathMatch{pick(d, "PathPrefix", "PathPrefix", "Exact"), pick(d, "/", "/a", "/b", "/a/b", "/aa", "/a/", "/v1.0")}
	}
	if d.one(3) {
		m.Method = pick(d, "GET", "POST", "PUT")
	}
	for _, name := range []string{"X-A", "x-b"} {
		if d.one(4) {
			m.Headers = append(m.Headers, value{name, pick(d, "1", "2")})
		}
	}
	for _, name := range []string{"q", "R"} {
		if d.one(6) {
			m.Query = append(m.Query, value{name, pick(d, "1", "2")})
		}
	}
	return m
}

// newPath draws what takes the path's place, nil for nothing. A prefix takes the place of the one that a
// rule's only match has.
func (d drawing) newPath(r rule) *newPath {
	prefixed := len(r.Matches) == 1 && r.Matches[0].Path != nil && r.Matches[0].Path.Type == "PathPrefix"
	switch {
	case prefixed && !d.one(3):
		to := pick(d, "/", "/p", "/p/", "", "/p/q")
		return &newPath{Type: "ReplacePrefixMatch", Prefix: &to}
	case d.one(2):
		to := pick(d, "/new", "/new/er", "/new/")
		return &newPath{Type: "ReplaceFullPath", Whole: &to}
	}
	return nil
}

func (d drawing) redirect(r rule) *redirect {
	to := &redirect{Code: pick(d, 0, 301, 302, 303, 307, 308), Scheme: pick(d, "", "", "https", "http"), Host: pick(d, "", "out.other"), Port: pick(d, 0, 0, 0, 80, 443, 8443), Path: d.newPath(r)}
	if to.Path == nil || d.one(2) { // else it might lead to itself
		to.Host = "out.other"
	}
	return to
}

func (d drawing) forward(r *rule, of route, answer *edits) {
	if d.one(2) {
		f := rewrite{Host: pick(d, "", "in.other"), Path: d.newPath(*r)}
		r.Filters = append(r.Filters, filter{Type: "URLRewrite", Rewrite: &f})
	}
	if d.one(3) {
		r.Filters = append(r.Filters, filter{Type: "RequestHeaderModifier", Request: d.edits("x-a", "x-new")})
	}
	if d.one(3) {
		e := d.edits("x-app", "x-back")
		answer.Set, answer.Add, answer.Remove = append(answer.Set, e.Set...), e.Add, e.Remove
	}
	if d.one(20) {
		r.Timeouts = &timeouts{Request: pick(d, "200ms", "200ms", "0s")}
	}
	var refs []reference
	for _, s := range services() {
		for _, p := range s.ports {
			refs = append(refs, reference{Name: s.name, Namespace: s.namespace, Port: p})
		}
	}
	d.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	for i, ref := range refs {
		if ref.Namespace == of.namespace && d.one(2) {
			refs[i].Namespace = ""
		}
	}
	for _, ref := range refs[:pick(d, 1, 1, 1, 2, 2, 3)] {
		b := backend{reference: ref}
		if weight := pick(d, 1, 1, 3, 4, 0, 100); weight != 1 || d.one(2) {
			b.Weight = &weight
		}
		if d.one(5) {
			b.Filters = append(b.Filters, filter{Type: "RequestHeaderModifier", Request: d.edits("x-b", "x-to")})
		}
		if d.one(8) {
			b.Filters = append(b.Filters, filter{Type: "ResponseHeaderModifier", Response: d.edits("x-app-two", "x-from")})
		}
		r.Backends = append(r.Backends, b)
	}
	d.settle(r)
	for _, ref := range refs[3 : 3+pick(d, 0, 0, 0, 0, 1, 2)] {
		m := mirror{Backend: ref}
		switch percent := pick(d, 0, 100, 50); d.IntN(5) {
		case 0:
			m.Percent = &percent
		case 1:
			m.Fraction = &fraction{Numerator: pick(d, 0, 1, 2), Denominator: 2}
		}
		r.Filters = append(r.Filters, filter{Type: "RequestMirror", Mirror: &m})
	}
}

// settle keeps weights such that shares are percentages with two decimals, and one takes something.
func (d drawing) settle(r *rule) {
	for sum := 0; ; sum = 0 {
		for _, b := range r.Backends {
			sum += b.weight()
		}
		if sum > 0 && !slices.ContainsFunc(r.Backends, func(b backend) bool { return b.weight()*10_000%sum != 0 }) {
			return
		}
		weight := pick(d, 1, 3, 4)
		pick(d, pointers(r.Backends)...).Weight = &weight
	}
}

func pointers[T any](of []T) []*T {
	out := make([]*T, len(of))
	for i := range of {
		out[i] = &of[i]
	}
	return out
}

func (b backend) weight() int {
	if b.Weight == nil {
		return 1
	}
	return *b.Weight
}

// edits draws what is done with one header that is there and one that is not.
func (d drawing) edits(there, absent string) *edits {
	var e edits
	switch d.IntN(4) {
	case 0:
		e.Set = append(e.Set, value{there, pick(d, "set", "a b; c=\"d\"")})
	case 1:
		e.Add = append(e.Add, value{strings.ToUpper(there), pick(d, "added", "a, b")})
	case 2:
		e.Remove = append(e.Remove, there, "x-none")
	}
	switch {
	case d.one(2):
		e.Set = append(e.Set, value{absent, "set"})
	case d.one(2), len(e.Set)+len(e.Add)+len(e.Remove) == 0:
		e.Add = append(e.Add, value{absent, "added"})
	}
	return &e
}

// request is one of a visitor's.
type request struct {
	listener           listener
	host, method, path string
	query              string
	headers            []value
	wait               bool // the application takes longer than any timeout
}

// request draws one that most often is what some match of the gateway's asks for.
func (d drawing) request(g gateway) request {
	q := request{listener: pick(d, g.Listeners...), method: pick(d, "GET", "GET", "POST", "PUT", "HEAD", "DELETE"), path: pick(d, "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/aa", "/b", "/b/", "/v1.0", "/v1x0"), headers: []value{{"x-c", "c"}}}
	r := pick(d, g.routes...)
	q.host = strings.Replace(pick(d, append(slices.Clone(r.Hosts), q.listener.Hostname)...), "*", pick(d, "a", "b", "d.b"), 1)
	if q.host == "" || d.one(8) {
		q.host = pick(d, "a.x.test", "b.x.test", "d.b.x.test", "c.y.test", "z.test", "other")
	}
	if d.one(12) {
		q.host = strings.ToUpper(q.host)
	}
	for _, name := range []string{"x-a", "x-b"} {
		if d.one(2) {
			q.headers = append(q.headers, value{name, pick(d, "1", "2", "3")})
		}
	}
	var params []string
	for _, name := range []string{"q", "R"} {
		if d.one(2) {
			params = append(params, name+"="+pick(d, "1", "2"))
		}
	}
	x := pick(d, r.Rules...)
	if len(x.Matches) > 0 && !d.one(4) {
		m := pick(d, x.Matches...)
		if m.Path != nil {
			if q.path = m.Path.Value; m.Path.Type != "Exact" {
				q.path = strings.TrimSuffix(q.path, "/") + pick(d, "", "/", "/c", "/c/d")
			}
			if q.path == "" {
				q.path = "/"
			}
		}
		if m.Method != "" {
			q.method = m.Method
		}
		for _, h := range m.Headers {
			q.headers = slices.DeleteFunc(q.headers, func(v value) bool { return strings.EqualFold(v.Name, h.Name) })
			q.headers = append(q.headers, value{strings.ToLower(h.Name), h.Value})
		}
		for _, p := range m.Query {
			params = slices.DeleteFunc(params, func(s string) bool { return strings.HasPrefix(s, p.Name+"=") })
			params = append(params, p.Name+"="+p.Value)
		}
	}
	q.query, q.wait = strings.Join(params, "&"), x.Timeouts != nil && d.one(2)
	return q
}
