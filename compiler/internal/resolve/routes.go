package resolve

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// serviceRoutes links a service's routes. Without any, all versions share alike.
func (l *linker) serviceRoutes(p *pkg, s *model.Service, n intent.Node) []model.Route {
	entries := l.lasting(n.Field("route").Fields())
	traits := func(r *model.Route, route intent.Node) {
		r.Traits, r.PortTraits = l.byPort(s, n, r.Ports, func(port model.Port, node intent.Node) trait.Set {
			return l.traits(append(serviceRoute(route, node, n), l.around(p)...), &Place{Match: r.Match, Rest: restOf(route), destination: route.Field("destination"), To: port, only: r.Ports, l: l, pkg: p, self: s.ID}, model.RoutePath(s.ID, r.Name))
		})
	}
	if len(entries) == 0 {
		def := model.Route{Name: "default", To: model.Evenly(s.Versions)}
		traits(&def, unwritten(n.Field("route")))
		l.place(model.RoutePath(s.ID, def.Name), n.Pos())
		return []model.Route{def}
	}
	var out []model.Route
	for _, e := range entries {
		r := l.route(p, e, model.RoutePath(s.ID, e.Name), false)
		r.Ports = l.routePorts(e.Node, s.ID, model.RoutePath(s.ID, e.Name), s.Ports)
		l.describes(e.Node.Field("match"), s.ID, r.Ports)
		l.describes(e.Node.Field("canary").Field("cohort"), s.ID, r.Ports)
		traits(&r, e.Node)
		path := model.RoutePath(s.ID, e.Name)
		r.To = l.versionTargets(p, s, e.Node, r, path)
		r.Canary = l.canary(e.Node)
		l.chooses(e.Node, r.To)
		l.place(path, e.Node.Pos())
		out = append(out, r)
		if match, at, ok := l.cohort(p, e.Node, r, false); ok {
			c := model.Route{Name: model.CohortName(e.Name), Priority: r.Priority, Match: match, Ports: r.Ports}
			to := model.Target{Weight: model.All}
			to.Version, _ = versionMeant(e.Node, intent.Entry{Name: r.Canary.Candidate})
			to.Name, to.Traits = l.ownOf(p, e.Node, r.Canary.Candidate, model.RoutePath(s.ID, c.Name), false)
			c.To = []model.Target{to}
			traits(&c, e.Node)
			l.place(model.RoutePath(s.ID, c.Name), at.Pos())
			out = append(out, c)
		}
	}
	if rest, ok := restOfPorts(out, s.Ports); ok {
		rest.To = model.Evenly(s.Versions)
		traits(&rest, unwritten(n.Field("route")))
		l.place(model.RoutePath(s.ID, rest.Name), n.Pos())
		out = append(out, rest)
	}
	l.rank(out, func(name string) string { return model.RoutePath(s.ID, name) })
	return out
}

// restOfPorts is the route of requests to ports for which none is written; ok is false if there is no such port. It says
// nothing of its own, as that of a service without routes.
func restOfPorts(written []model.Route, ports []model.Port) (rest model.Route, ok bool) {
	rest.Name = "default"
	for _, r := range written {
		if r.Name == rest.Name {
			rest.Name = model.RestName
		}
	}
	for _, p := range ports {
		if p.Protocol.IsHTTP() && !slices.ContainsFunc(written, func(r model.Route) bool { return r.IsFor(p.Name) }) {
			rest.Ports = append(rest.Ports, p.Name)
		}
	}
	slices.Sort(rest.Ports)
	return rest, rest.Ports != nil
}

