package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) vetCmd() *cobra.Command {
	f := vetFlags{memo: compiler.NewMemo()}
	var again watchFlags
	cmd := &cobra.Command{
		Use: "vet [DIR]", Short: "Check intent: schema, meaning, compiled output, policies", Args: takes(0, 1),
		Long: `Check the intent in DIR (default: the current folder) as a compile would, and ask
every policy: the shipped ones and those in DIR/policies or --policies. With --envoy a
real Envoy is asked about every compiled resource as well. With --coverage the routes and
grants are listed that no test block reaches.`,
		Example: "  meshc vet\n  meshc vet --watch\n  meshc vet . --env production -o sarif\n  meshc vet --envoy\n  meshc vet --coverage",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := a.meshDir(args)
			return a.rounds(cmd.Context(), again, &f.intentFlags, func() error { return a.vet(cmd.Context(), &f, dir) }, dir, f.policies)
		},
	}
	f.add(a, cmd)
	a.prints(cmd, []document{{"coverage", compiler.Coverage{}}}, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	again.add(cmd)
	f.envoy.add(cmd, "envoy", "have a real Envoy judge every compiled resource")
	cmd.Flags().BoolVar(&f.coverage, "coverage", false, "list the routes and grants that no test reaches")
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust policy whose rules are to agree with the owners of the packages")
	cmd.Flags().StringVar(&f.policies, "policies", "", "folder with more Rego policies (default: DIR/policies if it exists)")
	return cmd
}

// vetFlags say what is checked.
type vetFlags struct {
	intentFlags
	envoy           envoyFlags
	policies, trust string
	coverage        bool
	memo            *compiler.Memo // of the round before
}

// vet checks the intent in dir and tells the result.
func (a *app) vet(ctx context.Context, f *vetFlags, dir string) error {
	fsys, at, err := f.open(a, dir)
	if err != nil {
		return err
	}
	user, err := choosePolicies(fsys, dir, f.policies)
	if err != nil {
		return err
	}
	v, err := bounded(ctx, &f.bounds, func(ctx context.Context, c *compile.Compiler) (compile.Vetted, error) {
		vet := c.Revet
		if f.envoy.wanted() || f.trust != "" || f.coverage {
			vet = c.Vet
		}
		return vet(ctx, fsys, compiler.Options{Environment: f.env, At: at, Memo: f.memo}, user)
	})
	if err != nil {
		return err
	}
	if f.envoy.wanted() && v.Release.Digest() != "" {
		res, version, err := a.prove(ctx, &f.envoy, v.Release)
		if err != nil {
			return err
		}
		v.Problems = append(v.Problems, res.Findings...)
		v.Told += fmt.Sprintf(", %d resources accepted by Envoy %s", res.Resources, version)
	}
	more, err := a.agree(f.trust, v.Packages, dir)
	if err != nil {
		return err
	}
	v.Problems = slices.Concat(f.staged(dir), v.Problems, more)
	if f.coverage && !v.Problems.HasErrors() {
		return a.covered(v.Program.Coverage(), v.Problems, v.Told)
	}
	return a.valid(v.Problems, v.Told)
}

// covered tells which routes and grants the tests reach, of intent with nothing wrong in it but
// what was found beside.
func (a *app) covered(c compiler.Coverage, found diag.List, told string) error {
	for _, k := range []struct {
		what string
		of   *compiler.Covered
	}{{"route", &c.Routes}, {"grant", &c.Grants}} {
		for i, u := range k.of.Unreached {
			found = append(found, diag.Diagnostic{Code: diag.CodeUntested, Severity: diag.Note, Pos: u.Pos, Text: "no test reaches this " + k.what + ": " + u.Path}.
				WithFix(`write one: mesh: test: "…": {request: …, expect: …}`))
			k.of.Unreached[i].Pos = a.at(u.Pos)
		}
	}
	if a.form().structured() {
		return a.document(c)
	}
	told += fmt.Sprintf(", %s, which reach %d of %s and %d of %s", count(c.Tests, "test"),
		c.Routes.Reached, count(c.Routes.Written, "route"), c.Grants.Reached, count(c.Grants.Written, "grant"))
	return a.valid(found, told)
}

// valid tells that something was checked, in the words told, with what was found beside;
// errors end the command.
func (a *app) valid(found diag.List, told string) error {
	found = a.placed(found.Sorted())
	if err := found.Err(); err != nil {
		return err
	}
	if err := a.render(found); err != nil || a.form() != textForm {
		return err
	}
	_, warnings := found.Counts()
	return printer.Fprintf(a.out, "valid: %s, %s\n", told, count(warnings, "warning"))
}
