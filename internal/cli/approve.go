package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/credentials"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/rendered/fluxsource"
	"meshc.dev/meshc/internal/rendered/registry"
)

// approvalFlags name what is being approved and by what rules.
type approvalFlags struct {
	bounds           boundFlags
	trust, env, repo string
	insecure         bool
	credentials      string // a folder, "" for none
}

func (f *approvalFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.trust, "trust", "trust.yaml", "the operator's trust policy")
	cmd.Flags().StringVar(&f.env, "env", "", "environment (may be left out if the trust policy has one)")
	cmd.Flags().StringVar(&f.repo, "repo", ".", "local repository of the intent")
	completes(cmd, "env", environmentsOf(&f.trust))
	f.bounds.add(cmd)
}

// addRegistry adds what commands take that read or write artifacts.
func (f *approvalFlags) addRegistry(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.insecure, "insecure-registry", false, "speak plain HTTP with an oci:// registry on this machine")
}

// addCredentials adds what commands take that read a repository somewhere else.
func (f *approvalFlags) addCredentials(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.credentials, "repo-credentials", "", "folder with the credentials by which --repo is read, in files named as Flux's Secrets have them: username and password, or bearerToken, and ca.crt; identity and known_hosts; .dockerconfigjson")
}

// policy reads the trust policy and settles the environment.
func (f *approvalFlags) policy(a *app) (approval.Trust, error) {
	t, err := a.readTrust(f.trust)
	if err != nil {
		return t, err
	}
	if f.env == "" {
		if len(t.Environments) != 1 {
			return t, fail(diag.ExitFailure, "the trust policy has the environments %s: name one with --env", strings.Join(slices.Sorted(maps.Keys(t.Environments)), ", "))
		}
		for name := range t.Environments {
			f.env = name
		}
	}
	if _, ok := t.Environments[f.env]; !ok {
		return t, fail(diag.ExitFailure, "the trust policy has no environment %q (it has %s)", f.env, strings.Join(slices.Sorted(maps.Keys(t.Environments)), ", "))
	}
	return t, nil
}

// readTrust reads a trust policy. What is wrong in it ends the command, warnings are told.
func (a *app) readTrust(path string) (approval.Trust, error) {
	t, ds := approval.LoadTrust(path)
	err := ds.Err()
	if _, missing := os.Stat(path); err != nil && missing != nil {
		return t, &failure{code: diag.ExitFailure, err: err} // nothing that the file says
	}
	if err != nil {
		return t, err
	}
	return t, a.warn(ds)
}

// snapshot reads the repository at the trust policy's ref.
func (f *approvalFlags) snapshot(ctx context.Context, t approval.Trust) (*gitrepo.Snapshot, error) {
	repo, err := f.open(t)
	if err != nil {
		return nil, err
	}
	return repo.Fetch(ctx)
}

// open opens the repository at the trust policy's ref.
func (f *approvalFlags) open(t approval.Trust) (*gitrepo.Repo, error) {
	if strings.HasPrefix(f.repo, fluxsource.Scheme) {
		return nil, fail(diag.ExitFailure, "--repo %s: sources of Flux's are followed by serve and webhook alone; give the repository", f.repo)
	}
	if strings.HasPrefix(f.repo, registry.Scheme) {
		artifact, err := registry.Parse(f.repo, f.insecure)
		if err != nil {
			return nil, err
		}
		if f.credentials != "" {
			logins, err := credentials.Open(f.credentials)
			if err != nil {
				return nil, noCredentials(err)
			}
			artifact = artifact.By(logins).Trusting(logins.Authority)
		}
		return gitrepo.OpenCarried(artifact.String(), t.Ref, artifact.Carry(), gitrepo.Options{})
	}
	o := gitrepo.Options{Schemes: gitrepo.Schemes{File: true}}
	if f.credentials != "" {
		source, err := gitrepo.ParseSource(f.repo, o.Schemes)
		if err != nil {
			return nil, err
		}
		if source.Kind == gitrepo.Local {
			return nil, fail(diag.ExitFailure, "--repo %q is a folder, which --repo-credentials are not for; leave them out", f.repo)
		}
		by, err := credentials.Open(f.credentials)
		if err != nil {
			return nil, noCredentials(err)
		}
		o.Auth.Renew = func() (gitrepo.Auth, error) { return by.Git(source.Kind) }
	}
	return gitrepo.Open(f.repo, t.Ref, o)
}

func noCredentials(err error) error {
	return fail(diag.ExitFailure, "--repo-credentials: %v; give a folder, such as a Secret that is mounted", err)
}

// resolve gives the full hash of what somebody wrote.
func (f *approvalFlags) resolve(rev string) (string, error) {
	if gitrepo.IsHash(rev) {
		return rev, nil // the repository need not be on this machine
	}
	return gitrepo.Resolve(f.repo, rev)
}

