package compiler_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/draw"
	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
)

var (
	drawnPairs = flag.Int("drawn-pairs", drawnByDefault, "how many pairs of meshes TestPlansOfAllWordsAreTrue draws")
	drawnSeed  = flag.Uint64("drawn-seed", 0, "seed of the first pair")
)

// drawnJudge holds a plan of two drawn meshes against the second reading of both.
type drawnJudge struct {
	*testing.T
	b, a  *reading
	files [2]map[string]string
	p     plan.Plan
	about string
}

func (j drawnJudge) wrong(format string, args ...any) {
	j.Helper()
	var text strings.Builder
	for _, l := range j.p.Lines {
		fmt.Fprintf(&text, "  %s %s: %s\n", l.Class, strings.Join(l.Scopes, ","), l.Text)
	}
	for name, after := range j.files[1] {
		before := strings.Split(j.files[0][name], "\n")
		after := strings.Split(after, "\n")
		for _, l := range before {
			if !slices.Contains(after, l) {
				fmt.Fprintf(&text, "- %s: %s\n", name, l)
			}
		}
		for _, l := range after {
			if !slices.Contains(before, l) {
				fmt.Fprintf(&text, "+ %s: %s\n", name, l)
			}
		}
	}
	j.Errorf("%s: %s\nplan:\n%s", j.about, fmt.Sprintf(format, args...), text.String())
	j.FailNow()
}

// onBothSides are the services of both sides: what comes or goes has lines and requests of its own, at which witnesses looks.
func onBothSides(b, a *reading) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(b.services)), func(id string) bool { return a.services[id] == nil })
}

