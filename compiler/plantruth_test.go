package compiler_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// drawnByDefault is how many pairs are drawn where nobody says how many: enough to see a plan
// that is plainly wrong while one works. `make pairs` draws a hundred, without the race
// detector, which sees the same in each of them at ten times the cost.
const drawnByDefault = 8

var pairs = flag.Int("pairs", drawnByDefault, "how many pairs of repositories TestPlansAreTrue draws")

// maker draws sketches and edits of them.
type maker struct{ *rand.Rand }

func (m maker) chance(percent int) bool { return m.IntN(100) < percent }

func pick[T any](m maker, of ...T) T { return of[m.IntN(len(of))] }

func some[T any](m maker, most int, of ...T) []T {
	out := slices.Clone(of)
	m.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), 1+m.IntN(most))]
}

func (m maker) grant(name string) grt {
	g := grt{name: name}
	switch m.IntN(8) {
	case 0:
		g.namespaces = some(m, 2, "shop", "ops")
	case 1:
		g.mesh = true
	case 2:
		g.anyone = true
	case 3:
		g.from, g.namespaces = []string{"shop/web"}, []string{"ops"}
	default:
		g.from = some(m, 3, "shop/web", "shop/cart", "ops/probe", "gateway/shop/edge")
	}
	if m.chance(50) {
		g.methods = some(m, 2, "GET", "POST", "PUT")
	}
	if m.chance(60) {
		g.paths = some(m, 3, "/a", "/a/*", "/a/b", "/b", "/b/*", "/*")
	}
	return g
}

// deny draws a deny; a gateway's says nothing of callers.
func (m maker) deny(name string, gateway bool) grt {
	d := m.grant(name)
	not := m.grant("")
	not.anyone = false
	if gateway {
		what := func(g grt) grt { return grt{name: g.name, methods: g.methods, paths: g.paths} }
		d, not = what(d), what(not)
		if len(d.methods)+len(d.paths) == 0 {
			d.paths = []string{"/*"}
		}
	}
	if m.chance(50) && not.parts() != "" {
		d.not = &not
	}
	return d
}

func (m maker) editDenies(ds []grt, gateway bool) []grt {
	ds = slices.Clone(ds)
	if n := len(ds); n > 0 && m.chance(50) {
		i := m.IntN(n)
		return slices.Delete(ds, i, i+1)
	}
	return append(ds, m.deny(fmt.Sprintf("d%d", m.IntN(1000)), gateway))
}

func (m maker) route(name string, to ...string) rte {
	r := rte{name: name}
	if m.chance(80) {
		r.kind, r.path = pick(m, "exact", "prefix"), pick(m, "/a", "/a/b", "/b")
	}
	if m.chance(20) {
		r.method = pick(m, "GET", "POST")
	}
	r.beta = m.chance(20)
	if r.redirect = m.chance(15); !r.redirect {
		r.to = []string{to[m.IntN(len(to))] + ":100"}
		if m.chance(30) {
			r.timeout = pick(m, 5, 30)
		}
		if m.chance(30) {
			r.moved, r.place = "path", pick(m, "/", "/a", "/a/b", "/b", "/b/c/")
			if r.kind == "prefix" && m.chance(70) {
				r.moved, r.place = "prefix", pick(m, "/", "/a", "/a/b", "/b", "/b/c")
			}
			if r.place == r.path {
				r.moved, r.place = "", ""
			}
		}
	}
	return r
}

