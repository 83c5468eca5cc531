package draw

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/schema"
)

// byHand are the fields of objects that the scaffold writes, by definition: they say what
// there is and who sends to whom, and have to fit together. All other fields are drawn.
func byHand() map[string][]string {
	return map[string][]string{
		"#Mesh":          {"namespace", "owns", "delegate", "attach", "trustDomain", "environment", "targets", "service", "external", "certificate", "gateway", "rule", "exemption", "test", "never", "collector", "limiter", "authorizer", "default", "workload", "aliases", "federation"},
		"#Service":       {"port", "version", "serviceAccount", "selector", "endpoints", "addresses", "hosts", "calls", "route", "formerAccounts", "proxyless"},
		"#Version":       {"labels", "serviceAccount", "port", "endpoints", "calls", "formerAccounts", "proxyless"},
		"#ServicePort":   {"number", "protocol", "main"},
		"#Call":          {"local", "port", "until", "owner", "reason"},
		"#CallPort":      {"local"},
		"#ServiceRoute":  {"to", "canary", "destination", "priority", "match", "until", "owner", "reason"},
		"#Gateway":       {"port", "address", "serviceAccount", "autoscale", "trustedHops", "http10", "host", "formerAccounts"},
		"#GatewayHost":   {"route", "ports", "tls"},
		"#GatewayRoute":  {"to", "canary", "destination", "priority", "match", "until", "owner", "reason"},
		"#External":      {"port", "hosts", "endpoints", "addresses", "route"},
		"#ExternalRoute": {"priority", "match", "until", "owner", "reason"},
		// What a destination is stands where it is named.
		"#Destination":        {"service", "port", "version"},
		"#VersionDestination": {"service", "port", "version"},
	}
}

// free are the fields of an object that are drawn. A route that answers by itself has none
// that are about requests on their way, and one answer; a port for bytes none about requests.
func (o *object) free() []string {
	if o.definition == "" { // all of it is written by hand
		return nil
	}
	return slices.DeleteFunc(schema.Definitions()[o.definition].Names(), func(f string) bool {
		if slices.Contains(byHand()[o.definition], f) {
			return true
		}
		return slices.ContainsFunc(catalog.Rules(), func(r resolve.Rule) bool {
			return r.Field == f && (r.Answers || r.Forwards && o.answers || o.bytes && !r.Bytes)
		})
	})
}

// answering are the fields with which a route answers by itself.
func answering() []string {
	var out []string
	for _, r := range catalog.Rules() {
		if r.Answers {
			out = append(out, r.Field)
		}
	}
	return out
}

// entries is how many entries of a map of structs are drawn at an object, a line each.
func entries(r *rand.Rand, field string) int {
	switch field {
	case "grant":
		return 1 + r.IntN(4)
	case "deny":
		return 1 + r.IntN(3)
	}
	return r.IntN(3)
}

// draw writes a field of an object: one line, or one for each entry.
func (m *Mesh) draw(r *rand.Rand, o *object, field string) {
	f, ok := schema.Definitions()[o.definition].Field(field)
	if !ok {
		panic(fmt.Sprintf("draw: %s has no field %s", o.definition, field))
	}
	if d := f.Definition(); d != nil && d.Pattern != nil && d.Pattern.Definition() != nil {
		for i := range entries(r, field) {
			key := strconv.Quote(field[:1] + strconv.Itoa(i))
			if words := alphabet(d.Pattern.Name, spot{owner: o.definition, field: field}); field == "users" || d.Pattern.Name == "#Ref" || d.Pattern.Name == "#AuthorizerRef" { // they name what is there
				key = strconv.Quote(words[r.IntN(len(words))])
			}
			at := spot{owner: o.definition, field: field, path: field}
			m.lines = append(m.lines, m.write(r, o, field+": "+key, func(p *pen) string { p.fields[field] = true; return p.expr(d.Pattern.Value, d.Pattern.Holds, at) }))
		}
		return
	}
	m.lines = append(m.lines, m.write(r, o, field, func(p *pen) string { return p.value(f, spot{}.in(o.definition, field)) }))
}

// often is how likely a field is drawn, in percent.
func often(field string) int {
	switch field {
	case "grant": // without one nothing gets anywhere
		return 100
	case "jwt": // is there for others
		return 100
	case "deny": // has most to say
		return 60
	case "users": // so that others can ask who it is
		return 35
	case "outlier": // without which there is no locality
		return 45
	case "locality", "sticky", "workload", "health": // which are refused more often than not
		return 5
	}
	return 22
}

