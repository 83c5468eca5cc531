package model

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/trait"
)

// Canary is how a candidate takes a route's requests over, step by step, and within what. The route
// itself, and that of its cohort, are those of the step that it stands at.
type Canary struct {
	Stable    string `json:"stable"`
	Candidate string `json:"candidate"`
	// Steps are the candidate's shares in percent, rising; At is one of them, or 0.
	Steps []Percent `json:"steps"`
	At    Percent   `json:"at"`
	// Cohort says that there are requests of which the candidate gets all, by the route CohortName.
	Cohort bool `json:"cohort,omitempty"`
	// What has to be so for a step onwards; 0 for nothing said.
	SuccessRate float64        `json:"success_rate,omitempty"`
	P99         trait.Duration `json:"p99,omitempty"`
	MinRequests uint32         `json:"min_requests,omitempty"`
	Window      trait.Duration `json:"window,omitempty"`
	// Pace is how long a step stands at least.
	Pace trait.Duration `json:"pace,omitempty"`
}

// CohortName is the name of the route that a canary's cohort takes. No route of intent has a slash in its own.
func CohortName(route string) string { return route + "/cohort" }

// String is the canary in words.
func (c Canary) String() string {
	steps := make([]string, len(c.Steps))
	for i, s := range c.Steps {
		steps[i] = s.String()
	}
	out := c.Stable + " to " + c.Candidate + ", at " + c.At.String() + "% of steps " + strings.Join(steps, " ")
	if c.Cohort {
		out += ", with a cohort"
	}
	var guards []string
	if c.SuccessRate > 0 {
		guards = append(guards, "success "+strconv.FormatFloat(c.SuccessRate, 'f', -1, 64)+"%")
	}
	if c.P99 > 0 {
		guards = append(guards, "p99 "+c.P99.String())
	}
	if c.MinRequests > 0 {
		guards = append(guards, strconv.FormatUint(uint64(c.MinRequests), 10)+" requests")
	}
	if c.Window > 0 {
		guards = append(guards, "window "+c.Window.String())
	}
	if len(guards) > 0 {
		out += ", guards: " + strings.Join(guards, " ")
	}
	if c.Pace > 0 {
		out += ", pace " + c.Pace.String()
	}
	return out
}

// Equal reports whether both say the same.
func (c Canary) Equal(o Canary) bool {
	steps := slices.Equal(c.Steps, o.Steps)
	return steps && c.String() == o.String()
}

// Wider reports whether c lets the candidate have more, or more at once, or goes on with less proof, than o.
func (c Canary) Wider(o Canary) bool {
	most, jump := reach(c.Steps)
	wasMost, wasJump := reach(o.Steps)
	return most > wasMost || jump > wasJump || c.SuccessRate < o.SuccessRate || looser(c.P99, o.P99) || c.MinRequests < o.MinRequests || c.Window < o.Window || c.Pace < o.Pace
}

// reach is the last step, and the most that one adds.
func reach(steps []Percent) (most, jump Percent) {
	for _, s := range steps {
		jump, most = max(jump, s-most), s
	}
	return most, jump
}

// looser compares two bounds, of which 0 is none.
func looser(is, was trait.Duration) bool { return was > 0 && (is == 0 || is > was) }
