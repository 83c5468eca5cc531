package compiler_test

import (
	"testing"

	"meshc.dev/meshc/internal/golden"
)

// What a plan says of a change, in cases of intent as people write it.
func TestPlans(t *testing.T) {
	golden.Run(t, "testdata/plan", func(t *testing.T, c golden.Case) map[string][]byte {
		w := parseWhole(c)
		p, ds := w.load(t, w.files, w.opts["at"])
		if p == nil {
			return map[string][]byte{"diag": text(ds)}
		}
		return map[string][]byte{"plan": w.plan(t, p), "diag": text(ds)}
	})
}
