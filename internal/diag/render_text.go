package diag

import (
	"fmt"
	"io"
	"strings"

	"meshc.dev/meshc/internal/printer"
)

// renderText prints what String gives, line by line, escaped.
func renderText(w io.Writer, l List, o Options) error {
	limit := o.Max
	if limit == 0 {
		limit = DefaultMax
	}
	shown := l
	if limit > 0 && len(l) > limit {
		shown = l[:limit]
	}
	var b strings.Builder
	for _, d := range shown {
		writeText(&b, d, o.Color)
	}
	if n := len(l) - len(shown); n > 0 {
		errs, warns := l.Counts()
		fmt.Fprintf(&b, "and %d more (%s in all)\n", n, counts(errs, warns, len(l)-errs-warns))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// textOf is the text form of one finding, without colour.
func textOf(d Diagnostic) string {
	var b strings.Builder
	writeText(&b, d, false)
	return b.String()
}

func writeText(b *strings.Builder, d Diagnostic, color bool) {
	sev := inkOf(d.Severity).Paint(string(d.Severity), color)
	if d.Pos.File != "" {
		b.WriteString(printer.Line(d.Pos.String()) + ": ")
	}
	b.WriteString(sev + " " + printer.Line(string(d.Code)+": "+d.Text) + "\n")
	for _, r := range d.Related {
		b.WriteString(printer.Line("    "+r.Pos.String()+": "+r.Text) + "\n")
	}
	if d.Fix == "" {
		return
	}
	// A fix may be an edit of several lines; each stays recognisable as part of it.
	for i, line := range strings.Split(d.Fix, "\n") {
		lead := "    fix: "
		if i > 0 {
			lead = "       | "
		}
		b.WriteString(printer.Line(lead+line) + "\n")
	}
}

func inkOf(s Severity) printer.Ink {
	switch s {
	case Warning:
		return printer.Yellow
	case Note:
		return printer.Cyan
	case Error:
	}
	return printer.Red
}

// counts gives "2 errors, 1 warning".
func counts(errs, warns, notes int) string {
	var parts []string
	for _, c := range []struct {
		n    int
		word string
	}{{errs, "error"}, {warns, "warning"}, {notes, "note"}} {
		switch c.n {
		case 0:
		case 1:
			parts = append(parts, "1 "+c.word)
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", c.n, c.word))
		}
	}
	if len(parts) == 0 {
		return "no problems"
	}
	return strings.Join(parts, ", ")
}
