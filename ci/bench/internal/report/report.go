// Package report keeps the figures of a run and writes them.
//
// In: figures as they are measured. Out: a table for people, or JSON. A target
// stands beside its figure; whether it is met changes no exit code, since a slow
// or busy machine is no defect. A figure is never made up: what could not be
// measured is an error of its section.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"

	"meshc.dev/meshc/ci/bench/internal/measure"
)

// Target is the bound that a figure should keep.
type Target struct {
	// Op is "<=" or ">=".
	Op    string  `json:"op"`
	Value float64 `json:"value"`
}

// Figure is one measured value.
type Figure struct {
	Section string  `json:"section"`
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	// Note says how it was measured, or what else was seen.
	Note   string  `json:"note,omitempty"`
	Target *Target `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"`
}

// Report is one run.
type Report struct {
	Machine measure.Machine `json:"machine"`
	Figures []Figure        `json:"figures"`
	// Wrong lists what was not correct, such as a client that missed a change.
	Wrong []string `json:"wrong"`
}

// Section adds figures under one name.
type Section struct {
	r    *Report
	name string
}

// Section starts one.
func (r *Report) Section(name string) Section { return Section{r, name} }

// Add notes a figure; the note is formatted with args.
func (s Section) Add(name string, value float64, unit, note string, args ...any) {
	s.r.Figures = append(s.r.Figures, Figure{Section: s.name, Name: name, Value: value, Unit: unit, Note: fmt.Sprintf(note, args...)})
}

// AtMost is Add with an upper bound.
func (s Section) AtMost(bound float64, name string, value float64, unit, note string, args ...any) {
	s.Add(name, value, unit, note, args...)
	s.judge("<=", bound, value <= bound)
}

// AtLeast is Add with a lower bound.
func (s Section) AtLeast(bound float64, name string, value float64, unit, note string, args ...any) {
	s.Add(name, value, unit, note, args...)
	s.judge(">=", bound, value >= bound)
}

func (s Section) judge(op string, bound float64, met bool) {
	f := &s.r.Figures[len(s.r.Figures)-1]
	f.Target, f.Met = &Target{op, bound}, &met
}

// Wrong notes that the run was not correct.
func (s Section) Wrong(format string, args ...any) {
	s.r.Wrong = append(s.r.Wrong, s.name+": "+fmt.Sprintf(format, args...))
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := ""
	for _, f := range r.Figures {
		if f.Section != section {
			section = f.Section
			fmt.Fprintf(t, "\n%s\n", section)
		}
		fmt.Fprintf(t, "  %s\t%s %s\t%s\t%s\n", f.Name, Number(f.Value), f.Unit, f.verdict(), f.Note)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	for _, text := range r.Wrong {
		fmt.Fprintf(w, "\nNOT CORRECT: %s\n", text)
	}
	return nil
}

func (f Figure) verdict() string {
	if f.Target == nil {
		return ""
	}
	word := "met"
	if !*f.Met {
		word = "NOT met"
	}
	return fmt.Sprintf("target %s %s: %s", f.Target.Op, Number(f.Target.Value), word)
}

// Number has three significant digits, or all of a whole number.
func Number(v float64) string {
	digits := 0
	if a := math.Abs(v); a > 0 && a < 100 && v != math.Trunc(v) {
		digits = max(0, 2-int(math.Floor(math.Log10(a))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
