package plan

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// RenderOptions say what a rendering adds to a Plan.
type RenderOptions struct {
	// At turns a position in the intent into one that the reader can open. nil leaves
	// positions out.
	At func(diag.Pos) diag.Pos
	// Sections come after the plan's own, in order: findings, proof, rollout, diffs.
	Sections []Section
	// Color puts verdicts in colour (text only).
	Color bool
	// MaxScopes bounds the names shown per line (default 5).
	MaxScopes int
	places    Places
}

// Section is a further part of a rendered plan. Its lines are plain text.
type Section struct {
	Title string
	Lines []string
	// Folded hides the lines behind the title, where the form can, else most of them.
	Folded bool
}

// maxFolded is how many lines of a folded section a text has, which cannot fold.
const maxFolded = 20

// Text writes the plan for a terminal.
func Text(w io.Writer, p Plan, o RenderOptions) error {
	o.places = p.Places
	var b strings.Builder
	verdict := verdictLine(p)
	word, beside, _ := strings.Cut(verdict, " (")
	if beside != "" {
		beside = " (" + beside
	}
	b.WriteString("Verdict: " + inkOf(p.Verdict).Paint(word, o.Color) + beside + "\n")
	for _, l := range blastLines(p.Blast) {
		printer.Fprintf(&b, "%s\n", upper(l))
	}
	if len(p.Lines) > 0 {
		b.WriteString("\nBehaviour:\n")
	}
	for _, l := range p.Lines {
		class := className(l.Class)
		b.WriteString("  " + inkOf(l.Class).Paint(class, o.Color) + strings.Repeat(" ", max(0, 12-len(class))))
		printer.Fprintf(&b, " %s\n", lineText(l, o))
		for _, d := range details(l, o) {
			printer.Fprintf(&b, "  %-12s   %s\n", "", d)
		}
	}
	if access := p.accessTexts(o); len(access) > 0 {
		b.WriteString("\nAccess:\n")
		for _, a := range access {
			printer.Fprintf(&b, "  %s\n", a)
		}
	}
	for _, s := range slices.Concat(p.ahead(o), o.Sections) {
		printer.Fprintf(&b, "\n%s", s.Title)
		if len(s.Lines) > 0 {
			b.WriteString(":")
		}
		b.WriteString("\n")
		lines := s.Lines
		if s.Folded && len(lines) > maxFolded {
			lines = append(slices.Clone(lines[:maxFolded]), fmt.Sprintf("… and %d more", len(lines)-maxFolded))
		}
		for _, l := range lines {
			printer.Fprintf(&b, "  %s\n", l)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing plan: %w", err)
	}
	return nil
}

// upper makes the first letter large; l starts with an ASCII letter.
func upper(l string) string { return strings.ToUpper(l[:1]) + l[1:] }

// ahead is a section for each step that says something, and one for what ends by itself.
func (p Plan) ahead(o RenderOptions) []Section {
	var out []Section
	for _, s := range p.Steps {
		end := s.After.UTC().Format(time.RFC3339)
		if len(s.Lines) > 0 {
			out = append(out, Section{Title: "After " + end + ", beside the base as it is then", Lines: sectionLines(s.Lines, o, true)})
		}
		own := sectionLines(s.Ends, o, false)
		if len(own) == 0 {
			if len(s.Lines) > 0 {
				continue
			}
			own = []string{"nothing changes"}
		}
		out = append(out, Section{Title: "After " + end, Lines: own})
	}
	return out
}

func sectionLines(ls []Line, o RenderOptions, detailed bool) []string {
	var out []string
	for _, l := range ls {
		out = append(out, fmt.Sprintf("%-12s %s", className(l.Class), lineText(l, o)))
		var more []string
		switch {
		case detailed:
			more = details(l, o)
		case l.Code != "":
			more = stepsText(l) // it refuses somebody at whatever time it comes
		}
		for _, d := range more {
			out = append(out, fmt.Sprintf("%-12s   %s", "", d))
		}
	}
	return out
}

func verdictLine(p Plan) string {
	if p.Verdict == "" {
		return "no behaviour changes"
	}
	counts := map[Class]int{}
	for _, l := range p.Lines {
		counts[l.Class]++
	}
	var parts []string
	for _, c := range []Class{NotCompared, Widening, Narrowing, Weakening, Neutral} {
		if counts[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c], className(c)))
		}
	}
	later := map[Class]int{}
	for _, s := range p.Steps {
		for _, l := range s.Lines {
			later[l.Class]++
		}
	}
	for _, c := range []Class{NotCompared, Widening, Narrowing, Weakening, Neutral} {
		if later[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s later", later[c], className(c)))
		}
	}
	return className(p.Verdict) + " (" + strings.Join(parts, ", ") + ")"
}

// inkOf is the colour of a class, and of a plan without one: red for what nobody may pass
// over, yellow for who gains something, cyan for who loses something.
func inkOf(c Class) printer.Ink {
	switch c {
	case NotCompared, Weakening:
		return printer.Red
	case Widening:
		return printer.Yellow
	case Narrowing:
		return printer.Cyan
	case Neutral:
		return ""
	case Nothing:
	}
	return printer.Green
}