// routePorts reads the ports that a route of a service or an external is for, nil for all that it can be for.
func (l *linker) routePorts(route intent.Node, id, path string, ports []model.Port) []string {
	n := route.Field("ports")
	if !n.Exists() {
		return nil
	}
	problems := len(l.diags)
	var out []string
	for _, e := range n.List() {
		i := slices.IndexFunc(ports, func(p model.Port) bool { return p.Name == e.Str() })
		switch {
		case i < 0:
			l.add(l.unknown(e.Pos(), "port", e.Str(), portNames(ports)).WithRelated(l.declaredAt(id), "declared here"))
		case slices.Contains(out, e.Str()):
			l.add(diag.New(diag.CodeDuplicate, e.Pos(), "port %q is named twice", e.Str()).WithFix("name it once"))
		case !ports[i].Protocol.IsHTTP() && !l.ofBytes(route, id, e):
		default:
			out = append(out, e.Str())
		}
	}
	if len(n.List()) == 0 {
		l.add(diag.New(diag.CodeNever, n.Pos(), "an empty list of ports takes nothing").WithFix("name a port, or delete `ports`: the route is then for all that it can be for"))
	}
	l.broken[path] = l.broken[path] || len(l.diags) > problems
	slices.Sort(out)
	return out
}

// ofBytes reports whether a route can be for a port that takes bytes only: it shares connections among versions, and says
// nothing of requests.
func (l *linker) ofBytes(route intent.Node, id string, port intent.Node) bool {
	refuse := func(what string) bool {
		d := diag.New(diag.CodeProtocol, port.Pos(), "port %q of %q takes bytes only, and %s", port.Str(), id, what).WithRelated(l.declaredAt(id), "declared here").WithFix("take the port out of `ports`")
		if l.kinds[id] != "external" {
			d = d.WithFix("take the port out of `ports`; a route of its own may share connections: {ports: [%q], to: …}", port.Str())
		}
		l.add(d)
		return false
	}
	if l.kinds[id] == "external" {
		return refuse("routes of externals are about requests")
	}
	words := []string{"match"}
	for _, r := range l.rules {
		if !r.Bytes {
			words = append(words, r.Field)
		}
	}
	for _, word := range words {
		if route.Has(word) {
			return refuse("`" + word + "` of the route is about requests")
		}
	}
	for _, d := range route.Field("destination").Fields() {
		for _, word := range []string{"service", "host", "requestHeaders", "responseHeaders"} {
			if d.Node.Has(word) {
				return refuse(fmt.Sprintf("`%s` of its destination %q is about requests", word, d.Name))
			}
		}
	}
	return true
}

// route reads what service and gateway routes share, but for their features.
func (l *linker) route(p *pkg, e intent.Entry, path string, gateway bool) model.Route {
	problems := len(l.diags)
	match := l.match(p, e.Node.Field("match"), gateway)
	l.broken[path] = len(l.diags) > problems
	return model.Route{Name: e.Name, Priority: int(e.Node.Field("priority").Int()), Match: match}
}

// gatewayRoute reads a gateway's route; around is its host, of that name.
func (l *linker) gatewayRoute(p *pkg, g *model.Gateway, host string, e intent.Entry, around carrier, path string) model.Route {
	r := l.route(p, e, path, true)
	r.Traits = l.traits(gatewayRoute(e.Node, around), &Place{Gateway: true, Host: host, plain: l.takesPlain(around.node), Match: r.Match, Rest: restOf(e.Node), destination: e.Node.Field("destination"), l: l, pkg: p, self: g.ID}, path)
	return r
}

// match reads what a route takes: all that its words say, and nothing of what they say behind `not`.
func (l *linker) match(p *pkg, n intent.Node, gateway bool) model.Match {
	var m model.Match
	words := append([]Word{
		{Field: "path", Read: func(n intent.Node, x *Place) model.Match { return x.onPath(n) }},
		{Field: "grpc", Read: func(n intent.Node, x *Place) model.Match { return x.onMethodOfGRPC(n) }},
	}, l.words...)
	not := n.Field("not")
	if not.Exists() && len(not.Fields()) == 0 {
		l.add(diag.New(diag.CodeNever, not.Pos(), "`not` holds no condition").WithFix("delete it, or write what must not be"))
	}
	for behind, from := range []intent.Node{n, not} {
		for _, w := range words {
			word := from.Field(w.Field)
			if !word.Exists() {
				continue
			}
			read := w.Read(word, &Place{Gateway: gateway, l: l, pkg: p})
			if behind == 1 {
				read = read.Opposites()
			}
			both, ok := model.IntersectMatches(m, read)
			if !ok {
				l.add(diag.New(diag.CodeNever, word.Pos(), "no request meets `%s` and the route's other conditions", w.Field).WithFix("delete one of them"))
				continue
			}
			m = both
		}
	}
	return m
}

