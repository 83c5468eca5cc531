package compiler

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Limits bound a comparison by counts, never by time. The zero value has defaults.
type Limits = prove.Limits

// Section is a further part of a rendered plan.
type Section = plan.Section

// CanAnswer is how much of a question is allowed, with the exact set.
type CanAnswer = plan.CanAnswer

// Near is what would get through in place of what does not.
type Near = plan.Near

// Plan is what a change of intent means, as data.
type Plan = plan.Plan

// Changes is what a change of intent means.
type Changes struct {
	Plan
	before, after *Program
}

// Empty is a program without anything: what a first commit is compared with.
func Empty(like *Program) *Program {
	m := &model.Mesh{TrustDomain: like.mesh.TrustDomain, Aliases: like.mesh.Aliases, Federation: like.mesh.Federation, Environment: like.mesh.Environment, Capture: like.mesh.Capture}
	p, err := newProgram(m.Build())
	if err != nil {
		panic(fmt.Sprintf("compiler: encoding an empty mesh: %v", err)) // plain strings always encode
	}
	p.result, p.inputs = &resolve.Result{Mesh: m}, like.inputs
	return p
}

// Compare says what changes from before to after, for all requests. Both must be
// compiled for one date. What is over l's limits is a line "not compared".
func Compare(before, after *Program, l Limits) (Changes, error) {
	l.Identities = append(l.Identities, after.identities()...)
	p, err := plan.Compare(before.side(), after.side(), catalog.Meaning(), catalog.Words(), l)
	if err != nil {
		return Changes{}, fmt.Errorf("comparing: %w", err)
	}
	if was, is := series(before.mesh), series(after.mesh); was != is {
		p.Blast.Series = &plan.Series{Before: was, After: is}
	}
	c := Changes{Plan: p, before: before, after: after}
	c.locate()
	return c, nil
}

// side is the program as a comparison sees it.
func (p *Program) side() plan.Side {
	return plan.Side{Mesh: p.mesh, Enforcement: p.result.Enforcement, Losses: p.classified()}
}

// Narrows reports whether after takes something away that before gives, and whoever goes
// back gives again: access, a way in or out, an exception. Requests that fail for another
// reason, such as a timeout, are none of it. What cannot be compared counts as that.
func Narrows(before, after release.Release) (bool, error) {
	b, err := Open(before)
	if err != nil {
		return true, err
	}
	a, err := Open(after)
	if err != nil {
		return true, err
	}
	c, err := Compare(b, a, Limits{})
	if err != nil {
		return true, err
	}
	return slices.ContainsFunc(c.Lines, func(l plan.Line) bool {
		return l.Class == plan.NotCompared || l.Class == plan.Narrowing && l.Kind != plan.KindFeature && l.Kind != plan.KindAddress && l.Kind != plan.KindLoss
	}), nil
}

// identities are the callers to prefer in examples: those that exist.
func (p *Program) identities() []string {
	var out []string
	for _, c := range p.Classes() {
		out = append(out, c.SPIFFEID(p.mesh.TrustDomain))
	}
	return out
}

// locate says where what lines name stands in the intent, each on its side.
func (c *Changes) locate() {
	in := func(p *Program) func(space.Origin) diag.Pos {
		return func(o space.Origin) diag.Pos { return p.Position(string(o)) }
	}
	c.Locate(in(c.before), in(c.after))
}

// Text writes the changes for a terminal, with color those of its verdicts. at turns a
// position in the intent into one that the reader can open.
func (c Changes) Text(w io.Writer, at func(diag.Pos) diag.Pos, sections []Section, color bool) error {
	return plan.Text(w, c.Plan, plan.RenderOptions{At: at, Sections: sections, Color: color})
}

// Markdown writes one comment on a pull request, escaped and cut below the host's
// limit. at is as for Text.
func (c Changes) Markdown(w io.Writer, at func(diag.Pos) diag.Pos, sections []Section) error {
	return plan.Markdown(w, c.Plan, plan.RenderOptions{At: at, Sections: sections})
}

// Policies adds what becomes of the policies beside the intent: the digest of each file by
// its name, before and after.
func (c *Changes) Policies(before, after map[string]string) { c.Plan.Policies(before, after) }

// NoPlan writes the comment of a change that has no plan: why, in our own words, and the
// sections behind it.
func NoPlan(w io.Writer, why string, sections ...Section) error {
	return plan.NoPlan(w, why, sections)
}

