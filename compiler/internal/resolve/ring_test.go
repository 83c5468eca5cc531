package resolve

import (
	"fmt"
	"testing"
)

// A ring of a thousand services is told in a line that can be read.
func TestALongRingIsCut(t *testing.T) {
	ring := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprint("s", i))
		}
		return append(out, "s0")
	}
	for n, want := range map[int]string{
		2:    "s0 → s1 → s0",
		8:    "s0 → s1 → s2 → s3 → s4 → s5 → s6 → s7 → s0",
		9:    "s0 → s1 → s2 → s3 → s4 → s5 → (2 more) → s8 → s0",
		1000: "s0 → s1 → s2 → s3 → s4 → s5 → (993 more) → s999 → s0",
	} {
		if got := ringText(ring(n)); got != want {
			t.Errorf("of %d: %s, want %s", n, got, want)
		}
	}
}