// methods reads a list of methods, sorted, each once.
func (l *linker) methods(n intent.Node) []string {
	for _, v := range n.List() {
		switch m := v.Str(); {
		case m == "CONNECT":
			l.add(diag.New(diag.CodeNever, v.Pos(), "CONNECT asks for a tunnel, not for a path: proxies refuse it before any route").WithFix("delete it; a port with protocol \"tcp\" takes any connection"))
		case !hop.GoodMethod(m):
			l.add(diag.New(diag.CodeNever, v.Pos(), "no request has the method %q: proxies answer 400 to methods that HTTP/1 parsers do not know", m).
				WithFix("use one of %s", strings.Join(hop.Methods(), ", ")))
		}
	}
	return n.Strings()
}

// path reads the path that a route's condition of that kind names.
func (l *linker) path(n intent.Node, kind string) model.Path {
	v := n.Field(kind)
	p := model.Path{Kind: model.PathKind(kind), Value: v.Str()}
	if why := badPath(strings.ReplaceAll(p.Value, "=**}", "}"), kind == "template"); why != "" {
		l.add(diag.New(diag.CodePath, v.Pos(), "path %q %s", p.Value, why).WithFix("write the path as it is after normalisation, such as \"/reviews/0\""))
		return model.Path{}
	}
	if p.Kind == model.PathPrefix && p.Value != "/" {
		p.Value = strings.TrimSuffix(p.Value, "/")
	}
	if p.Kind != model.PathTemplate {
		return p
	}
	before, rest := cutRest(p.Value)
	if whole := before + "{" + rest + "}"; !goodTemplate(p.Value) && (rest == "" || !goodTemplate(whole)) {
		l.add(diag.New(diag.CodePath, v.Pos(), "template %q is malformed", p.Value).
			WithFix(`each segment is a literal or one {name}; no two names alike, such as "/users/{id}/orders"; the last may be {name=**}`))
		return model.Path{}
	}
	return templated(p.Value)
}

// templated is the condition that a route's template says.
func templated(template string) model.Path {
	before, rest := cutRest(template)
	switch {
	case rest == "":
		return model.Path{Kind: model.PathTemplate, Value: template}
	case before == "/":
		return model.Path{Kind: model.PathPrefix, Value: before}
	case strings.Contains(before, "{"):
		return model.Path{Kind: model.PathTemplate, Value: before + "*"}
	}
	return model.Path{Kind: model.PathBelow, Value: before}
}

// cutRest takes {name=**} from the end of a template: what stands before it, with the slash,
// and the name, "" if there is none.
func cutRest(template string) (before, name string) {
	i := strings.LastIndexByte(template, '/')
	name, ok := strings.CutSuffix(template[i+1:], "=**}")
	if name, _ = strings.CutPrefix(name, "{"); !ok || strings.ContainsAny(name, "{}=*") {
		return template, ""
	}
	return template[:i+1], name
}

// restOf is the name of the rest in a route's template, "" if there is none.
func restOf(route intent.Node) string {
	_, name := cutRest(route.Field("match").Field("path").Field("template").Str())
	return name
}

// badPath says why a path can never be a normalised one. The braces of a template
// are no part of a path.
func badPath(p string, template bool) string {
	if !strings.HasPrefix(p, "/") {
		return `does not start with "/"`
	}
	if strings.Contains(p, "//") {
		return `has an empty segment`
	}
	never := "?#\\*\"<>^`|{}"
	if template {
		never = "?#\\*\"<>^`|"
	}
	if i := strings.IndexFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(never, r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(p[i:])
		return "has " + strconv.QuoteRune(r) + ", which no normalised path holds"
	}
	for seg := range strings.SplitSeq(p, "/") {
		if dots, _, _ := strings.Cut(seg, ";"); dots == "." || dots == ".." {
			return "has a dot segment"
		}
	}
	return badEscape(p)
}