// askers are callers as they are on each side: workloads may run as another account.
func askers(b, a *reading) [][2]asker {
	var out [][2]asker
	same := func(c asker) { out = append(out, [2]asker{c, c}) }
	same(asker{})
	same(asker{workload: "gateway edge/gw", account: "edge/gw"})
	same(asker{workload: "watch/otel", account: "watch/otel"})
	for _, ns := range []string{"alpha", "beta", "edge", "far"} {
		same(asker{account: ns + "/nobody"})
	}
	for _, id := range onBothSides(b, a) {
		for _, v := range slices.Sorted(maps.Keys(b.services[id].Version)) {
			out = append(out, [2]asker{{id, b.services[id].account(v), v}, {id, a.services[id].account(v), v}})
		}
		for _, account := range slices.Concat(b.services[id].former(), a.services[id].former()) {
			same(asker{account: account})
		}
	}
	slices.SortFunc(out, func(x, y [2]asker) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	return slices.Compact(out)
}

// questions are requests such as the meshes look for.
func questions(r *rand.Rand, n int) []asked {
	var out []asked
	pick := func(xs []string) string { return xs[r.IntN(len(xs))] }
	templates := strings.NewReplacer("{x}", "a", "{y}", "b")
	paths := append(draw.Paths(), "/q/a", "/a/q/b", "/b/x/y", "/x.y/q", "/a/b/c")
	for range n {
		q := asked{method: pick(draw.Methods()), path: templates.Replace(pick(paths)), scheme: pick([]string{"http", "https"}), headers: map[string]string{}}
		q.source, q.client, q.hop = pick(draw.Addresses()), pick(draw.Addresses()), pick(draw.Addresses())
		if r.IntN(2) == 0 {
			q.host = strings.Replace(pick(append(draw.AccessHosts(), "s1.beta", "s2.alpha.svc")), "*", pick([]string{"a", "a.b"}), 1) + pick([]string{"", "", ".", "%2e"})
		}
		if r.IntN(2) == 0 {
			q.headers[strings.ToLower(pick(draw.HeaderNames()))] = pick(draw.HeaderValues())
		}
		if r.IntN(4) == 0 {
			q.headers[draw.Cohort] = "yes"
		}
		if r.IntN(3) == 0 {
			q.headers["cookie"] = pick(draw.CookieNames()) + "=" + pick(draw.CookieValues()) + pick([]string{"", "; sid=one", "; sid=2"})
		}
		if r.IntN(3) == 0 {
			q.query = pick(draw.QueryNames()) + "=" + pick(draw.QueryValues())
		}
		if r.IntN(3) == 0 {
			page := pick(append(draw.Origins(), "https://any.a.test", "http://shop.test", "https://evil.test"))
			if name := pick([]string{"origin", "referer"}); name == "origin" {
				q.headers[name] = page
			} else {
				q.headers[name] = page + "/a"
			}
		}
		q.users, q.claims = map[string]string{}, map[string][]string{}
		for _, x := range []string{"alpha/j0", "beta/j0", "edge/j0", "edge/j1", "edge/id", "edge/c0", "alpha/c0", "edge/shop"} {
			if token := pick([]string{"", "", "signed-in", "signed-in", "invalid", "other-audience"}); token != "" {
				q.users[x] = token
			}
			for range r.IntN(4) {
				if name := x + " " + pick(draw.Claims()); q.users[x] == "signed-in" {
					q.claims[name] = append(q.claims[name], pick(draw.ClaimTexts()))
				}
			}
		}
		clean, ok := eval.Normalise(q.path)
		if !ok || clean != q.path || !eval.Stable(clean) {
			continue
		}
		out = append(out, q)
	}
	return out
}

func (q asked) request() space.Request {
	out := space.Request{Method: q.method, Path: q.path, Query: q.query, Host: q.host, Scheme: q.scheme, Source: q.source, Client: q.client, Hop: q.hop}
	if ns, account, ok := strings.Cut(q.from, "/"); ok {
		out.From = "spiffe://mesh.test/ns/" + ns + "/sa/" + account
	}
	for _, x := range slices.Sorted(maps.Keys(q.users)) {
		u := space.User{Provider: x, Token: q.users[x]}
		for _, name := range slices.Sorted(maps.Keys(q.claims)) {
			for _, text := range q.claims[name] {
				if of, claim, _ := strings.Cut(name, " "); of == x {
					u.Claims = append(u.Claims, space.Claim{Name: claim, Value: text})
				}
			}
		}
		out.Users = append(out.Users, u)
	}
	for _, n := range slices.Sorted(maps.Keys(q.headers)) {
		out.Headers = append(out.Headers, space.Header{Name: n, Value: q.headers[n]})
	}
	return out
}

// isIn reports whether a line is about a request, as far as all of its exceptions are there; with
// more of them it may be.
func (q asked) isIn(l plan.Line) (is, maybe bool) {
	r := q.request()
	for _, part := range l.Requests {
		if space.Matches(part.When, r) && !slices.ContainsFunc(part.Except, func(e []space.Test) bool { return space.Matches(e, r) }) {
			is, maybe = is || part.More == 0, true
		}
	}
	return is, maybe
}

// mayBeIn is isIn where one of a class is looked for.
func (q asked) mayBeIn(lines []plan.Line, class plan.Class) bool {
	return slices.ContainsFunc(lines, func(l plan.Line) bool {
		_, maybe := q.isIn(l)
		return l.Class == class && maybe
	})
}

func (j drawnJudge) lines(kind, id, port string) []plan.Line {
	return slices.DeleteFunc(slices.Clone(j.p.Lines), func(l plan.Line) bool {
		return l.Kind == plan.KindAccess || !slices.ContainsFunc(l.At, func(s space.Scope) bool { return s.Kind == kind && s.ID == id && s.Port == port })
	})
}

// identified reports whether an identity is one, or fits a pattern of them: a star is a segment, and as the last one or more.
func identified(pattern, identity string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(identity, "/")
	for i, w := range want {
		switch {
		case i >= len(have) || w != "*" && w != have[i]:
			return false
		case w == "*" && i == len(want)-1:
			return true
		}
	}
	return len(want) == len(have)
}

func callerNamed(in, except []plan.Caller, both [2]asker) bool {
	c := both[1]
	ns, _, _ := strings.Cut(c.account, "/")
	is := func(x plan.Caller) bool {
		switch x.Kind {
		case plan.CallerService:
			return c.workload == x.Name && (x.Version == "" || x.Version == c.version)
		case plan.CallerGateway:
			return c.workload == "gateway "+x.Name
		case plan.CallerAccount:
			return both[0] == both[1] && c.account == x.Name
		case plan.CallerNamespace:
			return c.account != "" && ns == x.Name
		case plan.CallerAccounts:
			fits, err := path.Match(x.Name, c.account)
			return both[0] == both[1] && fits && err == nil
		case plan.CallerMesh:
			return c.account != ""
		case plan.CallerPlaintext:
			return c.account == ""
		case plan.CallerAnyone:
			return true
		case plan.CallerOther:
			return both[0] == both[1] && c.account != "" && identified(x.Name, "spiffe://mesh.test/ns/"+strings.Replace(c.account, "/", "/sa/", 1))
		}
		return false
	}
	return slices.ContainsFunc(in, is) && !slices.ContainsFunc(except, is)
}

// access holds what is told of access against what both sides' proxies let through.
func (j drawnJudge) access(qs []asked) (gained bool) {
	for _, id := range onBothSides(j.b, j.a) {
		sb, sa := j.b.services[id], j.a.services[id]
		for port := range sb.Port {
			display := id
			if len(sb.Port) > 1 {
				display += ":" + port
			}
			for _, c := range askers(j.b, j.a) {
				for _, q := range qs {
					was, is := j.b.admits(j.T, sb, port, c[0], q), j.a.admits(j.T, sa, port, c[1], q)
					gained = gained || !was && is
					for _, side := range []bool{false, true} {
						said := slices.ContainsFunc(j.p.Lines, func(l plan.Line) bool {
							x := l.Access
							return x != nil && x.Gained == side && slices.Contains(l.Scopes, display) && callerNamed(x.Callers, x.Except, c) &&
								(sb.Port[port].Protocol == "tcp" || inSet(x.Methods, q.method) && inSet(x.Paths, q.path) && space.Matches(x.Conditions, q.request()))
						})
						// What is over budget is told as that, in place of what it may hide.
						if want := was == !side && is == side; said != want && (said || !j.overBudget(display)) {
							j.wrong("%+v of %+v at %s: gained=%v is said: %v, true: %v", q, c, display, side, said, want)
						}
					}
				}
			}
		}
	}
	return gained
}

// services holds what is told of requests to services against what becomes of them.
func (j drawnJudge) services(qs []asked) {
	for _, id := range onBothSides(j.b, j.a) {
		sb, sa := j.b.services[id], j.a.services[id]
		for port, p := range sb.Port {
			if p.Protocol != "tcp" {
				j.calls("service", sb, sa, port, qs)
			}
		}
	}
	for id, xb := range j.b.outside {
		for port := range xb.Port {
			j.calls("external", xb, j.a.outside[id], port, qs)
		}
	}
}

func (j drawnJudge) calls(kind string, sb, sa *drawnService, port string, qs []asked) {
	lines := j.lines(kind, sb.id, port)
	around := kind == "external" && fmt.Sprint(sb.around("")) != fmt.Sprint(sa.around(""))
	for _, q := range qs {
		everB, everA := j.b.called(j.T, sb, port, q, nil, asker{}), j.a.called(j.T, sa, port, q, nil, asker{})
		asks := j.b.users(j.T, nearest("users", sb.words)) != j.a.users(j.T, nearest("users", sa.words))
		whoever, some := q, around || asks || everB.written != everA.written || everB.verdict != everA.verdict
		for _, c := range askers(j.b, j.a) {
			if c[0].account == "" || kind == "external" && !j.calling(c[0], sb.id) {
				continue
			}
			saysB, callsB := j.b.calledBy(c[0].account, sb, port)
			saysA, callsA := j.a.calledBy(c[1].account, sa, port)
			if callsB != callsA && len(saysB)+len(saysA) > 0 {
				continue // that the call came or went is told
			}
			was, is := q, q
			was.from, is.from = c[0].account, c[1].account
			ownB, ownA := j.b.called(j.T, sb, port, was, saysB, c[0]), j.a.called(j.T, sa, port, is, saysA, c[1])
			fb, fa := j.b.whole(j.T, sb, port, c[0], ownB), j.a.whole(j.T, sa, port, c[1], ownA)
			may := around || fb.written != fa.written || ownB.verdict != ownA.verdict
			some = some || may // of shares that are refused for all who call, a line says so of whoever calls
			access := fb.led == fa.led && slices.Equal(fb.doors, fa.doors) && !fb.unknown && !fa.unknown && fb.verdict != fa.verdict && forwardOrDenied(fb.verdict) && forwardOrDenied(fa.verdict) && ownB.arrived.path == ownA.arrived.path
			must := fb.key() != fa.key() && !access && !(fb.verdict == "denied" && fa.verdict == "denied")
			what := fmt.Sprintf("%+v: %s → %s", c, fb.key(), fa.key())
			q.from = c[1].account
			j.told(lines, q, must, may, sb.id+":"+port, what)
			if must && fb.verdict == "forward" && fa.verdict != "forward" && !q.mayBeIn(lines, plan.Narrowing) {
				j.wrong("%+v to %s gets through no longer and no line is narrowing: %s", q, sb.id, what)
			}
		}
		j.told(lines, whoever, false, some, sb.id+":"+port, "whoever calls it")
	}
}

// gateways holds what is told of requests from outside against what becomes of them.
func (j drawnJudge) gateways(qs []asked) {
	for id, gb := range j.b.gateways {
		ga := j.a.gateways[id]
		hosts := slices.Concat(slices.Collect(maps.Keys(gb.Host)), slices.Collect(maps.Keys(ga.Host)))
		slices.Sort(hosts)
		for _, class := range slices.Compact(hosts) {
			host := strings.Replace(class, "*", "any", 1)
			if hostClass(hosts, host) != class {
				continue
			}
			if j.overBudget("gateway/" + id + " host " + class) {
				continue
			}
			lines := j.lines("gateway", id, class)
			for _, q := range qs {
				q.host = host
				if in := gb.Host[hostClass(slices.Sorted(maps.Keys(gb.Host)), host)]; !gb.isReachedBy(in, q.scheme) {
					continue
				}
				if in := ga.Host[hostClass(slices.Sorted(maps.Keys(ga.Host)), host)]; !ga.isReachedBy(in, q.scheme) {
					continue
				}
				fb, fa := j.b.fromOutside(j.T, gb, host, q), j.a.fromOutside(j.T, ga, host, q)
				if fb.arrived.twice || fa.arrived.twice {
					continue // which of both lines counts is another matter
				}
				may := fb.written != fa.written || fb.key() != fa.key()
				// A host that comes or goes is told; what it keeps out then, as before, is not.
				whole := hostClass(slices.Collect(maps.Keys(gb.Host)), host) == "" || hostClass(slices.Collect(maps.Keys(ga.Host)), host) == ""
				out := func(v string) bool { return v == "denied" || whole && v == "404" }
				blocked := out(fb.verdict) && out(fa.verdict)
				what := fb.key() + " → " + fa.key()
				j.told(lines, q, fb.key() != fa.key() && !blocked, may, id+" host "+host, what)
				for class, is := range map[plan.Class]bool{plan.Widening: fb.verdict != "forward" && fa.verdict == "forward", plan.Narrowing: fb.verdict == "forward" && fa.verdict != "forward"} {
					if is && !q.mayBeIn(lines, class) {
						j.wrong("%+v to host %s: %s, and no line is %s", q, host, what, class)
					}
				}
			}
		}
	}
}

// witnesses asks the second reading about every request that is shown.
func (j drawnJudge) witnesses() (n int) {
	for _, l := range j.p.Lines {
		w := l.Witness
		if w == nil || w.Scope.Protocol == "tcp" {
			continue
		}
		q := asked{method: w.Request.Method, path: w.Request.Path, query: w.Request.Query, host: w.Request.Host, scheme: w.Request.Scheme, source: w.Request.Source, client: w.Request.Client, hop: w.Request.Hop, headers: map[string]string{}}
		twice := false
		q.users, q.claims = map[string]string{}, map[string][]string{}
		for _, u := range w.Request.Users {
			q.users[u.Provider] = u.Token
			for _, c := range u.Claims {
				q.claims[u.Provider+" "+c.Name] = append(q.claims[u.Provider+" "+c.Name], c.Value)
			}
		}
		for _, h := range w.Request.Headers {
			_, there := q.headers[h.Name]
			q.headers[h.Name], twice = h.Value, twice || there
		}
		if twice || w.Request.Upgrade != "" {
			continue
		}
		var vs [2]string
		for side, r := range []*reading{j.b, j.a} {
			from := w.Request.From
			if side == 0 && w.FromBefore != "" {
				from = w.FromBefore
			}
			c := asker{account: strings.ReplaceAll(strings.TrimPrefix(from, "spiffe://mesh.test/ns/"), "/sa/", "/")}
			if q.from = c.account; w.Scope.Kind == "gateway" {
				q.from = ""
			}
			switch {
			case w.Scope.Kind == "gateway":
				f := r.fromOutside(j.T, r.gateways[w.Scope.ID], w.Request.Host, q)
				vs[side], twice = f.verdict, twice || f.arrived.twice
			case w.Scope.Kind == "external":
				vs[side] = "denied"
				for _, s := range r.services {
					if _, calls := s.Calls[w.Scope.ID]; calls && slices.Contains(s.accounts(), c.account) {
						vs[side] = r.outside[w.Scope.ID].own(j.T, w.Scope.Port, q, nil).verdict
					}
				}
			case w.Direct:
				vs[side] = verdictOf(r.admits(j.T, r.services[w.Scope.ID], w.Scope.Port, c, q))
			default:
				vs[side] = r.whole(j.T, r.services[w.Scope.ID], w.Scope.Port, c, r.called(j.T, r.services[w.Scope.ID], w.Scope.Port, q, nil, c)).verdict
			}
		}
		if twice {
			continue // which of both lines counts is another matter
		}
		words := map[space.Verdict]string{space.Forward: "forward", space.Denied: "denied", space.NotFound: "404", space.Redirect: "redirect", space.Answered: "answered"}
		for side, o := range []space.Outcome{w.Before, w.After} {
			preflight := o.By == "cors"
			is := words[o.Verdict]
			if o.Verdict == space.Forward && len(o.Shares) > 0 && !slices.ContainsFunc(o.Shares, func(s space.Share) bool { return s.Status == 0 && s.Weight > 0 }) {
				is = "denied" // by each destination in its own way
			}
			if is != vs[side] && !preflight {
				j.wrong("%q shows %+v: %s → %s, true is %s", l.Text, w, w.Before.Verdict, w.After.Verdict, vs)
			}
		}
		n++
	}
	return n
}

// calling reports whether a caller calls an external on both sides.
func (j drawnJudge) calling(c asker, id string) bool {
	for _, r := range []*reading{j.b, j.a} {
		s := r.services[c.workload]
		if s == nil {
			return false
		}
		if _, calls := s.Calls[id]; !calls {
			return false
		}
	}
	return true
}

func (j drawnJudge) told(lines []plan.Line, q asked, must, may bool, where, what string) {
	said, maybe := false, false
	for _, l := range lines {
		is, perhaps := q.isIn(l)
		said, maybe = said || is, maybe || perhaps
	}
	if must && !maybe || said && !may {
		j.wrong("%+v to %s: told %v, true %v, possible %v: %s", q, where, said, must, may, what)
	}
}

// unread are words that give access of which the second reading knows nothing: lines with
// them are left out of both sides.
var unread = regexp.MustCompile(`(?m)^.*: (?:probe|scrape): .*\n`)

// withCalls are files with more calls than are drawn, without what is unread.
func withCalls(r *rand.Rand, files map[string]string) map[string]string {
	files = maps.Clone(files)
	for name, text := range files {
		files[name] = unread.ReplaceAllString(text, "")
	}
	for _, s := range []string{"alpha/s0", "beta/s1", "alpha/s2"} {
		ns, name, _ := strings.Cut(s, "/")
		for _, to := range []string{"beta/out", "beta/far"} {
			if r.IntN(2) == 0 {
				files[ns+"/"+ns+".cue"] += fmt.Sprintf("mesh: service: %s: calls: %q: {}\n", name, to)
			}
		}
	}
	return files
}

func drawnProgram(t *testing.T, files map[string]string, memo *compiler.Memo) *compiler.Program {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, ds := compiler.Load(fsys, compiler.Options{At: draw.At(), Memo: memo})
	if ds.HasErrors() {
		t.Logf("not compared: %v", ds.Err())
		return nil
	}
	return p
}

// sharing holds a plan against that of the same files whose sides share what is the same in
// both, as the sides of a command do: what is skipped for it changes no word.
func sharing(t *testing.T, files [2]map[string]string, want compiler.Changes) {
	t.Helper()
	memo := compiler.NewMemo()
	before, after := drawnProgram(t, files[0], memo), drawnProgram(t, files[1], memo)
	c, err := compiler.Compare(before, after, compiler.Limits{States: mostStates})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Plan, want.Plan) {
		t.Errorf("the plan of what shares objects is\n%+v\nand else\n%+v", c.Plan, want.Plan)
	}
}

