package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/proof"
)

func (a *app) vetCmd() *cobra.Command {
	var f intentFlags
	var e envoyFlags
	var policyDir string
	cmd := &cobra.Command{
		Use: "vet [DIR]", Short: "Check intent: schema, meaning, compiled output, policies", Args: cobra.MaximumNArgs(1),
		Long: `Check the intent in DIR (default: the current folder) as a compile would, and ask
every policy: the shipped ones and those in DIR/policies or --policies. With --envoy a
real Envoy is asked about every compiled resource as well.`,
		Example: "  meshc vet\n  meshc vet . --env production -o sarif\n  meshc vet --envoy",
		RunE: func(cmd *cobra.Command, args []string) error {
			fsys, at, err := f.open(a, dirArg(args))
			if err != nil {
				return err
			}
			user, err := choosePolicies(fsys, dirArg(args), policyDir)
			if err != nil {
				return err
			}
			court, ds := convene(cmd.Context(), user)
			p, more, err := a.compile(cmd.Context(), fsys, compiler.Options{Environment: f.env, At: at, Policy: court.digest()})
			if err != nil {
				return err
			}
			ds = append(ds, more...)
			told := ""
			if p != nil {
				if more, told, err = a.vet(cmd.Context(), p, at, court, &e); err != nil {
					return err
				}
				ds = append(ds, more...)
			}
			if err := a.problems(f.format, ds.Sorted()); err != nil {
				return err
			}
			if f.format == string(diag.Text) {
				_, warnings := ds.Counts()
				printer.Fprintf(a.out, "valid: %s, %s\n", told, count(warnings, "warning"))
			}
			return nil
		},
	}
	f.add(cmd)
	f.addFormat(cmd)
	e.add(cmd, "envoy", "have a real Envoy judge every compiled resource")
	cmd.Flags().StringVar(&policyDir, "policies", "", "folder with more Rego policies (default: DIR/policies if it exists)")
	return cmd
}

// vet asks everybody about a program that could be linked: the targets, the
// policies and, if wanted, a real Envoy. It returns in words what was looked at.
func (a *app) vet(ctx context.Context, p *compiler.Program, at time.Time, c court, e *envoyFlags) (diag.List, string, error) {
	r, ds := p.Release()
	res := guard.Result{}
	if c.engine != nil {
		var err error
		if res, err = c.judge(ctx, p, at); err != nil {
			return nil, "", err
		}
	}
	told := fmt.Sprintf("%d proxy classes, %d policies evaluated", len(p.Classes()), res.Evaluated)
	proved := proof.Result{}
	if e.wanted() && !ds.HasErrors() {
		var version string
		var err error
		if proved, version, err = a.prove(ctx, e, r); err != nil {
			return nil, "", err
		}
		told += fmt.Sprintf(", %d resources accepted by Envoy %s", proved.Resources, version)
	}
	return slices.Concat(ds, res.Findings, proved.Findings), told, nil
}
