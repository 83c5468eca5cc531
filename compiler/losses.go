package compiler

import (
	"fmt"

	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/internal/diag"
)

// unaccepted are the gaps of a target as errors.
func unaccepted(t resolve.Target, gaps []coverage.Gap) diag.List {
	wayOut := fmt.Sprintf("take it out, or compile without the target %s (`targets` in the root package)", t.Name)
	var out diag.List
	for _, g := range gaps {
		d := g.Problem
		if d.Fix == "" {
			d.Fix = wayOut
		}
		out = append(out, d)
	}
	return out
}