// fill draws fields of an object.
func (m *Mesh) fill(r *rand.Rand, o *object) {
	for _, f := range o.free() {
		if r.IntN(100) < often(f) || leads(m.sought, f) {
			m.draw(r, o, f)
		}
	}
}

// add makes an object by a line that is written by hand. A route's is drawn by say.
func (m *Mesh) add(r *rand.Rand, o *object, text string) *object {
	return m.sketch(r, o, func(*pen) string { return text })
}

func (m *Mesh) sketch(r *rand.Rand, o *object, say func(*pen) string) *object {
	l := m.write(r, o, "", say)
	l.again = nil
	m.lines, m.objects = append(m.lines, l), append(m.objects, o)
	m.fill(r, o)
	return o
}

// put writes a line by hand that belongs to an object.
func (m *Mesh) put(o *object, text string) {
	m.lines = append(m.lines, &line{of: o, field: "by hand", text: o.at + text})
}

func file(namespace string) string { return namespace + "/" + namespace + ".cue" }

func on(cs ...resolve.On) []string {
	var out []string
	for _, c := range cs {
		out = append(out, string(c))
	}
	return out
}

// scaffold writes what a mesh consists of.
func (m *Mesh) scaffold(r *rand.Rand) {
	root := m.add(r, &object{file: "mesh.cue", at: "mesh: ", definition: "#Mesh", carriers: on(resolve.OnMesh)}, `{trustDomain: "mesh.test", environment: local: {}}`)
	m.put(root, `collector: {all: otlp: to: "watch/otel", out: file: "/dev/null"}`)
	m.put(root, `limiter: all: {to: "watch/limits", timeout: "50ms"}`)
	m.byDefault(r, root)
	m.put(&object{file: file("watch"), at: "mesh: "}, `service: limits: {port: grpc: {number: 8081, protocol: "grpc"}, grant: quotas: mesh: true}`)
	m.put(&object{file: file("watch"), at: "mesh: "}, `service: judge: {port: grpc: {number: 9191, protocol: "grpc"}, grant: asked: mesh: true}`)
	m.put(&object{file: file("watch"), at: "mesh: "}, `authorizer: judge: {to: "judge", failOpen: true, timeout: "50ms"}`) // nobody answers in a rehearsal
	m.put(&object{file: file("watch"), at: "mesh: "}, `service: otel: {port: grpc: {number: 4317, protocol: "grpc"}, grant: logs: mesh: true}`)
	spaces := map[string]*object{}
	for _, ns := range []string{"alpha", "beta", "edge"} {
		spaces[ns] = m.add(r, &object{file: file(ns), at: "mesh: ", definition: "#Mesh", carriers: on(resolve.OnNamespace)}, "{}")
		m.byDefault(r, spaces[ns])
	}
	for i := range 4 {
		ns := []string{"alpha", "beta"}[i%2]
		m.service(r, spaces[ns], ns, "s"+strconv.Itoa(i), i == 3)
	}
	m.program(hand(r), spaces["alpha"])
	m.put(spaces["beta"], `certificate: own: file: "own"`)
	speaks := func(protocols ...string) string { return `protocol: "` + protocols[r.IntN(len(protocols))] + `"` }
	m.put(spaces["edge"], `gateway: out: {address: "127.0.0.1", port: mesh: {number: 15443, protocol: "mesh"}}`)
	m.external(r, spaces["beta"], "out", `{port: http: {number: 80, `+speaks("http", "http2")+`}, endpoints: static: ["192.0.2.1:80"], hosts: ["out.test"], grant: all: mesh: true}`)
	m.external(r, spaces["beta"], "far", `{port: https: {number: 443, `+speaks("https", "https2")+`}, endpoints: static: ["192.0.2.2:443"], hosts: ["far.test", "*.far.test"], grant: all: mesh: true}`)
	m.put(spaces["edge"], `jwt: id: {issuer: "https://id.test", audiences: ["shop"], keys: inline: `+strconv.Quote(KeySet())+`, from: headers: "x-id": ""}`)
	m.put(spaces["edge"], `credentials: shop: {file: "shop", apiKey: header: "x-key"}`)
	m.put(spaces["edge"], `login: web: {client: "shop", file: "web", authorization: "https://id.test/auth", token: {to: "beta/far", port: "https", path: "/token"}`+
		pick(hand(r), "", `, callback: "/a", logout: "/b"`)+"}")
	m.gateway(r, spaces["edge"])
	m.attach(r, spaces)
	m.identities(root)
	m.job(r)
}

