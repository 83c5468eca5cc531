package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/junit"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/rehearsal"
)

// tested is what became of one `test:` block.
type tested struct {
	compiler.TestResult
	// Envoy is what a real Envoy made of the request, nil if none was asked.
	Envoy *rehearsal.Reply `json:"envoy,omitempty"`
	// Rehearsal is the disagreement of evaluator and Envoy, "" if there is none.
	Rehearsal string `json:"rehearsal,omitempty"`
	// Said says that a script or a module has answered, of whose words the evaluator knows nothing.
	Said string `json:"said,omitempty"`
	// Untried is why no Envoy was asked although they were wanted.
	Untried string `json:"untried,omitempty"`
}

func (r tested) failed() bool { return r.Failure != "" || r.Rehearsal != "" }

func (a *app) testCmd() *cobra.Command {
	var f intentFlags
	var e envoyFlags
	cmd := &cobra.Command{
		Use: "test [DIR]", Short: "Run the test blocks of the intent", Args: takes(0, 1),
		Long: `Ask the evaluator what becomes of each request of a test block, and compare it with
what the block expects. With --envoy the same requests are also sent through real Envoys
on this machine, with certificates and applications made for it: a test passes only if
they do what the evaluator says.`,
		Example: "  meshc test\n  meshc test --envoy",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.load(cmd.Context(), a, a.meshDir(args))
			if err != nil {
				return err
			}
			results, envoy := make([]tested, 0), ""
			for _, r := range p.Test() {
				results = append(results, tested{TestResult: r})
			}
			if e.wanted() && len(results) > 0 {
				if envoy, err = a.rehearse(cmd.Context(), &e, p, results); err != nil {
					return err
				}
			}
			return a.tell(results, envoy)
		},
	}
	f.add(a, cmd)
	e.add(cmd, "envoy", "send the requests through real Envoys, too")
	a.prints(cmd, []document{{"test", testDoc{}}}, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	return cmd
}

// rehearse adds to each result what real Envoys did, and returns their version.
func (a *app) rehearse(ctx context.Context, f *envoyFlags, p *compiler.Program, results []tested) (string, error) {
	ctx, stop := a.supervised(ctx)
	defer stop()
	bin, err := f.find(ctx, a)
	if err != nil {
		return "", err
	}
	trials, err := rehearsal.Tests(ctx, bin, p, a.now)
	if err != nil {
		return "", err
	}
	for i, t := range trials {
		results[i].Envoy, results[i].Rehearsal, results[i].Untried, results[i].Said = t.Reply, t.Differs, t.Untried, t.Said
	}
	return bin.Version, nil
}

// testDoc is what became of the test blocks.
type testDoc struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	// Envoy is the version of the real Envoys that were asked beside the evaluator, ""
	// if none was.
	Envoy string   `json:"envoy,omitempty"`
	Tests []tested `json:"tests"`
}

// tell prints test results; a failure, or no test at all, is invalid.
func (a *app) tell(results []tested, envoy string) error {
	for i := range results {
		results[i].Pos = a.at(results[i].Pos)
	}
	doc := testDoc{Envoy: envoy, Tests: results}
	for _, r := range results {
		if r.failed() {
			doc.Failed++
		} else {
			doc.Passed++
		}
	}
	if len(results) == 0 {
		return a.placed(diag.List{diag.New(diag.CodeNoTest, diag.Pos{}, "the intent has no test").WithFix("write one: mesh: test: \"…\": {request: …, expect: …}")}).Err()
	}
	if err := a.tellTests(doc); err != nil {
		return err
	}
	if doc.Failed > 0 {
		return quiet(diag.ExitInvalid)
	}
	return nil
}

func (a *app) tellTests(doc testDoc) error {
	switch f := a.form(); f {
	case jsonForm, yamlForm:
		return a.document(doc)
	case junitForm:
		s := junit.Suite{Name: "tests of the intent"}
		for _, r := range doc.Tests {
			s.Cases = append(s.Cases, r.junit())
		}
		return junit.Write(a.out, s)
	case sarifForm, githubForm:
		var ds diag.List
		for _, r := range doc.Tests {
			ds = append(ds, r.problems()...)
		}
		return a.render(ds)
	case textForm, markdownForm, mermaidForm, dotForm, svgForm:
	}
	on, alone := "the evaluator", 0
	for _, r := range doc.Tests {
		a.tellOne(r)
		if r.Untried != "" {
			alone++
		}
	}
	if doc.Envoy != "" {
		on += " and on Envoy " + doc.Envoy
	}
	if alone > 0 {
		on += fmt.Sprintf(" (%d on the evaluator alone)", alone)
	}
	return printer.Fprintf(a.out, "%d passed, %d failed on %s\n", doc.Passed, doc.Failed, on)
}

// problems are what a test found, at the line of the test.
func (r tested) problems() diag.List {
	var ds diag.List
	if r.Failure != "" {
		ds = append(ds, diag.New(diag.CodeTestFailed, r.Pos, "test %q: %s", r.Name, r.Failure).WithFix("mend the intent, or what the test expects"))
	}
	if r.Rehearsal != "" {
		ds = append(ds, diag.New(diag.CodeRehearsal, r.Pos, "test %q: a real Envoy disagrees: %s", r.Name, r.Rehearsal).WithFix(reportCompiler))
	}
	return ds
}

func (r tested) junit() junit.Case {
	c := junit.Case{Class: r.Pos.File, Name: r.Name}
	for _, d := range r.problems() {
		if c.Failure == nil {
			c.Failure = &junit.Failure{Type: string(d.Code), Message: d.Text}
		}
		c.Failure.Body += d.String() + "\n"
	}
	if r.Untried != "" {
		c.Output = "no Envoy was asked: " + r.Untried
	}
	if r.Said != "" {
		c.Output = r.Said
	}
	return c
}

// reportCompiler is what to do about a disagreement of evaluator and Envoy.
const reportCompiler = "this is a mistake of the compiler: please report it with the intent of this test"

func (a *app) tellOne(r tested) {
	if r.failed() {
		a.verdict(printer.Red, "FAIL", "  %s", r.Name)
	} else {
		a.verdict(printer.Green, "ok", "    %s", r.Name)
	}
	if r.Untried != "" {
		printer.Fprintf(a.out, "      no Envoy was asked: %s\n", r.Untried)
	}
	if r.Said != "" {
		printer.Fprintf(a.out, "      %s\n", r.Said)
	}
	if !r.failed() {
		return
	}
	if r.Failure != "" {
		printer.Fprintf(a.out, "      %s: %s\n", r.Pos, r.Failure)
	}
	if r.Rehearsal != "" {
		printer.Fprintf(a.out, "      %s: %s: a real Envoy disagrees: %s\n", r.Pos, diag.CodeRehearsal, r.Rehearsal)
		printer.Fprintf(a.out, "      fix: %s\n", reportCompiler)
	}
	for _, s := range r.Answer.Steps {
		printer.Fprintf(a.out, "      decided by %s at %s\n", s.String(), a.at(s.Pos))
	}
}
