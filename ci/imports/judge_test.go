package imports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
)

// This file has the closed list of differences, what it needs of the specification, and what has to have
// been compared.

// difference is a way in which Envoy Gateway departs from the specification.
type difference struct {
	name string
	// is reports whether it explains what both sides say: meshc what the specification does, and Envoy Gateway what is
	// known of it.
	is func(p pair, ours, theirs told) bool
}

func differences() []difference {
	return []difference{
		{"redirect", redirects},
		{"port", named},
		{"rewrite", rewrites},
	}
}

// listed is the name of the difference that explains what came from one backend, "" if there is none.
func (p pair) listed(ours, theirs told) string {
	for _, d := range differences() {
		if d.is(p, ours, theirs) {
			return d.name
		}
	}
	return ""
}

// closed reports whether nobody greets a visitor of meshc's: at a listener without routes, or without one that is written, which the
// import tells, or by HTTPS by a name that no host has. The specification wants 404 where no rules are attached (HTTPRouteRule.matches), which Envoy Gateway answers;
// by HTTPS it leaves open what becomes of a name that no listener has.
func (c *comparison) closed(p pair) bool {
	if a := first(p.theirs); first(p.ours).Status != 0 || a.Status != 404 && a.Status != 0 {
		return false
	}
	at := slices.IndexFunc(p.gateway.Listeners, func(l listener) bool { return l.Name == p.request.listener.Name })
	none := fmt.Sprintf("Gateway %s/%s: spec.listeners[%d] has no routes", own, p.gateway.name, at)
	return c.doors[p.gateway.door(p.request.listener)] != "" || slices.ContainsFunc(c.told, func(d diag.Diagnostic) bool {
		return strings.HasPrefix(d.Text, none) || strings.Contains(d.Text, fmt.Sprintf(" of Gateway %s/%s is not written", own, p.gateway.name))
	})
}

// takes reports whether a match takes a request.
func (m match) takes(q request) bool {
	if m.Path != nil {
		prefix := strings.TrimSuffix(m.Path.Value, "/")
		switch {
		case m.Path.Type == "Exact" && q.path != m.Path.Value:
			return false
		case m.Path.Type == "PathPrefix" && q.path != prefix && !strings.HasPrefix(q.path, prefix+"/"):
			return false
		}
	}
	ok := m.Method == "" || m.Method == q.method
	for _, h := range m.Headers {
		ok = ok && slices.Contains(q.headers, value{strings.ToLower(h.Name), h.Value})
	}
	for _, x := range m.Query {
		ok = ok && slices.Contains(strings.Split(q.query, "&"), x.Name+"="+x.Value)
	}
	return ok
}

// rank is the specification's precedence, most important first: the higher goes before.
func (m match) rank() [5]int {
	out := [5]int{0, 1, min(1, len(m.Method)), len(m.Headers), len(m.Query)}
	if m.Path != nil {
		if m.Path.Type == "Exact" {
			out[0] = 1
		}
		out[1] = len(m.Path.Value)
	}
	return out
}

// best is the match of a rule by which it takes a request.
func (r rule) best(q request) (match, bool) {
	matches := slices.Clone(r.Matches)
	if len(matches) == 0 {
		matches = []match{{}}
	}
	matches = slices.DeleteFunc(matches, func(m match) bool { return !m.takes(q) })
	if len(matches) == 0 {
		return match{}, false
	}
	return slices.MaxFunc(matches, func(a, b match) int { return slices.Compare(ranked(a), ranked(b)) }), true
}

func ranked(m match) []int { r := m.rank(); return r[:] }

// methodCounts: Envoy Gateway counts a method as a header, so that a rule with two headers goes before one with a
// method.
func methodCounts(p pair, ours, theirs told) bool {
	_, a := p.gateway.find(ours.rule())
	_, b := p.gateway.find(theirs.rule())
	if a == nil || b == nil || a == b {
		return false
	}
	first, ok := a.best(p.request)
	second, both := b.best(p.request)
	x, y := first.rank(), second.rank()
	return ok && both && x[0] == y[0] && x[1] == y[1] && x[2] > y[2] && x[2]+x[3] <= y[2]+y[3]
}

