package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
)

func TestEveryCommandShowsHowItIsUsed(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		switch {
		case cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion":
			return
		case cmd.Short == "":
			t.Errorf("%q has no short help", cmd.CommandPath())
		case !cmd.HasSubCommands() && cmd.Example == "":
			t.Errorf("%q has no example", cmd.CommandPath())
		}
		if n := strings.Count(strings.TrimSpace(cmd.Example), "\n"); !cmd.HasSubCommands() && n < 1 && cmd.Flags().HasFlags() {
			t.Errorf("%q has one example, and flags of which it shows no use", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			for part := range strings.SplitSeq(line, "&&") {
				if part = strings.TrimSpace(part); !strings.HasPrefix(part, "meshc ") {
					t.Errorf("%q: the example %q is no command of meshc", cmd.CommandPath(), part)
				}
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit((&app{}).root())
}

func TestExitCodeOfProblems(t *testing.T) {
	for code, want := range map[diag.Code]diag.ExitCode{
		diag.CodeNoIntent: diag.ExitInvalid, diag.CodeUnknownField: diag.ExitInvalid, diag.CodeWeights: diag.ExitInvalid,
		diag.CodePolicyDenied: diag.ExitInvalid, diag.CodePolicyFailed: diag.ExitInvalid, diag.CodeTrustRule: diag.ExitInvalid,
		diag.CodePolicyBudget: diag.ExitBudget, diag.CodeMemoryLimit: diag.ExitBudget, diag.CodeTimeLimit: diag.ExitBudget, diag.CodeOutputLimit: diag.ExitBudget, diag.CodeCompileLimit: diag.ExitBudget, diag.CodeNotEvaluated: diag.ExitBudget,
		diag.CodeUnsigned: diag.ExitStale, diag.CodeNotReproduced: diag.ExitStale, diag.CodeStoredApproval: diag.ExitStale,
		diag.CodeEnvoyMissing: diag.ExitFailure, diag.CodeGitFetch: diag.ExitFailure, diag.CodeGitMissing: diag.ExitFailure,
		diag.CodeServerListen: diag.ExitFailure, diag.CodeServerDown: diag.ExitFailure, diag.CodeSigningKey: diag.ExitFailure, diag.CodeInternal: diag.ExitFailure,
	} {
		var out, errs bytes.Buffer
		a := &app{out: &out, err: &errs}
		problem := diag.List{diag.New(code, diag.Pos{}, "this is wrong").WithFix("do that")}
		if got := a.report(fmt.Errorf("doing it: %w", problem.Err())); got != want {
			t.Errorf("%s ends with %d, not %d", code, got, want)
		}
		if told := errs.String(); !strings.Contains(told, string(code)+": this is wrong") || !strings.Contains(told, "fix: do that") {
			t.Errorf("%s is told as %q", code, told)
		}
	}
}

// A warning ends nothing, and of several errors the first that holds decides.
func TestExitCodesJoin(t *testing.T) {
	warning := diag.Warn(diag.CodeExpired, diag.Pos{}, "over")
	denied, late := diag.New(diag.CodePolicyDenied, diag.Pos{}, "no"), diag.New(diag.CodePolicyBudget, diag.Pos{}, "slow")
	for _, c := range []struct {
		ds   diag.List
		want diag.ExitCode
	}{
		{nil, diag.ExitOK}, {diag.List{warning}, diag.ExitOK}, {diag.List{late, warning}, diag.ExitBudget}, {diag.List{late, denied}, diag.ExitInvalid},
	} {
		if got := exitOf(c.ds); got != c.want {
			t.Errorf("%v ends with %d, not %d", c.ds, got, c.want)
		}
		if got := (planned{findings: c.ds}).exit(true); c.want != diag.ExitOK && got != c.want {
			t.Errorf("a plan with %v ends with %d, not %d", c.ds, got, c.want)
		}
	}
}

func TestPlainErrorsAreTold(t *testing.T) {
	var errs bytes.Buffer
	if got := (&app{err: &errs}).report(errors.New("it rains")); got != diag.ExitFailure || errs.String() != "error: it rains\n" {
		t.Errorf("%d, %q", got, errs.String())
	}
}
