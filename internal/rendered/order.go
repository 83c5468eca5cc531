package rendered

import (
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
)

// CheckFollows refuses to put a tree in the place of one that is there, at a place
// that where names: what is newer stays unless a signed rollback is newer still, and
// what is of something else is not overwritten.
func (l Label) CheckFollows(there Label, where string) error {
	no := func(fix, format string, args ...any) error {
		d := diag.New(diag.CodePush, diag.Pos{}, "nothing is pushed to "+where+": "+format, args...)
		return &approval.ProblemError{D: d.WithFix("%s", fix)}
	}
	order := l.Place.Compare(there.Place)
	switch {
	case there.Repository != l.Repository || there.Environment != l.Environment:
		return no("push it elsewhere: each environment has a place of its own", "it has environment %q of repository %q, and this is %q of %q",
			there.Environment, there.Repository, l.Environment, l.Repository)
	case order < 0:
		return no("push what is newer; to go back, sign a rollback record (meshc rollback) and push again",
			"it has %.12s, which was approved after %.12s", there.Commit, l.Commit)
	case order == 0 && there.Commit != l.Commit:
		return no("bring the ref back to a descendant of what was approved, or sign a rollback record (meshc rollback) and push again",
			"it has %.12s, which this repository no longer has at the place of %.12s", there.Commit, l.Commit)
	}
	return nil
}

// Unlabelled refuses to overwrite what meshc did not push.
func Unlabelled(where string) error {
	d := diag.New(diag.CodePush, diag.Pos{}, "nothing is pushed to %s: what is there was not pushed by meshc", where)
	return &approval.ProblemError{D: d.WithFix("name another place, or remove what is there first")}
}
