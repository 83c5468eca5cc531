package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/importer"
	"meshc.dev/meshc/internal/operatorfile"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) importCmd() *cobra.Command {
	return group("import", "Make intent of what other meshes say, as far as it is exact", a.importGatewayCmd(), a.importIstioCmd())
}

// imported is what became of objects of others.
type imported struct {
	// Files were written, in Out.
	Files []string `json:"files"`
	Out   string   `json:"out"`
	// Objects were read, and of so many of them nothing was refused.
	Objects int `json:"objects"`
	Whole   int `json:"whole"`
	// Findings tell of everything that the files do not say.
	Findings diag.List `json:"findings"`
}

func (a *app) importGatewayCmd() *cobra.Command {
	var out string
	var bounds boundFlags
	cmd := &cobra.Command{
		Use: "gateway-api FILE|DIR|-...", Short: "Make intent of objects of the Kubernetes Gateway API", Args: takes(1, 1000),
		Long: `Read Gateways, HTTPRoutes and ReferenceGrants, with the Services and Namespaces that
they need, from files, the *.yaml, *.yml and *.json in folders, or - for standard input,
and write intent that does the same: a root package, and a package for each namespace.

Only what intent says exactly is written. Everything else is told by file, line and
column, with what to write instead, and the exit code is 3: a field that nobody has
read is never left out in silence. A host is written whole or not at all, since its
requests would go elsewhere. Files that are there already are not overwritten.

Of a cluster: kubectl get gateways,httproutes,referencegrants,services,namespaces -A -o yaml`,
		Example: "  meshc import gateway-api gateway.yaml routes/ --out mesh\n  meshc import gateway-api - --out mesh < objects.yaml\n  meshc vet mesh",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := readInputs(a.in, args)
			if err != nil {
				return err
			}
			res, err := importer.GatewayAPI(in, a.compiles(cmd.Context(), &bounds))
			if err != nil {
				return err
			}
			return a.tellImported(res, out)
		},
	}
	bounds.add(cmd)
	a.prints(cmd, []document{{"import", imported{}}}, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	cmd.Flags().StringVar(&out, "out", "mesh", "folder to write")
	return cmd
}

