package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
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
	cmd := &cobra.Command{
		Use: "status", Short: "Say which proxies run what", Args: takes(0, 0),
		Long: `Ask the running server, over the socket in its state folder, which release each proxy
has confirmed. Proxies and classes that are held back by a refusal are told with its
reason and the next try, and so is what the server knows of its repository.`,
		Example: "  meshc status --state /var/lib/meshc\n  meshc status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if a.form().structured() {
				return a.document(s)
			}
			return a.tellStatus(s)
		},
	}
	a.prints(cmd, []document{{"status", xdsserver.Status{}}}, textForm, jsonForm, yamlForm)
	addState(cmd, &state, serverState, "the server's state folder")
	return cmd
}

func (a *app) waitCmd() *cobra.Command {
	var state string
	var timeout time.Duration
	var least int
	cmd := &cobra.Command{
		Use: "wait COMMIT", Short: "Wait until every connected proxy runs a commit", Args: takes(1, 1),
		Long: `Ask the running server, over the socket in its state folder, until all connected proxies
have confirmed COMMIT (a hash, at least 7 characters), there are as many as --min says,
and no part of a split is without endpoints. It ends with 3 if a proxy refuses it, with 4
if another commit took its place or the server refuses it, with 5 if the time is over.
Of which classes no proxy is connected is told.`,
		Example: `  meshc wait $(git rev-parse HEAD) --state /var/lib/meshc --timeout 2m
  meshc wait $(git rev-parse HEAD) --min 7    # that many proxies are expected`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !commitHash.MatchString(args[0]) {
				return fail(diag.ExitFailure, "%q is no commit hash: give 7 to 40 of its characters, such as $(git rev-parse HEAD)", args[0])
			}
			if least < 0 {
				return fail(diag.ExitFailure, "--min %d: there cannot be fewer proxies than none", least)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			p, err := c.Wait(ctx, args[0], least, nil)
			if errors.Is(err, context.DeadlineExceeded) {
				return fail(diag.ExitBudget, "%.12s did not arrive everywhere within %s (%s); see `meshc status --state %s`", args[0], timeout, whyNot(p, least), state)
			}
			if err != nil {
				return err
			}
			if a.form().structured() {
				err = a.document(p)
			} else {
				err = a.tellProgress(p)
			}
			if err != nil {
				return err
			}
			return quiet(waitExit(p.Outcome))
		},
	}
	a.prints(cmd, []document{{"wait", xdsserver.Progress{}}}, textForm, jsonForm, yamlForm)
	addState(cmd, &state, serverState, "the server's state folder")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	cmd.Flags().IntVar(&least, "min", 1, "how many proxies have to run it, at least; 0: it need only be served")
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
	case xdsserver.Superseded, xdsserver.Denied:
		return diag.ExitStale
	case xdsserver.Waiting:
	}
	return diag.ExitBudget
}

// whyNot says what a commit waits for.
func whyNot(p xdsserver.Progress, least int) string {
	if p.Release == "" {
		return "the server does not serve it yet"
	}
	if p.Confirmed == p.Connected && p.Connected < least {
		text := fmt.Sprintf("%d of %d proxies run it, and --min is %d", p.Confirmed, p.Connected, least)
		if len(p.Absent) > 0 {
			text += "; none is connected of " + listed(p.Absent)
		}
		return text
	}
	if n := len(p.Lacking); n > 0 {
		return fmt.Sprintf("all %d proxies run it, but cluster %q has no endpoint: %d of %d requests of route table %q fail", p.Connected, p.Lacking[0].Cluster, p.Lacking[0].Weight, p.Lacking[0].Total, p.Lacking[0].Routes)
	}
	return fmt.Sprintf("%d of %d proxies run it", p.Confirmed, p.Connected)
}

func (a *app) tellProgress(p xdsserver.Progress) error {
	var b strings.Builder
	if p.Outcome == xdsserver.Denied {
		if p.Commit == p.Refused.Commit {
			printer.Fprintf(&b, "%s: %.12s is at the head of the ref and not approved; it is not served\n", p.Outcome, p.Commit)
		} else {
			printer.Fprintf(&b, "%s: %.12s is not served, nor is %.12s on top of it, which is at the head of the ref and not approved\n", p.Outcome, p.Commit, p.Refused.Commit)
		}
		if err := diag.Render(&b, diag.Text, diag.List{p.Refused.Problem}, a.rendering()); err != nil {
			return err
		}
		return printer.Fprint(a.out, b.String())
	}
	printer.Fprintf(&b, "%s: %.12s is confirmed by %d of %d proxies\n", p.Outcome, p.Commit, p.Confirmed, p.Connected)
	switch {
	case p.Outcome == xdsserver.Done && p.Connected == 0:
		b.WriteString("no proxy is connected: it is served, and nobody has confirmed it\n")
	case p.Outcome == xdsserver.Done && len(p.Absent) > 0:
		printer.Fprintf(&b, "no proxy is connected of %s\n", listed(p.Absent))
	}
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
	for _, p := range s.Proxies {
		if p.Connected && p.Failure != nil {
			writeFailure(&b, *p.Failure)
		}
	}
	for _, c := range s.Classes {
		if c.Held {
			printer.Fprintf(&b, "%s is held at %.12s\n", c.Class, c.ServingCommit)
		}
	}
	if len(s.Proxies) == 0 {
		b.WriteString("no proxy is connected\n")
	} else if names := withoutProxy(s.Classes); len(names) > 0 {
		printer.Fprintf(&b, "no proxy is connected of %s\n", listed(names))
	}
	if s.Source != nil {
		writeSource(&b, *s.Source)
	}
	if s.Kubernetes != nil {
		writeCluster(&b, *s.Kubernetes)
	}
	for _, d := range s.Problems {
		printer.Fprint(&b, d.String()+"\n")
	}
	return printer.Fprint(a.out, b.String())
}

// writeCluster tells what is known of the cluster in which services are discovered.
func writeCluster(b *strings.Builder, k xdsserver.Kubernetes) {
	if k.Current {
		printer.Fprintf(b, "Kubernetes is followed since %s", moment(k.Since))
	} else {
		printer.Fprintf(b, "Kubernetes is not followed since %s: what was found last stays", moment(k.Since))
	}
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(k.Endpoints)) {
		if n := k.Endpoints[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(state, "_", " "), n))
		}
	}
	if len(parts) > 0 {
		printer.Fprintf(b, "; endpoints: %s", strings.Join(parts, ", "))
	}
	b.WriteString("\n")
}

// withoutProxy names the classes of the release that have no proxy.
func withoutProxy(classes []xdsserver.ClassStatus) []string {
	var names []string
	for _, c := range classes {
		if c.Connected == 0 {
			names = append(names, c.Class)
		}
	}
	return names
}

// listed names ten of the names at most.
func listed(names []string) string {
	const most = 10
	if n := len(names); n > most {
		names = append(names[:most:most], fmt.Sprintf("%d others", n-most))
	}
	return strings.Join(names, ", ")
}

func proxyState(p xdsserver.ProxyStatus) string {
	switch {
	case !p.Connected:
		return "gone"
	case p.Ahead != "":
		return "ahead: keeps a newer release than this server has"
	case p.Held && !p.RetryAt.IsZero():
		return "held, again at " + moment(p.RetryAt)
	case p.Held:
		return "held"
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
