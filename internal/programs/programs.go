// Package programs has meshc's own programs for tests, built as `make build` does and linked once for the tests
// of all packages.
//
// Without the race detector, which does not fit into the memory that children for untrusted intent may have.
package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Into puts the named commands of cmd, or both where none is named, into dir, which it makes where it is not there. dir
// must not be one that another test uses.
func Into(ctx context.Context, dir string, names ...string) error {
	if len(names) == 0 {
		names = []string{"meshc", "meshc-agent"}
	}
	built, unlock, err := build(ctx, names)
	if err != nil {
		return fmt.Errorf("building meshc's programs: %w", err)
	}
	defer unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := put(filepath.Join(built, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// build links what is not as it should be in a folder of this module's, which nobody else builds into before unlock.
func build(ctx context.Context, names []string) (dir string, unlock func(), err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "meshc.dev/meshc").Output()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(string(bytes.TrimSpace(root)), ".cache", "programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	if unlock, err = lock(dir); err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "meshc.dev/meshc/cmd/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, unlock, nil
}

// lock waits for the folder's lock, which dies with its process. A build ends by itself.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("locking %q: %w", dir, err), f.Close())
		}
	}
}

// put makes a copy: what one test does to its program is nobody else's affair, and users of pods may not enter every folder.
func put(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) //nolint:gosec // programs are for all
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