// identities draws accounts that services had, and a trust domain that is taken for the mesh's, from a source of its own.
func (m *Mesh) identities(root *object) {
	p := hand(rand.New(rand.NewPCG(uint64(len(m.lines)), 0))) //nolint:gosec // meshes, not keys
	const lasts = `owner: "ops", reason: "moves", until: "2030-01-01T00:00:00Z"}`
	if p.chance(30) {
		m.put(root, `aliases: "was.test": {`+lasts)
	}
	for _, d := range m.Services {
		ns, name, _ := strings.Cut(d.ID, "/")
		s := &object{file: file(ns), at: "mesh: service: " + name + ": "}
		if p.chance(20) {
			m.put(s, `formerAccounts: "`+name+`-was": {`+lasts)
		}
		if p.chance(10) {
			m.put(s, "version: "+pick(p, d.Versions...)+`: formerAccounts: "`+name+`-had": {`+lasts)
		}
	}
}

// job writes a service that only calls.
func (m *Mesh) job(r *rand.Rand) {
	s := &object{file: file("alpha"), at: "mesh: service: job: "}
	m.put(s, fmt.Sprintf("{version: v1: {}, calls: %q: {}}", pick(hand(r), m.Services...).ID))
	m.call(r, s, pick(hand(r), m.Externals...).ID)
}

// byDefault draws what holds around where nothing is written.
func (m *Mesh) byDefault(r *rand.Rand, around *object) {
	m.add(r, &object{file: around.file, at: around.at + "default: ", definition: "#Default", carriers: on(resolve.OnDefault), parent: around}, "{}")
}

// program writes a service without a proxy, which others call like any other. What it says itself is little: most of
// what chance would write is refused.
func (m *Mesh) program(p *pen, space *object) {
	d := Door{ID: "alpha/bare", Ports: []string{"http"}, Versions: []string{"v1"}}
	m.Services = append(m.Services, d)
	grants := pick(p, `way: mesh: true`, `way: {namespaces: ["alpha"], paths: ["/a/*"], not: paths: ["/a/b"]}`, `way: {mesh: true, methods: ["POST"]}`)
	m.put(space, `service: bare: {proxyless: true, port: http: {number: 8080, protocol: "grpc"}, version: v1: {}, mtls: mode: "strict", access: mode: "enforce", calls: "watch/judge": {}, grant: `+grants+`}`)
	if p.chance(30) {
		m.put(space, `service: bare: deny: some: {mesh: true, paths: ["/a"]}`)
	}
}

// rank is a route's priority.
func rank(p *pen) *int { return ptr(p.IntN(1000)) }

func ptr(n int) *int { return &n }

// hand draws what is written by hand, of which nothing is noted.
func hand(r *rand.Rand) *pen { return &pen{Rand: r} }

func (m *Mesh) service(r *rand.Rand, space *object, ns, name string, plain bool) {
	p := hand(r)
	d := Door{ID: ns + "/" + name, Ports: []string{"http"}}
	ports := map[string]string{"http": fmt.Sprintf("{number: 8080, protocol: %q", pick(p, "http", "http", "http", "http2", "grpc"))}
	if p.chance(30) {
		d.Ports, ports["alt"] = append(d.Ports, "alt"), fmt.Sprintf("{number: 8081, protocol: %q", pick(p, "http", "http2"))
	}
	if plain || p.chance(40) {
		d.Ports, ports["raw"] = append(d.Ports, "raw"), `{number: 9000, protocol: "tcp"`
	}
	if len(d.Ports) > 1 {
		ports[pick(p, d.Ports[:max(1, len(d.Ports)-1)]...)] += ", main: true"
	}
	var parts []string
	for _, n := range d.Ports {
		parts = append(parts, "port: "+n+": "+ports[n]+"}")
	}
	if name == "s1" {
		parts = append(parts, `hosts: ["s1.test"]`)
	}
	if name == "s2" { // of others the platform knows who is well
		parts = append(parts, `endpoints: file: "s2"`)
	}
	for i := range pick(p, 1, 1, 1, 2, 3) {
		v := "v" + strconv.Itoa(i+1)
		d.Versions = append(d.Versions, v)
		account := ""
		if p.chance(15) {
			account = fmt.Sprintf("serviceAccount: %q", name+"-"+v)
		}
		parts = append(parts, fmt.Sprintf("version: %s: {%s}", v, account))
	}
	calls := m.callees(p)
	m.Services = append(m.Services, d)
	s := m.add(r, &object{file: file(ns), at: "mesh: service: " + name + ": ", definition: "#Service", carriers: on(resolve.OnService, resolve.AroundRoutes), parent: space}, "{"+strings.Join(parts, ", ")+"}")
	for _, n := range d.Ports {
		m.add(r, &object{file: s.file, at: s.at + "port: " + n + ": ", definition: "#ServicePort", carriers: on(resolve.OnPort, resolve.AroundPort), bytes: n == "raw", parent: s}, "{}")
	}
	for _, v := range d.Versions {
		m.add(r, &object{file: s.file, at: s.at + "version: " + v + ": ", definition: "#Version", carriers: on(resolve.OnVersion), parent: s}, "{}")
	}
	for _, to := range calls {
		m.call(r, s, to)
	}
	if p.chance(50) {
		m.put(s, fmt.Sprintf("grant: way: {anyone: true, ports: [%s]}", quoted(d.Ports)))
	}
	m.access(r, p, s)
	m.routes(r, p, s, d, plain)
}

