// Command build builds the tools of ci/tools that its arguments name, without any those
// that tests start, and prints the folder of each on stdout. What is in the cache is not built again.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"meshc.dev/meshc/ci/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(tools.All(), func(t tools.Tool) bool { return t.Name == name }) {
			return fmt.Errorf("there is no tool %q", name)
		}
	}
	wanted := tools.OfTests()
	if len(names) > 0 {
		wanted = slices.DeleteFunc(tools.All(), func(t tools.Tool) bool { return !slices.Contains(names, t.Name) })
	}
	for _, t := range wanted {
		dir, err := tools.Find(ctx, t, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Println(dir)
	}
	return nil
}
