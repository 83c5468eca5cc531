package agent

import (
	"errors"

	"meshc.dev/meshc/internal/diag"
)

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }

// problemsOf unpacks what problem packed; nil for any other error.
func problemsOf(err error) diag.List {
	var l *diag.ListError
	if errors.As(err, &l) {
		return l.List
	}
	return nil
}

// codeOf is the code of a problem, "" for any other error.
func codeOf(err error) diag.Code {
	if l := problemsOf(err); len(l) > 0 {
		return l[0].Code
	}
	return ""
}
