// Package diag holds problems that a user can fix.
//
// In: a code, a position in the user's file, a sentence and a fix. Out: one
// finding set that every renderer prints in full. A List is sorted by file,
// line, column and code before it is shown; an empty List means no problem.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a problem stops the stage that found it.
type Severity string

// The three severities. The zero Severity counts as Error, so that a
// forgotten field fails closed.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Pos is a place in a user's file. File is relative to the repository's root
// and uses slashes. Line and Col count from 1; 0 means unknown. The zero Pos
// is "no place" (a missing folder, a flag).
type Pos struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String gives file:line:col, leaving out what is unknown.
func (p Pos) String() string {
	switch {
	case p.File == "":
		return "-"
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Compare orders positions by file, line, column.
func (p Pos) Compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}

// Related is a second place that explains a problem.
type Related struct {
	Pos  Pos    `json:"pos"`
	Text string `json:"text"`
}

// Diagnostic is one problem. Text says what is wrong in one sentence, Fix what
// to do about it (the edit, where there is one).
type Diagnostic struct {
	// Code is what docs/codes.md explains. Only the report of a command that could not do
	// its work, such as for a wrong flag, has problems without one.
	Code     Code      `json:"code,omitempty"`
	Severity Severity  `json:"severity"`
	Pos      Pos       `json:"pos"`
	Text     string    `json:"text"`
	Related  []Related `json:"related,omitempty"`
	Fix      string    `json:"fix,omitempty"`
}

// New makes an error. It panics on an empty code: a problem without a code
// cannot be looked up, which is our mistake and not the user's.
func New(c Code, p Pos, format string, args ...any) Diagnostic {
	if c == "" {
		panic("diag: problem without a code")
	}
	return Diagnostic{Code: c, Severity: Error, Pos: p, Text: fmt.Sprintf(format, args...)}
}

// Warn makes a warning.
func Warn(c Code, p Pos, format string, args ...any) Diagnostic {
	d := New(c, p, format, args...)
	d.Severity = Warning
	return d
}

// WithFix returns d with the way out.
func (d Diagnostic) WithFix(format string, args ...any) Diagnostic {
	d.Fix = fmt.Sprintf(format, args...)
	return d
}

// WithRelated returns d with one more place.
func (d Diagnostic) WithRelated(p Pos, format string, args ...any) Diagnostic {
	d.Related = append(slices.Clip(d.Related), Related{p, fmt.Sprintf(format, args...)})
	return d
}

// IsError reports whether the problem stops its stage.
func (d Diagnostic) IsError() bool { return d.Severity == Error || d.Severity == "" }

// String is the text form: position, severity, code and sentence on the first
// line, then indented related places and the fix.
func (d Diagnostic) String() string {
	if d.Severity == "" {
		d.Severity = Error
	}
	return strings.TrimSuffix(textOf(d), "\n")
}

// List is a set of problems. The nil List is legal and means none.
type List []Diagnostic

// HasErrors reports whether any problem stops its stage.
func (l List) HasErrors() bool { return slices.ContainsFunc(l, Diagnostic.IsError) }

// Err returns nil if there is no error in the list, else an *ListError that
// carries the whole list.
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return &ListError{List: l.Sorted()}
}

// Sorted returns a copy in the order of display, without exact repeats.
func (l List) Sorted() List {
	out := slices.Clone(l)
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		return cmp.Or(a.Pos.Compare(b.Pos), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
	return slices.CompactFunc(out, func(a, b Diagnostic) bool {
		return a.Pos == b.Pos && a.Code == b.Code && a.Text == b.Text
	})
}

// Counts returns the number of errors and of warnings.
func (l List) Counts() (errs, warns int) {
	for _, d := range l {
		switch {
		case d.IsError():
			errs++
		case d.Severity == Warning:
			warns++
		}
	}
	return errs, warns
}

// ListError carries a List through an ordinary error return.
type ListError struct{ List List }

// Error gives the first problem and the count of the rest.
func (e *ListError) Error() string {
	for _, d := range e.List {
		if d.IsError() {
			if n, _ := e.List.Counts(); n > 1 {
				return fmt.Sprintf("%s: %s: %s (and %d more)", d.Pos, d.Code, d.Text, n-1)
			}
			return fmt.Sprintf("%s: %s: %s", d.Pos, d.Code, d.Text)
		}
	}
	return "no error"
}

// OneOf writes names as a sentence does: `"a", "b" or "c"`.
func OneOf(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strconv.Quote(n)
	}
	if n := len(out); n > 1 {
		return strings.Join(out[:n-1], ", ") + " or " + out[n-1]
	}
	return strings.Join(out, "")
}