// moved is a path with what takes its place.
func (n *newPath) moved(path string, m match) string {
	switch {
	case n == nil:
		return path
	case n.Whole != nil:
		return *n.Whole
	}
	took := strings.TrimSuffix(m.Path.Value, "/")
	rest := strings.TrimPrefix(path, took)
	return cmp.Or(strings.TrimSuffix(*n.Prefix, "/")+rest, "/")
}

// location is what the specification says of a redirect.
func (r *redirect) location(q request, m match) string {
	wellKnown := map[string]int{"http": 80, "https": 443}
	scheme, port := strings.ToLower(q.listener.Protocol), q.listener.Port
	if r.Scheme != "" {
		scheme, port = r.Scheme, wellKnown[r.Scheme]
	}
	port = cmp.Or(r.Port, port)
	host := cmp.Or(r.Host, q.host)
	if port != wellKnown[scheme] {
		host = fmt.Sprintf("%s:%d", host, port)
	}
	return place(scheme + "://" + host + q.with(r.Path.moved(q.path, m)))
}

// redirects: of the Location, Envoy Gateway leaves out a port that is 80 or 443, of whatever scheme, and then the one
// that the visitor wrote stays beside the host, if that stays; and it puts what takes the prefix's place before what is behind it as it
// is, with two slashes or none between.
// HTTPRequestRedirectFilter.port says which port there is, HTTPPathModifier.replacePrefixMatch what becomes of slashes.
func redirects(p pair, ours, theirs told) bool {
	_, r := p.gateway.find(ours.rule())
	if r == nil || ours.rule() != theirs.rule() {
		return false
	}
	m, ok := r.best(p.request)
	for _, f := range r.Filters {
		if f.Redirect != nil && ok && f.Redirect.location(p.request, m) == ours.Location && f.Redirect.elsewhere(p.request, m) == theirs.Location {
			theirs.Location = ours.Location
			return words(ours) == words(theirs)
		}
	}
	return false
}

// named: where the host is a wildcard, and the visitor came by a port that is not the scheme's own, meshc names the redirect's
// port also if that is: HTTPRequestRedirectFilter.port would rather have it left out.
func named(p pair, ours, theirs told) bool {
	_, r := p.gateway.find(ours.rule())
	if r == nil || ours.rule() != theirs.rule() {
		return false
	}
	m, ok := r.best(p.request)
	for _, f := range r.Filters {
		if f.Redirect == nil || !ok || f.Redirect.Host != "" {
			continue
		}
		want := f.Redirect.location(p.request, m)
		scheme, _, _ := strings.Cut(want, "://")
		host := strings.ToLower(p.request.host)
		port := map[string]string{"http": ":80", "https": ":443"}[scheme]
		if ours.Location == strings.Replace(want, host, host+port, 1) && (theirs.Location == want || theirs.Location == f.Redirect.elsewhere(p.request, m)) {
			theirs.Location = ours.Location
			return words(ours) == words(theirs)
		}
	}
	return false
}

// elsewhere is what Envoy Gateway makes of a redirect.
func (r *redirect) elsewhere(q request, m match) string {
	scheme, port := strings.ToLower(q.listener.Protocol), q.listener.Port
	if r.Scheme != "" {
		scheme, port = r.Scheme, map[string]int{"http": 80, "https": 443}[r.Scheme]
	}
	host := cmp.Or(r.Host, q.authority())
	if port = cmp.Or(r.Port, port); port != 80 && port != 443 {
		host = fmt.Sprintf("%s:%d", cmp.Or(r.Host, q.host), port)
	}
	return place(scheme + "://" + host + q.with(r.Path.spliced(q.path, m)))
}

// spliced is a path with what Envoy Gateway puts in place of a prefix.
func (n *newPath) spliced(path string, m match) string {
	if n == nil || n.Prefix == nil {
		return n.moved(path, m)
	}
	took := m.Path.Value
	if *n.Prefix == "" || *n.Prefix == "/" {
		if rest, ok := strings.CutPrefix(path, took); ok {
			return "/" + strings.TrimLeft(rest, "/")
		}
		return path
	}
	if took != "/" {
		took = strings.TrimSuffix(took, "/")
	}
	return *n.Prefix + strings.TrimPrefix(path, took)
}

