package diag

import (
	"fmt"
	"io"
	"strings"

	"meshc.dev/meshc/internal/printer"
)

// colours of the severities: bold red, bold yellow, bold cyan.
const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	cyan   = "\x1b[1;36m"
	reset  = "\x1b[0m"
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
	sev := string(d.Severity)
	if color {
		sev = paint(d.Severity) + sev + reset
	}
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

func paint(s Severity) string {
	switch s {
	case Warning:
		return yellow
	case Note:
		return cyan
	case Error:
	}
	return red
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
