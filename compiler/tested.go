package compiler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// TestResult is what became of one `test:` block.
type TestResult struct {
	Name string   `json:"name"`
	Pos  diag.Pos `json:"pos"`
	// Failure is "" if the test passed, else what was expected and what came.
	Failure string `json:"failure,omitempty"`
	Answer  Answer `json:"answer"`
}

// Test runs every `test:` block of the intent in the evaluator.
func (p *Program) Test() []TestResult {
	ds := p.scopes()
	out := make([]TestResult, 0, len(p.result.Tests))
	for i, t := range p.Tests() {
		a, err := p.decide(ds, t.Request)
		res := TestResult{Name: t.Name, Pos: t.Pos, Answer: a}
		if err != nil {
			res.Failure = err.Error()
		} else {
			res.Failure = p.judge(p.result.Tests[i].Expect, a)
		}
		out = append(out, res)
	}
	return out
}

// judge words the first expectation that an answer does not meet.
func (p *Program) judge(e resolve.Expect, a Answer) string {
	if e.Allowed != nil && *e.Allowed != a.Allowed() {
		return fmt.Sprintf("expected allowed: %v, the request is %s", *e.Allowed, a.Words())
	}
	got := a.Status
	if got == 0 && a.Outcome.Verdict == space.Forward {
		got = 200 // what an application answers is its own affair
	}
	if e.Closed != nil && *e.Closed != a.Closed {
		return fmt.Sprintf("expected closed: %v, the request is %s", *e.Closed, a.Words())
	}
	if e.Status != 0 && got != e.Status {
		got := ""
		if a.Status != 0 {
			got = fmt.Sprintf(" and not %d", a.Status)
		}
		return fmt.Sprintf("expected status %d%s, the request is %s", e.Status, got, a.Words())
	}
	if e.By != "" && e.By != a.By {
		return fmt.Sprintf("expected an answer by %s, the request is %s, by %s", e.By, a.Words(), orElse(a.By, "several"))
	}
	if e.Path != "" && e.Path != a.Arrives.Path {
		return fmt.Sprintf("expected the path %s to arrive, it is %s", e.Path, orElse(a.Arrives.Path, "none: the request is "+a.Words()))
	}
	for _, host := range a.hosts() {
		if e.Host != "" && e.Host != host {
			return fmt.Sprintf("expected the host %s to arrive, it is %s", e.Host, host)
		}
	}
	if why := judgeDestination(e, a); why != "" {
		return why
	}
	return p.judgeSeen(e, a)
}

// hosts are those that arrive: one, unless destinations are asked by hosts of their own.
func (a Answer) hosts() []string {
	all := orElse(a.Arrives.Host, a.Request.Host)
	var out []string
	for _, s := range a.Outcome.Shares {
		out = append(out, orElse(HostTo(s), all))
	}
	if len(out) == 0 {
		return []string{all}
	}
	return out
}

// HostTo is the host by which a share is asked alone, "" for that of all requests.
func HostTo(s space.Share) string {
	for _, f := range s.Fields {
		if f.Does.Kind == space.SetsHost {
			return f.Value
		}
	}
	return ""
}

// judgeDestination words how requests do not all reach what is expected.
func judgeDestination(e resolve.Expect, a Answer) string {
	if e.To == "" && e.Port == "" && e.Version == "" {
		return ""
	}
	wanted := e.To
	for _, w := range []struct{ word, name string }{{"port", e.Port}, {"version", e.Version}} {
		if w.name != "" {
			wanted = strings.TrimSpace(wanted + " " + w.word + " " + w.name)
		}
	}
	for _, s := range a.Outcome.Shares {
		parts := targetParts(s.Target)
		if len(parts) == 4 && (e.To == "" || e.To == parts[0]+"/"+parts[1]) && (e.Port == "" || e.Port == parts[2]) && (e.Version == "" || e.Version == parts[3]) {
			continue
		}
		return fmt.Sprintf("expected every request to reach %s, the request is %s", wanted, a.Words())
	}
	if len(a.Outcome.Shares) == 0 {
		return fmt.Sprintf("expected %s, the request is %s", wanted, a.Words())
	}
	return ""
}

