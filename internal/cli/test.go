package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
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
	// Untried is why no Envoy was asked although they were wanted.
	Untried string `json:"untried,omitempty"`
}

func (r tested) failed() bool { return r.Failure != "" || r.Rehearsal != "" }

func (a *app) testCmd() *cobra.Command {
	var f intentFlags
	var e envoyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test [DIR]", Short: "Run the test blocks of the intent", Args: cobra.MaximumNArgs(1),
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
			results, on := make([]tested, 0), "the evaluator"
			for _, r := range p.Test() {
				results = append(results, tested{TestResult: r})
			}
			if e.wanted() && len(results) > 0 {
				version, err := a.rehearse(cmd.Context(), &e, p, results)
				if err != nil {
					return err
				}
				on += " and on Envoy " + version
			}
			return a.tell(results, on, asJSON)
		},
	}
	f.add(cmd)
	e.add(cmd, "envoy", "send the requests through real Envoys, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print results as JSON")
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
		results[i].Envoy, results[i].Rehearsal, results[i].Untried = t.Reply, t.Differs, t.Untried
	}
	return bin.Version, nil
}

// tell prints test results; a failure, or no test at all, is invalid.
func (a *app) tell(results []tested, on string, asJSON bool) error {
	failed, untried := 0, ""
	for _, r := range results {
		if r.failed() {
			failed++
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(results), func(r tested) bool { return r.Untried == "" })); n > 0 {
		untried = fmt.Sprintf(" (%d on the evaluator alone)", n)
	}
	if asJSON {
		if err := a.json(results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			a.tellOne(r)
		}
		printer.Fprintf(a.out, "%d passed, %d failed on %s%s\n", len(results)-failed, failed, on, untried)
	}
	if len(results) == 0 {
		return fail(diag.ExitInvalid, "the intent has no test; write one: mesh: test: \"…\": {request: …, expect: …}")
	}
	if failed > 0 {
		return quiet(diag.ExitInvalid)
	}
	return nil
}

func (a *app) tellOne(r tested) {
	verdict := "ok  "
	if r.failed() {
		verdict = "FAIL"
	}
	printer.Fprintf(a.out, "%s  %s\n", verdict, r.Name)
	if r.Untried != "" {
		printer.Fprintf(a.out, "      no Envoy was asked: %s\n", r.Untried)
	}
	if !r.failed() {
		return
	}
	if r.Failure != "" {
		printer.Fprintf(a.out, "      %s: %s\n", a.at(r.Pos), r.Failure)
	}
	if r.Rehearsal != "" {
		printer.Fprintf(a.out, "      %s: %s: a real Envoy disagrees: %s\n", a.at(r.Pos), diag.CodeRehearsal, r.Rehearsal)
		printer.Fprintf(a.out, "      fix: this is a mistake of the compiler: please report it with the intent of this test\n")
	}
	for _, s := range r.Answer.Steps {
		printer.Fprintf(a.out, "      decided by %s at %s\n", s.String(), a.at(s.Pos))
	}
}
