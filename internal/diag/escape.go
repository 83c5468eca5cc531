package diag

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unsafe reports whether r could act on a terminal, on a log viewer or on the
// reading order: control characters, bidirectional overrides, line separators.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == '\ufeff'
}

// Escape makes s one line of printable text: what could act on a terminal is
// spelt out (\n, \t, \u001b) and invalid UTF-8 becomes \xff.
func Escape(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return unsafe(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unsafe(r):
			b.WriteString(unicodeEscape(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unicodeEscape(r rune) string { return fmt.Sprintf(`\u%04x`, r) }

// defuse breaks what a CI runner would read as a command in a line of its log:
// "::" at the start of a line, "##[" anywhere.
func defuse(line string) string {
	line = strings.ReplaceAll(line, "##[", `#\u0023[`)
	if trimmed := strings.TrimLeft(line, " "); strings.HasPrefix(trimmed, "::") {
		line = line[:len(line)-len(trimmed)] + `\u003a` + trimmed[1:]
	}
	return line
}
