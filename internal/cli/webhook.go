package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
	"meshc.dev/meshc/policies"
	"meshc.dev/meshc/webhook"
)

// webhookFlags is the whole configuration of the admission webhook.
type webhookFlags struct {
	followFlags
	listen, http, kubeconfig, url, service string
	authority                              string
}

func (a *app) webhookCmd() *cobra.Command {
	var f webhookFlags
	cmd := &cobra.Command{
		Use: "webhook --repo URL --trust FILE (--url URL | --service NAMESPACE/NAME)", Short: "Guard a cluster: refuse what was not approved, give pods their sidecar", Args: cobra.NoArgs,
		Long: `Answer the admission questions of a Kubernetes API server. An object of an approved
release must be what the release says; pods that ask for it get the sidecar of the
release; policies over objects refuse what breaks them.

The webhook writes its own configurations ("meshc-guard", "zz-meshc-inject") and puts
them back when somebody changes them. It needs the verbs get, create, update and watch on
validatingwebhookconfigurations and mutatingwebhookconfigurations, and create and patch
on events. It never removes them: while no webhook answers, what they name is refused.`,
		Example: `  meshc webhook --repo https://git.example/mesh.git --trust trust.yaml --service meshc-system/meshc-webhook
  meshc webhook --repo . --trust trust.yaml --kubeconfig admin.conf --listen 127.0.0.1:18443 --url https://127.0.0.1:18443`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.webhook(cmd.Context(), &f)
		},
	}
	f.add(cmd, "meshc-webhook-state")
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", ":8443", "address for the API server (TLS 1.3)")
	fl.StringVar(&f.http, "http", "127.0.0.1:18002", "address for /metrics, /healthz and /readyz; empty for none")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "file that leads to the cluster; default: the one in which this process is a pod")
	fl.StringVar(&f.authority, "authority", "", "secret/NAMESPACE/NAME: where replicas of the webhook keep their roots; default: each has its own in its state folder")
	fl.StringVar(&f.url, "url", "", "where the API server reaches this webhook, outside the cluster: https://host:port")
	fl.StringVar(&f.service, "service", "", "where it does inside: namespace/name of a service with port 443")
	return cmd
}

func (f *webhookFlags) check() error {
	if err := f.followFlags.check(); err != nil {
		return err
	}
	if err := checkAuthority(f.authority, kubeapi.Account{Kubeconfig: f.kubeconfig, InCluster: f.kubeconfig == ""}); err != nil {
		return err
	}
	if (f.url == "") == (f.service == "") {
		return fail(diag.ExitFailure, "say how the API server reaches this webhook: --service namespace/name inside the cluster, or --url https://host:port outside")
	}
	if f.url != "" {
		if u, err := url.Parse(f.url); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return fail(diag.ExitFailure, "--url %q is no address of a webhook; write https://host:port", f.url)
		}
		f.url = strings.TrimSuffix(f.url, "/")
		return nil
	}
	if namespace, name, ok := strings.Cut(f.service, "/"); !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return fail(diag.ExitFailure, "--service %q is no service; write namespace/name", f.service)
	}
	return nil
}

// hosts are the names that the webhook's certificate is good for.
func (f *webhookFlags) hosts() []string {
	if f.url != "" {
		u, err := url.Parse(f.url)
		if err != nil {
			return nil
		}
		return []string{u.Hostname()}
	}
	namespace, name, _ := strings.Cut(f.service, "/")
	host := name + "." + namespace + ".svc"
	return []string{host, host + ".cluster.local"}
}

func (a *app) webhook(ctx context.Context, f *webhookFlags) error {
	log := a.logger()
	t, err := f.policy(a)
	if err != nil {
		return err
	}
	cluster, err := supported(ctx, kubeapi.Account{Kubeconfig: f.kubeconfig, InCluster: f.kubeconfig == ""})
	if err != nil {
		return err
	}
	asked, err := f.asked(cluster)
	if err != nil {
		return err
	}
	repo, err := f.followed(t, cluster)
	if err != nil {
		return err
	}
	defer repo.Close()
	metrics := prometheus.NewRegistry()
	server, certs, err := a.guardian(ctx, f, cluster, metrics, log)
	if err != nil {
		return err
	}
	source, err := a.source(ctx, &f.followFlags, t, repo)
	if err != nil {
		return err
	}
	log.Info("answering", "address", server.Addr().String(), "environment", f.env, "repository", t.Repository, "ref", t.Ref)
	seen := newSourceMetrics(metrics)
	tell := func(e feed.Event) {
		seen.see(e)
		judgeBy(ctx, server, log, e)
	}
	a.cleansUp.Store(true)
	for _, before := range source.Earlier() {
		if err := server.Recall(before); err != nil {
			log.Warn("earlier release not kept", append([]any{"commit", before.Commit()}, reason(err)...)...)
		}
	}
	source.Restore(tell)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error { return certs.Run(ctx, log) })
	group.Go(func() error { return source.Run(ctx, tell) })
	group.Go(func() error { return server.Keep(ctx, asked, certs) })
	if err := ended(ctx, group, letGo); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

// asked is the cluster as the webhook sees it, and how it is asked from there.
func (f *webhookFlags) asked(cluster *kubeapi.Cluster) (webhook.Cluster, error) {
	const patience = 5 * time.Second
	client, err := cluster.Client(patience)
	if err != nil {
		return webhook.Cluster{}, err
	}
	watcher, err := cluster.Client(0)
	return webhook.Cluster{Client: client, Watcher: watcher, URL: f.url, Service: f.service}, err
}

// guardian makes the webhook on its port.
func (a *app) guardian(ctx context.Context, f *webhookFlags, cluster *kubeapi.Cluster, metrics *prometheus.Registry, log *slog.Logger) (*webhook.Server, *webhook.Certificates, error) {
	if err := os.MkdirAll(f.state, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the state folder: %w; name another one with --state", err)
	}
	where, err := shared(cluster, f.authority, kubesecret.RootsKey)
	if err != nil {
		return nil, nil, err
	}
	if where == nil {
		where = kept.File(filepath.Join(f.state, "webhook-roots.json"))
	}
	certs, err := webhook.OpenCertificates(ctx, where, f.hosts(), a.now)
	if err != nil {
		return nil, nil, err
	}
	server, err := webhook.New(webhook.Config{Listen: f.listen, HTTP: f.http, TLS: certs.TLS(), Baseline: policies.FS, Log: log, Now: a.now, Registry: metrics, Ready: certs.Ready})
	return server, certs, err
}

// judgeBy acts on what the feed found, as follow does.
func judgeBy(ctx context.Context, s *webhook.Server, log *slog.Logger, e feed.Event) {
	if e.Kind != feed.Approved {
		tellEvent(log, e)
		return
	}
	if err := s.Publish(ctx, e.Approved); err != nil {
		log.Error("release not taken, the one before stays", append([]any{"commit", e.Commit}, reason(err)...)...)
		return
	}
	log.Info("release approved", "commit", e.Commit, "release", e.Approved.At(e.At).Digest())
}
