// Package prove compares decisions for all requests, with witnesses.
//
// In: rule lists of package space. Out: requests whose outcome differs, one for
// each pair of deciding rules; counterexamples; rules that nothing reaches. It
// finds a request or proves that there is none; it never samples.
//
// How: the patterns of each dimension cut its values into atoms, classes that
// no pattern tells apart (a product automaton, atoms.go). Over atoms a rule is
// a handful of bit sets, and "decided by i before and by j after" is a small
// constraint search (search.go): both rules match and no earlier one does.
//
// Invariants: pure, no clock, no goroutine; limits are counts, so that an answer
// does not depend on the machine; what is over a limit is an error that names
// scope and dimension, never "equal". A dimension's universe may be larger than
// what a proxy can meet, never smaller.
package prove

import (
	"errors"
	"fmt"

	"meshc.dev/meshc/compiler/internal/space"
)

// Limits bounds the work. The zero Limits means the defaults.
type Limits struct {
	// States bounds the automaton of one dimension (default 300,000).
	States int
	// Steps bounds the clause visits for one scope (default 20,000,000).
	Steps int
	// Identities are callers to prefer in witnesses, in order.
	Identities []string
	// Cuts is what questions that are asked with it share, nil if nothing.
	Cuts *Cuts
}

func (l Limits) withDefaults() Limits {
	if l.States <= 0 {
		l.States = 300_000
	}
	if l.Steps <= 0 {
		l.Steps = 20_000_000
	}
	return l
}

// maxCells bounds the positions held by all states of one automaton, and
// maxBits the atoms × patterns table: both are about 100 MB.
const (
	maxCells = 24_000_000
	maxBits  = 800_000_000
)

// ErrBudget is in the chain of every error that says "not compared": the
// question may have an answer, but not within the limits.
var ErrBudget = errors.New("not compared: over budget")

// BudgetError names what was over which budget.
type BudgetError struct {
	Scope space.Scope
	// Dimension is where atoms ran out; empty if the search did.
	Dimension space.Dim
	// Budget is the limit's name and size.
	Budget string
}

// Error says where and what.
func (e *BudgetError) Error() string {
	where := "the search"
	if e.Dimension != "" {
		where = fmt.Sprintf("dimension %q", e.Dimension)
	}
	return fmt.Sprintf("%v: %s in %s of scope %s", ErrBudget, e.Budget, where, e.Scope)
}

// Unwrap gives ErrBudget.
func (e *BudgetError) Unwrap() error { return ErrBudget }

// UnsupportedError is a pattern that an automaton cannot say (\b, multi-line
// flags, a regex that does not parse). Compilation refuses these; here they are
// an error, never a guess.
type UnsupportedError struct {
	Pattern space.Pattern
	Reason  string
}

// Error names the pattern.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("not compared: %s pattern %q: %s", e.Pattern.Kind, e.Pattern.Text, e.Reason)
}

// Change is one pair of deciding rules with different outcomes.
type Change struct {
	Scope space.Scope
	// Before and After are the rules that decide Witness.
	Before, After space.Rule
	// Except are earlier rules of either side that take part of what both match,
	// at most MaxExcept, in order, without repeats; More counts the rest.
	Except []space.Rule
	More   int
	// Witness is a request whose outcome changes. Host is not set: it is part of the scope.
	Witness space.Request
}

// MaxExcept is how many exceptions a Change carries.
const MaxExcept = 12