// routes draws those of a service, plain ones without conditions: gateways may split to it.
func (m *Mesh) routes(r *rand.Rand, p *pen, s *object, d Door, plain bool) {
	to := func(p *pen) string {
		if o, ok := m.other(p, d); ok && p.chance(25) && (!plain || p.chance(40)) {
			return m.onward(p, d, o)
		}
		if p.chance(15) {
			return fmt.Sprintf("%s, destination: there: version: %q", p.split([]string{"there", d.Versions[0]}, !plain), pick(p, d.Versions...))
		}
		return p.split(d.Versions, !plain)
	}
	routes := p.IntN(8)
	if plain || p.chance(15) {
		routes = 0
	}
	for i := range routes {
		m.route(r, s, route{definition: "#ServiceRoute", name: "r" + strconv.Itoa(i), priority: rank(p), to: to})
	}
	if slices.Contains(d.Ports, "raw") || p.chance(60) { // connections go where requests without conditions go
		m.route(r, s, route{definition: "#ServiceRoute", name: "rest", priority: ptr(last), to: to})
	}
}

// other is a service of the same package that was drawn before one: so no routes lead in a ring.
func (m *Mesh) other(p *pen, d Door) (Door, bool) {
	space, _, _ := strings.Cut(d.ID, "/")
	i := slices.IndexFunc(m.Services, func(s Door) bool { return s.ID == d.ID })
	before := slices.DeleteFunc(slices.Clone(m.Services[:max(0, i)]), func(s Door) bool { return !strings.HasPrefix(s.ID, space+"/") })
	if len(before) == 0 {
		return Door{}, false
	}
	return pick(p, before...), true
}

// onward draws that a service's route leads to another one, all of it, or a share if that takes one.
func (m *Mesh) onward(p *pen, d, to Door) string {
	requests := slices.DeleteFunc(slices.Clone(to.Ports), func(name string) bool { return name == "raw" })
	of := fmt.Sprintf("{service: %q, port: %q", to.ID, pick(p, requests...))
	if p.chance(30) {
		of += fmt.Sprintf(", version: %q", pick(p, to.Versions...))
	}
	weights := `{"on": 100}`
	if m.plain(to) && p.chance(70) {
		weights = p.weights([]string{"on", d.Versions[0]})
	}
	return "to: " + weights + ", destination: on: " + of + "}"
}

// plain reports whether a service that has been drawn has at most a route without conditions.
func (m *Mesh) plain(d Door) bool {
	_, name, _ := strings.Cut(d.ID, "/")
	return !slices.ContainsFunc(m.lines, func(l *line) bool {
		return l.field == "" && strings.HasPrefix(l.of.at, "mesh: service: "+name+": route: ") && !strings.HasSuffix(l.of.at, "route: rest: ")
	})
}

// access draws what chance alone rarely writes of who gets in.
func (m *Mesh) access(r *rand.Rand, p *pen, s *object) {
	m.refusing(r, p, s)
	m.asking(r, p, s)
	m.signedIn(r, p, s)
}

// refusing refuses all but some, now and then: chance alone rarely writes one exception by itself.
func (m *Mesh) refusing(r *rand.Rand, p *pen, s *object) {
	if p.chance(10) {
		m.lines = append(m.lines, m.write(r, s, `deny: "strangers"`, func(p *pen) string {
			p.fields["deny.not.mesh"] = true
			return "{anyone: true, not: mesh: true}"
		}))
	}
	if p.chance(20) {
		m.lines = append(m.lines, m.write(r, s, `deny: "others"`, func(p *pen) string {
			return "{mesh: true, not: " + p.field("#DenyExcept", "deny.not", pick(p, "accounts", "from", "headers", "ports", "query")) + "}"
		}))
	}
	if p.chance(10) {
		m.lines = append(m.lines, m.write(r, s, `grant: "most"`, func(p *pen) string {
			return "{mesh: true, not: " + p.field("#GrantExcept", "grant.not", pick(p, "headers", "query")) + "}"
		}))
	}
}

