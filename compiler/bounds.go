package compiler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Bound is how long a part of a request may last before the first proxy answers. How long it
// lasts is nothing that intent knows.
type Bound struct {
	// Feature is the word by which intent says so, "" for what proxies do of themselves.
	Feature string `json:"feature,omitempty"`
	// Of is "answer" (from the end of the request to that of its answer), "try" (one of the tries to
	// get it), "silence" (in which nothing moves) or "stream" (the request with all that follows).
	Of space.Span `json:"of"`
	// Seconds is above 0.
	Seconds float64 `json:"seconds"`
	// Status is the answer where the proxy has the whole request, StatusBefore while it has not, 0
	// if the bound counts only from there.
	Status       int `json:"status"`
	StatusBefore int `json:"status_before,omitempty"`
}

// paced is an answer with the request's pace, and the bounds of what is passed on of it.
func (r Request) paced(a space.Answer, q space.Request, tcp bool) (space.Answer, []Bound) {
	if tcp {
		return a, nil
	}
	var out []Bound
	for _, b := range eval.Bounds(a.Outcome) {
		status, before := b.Statuses()
		out = append(out, Bound{b.Feature, b.Span, b.After.Seconds(), status, before})
	}
	return eval.Pace{Pause: r.Pause, After: r.AnswerAfter, Body: r.hasBody()}.Of(a, q), out
}

// hasBody reports whether the request's head announces a body (RFC 9112, section 6).
func (r Request) hasBody() bool {
	return slices.ContainsFunc(r.Headers, func(h Header) bool {
		return strings.EqualFold(h.Name, "transfer-encoding") || strings.EqualFold(h.Name, "content-length") && strings.Trim(h.Value, "0") != ""
	})
}

// After is the bound as intent writes it.
func (b Bound) After() string {
	return trait.Duration(b.Seconds * float64(time.Second)).String()
}

// Words say what comes after the bound: ", then 504".
func (b Bound) Words() string {
	switch {
	case b.Of == space.OfTry:
		return fmt.Sprintf(", then %d if no other try is answered", b.Status)
	case b.StatusBefore != 0:
		return fmt.Sprintf(", then %d, or %d before the request has ended", b.Status, b.StatusBefore)
	}
	return fmt.Sprintf(", then %d", b.Status)
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