func (a *app) importIstioCmd() *cobra.Command {
	var out string
	var answer importer.Answer
	var bounds boundFlags
	cmd := &cobra.Command{
		Use: "istio FILE|DIR|-...", Short: "Make intent of objects of Istio", Args: takes(1, 1000),
		Long: `Read VirtualServices, DestinationRules, Gateways, ServiceEntries, Sidecars,
AuthorizationPolicies, PeerAuthentications and RequestAuthentications, with the
Services, and the labels, accounts and ports of the Deployments and Pods behind them,
from files, the *.yaml, *.yml and *.json in folders, or - for standard input, and write
intent that does the same: a root package, and a package for each namespace.

Only what intent says exactly is written. Everything else is told by file, line and
column, with what to write instead, and the exit code is 3: a field that nobody has
read is never left out in silence. What decides where a request goes, or who is refused,
is written whole or not at all; what says how requests are carried is told by itself.
Files that are there already are not overwritten.

Intent has plaintext, faults and plain HTTP beside HTTPS for a time only, with somebody
who answers for it: name them by --owner, --reason and --until, else they are told.

Of a cluster: kubectl get virtualservices,destinationrules,gateways.networking.istio.io,serviceentries,sidecars,authorizationpolicies,peerauthentications,requestauthentications,services,deployments -A -o yaml`,
		Example: "  meshc import istio istio/ apps.yaml --out mesh\n  meshc import istio - --out mesh --owner platform --reason \"moving in\" --until 2027-01-31T00:00:00Z < objects.yaml\n  meshc vet mesh",
		RunE: func(cmd *cobra.Command, args []string) error {
			if given := []string{answer.Owner, answer.Reason, answer.Until}; slices.Contains(given, "") && slices.ContainsFunc(given, func(s string) bool { return s != "" }) {
				return fail(diag.ExitFailure, "an exception needs --owner, --reason and --until, all or none")
			}
			if err := a.ends(answer.Until); err != nil {
				return err
			}
			in, err := readInputs(a.in, args)
			if err != nil {
				return err
			}
			res, err := importer.Istio(in, answer, a.compiles(cmd.Context(), &bounds))
			if err != nil {
				return err
			}
			return a.tellImported(res, out)
		},
	}
	bounds.add(cmd)
	a.prints(cmd, []document{{"import", imported{}}}, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	cmd.Flags().StringVar(&out, "out", "mesh", "folder to write")
	cmd.Flags().StringVar(&answer.Owner, "owner", "", "who answers for what intent has for a time only")
	cmd.Flags().StringVar(&answer.Reason, "reason", "", "why; told to everyone")
	cmd.Flags().StringVar(&answer.Until, "until", "", "the instant at which it ends, as 2027-01-31T00:00:00Z")
	return cmd
}

// ends reports whether what is written until an instant ends, and not yet.
func (a *app) ends(until string) error {
	at, err := time.Parse(time.RFC3339, until)
	switch {
	case until == "":
		return nil
	case err != nil:
		return fail(diag.ExitFailure, "--until %q is not RFC 3339, such as 2027-01-31T18:00:00Z", until)
	case !at.After(a.now()):
		return fail(diag.ExitFailure, "--until %q is over: write when the exceptions are to end", until)
	}
	return nil
}

// compiles compiles what was made, within bounds.
func (a *app) compiles(ctx context.Context, bounds *boundFlags) importer.Check {
	return func(files []importer.File) (diag.List, error) {
		var archive txtar.Archive
		for _, f := range files {
			archive.Files = append(archive.Files, txtar.File{Name: f.Path, Data: f.Text})
		}
		fsys, err := txtar.FS(&archive)
		if err != nil {
			return nil, err
		}
		passed, err := bounded(ctx, bounds, func(ctx context.Context, c *compile.Compiler) (compile.Passed, error) {
			return c.Release(ctx, fsys, compiler.Options{Environment: importer.Environment, At: a.now()})
		})
		return passed.Problems, err
	}
}

// tellImported writes the intent, and tells what it does not say.
func (a *app) tellImported(res importer.Result, out string) error {
	files := map[string][]byte{}
	for _, f := range res.Files {
		files[f.Path] = f.Text
	}
	told := imported{Files: []string{}, Out: out, Objects: res.Objects, Whole: res.Whole, Findings: res.Findings}
	if len(files) > 0 {
		var err error
		if told.Files, err = compiler.WriteNew(out, files); err != nil {
			return err
		}
	}
	code := exitOf(res.Findings)
	if a.form().structured() {
		return errors.Join(a.document(told), quiet(code))
	}
	if err := a.render(res.Findings); err != nil || a.form() != textForm {
		return errors.Join(err, quiet(code))
	}
	for _, name := range told.Files {
		printer.Fprintf(a.out, "wrote %s\n", filepath.ToSlash(filepath.Join(out, name)))
	}
	errs, warns := res.Findings.Counts()
	printer.Fprintf(a.out, "%d of %s translated whole; %s, %s\n", res.Whole, count(res.Objects, "object"), count(errs, "refusal"), count(warns, "warning"))
	if len(told.Files) > 0 {
		printer.Fprintf(a.out, "next: meshc vet %s\n", out)
	}
	return quiet(code)
}

// What is read of objects, at most: files, and bytes of all of them together. All objects of a
// cluster come as one document, of which the reader keeps some 70 times its bytes at worst.
const (
	maxInputs     = 10_000
	maxInputBytes = 16 << 20
)

// readInputs reads files, what lies in folders, and standard input.
func readInputs(stdin io.Reader, args []string) ([]importer.Input, error) {
	var out []importer.Input
	left := int64(maxInputBytes)
	for _, arg := range args {
		if arg == "-" {
			text, err := io.ReadAll(io.LimitReader(stdin, left+1))
			if left -= int64(len(text)); err == nil && left < 0 {
				err = fmt.Errorf("there are more than %d bytes of objects: import them in parts, a namespace after the other", maxInputBytes)
			}
			if err != nil {
				return nil, fail(diag.ExitFailure, "reading standard input: %v", err)
			}
			out = append(out, importer.Input{Name: "stdin", Text: text})
			continue
		}
		names, err := objectFiles(arg)
		if err != nil {
			return nil, fail(diag.ExitFailure, "%v", err)
		}
		for _, name := range names {
			text, err := operatorfile.ReadAtMost(name, left)
			if err != nil {
				return nil, fail(diag.ExitFailure, "reading objects, which have %d bytes at most: %v", maxInputBytes, err)
			}
			left -= int64(len(text))
			if out = append(out, importer.Input{Name: filepath.ToSlash(name), Text: text}); len(out) > maxInputs {
				return nil, fail(diag.ExitFailure, "there are more than %d files", maxInputs)
			}
		}
	}
	return out, nil
}

// objectFiles are a file, or those below a folder that by their names hold objects.
func objectFiles(arg string) ([]string, error) {
	info, err := os.Stat(arg)
	if err != nil || !info.IsDir() {
		return []string{arg}, err
	}
	var out []string
	err = filepath.WalkDir(arg, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
			out = append(out, name)
		}
		return err
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%q has no *.yaml, *.yml or *.json", arg)
	}
	return out, err
}
