package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/approval"
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
	clientCA, clientName                   string
	audit, drain                           time.Duration
}

func (a *app) webhookCmd() *cobra.Command {
	var f webhookFlags
	cmd := &cobra.Command{
		Use: "webhook --repo URL --trust FILE (--url URL | --service NAMESPACE/NAME)", Short: "Guard a cluster: refuse what was not approved, give pods their sidecar", Args: takes(0, 0),
		Long: `Answer the admission questions of a Kubernetes API server. An object of an approved
release must be what the release says; pods that ask for it get the sidecar of the
release; policies over objects refuse what breaks them.

The webhook writes its own configurations ("meshc-guard", "zz-meshc-inject") and puts
them back when somebody changes them. It never removes them: while no webhook answers,
what they name is refused. Now and again it looks at the objects that are there, and
writes what it finds into a ConfigMap "meshc-audit" in each namespace of the mesh.

What its account may do is in what "meshc install" prints.`,
		Example: `  meshc webhook --repo https://git.example/mesh.git --trust trust.yaml --service meshc-system/meshc-webhook
  meshc webhook --repo . --trust trust.yaml --kubeconfig admin.conf --listen 127.0.0.1:18443 --url https://127.0.0.1:18443`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.webhook(cmd.Context(), &f)
		},
	}
	f.add(cmd, webhookState)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", ":8443", "address for the API server (TLS 1.3)")
	fl.StringVar(&f.http, "http", defaultWebhookHTTP, "address for /metrics, /healthz, /readyz and /status; empty for none")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "file that leads to the cluster; default: the one in which this process is a pod")
	fl.StringVar(&f.authority, "authority", "", "secret/NAMESPACE/NAME: where replicas of the webhook keep their roots; default: each has its own in its state folder")
	fl.StringVar(&f.url, "url", "", "where the API server reaches this webhook, outside the cluster: https://host:port")
	fl.StringVar(&f.service, "service", "", "where it does inside: namespace/name of a service with port 443")
	fl.StringVar(&f.clientCA, "client-ca", "", "file (PEM) with what signed the certificate that the API server shows to webhooks; nobody else is answered then")
	fl.StringVar(&f.clientName, "client-name", "", "common name, DNS name or URI in that certificate; needed with --client-ca")
	fl.DurationVar(&f.drain, "drain", 0, "how long questions are answered still after it was told to end: until no Service leads here any more")
	fl.DurationVar(&f.audit, "audit", defaultAudit, "time between two audits of the objects that are there; 0 for none")
	cmd.AddCommand(a.webhookStatusCmd())
	return cmd
}

func (f *webhookFlags) check() error {
	if err := f.followFlags.check(); err != nil {
		return err
	}
	if err := checkAuthority(f.authority, kubeapi.Account{Kubeconfig: f.kubeconfig, InCluster: f.kubeconfig == ""}); err != nil {
		return err
	}
	if (f.clientCA == "") != (f.clientName == "") {
		return fail(diag.ExitFailure, "--client-ca and --client-name belong together: what signs API servers often signs kubelets and people too")
	}
	if f.drain < 0 || f.drain > maxDrain {
		return fail(diag.ExitFailure, "--drain %s is out of range; write 0 to %s", f.drain, maxDrain)
	}
	if f.audit != 0 && f.audit < minAudit {
		return fail(diag.ExitFailure, "--audit %s is too often; write %s or more, or 0 for none", f.audit, minAudit)
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

// How often objects are audited; the least bounds what that costs an API server.
const (
	defaultAudit = 10 * time.Minute
	minAudit     = 10 * time.Second
)

// maxDrain is longer than any cluster takes to lead its Services elsewhere.
const maxDrain = 5 * time.Minute

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
	watched, err := f.auditing(cluster)
	if err != nil {
		return err
	}
	repo, err := f.followed(t, cluster)
	if err != nil {
		return err
	}
	defer repo.Close()
	metrics := prometheus.NewRegistry()
	source, err := a.source(ctx, &f.followFlags, t, repo)
	if err != nil {
		return err
	}
	server, certs, err := a.guardian(ctx, f, cluster, metrics, log, func() []diag.Diagnostic { return problemsOf(source.Condition()) })
	if err != nil {
		return err
	}
	log.Info("answering", "address", server.Addr().String(), "environment", f.env, "repository", t.Repository, "ref", t.Ref)
	tell := telling(ctx, server, log, newSourceMetrics(metrics))
	a.cleansUp.Store(true)
	recallIn(server, source.Earlier(), log)
	source.Restore(tell)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error { return certs.Run(ctx, log) })
	group.Go(func() error { return source.Run(ctx, tell) })
	group.Go(func() error { return server.Keep(ctx, watched.Cluster, certs) })
	if f.audit > 0 {
		group.Go(func() error { return server.Audit(ctx, watched) })
	}
	if err := ended(ctx, group, f.drain+letGo); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

// telling is what becomes of the source's events: figures, and what the server judges by.
func telling(ctx context.Context, server *webhook.Server, log *slog.Logger, seen *sourceMetrics) func(feed.Event) {
	return func(e feed.Event) {
		seen.see(e)
		judgeBy(ctx, server, log, e)
	}
}

// recallIn tells the webhook what was approved before: pods of it may still be replaced.
func recallIn(server *webhook.Server, earlier []approval.Approved, log *slog.Logger) {
	for _, before := range earlier {
		if err := server.Recall(before); err != nil {
			log.Warn("earlier release not kept", append([]any{"commit", before.Commit()}, reason(err)...)...)
		}
	}
}

// auditing is the cluster as the webhook sees it.
func (f *webhookFlags) auditing(cluster *kubeapi.Cluster) (webhook.Auditing, error) {
	const patience, listing = 5 * time.Second, time.Minute
	out := webhook.Auditing{Cluster: webhook.Cluster{URL: f.url, Service: f.service}, Every: f.audit, Replica: replica()}
	var err error
	if out.Cluster.Client, err = cluster.Client(patience); err != nil {
		return out, err
	}
	if out.Cluster.Watcher, err = cluster.Client(0); err != nil {
		return out, err
	}
	out.Objects, err = cluster.Objects(listing)
	return out, err
}

// guardian makes the webhook on its port.
func (a *app) guardian(ctx context.Context, f *webhookFlags, cluster *kubeapi.Cluster, metrics *prometheus.Registry, log *slog.Logger, problems func() []diag.Diagnostic) (*webhook.Server, *webhook.Certificates, error) {
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
	conf := certs.TLS()
	if f.clientCA != "" {
		callers, err := webhook.OpenCallers(f.clientCA, f.clientName, log)
		if err != nil {
			return nil, nil, err
		}
		conf = callers.Demand(conf)
	}
	server, err := webhook.New(webhook.Config{Listen: f.listen, HTTP: f.http, TLS: conf, Baseline: policies.FS, Log: log, Now: a.now, Registry: metrics, Ready: certs.Ready, Problems: problems, Drain: f.drain})
	return server, certs, err
}

// replica names this process among several.
func replica() string {
	host, err := os.Hostname()
	if err != nil {
		host = "meshc-webhook"
	}
	return host + "-" + strings.ToLower(rand.Text()[:6])
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
