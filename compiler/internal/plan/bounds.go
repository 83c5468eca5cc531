package plan

import (
	"fmt"
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

// BoundsOf are the bounds of requests with an outcome.
func BoundsOf(o space.Outcome) []Bound {
	var out []Bound
	for _, b := range eval.Bounds(o) {
		status, before := b.Statuses(o)
		out = append(out, Bound{b.Feature, b.Span, b.After.Seconds(), status, before})
	}
	return out
}

// After is the bound as intent writes it.
func (b Bound) After() string {
	return trait.Duration(b.Seconds * float64(time.Second)).String()
}

// String is what is bounded, and how long it may last: "answer 15s".
func (b Bound) String() string { return string(b.Of) + " " + b.After() }

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
