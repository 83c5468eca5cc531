package imports

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/importer"
	"meshc.dev/meshc/internal/rehearsal"
)

var (
	scenes    = flag.Int("scenes", usualScenes, "number of namespaces with objects of Istio")
	questions = flag.Int("questions", usualQuestions, "number of requests for each of them")
)

const (
	usualScenes    = 24
	usualQuestions = 80
	tries          = 60 // how often a side is asked until it has shown all destinations that the other one has
)

// What meshc makes of Istio's objects is what Istio makes of them, on real Envoys, as far as the import does not tell
// that it is not translated.
func TestIstio(t *testing.T) {
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	d := drawing{rand.New(rand.NewPCG(*seed, 2))}
	var drawn []scene
	for i := range *scenes {
		drawn = append(drawn, d.scene(fmt.Sprintf("n%d", i)))
	}
	var asks []question
	for _, s := range drawn {
		for range *questions {
			asks = append(asks, d.question(s))
		}
	}
	objects := manifests(t, drawn)
	said := istioSays(t, objects, istioProxies(drawn))
	c := istioComparison{ours: istioImported(t, bin, objects, asks), met: map[string]int{}, left: map[string]int{}}
	c.theirs = istioSide(t, bin, said, func(target string) string {
		if addr, ok := c.ours.stage.Application(target); ok {
			return addr
		}
		return "127.0.0.1:1" // of what is not written
	})
	c.ask(t, asks)
	for _, p := range c.pairs {
		c.judge(t, p)
	}
	t.Logf("%d requests; met: %v; left out: %v", len(c.pairs), c.met, c.left)
	if *seed == usualSeed && *scenes == usualScenes && *questions == usualQuestions {
		c.floors(t)
	}
}

// floors are how much of each kind has to have been compared, about two thirds of what is.
func (c *istioComparison) floors(t *testing.T) {
	t.Helper()
	for kind, least := range map[string]int{
		"gateway": 450, "gateway 200": 100, "gateway 301": 10, "gateway 307": 8, "gateway 403": 100, "gateway 404": 50, "gateway 418": 80, "gateway 504": 5, "gateway policies": 150, "gateway shares": 20,
		"sidecar": 350, "sidecar 200": 70, "sidecar 301": 12, "sidecar 403": 130, "sidecar 404": 70, "sidecar 418": 50, "sidecar 504": 20, "sidecar policies": 300, "sidecar shares": 8,
		"redirect": 30, "directResponse": 40, "route": 450, "rewrite": 45, "headers": 550, "fault": 100, "retries": 65, "timeout": 65, "corsPolicy": 10, "mirror": 30, "mirrors": 3, "copied": 30, "sent again": 2,
		"match": 350, "match uri": 450, "match ignoreUriCase": 12, "match method": 90, "match headers": 140, "match withoutHeaders": 60, "match queryParams": 70, "match sourceLabels": 5, "match port": 8,
	} {
		if c.met[kind] < least {
			t.Errorf("%d of %q were compared, and %d have to be", c.met[kind], kind, least)
		}
	}
}

// istioImport is what meshc makes of Istio's objects, on Envoys.
type istioImport struct {
	stage *rehearsal.Stage
	doors map[string]string // addresses, by proxy and the scene that it calls
	told  diag.List
}

