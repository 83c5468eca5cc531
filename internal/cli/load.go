package cli

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/operatorfile"
	"meshc.dev/meshc/internal/printer"
)

// intentFlags say which intent to load, and how.
type intentFlags struct {
	bounds       boundFlags
	env, at, rev string
}

func (f *intentFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.env, "env", "", "environment to compile for (may be left out if there is one)")
	cmd.Flags().StringVar(&f.at, "at", "", "compile date, RFC 3339 (default: the commit's date, or now for a working tree)")
	f.bounds.add(cmd)
	completes(cmd, "env", f.environments(a, dirArg))
	cmd.ValidArgsFunction = folder
	cmd.Flags().StringVar(&f.rev, "rev", "", "read the intent at this commit instead of the working tree")
	completes(cmd, "rev", commitsIn(dirArg))
}

// dirArg is the optional argument DIR of most commands.
func dirArg(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// meshDir is the top of the mesh that DIR is, or lies in: who works in a package's folder
// asks about the mesh that it is part of.
func (a *app) meshDir(args []string) string {
	dir := dirArg(args)
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return dir
	}
	for up, at := dir, abs; !hasModule(up) && at != filepath.Dir(at); {
		if up, at = filepath.Join(up, ".."), filepath.Dir(at); hasModule(up) && hasMesh(up) {
			printer.Fprintf(a.err, "note: the mesh begins in %s\n", filepath.ToSlash(up))
			return up
		}
	}
	return dir
}

// hasModule reports whether a CUE module begins in a folder.
func hasModule(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, "cue.mod", "module.cue"))
	return err == nil && st.Mode().IsRegular()
}

// hasMesh reports whether a folder holds a package with intent, as the top of a mesh does
// and that of somebody else's module around it does not.
func hasMesh(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.cue"))
	return err == nil && slices.ContainsFunc(files, func(file string) bool {
		b, err := operatorfile.Read(file)
		return err == nil && bytes.Contains(b, []byte(`"meshc.dev/intent"`))
	})
}

// placeOf is what positions in DIR begin with: the folder as the user wrote it, so that
// they can be opened. The forms that a code host lays over the files of a repository
// begin at its top, wherever the command was started.
func placeOf(dir string, f form) string {
	if f.overlays() {
		if place, err := gitrepo.Within(dir); err == nil {
			return place
		}
	}
	return filepath.ToSlash(filepath.Clean(dir))
}

// open returns the files of DIR, in the working tree or at a commit, and the compile date.
func (f *intentFlags) open(a *app, dir string) (fs.FS, time.Time, error) {
	a.place = placeOf(dir, a.form())
	var at time.Time
	if f.at != "" {
		t, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			return nil, at, fail(diag.ExitFailure, "--at %q is not RFC 3339, such as 2027-01-31T18:00:00Z", f.at)
		}
		at = t.UTC()
	}
	if f.rev != "" {
		return f.openCommit(dir, at)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, at, fail(diag.ExitFailure, "cannot read %q: %v; name a folder with intent, or make one with `meshc init`", dir, err)
	}
	if !st.IsDir() {
		return nil, at, fail(diag.ExitFailure, "%q is a file; name the folder that holds the intent", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, at, fmt.Errorf("opening %q: %w", dir, err)
	}
	if at.IsZero() {
		at = a.now().UTC().Truncate(time.Second)
	}
	return root.FS(), at, nil
}

// openCommit returns the files of DIR at a commit of the repository that holds it.
func (f *intentFlags) openCommit(dir string, at time.Time) (fs.FS, time.Time, error) {
	snap, err := gitrepo.At(dir, f.rev, gitrepo.Options{})
	if err != nil {
		return nil, at, err
	}
	if at.IsZero() {
		commit, err := snap.Commit(snap.Head())
		if err != nil {
			return nil, at, err
		}
		at = commit.Committer.When.UTC()
	}
	fsys, err := intentAt(snap, snap.Head(), dir)
	return fsys, at, err
}

// intentAt returns the files that DIR has at a commit.
func intentAt(snap *gitrepo.Snapshot, hash, dir string) (fs.FS, error) {
	commit, err := snap.Commit(hash)
	if err != nil {
		return nil, err
	}
	fsys, err := snap.FS(commit)
	if err != nil {
		return nil, err
	}
	sub, err := gitrepo.Within(dir)
	if err != nil || sub == "." {
		return fsys, err
	}
	return fs.Sub(fsys, sub)
}

// load compiles DIR to a program, or gives a failure whose problems are told.
func (f *intentFlags) load(ctx context.Context, a *app, dir string) (*compiler.Program, error) {
	fsys, at, err := f.open(a, dir)
	if err != nil {
		return nil, err
	}
	p, ds, err := f.bounds.load(ctx, fsys, compiler.Options{Environment: f.env, At: at})
	if err != nil {
		return nil, err
	}
	if ds.HasErrors() {
		return nil, a.problems(ds)
	}
	return p, nil
}

// declared are the environments of the intent in a folder.
func (f *intentFlags) declared(ctx context.Context, a *app, dir string) ([]string, error) {
	fsys, _, err := f.open(a, dir)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, &f.bounds, func(ctx context.Context, c *compile.Compiler) ([]string, error) { return c.Environments(ctx, fsys) })
}

// problems ends a command that found errors in the intent; without one, people are told
// of the rest.
func (a *app) problems(ds diag.List) error {
	ds = a.placed(ds)
	if err := ds.Err(); err != nil {
		return err
	}
	return a.warn(ds)
}

// rendering is how this command shows problems.
func (a *app) rendering() diag.Options {
	return diag.Options{Color: a.color, ToolVersion: compiler.Version, Anywhere: path.Join(a.place, "cue.mod", "module.cue")}
}

// at makes a position start where the user is, so that it can be opened.
func (a *app) at(p diag.Pos) diag.Pos {
	if p.File != "" && a.place != "" {
		p.File = path.Join(a.place, p.File)
	}
	return p
}

// placed is at for all positions of problems.
func (a *app) placed(ds diag.List) diag.List {
	out := make(diag.List, len(ds))
	for i, d := range ds {
		d.Pos, d.Related = a.at(d.Pos), slices.Clone(d.Related)
		for j := range d.Related {
			d.Related[j].Pos = a.at(d.Related[j].Pos)
		}
		out[i] = d
	}
	return out
}

// readRelease reads a release folder and checks it.
func readRelease(dir string) (release.Release, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return release.Release{}, fmt.Errorf("opening release %q: %w", dir, err)
	}
	defer root.Close()
	r, err := release.ReadDir(root.FS())
	if err != nil {
		return r, fail(diag.ExitStale, "%q: %v; compile it again with `meshc compile`", dir, err)
	}
	return r, nil
}
