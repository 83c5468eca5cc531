package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/attest"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
	"meshc.dev/meshc/internal/roots"
	"meshc.dev/meshc/internal/sandbox"
	xdsserver "meshc.dev/meshc/xds-server"
)

// serveFlags is the whole configuration of the server.
type serveFlags struct {
	followFlags
	cluster                              kubeapi.Account
	authority                            string
	listen, http, endpoints, trustDomain string
	peers                                []string
	ttl                                  time.Duration
	trustBundle                          string
}

func (a *app) serveCmd() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "serve --repo URL --trust FILE", Short: "Serve approved releases to proxies", Args: takes(0, 0),
		Long: `Follow a Git repository and stream each approved release to the proxies over xDS with
mutual TLS. What was approved last is kept in the state folder and served before the
repository is looked at, so that the server starts with Git down.`,
		Example: `  meshc serve --repo https://git.example/mesh.git --trust trust.yaml --state /var/lib/meshc
  meshc serve --repo ssh://git@git.example/mesh.git --trust trust.yaml --listen :18000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.serve(cmd.Context(), f)
		},
	}
	f.add(cmd, serverState)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:18000", "address for proxies (mutual TLS)")
	fl.StringVar(&f.http, "http", "127.0.0.1:18001", "address for /metrics, /healthz and /readyz; empty for none")
	fl.StringSliceVar(&f.peers, "peer", nil, "address of another server of this environment (--listen there), to exchange what proxies refused; both need the same --authority")
	fl.StringVar(&f.authority, "authority", "", "secret/NAMESPACE/NAME: where servers that share an authority keep its roots and join tokens; default: each has its own in its state folder")
	fl.StringVar(&f.endpoints, "endpoints", "", "folder with endpoint files")
	fl.StringVar(&f.cluster.Kubeconfig, "kubeconfig", "", "file that leads to a Kubernetes cluster: services are discovered there, and pods join with their own tokens")
	fl.BoolVar(&f.cluster.InCluster, "in-cluster", false, "the same for the cluster in which this process is a pod")
	fl.StringVar(&f.trustDomain, "trust-domain", "", "trust domain of the identities that are signed; default: that of the roots that are there, or else what is approved says")
	fl.StringVar(&f.trustBundle, "trust-bundle", "", "PEM file with the roots of another authority of this trust domain, such as SPIRE's: whom it has certified may connect. It is read again when it changes")
	fl.DurationVar(&f.ttl, "svid-ttl", ca.DefaultTTL, "lifetime of a proxy's certificate")
	return cmd
}

// leastTTL keeps a slip of the pen from keeping a machine busy.
const leastTTL = time.Second

// check refuses flags that cannot mean anything, before anything is made.
func (f *serveFlags) check() error {
	if err := f.followFlags.check(); err != nil {
		return err
	}
	if f.endpoints != "" {
		if st, err := os.Stat(f.endpoints); err != nil || !st.IsDir() {
			return fail(diag.ExitFailure, "--endpoints: %q is no folder; make it first, files may come later", f.endpoints)
		}
	}
	switch {
	case f.ttl < leastTTL:
		return fail(diag.ExitFailure, "--svid-ttl %v is too short: at least %v", f.ttl, leastTTL)
	}
	if err := checkAuthority(f.authority, f.cluster); err != nil {
		return err
	}
	for _, peer := range f.peers {
		if host, port, err := net.SplitHostPort(peer); err != nil || host == "" || port == "0" || !isPort(port) {
			return fail(diag.ExitFailure, "--peer %q is no address of a server; write host:port, such as mesh-2.example:18000", peer)
		}
	}
	return nil
}

// isPort reports whether it is a port's number; 0 is one that the system chooses.
func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (a *app) serve(ctx context.Context, f serveFlags) error {
	log := a.logger()
	t, err := f.policy(a)
	if err != nil {
		return err
	}
	if d, lacks := sandbox.Warning(); lacks {
		log.Warn("commits are compiled with fewer limits", "code", d.Code, "reason", d.Text, "fix", d.Fix)
	}
	cluster, err := f.connect(ctx)
	if err != nil {
		return err
	}
	repo, err := f.followed(t, cluster)
	if err != nil {
		return err
	}
	defer repo.Close()
	s := serving{log: log}
	metrics := prometheus.NewRegistry()
	s.seen = newSourceMetrics(metrics)
	if s.source, err = a.source(ctx, &f.followFlags, t, repo); err != nil {
		return err
	}
	f.trustDomain, err = a.domain(ctx, &f, cluster, t, repo)
	if errors.Is(err, context.Canceled) {
		log.Info("stopped")
		return nil
	}
	if err != nil {
		return err
	}
	s.server, s.authority, err = a.server(ctx, f, cluster, metrics, log, func() *xdsserver.Source { return sourceOf(f.repo, s.source.Condition()) })
	if err != nil {
		return err
	}
	log.Info("serving", "address", s.server.Addr().String(), "environment", f.env, "repository", t.Repository, "ref", t.Ref, "fingerprint", s.authority.Fingerprints()[0])
	if s.trusted, err = publisher(cluster, s.authority, log); err != nil {
		return err
	}
	a.cleansUp.Store(true)
	if err := s.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

// serving is the parts of a server that runs.
type serving struct {
	server    *xdsserver.Server
	authority *ca.Authority
	source    *feed.Feed
	trusted   *roots.Publisher // nil outside a cluster
	seen      *sourceMetrics
	log       *slog.Logger
}

// firstLook is how long a server that was told its trust domain waits for what is approved
// to say the same.
const firstLook = 10 * time.Second

// domain is the trust domain that a server is for: what it was told, that of its authority, or
// else of what was approved last or is approved at the first look. Roots are made once: a
// server that was told another one than what is approved has ends before it makes them.
func (a *app) domain(ctx context.Context, f *serveFlags, cluster *kubeapi.Cluster, t approval.Trust, repo *gitrepo.Repo) (string, error) {
	where, err := shared(cluster, f.authority, kubesecret.RootsKey)
	if err != nil {
		return "", err
	}
	if name, err := ca.Domain(ctx, f.state, where); name != "" || err != nil {
		return cmp.Or(f.trustDomain, name), err // whether they differ is asked when the authority is opened
	}
	said, why, err := a.approvedDomain(ctx, f, t, repo)
	switch {
	case err != nil:
		return "", err
	case f.trustDomain == "" && said == "":
		return "", append(findings(why), diag.New(diag.CodeTrustDomain, diag.Pos{}, "nothing is approved yet that would say the trust domain").
			WithFix("name it with --trust-domain as the root package does (%s if it does not)", compiler.DefaultTrustDomain)).Err()
	case f.trustDomain != "" && said != "" && said != f.trustDomain:
		return "", diag.List{diag.New(diag.CodeTrustDomain, diag.Pos{}, "--trust-domain is %q, and what is approved says %q", f.trustDomain, said).
			WithFix("leave --trust-domain out, or write %s", said)}.Err()
	}
	return cmp.Or(f.trustDomain, said), nil
}

// approvedDomain is the trust domain of what was approved last or is approved at the first
// look, "" if nothing is, with the reason.
func (a *app) approvedDomain(parent context.Context, f *serveFlags, t approval.Trust, repo *gitrepo.Repo) (name string, why, err error) {
	ctx, cancel := context.WithCancel(parent)
	if f.trustDomain != "" {
		ctx, cancel = context.WithTimeout(parent, firstLook)
	}
	defer cancel()
	first, err := a.source(ctx, &f.followFlags, t, repo)
	if err != nil {
		return "", nil, err
	}
	see := func(e feed.Event) {
		if e.Err != nil {
			why = e.Err
		}
	}
	if first.Restore(see); first.Current().Commit() == "" {
		first.Poll(ctx, see)
	}
	if ok := first.Current(); ok.Commit() != "" {
		if name, why = domainOf(ok.At(a.now())); name != "" {
			return name, nil, nil
		}
	}
	return "", why, parent.Err()
}

// domainOf is the trust domain of a release's classes, "" if it has none.
func domainOf(r release.Release) (string, error) {
	for _, class := range r.Classes() {
		o, err := r.Outline(class)
		return o.TrustDomain, err
	}
	return "", nil
}

// run serves until ctx ends or a part fails. What was approved before is there before
// the first proxy is answered.
func (s *serving) run(ctx context.Context) error {
	tell := func(e feed.Event) {
		s.seen.see(e)
		follow(ctx, s.server, s.log, e)
		if e.Kind == feed.Approved && s.trusted != nil {
			s.trusted.Serve(e.Approved.At(e.At))
		}
		s.server.SourceChanged()
	}
	recall(ctx, s.server, s.source, s.log)
	s.source.Restore(tell)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Run(ctx) })
	group.Go(func() error { return s.authority.Run(ctx, s.log) })
	group.Go(func() error { return s.source.Run(ctx, tell) })
	if s.trusted != nil {
		group.Go(func() error { return s.trusted.Run(ctx) })
	}
	return ended(ctx, group, letGo)
}

// connect says how the Kubernetes cluster is reached, nil for none.
func (f *serveFlags) connect(ctx context.Context) (*kubeapi.Cluster, error) {
	if !f.cluster.Used() {
		return nil, nil
	}
	return supported(ctx, f.cluster)
}

// supported is a way to a cluster that is not too old. One that is away may be anything.
func supported(ctx context.Context, by kubeapi.Account) (*kubeapi.Cluster, error) {
	c, err := by.Connect()
	if err != nil {
		return nil, err
	}
	return c, c.Supported(ctx)
}

// bundle is an authority's roots as PEM.
type bundle struct{ *ca.Authority }

// PEM is what is to be trusted now.
func (b bundle) PEM() []byte { return ca.EncodeCertificates(b.Bundle().X509Authorities()) }

// publisher tells the pods of a cluster which server to trust, nil without a cluster.
func publisher(cluster *kubeapi.Cluster, authority *ca.Authority, log *slog.Logger) (*roots.Publisher, error) {
	if cluster == nil {
		return nil, nil
	}
	const patience = 5 * time.Second
	client, err := cluster.Client(patience)
	if err != nil {
		return nil, err
	}
	return roots.New(client, bundle{authority}, log), nil
}

// checkAuthority refuses a flag --authority that names no Secret that can be reached.
func checkAuthority(name string, by kubeapi.Account) error {
	if name == "" {
		return nil
	}
	if _, ok := kubesecret.ParseName(name); !ok {
		return fail(diag.ExitFailure, "--authority %q is no Secret; write secret/NAMESPACE/NAME", name)
	}
	if !by.Used() {
		return fail(diag.ExitFailure, "--authority %s is in a cluster: say how it is reached, with --in-cluster or --kubeconfig", name)
	}
	return nil
}

// sharing is the cluster of a shared authority, nil if there is none.
func sharing(ctx context.Context, name string, by kubeapi.Account) (*kubeapi.Cluster, error) {
	if err := checkAuthority(name, by); err != nil || name == "" {
		return nil, err
	}
	return supported(ctx, by)
}

// shared is what servers keep in a Secret, nil if name is "".
func shared(cluster *kubeapi.Cluster, name, key string) (kept.Store, error) {
	secret, ok := kubesecret.ParseName(name)
	if !ok || cluster == nil {
		return nil, nil
	}
	return kubesecret.New(cluster, secret, key)
}

// joinTokens are those of the authority: shared as its roots are, or in the state folder.
func joinTokens(cluster *kubeapi.Cluster, authority, state string, now func() time.Time) (*ca.Tokens, error) {
	store, err := shared(cluster, authority, kubesecret.TokensKey)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return ca.OpenTokens(state, now)
	}
	name, _ := kubesecret.ParseName(authority)
	spent, err := attest.NewSpent(cluster, name.Namespace, now)
	if err != nil {
		return nil, err
	}
	return ca.SharedTokens(store, spent, now), nil
}

// recall gives the server what was approved before, for proxies that failed with what
// came after.
func recall(ctx context.Context, server *xdsserver.Server, source *feed.Feed, log *slog.Logger) {
	for _, before := range source.Earlier() {
		if err := server.Recall(ctx, before); err != nil {
			log.Warn("earlier release not kept", append([]any{"commit", before.Commit()}, reason(err)...)...)
		}
	}
}

// server makes the xDS server with the built-in certificate authority on its port.
func (a *app) server(ctx context.Context, f serveFlags, cluster *kubeapi.Cluster, metrics *prometheus.Registry, log *slog.Logger, source func() *xdsserver.Source) (*xdsserver.Server, *ca.Authority, error) {
	where, err := shared(cluster, f.authority, kubesecret.RootsKey)
	if err != nil {
		return nil, nil, err
	}
	authority, err := ca.Open(ctx, f.state, ca.Options{TrustDomain: f.trustDomain, TTL: f.ttl, Clock: a.now, Roots: where})
	if err != nil {
		return nil, nil, err
	}
	if err := f.trustOthers(authority, a.now, log); err != nil {
		return nil, nil, err
	}
	tokens, err := joinTokens(cluster, f.authority, f.state, a.now)
	if err != nil {
		return nil, nil, err
	}
	joining := ca.NewService(authority, tokens, ca.Denied(f.state), log)
	if cluster != nil {
		pods, err := attest.New(cluster, a.now)
		if err != nil {
			return nil, nil, err
		}
		joining.TakePods(pods)
	}
	server, err := xdsserver.New(xdsserver.Config{
		Listen: f.listen, HTTP: f.http, TrustDomain: f.trustDomain, EndpointDir: f.endpoints, StateDir: f.state, Log: log, Now: a.now, Registry: metrics,
		TLS:        func() (*tls.Config, error) { return authority.TLSConfig(ca.Requested), nil },
		Register:   func(r grpc.ServiceRegistrar) { joining.Register(r) },
		Owner:      func(r release.Release, resource string) string { return compiler.OwnerOf(r, resource) },
		Narrows:    compiler.Narrows,
		Kubernetes: cluster, Discovered: compiler.Discovered,
		Denied: func() (map[string]bool, error) { return ca.DeniedIDs(f.state, f.trustDomain) },
		Source: source, Ready: authority.Ready,
		Peers: xdsserver.Peers{Addresses: f.peers, TLS: authority.PeerTLS(), Check: authority.CheckServer},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("starting the server: %w", err)
	}
	return server, authority, nil
}

// trustOthers has the authority take the certificates of another one, if a flag names it.
func (f *serveFlags) trustOthers(authority *ca.Authority, now func() time.Time, log *slog.Logger) error {
	if f.trustBundle == "" {
		return nil
	}
	others, err := ca.OpenForeign(f.trustBundle, now, log)
	if err != nil {
		return fail(diag.ExitFailure, "--trust-bundle %q cannot be used: %v; write the roots of the other authority there as PEM", f.trustBundle, err)
	}
	authority.Accept(others)
	return nil
}

// follow acts on what the feed found; one line of log for each decision.
func follow(ctx context.Context, s *xdsserver.Server, log *slog.Logger, e feed.Event) {
	switch e.Kind {
	case feed.Approved:
		if err := s.Publish(ctx, e.Approved); err != nil {
			log.Error("release not published", append([]any{"commit", e.Commit}, reason(err)...)...)
			return
		}
		log.Info("release approved", "commit", e.Commit, "release", e.Approved.At(e.At).Digest())
	case feed.Refused, feed.PolicyTaken, feed.PolicyRefused, feed.Reachable, feed.Fresh, feed.Unreachable, feed.Stale, feed.Damaged, feed.NotStored, feed.Ignored:
		tellEvent(log, e)
	}
}

// tellEvent logs what is told and no more.
func tellEvent(log *slog.Logger, e feed.Event) {
	switch e.Kind {
	case feed.Refused:
		log.Warn("commit refused", append([]any{"commit", e.Commit}, reason(e.Err)...)...)
	case feed.PolicyTaken:
		log.Info("trust policy taken from its file")
	case feed.PolicyRefused:
		log.Warn("trust policy not taken, the one before stays", reason(e.Err)...)
	case feed.Reachable, feed.Fresh:
		log.Info("repository", "state", e.Kind, "commit", e.Commit)
	default:
		log.Warn("repository", append([]any{"state", e.Kind, "commit", e.Commit}, reason(e.Err)...)...)
	}
}

// reason is an error as attributes of a log line. Of several problems the first
// stands for all: the command line tells the rest.
func reason(err error) []any {
	ds := findings(err)
	if len(ds) == 0 {
		return []any{"reason", err}
	}
	out := []any{"code", ds[0].Code, "reason", ds[0].Text}
	if ds[0].Pos.File != "" {
		out = append(out, "position", ds[0].Pos.String())
	}
	if ds[0].Fix != "" {
		out = append(out, "fix", ds[0].Fix)
	}
	if len(ds) > 1 {
		out = append(out, "problems", len(ds))
	}
	return out
}
