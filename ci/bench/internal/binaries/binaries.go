// Package binaries builds meshc's programs as their users have them.
//
// In: names of commands. Out: binaries in a folder, built in the module that they belong to,
// with its own dependencies and not those of the measurements.
package binaries

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// module is the one that the commands belong to.
const module = "meshc.dev/meshc"

// Build puts the commands into dir. It is called in ci/bench.
func Build(ctx context.Context, dir string, commands ...string) error {
	where, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("finding the module %s (run this in ci/bench): %w", module, err)
	}
	args := []string{"build", "-C", strings.TrimSpace(string(where)), "-trimpath", "-buildvcs=false", "-o", dir + "/"}
	for _, c := range commands {
		args = append(args, "./cmd/"+c)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", strings.Join(commands, " and "), err, out)
	}
	return nil
}
