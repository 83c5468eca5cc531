package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// form is how a command prints what it has to say: the value of -o, the same words in
// every command.
type form string

// The forms.
const (
	textForm     form = "text"     // for people
	jsonForm     form = "json"     // a document of docs/schemas, whether the command succeeds or fails
	yamlForm     form = "yaml"     // the same document
	markdownForm form = "markdown" // one comment where a change is reviewed
	sarifForm    form = "sarif"    // SARIF 2.1.0, for code scanning
	junitForm    form = "junit"    // a report of tests
	githubForm   form = "github"   // workflow commands that annotate lines
	mermaidForm  form = "mermaid"  // drawings
	dotForm      form = "dot"
	svgForm      form = "svg"
)

// structured reports whether a form is for programs that read documents.
func (f form) structured() bool { return f == jsonForm || f == yamlForm }

// overlays reports whether a code host lays a form over the files of a repository.
func (f form) overlays() bool {
	return f == sarifForm || f == junitForm || f == githubForm || f == markdownForm
}

// document is what a command prints for programs: an object whose field "format" is
// meshc.dev/KIND/v1. docs/schemas/KIND.json is drawn from the type of its other fields.
type document struct {
	kind string
	of   any // the zero value of these fields
}

// findingsKind is the document of problems, which any command may print in place of its own.
const findingsKind = "findings"

// formatOf is the field of every document that says of what kind it is. Fields are added
// within a version, never renamed or removed.
func formatOf(kind string) string { return "meshc.dev/" + kind + "/v1" }

// outputName is the long name of -o.
const outputName = "output"

// outputFlag is the flag -o of one command.
type outputFlag struct {
	forms     []form // that the command has; the first is what it prints without the flag
	chosen    form
	documents []document // of the structured forms, beside findings
}

// String is the form that was chosen.
func (o *outputFlag) String() string { return string(o.chosen) }

// Set takes a form that the command has.
func (o *outputFlag) Set(s string) error {
	if !slices.Contains(o.forms, form(s)) {
		return fmt.Errorf("unknown format: use %s%s", list(o.forms), diag.DidYouMean(s, words(o.forms)))
	}
	o.chosen = form(s)
	return nil
}

// Type is the word for a value in the help.
func (*outputFlag) Type() string { return "format" }

// prints gives a command its flag -o with the forms that make sense for it, and the
// documents of its structured forms.
func (a *app) prints(cmd *cobra.Command, documents []document, forms ...form) {
	o := &outputFlag{forms: forms, chosen: forms[0], documents: documents}
	cmd.Flags().VarP(o, outputName, "o", "how to print: "+list(forms))
	choices(cmd, outputName, words(forms)...)
}

// outputOf is the flag -o of a command, nil if it has none.
func outputOf(cmd *cobra.Command) *outputFlag {
	if f := cmd.Flags().Lookup(outputName); f != nil {
		if o, ok := f.Value.(*outputFlag); ok {
			return o
		}
	}
	return nil
}

// document prints the fields of v, of the type of one of the command's documents, in the
// structured form that was asked for.
func (a *app) document(v any) error {
	at := slices.IndexFunc(a.output.documents, func(d document) bool { return reflect.TypeOf(d.of) == reflect.TypeOf(v) })
	if at < 0 {
		return fmt.Errorf("a document of %T has no schema", v)
	}
	text, err := canon.JSON(v)
	if err != nil {
		return err
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // as they are
	if err := d.Decode(&fields); err != nil {
		return fmt.Errorf("a document of %T: %w", v, err)
	}
	withoutNull(reflect.TypeOf(v), fields)
	fields["format"] = formatOf(a.output.documents[at].kind)
	if text, err = canon.JSON(fields); err != nil {
		return err
	}
	return a.write(text)
}

// write prints a JSON document in the structured form that was asked for.
func (a *app) write(text []byte) error {
	a.told.Store(true)
	if a.form() == yamlForm {
		text, err := yamlOf(text)
		if err != nil {
			return err
		}
		return printer.Fprint(a.out, text)
	}
	_, err := a.out.Write(printer.JSON(text))
	return err
}

// form is how the command prints.
func (a *app) form() form {
	if a.output == nil {
		return textForm
	}
	return a.output.chosen
}

// render prints problems in the form that was asked for. People are told of those there
// are, beside what the command prints.
func (a *app) render(ds diag.List) error {
	switch f := a.form(); f {
	case jsonForm, yamlForm:
		var b bytes.Buffer
		if err := diag.Render(&b, diag.JSON, ds, a.rendering()); err != nil {
			return err
		}
		return a.write(b.Bytes())
	case sarifForm, junitForm, githubForm:
		a.told.Store(true)
		return diag.Render(a.out, diag.Format(f), ds, a.rendering())
	case textForm, markdownForm, mermaidForm, dotForm, svgForm:
	}
	return a.warn(ds)
}

// warn tells people of problems that do not end the command.
func (a *app) warn(ds diag.List) error {
	if len(ds) == 0 {
		return nil
	}
	return diag.Render(a.err, diag.Text, ds, a.rendering())
}

// inWords is the sentence that an error without problems is.
func inWords(err error) string {
	var f *failure
	if !errors.As(err, &f) && errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// renderFailure prints why a command ended, in a form for programs: its problems or, in a
// document, the sentence that people are told. told is false where that is for people.
func (a *app) renderFailure(err error) (told bool, _ error) {
	ds := findings(err)
	if !a.began.Load() || a.told.Load() {
		return false, nil
	}
	switch f := a.form(); {
	case f.structured():
		if len(ds) == 0 {
			ds = diag.List{{Severity: diag.Error, Text: inWords(err)}}
		}
	case !f.overlays() || f == markdownForm || len(ds) == 0:
		return false, nil
	}
	return true, a.render(ds)
}