// signedIn lets in and refuses end users by what their tokens say, now and then: chance alone rarely
// has a service look at tokens where somebody asks what they say.
func (m *Mesh) signedIn(r *rand.Rand, p *pen, s *object) {
	if !p.chance(25) {
		return
	}
	m.put(s, `users: "edge/id": {}`)
	user := func(list, who, of, except string) {
		m.lines = append(m.lines, m.write(r, s, list+`: "users"`, func(p *pen) string {
			if p.chance(50) {
				return "{" + who + ": true, " + p.field(of, list, "user") + "}"
			}
			return "{" + who + ": true, not: " + p.field(except, list+".not", "user") + "}"
		}))
	}
	user("grant", "anyone", "#Grant", "#GrantExcept")
	if p.chance(60) {
		user("deny", "mesh", "#Deny", "#DenyExcept")
	}
}

// asking lets in who asks for something, now and then: what chance alone writes is rarely what decides. Whose
// visitors are told apart are gateways.
func (m *Mesh) asking(r *rand.Rand, p *pen, s *object) {
	if p.chance(30) {
		m.lines = append(m.lines, m.write(r, s, `grant: "asks"`, func(p *pen) string {
			if p.chance(25) {
				return m.visitors(p, "grant", "#Grant")
			}
			return "{anyone: true, " + p.field("#Grant", "grant", pick(p, "headers", "query", "hosts", "sources")) + "}"
		}))
	}
	if p.chance(30) {
		m.put(s, `port: http: mtls: {mode: "permissive", owner: "ops", reason: "moves", until: "2030-01-01T00:00:00Z"}`)
		m.lines = append(m.lines, m.write(r, s, `grant: "strangers"`, func(p *pen) string {
			return "{plaintext: true, ports: [\"http\"], " + p.field("#Grant", "grant", "sources") + "}"
		}))
	}
	if p.chance(10) {
		m.lines = append(m.lines, m.write(r, s, `deny: "visitors"`, func(p *pen) string { return m.visitors(p, "deny", "#Deny") }))
	}
}

// visitors are those of the gateway, by their addresses.
func (m *Mesh) visitors(p *pen, path, definition string) string {
	if p.chance(50) {
		return `{from: ["gateway/edge/gw"], not: ` + p.field(definition+"Except", path+".not", "clients") + "}"
	}
	return `{from: ["gateway/edge/gw"], ` + p.field(definition, path, "clients") + "}"
}

// field draws one field of a definition.
func (p *pen) field(definition, path, name string) string {
	f, _ := schema.Definitions()[definition].Field(name)
	return name + ": " + p.value(f, spot{path: path}.in(definition, name))
}

// callees draws whom the next service calls.
func (m *Mesh) callees(p *pen) []string {
	var out []string
	for _, x := range []string{"out", "far"} {
		if p.chance(70) {
			out = append(out, "beta/"+x)
		}
	}
	if len(m.Services) > 0 && p.chance(50) {
		out = append(out, pick(p, m.Services...).ID)
	}
	return out
}

// call draws a call of a service.
func (m *Mesh) call(r *rand.Rand, s *object, to string) {
	c := &object{file: s.file, at: s.at + fmt.Sprintf("calls: %q: ", to), definition: "#Call", carriers: on(resolve.OnCall), parent: s}
	m.sketch(r, c, func(p *pen) string { return "{" + strings.Join(p.ending(), ", ") + "}" })
	i := slices.IndexFunc(m.Services, func(s Door) bool { return s.ID == to })
	if i < 0 || !hand(r).chance(40) {
		return
	}
	for _, port := range m.Services[i].Ports {
		m.add(r, &object{file: s.file, at: c.at + "port: " + port + ": ", definition: "#CallPort", carriers: on(resolve.OnCall), bytes: port == "raw", parent: c}, "{}")
	}
}

// ending draws, for a few, that they end.
func (p *pen) ending() []string {
	if !p.chance(6) {
		return nil
	}
	var out []string
	for _, name := range account() {
		f, _ := schema.Definitions()["#Call"].Field(name) // as of whatever ends
		out = append(out, name+": "+p.value(f, spot{}.in("#Call", name)))
	}
	return out
}

// inAnswer is the share of routes that answer by themselves, in percent.
const inAnswer = 15

// route is what the scaffold says of a route.
type route struct {
	definition, name string
	// priority is written; -1 is a route without conditions, after all others. nil is none.
	priority *int
	// match draws its conditions; nil takes those of the schema.
	match func(*pen) string
	// to draws where it leads to, "to: …" or "canary: …"; nil is where it stands.
	to func(*pen) string
}

