package cli

import (
	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) initCmd() *cobra.Command {
	var module string
	cmd := &cobra.Command{
		Use: "init [DIR]", Short: "Make a repository of intent", Args: cobra.MaximumNArgs(1),
		Long: `Write a first root package, an example service, and a copy of the schema for the
cue command and the CUE language server. Nothing that exists is overwritten.`,
		Example: "  meshc init mesh --module example.com/mesh",
		RunE: func(_ *cobra.Command, args []string) error {
			dir := dirArg(args)
			files, err := compiler.Init(dir, module)
			if err != nil {
				return err
			}
			for _, name := range files {
				printer.Fprintf(a.out, "wrote %s\n", name)
			}
			return printer.Fprintf(a.out, "next: meshc vet %s\n", dir)
		},
	}
	cmd.Flags().StringVar(&module, "module", "example.com/mesh", "path of the CUE module")
	return cmd
}