func (m maker) sketch() sketch {
	w := sketch{hosts: map[string][]rte{}, denies: map[string][]grt{}, gateway: 8443, external: "api.example:80"}
	for i, id := range []string{"shop/web", "shop/cart", "ops/probe"} {
		ns, name, _ := strings.Cut(id, "/")
		s := drawn{ns: ns, name: name, account: name, number: 8080 + i, admin: m.chance(30), permissive: m.chance(30), versions: []string{"v1", "v2"}}
		for range m.IntN(3) {
			m.editRoutes(&s.routes, "v1", "v2")
		}
		for range 1 + m.IntN(2) {
			m.editGrants(&s)
		}
		if m.chance(40) {
			s.denies = m.editDenies(nil, false)
		}
		s.calls = some(m, 2, "shop/web", "shop/cart", "ops/probe")
		s.calls = slices.DeleteFunc(s.calls, func(c string) bool { return c == s.id() })
		w.services = append(w.services, s)
	}
	for _, h := range some(m, 2, "*.example", "x.example", "y.x.example") {
		rs := w.hosts[h]
		for range 1 + m.IntN(2) {
			m.editRoutes(&rs, "web", "cart", "out")
		}
		if len(rs) > 0 {
			w.hosts[h] = rs
		}
	}
	return w
}

// editRoutes adds, changes or takes a route.
func (m maker) editRoutes(rs *[]rte, to ...string) {
	if n := len(*rs); n > 0 && m.chance(50) {
		i := m.IntN(n)
		switch m.IntN(3) {
		case 0:
			*rs = slices.Delete(slices.Clone(*rs), i, i+1)
		case 1:
			(*rs)[i].timeout = 0
			(*rs)[i].moved, (*rs)[i].place = "", ""
			if !(*rs)[i].redirect {
				(*rs)[i].timeout = pick(m, 5, 30)
			}
		default:
			(*rs)[i] = m.route((*rs)[i].name, to...)
		}
		return
	}
	*rs = append(slices.Clone(*rs), m.route(fmt.Sprintf("r%d", m.IntN(1000)), to...))
}

func (m maker) editGrants(s *drawn) {
	g := m.grant(fmt.Sprintf("g%d", m.IntN(1000)))
	if s.admin && m.chance(50) {
		g.ports = some(m, 2, "http", "admin")
	}
	if n := len(s.grants); n > 0 && m.chance(60) {
		i := m.IntN(n)
		s.grants = slices.Delete(slices.Clone(s.grants), i, i+1)
		if m.chance(50) {
			return
		}
	}
	s.grants = append(slices.Clone(s.grants), g)
}

// edit changes one thing.
func (m maker) edit(w *sketch) {
	s := &w.services[m.IntN(len(w.services))]
	switch m.IntN(11) {
	case 9:
		s.denies = m.editDenies(s.denies, false)
	case 10:
		at := pick(m, "", "*.example", "x.example")
		w.denies[at] = m.editDenies(w.denies[at], true)
	case 0, 1, 2:
		m.editGrants(s)
	case 3, 4:
		m.editRoutes(&s.routes, "v1", "v2")
	case 5:
		s.permissive = !s.permissive
	case 6:
		s.account = pick(m, s.name+"2", s.name, w.services[0].account)
		if s.ns == "ops" {
			s.account = pick(m, s.name, s.name+"2")
		}
	case 7:
		h := pick(m, "*.example", "x.example", "y.x.example")
		rs := w.hosts[h]
		if m.editRoutes(&rs, "web", "cart", "out"); len(rs) == 0 {
			delete(w.hosts, h)
		} else {
			w.hosts[h] = rs
		}
	case 8:
		switch m.IntN(3) {
		case 0:
			s.number += 1000
		case 1:
			w.external = "elsewhere.example:80"
		default:
			s.calls = nil
		}
	}
}

func (w sketch) load(t *testing.T) *compiler.Program {
	t.Helper()
	files := fstest.MapFS{}
	for name, text := range w.files() {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, ds := compiler.Load(files, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		return nil
	}
	return p
}

// The requests that a plan is asked about, and the hosts and accounts of their callers.
func queries() []query {
	var out []query
	for _, m := range []string{"GET", "POST", "PUT"} {
		for _, p := range []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/b/c", "/ab"} {
			out = append(out, query{m, p, false}, query{m, p, true})
		}
	}
	return out
}

