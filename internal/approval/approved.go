// Package approval turns signed evidence in Git into a release that may be served.
//
// In: a candidate commit with its history, tags and compiled releases, the state
// of what was approved before, and the operator's trust policy. Out: an Approved,
// or the link of the chain that is missing. Only Verify and Store.Restore make an
// Approved; its fields are unexported, so that serving something unapproved is a
// type error.
package approval

import (
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Approved is a verified commit with its releases. The zero Approved holds
// nothing and is not served.
type Approved struct {
	steps  []Step
	record Record
}

// Step is a release and the instant from which it is in force.
type Step = release.Step

// Commit is the approved commit's full hash.
func (a Approved) Commit() string { return a.record.Commit }

// Environment is what the release was compiled for.
func (a Approved) Environment() string { return a.record.Environment }

// CheckFor says that a stored approval is for another environment or repository than
// it is to be used for, as a *ProblemError, or nil.
func (a Approved) CheckFor(environment, repository string) error {
	r := a.record
	if r.Environment == environment && r.Repository == repository {
		return nil
	}
	d := diag.New(diag.CodeOtherRepository, diag.Pos{}, "the stored approval of %s is for environment %q of repository %q, not for %q of %q",
		short(r.Commit), r.Environment, r.Repository, environment, repository)
	return &ProblemError{d.WithFix("name the state folder of a server for that environment and repository; a folder with another's approval may be moved away")}
}

// At returns the release in force at now: the last step whose instant has passed.
func (a Approved) At(now time.Time) release.Release {
	var r release.Release
	for _, s := range a.steps {
		if !s.From.After(now) {
			r = s.Release
		}
	}
	return r
}

// Steps returns the releases with their instants, in order. Read only.
func (a Approved) Steps() []Step { return a.steps }

// Record returns what Verify found.
func (a Approved) Record() Record { return a.record }
