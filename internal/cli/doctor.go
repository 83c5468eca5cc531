package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/doctor"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) doctorCmd() *cobra.Command {
	var cluster clusterFlags
	var namespace string
	var machine bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at a machine and a cluster, and say what is wrong", Args: takes(0, 0),
		Long: `Look at this machine, a cluster and the installation of meshc in it, and say what is
wrong and how to mend it. Nothing is changed. Each check ends within seconds. A cluster
is looked at with the rights that you have; what you may not see is told as such.

Ends with 3 if a check failed; warnings do not count.`,
		Example: `  meshc doctor
  meshc doctor --machine
  meshc doctor --kubeconfig admin.conf -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := doctor.Config{Connect: cluster.connect, Namespace: namespace, Now: a.now}
			if machine {
				c.Connect = nil
			}
			return a.doctor(cmd.Context(), c)
		},
	}
	cluster.add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&namespace, "namespace", "n", install.DefaultNamespace, "namespace of the installation")
	fl.BoolVar(&machine, "machine", false, "look at this machine alone")
	a.prints(cmd, []document{{"doctor", doctor.Report{}}}, textForm, jsonForm, yamlForm)
	return cmd
}

func (a *app) doctor(ctx context.Context, c doctor.Config) error {
	var last doctor.Result
	report, err := doctor.Examine(ctx, c, func(r doctor.Result) {
		if a.form().structured() {
			return
		}
		if r.Section != last.Section {
			printer.Fprintf(a.out, "%s\n", r.Section)
		}
		a.tellResult(r, last)
		last = r
	})
	if err != nil {
		return err
	}
	if a.form().structured() {
		if err := a.document(report); err != nil {
			return err
		}
	} else {
		printer.Fprintf(a.out, "%s\n", tally(report))
	}
	if report.Failed() {
		return quiet(diag.ExitInvalid)
	}
	return nil
}

// tellResult prints what a check found. Checks that were not made for the same reason as
// the one before do not repeat it.
func (a *app) tellResult(r, last doctor.Result) {
	mark := map[doctor.Status]string{doctor.OK: "✓", doctor.Warning: "‼", doctor.Failed: "✗", doctor.Skipped: "–"}[r.Status]
	switch {
	case r.Status == doctor.OK && r.Detail == "", r.Status == doctor.Skipped && r.Status == last.Status && r.Detail == last.Detail:
		printer.Fprintf(a.out, "  %s %s\n", mark, r.Title)
	case r.Status == doctor.OK:
		printer.Fprintf(a.out, "  %s %s: %s\n", mark, r.Title, r.Detail)
	default:
		printer.Fprintf(a.out, "  %s %s\n      %s\n", mark, r.Title, r.Detail)
	}
	if r.Fix != "" {
		printer.Fprintf(a.out, "      fix: %s\n", r.Fix)
	}
}

// tally counts what was found.
func tally(r doctor.Report) string {
	n := map[doctor.Status]int{}
	for _, one := range r.Results {
		n[one.Status]++
	}
	parts := []string{fmt.Sprintf("%d well", n[doctor.OK])}
	for _, s := range []doctor.Status{doctor.Warning, doctor.Failed, doctor.Skipped} {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(parts, ", ")
}