var probedHosts = []string{"x.example", "y.x.example", "z.example", "other.test"}

// both are the callers as they are on both sides.
func both(b, a sketch) [][2]caller {
	out := [][2]caller{{{plaintext: true}, {plaintext: true}}}
	same := func(c caller) { out = append(out, [2]caller{c, c}) }
	same(caller{workload: "gateway shop/edge", ns: "shop", account: "edge"})
	same(caller{ns: "shop", account: "nobody"})
	same(caller{ns: "ops", account: "nobody"})
	same(caller{ns: "far", account: "nobody"})
	for i, s := range b.services {
		out = append(out, [2]caller{{workload: s.id(), ns: s.ns, account: s.account}, {workload: s.id(), ns: s.ns, account: a.services[i].account}})
	}
	return out
}

// named reports whether a plan's callers hold one.
func named(in, except []plan.Caller, c [2]caller) bool {
	is := func(x plan.Caller) bool {
		switch x.Kind {
		case plan.CallerService:
			return c[1].workload == x.Name
		case plan.CallerGateway:
			return c[1].workload == "gateway "+x.Name
		case plan.CallerAccount:
			return c[0] == c[1] && c[1].inMesh() && c[1].ns+"/"+c[1].account == x.Name
		case plan.CallerNamespace:
			return c[1].inMesh() && c[1].ns == x.Name
		case plan.CallerAccounts:
			fits, err := path.Match(x.Name, c[1].ns+"/"+c[1].account)
			return c[0] == c[1] && c[1].inMesh() && fits && err == nil
		case plan.CallerMesh:
			return c[1].inMesh()
		case plan.CallerPlaintext:
			return c[1].plaintext
		case plan.CallerAnyone:
			return true
		case plan.CallerOther:
		}
		return false
	}
	return slices.ContainsFunc(in, is) && !slices.ContainsFunc(except, is)
}

func inSet(s prove.Set, v string) bool {
	takes := func(ps []space.Pattern) bool {
		return slices.ContainsFunc(ps, func(p space.Pattern) bool { return p.Matches(v) })
	}
	return takes(s.In) || (s.All || takes(s.Wide)) && !takes(s.Except)
}

func tells(parts []plan.Part, q query) bool {
	holds := func(t space.Test) bool {
		v := map[space.Dim]string{space.PathDim: q.path, space.MethodDim: q.method}[t.Dim]
		if _, header := t.Dim.Header(); header {
			return q.beta != t.Not // the only header, with its only value
		}
		if t.Dim == space.IdentityDim {
			return true
		}
		return slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return p.Matches(v) }) != t.Not
	}
	all := func(ts []space.Test) bool {
		return !slices.ContainsFunc(ts, func(t space.Test) bool { return !holds(t) })
	}
	return slices.ContainsFunc(parts, func(p plan.Part) bool { return all(p.When) && !slices.ContainsFunc(p.Except, all) })
}

// judge holds a plan against the truth.
type judge struct {
	*testing.T
	b, a  sketch
	p     plan.Plan
	about string
}

func (j judge) wrong(format string, args ...any) {
	j.Helper()
	var text strings.Builder
	for _, l := range j.p.Lines {
		fmt.Fprintf(&text, "  %s %s: %s\n", l.Class, strings.Join(l.Scopes, ","), l.Text)
	}
	j.Fatalf("%s: %s\nplan:\n%s\nbefore: %v\nafter: %v", j.about, fmt.Sprintf(format, args...), text.String(), j.b.files(), j.a.files())
}

