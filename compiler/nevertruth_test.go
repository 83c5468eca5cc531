package compiler_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/space"
)

// drawnNever is a never as a second reading has it: what a deny of everything that it speaks of
// would refuse.
type drawnNever struct {
	grt
	team bool // said by the package of namespace shop
	to   []string
}

func (m maker) never(name string, team bool) drawnNever {
	n := drawnNever{grt: m.deny(name, false), team: team, to: some(m, 2, "shop/web", "shop/*", "*/*", "ops/*", "*/cart", "shop/out")}
	if team {
		n.to = some(m, 2, "shop/web", "cart", "shop/*", "*/*", "*")
	}
	if m.chance(40) {
		n.grt = grt{name: name, from: []string{"gateway/*"}, methods: n.methods, paths: n.paths, not: n.not}
	}
	if m.chance(20) {
		n.ports = []string{"http"}
	}
	return n
}

func (n drawnNever) cue() string {
	return fmt.Sprintf("mesh: never: %q: {%s, to: %s}\n", n.name, n.parts(), quoted(n.to))
}

// about reports whether it speaks of a service or an external.
func (n drawnNever) about(id string) bool {
	if n.team && !strings.HasPrefix(id, "shop/") {
		return false
	}
	return slices.ContainsFunc(n.to, func(p string) bool {
		if !strings.Contains(p, "/") {
			p = "shop/" + p
		}
		ok, err := path.Match(p, id)
		return err == nil && ok
	})
}

// forbids reports whether a caller must not ask that of a port.
func (n drawnNever) forbids(w sketch, id, port string, c caller, q query) bool {
	g := n.grt
	all := func(from []string) []string {
		if slices.Contains(from, "gateway/*") {
			return []string{"gateway/shop/edge"}
		}
		return from
	}
	g.from = all(g.from)
	return n.about(id) && w.refuses(g, &drawn{ns: "shop"}, port, c, q)
}

