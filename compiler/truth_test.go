package compiler_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// The types here are a second reading of the language reference (docs/language.md):
// intent as a random generator writes it, and what it means, without any of the
// compiler's packages. A plan is held against it.

// sketch is a repository of two namespaces and a gateway.
type sketch struct {
	services []drawn
	hosts    map[string][]rte // of gateway shop/edge, by host
	denies   map[string][]grt // of its hosts that it has, and "" of the gateway itself
	gateway  int              // its port
	external string           // the address of external shop/out
}

type drawn struct {
	ns, name, account string
	number            int
	admin             bool // a second port beside the main one
	permissive        bool
	versions          []string
	routes            []rte
	grants, denies    []grt
	calls             []string // "ns/name"
}

func (s drawn) id() string { return s.ns + "/" + s.name }

// rte is a route: a service's, to its versions, or a gateway's, to a service or external.
type rte struct {
	name, kind, path, method string
	beta                     bool
	to                       []string // "name:weight"
	timeout                  int      // seconds; 0: not written
	redirect                 bool
	moved, place             string // "path" or "prefix" is rewritten, to place; "" leaves it
}

// grt is a grant, or a deny with what it excepts.
type grt struct {
	name             string
	from, namespaces []string
	mesh, anyone     bool
	methods, paths   []string
	ports            []string
	not              *grt
}

func (w sketch) clone() sketch {
	w.services = slices.Clone(w.services)
	w.hosts, w.denies = maps.Clone(w.hosts), maps.Clone(w.denies)
	for i := range w.services {
		s := &w.services[i]
		s.versions, s.routes, s.grants, s.calls = slices.Clone(s.versions), slices.Clone(s.routes), slices.Clone(s.grants), slices.Clone(s.calls)
		s.denies = slices.Clone(s.denies)
	}
	for h := range w.hosts {
		w.hosts[h] = slices.Clone(w.hosts[h])
	}
	return w
}

func (w sketch) service(id string) *drawn {
	for i := range w.services {
		if w.services[i].id() == id {
			return &w.services[i]
		}
	}
	return nil
}

