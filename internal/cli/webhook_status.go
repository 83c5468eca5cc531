package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/webhook"
)

// defaultWebhookHTTP is where a webhook has its metrics and its status.
const defaultWebhookHTTP = "127.0.0.1:18002"

func (a *app) webhookStatusCmd() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether a webhook is asked, and what its audit found", Args: takes(0, 0),
		Long: `Ask a running webhook which release it judges by, whether the API server asks it, and
what its last audit found in the objects of the cluster. In a cluster run it in the
webhook's pod, or lead its port here with kubectl port-forward.`,
		Example: "  meshc webhook status\n  meshc webhook status --http 127.0.0.1:18002 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const patience = 10 * time.Second
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			s, err := webhook.AskStatus(ctx, address)
			if err != nil {
				return err
			}
			if a.form().structured() {
				return a.document(s)
			}
			return a.tellWebhook(s)
		},
	}
	cmd.Flags().StringVar(&address, "http", defaultWebhookHTTP, "address of the webhook's --http")
	a.prints(cmd, []document{{"webhook-status", webhook.Status{}}}, textForm, jsonForm, yamlForm)
	return cmd
}

func (a *app) tellWebhook(s webhook.Status) error {
	var b strings.Builder
	if s.Commit == "" {
		b.WriteString("nothing is approved yet: what the webhook is asked about is refused; its log says why\n")
	} else {
		printer.Fprintf(&b, "judges by commit %.12s\n", s.Commit)
	}
	printer.Fprintf(&b, "asked by the API server: %s\n", s.Asked)
	for _, d := range s.Problems {
		printer.Fprintf(&b, "not newer because of: %s\n", d)
	}
	if s.Audit == nil {
		b.WriteString("no audit by this replica yet\n")
		return printer.Fprint(a.out, b.String())
	}
	printer.Fprintf(&b, "audit of %s, commit %.12s: %d objects in %d namespaces in %.1f s\n", s.Audit.Began.UTC().Format(time.RFC3339), s.Audit.Commit, s.Audit.Objects, len(s.Audit.Spaces), s.Audit.Seconds)
	if len(s.Audit.Findings) == 0 {
		b.WriteString("nothing found\n")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Audit.Spaces)) {
		tellSpace(&b, name, s.Audit.Spaces[name])
	}
	for _, u := range s.Audit.Unread {
		printer.Fprintf(&b, "not looked at: %s\n", u)
	}
	if n := len(s.Audit.Absent); n > 0 {
		printer.Fprintf(&b, "not in this cluster: %d kinds of other meshes (-o json lists them)\n", n)
	}
	return printer.Fprint(a.out, b.String())
}

func tellSpace(b *strings.Builder, name string, s *webhook.AuditedSpace) {
	for _, severity := range []diag.Severity{diag.Error, diag.Warning, diag.Note} {
		for _, c := range slices.Sorted(maps.Keys(s.Findings[severity])) {
			printer.Fprintf(b, "  %s: %d of %s (%s)\n", name, s.Findings[severity][c], c, severity)
		}
	}
	for _, f := range s.Found {
		printer.Fprintf(b, "    %s %s: %s\n", f.Code, f.Object, f.Text)
	}
	if s.Untold > 0 {
		printer.Fprintf(b, "    and %d more\n", s.Untold)
	}
}