// Findings is one finding per line, for forms that annotate lines of files.
func (c Changes) Findings() diag.List {
	var out diag.List
	add := func(l plan.Line, when string) {
		d := diag.Diagnostic{Code: diag.CodeChange, Severity: diag.Warning, Text: string(l.Class) + when + ": " + l.Sentence()}
		if l.Class == plan.Neutral {
			d.Severity = diag.Note
		}
		if l.Code != "" {
			d.Code = l.Code
			d = d.WithFix("%s", strings.Join(l.Steps, "; then: "))
		}
		d.Pos = c.decisive(l)
		out = append(out, d)
	}
	for _, l := range c.Lines {
		add(l, "")
	}
	for _, s := range c.Steps {
		for _, l := range s.Lines {
			add(l, " after "+s.After.UTC().Format(time.RFC3339))
		}
	}
	return out
}

// decisive is the line that a change is shown at: what decides only now, else the
// first of what still decides.
func (c Changes) decisive(l plan.Line) diag.Pos {
	var first diag.Pos
	for _, o := range l.After {
		pos := c.after.Position(string(o))
		if pos.File != "" && !slices.Contains(l.Before, o) {
			return pos
		}
		if first.File == "" {
			first = pos
		}
	}
	return first
}

// atEntrance is what the port of a gateway answers to all requests for a host by a scheme, ""
// for any.
func atEntrance(g *model.Gateway, port model.Port, scheme string, r Request) (space.Answer, bool) {
	if r.Host == "" {
		return space.Answer{}, false
	}
	name := r.serverName(r.Host)
	if port.Protocol == model.HTTPS {
		if a, ok := eval.InHandshake(g, port, name, orElse(r.Certificate, eval.TrustedCertificate)); ok {
			return a, true
		}
	}
	a, ok := eval.AtDoor(g, port, name, r.Host, orElse(scheme, model.SchemeHTTP), "")
	if _, by := eval.AtDoor(g, port, name, r.Host, orElse(scheme, model.SchemeHTTPS), ""); !by {
		return space.Answer{}, false
	}
	return a, ok
}

// WordsAtDoor say what the port of a gateway answers to everybody, "" if grants and routes decide.
func WordsAtDoor(a CanAnswer) string {
	o := a.Answer.Outcome
	if o.By != eval.ByDoor && o.By != eval.ByProxy {
		return ""
	}
	return wordsOfProxy(gatewayProxy, o.Status, a.Answer.Why)
}

// CanI says how much of a question is allowed. Empty fields of r are open: then
// the answer is the exact set. From "*" leaves the caller open.
func (p *Program) CanI(r Request, l Limits) (CanAnswer, error) {
	q := plan.Query{AnyCaller: r.From == "*"}
	if !q.AnyCaller {
		from, err := p.identity(r.From, r.Namespace)
		if err != nil {
			return CanAnswer{}, err
		}
		q.Request.From = from
	}
	q.Request.Source, q.Request.Client = r.Source, r.Client
	q.Request.Method, q.Request.Host, q.Request.Headers = r.Method, eval.CleanHost(r.Host), eval.CleanHeaders(r.door(), r.Headers)
	var err error
	if q.Request, err = p.signedIn(q.Request, r); err != nil {
		return CanAnswer{}, err
	}
	if r.Path != "" {
		clean, ok := eval.Normalise(r.Path)
		if !ok || !eval.Stable(clean) {
			return CanAnswer{}, fmt.Errorf("no proxy accepts the path %q", r.Path)
		}
		q.Request.Path = clean
		_, q.Request.Query, _ = strings.Cut(r.Path, "?")
	}
	g, port, err := p.entrance(r)
	if err != nil {
		return CanAnswer{}, err
	}
	scope, found, err := p.scope(p.scopes(), r, g, port)
	if err != nil {
		return CanAnswer{}, err
	}
	if g != nil {
		if g.TrustedHops == 0 || slices.ContainsFunc(r.Headers, func(h Header) bool { return strings.EqualFold(h.Name, "x-forwarded-proto") }) {
			q.Request.Scheme = eval.Receive(r.sent(g, port)).Scheme
		}
		if a, ok := atEntrance(g, port, q.Request.Scheme, r); ok && a.Outcome.Verdict != space.NotFound { // whoever asks, and for what
			return CanAnswer{Can: plan.No, Example: q.Request, Answer: a}, nil
		}
	}
	if !found { // a gateway's host, which nobody has asked about
		return CanAnswer{}, fmt.Errorf("%s has no host %q", r.To, r.Host)
	}
	if scope.Scope.Kind == "service" && model.Protocol(scope.Scope.Protocol).IsHTTP() && p.unnamed(r, scope.Scope.ID, q.Request) {
		return CanAnswer{Can: plan.No, Example: q.Request, Answer: p.notNamed(scope.Scope.ID, q.Request)}, nil
	}
	l.Identities = append(l.Identities, p.identities()...)
	ans, err := plan.CanI(p.mesh, scope, q, l)
	if err != nil {
		return ans, fmt.Errorf("asking %s: %w", scope.Scope, err)
	}
	return ans, nil
}
