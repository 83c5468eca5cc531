package cli

import (
	"context"
	"errors"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// diagnosed is an error that carries a problem a user can fix.
type diagnosed interface{ Diagnostic() diag.Diagnostic }

// report tells an error on stderr and gives the code of the process.
func (a *app) report(err error) diag.ExitCode {
	if err == nil {
		return diag.ExitOK
	}
	if number := a.signal.Load(); number != 0 {
		a.tellError(interrupted(err))
		return diag.ExitCode(128 + number) // as a shell says it of what a signal ended
	}
	return a.tellError(err)
}

// interrupted is the error of a command that was to end, where its words are about more
// than that: not those of a child that was asked to end as well.
func interrupted(err error) error {
	for _, d := range findings(err) {
		if d.Code != diag.CodeSandbox {
			return err
		}
		err = context.Canceled
	}
	return err
}

// tellError prints an error, and says how the process ends by it.
func (a *app) tellError(err error) diag.ExitCode {
	code := codeOf(err)
	var f *failure
	if errors.As(err, &f) && f.quiets() {
		return code
	}
	if told, rerr := a.renderFailure(err); told && rerr == nil {
		return code
	}
	if c := (*approval.CompileError)(nil); errors.As(err, &c) {
		printer.Fprintf(a.err, "commit %s does not compile:\n", c.Commit)
	}
	if ds := findings(err); len(ds) > 0 {
		if rerr := a.warn(ds); rerr != nil {
			printer.Fprintf(a.err, "error: %v\n", rerr)
		}
		return code
	}
	if errors.Is(err, context.Canceled) {
		printer.Fprintf(a.err, "interrupted\n")
		return code
	}
	printer.Fprint(a.err, "error: "+err.Error()+"\n")
	return code
}

// codeOf is how the process ends by an error.
func codeOf(err error) diag.ExitCode {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	if ds := findings(err); len(ds) > 0 {
		return exitOf(ds)
	}
	return diag.ExitFailure
}

// findings are the problems that an error carries, nil if it carries none.
func findings(err error) diag.List {
	var l *diag.ListError
	if errors.As(err, &l) {
		return l.List
	}
	var d diagnosed
	if errors.As(err, &d) {
		return diag.List{d.Diagnostic()}
	}
	return nil
}

// exitOf joins the codes of all errors in the list.
func exitOf(ds diag.List) diag.ExitCode {
	var codes []diag.ExitCode
	for _, d := range ds {
		if d.IsError() {
			codes = append(codes, exitOfCode(d.Code))
		}
	}
	return diag.Exit(codes...)
}

// exitOfCode says what a problem means for a script: a limit that was hit is no
// verdict, what is not there is no statement about the intent, and evidence that
// does not hold is neither.
func exitOfCode(c diag.Code) diag.ExitCode {
	switch c {
	case diag.CodeMemoryLimit, diag.CodeTimeLimit, diag.CodeOutputLimit, diag.CodeCompileLimit, diag.CodeNotEvaluated, diag.CodePolicyBudget:
		return diag.ExitBudget
	case diag.CodeSandbox, diag.CodeGitSource, diag.CodeGitMissing, diag.CodeGitFetch, diag.CodeSigningKey,
		diag.CodeInternal, diag.CodeCallers, diag.CodeUnreached:
		return diag.ExitFailure
	}
	switch {
	case c >= "MESH0530" && c < "MESH0540": // the trust policy, like any input
		return diag.ExitInvalid
	case c >= "MESH0500" && c < "MESH0600":
		return diag.ExitStale
	case c >= "MESH0320" && c < "MESH0330", c >= "MESH0600" && c < "MESH0700": // a missing Envoy; the server and its surroundings
		return diag.ExitFailure
	default:
		return diag.ExitInvalid
	}
}