func (j judge) access() (gained bool) {
	for i := range j.b.services {
		sb, sa := &j.b.services[i], &j.a.services[i]
		for _, port := range []string{"http", "admin"} {
			if port == "admin" && !sb.admin {
				continue
			}
			display := sb.id()
			if sb.admin {
				display += ":" + port
			}
			for _, c := range both(j.b, j.a) {
				for _, q := range queries() {
					was, is := j.b.allows(sb, port, c[0], q), j.a.allows(sa, port, c[1], q)
					gained = gained || !was && is
					for _, side := range []bool{false, true} {
						said := slices.ContainsFunc(j.p.Lines, func(l plan.Line) bool {
							x := l.Access
							return x != nil && x.Gained == side && slices.Contains(l.Scopes, display) && named(x.Callers, x.Except, c) && inSet(x.Methods, q.method) && inSet(x.Paths, q.path)
						})
						if want := was == !side && is == side; said != want {
							j.wrong("%+v of %+v at %s: gained=%v is said: %v, true: %v", q, c, display, side, said, want)
						}
					}
				}
			}
		}
	}
	return gained
}

func forwardOrDenied(v string) bool { return v == "forward" || v == "denied" }

// lines are those about the requests to one scope that are not access.
func (j judge) lines(kind, id, port string) []plan.Line {
	return slices.DeleteFunc(slices.Clone(j.p.Lines), func(l plan.Line) bool {
		return l.Kind == plan.KindAccess || !slices.ContainsFunc(l.At, func(s space.Scope) bool { return s.Kind == kind && s.ID == id && s.Port == port })
	})
}

func (j judge) outcomes() {
	for i := range j.b.services {
		sb, sa := &j.b.services[i], &j.a.services[i]
		lines := j.lines("service", sb.id(), "http")
		for _, q := range queries() {
			differs, narrower, to := false, false, ""
			for _, c := range both(j.b, j.a) {
				if c[0].plaintext {
					continue
				}
				vb, wb := j.b.becomes(sb, "http", c[0], q)
				va, wa := j.a.becomes(sa, "http", c[1], q)
				if wb == wa || vb != va && forwardOrDenied(vb) && forwardOrDenied(va) && sb.arrives(q) == sa.arrives(q) {
					continue
				}
				differs, to = true, fmt.Sprintf("%+v: %s → %s", c, wb, wa)
				narrower = narrower || vb == "forward" && va != "forward"
			}
			_, was := sb.goes(q)
			_, is := sa.goes(q)
			j.told(lines, q, differs, was != is || sb.edits(q) != sa.edits(q), sb.id(), to)
			if narrower && !slices.ContainsFunc(lines, func(l plan.Line) bool { return l.Class == plan.Narrowing && tells(l.Requests, q) }) {
				j.wrong("%+v to %s gets through no longer and no line is narrowing: %s", q, sb.id(), to)
			}
		}
	}
	classes := slices.Concat(keysOf(j.b.hosts), keysOf(j.a.hosts))
	for _, host := range probedHosts {
		class := hostClass(classes, host)
		if class == "" {
			continue
		}
		lines := j.lines("gateway", "shop/edge", class)
		for _, q := range queries() {
			vb, wb := j.b.outside(host, q)
			va, wa := j.a.outside(host, q)
			to := fmt.Sprintf("%s → %s", wb, wa)
			// A host that comes or goes is told; what it keeps out then, as before, is not.
			whole := hostClass(keysOf(j.b.hosts), host) == "" || hostClass(keysOf(j.a.hosts), host) == ""
			blocked := slices.Contains([]string{"404", "denied"}, vb) && slices.Contains([]string{"404", "denied"}, va)
			j.told(lines, q, wb != wa && !(whole && blocked), wb != wa || j.b.outsideEdits(host, q) != j.a.outsideEdits(host, q), host, to)
			for class, is := range map[plan.Class]bool{plan.Widening: vb != "forward" && va == "forward", plan.Narrowing: vb == "forward" && va != "forward"} {
				if is && !slices.ContainsFunc(lines, func(l plan.Line) bool { return l.Class == class && tells(l.Requests, q) }) {
					j.wrong("%+v to host %s: %s, and no line is %s", q, host, to, class)
				}
			}
		}
	}
}

