package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/schemas/reference"
)

// worded is what is known of the words that a user may mean by a name.
type worded struct {
	Words []reference.Word `json:"words"`
}

// explainWord says what a word of the intent language is: the first that is meant in full, of the
// others where they stand.
func (a *app) explainWord(name string) error {
	words := allWords()
	found := reference.Find(words, name)
	if len(found) == 0 {
		var known []string
		for _, w := range words {
			known = append(known, w.Word[strings.LastIndexByte(w.Word, '.')+1:], w.Word)
		}
		return fail(diag.ExitFailure, "there is no word %q%s\nhelp:  docs/intent.md has all words; to explain a request say --to SERVICE", name, diag.DidYouMean(name, slices.Compact(known)))
	}
	if a.form().structured() {
		return a.document(worded{found})
	}
	if err := printWord(a.out, found[0]); err != nil || len(found) == 1 {
		return err
	}
	printer.Fprintf(a.out, "\nIt also stands at:\n")
	for _, w := range found[1:] {
		printer.Fprintf(a.out, "  %s: %s\n", w.Word, w.Means)
	}
	return printer.Fprintf(a.out, "\n`meshc explain %s` says more of one.\n", found[1].Word)
}

// mostMistakes are shown of one word.
const mostMistakes = 5

func allWords() []reference.Word {
	var defaults []reference.Default
	for _, d := range compiler.Defaults() {
		defaults = append(defaults, reference.Default{Field: d.Field, Value: d.Value, Why: d.Why})
	}
	return reference.Words(defaults, reference.AllSeen())
}

func printWord(out io.Writer, w reference.Word) error {
	printer.Fprintf(out, "%s: %s\n", w.Word, w.Means)
	form := w.Form
	if w.FormMeans != "" {
		form += ": " + w.FormMeans
	}
	if w.Required {
		form += " (required)"
	}
	printer.Fprintf(out, "  form      %s\n", form)
	for _, d := range w.Defaults {
		printer.Fprintf(out, "  default   %s: %s\n", d.Value, d.Why)
	}
	head := "example"
	for line := range strings.Lines(w.Example) { // each by itself: an argument's end of a line is printed so that it cannot act
		printer.Fprintf(out, "  %-8s  %s\n", head, strings.TrimSuffix(line, "\n"))
		head = ""
	}
	if len(w.Envoy) > 0 {
		printer.Fprintf(out, "  Envoy     the %s proxy: %s\n", strings.Join(w.At, " and the "), strings.Join(w.Envoy, ", "))
	}
	for i, m := range w.Mistakes {
		head := ""
		switch i {
		case 0:
			head = "mistakes"
		case mostMistakes:
			printer.Fprintf(out, "            and %d more: docs/intent.md has all\n", len(w.Mistakes)-i)
		}
		if i >= mostMistakes {
			break
		}
		printer.Fprintf(out, "  %-8s  %s %s\n", head, m.Code, m.Text)
		if m.Fix != "" {
			printer.Fprintf(out, "            fix: %s\n", m.Fix)
		}
	}
	if len(w.Holds) == 0 {
		return nil
	}
	printer.Fprintf(out, "  below it:\n")
	for _, p := range w.Holds {
		name := p.Word
		if p.Required {
			name += fmt.Sprintf(" %s, required", p.Form)
		} else {
			name += " " + p.Form
		}
		printer.Fprintf(out, "    %s: %s\n", name, p.Means)
	}
	return nil
}
