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
		Use: "push (--branch NAME | --artifact oci://HOST/REPOSITORY:TAG | --out DIR)", Short: "Push the approved release's objects, with what proves them", Args: takes(0, 0),
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
  meshc push --out out`,
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
	a.prints(cmd, []document{{"push", pushes{}}}, textForm, jsonForm, yamlForm)
	fl.StringVar(&f.folder, "out", "", "folder to write; replaced as a whole")
	fl.StringVar(&f.key, "key", "", keyUsage)
	fl.StringVar(&f.name, "user-name", "meshc", "name of who commits, as in Git's user.name")
	fl.StringVar(&f.email, "user-email", "meshc@localhost", "address of who commits, as in Git's user.email")
	return cmd
}

func (f *pushFlags) target() branch.Target {
	return branch.Target{Clone: f.repo, Remote: f.remote, Name: f.branch}
}

func (f *pushFlags) check() error {
	if f.branch == "" && f.folder == "" && f.artifact == "" {
		return fail(diag.ExitFailure, "say where to push: --branch NAME, --artifact oci://HOST/REPOSITORY:TAG or --out DIR")
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
	done := pushes{Release: tree.Label.Release, Commit: tree.Label.Commit, Environment: tree.Label.Environment}
	tell := func(p pushed) error {
		done.Pushed = append(done.Pushed, p)
		return a.tellPushed(tree.Label, p)
	}
	if f.folder != "" {
		if err := writeTree(f.folder, tree); err != nil {
			return err
		}
		if err := tell(pushed{Folder: f.folder, New: true}); err != nil {
			return err
		}
	}
	if f.artifact != "" {
		p, err := a.pushArtifact(ctx, f, tree)
		if err == nil {
			err = tell(p)
		}
		if err != nil {
			return err
		}
	}
	if f.branch != "" {
		p, err := f.target().Push(ctx, tree, branch.Author{Ident: gitrepo.Ident{Name: f.name, Email: f.email, When: a.now()}, Signer: key})
		if err == nil {
			err = tell(pushed{Branch: f.target().String(), Commit: p.Commit, New: p.New})
		}
		if err != nil {
			return err
		}
	}
	if a.form().structured() {
		return a.document(done)
	}
	return nil
}

// pushes is what was pushed, and where.
type pushes struct {
	Release string `json:"release"`
	// Commit is that of the intent.
	Commit      string   `json:"commit"`
	Environment string   `json:"environment"`
	Pushed      []pushed `json:"pushed"`
}

// pushed is one place that has the objects now: a folder, an artifact or a branch.
type pushed struct {
	Folder   string `json:"folder,omitempty"`
	Artifact string `json:"artifact,omitempty"`
	// Digest is the artifact's, as registries have it.
	Digest string `json:"digest,omitempty"`
	// Branch is where it is and its name, Commit what it points to.
	Branch string `json:"branch,omitempty"`
	Commit string `json:"commit,omitempty"`
	// New is false if it had them before.
	New bool `json:"new"`
}

// String is the place as people read it.
func (p pushed) String() string {
	switch {
	case p.Folder != "":
		return fmt.Sprintf("folder %q", p.Folder)
	case p.Artifact != "":
		return p.Artifact + ", " + p.Digest
	}
	return fmt.Sprintf("%s, commit %.12s", p.Branch, p.Commit)
}

// tellPushed tells people what became of a push; programs get a document at the end.
func (a *app) tellPushed(l rendered.Label, p pushed) error {
	switch {
	case a.form().structured():
		return nil
	case !p.New:
		return printer.Fprintf(a.out, "nothing to push: %s has %s\n", p, l.Title())
	}
	return printer.Fprintf(a.out, "pushed %s\nto %s\n", l.Title(), p)
}

// pushArtifact pushes the tree to a registry.
func (a *app) pushArtifact(ctx context.Context, f *pushFlags, tree rendered.Tree) (pushed, error) {
	artifact, err := registry.Parse(f.artifact, f.insecure)
	if err != nil {
		return pushed{}, err
	}
	p, err := artifact.Push(ctx, tree, a.progress(f.artifact))
	return pushed{Artifact: artifact.String(), Digest: p.Digest, New: p.New}, err
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

// writeTree writes the tree to a folder that is empty or has such a tree.
func writeTree(dir string, tree rendered.Tree) error {
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
	return durable.WriteDir(dir, files, perm)
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