// compiler compiles commits apart, as the server does.
func (f *approvalFlags) compiler(ctx context.Context, snap *gitrepo.Snapshot) approval.Compile {
	return func(hash string) ([]approval.Step, error) {
		commit, err := snap.Commit(hash)
		if err != nil {
			return nil, err
		}
		tree, err := snap.FS(commit)
		if err != nil {
			return nil, err
		}
		by, err := f.bounds.compiler(nil)
		if err != nil {
			return nil, err
		}
		return by.Steps(ctx, tree, f.env, commit.Committer.When.UTC())
	}
}

// candidate reads the repository at its ref and compiles the commit rev ("" is the ref's).
func (f *approvalFlags) candidate(ctx context.Context, t approval.Trust, rev string) (approval.Candidate, error) {
	snap, err := f.snapshot(ctx, t)
	if err != nil {
		return approval.Candidate{}, err
	}
	c := approval.Candidate{Snapshot: snap, Environment: f.env, Commit: snap.Head(), Compiler: compiler.Version}
	if rev != "" {
		if c.Commit, err = f.resolve(rev); err != nil {
			return c, err
		}
	}
	if c.Steps, err = f.compiler(ctx, snap)(c.Commit); err != nil {
		return c, &approval.CompileError{Commit: c.Commit, Err: err}
	}
	return c, nil
}

// signed is a tag that was signed. It counts once it is pushed.
type signed struct {
	// Tag is its name below refs/tags/, Object its hash.
	Tag    string `json:"tag"`
	Object string `json:"object"`
	// Commit is what is approved, or served again after a rollback.
	Commit      string `json:"commit"`
	Environment string `json:"environment"`
	// InsteadOf is the commit that a rollback goes back from.
	InsteadOf string `json:"insteadOf,omitempty"`
}

func (a *app) tellSigned(s signed) error {
	switch {
	case a.form().structured():
		return a.document(s)
	case s.InsteadOf != "":
		printer.Fprintf(a.out, "signed %s: %.12s is to be served instead of %.12s\n", s.Tag, s.Commit, s.InsteadOf)
	default:
		printer.Fprintf(a.out, "signed %s\n", s.Tag)
	}
	return printer.Fprintf(a.out, "next: git push origin refs/tags/%s\n", s.Tag)
}

func (a *app) approveCmd() *cobra.Command {
	var f approvalFlags
	var key, name, email string
	var statement bool
	cmd := &cobra.Command{
		Use: "approve [COMMIT] [--key KEY]", Short: "Sign an approval tag, or the release statement, for a commit", Args: takes(0, 1),
		Long: `Compile COMMIT (default: the trust policy's ref) and sign a tag that names it and its
releases. Push the tag that is printed; servers look for it.

KEY is the file of a private key (SSH or PGP, with or without a passphrase), of a public
key whose private half an ssh-agent holds, or of a security key (sk-…); or gpg:ID for a
key of gpg's. Without --key it is the one key of the trust policy in the ssh-agent.`,
		Example: "  meshc approve HEAD --key ~/.ssh/id_ed25519 --trust trust.yaml\n  meshc approve --key gpg:ana@example.com\n  meshc approve --statement --key ci_key --trust trust.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.policy(a)
			if err != nil {
				return err
			}
			if err := a.tellLimits(); err != nil {
				return err
			}
			rev := ""
			if len(args) == 1 {
				rev = args[0]
			}
			k, err := openKey(cmd.Context(), key, t)
			if err != nil {
				return err
			}
			c, err := f.candidate(cmd.Context(), t, rev)
			if err != nil {
				return err
			}
			by := approval.Author{Dir: f.repo, Key: k, Ident: gitrepo.Ident{Name: name, Email: email, When: a.now()}}
			write := by.Approve
			if statement {
				write = by.Statement
			}
			tag, err := write(c, t)
			if err != nil {
				return err
			}
			return a.tellSigned(signed{Tag: tag.Name, Object: tag.Hash, Commit: c.Commit, Environment: f.env})
		},
	}
	f.add(cmd)
	a.prints(cmd, []document{{"signed", signed{}}}, textForm, jsonForm, yamlForm)
	cmd.ValidArgsFunction = f.commits()
	fl := cmd.Flags()
	fl.StringVar(&key, "key", "", keyUsage)
	fl.StringVar(&name, "user-name", "meshc", "name of who signs, as in Git's user.name")
	fl.StringVar(&email, "user-email", "meshc@localhost", "address of who signs, as in Git's user.email")
	fl.BoolVar(&statement, "statement", false, "sign the release statement instead of an approval")
	return cmd
}

