package diag

import (
	"fmt"
	"io"
	"strings"

	"meshc.dev/meshc/internal/printer"
)

// renderGitHub writes one workflow command per finding and a last line with the
// counts. GitHub shows about ten annotations of a severity per step and drops
// the others without a word; all of them stay in the step's log.
func renderGitHub(w io.Writer, l List) error {
	var b strings.Builder
	for _, d := range l {
		b.WriteString("::" + githubCommand(d.Severity) + " " + githubProps(d) + "::" + githubData(d.Text))
		for _, r := range d.Related {
			b.WriteString("%0A" + githubData(r.Pos.String()+": "+r.Text))
		}
		if d.Fix != "" {
			b.WriteString("%0Afix: " + githubData(d.Fix))
		}
		b.WriteByte('\n')
	}
	errs, warns := l.Counts()
	b.WriteString(counts(errs, warns, len(l)-errs-warns) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func githubCommand(s Severity) string {
	switch s {
	case Warning:
		return "warning"
	case Note:
		return "notice"
	case Error:
	}
	return "error"
}

func githubProps(d Diagnostic) string {
	var props []string
	if d.Pos.File != "" {
		props = append(props, "file="+githubProp(d.Pos.File))
		if d.Pos.Line > 0 {
			props = append(props, fmt.Sprintf("line=%d", d.Pos.Line))
			if d.Pos.Col > 0 {
				props = append(props, fmt.Sprintf("col=%d", d.Pos.Col))
			}
		}
	}
	return strings.Join(append(props, "title="+githubProp(string(d.Code))), ",")
}

// githubData escapes the message of a command. A line feed stays one (as %0A);
// "::" and "##[" are broken up, so that no part of a message can be read as a
// command of its own.
func githubData(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		line = printer.Line(strings.ReplaceAll(line, "::", `:\u003a`))
		lines[i] = strings.ReplaceAll(line, "%", "%25")
	}
	return strings.Join(lines, "%0A")
}

// githubProp escapes a property of a command.
func githubProp(s string) string {
	return printer.Line(strings.NewReplacer("%", "%25", ":", "%3A", ",", "%2C").Replace(s))
}