// TestPlansOfAllWordsAreTrue draws meshes with all words of the language, and edits of them, and holds what
// a plan says against a second reading of the reference, as TestPlansAreTrue does for what is
// most of it.
func TestPlansOfAllWordsAreTrue(t *testing.T) {
	counts := map[string]int{}
	missing := func() []string {
		return slices.DeleteFunc(wantedLines(), func(kind string) bool { return counts[kind] > 0 })
	}
	// Which kinds of lines the first hundred meet changes with every new word: some are
	// rare, and are met a little later.
	const enough, atMost, round = 100, 3, 10
	n := 0
	for n < *drawnPairs || *drawnPairs >= enough && n < atMost**drawnPairs && len(missing()) > 0 {
		next := round
		if n < *drawnPairs {
			next = min(round, *drawnPairs-n)
		}
		seen := make([]map[string]int, next)
		t.Run("from "+fmt.Sprint(*drawnSeed+uint64(n)), func(t *testing.T) {
			for i := range seen {
				seed := *drawnSeed + uint64(n+i)
				seen[i] = map[string]int{}
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					t.Parallel()
					drawnPair(t, seed, seen[i])
				})
			}
		})
		for _, one := range seen {
			for kind, times := range one {
				counts[kind] += times
			}
		}
		n += next
	}
	t.Logf("%d pairs: %v", n, counts)
	if n < enough {
		return
	}
	if counts["refused"] > n/4 || counts["witnesses"] < n {
		t.Error("too little was compared")
	}
	for _, kind := range missing() {
		t.Errorf("no plan has a line %q", kind)
	}
}

