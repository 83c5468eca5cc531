package approval

import (
	"fmt"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Link is one of the things that must hold before a commit may be served.
type Link string

// The links, in the order in which Verify looks at them.
const (
	LinkRepository Link = "repository" // the right repository and ref
	LinkDescent    Link = "descent"    // a first-parent descendant of the last approved commit
	LinkRollback   Link = "rollback"   // going back needs a record
	LinkDate       Link = "date"
	LinkSignature  Link = "signature" // somebody known signed
	LinkSigner     Link = "signer"    // somebody who may, for that path
	LinkThreshold  Link = "threshold"
	LinkStatement  Link = "statement"
	LinkReproduce  Link = "reproduce" // compiling again gives the same digests
	LinkSteps      Link = "steps"
	LinkPlace      Link = "place" // later than anything served before
)

// Refusal is a missing link: which, of which commit, why, and the way out.
type Refusal struct {
	Link        Link
	Commit      string
	Reason, Fix string
	Code        diag.Code
}

// Error names commit, link and reason.
func (r *Refusal) Error() string {
	return fmt.Sprintf("commit %s is not approved: %s: %s", short(r.Commit), r.Link, r.Reason)
}

// Diagnostic is the same as a problem with a code and a fix.
func (r *Refusal) Diagnostic() diag.Diagnostic {
	return diag.New(r.Code, diag.Pos{}, "%s", r.Error()).WithFix("%s", r.Fix)
}

func refuse(l Link, c diag.Code, commit, format string, args ...any) *Refusal {
	return &Refusal{Link: l, Code: c, Commit: commit, Reason: fmt.Sprintf(format, args...)}
}

func (r *Refusal) fix(format string, args ...any) *Refusal {
	r.Fix = fmt.Sprintf(format, args...)
	return r
}

func short(hash string) string { return hash[:min(12, len(hash))] }

// ofTag says what is wrong with a tag. A repository's own refusal names the tag already.
func ofTag(name string, err error) string {
	subject, text := fmt.Sprintf("tag %q: ", name), err.Error()
	if strings.HasPrefix(text, subject) {
		return text
	}
	return subject + text
}