func quoted(ss []string) string {
	parts := make([]string, 0, len(ss))
	for _, s := range ss {
		parts = append(parts, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (r rte) cue() string {
	var match, out []string
	if r.path != "" {
		match = append(match, fmt.Sprintf("path: %s: %q", r.kind, r.path))
	}
	if r.method != "" {
		match = append(match, fmt.Sprintf("methods: [%q]", r.method))
	}
	if r.beta {
		match = append(match, `headers: "x-beta": exact: "1"`)
	}
	if len(match) > 0 {
		out = append(out, "match: {"+strings.Join(match, ", ")+"}")
	}
	if r.redirect {
		out = append(out, `redirect: path: "/elsewhere"`)
	} else {
		var to []string
		for _, t := range r.to {
			name, weight, _ := strings.Cut(t, ":")
			to = append(to, fmt.Sprintf("%q: %s", name, weight))
		}
		out = append(out, "to: {"+strings.Join(to, ", ")+"}")
	}
	if r.timeout > 0 {
		out = append(out, fmt.Sprintf("timeout: \"%ds\"", r.timeout))
	}
	if r.moved != "" {
		out = append(out, fmt.Sprintf("rewrite: %s: %q", r.moved, r.place))
	}
	return fmt.Sprintf("route: %q: {%s}", r.name, strings.Join(out, ", "))
}

func (g grt) cue(word string) string { return fmt.Sprintf("%s: %q: {%s}", word, g.name, g.parts()) }

func (g grt) parts() string {
	var out []string
	for _, l := range []struct {
		word string
		list []string
	}{{"from", g.from}, {"namespaces", g.namespaces}, {"methods", g.methods}, {"paths", g.paths}, {"ports", g.ports}} {
		if len(l.list) > 0 {
			out = append(out, l.word+": "+quoted(l.list))
		}
	}
	if g.mesh {
		out = append(out, "mesh: true")
	}
	if g.anyone {
		out = append(out, "anyone: true")
	}
	if g.not != nil {
		out = append(out, "not: {"+g.not.parts()+"}")
	}
	return strings.Join(out, ", ")
}

// files is the sketch as files of intent.
func (w sketch) files() map[string]string {
	text := map[string]*strings.Builder{}
	for _, ns := range []string{"shop", "ops"} {
		text[ns] = &strings.Builder{}
		fmt.Fprintf(text[ns], "package %s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: %q\n", ns, ns)
	}
	for _, s := range w.services {
		b := text[s.ns]
		fmt.Fprintf(b, "mesh: service: %s: {\n\tport: http: {number: %d, main: true}\n\tserviceAccount: %q\n", s.name, s.number, s.account)
		if s.admin {
			b.WriteString("\tport: admin: number: 9999\n")
		}
		if s.permissive {
			b.WriteString("\tmtls: {mode: \"permissive\", owner: \"o\", reason: \"r\", until: \"2027-02-01T00:00:00Z\"}\n")
		}
		for _, v := range s.versions {
			fmt.Fprintf(b, "\tversion: %s: {}\n", v)
		}
		for _, c := range s.calls {
			fmt.Fprintf(b, "\tcalls: %q: {}\n", c)
		}
		for _, r := range s.routes {
			b.WriteString("\t" + r.cue() + "\n")
		}
		for _, g := range s.grants {
			b.WriteString("\t" + g.cue("grant") + "\n")
		}
		for _, d := range s.denies {
			b.WriteString("\t" + d.cue("deny") + "\n")
		}
		b.WriteString("}\n")
	}
	b := text["shop"]
	fmt.Fprintf(b, "mesh: external: out: {port: http: number: 80, endpoints: dns: %q}\nmesh: gateway: edge: port: http: number: %d\n", w.external, w.gateway)
	for _, d := range w.denies[""] {
		fmt.Fprintf(b, "mesh: gateway: edge: %s\n", d.cue("deny"))
	}
	for _, h := range slices.Sorted(maps.Keys(w.hosts)) {
		for _, d := range w.denies[h] {
			fmt.Fprintf(b, "mesh: gateway: edge: host: %q: %s\n", h, d.cue("deny"))
		}
		for _, r := range w.hosts[h] {
			fmt.Fprintf(b, "mesh: gateway: edge: host: %q: %s\n", h, r.cue())
		}
	}
	out := map[string]string{"mesh.cue": plainRoot}
	for ns, b := range text {
		out[ns+"/"+ns+".cue"] = b.String()
	}
	return out
}

// caller is who sends a request: a workload ("shop/web", "gateway shop/edge") with the
// account that it has, an account that nobody has, or nobody at all.
type caller struct {
	workload    string
	ns, account string
	plaintext   bool
}

func (c caller) inMesh() bool { return !c.plaintext }

// query is one request.
type query struct {
	method, path string
	beta         bool
}

// below reports whether a path is at or below a prefix, by segment.
func below(prefix, path string) bool {
	return prefix == "/" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

func (r rte) takes(q query) bool {
	switch {
	case r.kind == "exact" && q.path != r.path, r.kind == "prefix" && !below(r.path, q.path):
		return false
	case r.method != "" && r.method != q.method:
		return false
	}
	return !r.beta || q.beta
}

// sends is the path with which a request is sent on. What stands for a prefix is followed by
// the segments that followed the prefix.
func (r rte) sends(path string) string {
	switch r.moved {
	case "path":
		return r.place
	case "prefix":
		rest := path[len(strings.TrimSuffix(r.path, "/")):]
		if place := strings.TrimSuffix(r.place, "/"); place+rest != "" {
			return place + rest
		}
		return "/"
	}
	return path
}

// edit is what a route says of paths.
func (r rte) edit() string { return r.moved + " " + r.path + " " + r.place }

// before reports whether a is tried before b: the more specific one.
func (r rte) before(o rte) bool {
	rank := func(x rte) []int {
		kind := map[string]int{"exact": 2, "prefix": 1}[x.kind]
		length := 0
		if kind == 1 {
			length = len(strings.TrimSuffix(x.path, "/"))
		}
		method, beta := 0, 0
		if x.method != "" {
			method = 1
		}
		if x.beta {
			beta = 1
		}
		return []int{kind, length, method, beta}
	}
	return slices.Compare(rank(r), rank(o)) > 0
}

// routed is the route that a request takes, nil if none.
func routed(rs []rte, q query) *rte {
	var best *rte
	for i := range rs {
		if rs[i].takes(q) && (best == nil || rs[i].before(*best)) {
			best = &rs[i]
		}
	}
	return best
}

// allows reports whether the proxy of a service's port lets a caller's request through.
func (w sketch) allows(s *drawn, port string, c caller, q query) bool {
	if c.plaintext && !s.permissive {
		return false
	}
	if slices.ContainsFunc(s.denies, func(d grt) bool { return w.refuses(d, s, port, c, q) }) {
		return false
	}
	return slices.ContainsFunc(s.grants, func(g grt) bool {
		ports := g.ports
		if len(ports) == 0 {
			ports = []string{"http"} // the main one
		}
		return w.isAbout(g, s, c) && g.asks(q, under) && slices.Contains(ports, port)
	})
}

// isAbout reports whether a grant or deny names a caller.
func (w sketch) isAbout(g grt, s *drawn, c caller) bool {
	return g.anyone || c.inMesh() && (g.mesh || slices.Contains(g.namespaces, c.ns) || w.namesOne(g, s, c))
}

func (w sketch) namesOne(g grt, s *drawn, c caller) bool {
	return slices.ContainsFunc(g.from, func(f string) bool { return w.accountOf(f, s.ns) == c.ns+"/"+c.account })
}

// asks reports whether a request has one of the methods, and one of the paths.
func (g grt) asks(q query, takes func(pattern, path string) bool) bool {
	return (len(g.methods) == 0 || slices.Contains(g.methods, q.method)) &&
		(len(g.paths) == 0 || slices.ContainsFunc(g.paths, func(p string) bool { return takes(p, q.path) }))
}

// under is how a grant reads a path: "/a/*" is all below "/a/".
func under(pattern, path string) bool {
	if dir, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, dir)
	}
	return pattern == path
}

// atOrUnder is how a deny does: "/a/*" is "/a", too, a slash at the end is nothing, and
// letters are the same in both cases.
func atOrUnder(pattern, path string) bool {
	path, pattern = strings.ToLower(folded(path)), strings.ToLower(pattern)
	if dir, ok := strings.CutSuffix(pattern, "/*"); ok {
		return below(dir, path) || dir == ""
	}
	return strings.TrimSuffix(pattern, "/") == strings.TrimSuffix(path, "/")
}

// folded is what an application makes of a path that knows parameters, and unescapes until
// nothing is left to.
func folded(path string) string {
	for {
		plain, err := url.PathUnescape(path)
		if err != nil || plain == path {
			break
		}
		path = plain
	}
	out := ""
	for s := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		if s, _, _ = strings.Cut(s, ";"); s != "" {
			out += "/" + s
		}
	}
	if out == "" {
		return "/"
	}
	return out
}

// refuses reports whether a deny of a service refuses a caller's request.
func (w sketch) refuses(d grt, s *drawn, port string, c caller, q query) bool {
	if len(d.ports) > 0 && !slices.Contains(d.ports, port) || !w.isAbout(d, s, c) {
		return false
	}
	if n := d.not; n != nil && (slices.Contains(n.ports, port) || c.inMesh() && (n.mesh || slices.Contains(n.namespaces, c.ns) || w.namesOne(*n, s, c))) {
		return false
	}
	return d.refusesWhat(q)
}

// refusesWhat is refuses without callers and ports.
func (g grt) refusesWhat(q query) bool {
	n := g.not
	return g.asks(q, atOrUnder) && (n == nil || !slices.Contains(n.methods, q.method) && !slices.ContainsFunc(n.paths, func(p string) bool { return under(p, q.path) }))
}

// accountOf is the account that a name in a grant means.
func (w sketch) accountOf(name, _ string) string {
	if name == "gateway/shop/edge" {
		return "shop/edge"
	}
	s := w.service(name)
	return s.ns + "/" + s.account
}

// becomes is what becomes of a caller's request to a service on its whole way: how it
// ends, and the rest.
func (w sketch) becomes(s *drawn, port string, c caller, q query) (verdict, whole string) {
	verdict, whole = s.goes(q)
	q.path = s.arrives(q)
	if verdict == "forward" && !w.allows(s, port, c, q) {
		return "denied", "denied"
	}
	return verdict, whole
}

// arrives is the path at which a service's proxy gets a request.
func (s *drawn) arrives(q query) string {
	if r := routed(s.routes, q); r != nil {
		return r.sends(q.path)
	}
	return q.path
}

// edits is what the routes that a request meets say of paths: two ways of saying may come to
// the same.
func (s *drawn) edits(q query) string {
	if r := routed(s.routes, q); r != nil {
		return r.edit()
	}
	return ""
}

// goes is what a caller's own proxy does with a request, whoever the caller is.
func (s *drawn) goes(q query) (verdict, whole string) {
	to, timeout := "", 15
	if len(s.routes) == 0 {
		for _, v := range s.versions {
			to += " " + v + ":1"
		}
	} else {
		r := routed(s.routes, q)
		switch {
		case r == nil:
			return "404", "404"
		case r.redirect:
			return "redirect", "redirect"
		}
		to = " " + strings.Join(r.to, " ")
		if r.timeout > 0 {
			timeout = r.timeout
		}
	}
	return "forward", fmt.Sprintf("%s%s at %s within %ds", s.id(), to, s.arrives(q), timeout)
}

// hostClass is the host of a gateway that a request's host means: the exact one, else
// the longest wildcard, else "".
func hostClass(hosts []string, host string) string {
	best := ""
	for _, h := range hosts {
		if h == host {
			return h
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, suffix) && len(host) > len(suffix) && len(h) > len(best) {
			best = h
		}
	}
	return best
}

// outside is what becomes of a request from outside at the gateway.
func (w sketch) outside(host string, q query) (verdict, whole string) {
	h := hostClass(slices.Sorted(maps.Keys(w.hosts)), host)
	r := routed(w.hosts[h], q)
	if r == nil {
		return "404", "404"
	}
	if slices.ContainsFunc(slices.Concat(w.denies[""], w.denies[h]), func(d grt) bool { return d.refusesWhat(q) }) {
		return "denied", "denied"
	}
	if r.redirect {
		return "redirect", "redirect"
	}
	name, _, _ := strings.Cut(r.to[0], ":")
	if name == "out" {
		timeout := 15
		if r.timeout > 0 {
			timeout = r.timeout
		}
		return "forward", fmt.Sprintf("external %s at %s within %ds", w.external, r.sends(q.path), timeout)
	}
	s := w.service("shop/" + name)
	q.path = r.sends(q.path)
	verdict, whole = w.becomes(s, "http", caller{workload: "gateway shop/edge", ns: "shop", account: "edge"}, q)
	if r.timeout > 0 && verdict == "forward" {
		whole = whole[:strings.LastIndex(whole, " within")] + fmt.Sprintf(" within %ds", r.timeout)
	}
	return verdict, whole
}

// outsideEdits is what the routes that a request from outside meets say of paths.
func (w sketch) outsideEdits(host string, q query) string {
	r := routed(w.hosts[hostClass(slices.Sorted(maps.Keys(w.hosts)), host)], q)
	if r == nil || r.redirect {
		return ""
	}
	name, _, _ := strings.Cut(r.to[0], ":")
	if name == "out" {
		return r.edit()
	}
	q.path = r.sends(q.path)
	return r.edit() + ", " + w.service("shop/"+name).edits(q)
}
