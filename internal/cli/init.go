package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) initCmd() *cobra.Command {
	var module string
	cmd := &cobra.Command{
		Use: "init [DIR]", Short: "Make a repository of intent", Args: takes(0, 1),
		Long: `Write a first root package, an example service, and a copy of the schema for the
cue command and the CUE language server. Nothing that exists is overwritten.`,
		Example: "  meshc init mesh --module git.example/shop/mesh\n  meshc init && meshc vet",
		RunE: func(_ *cobra.Command, args []string) error {
			dir := dirArg(args)
			files, err := compiler.Init(dir, module)
			if err != nil {
				return err
			}
			if ignored, err := ignoreOutput(dir); err != nil {
				return err
			} else if ignored {
				files = append(files, ".gitignore")
			}
			return a.tellWritten(wrote{Files: files, Next: "meshc vet " + dir})
		},
	}
	a.prints(cmd, []document{{"wrote", wrote{}}}, textForm, jsonForm, yamlForm)
	cmd.Flags().StringVar(&module, "module", "example.com/mesh", "path of the CUE module")
	return cmd
}

// wrote is what a command wrote for people to go on with.
type wrote struct {
	Files []string `json:"files"`
	// Next is the command that people go on with.
	Next string `json:"next"`
}

// schemaFolder is where CUE looks for the packages of others.
const schemaFolder = "cue.mod/pkg/"

func (a *app) tellWritten(w wrote) error {
	if a.form().structured() {
		return a.document(w)
	}
	for i, name := range w.Files {
		// The schema is one folder of many files, which nobody writes by hand.
		if folder := path.Dir(name); strings.HasPrefix(folder, schemaFolder) {
			if i == 0 || path.Dir(w.Files[i-1]) != folder {
				printer.Fprintf(a.out, "wrote %s, the schema\n", folder)
			}
			continue
		}
		printer.Fprintf(a.out, "wrote %s\n", name)
	}
	return printer.Fprintf(a.out, "next: %s\n", w.Next)
}

// ignored is what `meshc compile` writes where it is started, if nothing else is said.
const ignored = "/release/\n"

// ignoreOutput keeps git from taking that up, and says whether it wrote a file: one that is
// there stays as it is.
func ignoreOutput(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".gitignore"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // like every file of a repository
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("writing .gitignore: %w", err)
	}
	_, err = f.WriteString(ignored)
	return true, errors.Join(err, f.Close())
}
