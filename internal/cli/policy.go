package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
)

// namedPolicies is a folder with policies that the user names; place is that of the intent.
func namedPolicies(place, dir string) (compile.Rego, error) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return compile.Rego{}, fail(diag.ExitFailure, "--policies: %q is no folder", dir)
	}
	from, err := filepath.Abs(place)
	if err != nil {
		return compile.Rego{}, fmt.Errorf("finding %q: %w", place, err)
	}
	to, err := filepath.Abs(dir)
	if err != nil {
		return compile.Rego{}, fmt.Errorf("finding %q: %w", dir, err)
	}
	rel, err := filepath.Rel(from, to)
	if err != nil {
		rel = to
	}
	return compile.Rego{Files: os.DirFS(dir), Dir: filepath.ToSlash(rel)}, nil
}

// choosePolicies is the folder that --policies names, else that of the intent.
func choosePolicies(intent fs.FS, place, named string) (compile.Rego, error) {
	if named != "" {
		return namedPolicies(place, named)
	}
	return compile.OwnPolicies(intent), nil
}