func (a *app) rollbackCmd() *cobra.Command {
	var f approvalFlags
	var key, name, email, reason, from string
	cmd := &cobra.Command{
		Use: "rollback TO --reason TEXT [--key KEY]", Short: "Sign a record that an earlier commit is to be served again", Args: takes(1, 1),
		Long: `Sign a record that TO is to be served instead of the newest approved commit on the
trust policy's ref. Push the tag that is printed. Servers serve TO until something after
that commit is approved; commits that are refused do not end it.
KEY is as for approve.`,
		Example: `  meshc rollback HEAD~1 --reason "checkout fails since the canary" --key ~/.ssh/id_ed25519
  meshc rollback v12 --env prod --reason "back to what ran on Monday"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.policy(a)
			if err != nil {
				return err
			}
			snap, err := f.snapshot(cmd.Context(), t)
			if err != nil {
				return err
			}
			to, err := f.resolve(args[0])
			if err != nil {
				return err
			}
			c := approval.Candidate{Snapshot: snap.Within(cmd.Context()), Environment: f.env, Compiler: compiler.Version}
			leave, err := f.leaving(cmd.Context(), a, c, t, from)
			if err != nil {
				return err
			}
			k, err := openKey(cmd.Context(), key, t)
			if err != nil {
				return err
			}
			by := approval.Author{Dir: f.repo, Key: k, Ident: gitrepo.Ident{Name: name, Email: email, When: a.now()}}
			c.Commit = to
			if err := a.warnUnstated(c, t); err != nil {
				return err
			}
			tag, err := by.RollBack(snap, t, approval.RollbackMessage{Repository: t.Repository, Environment: f.env, From: leave, To: to, Reason: reason})
			if err != nil {
				return err
			}
			return a.tellSigned(signed{Tag: tag.Name, Object: tag.Hash, Commit: to, Environment: f.env, InsteadOf: leave})
		},
	}
	f.add(cmd)
	a.prints(cmd, []document{{"signed", signed{}}}, textForm, jsonForm, yamlForm)
	cmd.ValidArgsFunction = f.commits()
	fl := cmd.Flags()
	fl.StringVar(&key, "key", "", keyUsage)
	fl.StringVar(&name, "user-name", "meshc", "name of who signs, as in Git's user.name")
	fl.StringVar(&email, "user-email", "meshc@localhost", "address of who signs, as in Git's user.email")
	fl.StringVar(&reason, "reason", "", "why; told to everyone")
	fl.StringVar(&from, "from", "", "commit to go back from (default: the newest approved one on the trust policy's ref)")
	completes(cmd, "from", commitsIn(func([]string) string { return f.repo }))
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// leaving settles what a record goes back from: what servers have approved last, or
// from if that is named. It warns where the two are not the same.
func (f *approvalFlags) leaving(ctx context.Context, a *app, c approval.Candidate, t approval.Trust, from string) (string, error) {
	furthest, refused := approval.Furthest(c, t, a.now(), f.compiler(ctx, c.Snapshot))
	if err := c.Snapshot.Err(); err != nil {
		return "", err
	}
	if from == "" {
		if furthest == "" || refused == nil {
			return furthest, refused
		}
		d := diag.Warn(diag.CodeRollback, diag.Pos{}, "the record goes back from %.12s and not from the head of %s: %v", furthest, c.Snapshot.Ref(), refused)
		return furthest, a.warn(diag.List{d.WithFix("as soon as something after %.12s is approved, that is served: remove from the ref what must not be", furthest)})
	}
	leave, err := f.resolve(from)
	if err != nil || leave == furthest {
		return leave, err
	}
	after, err := c.Snapshot.Chain(leave, furthest)
	switch {
	case furthest == "" || errors.Is(err, gitrepo.ErrNotAncestor):
		return leave, a.warnUnapproved(c, leave, furthest, refused)
	case err != nil:
		return "", err
	}
	d := diag.Warn(diag.CodeRollback, diag.Pos{}, "a record from %.12s ends with whatever is approved after it, and %.12s, which follows it on %s, has all signatures", leave, after[0].Hash, c.Snapshot.Ref())
	return leave, a.warn(diag.List{d.WithFix("go back from %.12s (leave --from out)", furthest)})
}

// warnUnapproved tells that a rollback from there would be held up: servers verify
// everything up to its start first.
func (a *app) warnUnapproved(c approval.Candidate, leave, furthest string, refused error) error {
	if _, err := c.Snapshot.Chain(leave, c.Snapshot.Head()); refused == nil || err != nil {
		return nil // it is not on the ref: the one that was approved last, before the ref was rewritten
	}
	d := diag.Warn(diag.CodeRollback, diag.Pos{}, "servers go back from %.12s only after they have verified everything up to it, and %v", leave, refused)
	fix := "have it approved (meshc approve)"
	if furthest != "" {
		fix += fmt.Sprintf(", or go back from %.12s (leave --from out)", furthest)
	}
	return a.warn(diag.List{d.WithFix("%s", fix)})
}

// warnUnstated tells that a rollback to there takes a statement that nobody signed yet.
func (a *app) warnUnstated(to approval.Candidate, t approval.Trust) error {
	var r *approval.Refusal
	if _, err := approval.CheckHistory(to, approval.State{}, t, a.now()); !errors.As(err, &r) || r.Link != approval.LinkStatement {
		return nil
	}
	d := diag.Warn(diag.CodeRollback, diag.Pos{}, "servers go back to %.12s only with a statement about it, and there is none that counts", to.Commit)
	return a.warn(diag.List{d.WithFix("%s", r.Fix)})
}