// mostStates is less than a plan's: a pair that takes half a minute says no more than another one.
const mostStates = 30_000

func drawnPair(t *testing.T, seed uint64, counts map[string]int) {
	r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // the same pairs every time
	m := draw.New(r)
	n := m.Edit(r)
	if r.IntN(2) == 0 { // what comes can go as well
		m, n = n, m
	}
	called := r.Uint64()
	files := [2]map[string]string{}
	for side, x := range []*draw.Mesh{m, n} {
		files[side] = withCalls(rand.New(rand.NewPCG(called, 0)), x.Files) //nolint:gosec // likewise
	}
	before, after := drawnProgram(t, files[0], nil), drawnProgram(t, files[1], nil)
	if before == nil || after == nil {
		counts["refused"]++
		return
	}
	c, err := compiler.Compare(before, after, compiler.Limits{States: mostStates})
	if err != nil {
		t.Fatalf("%v\n%s", err, m)
	}
	sharing(t, files, c)
	j := drawnJudge{t, readIntent(t, files[0]), readIntent(t, files[1]), files, c.Plan, fmt.Sprintf("seed %d", seed)}
	qs := questions(r, 120)
	if j.access(qs) {
		if counts["gained"]++; !widens(c.Plan) && !c.OverBudget {
			j.wrong("access grows, and the verdict is %q", c.Verdict)
		}
	}
	j.services(qs)
	j.gateways(qs)
	counts["witnesses"] += j.witnesses()
	j.things()
	for _, l := range c.Lines {
		counts[string(l.Class)]++
		counts[kindOfLine(l)]++
	}
	if !c.Changed() {
		counts["unchanged"]++
	}
}