// badEscape finds an escape that normalisation undoes or refuses.
func badEscape(p string) string {
	for i := 0; i+2 < len(p); i++ {
		if p[i] != '%' {
			continue
		}
		n, err := strconv.ParseUint(p[i+1:i+3], 16, 8)
		if err != nil {
			continue // stays as it is
		}
		c := rune(n)
		switch {
		case c == '/' || c == '\\':
			return "has an escaped slash, which proxies refuse"
		case c == 0:
			return "has %00, which proxies refuse"
		case c <= '~' && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~", c)):
			return "has " + p[i:i+3] + ", which normalisation turns into " + strconv.QuoteRune(c)
		}
	}
	return ""
}

// goodTemplate checks that braces enclose whole segments with distinct names.
func goodTemplate(t string) bool {
	seen := map[string]bool{}
	for seg := range strings.SplitSeq(strings.TrimPrefix(t, "/"), "/") {
		if !strings.ContainsAny(seg, "{}") {
			if seg == "" {
				return false
			}
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(seg, "{"), "}")
		if len(seg) != len(name)+2 || name == "" || strings.ContainsAny(name, "{}=*") || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// versionTargets reads the weights of a service's own versions, or of the destinations of its route at
// path, which stand for some or for other services. Where none is written, versions share alike.
func (l *linker) versionTargets(p *pkg, s *model.Service, n intent.Node, r model.Route, path string) []model.Target {
	l.unsent(n)
	if !n.Field("to").Exists() && !n.Field("canary").Exists() && !l.meansToAnswer(n, r) {
		return model.Evenly(s.Versions)
	}
	return l.targetsOf(n, r, func(e intent.Entry) (model.Target, bool) {
		mean := l.versionOf
		if l.isOther(p, s, n, e) {
			mean = l.otherService
		}
		t, ok := mean(p, s, n, e)
		if ok {
			t.Name, t.Traits = l.ownOf(p, n, e.Name, path, false)
		}
		return t, ok
	})
}

// versionOf resolves a name in the `to` of a service's route that stands for one of its versions.
func (l *linker) versionOf(p *pkg, s *model.Service, n intent.Node, e intent.Entry) (model.Target, bool) {
	version, at := versionMeant(n, e)
	if f := n.Field("destination").Field(e.Name).Field("port"); f.Exists() {
		l.add(diag.New(diag.CodeNever, f.Pos(), "destination %q is a version of the route's own service, at the port that was asked for", e.Name).
			WithFix("delete `port`; a destination in another service has one, and so have those of `mirror`"))
		return model.Target{}, false
	}
	if !slices.Contains(l.versions[s.ID], version) {
		d := l.unknown(at.Pos(), "version", version, l.versions[s.ID])
		if id := p.qualify(e.Name); !n.Field("destination").Has(e.Name) && l.kinds[id] == "service" {
			d = d.WithRelated(l.declaredAt(id), "a service of that name").WithFix("if that is meant, say so: destination: %q: service: %q", e.Name, e.Name)
		}
		l.add(d)
		return model.Target{}, false
	}
	if version != e.Name && slices.Contains(l.versions[s.ID], e.Name) {
		l.add(diag.New(diag.CodeDuplicate, at.Pos(), "destination %q is sent to version %q and has the name of another one", e.Name, version).WithFix("choose another name for the destination"))
	}
	return model.Target{Version: version}, true
}

// isOther reports whether a name in the `to` of a service's route stands for another service.
func (l *linker) isOther(p *pkg, s *model.Service, n intent.Node, e intent.Entry) bool {
	service := n.Field("destination").Field(e.Name).Field("service")
	return service.Exists() && p.qualify(service.Str()) != s.ID
}

// otherService resolves a name in the `to` of a service's route that stands for another service. What goes there are
// requests, and of a canary it is versions that take each other over.
func (l *linker) otherService(p *pkg, s *model.Service, n intent.Node, e intent.Entry) (model.Target, bool) {
	service := n.Field("destination").Field(e.Name).Field("service")
	switch {
	case n.Field("canary").Exists():
		l.add(diag.New(diag.CodeNever, service.Pos(), "destination %q is in another service, but what a canary hands over goes from one version of %q to another", e.Name, s.ID).
			WithFix("write `to` with the weights of now: to: {…: 90, %q: 10}", e.Name))
		return model.Target{}, false
	case l.onlyBytes(s.ID):
		l.add(diag.New(diag.CodeProtocol, service.Pos(), "destination %q is in another service, to which requests are sent, but %q has none: all of its ports take bytes only", e.Name, s.ID).
			WithFix("delete `service`, or let a port of %q say http, http2 or grpc", s.ID))
		return model.Target{}, false
	case slices.Contains(l.versions[s.ID], e.Name):
		l.add(diag.New(diag.CodeDuplicate, service.Pos(), "destination %q is sent to service %q and has the name of a version of %q", e.Name, service.Str(), s.ID).WithFix("choose another name for the destination"))
		return model.Target{}, false
	}
	if id := p.qualify(service.Str()); l.kinds[id] == "external" {
		l.add(diag.New(diag.CodeNever, service.Pos(), "destination %q is external %q, and a service's route leads to services: what leaves the mesh is called by who needs it", e.Name, id).
			WithRelated(l.declaredAt(id), "declared here").WithFix("let those who need it call it: calls: %q: {}; a gateway's route may send there", service.Str()))
		return model.Target{}, false
	}
	return l.destined(p, n, e)
}

// versionMeant is the version that a name in the `to` of a service's route stands for, and where it is
// said: that of the route's own destination of this name, else the one of the name.
func versionMeant(route intent.Node, to intent.Entry) (string, intent.Node) {
	if v := route.Field("destination").Field(to.Name).Field("version"); v.Exists() {
		return v.Str(), v
	}
	return to.Name, to.Node
}

// meansToAnswer reports whether a route answers by itself, be it by a word that has been told to be wrong.
func (l *linker) meansToAnswer(n intent.Node, r model.Route) bool {
	return len(l.answers(r.Traits)) > 0 || slices.ContainsFunc(l.rules, func(r Rule) bool { return r.Answers && n.Field(r.Field).Exists() })
}

// targetsOf reads `to`: known names, weights with two decimals at most, a sum of 100.
func (l *linker) targetsOf(n intent.Node, r model.Route, name func(intent.Entry) (model.Target, bool)) []model.Target {
	sends, to := l.sends(n)
	if len(l.answers(r.Traits)) > 0 {
		if to.Exists() {
			word := "to"
			if n.Field("canary").Exists() {
				word = "canary"
			}
			d := diag.New(diag.CodeOneOf, to.Pos(), "%s both answers by itself and has `%s`", n.Path(), word).WithFix("%s", keepOne(n, append(l.answers(r.Traits), word)...))
			for _, name := range l.answers(r.Traits) {
				d = d.WithRelated(n.Field(name).Pos(), "%s", name) // which may be an environment's
			}
			l.add(d)
		}
		return nil
	}
	if !to.Exists() && l.meansToAnswer(n, r) {
		return nil
	}
	if !to.Exists() || len(sends) == 0 {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "%s does not say where requests go", n.Path()).WithFix("add: to: <name>: 100"))
		return nil
	}
	var out []model.Target
	sum, exact := model.Percent(0), true
	for _, e := range sends {
		t, ok := name(e.Entry)
		if !n.Field("canary").Exists() { // which tells of its own
			_, is := l.percent(e.Node)
			exact = exact && is
		}
		t.Weight = e.weight
		sum += t.Weight
		if ok && t.Weight > 0 {
			out = append(out, t)
		}
	}
	if exact && sum != model.All {
		l.add(diag.New(diag.CodeWeights, to.Pos(), "the weights of %s sum to %s, not 100", n.Path(), sum).WithFix("change them so that they sum to 100"))
	}
	return out
}

