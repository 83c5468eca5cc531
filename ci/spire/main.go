// Command spire tries identities of a real SPIRE: its server and agent on the loopback, one
// node that joined with a token, workloads told apart by the path of their program, and
// meshc-agents with real Envoys that get their certificates from it.
//
// In: the folder of meshc and meshc-agent (-bin); SPIRE is built from its modules on first
// use. Out: a line for each thing that was seen to hold, with what was measured; exit code 1
// if one did not. All listens on the loopback, and is stopped when the program ends.
//
// No test runs it: SPIRE takes ten minutes of processor time to build.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/envoybin"
)

func main() {
	bin := flag.String("bin", "bin", "folder of meshc and meshc-agent")
	keep := flag.Bool("keep", false, "leave the folder with all logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// world is everything that runs.
type world struct {
	dir, bin string
	spire    string // folder of SPIRE's programs
	envoy    string
	ports    map[string]string // addresses, by what listens there
	stops    []func()
}

func run(ctx context.Context, bin string, keep bool) (err error) {
	w := &world{ports: map[string]string{}}
	if w.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if w.spire, err = tools.Find(ctx, tools.Spire(), os.Stderr); err != nil {
		return err
	}
	envoy, err := envoybin.Find(ctx, envoybin.Options{Download: true})
	if err != nil {
		return err
	}
	w.envoy = envoy.Path
	if w.dir, err = os.MkdirTemp("/tmp", "spire"); err != nil { // sockets have short paths
		return err
	}
	defer func() {
		for len(w.stops) > 0 {
			last := len(w.stops) - 1
			w.stops[last]()
			w.stops = w.stops[:last]
		}
		if keep || err != nil {
			fmt.Fprintln(os.Stderr, "logs:", w.dir)
			return
		}
		_ = os.RemoveAll(w.dir)
	}()
	for _, step := range []func(context.Context) (string, error){
		w.startSpire, w.startServer, w.startWorkloads, w.unknown, w.rotation, w.newRoot,
	} {
		began := time.Now()
		said, err := step(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%5.1f s  %s\n", time.Since(began).Seconds(), said)
	}
	return nil
}

// path is a file of this run.
func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// start starts a program with a log of its own, until the end.
func (w *world) start(name, program string, args ...string) error {
	c, err := child.Start(child.Spec{Path: program, Dir: w.dir, Args: args, Log: w.path(name + ".log"), Bound: true})
	if err != nil {
		return err
	}
	w.stops = append(w.stops, func() { c.Stop(10 * time.Second) })
	return nil
}

// said is the log of a program.
func (w *world) said(name string) string {
	text, err := os.ReadFile(w.path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// ask runs a program to its end and returns what it printed.
func (w *world) ask(ctx context.Context, program string, args ...string) (string, error) {
	out, err := child.Run(ctx, child.Spec{Path: program, Dir: w.dir, Args: args}, time.Minute)
	if err != nil {
		return "", err
	}
	if !out.OK() {
		return "", fmt.Errorf("%s %s: exit code %d: %s%s", filepath.Base(program), strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return string(out.Stdout), nil
}

// until asks again and again until ok has nothing to say, at most for a minute.
func (w *world) until(ctx context.Context, what string, ok func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := ok()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