// last is the priority of a route without conditions.
const last = -1

// route draws a route. Its line has what makes it one: its match and where it leads to.
func (m *Mesh) route(r *rand.Rand, around *object, what route) {
	always := what.priority != nil && *what.priority == last
	o := &object{file: around.file, at: around.at + "route: " + what.name + ": ", definition: what.definition, carriers: on(resolve.OnRoute), parent: around,
		answers: !always && r.IntN(100) < inAnswer}
	if what.definition == "#GatewayRoute" {
		o.carriers = on(resolve.OnRoute, resolve.OnGatewayRoute)
	}
	field := func(p *pen, name string) string {
		f, _ := schema.Definitions()[what.definition].Field(name)
		return name + ": " + p.value(f, spot{}.in(what.definition, name))
	}
	m.sketch(r, o, func(p *pen) string {
		var parts []string
		if what.priority != nil {
			parts = append(parts, "priority: "+strconv.Itoa(*what.priority))
		}
		switch {
		case always:
		case what.match != nil:
			parts = append(parts, what.match(p))
		case p.chance(85):
			parts = append(parts, field(p, "match"))
		}
		switch {
		case o.answers:
			parts = append(parts, field(p, pick(p, answering()...)))
		case what.to != nil:
			parts = append(parts, what.to(p))
		}
		parts = append(parts, p.ending()...)
		return "{" + strings.Join(parts, ", ") + "}"
	})
	m.destinations(r, o)
}

// sentTo are the names to which a route sends, those of a canary without their shares.
var sentTo = regexp.MustCompile(`to: \{([^}]*)\}|canary: \{stable: ("[^"]*"), candidate: ("[^"]*")`)

// destinations draws what a route says of what goes to some of its destinations alone.
func (m *Mesh) destinations(r *rand.Rand, route *object) {
	definition := map[string]string{"#ServiceRoute": "#VersionDestination", "#GatewayRoute": "#Destination"}[route.definition]
	if p := hand(r); definition != "" && !route.answers && p.chance(10) {
		to := pick(p, m.Services...)
		m.put(route, fmt.Sprintf("mirror: copy: percent: 100, destination: copy: {service: %q, port: %q, version: %q}", to.ID, pick(p, to.Ports...), pick(p, to.Versions...)))
	}
	i := slices.IndexFunc(m.lines, func(l *line) bool { return l.of == route && l.field == "" })
	to := sentTo.FindStringSubmatch(m.lines[i].text)
	if definition == "" || to == nil {
		return
	}
	for name := range strings.SplitSeq(to[1]+to[2]+", "+to[3], ", ") {
		if name, _, _ = strings.Cut(name, ": "); name != "" && r.IntN(100) < 40 {
			m.add(r, &object{file: route.file, at: route.at + "destination: " + name + ": ", definition: definition, carriers: on(resolve.OnDestination), parent: route}, "{}")
		}
	}
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strconv.Quote(n)
	}
	return strings.Join(out, ", ")
}

// split shares requests among some of the names, or lets one of them take over from another one, now and then with a
// cohort of its own where a route may have conditions.
func (p *pen) split(names []string, conditions bool) string {
	if len(names) < 2 || !p.chance(20) {
		return "to: " + p.weights(names)
	}
	names = slices.Clone(names)
	p.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	step := pick(p, "0.5", "5", "50")
	out := fmt.Sprintf("canary: {stable: %q, candidate: %q, steps: [0, %s, 100], at: %s", names[0], names[1], step, pick(p, "0", step, step, "100"))
	if conditions && p.chance(50) {
		out += fmt.Sprintf(", cohort: headers: %q: exact: \"yes\"", Cohort)
	}
	if p.chance(30) {
		out += `, guards: successRate: 99.5, pace: "10m"`
	}
	return out + "}"
}

// Cohort is the header that says that a request is of the cohorts of canaries: "yes".
const Cohort = "x-cohort"

