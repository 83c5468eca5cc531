package diag_test

import (
	"testing"

	"meshc.dev/meshc/internal/diag"
)

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"timout": "timeout", "tiemout": "timeout", "Retry": "retry", "xyz": "", "": "", "timeouts": "timeout"} {
		if got, _ := diag.Nearest(name, []string{"retry", "timeout", "mirror"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// With nothing in common, one name is as near as any other.
	for name, want := range map[string]string{"a": "", "x": "", "xy": "", "v": "v1", "V": "v1", ".": ".", "v11": "v1", "b2": "v2"} {
		if got, _ := diag.Nearest(name, []string{".", "v1", "v2"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