// targetParts are namespace, service, port and version of a share's target, "" for the version of an external.
func targetParts(target string) []string {
	if at, outside := strings.CutPrefix(target, "external/"); outside {
		target = at + "/"
	}
	return strings.Split(target, "/")
}

// judgeSeen words the first expectation about headers and copies that an answer does not meet.
func (p *Program) judgeSeen(e resolve.Expect, a Answer) string {
	if why := a.judgeArrived(e.RequestHeaders); why != "" {
		return why
	}
	if why := a.judgeAnswered(e.ResponseHeaders); why != "" {
		return why
	}
	if len(e.Copies)+len(e.NoCopies) == 0 {
		return ""
	}
	var copies []string
	for _, c := range p.Copied(a) {
		copies = append(copies, c.Target)
	}
	for _, w := range e.Copies {
		if !slices.ContainsFunc(copies, w.Takes) {
			return fmt.Sprintf("expected a copy to arrive at %s, %s", copiedWords(w), copiesWords(a, copies))
		}
	}
	for _, w := range e.NoCopies {
		if slices.ContainsFunc(copies, w.Takes) {
			return fmt.Sprintf("expected no copy to arrive at %s, %s", copiedWords(w), copiesWords(a, copies))
		}
	}
	return ""
}

// judgeArrived words the first test on headers that a request does not meet where it arrives.
func (a Answer) judgeArrived(tests []space.Test) string {
	for _, t := range tests {
		if !a.Forwarded() {
			return fmt.Sprintf("expected the request to arrive %s, it is %s", testWords(t), a.Words())
		}
		name := headerOf(t)
		if a.IsPersonal(name) {
			return fmt.Sprintf("what header %q says at the application is decided by others on the way (a token, a script, an authorizer), and no test knows it", name)
		}
		for _, s := range a.Outcome.Shares {
			if s.Status != 0 {
				continue
			}
			q := a.image.Of(a.Request)
			q = space.Image{Headers: space.Edits(s.Fields, space.ClearsRequest, space.SetsRequest, space.AddsRequest)}.Of(q)
			if !t.Holds(q) {
				return fmt.Sprintf("expected the request to arrive at %s %s, it has %s", s.Target, testWords(t), linesWords(q, name))
			}
		}
	}
	return ""
}

// judgeAnswered words the first test on headers that an answer need not meet where the caller gets it, whatever an
// application says.
func (a Answer) judgeAnswered(tests []space.Test) string {
	for _, t := range tests {
		common := space.Edits(a.Outcome.Fields, space.ClearsAnswer, space.SetsAnswer, space.AddsAnswer)
		if a.Answered() {
			if q := (space.Image{Headers: common}).Of(space.Request{}); !t.Holds(q) {
				return fmt.Sprintf("expected an answer %s, it has %s", testWords(t), linesWords(q, headerOf(t)))
			}
			continue
		}
		if !a.Forwarded() {
			return fmt.Sprintf("expected an answer %s, the request is %s, and no test knows the headers of such an answer", testWords(t), a.Words())
		}
		if name := headerOf(t); slices.Contains(a.Remembered, name) {
			return fmt.Sprintf("what header %q says at the caller is decided by a proxy as well (`cors`, `session`, `sticky`), and no test knows it", name)
		}
		for _, s := range a.Outcome.Shares {
			if s.Status != 0 {
				continue
			}
			own := space.Edits(s.Fields, space.ClearsAnswer, space.SetsAnswer, space.AddsAnswer)
			if !always(t, own, common) {
				q := space.Image{Headers: common}.Of(space.Image{Headers: own}.Of(space.Request{}))
				return fmt.Sprintf("expected an answer from %s %s whatever its application says, on the way back it gets %s", s.Target, testWords(t), linesWords(q, headerOf(t)))
			}
		}
	}
	return ""
}

