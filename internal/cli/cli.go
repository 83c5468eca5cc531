// Package cli is the command line: argv to a struct of flags, to work, to a view.
//
// In: arguments and streams. Out: an exit code of internal/diag and bytes on the
// streams. Each command is one file with a constructor that closes over its own
// flags; nothing here is global.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
)

// app is what every command needs: streams and a clock.
type app struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	color    bool
}

// failure ends a command with a code of its own. An empty text prints nothing,
// because the view has told already.
type failure struct {
	code diag.ExitCode
	text string
}

func (f *failure) Error() string { return f.text }

func fail(code diag.ExitCode, format string, args ...any) error {
	return &failure{code, fmt.Sprintf(format, args...)}
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
	a := &app{in: stdin, out: stdout, err: stderr, now: time.Now, color: colorful(stdout)}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return int(a.report(err))
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
--detailed-exitcode), 3 invalid or denied, 4 stale or unverifiable, 5 over budget.`,
		Version:       compiler.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		a.vetCmd(), a.compileCmd(), a.testCmd(), a.explainCmd(), a.diffCmd(), a.showCmd(), a.initCmd(), a.planCmd(), a.canICmd(), a.graphCmd(), a.versionCmd(),
		a.verifyCmd(), a.approveCmd(), a.rollbackCmd(), a.trustCmd(), a.serveCmd(), a.statusCmd(), a.waitCmd(), a.tokenCmd(), a.demoCmd(),
	)
	return cmd
}
