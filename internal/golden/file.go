package golden

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// File compares got with a whole file, or rewrites it with -update. Generated
// documentation is checked this way. A missing file is a difference.
func File(t *testing.T, file string, got []byte) {
	t.Helper()
	if Updating() {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatalf("rewriting %q: %v", file, err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("reading %q: %v", file, err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got, -update rewrites):\n%s", file, d)
	}
}
