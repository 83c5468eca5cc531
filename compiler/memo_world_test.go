package compiler_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing/fstest"

	"pgregory.net/rapid"
)

// world is intent that a test edits. What one package says is looked at when
// another is linked: names, kinds, ports, versions, accounts, gateways, modes.
type world struct {
	packages                []pkg
	capture, domain, mtls   string
	gateway, gatewayAccount string // the package that has a gateway, "" for none
	// guest is the package in whose namespace another one has a service, "" for none; it
	// attaches a route to the gateway. unasked: without a word of the owners.
	guest   string
	unasked bool
	// wayOut is the account of the gateway through which some externals are called, "" for no gateway, and
	// wayTo the namespace whose externals go out there, "" for all.
	wayOut, wayTo string
}

type pkg struct {
	name     string
	lines    int // comments above, which move all positions
	services []svc
	mtls     string // "" says nothing
}

type svc struct {
	name                                 string
	timeout, versions, weight, number    int
	port, account                        string
	grantAll, fault, bad, gone, external bool
	via, dynamic                         bool   // of an external
	mirror, mirrored, from               string // a service, its version, who may call
	calls                                []string
	says                                 int // seconds for calls, 0 for no word
}

// newWorld has packages of services that refer to each other in every way.
func newWorld(packages, services int) world {
	w := world{domain: "mesh.local", capture: "transparent", gateway: "team0", gatewayAccount: "edge", guest: "team1", wayOut: "way"}
	for i := range packages {
		p := pkg{name: fmt.Sprintf("team%d", i)}
		for range services {
			p.add()
		}
		w.packages = append(w.packages, p)
	}
	return w
}

func (p *pkg) add() {
	p.services = append(p.services, svc{name: fmt.Sprintf("s%d", len(p.services)), timeout: 3, versions: 2, weight: 50, number: 8080, port: "http", from: "gateway/edge"})
}

func (w world) names() []string {
	var out []string
	for _, p := range w.packages {
		for _, s := range p.services {
			out = append(out, p.name+"/"+s.name)
		}
	}
	return out
}

// edits are what can be done to a service, its package and the mesh.
func edits() map[string]func(*rapid.T, *world, *pkg, *svc) {
	pick := func(t *rapid.T, of ...string) string { return rapid.SampledFrom(of).Draw(t, "which") }
	return map[string]func(*rapid.T, *world, *pkg, *svc){
		"timeout":  func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.timeout = rapid.IntRange(1, 9).Draw(t, "timeout") },
		"weight":   func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.weight = rapid.IntRange(0, 100).Draw(t, "weight") },
		"version":  func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.versions = rapid.IntRange(1, 3).Draw(t, "versions") },
		"number":   func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.number = rapid.IntRange(8080, 8082).Draw(t, "number") },
		"port":     func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.port = pick(t, "http", "web") },
		"account":  func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.account = pick(t, "", "own") },
		"external": func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.external = !s.external },
		"via":      func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.external, s.via = true, !s.via },
		"dynamic":  func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.external, s.dynamic = true, !s.dynamic },
		"way":      func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.wayOut = pick(t, "way", "way", "door", "") },
		"way to":   func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.wayTo = pick(t, "", "", "team0", "team1") },
		"gone":     func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.gone = !s.gone },
		"grant":    func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.grantAll = !s.grantAll },
		"from":     func(t *rapid.T, w *world, _ *pkg, s *svc) { s.from = pick(t, append(w.names(), "gateway/edge")...) },
		"fault":    func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.fault = !s.fault },
		"bad":      func(_ *rapid.T, _ *world, _ *pkg, s *svc) { s.bad = !s.bad },
		"mirror": func(t *rapid.T, w *world, _ *pkg, s *svc) {
			s.mirror, s.mirrored = pick(t, append(w.names(), "")...), pick(t, "v1", "v2", "v3")
		},
		"call": func(t *rapid.T, w *world, p *pkg, s *svc) {
			s.calls = rapid.SliceOfNDistinct(rapid.SampledFrom(w.names()), 0, 3, rapid.ID[string]).Draw(t, "calls")
			s.calls = slices.DeleteFunc(s.calls, func(c string) bool { return c == p.name+"/"+s.name })
		},
		"says":    func(t *rapid.T, _ *world, _ *pkg, s *svc) { s.says = rapid.IntRange(0, 2).Draw(t, "says") },
		"lines":   func(t *rapid.T, _ *world, p *pkg, _ *svc) { p.lines = rapid.IntRange(0, 3).Draw(t, "lines") },
		"mtls":    func(t *rapid.T, _ *world, p *pkg, _ *svc) { p.mtls = pick(t, "", "strict", "permissive", "disable") },
		"add":     func(_ *rapid.T, _ *world, p *pkg, _ *svc) { p.add() },
		"mesh":    func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.mtls = pick(t, "", "permissive", "disable") },
		"domain":  func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.domain = pick(t, "mesh.local", "other.local") },
		"capture": func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.capture = pick(t, "explicit", "transparent") },
		"gateway": func(t *rapid.T, w *world, p *pkg, _ *svc) { w.gateway = pick(t, p.name, "") },
		"edge":    func(t *rapid.T, w *world, _ *pkg, _ *svc) { w.gatewayAccount = pick(t, "edge", "door") },
		"guest":   func(t *rapid.T, w *world, p *pkg, _ *svc) { w.guest = pick(t, p.name, "") },
		"unasked": func(_ *rapid.T, w *world, _ *pkg, _ *svc) { w.unasked = !w.unasked },
		"none":    func(*rapid.T, *world, *pkg, *svc) {},
	}
}

