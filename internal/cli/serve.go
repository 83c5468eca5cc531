package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/gitrepo"
	xdsserver "meshc.dev/meshc/xds-server"
)

// serveFlags is the whole configuration of the server.
type serveFlags struct {
	approvalFlags
	listen, http, state, endpoints, trustDomain string
	poll, ttl                                   time.Duration
	allowFile                                   bool
}

func (a *app) serveCmd() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "serve --repo URL --trust FILE", Short: "Serve approved releases to proxies", Args: cobra.NoArgs,
		Long: `Follow a Git repository and stream each approved release to the proxies over xDS with
mutual TLS. What was approved last is kept in the state folder and served before the
repository is looked at, so that the server starts with Git down.`,
		Example: "  meshc serve --repo https://git.example/mesh.git --trust trust.yaml --state /var/lib/meshc",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:18000", "address for proxies (mutual TLS)")
	fl.StringVar(&f.http, "http", "127.0.0.1:18001", "address for /metrics, /healthz and /readyz; empty for none")
	fl.StringVar(&f.state, "state", "meshc-state", "folder for keys, tokens and the last approved releases")
	fl.StringVar(&f.endpoints, "endpoints", "", "folder with endpoint files")
	fl.StringVar(&f.trustDomain, "trust-domain", "mesh.local", "trust domain of the identities that are signed")
	fl.DurationVar(&f.poll, "poll", 15*time.Second, "how often the repository is looked at")
	fl.DurationVar(&f.ttl, "svid-ttl", ca.DefaultTTL, "lifetime of a proxy's certificate")
	fl.BoolVar(&f.allowFile, "allow-local", true, "allow a repository on this machine")
	return cmd
}

func (a *app) serve(ctx context.Context, f serveFlags) error {
	log := a.logger()
	t, err := f.policy(a)
	if err != nil {
		return err
	}
	repo, err := gitrepo.Open(f.repo, t.Ref, gitrepo.Options{Schemes: gitrepo.Schemes{File: f.allowFile}})
	if err != nil {
		return err
	}
	argv0, err := self()
	if err != nil {
		return err
	}
	server, authority, err := a.server(f, log)
	if err != nil {
		return err
	}
	source, err := feed.New(feed.Config{
		Repo: repo, Trust: t, Environment: f.env, Dir: filepath.Join(f.state, "approved"), Compiler: compiler.Version,
		Compile: compileApart(argv0), Interval: f.poll, Now: a.now, Log: log,
	})
	if err != nil {
		return err
	}
	log.Info("serving", "address", server.Addr().String(), "environment", f.env, "repository", t.Repository, "ref", t.Ref, "fingerprint", authority.Fingerprints()[0])
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error { return authority.Run(ctx, log) })
	group.Go(func() error {
		return source.Run(ctx, func(e feed.Event) { follow(ctx, server, log, e) })
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

// server makes the xDS server with the built-in certificate authority on its port.
func (a *app) server(f serveFlags, log *slog.Logger) (*xdsserver.Server, *ca.Authority, error) {
	if err := os.MkdirAll(f.state, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the state folder: %w", err)
	}
	authority, err := ca.Open(f.state, ca.Options{TrustDomain: f.trustDomain, TTL: f.ttl, Clock: a.now})
	if err != nil {
		return nil, nil, err
	}
	tokens, err := ca.OpenTokens(f.state, a.now)
	if err != nil {
		return nil, nil, err
	}
	joining := ca.NewService(authority, tokens, nil, log)
	server, err := xdsserver.New(xdsserver.Config{
		Listen: f.listen, HTTP: f.http, TrustDomain: f.trustDomain, EndpointDir: f.endpoints, StateDir: f.state, Log: log, Now: a.now,
		TLS:      func() (*tls.Config, error) { return authority.TLSConfig(ca.Requested), nil },
		Register: func(r grpc.ServiceRegistrar) { joining.Register(r) },
		Owner:    func(r release.Release, resource string) string { return compiler.OwnerOf(r, resource) },
	})
	if err != nil {
		return nil, nil, fmt.Errorf("starting the server: %w", err)
	}
	return server, authority, nil
}

// follow acts on what the feed found; one line of log for each decision.
func follow(ctx context.Context, s *xdsserver.Server, log *slog.Logger, e feed.Event) {
	switch e.Kind {
	case feed.Approved:
		if err := s.Publish(ctx, e.Approved); err != nil {
			log.Error("release not published", "commit", e.Commit, "error", err)
			return
		}
		log.Info("release approved", "commit", e.Commit, "release", e.Approved.At(e.At).Digest())
	case feed.Refused:
		log.Warn("commit refused", "commit", e.Commit, "reason", e.Err)
	case feed.Reachable, feed.Fresh:
		log.Info("repository", "state", e.Kind, "commit", e.Commit)
	default:
		log.Warn("repository", "state", e.Kind, "commit", e.Commit, "reason", e.Err)
	}
}

func (a *app) statusCmd() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "status", Short: "Say which proxies run what", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return fail(1, "%v; is `meshc serve --state %s` running?", err, state)
			}
			return a.json(s)
		},
	}
	cmd.Flags().StringVar(&state, "state", "meshc-state", "the server's state folder")
	return cmd
}

func (a *app) waitCmd() *cobra.Command {
	var state string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait COMMIT", Short: "Wait until every connected proxy runs a commit", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := xdsserver.Dial(xdsserver.SocketPath(state))
			defer c.Close()
			p, err := c.Wait(ctx, args[0], nil)
			if err != nil {
				return fail(1, "waiting for %.12s: %v", args[0], err)
			}
			return a.json(p)
		},
	}
	cmd.Flags().StringVar(&state, "state", "meshc-state", "the server's state folder")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	return cmd
}

func (a *app) tokenCmd() *cobra.Command {
	var state, identity string
	var ttl time.Duration
	cmd := &cobra.Command{Use: "token", Short: "Work with join tokens"}
	create := &cobra.Command{
		Use: "create --identity NAMESPACE/ACCOUNT", Short: "Make a one-time token with which an agent gets its identity", Args: cobra.NoArgs,
		Example: "  meshc token create --identity bookinfo/reviews-v1 --ttl 10m",
		RunE: func(*cobra.Command, []string) error {
			authority, err := ca.Open(state, ca.Options{Clock: a.now})
			if err != nil {
				return err
			}
			id, err := ca.ParseIdentity(identity)
			if err != nil {
				return fail(1, "%v", err)
			}
			spiffe, err := id.SPIFFE(authority.TrustDomain())
			if err != nil {
				return fail(1, "%v", err)
			}
			tokens, err := ca.OpenTokens(state, a.now)
			if err != nil {
				return err
			}
			token, err := tokens.Create(spiffe, ttl)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "token:       %s\nfingerprint: %s\nidentity:    %s\nvalid for:   %s, once\n", token, authority.Fingerprints()[0], spiffe, ttl)
			return err
		},
	}
	create.Flags().StringVar(&state, "state", "meshc-state", "the server's state folder")
	create.Flags().StringVar(&identity, "identity", "", "namespace/account of the proxy")
	create.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "how long the token may be used")
	_ = create.MarkFlagRequired("identity")
	cmd.AddCommand(create)
	return cmd
}
