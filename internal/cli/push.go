package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/branch"
	"meshc.dev/meshc/internal/rendered/registry"
)

// pushFlags say what is pushed, and where.
type pushFlags struct {
	approvalFlags
	key, name, email                 string
	remote, branch, folder, artifact string
}

func (a *app) pushCmd() *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use: "push (--branch NAME | --artifact oci://HOST/REPOSITORY:TAG | --folder DIR)", Short: "Push the approved release's objects, with what proves them", Args: cobra.NoArgs,
		Long: `Verify and compile what servers would serve of the repository now, and write its
objects (kubernetes/, targets/) together with the signed intent that proves them
(intent.git/) to a branch, to a registry or to a folder, for Flux, Argo CD and servers
that do not reach the repository of the intent. A commit on the branch is signed with
KEY, as for approve. What is newer there stays; a signed rollback record goes back.
Registries know the user of the docker config.

Nothing is pushed that is not approved. Push again after each merge, approval tag or
rollback, and where something in the intent ends: without a change nothing is written.`,
		Example: `  meshc push --branch rendered/prod --key ci_key --trust trust.yaml
  meshc push --branch prod --remote ssh://git@git.example/rendered.git --key gpg:ci@example.com --env prod
  meshc push --artifact oci://registry.example/shop/mesh:prod
  meshc push --folder out`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.push(cmd.Context(), &f)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.branch, "branch", "", "branch to push to, such as rendered/prod")
	fl.StringVar(&f.remote, "remote", "origin", "remote of the clone at --repo, or an address, that has the branch")
	fl.StringVar(&f.artifact, "artifact", "", "artifact to push, a tag in a registry: oci://host/repository:tag")
	f.addRegistry(cmd)
	fl.StringVar(&f.folder, "folder", "", "folder to write; replaced as a whole")
	fl.StringVar(&f.key, "key", "", keyUsage)
	fl.StringVar(&f.name, "name", "meshc", "author's name")
	fl.StringVar(&f.email, "email", "meshc@localhost", "author's address")
	return cmd
}

func (f *pushFlags) target() branch.Target {
	return branch.Target{Clone: f.repo, Remote: f.remote, Name: f.branch}
}

func (f *pushFlags) check() error {
	if f.branch == "" && f.folder == "" && f.artifact == "" {
		return fail(diag.ExitFailure, "say where to push: --branch NAME, --artifact oci://HOST/REPOSITORY:TAG or --folder DIR")
	}
	if f.artifact != "" {
		if _, err := registry.Parse(f.artifact, f.insecure); err != nil {
			return err
		}
	}
	if f.branch != "" {
		return f.target().Check()
	}
	return nil
}

func (a *app) push(ctx context.Context, f *pushFlags) error {
	t, err := f.policy(a)
	if err != nil {
		return err
	}
	if err := a.tellLimits(); err != nil {
		return err
	}
	var key gitrepo.Signer
	if f.branch != "" {
		if key, err = openKey(ctx, f.key, t); err != nil {
			return err
		}
	}
	tree, err := f.tree(ctx, a, t)
	if err != nil {
		return err
	}
	if err := a.pushFolder(f.folder, tree); err != nil {
		return err
	}
	if err := a.pushArtifact(ctx, f, tree); err != nil {
		return err
	}
	if f.branch == "" {
		return nil
	}
	by := branch.Author{Ident: gitrepo.Ident{Name: f.name, Email: f.email, When: a.now()}, Signer: key}
	p, err := f.target().Push(ctx, tree, by)
	if err != nil {
		return err
	}
	return a.pushed(tree.Label, p.New, fmt.Sprintf("%s, commit %.12s", f.target(), p.Commit))
}

// pushed tells what became of a push.
func (a *app) pushed(l rendered.Label, isNew bool, where string) error {
	if !isNew {
		return printer.Fprintf(a.out, "nothing to push: %s has %s\n", where, l.Title())
	}
	return printer.Fprintf(a.out, "pushed %s\nto %s\n", l.Title(), where)
}

// pushArtifact pushes the tree to a registry.
func (a *app) pushArtifact(ctx context.Context, f *pushFlags, tree rendered.Tree) error {
	if f.artifact == "" {
		return nil
	}
	artifact, err := registry.Parse(f.artifact, f.insecure)
	if err != nil {
		return err
	}
	p, err := artifact.Push(ctx, tree, a.progress(f.artifact))
	if err != nil {
		return err
	}
	return a.pushed(tree.Label, p.New, fmt.Sprintf("%s, %s", artifact, p.Digest))
}

// progress tells how much of something large is there: a line for each tenth.
func (a *app) progress(what string) func(done, total int64) {
	const (
		large  = 4 << 20
		tenths = 10
	)
	last := int64(0)
	return func(done, total int64) {
		if total < large || done*tenths/total <= last {
			return
		}
		last = done * tenths / total
		printer.Fprintf(a.err, "pushing to %s: %d of %d MiB\n", what, done>>20, total>>20)
	}
}

// pushFolder writes the tree to a folder that is empty or has such a tree.
func (a *app) pushFolder(dir string, tree rendered.Tree) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing the folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, rendered.IntentDir)); len(entries) > 0 && err != nil {
		return rendered.Unlabelled(fmt.Sprintf("folder %q", dir))
	}
	files := map[string][]byte{}
	for _, file := range tree.Files {
		files[file.Path] = file.Bytes
	}
	const perm = 0o644
	if err := durable.WriteDir(dir, files, perm); err != nil {
		return err
	}
	return a.pushed(tree.Label, true, fmt.Sprintf("folder %q", dir))
}

// tree verifies and compiles what a server without state would serve now. While the
// head is refused, that is what was approved before it, and why is told.
func (f *pushFlags) tree(ctx context.Context, a *app, t approval.Trust) (rendered.Tree, error) {
	repo, err := f.open(t)
	if err != nil {
		return rendered.Tree{}, err
	}
	defer repo.Close()
	by, err := f.bounds.compiler(nil)
	if err != nil {
		return rendered.Tree{}, err
	}
	source, err := feed.New(feed.Config{Repo: repo, Trust: t, Environment: f.env, Compiler: compiler.Version, Compile: by.Steps, Now: a.now})
	if err != nil {
		return rendered.Tree{}, err
	}
	var refused error
	source.Poll(ctx, func(e feed.Event) {
		if e.Kind == feed.Refused || e.Kind == feed.Unreachable {
			refused = e.Err
		}
	})
	ok := source.Current()
	if ok.Commit() == "" {
		return rendered.Tree{}, errors.Join(refused, context.Cause(ctx))
	}
	if refused != nil {
		d := problemOf(feed.Refused, refused)
		d = diag.Warn(d.Code, d.Pos, "the head of %s is not approved, what comes before it is pushed: %s", t.Ref, d.Text).WithFix("%s", d.Fix)
		if err := a.warn(diag.List{d}); err != nil {
			return rendered.Tree{}, err
		}
	}
	snap, err := repo.Fetch(ctx) // the one that was judged, or a later one of the same line
	if err != nil {
		return rendered.Tree{}, err
	}
	mirror, err := snap.Within(ctx).Mirror()
	if err != nil {
		return rendered.Tree{}, err
	}
	return rendered.Of(ok, a.now(), mirror), nil
}
