// Package cli is the command line: argv to a struct of flags, to work, to a view.
//
// In: arguments and streams. Out: an exit code of internal/diag and bytes on the
// streams. Each command is one file with a constructor that closes over its own
// flags; nothing here is global.
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// app is what every command needs: streams and a clock.
type app struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	color    bool
	place    string      // folder of the intent, as the user wrote it; positions of problems begin there
	output   *outputFlag // of the command that runs, nil if it has none; set when it begins
	// told says that the command's document, or its report in another form, is printed.
	told atomic.Bool
	// began says that the arguments were understood, cleansUp that the command
	// ends by itself after a signal.
	began, cleansUp atomic.Bool
	// signal is the number of the first signal that asked the command to end, 0 before.
	signal atomic.Int32
}

// failure ends a command with a code of its own. An empty text prints nothing,
// because the view has told already. Its line feeds are ours.
type failure struct {
	code diag.ExitCode
	text string
	err  error // carries problems, in place of a text
}

func (f *failure) Error() string {
	if f.err != nil {
		return f.err.Error()
	}
	return f.text
}

// Unwrap gives the problems.
func (f *failure) Unwrap() error { return f.err }

// quiets reports whether the view has told everything.
func (f *failure) quiets() bool { return f.text == "" && f.err == nil }

func fail(code diag.ExitCode, format string, args ...any) error {
	return &failure{code: code, text: printer.Sprintf(format, args...)}
}

// quiet ends a command whose view has told everything.
func quiet(code diag.ExitCode) error {
	if code == diag.ExitOK {
		return nil
	}
	return &failure{code: code}
}

// Main runs meshc and returns the exit code of its process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	color := colorful(stdout)
	out, errs := printer.NewWriter(stdout, color), printer.NewWriter(stderr, color)
	a := &app{in: stdin, out: out, err: errs, now: time.Now, color: color}
	ctx, stop := a.until(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(errs)
	err := a.interruptible(ctx, root)
	if lost := out.Err(); err == nil && lost != nil {
		err = fail(diag.ExitFailure, "writing the output: %v", lost) // a report cut short must not look whole
	}
	return int(a.report(err))
}

// until is a context that ends with one of the signals, of which the first one is kept for
// the exit code.
func (a *app) until(parent context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	came := make(chan os.Signal, 1)
	signal.Notify(came, signals...)
	go func() {
		select {
		case s := <-came:
			if number, ok := s.(syscall.Signal); ok {
				a.signal.CompareAndSwap(0, int32(number)) //nolint:gosec // signals are few
			}
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(came)
		cancel()
	}
}

// grace is how long a command may take to end after a signal.
const grace = 700 * time.Millisecond

// letGo is how long the parts of a server may take to end. What takes longer is not
// ours: a program that a kubeconfig names for its credentials knows no signal.
const letGo = 5 * time.Second

// ended waits for the parts of a server and, when ctx, that of the group, has ended, no
// longer than limit.
func ended(ctx context.Context, group *errgroup.Group, limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return context.Cause(ctx) // the part that failed, if one did
	}
}

// interruptible runs a command so that a signal ends it, even in the middle of a
// computation. Commands that have to clean up take the time that they need.
func (a *app) interruptible(ctx context.Context, root *cobra.Command) error {
	done := make(chan error, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		if err != nil && !a.began.Load() {
			err = &failure{code: diag.ExitFailure, text: usageText(cmd, err) + "\nhelp:  " + cmd.CommandPath() + " --help"}
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if a.cleansUp.Load() {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return context.Canceled
	}
}

// verdict prints a line that begins with a word of ours, which a terminal shows in colour.
func (a *app) verdict(ink printer.Ink, word, format string, args ...any) {
	// A stream that fails is told at the end.
	_, _ = io.WriteString(a.out, ink.Paint(word, a.color)+printer.Sprintf(format, args...)+"\n")
}

// usageText says what is wrong with the words of a command line, and what was meant.
func usageText(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		known := []string{"help"}
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near, ok := diag.Nearest(unknown.GetSpecifiedName(), known); ok && unknown.GetSpecifiedShortnames() == "" {
			return printer.Sprintf("unknown flag --%s; did you mean --%s?", unknown.GetSpecifiedName(), near)
		}
	}
	return strings.ReplaceAll(err.Error(), "\t", "  ")
}

// takes is how many words a command takes behind its name. Too few or too many are told by
// the names that its usage gives them.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		_, usage, _ := strings.Cut(cmd.UseLine(), cmd.Name()+" ")
		usage = strings.TrimSuffix(usage, " [flags]")
		switch {
		case len(args) < least:
			return errors.New("something is missing: it takes " + usage)
		case most == 0 && len(args) > 0:
			return errors.New(printer.Sprintf("%q is too much: it takes flags only", args[0]))
		case len(args) > most:
			return errors.New(printer.Sprintf("%q is too much: it takes ", args[most]) + usage)
		}
		return nil
	}
}

// colorful reports whether w is a terminal that wants colour.
func colorful(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func (a *app) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(a.err, nil)) }

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "meshc",
		Short: "Compile mesh intent, plan its changes, serve what Git approved",
		Long: `meshc compiles high-level intent in CUE to Envoy configuration, says what a change
will really do, and serves only what was approved by signatures in Git.

Exit codes: 0 ok, 1 tool or usage error, 2 something served changes (with
--detailed-exitcode), 3 invalid or denied, 4 stale or unverifiable, 5 over budget,
130 or 143 ended by Ctrl-C or SIGTERM before the work was done.`,
		Example: `  meshc init mesh && meshc vet mesh && meshc test mesh
  meshc plan mesh --base origin/main
  meshc serve --repo https://git.example/mesh.git --trust trust.yaml`,
		Version:       compiler.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		a.vetCmd(), a.compileCmd(), a.testCmd(), a.explainCmd(), a.diffCmd(), a.showCmd(), a.initCmd(), a.importCmd(), a.planCmd(), a.canICmd(), a.graphCmd(), a.versionCmd(),
		a.verifyCmd(), a.approveCmd(), a.pushCmd(), a.rollbackCmd(), a.trustCmd(), a.policyCmd(), a.serveCmd(), a.webhookCmd(), a.installCmd(), a.doctorCmd(), a.statusCmd(), a.waitCmd(), a.tokenCmd(), a.demoCmd(),
	)
	cmd.InitDefaultCompletionCmd()
	if c, _, err := cmd.Find([]string{"completion"}); err == nil {
		c.RunE = help
	}
	a.watch(cmd)
	return cmd
}

// help is what a command does that only holds others.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// choices lets a shell complete the words that a flag takes.
func choices(cmd *cobra.Command, flag string, words ...string) {
	// It fails only for a flag that the command does not have, or has twice.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// watch notes of every command that it began, and how it prints.
func (a *app) watch(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.output = outputOf(cmd)
			a.began.Store(true)
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.watch(sub)
	}
}

// group is a command that only holds others. A wrong word behind it is an error,
// not a reason to print help and end well.
func group(name, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, RunE: help}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		known := make([]string, len(subs))
		for i, s := range subs {
			known[i] = s.Name()
		}
		slices.Sort(known)
		if near, ok := diag.Nearest(args[0], known); ok {
			return errors.New(printer.Sprintf("%s has no command %q; did you mean %s?", cmd.CommandPath(), args[0], near))
		}
		return errors.New(printer.Sprintf("%s has no command %q; it has %s", cmd.CommandPath(), args[0], strings.Join(known, ", ")))
	}
	cmd.AddCommand(subs...)
	return cmd
}