func className(c Class) string {
	if c == NotCompared {
		return "not compared"
	}
	return string(c)
}

func blastLines(b Blast) []string {
	var out []string
	for _, x := range []struct {
		what  string
		names []string
	}{{"proxy classes", b.Proxies}, {"services", b.Services}, {"callers", b.Callers}, {"gateways", b.Gateways}} {
		if len(x.names) > 0 {
			out = append(out, fmt.Sprintf("%s: %d (%s)", x.what, len(x.names), firstNames(x.names, 8)))
		}
	}
	if s := b.Series; s != nil {
		out = append(out, fmt.Sprintf("series of metrics, with one proxy of each kind: about %d → %d", s.Before, s.After))
	}
	return out
}

func firstNames(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}

// lineText is scopes and words. A scope's own name is not said twice.
func lineText(l Line, o RenderOptions) string {
	scopes := firstNames(l.Scopes, maxScopes(o))
	if len(l.Scopes) > 1 {
		return fmt.Sprintf("%d scopes (%s): %s", len(l.Scopes), scopes, l.Text)
	}
	return scopes + ": " + l.Text
}

// Sentence is the line on its own: where, what, and a request that shows it.
func (l Line) Sentence() string {
	text := lineText(l, RenderOptions{})
	for _, d := range details(l, RenderOptions{}) {
		text += "; " + d
	}
	return text
}

func maxScopes(o RenderOptions) int {
	if o.MaxScopes > 0 {
		return o.MaxScopes
	}
	return 5
}

func details(l Line, o RenderOptions) []string {
	var out []string
	if w := l.Witness; w != nil {
		text := "e.g. " + requestText(*w)
		if l.Kind != KindFeature {
			text += ": " + outcomesText(l, *w)
		}
		out = append(out, text)
	}
	out = append(out, stepsText(l)...)
	if o.At == nil {
		return out
	}
	for _, side := range []struct {
		word  string
		paths []space.Origin
		at    map[space.Origin]diag.Pos
	}{{"before: ", l.Before, o.places.Before}, {"after: ", l.After, o.places.After}} {
		var places []string
		for _, path := range side.paths {
			if pos, ok := side.at[path]; ok {
				places = appendNew(places, o.At(pos).String())
			}
		}
		if len(places) > 0 {
			out = append(out, side.word+strings.Join(places, ", "))
		}
	}
	return out
}

func requestText(w Witness) string {
	q := w.Request
	from := w.Caller
	if !model.Protocol(w.Scope.Protocol).IsHTTP() {
		return "connection to " + w.Scope.ID + ":" + w.Scope.Port + " from " + from
	}
	if w.Uncalled {
		from += " (which does not call it)"
	}
	to := w.Scope.ID + ":" + w.Scope.Port
	if w.Scope.Kind == "gateway" {
		to, from = "gateway/"+w.Scope.ID+" host "+q.Host, "outside"
	}
	text := q.Method + " " + q.Target() + " to " + to + " from " + from
	if q.Scheme != "" {
		text += " by " + q.Scheme
	}
	if q.Host != "" && w.Scope.Kind != "gateway" {
		text += " by the name " + q.Host
	}
	for _, u := range q.Users {
		text += " " + space.UserWords(u.Provider, u.Token)
		for _, c := range u.Claims {
			text += " " + c.Name + "=" + strconv.Quote(c.Value)
		}
	}
	for _, h := range q.Headers {
		text += fmt.Sprintf(" with %s: %q", h.Name, h.Value)
	}
	return text
}

// outcomesText words what becomes of a witness on both sides.
func outcomesText(l Line, w Witness) string {
	was, is := outcomeText(w.Before, false), outcomeText(w.After, false)
	if l.Kind == KindAccess && len(l.Before) == 0 {
		was = verdictWords(space.NotFound, true)
	}
	if was == is {
		was, is = outcomeText(w.Before, true), outcomeText(w.After, true)
	}
	switch {
	case l.Kind == KindAccess && len(l.After) == 0:
		is = verdictWords(space.NotFound, true)
	case w.Direct:
		is += " by its proxy"
	}
	return was + " → " + is
}

func outcomeText(o space.Outcome, ports bool) string {
	switch o.Verdict {
	case space.Forward:
		return fate(o, space.Scope{}, false).shares(place{}, ports)
	case space.Denied:
		return "denied"
	case space.Redirect:
		return "redirect"
	case space.Answered:
		return "answered " + strconv.Itoa(o.Status) + " by " + o.By
	default:
		return "404"
	}
}

// accessTexts sum up who may now what, and who may no longer.
func (p Plan) accessTexts(o RenderOptions) []string {
	var out []string
	for _, l := range p.Lines {
		if l.Access == nil {
			continue
		}
		verb := "gained by "
		if !l.Access.Gained {
			verb = "lost by "
		}
		out = append(out, fmt.Sprintf("%s%s at %s: %s", verb, l.callersText(), firstNames(l.Scopes, maxScopes(o)), l.Access.area()))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