// TestNeversAreTrue draws repositories and what must never be allowed there. One that holds is
// asked about with every request of a grid, put to each service's own proxy and sent by visitors:
// none of those is let in. Of one that is broken the request that is shown is let in, and is one of
// those that a second reading of the language forbids.
func TestNeversAreTrue(t *testing.T) {
	const wanted = 25
	done, holds, broken, asked, direct, visitors, outside := 0, 0, 0, 0, 0, 0, 0
	for seed := uint64(0); done < wanted; seed++ {
		if seed == 30*wanted {
			t.Fatalf("only %d of %d sketches compile", done, wanted)
		}
		m := maker{rand.New(rand.NewPCG(seed, 7))} //nolint:gosec // the same every time
		w := m.sketch()
		if i := m.IntN(2 * len(w.services)); i < len(w.services) && w.services[i].ns == "shop" {
			w.services[i].calls = append(w.services[i].calls, "shop/out")
		}
		var nevers []drawnNever
		for i := range 4 {
			nevers = append(nevers, m.never(fmt.Sprintf("n%d", i), i == 3))
		}
		p := w.withNevers(t, nevers)
		if p == nil {
			continue
		}
		done++
		wrong := func(format string, args ...any) {
			t.Helper()
			t.Errorf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), w.text(nevers))
		}
		told := map[string]bool{}
		for _, b := range p.Breaches() {
			n := nevers[slices.IndexFunc(nevers, func(n drawnNever) bool { return n.name == b.Never.Name })]
			if b.Unproved != nil {
				wrong("%s cannot be proved: %v", n.name, b.Unproved)
				continue
			}
			told[n.name+" "+b.To+" "+b.Port] = true
			switch {
			case b.Direct:
				direct++
				if !p.LetsIn(b.To, b.Port, b.Request) {
					wrong("%s is said to be broken by %+v, which the proxy of %s refuses", n.name, b.Request, b.To)
				}
				continue
			case b.Gateway != "":
				visitors++
			}
			if b.To == "shop/out" {
				outside++
			}
			a, err := p.Decide(b.Asked)
			if err != nil {
				t.Fatal(err)
			}
			c := callerOf(a.Request.From)
			if b.Gateway != "" {
				c = caller{ns: "shop", account: "edge"}
			}
			if !a.Allowed() || !n.forbids(w, b.To, b.Port, c, query{method: a.Request.Method, path: a.Arrives.Path}) || !reaches(a, b.To, b.Port) {
				wrong("%s is said to be broken by %+v, which is %s", n.name, b.Asked, a.Words())
			}
		}
		broken += len(told)
		for _, n := range nevers {
			if !strings.Contains(fmt.Sprint(told), n.name+" ") {
				holds++
			}
		}
		must := func(n drawnNever, id, port string, c caller, q query, how string) {
			if asked++; n.forbids(w, id, port, c, q) && !told[n.name+" "+id+" "+port] {
				wrong("%s is said to hold at port %s of %s, and %+v of %+v is let in %s", n.name, port, id, q, c, how)
			}
		}
		edge := caller{ns: "shop", account: "edge"}
		callers := []caller{{plaintext: true}, {ns: "shop", account: "web"}, {ns: "shop", account: "cart"}, {ns: "ops", account: "probe"}, {ns: "ops", account: "nobody"}, edge}
		for _, s := range w.services {
			for _, port := range []string{"http", "admin"} {
				if port == "admin" && !s.admin {
					continue
				}
				for _, q := range queries() {
					for _, c := range callers {
						if w.allows(&s, port, c, q) {
							for _, n := range nevers {
								if c == edge && !n.team {
									continue // what its routes let it, below
								}
								must(n, s.id(), port, c, q, "by its proxy")
							}
						}
					}
				}
			}
		}
		for _, s := range w.services {
			for _, q := range queries() {
				for _, n := range nevers {
					if slices.Contains(s.calls, "shop/out") {
						must(n, "shop/out", "http", caller{ns: s.ns, account: s.account}, q, "by its own")
					}
				}
			}
		}
		for _, host := range []string{"x.example", "y.x.example", "z.example"} {
			for _, q := range queries() {
				r := compiler.Request{To: "gateway/shop/edge", Host: host, Method: q.method, Path: q.path}
				if q.beta {
					r.Headers = []compiler.Header{{Name: "x-beta", Value: "1"}}
				}
				a, err := p.Decide(r)
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"shop/web", "shop/cart", "ops/probe", "shop/out"} {
					if a.Allowed() && reaches(a, id, "http") {
						for _, n := range nevers {
							if !n.team {
								must(n, id, "http", edge, query{method: q.method, path: a.Arrives.Path}, "by the gateway")
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d repositories: %d nevers hold, %d ports where one is broken, %d of them directly, %d by visitors, %d outside; %d questions", done, holds, broken, direct, visitors, outside, asked)
	for what, n := range map[string]int{"that hold": holds / 20, "broken": broken / 40, "broken directly": direct / 3, "broken by visitors": visitors / 5, "broken outside": outside / 3} {
		if n == 0 {
			t.Errorf("too few nevers are %s", what)
		}
	}
}

// reaches reports whether an answer leads to a port.
func reaches(a compiler.Answer, id, port string) bool {
	return slices.ContainsFunc(a.Outcome.Shares, func(s space.Share) bool {
		return s.Status == 0 && strings.HasPrefix(strings.TrimPrefix(s.Target, "external/")+"/", id+"/"+port+"/")
	})
}

func (w sketch) withNevers(t *testing.T, nevers []drawnNever) *compiler.Program {
	t.Helper()
	files := fstest.MapFS{}
	for name, text := range w.files() {
		for _, n := range nevers {
			if name == map[bool]string{true: "shop/shop.cue", false: "mesh.cue"}[n.team] {
				text += n.cue()
			}
		}
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, ds := compiler.LoadUnproved(files, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		return nil
	}
	return p
}

func (w sketch) text(nevers []drawnNever) string {
	var b strings.Builder
	for _, text := range w.files() {
		b.WriteString(text)
	}
	for _, n := range nevers {
		b.WriteString(n.cue())
	}
	return b.String()
}
