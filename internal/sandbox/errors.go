package sandbox

import (
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Kind says why a child gave no answer.
type Kind string

// The kinds of failure.
const (
	Memory  Kind = "memory"  // it needed more memory than allowed
	CPU     Kind = "cpu"     // it used up its CPU time
	Time    Kind = "time"    // the parent's clock ran out
	Output  Kind = "output"  // its answer was too large
	Refused Kind = "refused" // its handler returned an error
	Crashed Kind = "crashed" // it ended in another way
	Failed  Kind = "failed"  // it could not be started or set up
)

// Error is a child that gave no answer.
type Error struct {
	Kind     Kind
	Subjects []string // what was being worked on, sorted; may be empty
	Limits   Limits
	Text     string // the handler's error, or the child's last words
}

// Error says what happened on one line.
func (e *Error) Error() string { return e.Diagnostic().Text }

// Diagnostic is the failure as a problem that a user can act on.
func (e *Error) Diagnostic() diag.Diagnostic {
	on := ""
	if len(e.Subjects) > 0 {
		quoted := make([]string, len(e.Subjects))
		for i, s := range e.Subjects {
			quoted[i] = strconv.Quote(s)
		}
		on = " of package " + strings.Join(quoted, " or ")
	}
	const simpler = "make the package smaller or compute less in it: large comprehensions, repeated strings and many disjunctions are the usual causes"
	switch e.Kind {
	case Memory:
		return diag.New(diag.CodeMemoryLimit, diag.Pos{}, "the evaluation%s needs more than %d MiB of memory", on, e.Limits.Data>>20).WithFix(simpler)
	case CPU:
		return diag.New(diag.CodeTimeLimit, diag.Pos{}, "the evaluation%s needs more than %v of CPU time", on, e.Limits.CPU).WithFix(simpler)
	case Time:
		return diag.New(diag.CodeTimeLimit, diag.Pos{}, "the evaluation%s takes longer than %v", on, e.Limits.Wall).WithFix(simpler)
	case Output:
		return diag.New(diag.CodeOutputLimit, diag.Pos{}, "the evaluation%s gives more than %d MiB", on, e.Limits.Output>>20).WithFix(simpler)
	case Refused:
		return diag.New(diag.CodeSandbox, diag.Pos{}, "the evaluation%s failed: %s", on, e.Text)
	default:
		return diag.New(diag.CodeSandbox, diag.Pos{}, "the evaluation%s ended: %s", on, e.Text).
			WithFix("run it again; if it ends in the same way, report this text to the makers of meshc")
	}
}

// Warning is what users of this system must know about the limits, if anything.
func Warning() (diag.Diagnostic, bool) {
	if enforced {
		return diag.Diagnostic{}, false
	}
	return diag.Warn(diag.CodeUnlimited, diag.Pos{}, "this system does not limit a child's memory and CPU; only time and output are bounded from outside").
		WithFix("compile other people's repositories on Linux"), true
}
