package sandbox

import (
	"fmt"

	"meshc.dev/meshc/internal/diag"
)

// Kind says why a child gave no answer.
type Kind string

// The kinds of failure.
const (
	Memory  Kind = "memory"  // it needed more memory than allowed
	Time    Kind = "time"    // the parent's clock ran out
	Output  Kind = "output"  // its answer was too large
	Refused Kind = "refused" // its handler returned an error; the child lives
	Crashed Kind = "crashed" // it ended in another way
	Failed  Kind = "failed"  // it could not be started or set up
)

// Error is a piece of work without an answer. Whoever gave it knows what it was
// about, and tells that to users.
type Error struct {
	Kind   Kind
	Limits Limits
	Text   string // the handler's error, or the child's last words
}

// Error says what happened on one line.
func (e *Error) Error() string {
	switch e.Kind {
	case Memory:
		return fmt.Sprintf("the child needs more than %d MiB of memory", e.Limits.Data>>20)
	case Time:
		return fmt.Sprintf("the child takes longer than %v", e.Limits.Time)
	case Output:
		return fmt.Sprintf("the child's answer has more than %d MiB", e.Limits.Output>>20)
	case Refused:
		return e.Text
	default:
		return "the child ended: " + e.Text
	}
}

// Warning is what users of this system must know about the limits, if anything.
func Warning() (diag.Diagnostic, bool) {
	if enforced || raceDetector {
		return diag.Diagnostic{}, false
	}
	return diag.Warn(diag.CodeUnlimited, diag.Pos{}, "this system does not limit a child's memory; only its own watch over its heap does, and time and output are bounded from outside").
		WithFix("compile other people's repositories on Linux"), true
}