// widens reports whether a plan's verdict is that access grows, or above that, what scripts do, which nobody compares:
// then a line says that it grows.
func widens(p plan.Plan) bool {
	of := func(class plan.Class) bool {
		return slices.ContainsFunc(p.Lines, func(l plan.Line) bool { return l.Class == class })
	}
	return of(plan.Widening) && (p.Verdict == plan.Widening || p.Verdict == plan.NotCompared && of(plan.NotCompared))
}

// kindOfLine is what a line says, and how bad that is.
func kindOfLine(l plan.Line) string { return fmt.Sprintf("%s %s", l.Class, l.Says.What) }

// wantedLines are those of which each has to be met in a hundred pairs.
func wantedLines() []string {
	return []string{
		"widening access", "narrowing access", "widening egressOpened", "narrowing egressClosed",
		"widening outcome", "narrowing outcome", "neutral outcome", "weakening feature", "neutral feature",
		"weakening portMTLS", "neutral portMTLS", "narrowing portNumber", "narrowing portSocket", "narrowing account",
		"neutral callNew", "neutral hostOpened", "neutral hostClosed",
	}
}

// things holds what is told of what no single request shows against what the files say.
func (j drawnJudge) things() {
	said := func(what plan.What, scope string, is func(plan.Change) bool) bool {
		return slices.ContainsFunc(j.p.Lines, func(l plan.Line) bool { return l.Says.What == what && slices.Contains(l.Scopes, scope) && is(l.Says) })
	}
	hold := func(differs bool, what plan.What, scope, part string, is func(plan.Change) bool) {
		if told := said(what, scope, is); told != differs {
			j.wrong("%s of %s %s: told %v, true %v", what, scope, part, told, differs)
		}
	}
	for _, id := range onBothSides(j.b, j.a) {
		sb, sa := j.b.services[id], j.a.services[id]
		for port := range sb.Port {
			at := func(c plan.Change) bool { return c.Port == port }
			hold(sb.Port[port].Number != sa.Port[port].Number, plan.PortNumber, id, port, at)
			hold(j.b.mode(j.T, sb, port) != j.a.mode(j.T, sa, port), plan.PortMTLS, id, port, at)
		}
		for v := range sb.Version {
			kept := slices.Contains(sa.former(), sb.account(v))
			hold(sb.account(v) != sa.account(v) && !kept, plan.Account, id, v, func(c plan.Change) bool { return c.Version == v || c.Version == "" })
		}
		for _, to := range onBothSides(j.b, j.a) {
			was, is := sb.callsAt(j.b.services[to]), sa.callsAt(j.a.services[to])
			lost := func(from, to []string) bool {
				return slices.ContainsFunc(from, func(port string) bool { return !slices.Contains(to, port) })
			}
			about := func(c plan.Change) bool { return c.To == to }
			hold(lost(is, was), plan.CallNew, id, to, about)
			if gone := said(plan.CallGone, id, about) || said(plan.CallGoneUnused, id, about); gone != lost(was, is) {
				j.wrong("%s calls %s: gone is told %v, true %v", id, to, gone, lost(was, is))
			}
		}
	}
	for id, gb := range j.b.gateways {
		ga, scope := j.a.gateways[id], "gateway/"+id
		for h := range gb.Host {
			_, is := ga.Host[h]
			hold(!is, plan.HostClosed, scope, h, func(c plan.Change) bool { return c.Host == h })
		}
		for h := range ga.Host {
			_, was := gb.Host[h]
			hold(!was, plan.HostOpened, scope, h, func(c plan.Change) bool { return c.Host == h })
		}
	}
}

// overBudget reports whether a scope could not be compared.
func (j drawnJudge) overBudget(scope string) bool {
	return slices.ContainsFunc(j.p.Lines, func(l plan.Line) bool {
		return l.Class == plan.NotCompared && l.Says.What != plan.FeatureOf && slices.Contains(l.Scopes, scope)
	})
}
