package printer

import (
	"fmt"
	"io"
	"strings"
)

// Sprintf formats like fmt.Sprintf. The format is ours; every value is escaped, so
// that it stays where the format puts it.
func Sprintf(format string, args ...any) string {
	wrapped := make([]any, len(args))
	for i, a := range args {
		wrapped[i] = value{a}
	}
	lines := strings.SplitAfter(fmt.Sprintf(format, wrapped...), "\n")
	for i := range lines {
		lines[i] = defuse(lines[i])
	}
	return strings.Join(lines, "")
}

// Fprintf writes what Sprintf gives. It fails where w fails.
func Fprintf(w io.Writer, format string, args ...any) error {
	_, err := io.WriteString(w, Sprintf(format, args...))
	return err
}

// Fprint writes a text of several lines, such as a listing or a difference: its
// line feeds are structure and stay, each line is escaped. It fails where w fails.
func Fprint(w io.Writer, text string) error {
	_, err := io.WriteString(w, Lines(text))
	return err
}

// Lines is the text that Fprint writes.
func Lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		body, ended := strings.CutSuffix(line, "\n")
		b.WriteString(Line(body))
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// value prints like what it holds, escaped, whatever the verb and the width.
type value struct{ v any }

// Format implements fmt.Formatter.
func (x value) Format(f fmt.State, verb rune) {
	// fmt tells no error of a Formatter; the buffer behind it has none.
	_, _ = io.WriteString(f, Escape(fmt.Sprintf(fmt.FormatString(f, verb), x.v)))
}
