package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/junit"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/policies"
)

func (a *app) policyCmd() *cobra.Command {
	return group("policy", "Write and test rules of your own", a.policyTestCmd(), a.policyNewCmd())
}

func (a *app) policyTestCmd() *cobra.Command {
	var dir string
	var least int
	cmd := &cobra.Command{
		Use: "test [DIR]", Short: "Run the Rego tests of your policies", Args: takes(0, 1),
		Long: `Run every rule test_… of the *_test.rego files in DIR/policies (or --policies), over the
mesh and over objects alike, with the built-in functions that policies have, and say
which lines of the policies no test runs. No policy or no test is invalid (code 3), like
a test that fails, or fewer lines than --min-coverage demands.`,
		Example: "  meshc policy test\n  meshc policy test mesh --min-coverage 100 -o junit",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.place = placeOf(dirArg(args), a.form())
			if st, err := os.Stat(dirArg(args)); err != nil || !st.IsDir() {
				return fail(diag.ExitFailure, "%q is no folder; name the one that holds the intent", dirArg(args))
			}
			user, err := choosePolicies(os.DirFS(dirArg(args)), dirArg(args), dir)
			if err != nil {
				return err
			}
			if user.Files == nil {
				return fail(diag.ExitInvalid, "%s: there is no policy: %q has no folder %q; write a first one: meshc policy new my-rule", diag.CodePolicyNone, dirArg(args), "policies")
			}
			return a.policyTest(cmd.Context(), user, least)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "policies", "", "folder with the policies (default: DIR/policies)")
	a.prints(cmd, []document{{"policy-test", guard.Tested{}}}, textForm, jsonForm, yamlForm, junitForm)
	fl.IntVar(&least, "min-coverage", 0, "percentage of the policies' lines that tests must run")
	return cmd
}

func (a *app) policyTest(ctx context.Context, user compile.Rego, least int) error {
	tested, ds := guard.Test(ctx, policies.FS, user.Files)
	if ds.HasErrors() {
		return a.problems(user.Located(ds))
	}
	for i := range tested.Cases {
		c := &tested.Cases[i]
		c.Pos.File = path.Join(a.place, user.Dir, c.Pos.File)
	}
	for i := range tested.Files {
		f := &tested.Files[i]
		f.File = path.Join(a.place, user.Dir, f.File)
	}
	if err := a.tellPolicies(tested); err != nil {
		return err
	}
	switch {
	case len(tested.Cases) == 0:
		return fail(diag.ExitInvalid, "there is no test; write rules test_… into %s", path.Join(a.place, user.Dir, "<name>_test.rego"))
	case tested.Failed() > 0:
		return quiet(diag.ExitInvalid)
	case tested.Percent() < least:
		return fail(diag.ExitInvalid, "tests run %d %% of the policies' lines, not %d %%", tested.Percent(), least)
	}
	return nil
}

func (a *app) tellPolicies(t guard.Tested) error {
	switch f := a.form(); {
	case f.structured():
		return a.document(t)
	case f == junitForm:
		return a.junitPolicies(t)
	}
	for _, c := range t.Cases {
		if c.Failure == "" {
			a.verdict(printer.Green, "ok", "    %s.%s", c.Package, c.Name)
			continue
		}
		a.verdict(printer.Red, "FAIL", "  %s.%s", c.Package, c.Name)
		printer.Fprintf(a.out, "      %s: %s\n", c.Pos, c.Failure)
		if c.Output != "" {
			printer.Fprintf(a.out, "      it printed: %s\n", c.Output)
		}
	}
	for _, f := range t.Files {
		if len(f.Missed) > 0 {
			printer.Fprintf(a.out, "%s: %d of %d lines; no test runs line %s\n", f.File, f.Covered, f.Lines, numbers(f.Missed))
		}
	}
	return printer.Fprintf(a.out, "%d passed, %d failed; tests run %d %% of %s in %s\n",
		len(t.Cases)-t.Failed(), t.Failed(), t.Percent(), count(t.Lines, "line"), count(len(t.Files), "file"))
}

func numbers(list []int) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}