// chooses refuses what a route says of a choice among its destinations where it has one. At a step of a canary
// it may have one.
func (l *linker) chooses(n intent.Node, to []model.Target) {
	for _, r := range l.rules {
		if f := n.Field(r.Field); r.Chooses && f.Exists() && len(to) == 1 && !n.Field("canary").Exists() {
			l.add(diag.New(diag.CodeNever, f.Pos(), "%s has nothing to choose: all requests of the route go to one destination", f.Path()).
				WithFix("delete it, or give other destinations a share; of versions behind a gateway the service's own route says it"))
		}
	}
}

// rank sorts routes into the order of trial and reports pairs without an order.
func (l *linker) rank(rs []model.Route, path func(string) string) {
	slices.SortFunc(rs, func(a, b model.Route) int {
		if c := compareRank(a, b); c != 0 {
			return c
		}
		return cmp.Or(model.CompareConditions(a.Match, b.Match), strings.Compare(a.Name, b.Name))
	})
	wrong := l.wrong(rs, path)
	near := newPathIndex()
	for i, b := range rs {
		if wrong[i] {
			continue
		}
		for _, k := range near.over(b.Match.Path) {
			a := rs[k]
			if compareRank(a, b) != 0 || a.Package != b.Package || !a.Shares(b) || !a.Match.Meets(b.Match) || disjoint(a.Match, b.Match) {
				continue
			}
			at, other := l.lineOf(path(b.Name)), l.lineOf(path(a.Name))
			fix := "give one of them a higher `priority`, or make one match more specific"
			if b.Package != "" {
				fix = "make one match more specific"
			}
			l.add(diag.New(diag.CodeRouteConflict, at, "routes %q and %q take the same requests with equal rank", b.Name, a.Name).
				WithRelated(other, "the other route").WithFix("%s", fix))
		}
		near.put(i, b.Match.Path)
	}
}

