package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/fluxsource"
)

// followFlags say which repository a server follows, by what rules, and where it keeps
// what was approved.
type followFlags struct {
	approvalFlags
	state string
	poll  time.Duration
}

// add adds the flags; each kind of server has a state folder of its own.
func (f *followFlags) add(cmd *cobra.Command, state string) {
	f.approvalFlags.add(cmd)
	f.addRegistry(cmd)
	f.addCredentials(cmd)
	fl := cmd.Flags()
	addState(cmd, &f.state, state, "folder for keys and the last approved releases, of this server alone")
	fl.DurationVar(&f.poll, "poll", 15*time.Second, "how often the repository is looked at")
	fl.Lookup("repo").DefValue = ""
	fl.Lookup("repo").Usage = "where the intent is followed: https://…, ssh://…, a folder on this machine; or what meshc push wrote: oci://host/repository:tag, flux://gitrepository/NAMESPACE/NAME, flux://ocirepository/NAMESPACE/NAME"
	_ = cmd.MarkFlagRequired("repo")
}

// followed opens what is followed. cluster leads to sources of Flux's; nil for none.
func (f *followFlags) followed(t approval.Trust, cluster *kubeapi.Cluster) (*gitrepo.Repo, error) {
	if !strings.HasPrefix(f.repo, fluxsource.Scheme) {
		return f.open(t)
	}
	source, err := fluxsource.Parse(f.repo)
	if err != nil {
		return nil, err
	}
	if f.credentials != "" {
		return nil, fail(diag.ExitFailure, "--repo %s is fetched by Flux, which has the credentials (the source's secretRef); leave --repo-credentials out", source)
	}
	if cluster == nil {
		return nil, fail(diag.ExitFailure, "--repo %s lies in a cluster: lead to it with --kubeconfig FILE or --in-cluster", source)
	}
	carry, err := source.Carry(cluster, rendered.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return gitrepo.OpenCarried(source.String(), t.Ref, carry, gitrepo.Options{})
}

// leastPoll keeps a slip of the pen from keeping a machine busy.
const leastPoll = 10 * time.Millisecond

func (f *followFlags) check() error {
	if f.poll < leastPoll {
		return fail(diag.ExitFailure, "--poll %v is too often: at least %v", f.poll, leastPoll)
	}
	return nil
}

// source follows the repository and the trust policy's file, and keeps what is approved in
// the state folder, which it makes.
func (a *app) source(ctx context.Context, f *followFlags, t approval.Trust, repo *gitrepo.Repo) (*feed.Feed, error) {
	if err := makeState(f.state); err != nil {
		return nil, err
	}
	by, err := f.bounds.compiler(nil)
	if err != nil {
		return nil, err
	}
	return feed.New(feed.Config{
		Repo: repo, Trust: t, Environment: f.env, Dir: approvedDir(f.state, f.env), Compiler: compiler.Version,
		Compile: by.Steps, Interval: f.poll, Now: a.now, Policies: feed.FollowPolicy(ctx, f.trust), // whoever follows logs what it tells
	})
}
