package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// sent is a name by which a route says where requests go, with its share.
type sent struct {
	intent.Entry
	weight model.Percent
}

// sends are those of `to`, or of the step at which a route's canary stands. where is what says it.
func (l *linker) sends(n intent.Node) (out []sent, where intent.Node) {
	c := n.Field("canary")
	if !c.Exists() {
		to := n.Field("to")
		for _, e := range to.Fields() {
			weight, _ := e.Node.Hundredths()
			out = append(out, sent{e, model.Percent(weight)})
		}
		return out, to
	}
	hundredths, _ := c.Field("at").Hundredths()
	at := model.Percent(hundredths)
	for _, s := range []struct {
		name   intent.Node
		weight model.Percent
	}{{c.Field("stable"), model.All - at}, {c.Field("candidate"), at}} {
		out = append(out, sent{intent.Entry{Name: s.name.Str(), Node: s.name}, s.weight})
	}
	return out, c
}

// canary reads what a route's canary says besides where requests go, nil if it has none.
func (l *linker) canary(n intent.Node) *model.Canary {
	c := n.Field("canary")
	if !c.Exists() {
		return nil
	}
	if to := n.Field("to"); to.Exists() {
		l.add(diag.New(diag.CodeOneOf, to.Pos(), "%s has both `to` and `canary`", n.Path()).WithRelated(c.Pos(), "canary").WithFix("%s", keepOne(n, "to", "canary")))
	}
	x, guards := Place{l: l}, c.Field("guards")
	at, _ := l.percent(c.Field("at"))
	out := &model.Canary{
		Stable: c.Field("stable").Str(), Candidate: c.Field("candidate").Str(), At: at, Cohort: c.Field("cohort").Exists(),
		P99: x.Duration(guards.Field("p99"), 0), MinRequests: uint32(guards.Field("minRequests").Int()), Window: x.Duration(guards.Field("window"), 0), //nolint:gosec // bounded by the schema
		Pace: x.Duration(c.Field("pace"), 0),
	}
	if rate := guards.Field("successRate"); rate.Exists() {
		if raw, err := rate.JSON(); err == nil {
			out.SuccessRate, _ = strconv.ParseFloat(string(raw), 64) // a number, says the schema
		}
	}
	if out.Stable == out.Candidate {
		l.add(diag.New(diag.CodeNever, c.Field("candidate").Pos(), "%q takes over from itself", out.Candidate).WithFix("name what is new as the `candidate`, or write `to`"))
	}
	if guards.Exists() && len(guards.Fields()) == 0 {
		l.add(diag.New(diag.CodeNever, guards.Pos(), "`guards` holds nothing").WithFix("delete it, or write what has to be so"))
	}
	l.steps(c, out)
	return out
}

// steps reads the steps of a canary, which rise, and of which `at` is one, or 0: back is
// always a way.
func (l *linker) steps(c intent.Node, out *model.Canary) {
	if steps := c.Field("steps"); len(steps.List()) == 0 {
		l.add(diag.New(diag.CodeRange, steps.Pos(), "%s has no step", c.Path()).WithFix("write at least %s, at which it stands", out.At))
	}
	for i, s := range c.Field("steps").List() {
		step, _ := l.percent(s)
		if i > 0 && step <= out.Steps[i-1] {
			l.add(diag.New(diag.CodeRange, s.Pos(), "step %s of %s does not rise: %s comes before it", step, c.Path(), out.Steps[i-1]).
				WithFix("write each step once, the smaller ones first; `at` goes back to an earlier one"))
		}
		out.Steps = append(out.Steps, step)
	}
	if len(out.Steps) == 0 || out.At == 0 || slices.Contains(out.Steps, out.At) {
		return
	}
	var steps []string
	if out.Steps[0] > 0 {
		steps = append(steps, "0")
	}
	for _, s := range out.Steps {
		steps = append(steps, s.String())
	}
	l.add(diag.New(diag.CodeRange, c.Field("at").Pos(), "%s stands at %s, which is none of its steps", c.Path(), out.At).
		WithRelated(c.Field("steps").Pos(), "the steps").WithFix("write one of %s, or add %s to `steps`", strings.Join(steps, ", "), out.At))
}

// cohort is the match of those of a route's requests that are its canary's cohort; false if there is none.
func (l *linker) cohort(p *pkg, n intent.Node, r model.Route, gateway bool) (model.Match, intent.Node, bool) {
	c := n.Field("canary").Field("cohort")
	if !c.Exists() {
		return model.Match{}, c, false
	}
	problems := len(l.diags)
	own := l.match(p, c, gateway)
	if len(l.diags) > problems {
		return model.Match{}, c, false
	}
	both, ok := model.IntersectMatches(r.Match, own)
	switch {
	case own.IsZero():
		l.add(diag.New(diag.CodeNever, c.Pos(), "the cohort has no condition: it is everybody").WithFix("write one, or delete it"))
	case !ok:
		l.add(diag.New(diag.CodeNever, c.Pos(), "no request meets the conditions of the cohort and of its route").WithFix("delete one of them"))
	default:
		return both, c, true
	}
	return model.Match{}, c, false
}
