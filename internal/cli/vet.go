package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/proof"
	"meshc.dev/meshc/policies"
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
			p, ds := compiler.Load(fsys, compiler.Options{Environment: f.env, At: at, Cache: a.cache()})
			told := ""
			if p != nil {
				var more diag.List
				if more, told, err = a.vet(cmd.Context(), p, at, userPolicies(fsys, policyDir), &e); err != nil {
					return err
				}
				ds = append(ds, more...)
			}
			if err := a.problems(f.format, ds.Sorted()); err != nil {
				return err
			}
			if f.format == string(diag.Text) {
				_, warnings := ds.Counts()
				fmt.Fprintf(a.out, "valid: %s, %d warnings\n", told, warnings)
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
func (a *app) vet(ctx context.Context, p *compiler.Program, at time.Time, user fs.FS, e *envoyFlags) (diag.List, string, error) {
	r, ds := p.Release()
	res, err := a.judge(ctx, p, at, user)
	if err != nil {
		return nil, "", err
	}
	told := fmt.Sprintf("%d proxy classes, %d policies evaluated", len(p.Classes()), res.Evaluated)
	proved := proof.Result{}
	if e.wanted() && !ds.HasErrors() {
		version := ""
		if proved, version, err = a.prove(ctx, e, r); err != nil {
			return nil, "", err
		}
		told += fmt.Sprintf(", %d resources accepted by Envoy %s", proved.Resources, version)
	}
	return slices.Concat(ds, res.Findings, proved.Findings), told, nil
}

// userPolicies is where the user's own Rego is, nil if there is none.
func userPolicies(intent fs.FS, dir string) fs.FS {
	if dir != "" {
		return os.DirFS(filepath.Clean(dir))
	}
	if st, err := fs.Stat(intent, "policies"); err == nil && st.IsDir() {
		if sub, err := fs.Sub(intent, "policies"); err == nil {
			return sub
		}
	}
	return nil
}

// judge asks all policies. None evaluated is a failure: it would look like consent.
func (a *app) judge(ctx context.Context, p *compiler.Program, at time.Time, user fs.FS) (guard.Result, error) {
	engine, ds := guard.New(ctx, policies.FS, user)
	if ds.HasErrors() {
		return guard.Result{Findings: ds}, nil
	}
	in := guard.Input{Mesh: p.MeshJSON(), Environment: p.Environment(), At: at, Owners: p.Owners(), Where: p.Position}
	for _, e := range p.Exceptions() {
		in.Exceptions = append(in.Exceptions, guard.Exception(e))
	}
	res, err := engine.Check(ctx, in)
	if err != nil {
		return res, fmt.Errorf("evaluating policies: %w", err)
	}
	if res.Evaluated == 0 && !res.Findings.HasErrors() {
		return res, errors.New("no policy was evaluated")
	}
	res.Findings = append(ds, res.Findings...)
	return res, nil
}