// remembered are the headers of an application's answer that proxies may write behind all edits, such as what the
// caller is to be known again by: a route's, or those of whoever the request goes to.
func (p *Program) remembered(o space.Outcome) []string {
	fields := slices.Clone(o.Fields)
	for _, share := range o.Shares {
		fields = append(fields, share.Fields...)
		to := targetParts(share.Target)
		if len(to) < 4 {
			continue
		}
		if s := p.mesh.Service(to[0] + "/" + to[1]); s != nil && !strings.HasPrefix(share.Target, "external/") {
			fields = append(fields, catalog.Meaning().Fields(s.TraitsTo(to[2], to[3]))...)
		} else if x := p.mesh.External(to[0] + "/" + to[1]); x != nil {
			fields = append(fields, catalog.Meaning().Fields(x.Traits)...)
		}
	}
	var out []string
	for _, f := range fields {
		if f.Does.Kind == space.MayAddAnswer {
			out = append(out, f.Does.Of)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// always reports whether a test holds for whatever headers there are behind these edits, one after the other.
func always(t space.Test, edits ...[]space.Edit) bool {
	when := []space.Test{t}
	for i := range edits {
		before, possible, err := space.Image{Headers: edits[len(edits)-1-i]}.Before(when)
		if err != nil || !possible {
			return false
		}
		when = before
	}
	return len(when) == 0
}

// Copy is a place where copies of requests arrive.
type Copy struct {
	// Target is "namespace/service/port/version".
	Target string
	// Percent of the requests are copied, above 0 to 100.
	Percent float64
}

// Copied are the places where copies of a request arrive, of all such requests or of a share of them, sorted.
func (p *Program) Copied(a Answer) []Copy {
	q := a.image.Of(a.Request)
	sender := "" // who has asked
	if a.Scope.Kind == "gateway" {
		if g := p.mesh.Gateway(a.Scope.ID); g != nil {
			sender = g.Class().SPIFFEID(p.mesh.TrustDomain)
		}
	}
	return slices.DeleteFunc(a.copies(), func(c Copy) bool {
		to := targetParts(c.Target)
		return !eval.LetsIn(p.mesh, catalog.Meaning(), sender, to[0]+"/"+to[1], to[2], q)
	})
}

// copies are the places to which copies of the request are sent, sorted. Nothing is copied of what is broken off before,
// nor of what changes its protocol.
func (a Answer) copies() []Copy {
	if a.Request.Upgrade != "" || slices.ContainsFunc(a.Outcome.Partly, space.Partial.Ends) {
		return nil
	}
	var out []Copy
	for _, f := range a.Outcome.Fields {
		if f.Does.Kind == space.Copies {
			out = append(out, Copy{f.Does.Of, f.Number})
		}
	}
	slices.SortFunc(out, func(a, b Copy) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(b.Percent, a.Percent)) })
	return slices.CompactFunc(out, func(a, b Copy) bool { return a.Target == b.Target })
}

// copiesWords say where copies arrive, and where they are refused.
func copiesWords(a Answer, arrive []string) string {
	var parts []string
	for _, c := range a.copies() {
		to := c.Target
		if !slices.Contains(arrive, to) {
			to += ", which lets none in"
		}
		parts = append(parts, to)
	}
	if len(parts) == 0 {
		return "there are none"
	}
	return "copies go to " + strings.Join(parts, "; ")
}

func copiedWords(c resolve.Copied) string {
	out := c.To
	for _, w := range []struct{ word, name string }{{"port", c.Port}, {"version", c.Version}} {
		if w.name != "" {
			out += " " + w.word + " " + w.name
		}
	}
	return out
}

// headerOf is the header of which a test is.
func headerOf(t space.Test) string {
	_, name := t.Dim.Of()
	return name
}

func testWords(t space.Test) string {
	dim, name := t.Dim.Of()
	return dim.Words(name, t)
}

// linesWords are the lines of a request's header.
func linesWords(q space.Request, name string) string {
	var lines []string
	for _, h := range q.Headers {
		if h.Name == name {
			lines = append(lines, fmt.Sprintf("%q", h.Value))
		}
	}
	if len(lines) == 0 {
		return "none"
	}
	return strings.Join(lines, " and ")
}
