package cli

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/filewatch"
	"meshc.dev/meshc/internal/printer"
)

// watchFlags say whether a command goes on with each change of what it looks at.
type watchFlags struct{ on bool }

func (f *watchFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.on, "watch", false, "look again whenever a file changes, until Ctrl-C")
}

// rounds looks once, or with --watch after each change below one of the folders as well;
// "" is none. What a look finds wrong is told then and ends nothing; but a first look that
// cannot be taken at all does.
func (a *app) rounds(ctx context.Context, f watchFlags, of *intentFlags, look func() error, dirs ...string) error {
	if !f.on {
		return look()
	}
	switch {
	case a.form() != textForm:
		return fail(diag.ExitFailure, "--watch is for people who read: leave out -o %s", a.form())
	case of.rev != "":
		return fail(diag.ExitFailure, "--watch goes with the working tree: a commit such as %s does not change", of.rev)
	}
	var watched []string
	for _, dir := range dirs {
		if dir != "" {
			watched = append(watched, dir)
		}
	}
	w, err := filewatch.Open(watched...)
	if err != nil {
		return fail(diag.ExitFailure, "--watch: %v", err)
	}
	defer w.Close()
	defer of.bounds.close()
	var why string
	for first := true; ; first = false {
		a.newScreen(why)
		began := time.Now()
		err := look()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first && err != nil && codeOf(err) == diag.ExitFailure {
			return err
		}
		if err != nil {
			a.tellError(err)
		}
		of.bounds.standBy()
		printer.Fprintf(a.err, "looked in %v; watching %s, Ctrl-C ends\n", time.Since(began).Round(time.Millisecond), strings.Join(watched, ", "))
		changed, err := w.Next(ctx)
		if err != nil {
			return err
		}
		why = shortList(from(watched[0], changed))
	}
}

// from are files as they are called below dir, or as they are where they lie elsewhere.
func from(dir string, files []string) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = f
		if rel, err := filepath.Rel(dir, f); err == nil && filepath.IsLocal(rel) {
			out[i] = rel
		}
	}
	return out
}

// newScreen begins a round: what was there before is gone from a terminal, and ends with a
// line elsewhere.
func (a *app) newScreen(changed string) {
	if p, ok := a.out.(*printer.Writer); ok {
		p.Clear()
	}
	if changed != "" {
		printer.Fprintf(a.err, "--- %s: %s\n", a.now().Local().Format(time.TimeOnly), changed)
	}
}
