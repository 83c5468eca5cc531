package cli

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
	xdsserver "meshc.dev/meshc/xds-server"
)

func (a *app) statusCmd() *cobra.Command {
	var state string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say which proxies run what", Args: cobra.NoArgs,
		Long: `Ask the running server, over the socket in its state folder, which release each proxy
has confirmed. A class that is held back by a refusal is told with its reason.`,
		Example: "  meshc status --state /var/lib/meshc\n  meshc status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(s)
			}
			return a.tellStatus(s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all that the server knows, as JSON")
	cmd.Flags().StringVar(&state, "state", "meshc-state", "the server's state folder")
	return cmd
}

func (a *app) waitCmd() *cobra.Command {
	var state string
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait COMMIT", Short: "Wait until every connected proxy runs a commit", Args: cobra.ExactArgs(1),
		Long: `Ask the running server, over the socket in its state folder, until all connected proxies
have confirmed COMMIT (a hash, at least 7 characters). It ends with 3 if a proxy refuses
it, with 4 if another commit took its place, with 5 if the time is over.`,
		Example: "  meshc wait $(git rev-parse HEAD) --state /var/lib/meshc --timeout 2m",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !commitHash.MatchString(args[0]) {
				return fail(diag.ExitFailure, "%q is no commit hash: give 7 to 40 of its characters, such as $(git rev-parse HEAD)", args[0])
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			p, err := c.Wait(ctx, args[0], nil)
			if errors.Is(err, context.DeadlineExceeded) {
				return fail(diag.ExitBudget, "%.12s did not arrive everywhere within %s (%d of %d proxies run it); see `meshc status --state %s`", args[0], timeout, p.Confirmed, p.Connected, state)
			}
			if err != nil {
				return err
			}
			if asJSON {
				err = a.json(p)
			} else {
				err = a.tellProgress(p)
			}
			if err != nil {
				return err
			}
			return quiet(waitExit(p.Outcome))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&state, "state", "meshc-state", "the server's state folder")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	return cmd
}

// commitHash is what the server takes for a commit.
var commitHash = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

// waitExit is the exit code of an outcome.
func waitExit(o xdsserver.Outcome) diag.ExitCode {
	switch o {
	case xdsserver.Done:
		return diag.ExitOK
	case xdsserver.Failed:
		return diag.ExitInvalid
	case xdsserver.Superseded:
		return diag.ExitStale
	case xdsserver.Waiting:
	}
	return diag.ExitBudget
}

func (a *app) tellProgress(p xdsserver.Progress) error {
	var b strings.Builder
	printer.Fprintf(&b, "%s: %.12s is confirmed by %d of %d proxies\n", p.Outcome, p.Commit, p.Confirmed, p.Connected)
	for _, name := range p.Pending {
		printer.Fprintf(&b, "  pending %s\n", name)
	}
	for _, f := range p.Failures {
		writeFailure(&b, f)
	}
	return printer.Fprint(a.out, b.String())
}

// tellStatus prints a line for each proxy, and what went wrong.
func (a *app) tellStatus(s xdsserver.Status) error {
	var b strings.Builder
	if s.Commit == "" {
		b.WriteString("nothing is approved yet: no proxy gets anything; the server's log says why\n")
	} else {
		printer.Fprintf(&b, "commit %.12s, release %.12s, environment %s\n", s.Commit, s.Release, s.Environment)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(s.Proxies) > 0 {
		printer.Fprintf(w, "PROXY\tCLASS\tCOMMIT\tSTATE\n")
	}
	for _, p := range s.Proxies {
		printer.Fprintf(w, "%s\t%s\t%.12s\t%s\n", p.Node, p.Class, p.Commit, proxyState(p))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range s.Classes {
		if c.Held {
			printer.Fprintf(&b, "%s is held at %.12s\n", c.Class, c.ServingCommit)
		}
		if c.Failure != nil {
			writeFailure(&b, *c.Failure)
		}
	}
	if len(s.Proxies) == 0 {
		b.WriteString("no proxy is connected\n")
	}
	for _, d := range s.Problems {
		printer.Fprint(&b, d.String()+"\n")
	}
	return printer.Fprint(a.out, b.String())
}

func proxyState(p xdsserver.ProxyStatus) string {
	switch {
	case !p.Connected:
		return "gone"
	case p.UpToDate:
		return "up to date"
	}
	return "behind"
}

// writeFailure tells what a proxy refused, with the intent line and its owner.
func writeFailure(b *strings.Builder, f xdsserver.Failure) {
	printer.Fprintf(b, "  %s %s of %.12s by %s: %s\n", f.State, f.Type[strings.LastIndex(f.Type, ".")+1:], f.Commit, f.Node, f.Why)
	for _, r := range f.Resources {
		printer.Fprintf(b, "    %s: %s (owner %s)\n", r.Pos, r.Resource, r.Owner)
	}
}
