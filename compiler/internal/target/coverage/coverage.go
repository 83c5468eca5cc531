// Package coverage is what a target says of the parts of the language that are no features:
// grants, mTLS, externals, certificates, and the like.
//
// In: a mesh, and for each part where it is used and how far one target goes with it. Out:
// the gaps, which are the places of a mesh that the target cannot say, and the losses with
// which it says others. Every target holds every part, so that none is left out in silence.
package coverage

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// Answer is how far a target goes with a part. Only Exact, Nothing, Approximate and Refuse
// make one. The zero Answer is no answer and counts as refused.
type Answer struct {
	state, why, fix string
}

// Exact says that the target says the part as it is meant.
func Exact() Answer { return Answer{state: exact} }

// Nothing says that the target needs not say anything about the part, and why not.
func Nothing(why string) Answer { return Answer{state: nothing, why: why} }

// Approximate says that the target says the part with a loss, in words.
func Approximate(loss string) Answer { return Answer{state: approximate, why: loss} }

// Refuse says that the target cannot say the part, and why.
func Refuse(reason string) Answer { return Answer{state: refused, why: reason} }

// WithFix is the answer with what helps against it, where that is not what helps against all.
func (a Answer) WithFix(fix string) Answer { a.fix = fix; return a }

const (
	exact       = "exact"
	nothing     = "nothing"
	approximate = "approximate"
	refused     = "refused"
)

// Support says how far the target goes ("exact", "nothing", "approximate" or "refused") and
// why not further. The support table is generated from it.
func (a Answer) Support() (state, why string) {
	if a.state == "" {
		return refused, "nobody said what it does"
	}
	return a.state, a.why
}

// Use is a place of a mesh where a part is used.
type Use struct {
	// Path is the mesh path, "" for the mesh as a whole.
	Path string
	// What it is there, in words ("grant \"all\"").
	What string
}

// Part is one row as one target sees it.
type Part struct {
	// Name is the word by which the loss of it is accepted.
	Name   string
	Uses   func(*model.Mesh) []Use
	Answer Answer
}

// Gap is a use of a word that a target cannot say.
type Gap struct {
	// Name is the part's or the feature's.
	Name string
	Path string
	// Why is the reason, without the place.
	Why string
	// Problem is how it is told where nobody accepts the loss: an error.
	Problem diag.Diagnostic
}

// Check holds a mesh against all parts. target is the target's name, at gives the user's
// position of a mesh path ("" is the target's own line). losses are warnings, in the order of parts.
func Check(target string, m *model.Mesh, parts []Part, at func(path string) diag.Pos) (gaps []Gap, losses diag.List) {
	for _, p := range parts {
		state, why := p.Answer.Support()
		if state == exact || state == nothing {
			continue
		}
		for _, u := range p.Uses(m) {
			if state == approximate {
				losses = append(losses, diag.Warn(diag.CodeApproximate, at(u.Path), "the %s target says %s with a loss: %s", target, u.What, why).WithFix("%s", p.Answer.fix))
				continue
			}
			gaps = append(gaps, Gap{Name: p.Name, Path: u.Path, Why: why,
				Problem: diag.New(diag.CodeUnsupported, at(u.Path), "the %s target cannot say %s: %s", target, u.What, why).WithFix("%s", p.Answer.fix)})
		}
	}
	return gaps, losses
}