func keysOf(m map[string][]rte) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// told checks that a request is in some line if something changes for it, and only if
// something may: a line about routes says what they do, whoever is let through.
func (j judge) told(lines []plan.Line, q query, differs, may bool, where, what string) {
	said := slices.ContainsFunc(lines, func(l plan.Line) bool { return tells(l.Requests, q) })
	if differs && !said || said && !may {
		j.wrong("%+v to %s: told %v, true %v, possible %v: %s", q, where, said, differs, may, what)
	}
}

// witnesses asks the truth about every request that is shown.
func (j judge) witnesses() {
	for _, l := range j.p.Lines {
		w := l.Witness
		if w == nil {
			continue
		}
		q := query{method: w.Request.Method, path: w.Request.Path, beta: slices.Contains(w.Request.Headers, space.Header{Name: "x-beta", Value: "1"})}
		var vb, va string
		if w.Scope.Kind == "gateway" {
			vb, _ = j.b.outside(w.Request.Host, q)
			va, _ = j.a.outside(w.Request.Host, q)
		} else {
			was := w.FromBefore
			if was == "" {
				was = w.Request.From
			}
			cb, ca := callerOf(was), callerOf(w.Request.From)
			sb, sa := j.b.service(w.Scope.ID), j.a.service(w.Scope.ID)
			if w.Direct {
				vb, va = verdictOf(j.b.allows(sb, w.Scope.Port, cb, q)), verdictOf(j.a.allows(sa, w.Scope.Port, ca, q))
			} else {
				vb, _ = j.b.becomes(sb, w.Scope.Port, cb, q)
				va, _ = j.a.becomes(sa, w.Scope.Port, ca, q)
			}
		}
		words := map[space.Verdict]string{space.Forward: "forward", space.Denied: "denied", space.NotFound: "404", space.Redirect: "redirect"}
		if words[w.Before.Verdict] != vb || words[w.After.Verdict] != va {
			j.wrong("%q shows %+v: %s → %s, true is %s → %s", l.Text, w, w.Before.Verdict, w.After.Verdict, vb, va)
		}
	}
}

func verdictOf(allowed bool) string {
	if allowed {
		return "forward"
	}
	return "denied"
}

// callerOf reads a SPIFFE ID.
func callerOf(id string) caller {
	if id == "" {
		return caller{plaintext: true}
	}
	parts := strings.Split(id, "/")
	return caller{ns: parts[4], account: parts[6]}
}

// TestPlansAreTrue draws pairs of repositories and holds what a plan says of them
// against a second reading of the language reference: of every request of a grid, that
// a change is told if there is one and none if there is none, who gains and loses
// access, the classes that follow, and what becomes of each request that is shown.
func TestPlansAreTrue(t *testing.T) {
	done, same := 0, 0
	for seed := uint64(0); done < *pairs; seed++ {
		if most := 30 * uint64(*pairs); seed == most {
			t.Fatalf("only %d of %d sketches compile", done, most)
		}
		m := maker{rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // the same pairs every time
		b := m.sketch()
		a := b.clone()
		for range 1 + m.IntN(3) {
			m.edit(&a)
		}
		before, after := b.load(t), a.load(t)
		if before == nil || after == nil {
			continue
		}
		done++
		c, err := compiler.Compare(before, after, compiler.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		j := judge{t, b, a, c.Plan, fmt.Sprintf("seed %d", seed)}
		if j.access() && c.Verdict != plan.Widening {
			j.wrong("access grows, and the verdict is %q", c.Verdict)
		}
		j.outcomes()
		j.witnesses()
		if fmt.Sprint(b.files()) == fmt.Sprint(a.files()) {
			if same++; c.Changed() {
				j.wrong("nothing is edited")
			}
		}
	}
	t.Logf("%d pairs, %d of them of equal intent", done, same)
}