// rewrites: as with redirects, but that Envoy Gateway leaves out a slash at the end of what takes the prefix's place.
func rewrites(p pair, ours, theirs told) bool {
	_, r := p.gateway.find(ours.rule())
	if r == nil || ours.rule() != theirs.rule() || ours.Seen == nil || theirs.Seen == nil {
		return false
	}
	m, ok := r.best(p.request)
	for _, f := range r.Filters {
		if f.Rewrite == nil || f.Rewrite.Path == nil || f.Rewrite.Path.Prefix == nil || !ok {
			continue
		}
		to := *f.Rewrite.Path.Prefix
		if to != "/" {
			to = strings.TrimSuffix(to, "/")
		}
		spliced := (&newPath{Prefix: &to}).spliced(p.request.path, m)
		if p.request.with(f.Rewrite.Path.moved(p.request.path, m)) == ours.Seen.Path && p.request.with(spliced) == theirs.Seen.Path {
			return words(ours) == words(theirs.at(ours.Seen.Path))
		}
	}
	return false
}

// at is the same with another path.
func (t told) at(path string) told {
	seen := *t.Seen
	seen.Path = path
	t.Seen, t.Copies = &seen, slices.Clone(t.Copies)
	for i := range t.Copies {
		t.Copies[i].Path = path
	}
	return t
}

// with is a path with the request's query.
func (q request) with(path string) string {
	if q.query == "" {
		return path
	}
	return path + "?" + q.query
}

// count notes what kinds a pair has compared.
func (c *comparison) count(p pair) {
	c.met["all"]++
	name := first(p.ours).rule()
	r, x := p.gateway.find(name)
	if x == nil {
		if a, ok := p.ours[""]; ok && a.Status == 404 {
			c.met["nothing"]++
		}
		return
	}
	m, _ := x.best(p.request)
	for kind, is := range map[string]bool{
		"header": len(m.Headers) > 0, "query": len(m.Query) > 0, "method": m.Method != "", "exact": m.Path != nil && m.Path.Type == "Exact",
		"prefix": m.Path != nil && m.Path.Type == "PathPrefix", "timeout": p.ours[""].Status == 504,
		"listeners": len(p.gateway.Listeners) > 1, "https": p.request.listener.https(), "namespace": r.namespace == other,
		"wildcard": !slices.Contains(append(slices.Clone(r.Hosts), p.request.listener.Hostname), strings.ToLower(p.request.host)),
		"split":    len(p.ours) > 1,
		"zero":     slices.ContainsFunc(x.Backends, func(b backend) bool { return b.weight() == 0 }),
		"backend":  slices.ContainsFunc(x.Backends, func(b backend) bool { return len(b.Filters) > 0 }),
	} {
		if is {
			c.met[kind]++
		}
	}
	for _, f := range x.Filters {
		switch {
		case f.Redirect != nil:
			c.met["redirect"]++
		case f.Rewrite != nil && f.Rewrite.Host != "":
			c.met["rewrite host"]++
		case f.Request != nil:
			c.met["request headers"]++
		case f.Mirror != nil:
			c.met["mirror"]++
		case f.Response != nil && len(f.Response.Set)+len(f.Response.Add)+len(f.Response.Remove) > 1:
			c.met["response headers"]++
		}
		if f.Rewrite != nil && f.Rewrite.Path != nil {
			c.met["rewrite "+f.Rewrite.Path.Type]++
		}
	}
}

// floors demands that each kind has been compared often enough, and that each listed difference is still one.
func (c *comparison) floors(t *testing.T) {
	t.Helper()
	for kind, least := range map[string]int{
		"all": 1400, "nothing": 300, "exact": 120, "prefix": 220, "method": 150, "header": 180, "query": 80, "wildcard": 350, "listeners": 400, "https": 140, "namespace": 90,
		"redirect": 55, "rewrite ReplaceFullPath": 120, "rewrite ReplacePrefixMatch": 28, "rewrite host": 150, "request headers": 130, "response headers": 90, "backend": 240,
		"split": 75, "zero": 40, "mirror": 300, "timeout": 6, "shares": splits,
	} {
		if c.met[kind] < least {
			t.Errorf("%q was compared %d times, and %d are the least", kind, c.met[kind], least)
		}
	}
	for _, name := range append([]string{"closed", "order"}, names(differences())...) {
		if c.listed[name] == 0 {
			t.Errorf("the difference %q is listed, and did not come up", name)
		}
	}
}

func names(of []difference) []string {
	var out []string
	for _, d := range of {
		out = append(out, d.name)
	}
	return out
}
