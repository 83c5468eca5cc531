package diag

import "slices"

// ExitCode is how a command of meshc ends. The numbers are a contract with
// scripts and never change. A command that a signal ended before its work was done ends
// with 128 and the signal's number (130 for SIGINT, 143 for SIGTERM).
type ExitCode int

// The exit codes of every command.
const (
	// ExitOK: valid, and nothing that the caller asked about.
	ExitOK ExitCode = 0
	// ExitFailure: tool, usage, I/O or internal error. Never "there are changes".
	ExitFailure ExitCode = 1
	// ExitChanges: something served changes, in behaviour or only in bytes (only
	// where the caller asked for it, with --detailed-exitcode).
	ExitChanges ExitCode = 2
	// ExitInvalid: invalid intent, a policy denies, a test failed, "no".
	ExitInvalid ExitCode = 3
	// ExitStale: stale or unverifiable: the base moved, a signature, a digest.
	ExitStale ExitCode = 4
	// ExitBudget: time, memory or size ran out; no verdict.
	ExitBudget ExitCode = 5
)

// exitOrder lists the codes, the one that wins first.
func exitOrder() []ExitCode {
	return []ExitCode{ExitFailure, ExitStale, ExitInvalid, ExitBudget, ExitChanges, ExitOK}
}

// Exit joins the codes of several findings to the one that a process ends with:
// 1, 4, 3, 5, 2, the first that holds; no codes are ExitOK. A number outside the
// contract counts as ExitFailure.
func Exit(codes ...ExitCode) ExitCode {
	order := exitOrder()
	if slices.ContainsFunc(codes, func(c ExitCode) bool { return !slices.Contains(order, c) }) {
		return ExitFailure
	}
	for _, c := range order {
		if slices.Contains(codes, c) {
			return c
		}
	}
	return ExitOK
}