// junitPolicies writes one suite for each package, in the order of the cases.
func (a *app) junitPolicies(t guard.Tested) error {
	var suites []junit.Suite
	for _, c := range t.Cases {
		if n := len(suites); n == 0 || suites[n-1].Name != c.Package {
			suites = append(suites, junit.Suite{Name: c.Package})
		}
		entry := junit.Case{Class: c.Package, Name: c.Name, Output: c.Output}
		if c.Failure != "" {
			entry.Failure = &junit.Failure{Type: "failure", Message: c.Failure, Body: fmt.Sprintf("%s: %s", c.Pos, c.Failure)}
		}
		s := &suites[len(suites)-1]
		s.Cases = append(s.Cases, entry)
	}
	return junit.Write(a.out, suites...)
}

// ruleName is what a new rule may be called: it becomes its id.
var ruleName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

func (a *app) policyNewCmd() *cobra.Command {
	var object bool
	var dir string
	cmd := &cobra.Command{
		Use: "new NAME [DIR]", Short: "Write a first rule with its test", Args: takes(1, 2),
		Long: `Write a rule that works, with its METADATA and tests, into DIR/policies (or --policies):
over the mesh, or with --object over the objects of a cluster. NAME becomes its id, such
as "team-label". Nothing that exists is overwritten.`,
		Example: "  meshc policy new small-ports\n  meshc policy new team-label mesh --object",
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, place := "mesh", dirArg(args[1:])
			if object {
				kind = "object"
			}
			if !ruleName.MatchString(args[0]) || len(args[0]) > 63 {
				return fail(diag.ExitFailure, "%q cannot be the id of a rule: write words in small letters joined by hyphens, such as team-label", args[0])
			}
			if dir == "" {
				dir = filepath.Join(place, "policies")
			}
			if st, err := os.Stat(place); err != nil || !st.IsDir() {
				return fail(diag.ExitFailure, "%q is no folder; name the one that holds the intent", place)
			}
			files, err := writeRule(cmd.Context(), dir, args[0], kind)
			if err != nil {
				return err
			}
			next := "meshc policy test"
			if place != "." {
				next += " " + place
			}
			return a.tellWritten(wrote{Files: files, Next: next})
		},
	}
	a.prints(cmd, []document{{"wrote", wrote{}}}, textForm, jsonForm, yamlForm)
	cmd.Flags().BoolVar(&object, "object", false, "a rule over objects of a cluster, not over the mesh")
	cmd.Flags().StringVar(&dir, "policies", "", "folder to write into (default: DIR/policies)")
	return cmd
}

// writeRule writes a rule and its tests, or nothing, and names the files.
func writeRule(ctx context.Context, dir, id, kind string) ([]string, error) {
	replace := strings.NewReplacer("my_rule", strings.ReplaceAll(id, "-", "_"), "my-rule", id)
	files := fstest.MapFS{}
	for _, end := range []string{".rego", "_test.rego"} {
		text, err := policies.First.ReadFile("first/" + kind + end)
		if err != nil {
			return nil, fmt.Errorf("reading the first rule: %w", err)
		}
		to := id + end
		files[to] = &fstest.MapFile{Data: []byte(replace.Replace(string(text)))}
		if _, err := os.Lstat(filepath.Join(dir, to)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fail(diag.ExitFailure, "%q is there already; choose another name", filepath.Join(dir, to))
		}
	}
	// A word of Rego, or what a shipped rule or package is called, makes no rule.
	switch tested, ds := guard.Test(ctx, policies.FS, files); {
	case ds.HasErrors():
		return nil, fail(diag.ExitFailure, "%q cannot be the name of a rule of yours: %s; choose another", id, ds[0].Text)
	case tested.Failed() > 0:
		return nil, fail(diag.ExitFailure, "%q cannot be the name of a rule of yours: it has a meaning in Rego; choose another", id)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // source text, for everybody who may read the repository
		return nil, fmt.Errorf("making the folder of policies: %w", err)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		to := filepath.Join(dir, name)
		if err := create(to, files[name].Data); err != nil {
			return nil, err
		}
		names = append(names, filepath.ToSlash(to))
	}
	return names, nil
}

// create writes a file that is not there yet.
func create(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // source text, as above
	if err != nil {
		return fmt.Errorf("writing a rule: %w", err)
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(fmt.Errorf("writing a rule: %w", err), f.Close())
	}
	return f.Close()
}
