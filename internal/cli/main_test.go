package cli

import (
	"os"
	"testing"

	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/sandbox"
)

// The test binary is its own child for untrusted intent.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		os.Exit(compile.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}
