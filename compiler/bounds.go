package compiler

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
)

// Bound is how long a part of a request may last before the first proxy answers.
type Bound = plan.Bound

// paced is an answer with the request's pace, and the bounds of what is passed on of it.
func (r Request) paced(a space.Answer, q space.Request, tcp bool) (space.Answer, []Bound) {
	if tcp {
		return a, nil
	}
	a.Outcome = eval.ToGRPC(a.Outcome, q)
	out := plan.BoundsOf(a.Outcome)
	return eval.Pace{Pause: r.Pause, After: r.AnswerAfter, Body: r.hasBody()}.Of(a, q), out
}

// hasBody reports whether the request's head announces a body (RFC 9112, section 6).
func (r Request) hasBody() bool {
	return slices.ContainsFunc(r.Headers, func(h Header) bool {
		return strings.EqualFold(h.Name, "transfer-encoding") || strings.EqualFold(h.Name, "content-length") && strings.Trim(h.Value, "0") != ""
	})
}

// Then says what comes after the bound that a field of the outcome is, "" if it is none.
func (a Answer) Then(f space.Field) string {
	for _, b := range a.Bounds {
		if b.Feature == f.Feature && b.Of == f.Bounds && f.Number != 0 {
			return b.Words()
		}
	}
	return ""
}
