package cli

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

func (a *app) trustCmd() *cobra.Command {
	var f intentFlags
	var dir string
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Check a trust policy", Args: takes(0, 1),
		Long: `Read FILE (default: trust.yaml) as the server does and report every mistake with its
line: unknown fields, weak keys, rules that nobody can satisfy. With --intent it warns
of environments that the intent does not declare, and where the rules and the owners of
its packages do not agree.`,
		Example: "  meshc trust check\n  meshc trust check /etc/meshc/trust.yaml --intent .",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "trust.yaml"
			if len(args) == 1 {
				name = args[0]
			}
			t, err := a.readTrust(name)
			if err != nil {
				return err
			}
			var ds diag.List
			if dir != "" {
				p, err := f.load(cmd.Context(), a, dir)
				if err != nil {
					return err
				}
				envs, err := f.declared(cmd.Context(), a, dir)
				if err != nil {
					return err
				}
				ds = append(t.Undeclared(envs), disagreements(t, p.Packages(), dir)...)
			}
			return a.valid(ds, strings.Join([]string{count(len(t.Environments), "environment"), count(len(t.Signers), "signer"), count(len(t.Rules), "rule")}, ", "))
		},
	}
	f.add(a, cmd)
	a.prints(cmd, nil, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	cmd.Flags().StringVar(&dir, "intent", "", "folder of intent whose owners the rules are to agree with")
	return group("trust", "Work with the trust policy", cmd)
}

// disagreements warns where the trust policy's rules and the owners of the intent
// in dir do not agree. Rules are about paths in the repository; without one, dir is its top.
func disagreements(t approval.Trust, pkgs []compiler.Package, dir string) diag.List {
	top, err := gitrepo.Within(dir)
	if err != nil {
		top = "."
	}
	var parts []approval.Part
	for _, pkg := range pkgs {
		part := approval.Part{Name: pkg.Dir, Owner: pkg.Owner, Root: pkg.Dir == ".", Folder: path.Join(top, pkg.Dir), Pos: pkg.Pos}
		envs := slices.Collect(maps.Keys(t.Environments))
		for _, file := range pkg.Files {
			env, joins := compiler.EnvironmentOf(file)
			if !joins {
				part.Files = append(part.Files, path.Join(top, file))
				continue
			}
			part.Overlays = append(part.Overlays, path.Join(top, file))
			envs = append(envs, env)
		}
		slices.Sort(envs)
		for _, env := range slices.Compact(envs) {
			part.OverlayFolders = append(part.OverlayFolders, path.Join(top, compiler.OverlayFolder(env, pkg.Dir)))
		}
		parts = append(parts, part)
	}
	return t.Disagreements(parts)
}

// agree is disagreements with the trust policy in a file; without a name, nothing.
func (a *app) agree(name string, pkgs []compiler.Package, dir string) (diag.List, error) {
	if name == "" {
		return nil, nil
	}
	t, err := a.readTrust(name)
	if err != nil {
		return nil, err
	}
	return disagreements(t, pkgs, dir), nil
}