func istioImported(t *testing.T, bin envoybin.Binary, objects []byte, asks []question) istioImport {
	t.Helper()
	answers := importer.Answer{Owner: "ops", Reason: "as Istio has it", Until: "2026-09-01T00:00:00Z"}
	res, err := importer.Istio([]importer.Input{{Name: "objects.yaml", Text: objects}}, answers, check)
	if err != nil {
		t.Fatal(err)
	}
	p, ds := load(res.Files)
	if p == nil || ds.HasErrors() {
		t.Fatalf("the intent does not compile: %v", ds)
	}
	var names []string
	var requests []compiler.Request
	for _, q := range asks {
		r := compiler.Request{From: q.proxy(), To: q.scene.ns + "/s1"}
		if q.from == "" {
			r = compiler.Request{To: "gateway/" + q.proxy(), Port: "http", Host: "any.test"}
		}
		if slices.Contains(names, q.door()) {
			continue
		}
		if _, err := p.Decide(r); err != nil {
			continue // nothing of it is written, which the import tells
		}
		names, requests = append(names, q.door()), append(requests, r)
	}
	reh, err := p.Rehearse(requests)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stage, err := rehearsal.Start(ctx, bin, reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	out := istioImport{stage, map[string]string{}, res.Findings}
	for i, d := range reh.Doors {
		if addr, ok := stage.Address(d); ok {
			out.doors[names[i]] = addr
		}
	}
	return out
}

// door names where meshc takes a request.
func (q question) door() string { return q.proxy() + " " + q.scene.ns }

// istioPair is a request on both sides: what each told, by the destination that it reached.
type istioPair struct {
	question
	ours, theirs map[string]told
}

// istioComparison is what both sides have told.
type istioComparison struct {
	ours   istioImport
	theirs map[string]string
	pairs  []istioPair
	number atomic.Int64
	met    map[string]int // how often each kind has been compared
	left   map[string]int // how often something is told not to be translated
}

// ask sends requests to both sides.
func (c *istioComparison) ask(t *testing.T, asks []question) {
	t.Helper()
	for _, q := range asks {
		if why := c.untranslated(q); why != "" {
			c.left[why]++
			continue
		}
		c.pairs = append(c.pairs, istioPair{q, map[string]told{}, map[string]told{}})
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(parallel)
	for _, p := range c.pairs {
		group.Go(func() error { return c.both(ctx, p) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	arrived := map[string][]rehearsal.Seen{}
	for _, s := range settled(t.Context(), c.ours.stage) {
		id := strings.Join(s.Headers[asked], "")
		s.Headers = kept(s.Headers)
		arrived[id] = append(arrived[id], s)
	}
	for _, p := range c.pairs {
		for _, side := range []map[string]told{p.ours, p.theirs} {
			for target, a := range side {
				side[target] = a.with(arrived[a.id])
			}
		}
	}
}

// with adds what else has arrived of a request: copies, and what was sent again.
func (t told) with(arrived []rehearsal.Seen) told {
	if i := slices.IndexFunc(arrived, func(s rehearsal.Seen) bool { return s.Target == t.target() }); i >= 0 {
		arrived = slices.Delete(slices.Clone(arrived), i, i+1)
	}
	slices.SortFunc(arrived, func(a, b rehearsal.Seen) int { return strings.Compare(words(a), words(b)) })
	t.Copies = arrived
	return t
}

// both asks both sides, until each has shown the destinations that the other has.
func (c *istioComparison) both(ctx context.Context, p istioPair) error {
	for i := range tries {
		for _, s := range []struct {
			addr        string
			here, there map[string]told
		}{{c.ours.doors[p.door()], p.ours, p.theirs}, {c.theirs[p.proxy()], p.theirs, p.ours}} {
			if i > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(s.there)), func(k string) bool { _, ok := s.here[k]; return !ok }) {
				continue
			}
			id := fmt.Sprint(c.number.Add(1))
			a, err := visit(ctx, s.addr, "", p.method, p.bytes(id))
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.addr, p.words(), err)
			}
			a.id = id
			if _, again := s.here[a.target()]; !again {
				s.here[a.target()] = a
			}
		}
		if same(p.ours, p.theirs) {
			return nil
		}
	}
	return nil
}

// untranslated is what the import tells of that a request is about, "" if nothing.
func (c *istioComparison) untranslated(q question) string {
	for _, d := range c.ours.told {
		if !d.IsError() {
			continue
		}
		if why := q.about(d.Text, c.ours.doors[q.door()] == ""); why != "" {
			return why
		}
	}
	return ""
}

// about reports what a finding leaves out of the intent that a request needs.
func (q question) about(text string, closed bool) string {
	if q.from != "" && strings.HasPrefix(text, "Service "+q.scene.ns+"/s1 is not written") {
		return "service"
	}
	_, rest, _ := strings.Cut(text, "host \"")
	name, rest, ok := strings.Cut(rest, "\"")
	if !ok || q.from != "" || !strings.HasPrefix(rest, " of Gateway "+q.scene.ns+"/"+q.scene.ns+" is not written") {
		return ""
	}
	if fits(name, q.host) {
		return "host"
	}
	if closed {
		return "closed" // of a gateway none of whose hosts is written nothing is
	}
	return ""
}

// judge compares a pair.
func (c *istioComparison) judge(t *testing.T, p istioPair) {
	t.Helper()
	if why := c.broader(p); why != "" {
		c.left[why]++
		return
	}
	for target := range union(p.ours, p.theirs) {
		ours, theirs := p.ours[target], p.theirs[target]
		if r := p.rule(theirs.rule()); p.fails() && r["retries"] == nil {
			ours.Copies, theirs.Copies = nil, nil // how often Istio itself sends again, which the import tells
			c.left["default retries"]++
		}
		if r := p.rule(theirs.rule()); target == "" && (r == nil || len(list(r["route"])) > 1) {
			ours, theirs = ours.anywhere(), theirs.anywhere()
		}
		if words(ours) == words(theirs) && ours.said() == theirs.said() {
			continue
		}
		t.Errorf("%s\nmeshc %s\nIstio %s\n%s", p.words(), every(p.ours), every(p.theirs), p.objects())
		return
	}
	c.count(p)
}

// anywhere is what no destination has a part in: chance decides which one was too late, or refused.
func (t told) anywhere() told {
	t.Answer, t.Copies = map[string][]string{tag: t.Answer[tag]}, nil
	return t
}

// broader is what the import tells to be read more strictly, where that is why meshc refuses what Istio does not.
func (c *istioComparison) broader(p istioPair) string {
	if first(p.ours).Status != http.StatusForbidden || first(p.theirs).Status == http.StatusForbidden {
		return ""
	}
	for _, d := range c.ours.told {
		for i, policy := range p.scene.policies {
			name, rest, ok := strings.Cut(d.Text, ": ")
			if !ok || name != fmt.Sprintf("AuthorizationPolicy %s/p%d", p.scene.ns, i) {
				continue
			}
			switch {
			case policy["action"] == "DENY" && strings.Contains(rest, "which intent reads more broadly"):
				return "denial"
			case policy["action"] == "ALLOW" && d.IsError():
				return "grant"
			}
		}
	}
	return ""
}

// fails reports whether applications answer a request with a failure.
func (q question) fails() bool {
	return slices.ContainsFunc(q.headers, func(h value) bool { return h.Name == rehearsal.FailHeader })
}

// rule is one by its tag, nil if it has none.
func (q question) rule(name string) object {
	for _, v := range q.scene.virtual {
		for i, r := range v.rules {
			if name == fmt.Sprintf("%s.%s.%d", q.scene.ns, v.name, i) {
				return r
			}
		}
	}
	return nil
}

// count counts what has been compared: who asked, what became of it, and the words of the rule by which it did.
func (c *istioComparison) count(p istioPair) {
	who := map[bool]string{true: "gateway", false: "sidecar"}[p.from == ""]
	a := first(p.theirs)
	c.met[who]++
	c.met[fmt.Sprint(who, " ", a.Status)]++
	if len(p.theirs) > 1 {
		c.met[who+" shares"]++
	}
	if len(p.scene.policies) > 0 {
		c.met[who+" policies"]++
	}
	r := p.rule(a.rule())
	for word := range r {
		c.met[word]++
	}
	for _, m := range list(r["match"]) {
		for word := range m.(object) {
			c.met["match "+word]++
		}
	}
	if len(a.Copies) > 0 && p.fails() {
		c.met["sent again"]++
	} else if len(a.Copies) > 0 {
		c.met["copied"]++
	}
}

// said is the body of an answer that a rule says.
func (t told) said() string {
	if t.Seen != nil || t.Status == http.StatusNotFound {
		return ""
	}
	return t.text
}

// objects are those that decide about a request.
func (q question) objects() string {
	var out []string
	for _, v := range q.scene.virtual {
		if v.at(q.from == "") {
			out = append(out, fmt.Sprintf("%s %v", v.name, v.hosts))
			for _, r := range v.rules {
				out = append(out, "  "+words(r))
			}
		}
	}
	for _, p := range q.scene.policies {
		out = append(out, "policy "+words(p))
	}
	return strings.Join(out, "\n")
}
