package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) verifyCmd() *cobra.Command {
	var f approvalFlags
	var state string
	cmd := &cobra.Command{
		Use: "verify [COMMIT]", Short: "Say whether a commit may be served, or which link is missing", Args: takes(0, 1),
		Long: `Verify COMMIT exactly as the server does: the first-parent chain, every signature on
it, approval tags, statement, recompilation. Without COMMIT it is the one that
asks to be served: the head of the trust policy's ref, the target of a rollback from it
or, with positions by tag, the commit of the newest statement. While that is refused,
servers serve the newest commit before it that can be approved, or what a rollback from
that one goes back to.

A server that served something before asks for more: that it follows what it
approved last. Give its state folder with --state.`,
		Example: "  meshc verify --trust trust.yaml --repo .\n  meshc verify HEAD~1 --trust trust.yaml\n  meshc verify --trust trust.yaml --state /var/lib/meshc",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.policy(a)
			if err != nil {
				return err
			}
			if err := a.tellLimits(); err != nil {
				return err
			}
			before, err := a.storedApproval(state, t, f.env)
			if err != nil {
				return err
			}
			rev := ""
			if len(args) == 1 {
				rev = args[0]
			}
			ok, err := f.verify(cmd.Context(), a, t, rev, before)
			if err != nil {
				return err
			}
			if a.form().structured() {
				return a.document(ok.Record())
			}
			return a.approvedText(ok)
		},
	}
	f.add(cmd)
	cmd.ValidArgsFunction = f.commits()
	f.addRegistry(cmd)
	f.addCredentials(cmd)
	cmd.Flags().StringVar(&state, "state", "", "a server's state folder: verify as that server would (default: as a new one)")
	a.prints(cmd, []document{{"approval", approval.Record{}}}, textForm, jsonForm, yamlForm)
	return cmd
}

// approvedDir is where a server keeps what it approved for an environment.
func approvedDir(state, env string) string { return filepath.Join(state, "approved", env) }

// storedApproval reads what a server approved last; without a folder, nothing.
func (a *app) storedApproval(state string, t approval.Trust, env string) (approval.Approved, error) {
	if state == "" {
		return approval.Approved{}, nil
	}
	if st, err := os.Stat(state); err != nil || !st.IsDir() {
		return approval.Approved{}, fail(diag.ExitFailure, "--state: %q is no folder; name the one that the server was given", state)
	}
	ok, err := approval.NewStore(approvedDir(state, env)).Restore()
	if errors.Is(err, approval.ErrNothingStored) {
		return ok, nil
	}
	if ok.Commit() != "" {
		if err := ok.CheckFor(env, t.Repository); err != nil {
			return ok, fmt.Errorf("--state: %w", err)
		}
	}
	if err != nil && ok.Commit() != "" {
		d := diag.Warn(diag.CodeStoredApproval, diag.Pos{}, "%v; the one before is used", err)
		return ok, a.warn(diag.List{d})
	}
	return ok, err
}

// verify goes the server's way: the history first, and only then is anything compiled.
func (f *approvalFlags) verify(ctx context.Context, a *app, t approval.Trust, rev string, before approval.Approved) (approval.Approved, error) {
	snap, err := f.snapshot(ctx, t)
	if err != nil {
		return approval.Approved{}, err
	}
	snap = snap.Within(ctx)
	now, s := a.now(), before.State()
	c := approval.Candidate{Snapshot: snap, Environment: f.env, Compiler: compiler.Version}
	if rev != "" {
		c.Commit, err = f.resolve(rev)
	} else {
		c.Commit, err = approval.Next(c, s, t, now)
	}
	if err != nil {
		return approval.Approved{}, err
	}
	if c.Commit == s.Commit {
		return before, approval.CheckServed(c, s, t, now)
	}
	return approval.Judge(c, s, t, now, f.compiler(ctx, snap))
}

func (a *app) approvedText(ok approval.Approved) error {
	r := ok.Record()
	text := fmt.Sprintf("approved %s for %s\nrelease  %s\n", r.Commit, r.Environment, ok.At(a.now()).Digest())
	if r.Rollback != nil {
		text += fmt.Sprintf("rollback %s by %s, from %.12s: %q\n", r.Rollback.Tag, r.Rollback.Signer, r.Rollback.From, r.Rollback.Reason)
	}
	for _, tag := range r.Ignored {
		text += "ignored  " + tag + "\n"
	}
	return printer.Fprint(a.out, text)
}