// mode is an mTLS block.
func mode(m string) string {
	if m == "" {
		return ""
	}
	return fmt.Sprintf(", mtls: {mode: %q, owner: \"x\", reason: \"y\", until: \"2030-01-01T00:00:00Z\"}", m)
}

func (w world) files() fs.FS {
	out := fstest.MapFS{}
	put := func(name, text string) { out[name] = &fstest.MapFile{Data: []byte(text)} }
	put("mesh.cue", fmt.Sprintf("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {trustDomain: %q, environment: default: capture: %q%s}\n",
		w.domain, w.capture, mode(w.mtls)))
	for _, p := range w.packages {
		var b strings.Builder
		fmt.Fprintf(&b, "%spackage %s\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {namespace: %q%s}\n", strings.Repeat("// a line\n", p.lines), p.name, p.name, mode(p.mtls))
		for j, s := range p.services {
			s.write(&b, 15001+j)
		}
		if w.gateway == p.name {
			fmt.Fprintf(&b, "mesh: gateway: edge: {port: http: number: 8000, serviceAccount: %q, host: \"*\": route: all: {match: methods: [\"GET\"], to: s0: 100}}\n", w.gatewayAccount)
			if w.guest != "" && !w.unasked {
				b.WriteString("mesh: delegate: guest: hosts: \"*\": {}\n")
			}
		}
		if w.guest == p.name && !w.unasked {
			b.WriteString("mesh: delegate: guest: services: true\n")
		}
		put(p.name+"/services.cue", b.String())
	}
	if w.wayOut != "" {
		to := ""
		if w.wayTo != "" {
			to = fmt.Sprintf(", namespaces: [%q]", w.wayTo)
		}
		put("out/out.cue", fmt.Sprintf("package out\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {namespace: \"out\", gateway: way: {address: \"127.0.0.1\", serviceAccount: %q, port: mesh: {number: 15443, protocol: \"mesh\"%s}}}\n", w.wayOut, to))
	}
	if w.guest != "" {
		text := fmt.Sprintf("package guest\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: namespace: %q\nmesh: service: visitor: {port: http: number: 9000, endpoints: dns: \"visitor.example:9000\"}\n", w.guest)
		if w.gateway != "" {
			text += fmt.Sprintf("mesh: attach: \"%s/edge\": host: \"*\": route: visit: to: visitor: 100\n", w.gateway)
		}
		put("guest/guest.cue", text)
	}
	return out
}

func (s svc) write(b *strings.Builder, local int) {
	switch {
	case s.gone:
		return
	case s.external:
		more := fmt.Sprintf("endpoints: dns: \"%s.example:443\"", s.name)
		if s.dynamic {
			more = fmt.Sprintf("hosts: [\"*.%s.example\"], endpoints: dynamic: {}", s.name)
		}
		if s.via {
			more += `, via: gateway: "out/way"`
		}
		if s.grantAll {
			more += ", grant: all: mesh: true"
		}
		if s.dynamic {
			fmt.Fprintf(b, "mesh: external: %s: {port: %s: {number: 443, protocol: \"https\"}, %s}\n", s.name, s.port, more)
			return
		}
		fmt.Fprintf(b, "mesh: external: %s: {port: %s: number: %d, %s}\n", s.name, s.port, s.number, more)
		return
	}
	fmt.Fprintf(b, "mesh: service: %s: {\n\tport: %s: number: %d\n\tversion: {", s.name, s.port, s.number)
	for v := 1; v <= s.versions; v++ {
		fmt.Fprintf(b, "v%d: endpoints: dns: \"%s-v%d.example:8080\"\n", v, s.name, v)
	}
	first := 100
	if s.versions > 1 {
		first -= s.weight
	}
	if s.bad {
		first++
	}
	fmt.Fprintf(b, "}\n\troute: default: {timeout: \"%ds\", to: {v1: %d", s.timeout, first)
	if s.versions > 1 {
		fmt.Fprintf(b, ", v2: %d", s.weight)
	}
	b.WriteString("}")
	if s.fault {
		b.WriteString(`, fault: {abort: {status: 503, percent: 5}, owner: "o", reason: "r", until: "2027-06-01T00:00:00Z"}`)
	}
	if s.mirror != "" {
		fmt.Fprintf(b, ", mirror: copy: percent: 5, destination: copy: {service: %q, version: %q}", s.mirror, s.mirrored)
	}
	b.WriteString("}\n")
	if s.account != "" {
		fmt.Fprintf(b, "\tserviceAccount: \"%s-%s\"\n", s.account, s.name)
	}
	for i, c := range s.calls {
		fmt.Fprintf(b, "\tcalls: %q: local: %d\n", c, local+100*i)
		if s.says > 0 {
			fmt.Fprintf(b, "\tcalls: %q: timeout: \"%ds\"\n", c, s.says)
		}
	}
	if s.grantAll {
		b.WriteString("\tgrant: all: mesh: true\n")
	} else {
		fmt.Fprintf(b, "\tgrant: first: {from: [%q], methods: [\"GET\"]}\n", s.from)
	}
	b.WriteString("}\n")
}

func (w world) clone() world {
	w.packages = slices.Clone(w.packages)
	for i := range w.packages {
		w.packages[i].services = slices.Clone(w.packages[i].services)
	}
	return w
}