// wrong tells the routes whose match is wrong, which are compared with no other.
func (l *linker) wrong(rs []model.Route, path func(string) string) []bool {
	out := make([]bool, len(rs))
	if len(l.broken) == 0 {
		return out
	}
	for i, r := range rs {
		out[i] = l.broken[path(r.Name)]
	}
	return out
}

// compareRank orders by whether the route is attached, by priority, then by how specific the match is: path exact,
// template, prefix or open template (longer literals at its beginning first, then more segments behind them), none;
// then paths by characters, those with more of them at their beginning first; then by model.CompareSpecific.
func compareRank(a, b model.Route) int {
	if c := cmp.Or(
		cmp.Compare(rankIf(a.Package == ""), rankIf(b.Package == "")),
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(pathRank(a.Match.Path), pathRank(b.Match.Path)),
		cmp.Compare(literals(b.Match.Path), literals(a.Match.Path)),
		cmp.Compare(behindLiterals(b.Match.Path), behindLiterals(a.Match.Path)),
		cmp.Compare(characters(b.Match), characters(a.Match)),
	); c != 0 {
		return c
	}
	return model.CompareSpecific(a.Match, b.Match)
}

func rankIf(specific bool) int {
	if specific {
		return 0
	}
	return 1
}

func pathRank(p model.Path) int {
	if openEnded(p) {
		p.Kind = model.PathPrefix
	}
	return slices.Index([]model.PathKind{model.PathExact, model.PathTemplate, model.PathPrefix, ""}, p.Kind)
}

// openEnded reports whether a condition takes whatever follows its segments.
func openEnded(p model.Path) bool {
	_, open := space.CutOpen(p.Value)
	return p.Kind == model.PathPrefix || p.Kind == model.PathBelow || p.Kind == model.PathTemplate && open
}

// literals is the length of what all paths begin with that an open-ended condition takes.
func literals(p model.Path) int {
	if !openEnded(p) {
		return 0
	}
	literal, _, _ := strings.Cut(p.Value, "{")
	return len(literal)
}

// behindLiterals is how many segments an open template has from the first free one on.
func behindLiterals(p model.Path) int {
	if _, behind, free := strings.Cut(p.Value, "{"); free && openEnded(p) {
		return strings.Count(behind, "/")
	}
	return 0
}

// characters is how many characters all paths have in front that conditions by characters take.
func characters(m model.Match) int {
	n := 0
	for _, t := range m.When {
		if t.Dim == space.PathDim && !t.Not && len(t.Any) == 1 {
			n = max(n, len(t.Any[0].Begins()))
		}
	}
	return n
}
