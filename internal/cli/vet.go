package cli

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) vetCmd() *cobra.Command {
	f := vetFlags{memo: compiler.NewMemo()}
	var again watchFlags
	cmd := &cobra.Command{
		Use: "vet [DIR]", Short: "Check intent: schema, meaning, compiled output, policies", Args: cobra.MaximumNArgs(1),
		Long: `Check the intent in DIR (default: the current folder) as a compile would, and ask
every policy: the shipped ones and those in DIR/policies or --policies. With --envoy a
real Envoy is asked about every compiled resource as well.`,
		Example: "  meshc vet\n  meshc vet --watch\n  meshc vet . --env production -o sarif\n  meshc vet --envoy",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := a.meshDir(args)
			return a.rounds(cmd.Context(), again, &f.intentFlags, func() error { return a.vet(cmd.Context(), &f, dir) }, dir, f.policies)
		},
	}
	f.add(a, cmd)
	a.prints(cmd, nil, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	again.add(cmd)
	f.envoy.add(cmd, "envoy", "have a real Envoy judge every compiled resource")
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust policy whose rules are to agree with the owners of the packages")
	cmd.Flags().StringVar(&f.policies, "policies", "", "folder with more Rego policies (default: DIR/policies if it exists)")
	return cmd
}

// vetFlags say what is checked.
type vetFlags struct {
	intentFlags
	envoy           envoyFlags
	policies, trust string
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
	v, err := bounded(ctx, &f.bounds, func(ctx context.Context, c *compile.Compiler) (vetted, error) {
		return vet(ctx, c, fsys, compiler.Options{Environment: f.env, At: at, Memo: f.memo}, user, f.envoy.wanted())
	})
	if err != nil {
		return err
	}
	if f.envoy.wanted() && v.release.Digest() != "" {
		res, version, err := a.prove(ctx, &f.envoy, v.release)
		if err != nil {
			return err
		}
		v.problems = append(v.problems, res.Findings...)
		v.told += fmt.Sprintf(", %d resources accepted by Envoy %s", res.Resources, version)
	}
	more, err := a.agree(f.trust, v.packages, dir)
	if err != nil {
		return err
	}
	v.problems = slices.Concat(f.staged(dir), v.problems, more)
	return a.valid(v.problems, v.told)
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

// vetted is what became of a check without Envoy.
type vetted struct {
	release  release.Release // the zero Release if it does not compile
	packages []compiler.Package
	problems diag.List
	told     string // what was looked at, in words
}

// vet asks the targets and the policies about intent. The release is whole only if it has to be.
func vet(ctx context.Context, c *compile.Compiler, fsys fs.FS, o compiler.Options, user compile.Rego, whole bool) (vetted, error) {
	court, ds := compile.Convene(ctx, user)
	var more diag.List
	o.Policy, more = court.Policy()
	ds = append(ds, more...)
	p, more, err := c.Load(ctx, fsys, o)
	ds = append(ds, more...)
	if err != nil || p == nil {
		return vetted{problems: ds}, err
	}
	check := c.Checked
	if whole {
		check = (*compiler.Program).Release
	}
	r, more := check(p)
	res, err := court.Judge(ctx, compile.Case{Program: p, At: o.At, Release: r})
	if more = slices.Concat(ds, more, res.Findings); err == nil && !more.HasErrors() {
		ds, err = c.Ahead(ctx, court, p, nil, more)
		more = append(more, ds...)
	}
	told := fmt.Sprintf("%d proxy classes, %d policies evaluated", len(p.Classes()), res.Evaluated) + losses(p.Losses())
	return vetted{r, p.Packages(), more, told}, err
}

// losses says in short what targets go without. They are sorted by target.
func losses(ls []release.Loss) string {
	out := ""
	for len(ls) > 0 {
		target, names := ls[0].Target, []string(nil)
		for len(ls) > 0 && ls[0].Target == target {
			names, ls = append(names, ls[0].Name), ls[1:]
		}
		out += fmt.Sprintf(", %s without (%s)", target, strings.Join(names, ", "))
	}
	return out
}