// weights shares 100 among some of the names, one of them perhaps with nothing.
func (p *pen) weights(names []string) string {
	names = some(p, len(names), names)
	left, out := 100, []string{}
	share := strconv.Itoa
	if p.chance(20) { // in hundredths
		left, share = 100_00, func(w int) string { return strconv.FormatFloat(float64(w)/100, 'f', -1, 64) }
	}
	for i, n := range names {
		w := left
		if i < len(names)-1 {
			w = p.IntN(left + 1)
		}
		left -= w
		out = append(out, fmt.Sprintf("%q: %s", n, share(w)))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func (m *Mesh) external(r *rand.Rand, space *object, name, text string) {
	x := m.add(r, &object{file: space.file, at: "mesh: external: " + name + ": ", definition: "#External", carriers: on(resolve.OnExternal, resolve.AroundExternal), parent: space}, text)
	port, _, _ := strings.Cut(strings.TrimPrefix(text, "{port: "), ":")
	m.Externals = append(m.Externals, Door{ID: "beta/" + name, Ports: []string{port}, Hosts: []string{name + ".test"}})
	for i := range r.IntN(4) {
		m.route(r, x, route{definition: "#ExternalRoute", name: "r" + strconv.Itoa(i), priority: rank(hand(r))})
	}
}

func (m *Mesh) gateway(r *rand.Rand, space *object) {
	p := hand(r)
	d := Door{ID: "edge/gw", Ports: []string{"http"}}
	text := "{port: http: number: 8443}"
	if p.chance(50) {
		d.Ports, text = append(d.Ports, "https"), `{port: http: number: 8443, port: https: {number: 9443, protocol: "https"}}`
		m.put(space, `certificate: {one: file: "one", two: file: "two"}`)
	}
	if p.chance(20) {
		text = "{http10: true, " + strings.TrimPrefix(text, "{")
	}
	if p.chance(50) {
		text = fmt.Sprintf("{trustedHops: %d, %s", pick(p, 0, 1, 1, 2), strings.TrimPrefix(text, "{"))
	}
	secure := len(d.Ports) > 1
	if p.chance(40) {
		d.Ports, text = append(d.Ports, "raw"), "{port: raw: {number: 9000, protocol: \"tcp\", route: all: "+m.streams(p)+"}, "+strings.TrimPrefix(text, "{")
	}
	g := m.add(r, &object{file: space.file, at: "mesh: gateway: gw: ", definition: "#Gateway", carriers: on(resolve.OnGateway), parent: space}, text)
	d.Hosts = append([]string{"front.test"}, some(p, len(Hosts()), Hosts())...)
	for _, h := range d.Hosts {
		at := g.at + fmt.Sprintf("host: %q: ", h)
		o := m.add(r, &object{file: g.file, at: at, definition: "#GatewayHost", carriers: on(resolve.OnHost), parent: g}, "{}")
		if h == "front.test" { // always there: a port without a host is closed
			m.put(o, `route: all: to: "beta/s3": 100`)
		}
		if tls, _ := schema.Definitions()["#GatewayHost"].Field("tls"); secure && (h == "front.test" || p.chance(60)) {
			m.lines = append(m.lines, m.write(r, o, "tls", func(p *pen) string { return p.value(tls, spot{}.in("#GatewayHost", "tls")) }))
			if h == "front.test" && p.chance(40) { // nor has browsers sign in where they can come back
				m.lines = append(m.lines, m.write(r, o, `users: "edge/id"`, func(p *pen) string {
					p.fields["users.login"] = true
					return []string{`{login: "web"}`, `{require: true, login: "web"}`, `{require: true, login: "web", not: paths: ["/a/*"]}`, `{require: true, login: "web", methods: ["GET"], paths: ["/a/*", "/b"]}`}[p.IntN(4)]
				}))
			}
			if p.chance(40) { // chance alone rarely asks for a key where there is TLS
				m.lines = append(m.lines, m.write(r, o, `users: "edge/shop"`, func(p *pen) string {
					return []string{"{}", "{require: true}", `{require: true, not: paths: ["/a/*"]}`}[p.IntN(3)]
				}))
			}
		}
		for i := range 1 + p.IntN(5) {
			m.route(r, o, route{definition: "#GatewayRoute", name: "r" + strconv.Itoa(i), priority: rank(p), to: m.targets})
		}
		if h != "front.test" && p.chance(40) {
			m.route(r, o, route{definition: "#GatewayRoute", name: "rest", priority: ptr(last), to: m.targets})
		}
	}
	if p.chance(50) {
		d.Hosts = append(d.Hosts, WhoHost)
		m.put(g, m.chosenByUsers(p))
	}
	m.Gateways = append(m.Gateways, d)
}

// WhoHost is a gateway's host whose routes are chosen by who the user is, where there is one.
const WhoHost = "who.test"

// chosenByUsers is a host whose routes are chosen by who the user is. They lead to one place: chance alone rarely draws a host
// whose routes differ in nothing that filters do.
func (m *Mesh) chosenByUsers(p *pen) string {
	to, text := m.targets(p), ""
	for i := range 1 + p.IntN(3) {
		a, b := pick(p, ClaimTexts()...), pick(p, ClaimTexts()...)
		user := pick(p, "{}", fmt.Sprintf("subjects: [%q]", a), fmt.Sprintf("claims: role: [%q, %q]", a, b), fmt.Sprintf(`claims: {"groups.main": [%q], role: [%q]}`, a, b))
		does := to
		if p.chance(20) {
			does = pick(p, "respond: status: 418", `redirect: path: "/moved"`)
		}
		text += fmt.Sprintf("u%d: {priority: %d, match: {user: \"edge/id\": %s, path: prefix: %q}, %s}, ", i, p.IntN(1000), user, pick(p, "/", "/", "/a", "/a/b"), does)
	}
	if p.chance(70) {
		text += fmt.Sprintf("rest: {match: path: prefix: %q, %s}, ", pick(p, "/", "/a"), to)
	}
	users := pick(p, "{}", "{}", "{require: true}", `{not: paths: ["/a/*"]}`, `{require: true, methods: ["GET"]}`)
	return fmt.Sprintf(`host: %q: {users: "edge/id": %s, route: {%s}}`, WhoHost, users, text)
}

// streams draws where connections to a gateway's port lead to.
func (m *Mesh) streams(p *pen) string {
	var to []Door
	for _, s := range m.Services {
		if slices.Contains(s.Ports, "raw") {
			to = append(to, s)
		}
	}
	s, of := pick(p, to...), ""
	if p.chance(30) {
		of = fmt.Sprintf(", version: %q", pick(p, s.Versions...))
	}
	return fmt.Sprintf("{to: there: 100, destination: there: {service: %q, port: \"raw\"%s}}", s.ID, of)
}

// targets draws where a gateway's route leads to.
func (m *Mesh) targets(p *pen) string {
	switch {
	case p.chance(15):
		return fmt.Sprintf("to: {%q: 100}", pick(p, m.Externals...).ID)
	case p.chance(20):
		return p.split([]string{"beta/out", "beta/s3"}, true)
	}
	s := pick(p, m.Services...)
	if p.chance(30) {
		return fmt.Sprintf("to: {there: 100}, destination: there: {service: %q, port: %q, version: %q}", s.ID, pick(p, s.Ports...), pick(p, s.Versions...))
	}
	return fmt.Sprintf("to: {%q: 100}", s.ID)
}

// attach draws routes of other packages at the gateway's hosts, and hosts of their own under
// a wildcard, with the owner's word for all or some of the paths.
func (m *Mesh) attach(r *rand.Rand, spaces map[string]*object) {
	p, g := hand(r), &m.Gateways[0]
	shared := slices.Clone(g.Hosts[1:])
	p.Shuffle(len(shared), func(i, j int) { shared[i], shared[j] = shared[j], shared[i] })
	for i, ns := range []string{"alpha", "beta"} {
		var own []string
		for _, s := range m.Services {
			if strings.HasPrefix(s.ID, ns) {
				own = append(own, s.ID)
			}
		}
		for _, h := range shared[i*len(shared)/2 : (i+1)*len(shared)/2] {
			m.attached(r, spaces, ns, h, h, pick(p, `{}`, `{}`, `{paths: ["/a", "/a/*", "/b", "/b/*"]}`), own)
		}
		for _, below := range []string{"shop.test", "a.shop.test"} {
			if slices.Contains(g.Hosts, "*."+below) {
				m.attached(r, spaces, ns, ns+"."+below, "*."+below, `{}`, own)
				g.Hosts = append(g.Hosts, ns+"."+below)
			}
		}
	}
}

// attached draws a package's routes at a host of which another one has delegated it all, or
// some of the paths.
func (m *Mesh) attached(r *rand.Rand, spaces map[string]*object, ns, host, delegated, paths string, own []string) {
	m.put(spaces["edge"], fmt.Sprintf("delegate: %s: hosts: %q: %s", ns, delegated, paths))
	at := &object{file: file(ns), at: fmt.Sprintf("mesh: attach: %q: host: %q: ", m.Gateways[0].ID, host), definition: "#AttachedHost", parent: spaces[ns]}
	var match func(*pen) string
	if paths != "{}" {
		match = func(p *pen) string {
			return "match: path: " + pick(p, `{prefix: "/a"}`, `{prefix: "/b"}`, `{exact: "/a/b"}`, `{template: "/a/{x}"}`)
		}
	}
	for i := range 1 + r.IntN(3) {
		m.route(r, at, route{definition: "#GatewayRoute", name: "a" + strconv.Itoa(i), match: match, to: func(p *pen) string { return fmt.Sprintf("to: {%q: 100}", pick(p, own...)) }})
	}
}
