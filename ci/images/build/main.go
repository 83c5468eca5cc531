// Command build builds the container images of meshc: `make images`.
//
// In: flags. Out: an OCI layout for each image in a folder, its digest on stdout, and with
// -push the images in a registry.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"meshc.dev/meshc/ci/images"
	"meshc.dev/meshc/compiler"
)

func main() {
	out := flag.String("out", "bin/images", "folder for the OCI layouts")
	push := flag.String("push", "", "registry and prefix to push to as well, such as registry.example/mesh; with the logins of docker's config")
	all := flag.Bool("all", false, "for all architectures, not this machine's alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *push, *all); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, push string, all bool) error {
	root, err := git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	s := images.Source{Root: root, Version: compiler.Version, Cache: filepath.Join(root, ".cache", "images")}
	if s.Revision, s.Date, err = commit(ctx); err != nil {
		return err
	}
	architectures := []string{runtime.GOARCH}
	if all {
		architectures = images.Architectures()
	}
	for _, n := range images.Names() {
		index, err := images.Build(ctx, s, n, architectures...)
		if err != nil {
			return err
		}
		digest, err := images.Write(index, filepath.Join(out, n))
		if err != nil {
			return err
		}
		fmt.Printf("%s %s\n", n, digest)
		if push == "" {
			continue
		}
		if err := images.Push(ctx, index, push+"/"+n, compiler.Version); err != nil {
			return err
		}
		fmt.Printf("pushed %s/%s@%s\n", push, n, digest)
	}
	return nil
}

// commit is the commit that is built, and its date. What is not committed is said.
func commit(ctx context.Context) (revision string, date time.Time, err error) {
	if revision, err = git(ctx, "rev-parse", "HEAD"); err != nil {
		return "", date, err
	}
	text, err := git(ctx, "show", "--no-patch", "--format=%cI", "HEAD")
	if err != nil {
		return "", date, err
	}
	if date, err = time.Parse(time.RFC3339, text); err != nil {
		return "", date, err
	}
	changed, err := git(ctx, "status", "--porcelain", "--untracked-files=no")
	if changed != "" {
		revision += "-changed"
	}
	return revision, date.UTC(), err
}

func git(ctx context.Context, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(text)), nil
}
