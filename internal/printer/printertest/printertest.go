// Package printertest holds what strangers write to act on whoever reads it, and
// says whether an output lets any of it act. It is for tests of what prints.
package printertest

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Wicked are texts that act on a terminal, on the reading order, on a log, on a CI
// runner or on a page. All are UTF-8 without a zero byte, so that they can stand in a
// file of intent.
func Wicked() []string {
	return []string{
		"\x1b[2J", "\x1b]0;title\a", "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\", "\u009b31m", "\r", "\n", "\t", "\b\b\b", "\x7f",
		"\n::stop-commands::x", "::error::x", "  ::warning::x", "##[error]x", "##vso[task.setvariable]x", "##teamcity[x]",
		"\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff", "\u2028", "\u3164", "\u2800", "\U000e0041", "\ufe0f", "\u00a0", "\ue000",
		"a" + strings.Repeat("\u0300", 40), "<script>alert(1)</script>", "<img src=x onerror=y>", "@octocat", "`@octocat`", "![x](https://evil.example)", "-->", "</details>", "]]>", "%0A::error::x", "%s%n",
	}
}

// Acts says what in an output could act on who reads it, "" if nothing could. A line
// for which ours says so is a command of our own.
func Acts(out string, ours func(line string) bool) string {
	if !utf8.ValidString(out) {
		return "it is no UTF-8"
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if why := inLine(line); why != "" {
			return fmt.Sprintf("%s: %q", why, line)
		}
		if strings.HasPrefix(strings.TrimLeft(line, " \t"), "::") && (ours == nil || !ours(line)) {
			return fmt.Sprintf("a runner's command: %q", line)
		}
	}
	return ""
}

func inLine(line string) string {
	marks := 0
	for _, r := range line {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		switch {
		case marks > 4:
			return "a tower of marks"
		case r == '\t': // between columns of help
		case !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == '\u2800':
			return fmt.Sprintf("it holds %U", r)
		}
	}
	for _, command := range []string{"##[", "##vso[", "##teamcity["} {
		if strings.Contains(line, command) {
			return "a runner's command"
		}
	}
	return ""
}
