// Command bench measures meshc beside its peers, on the machine that it runs on.
//
//	go run . [-only compile,ends,plan,commands,look,fanout,swaps,agent,requests,pod,hostile,kubernetes,admission,rules,own] [-quick] [-json]
//
// In: flags. Out: the report on standard output, progress on standard error. The
// exit code is 1 if something was not correct: a client missed a change, a request
// failed, a compile gave other bytes than it should. Slowness is no failure: what
// a figure should be stands beside it.
//
// Peers are go-control-plane's caches and Gatekeeper's webhook, in processes of their own like
// meshc's server and webhook, with the same clients over the same transport. Everything listens on the
// loopback only.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word { // a process of a webhook's, or of a compile's
		os.Exit(compile.Main(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// maxClients keeps the load within one machine.
const maxClients = 5000

// bench is one run.
type bench struct {
	ctx context.Context //nolint:containedctx // the run's own, given to every section
	// quick makes everything smaller: to see that it works, not how fast.
	quick bool
	// clients are the sizes of fan-out.
	clients []int
	err     io.Writer
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.err, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

type section struct {
	name string
	run  func(*bench, report.Section) error
}

func sections() []section {
	return []section{{"compile", (*bench).compile}, {"ends", (*bench).ends}, {"plan", (*bench).plan}, {"commands", (*bench).commands}, {"look", (*bench).look}, {"fanout", (*bench).fanout}, {"swaps", (*bench).swaps}, {"agent", (*bench).agent}, {"requests", (*bench).requests}, {"pod", (*bench).pod}, {"hostile", (*bench).hostile}, {"kubernetes", (*bench).kubernetes}, {"admission", (*bench).admission}, {"rules", (*bench).rules}, {"own", (*bench).own}}
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) > 1 && args[0] == childFlag {
		return childMain(args[1], os.Stdin, out, errs)
	}
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	only := f.String("only", strings.Join(names, ","), "the `sections` to run")
	quick := f.Bool("quick", false, "small sizes: to see that it works, not how fast")
	clients := f.String("clients", "100,1000", "how many `clients` the fan-out has, one run for each number")
	asJSON := f.Bool("json", false, "write the report as JSON")
	if err := f.Parse(args); err != nil {
		return 2
	}
	chosen := strings.Split(*only, ",")
	for _, c := range chosen {
		if !slices.Contains(names, c) {
			fmt.Fprintf(errs, "there is no section %q; there are %s\n", c, strings.Join(names, ", "))
			return 2
		}
	}
	r := &report.Report{Machine: measure.ThisMachine(), Wrong: []string{}}
	b := &bench{ctx: ctx, quick: *quick, err: errs}
	var err error
	if b.clients, err = numbers(*clients); err != nil {
		fmt.Fprintln(errs, "-clients:", err)
		return 2
	}
	for _, s := range sections() {
		if !slices.Contains(chosen, s.name) {
			continue
		}
		b.say("%s …", s.name)
		if err := s.run(b, r.Section(s.name)); err != nil {
			r.Section(s.name).Wrong("%v", err)
		}
	}
	write := r.Text
	if *asJSON {
		write = r.JSON
	}
	if err := write(out); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	if len(r.Wrong) > 0 {
		return 1
	}
	return 0
}

// numbers reads "100,1000".
func numbers(list string) ([]int, error) {
	var out []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxClients {
			return nil, fmt.Errorf("%q is no number from 1 to %d", text, maxClients)
		}
		out = append(out, n)
	}
	return out, nil
}
