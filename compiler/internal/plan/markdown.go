package plan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"meshc.dev/meshc/internal/printer"
)

// Marker is the hidden first line of a markdown plan: a bot finds its comment by
// it and edits that instead of writing another.
const Marker = "<!-- meshc plan -->"

// maxMarkdown is below the 65,536 characters that a comment may have.
const maxMarkdown = 65_000

// Markdown writes the plan as one comment: sections in order of importance, cut
// at the end of the last line that fits. Everything that comes from a repository
// stands in a code span, where neither markup nor mentions work.
func Markdown(w io.Writer, p Plan, o RenderOptions) error {
	o.places = p.Places
	m := markdown{left: maxMarkdown}
	m.line(Marker)
	m.line("### meshc plan: " + escape(verdictLine(p)))
	m.section("Blast radius", bullets(blastLines(p.Blast)), false)
	var lines []string
	for _, l := range p.Lines {
		text := "- **" + className(l.Class) + "** " + code(lineText(l, o))
		for _, d := range details(l, o) {
			text += "\n  - " + code(d)
		}
		lines = append(lines, text)
	}
	m.section("Behaviour", lines, false)
	var access []string
	for _, a := range p.accessTexts(o) {
		access = append(access, "- "+code(a))
	}
	m.section("Access", access, false)
	for _, s := range slices.Concat(p.ahead(o), o.Sections) {
		m.section(s.Title, bullets(s.Lines), s.Folded)
	}
	return m.write(w)
}

// NoPlan writes a comment that takes the place of the one before when there is nothing to
// say about a change but why.
func NoPlan(w io.Writer, why string, sections []Section) error {
	m := markdown{left: maxMarkdown}
	m.line(Marker)
	m.line("### meshc plan: " + escape(why))
	for _, s := range sections {
		m.section(s.Title, bullets(s.Lines), s.Folded)
	}
	return m.write(w)
}

func (m *markdown) write(w io.Writer) error {
	if _, err := io.WriteString(w, m.b.String()); err != nil {
		return fmt.Errorf("writing plan: %w", err)
	}
	return nil
}

func bullets(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, "- "+code(l))
	}
	return out
}

// markdown is a text with a budget of characters.
type markdown struct {
	b    strings.Builder
	left int
}

func (m *markdown) line(s string) {
	m.b.WriteString(s + "\n")
	m.left -= utf8.RuneCountInString(s) + 1
}

// reserve is kept for the notice and the end of a cut section.
const reserve = 200

func (m *markdown) section(title string, lines []string, folded bool) {
	if len(lines) == 0 {
		return
	}
	open, end := "\n#### "+escape(title)+"\n", ""
	if folded {
		open, end = "\n<details><summary>"+escape(title)+"</summary>\n", "\n</details>"
	}
	if m.left < utf8.RuneCountInString(open)+utf8.RuneCountInString(end)+reserve {
		m.cut("the section " + escape(title) + " is left out")
		return
	}
	m.line(open)
	for i, l := range lines {
		if m.left < utf8.RuneCountInString(l)+len(end)+reserve {
			m.cut(fmt.Sprintf("%d more lines of %s are left out", len(lines)-i, escape(title)))
			break
		}
		m.line(l)
	}
	if end != "" {
		m.line(end)
	}
}

// cut says once per section that something is missing, as long as there is room.
func (m *markdown) cut(what string) {
	if notice := "- … " + what + "; `meshc plan -o text` shows all"; m.left > utf8.RuneCountInString(notice)+20 {
		m.line(notice)
	}
}

// code makes a code span that its content cannot leave.
func code(s string) string {
	s = printer.Escape(s)
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// escape is for our own words and titles outside of code spans.
func escape(s string) string {
	var b strings.Builder
	for _, r := range printer.Escape(s) {
		if strings.ContainsRune("\\`*_{}[]<>#|~@&", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
