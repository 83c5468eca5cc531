// Package printer prints what other people wrote so that it can be read and
// cannot act.
//
// In: our words as formats, and values that may come from a repository, a proxy,
// a Git server or another cluster. Out: the same words with everything in the
// values spelt out that could move a cursor, hide or reorder text, begin a line
// of its own, or be taken for a command by a CI runner. It always holds: one
// value stays on one line, and nothing that is not printed is passed.
//
// There are two lines of defence. Fprintf and Fprint know which bytes are ours
// and which are a stranger's, and are what commands print with. Writer stands
// around the streams of a process and knows nothing; it escapes what nobody may
// print, also what a library or a forgotten call writes.
package printer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxMarks is how many combining marks may stand on one character: more are drawn
// over the lines above and below. No script needs as many.
const maxMarks = 4

// acts reports whether r does something else than to be seen: control characters,
// what changes the reading order, what takes no room or looks like a space, and
// what no font knows.
func acts(r rune) bool {
	const blankBraille = '\u2800'
	return !unicode.IsPrint(r) || r == blankBraille ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Escape makes s one line of printable text: what could act is spelt out (\n, \t,
// \u001b, \U000e0001) and invalid UTF-8 becomes \xff. Printable text is returned
// as it is, and so is what Escape returned before.
func Escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	marks := 0
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		marks = count(marks, r)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case acts(r) || marks > maxMarks:
			b.WriteString(spell(r))
		default:
			b.WriteString(s[i : i+size])
		}
	}
	return b.String()
}

// plain reports whether Escape would change nothing.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// count is how many combining marks have been seen in a row, r included.
func count(marks int, r rune) int {
	if unicode.Is(unicode.M, r) {
		return marks + 1
	}
	return 0
}

func spell(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// spellJSON is how a string in JSON spells r.
func spellJSON(r rune) string {
	if hi, lo := utf16.EncodeRune(r); hi != unicode.ReplacementChar {
		return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// commands are what GitHub, Azure Pipelines and TeamCity look for anywhere in a line
// of a log.
func commands() []string { return []string{"##[", "##vso[", "##teamcity["} }

// defuse breaks what a CI runner would read as a command in a line of its log: one of
// commands, or "::" at its start (GitHub).
func defuse(line string) string {
	if strings.Contains(line, "##") {
		for _, c := range commands() {
			line = strings.ReplaceAll(line, c, `#\u0023`+c[2:])
		}
	}
	if trimmed := strings.TrimLeft(line, " "); strings.HasPrefix(trimmed, "::") {
		line = line[:len(line)-len(trimmed)] + `\u003a` + trimmed[1:]
	}
	return line
}

// Line is Escape for a line of its own: what a CI runner would take for a command
// is broken up as well.
func Line(s string) string { return defuse(Escape(s)) }
