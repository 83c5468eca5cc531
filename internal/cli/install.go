package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/operatorfile"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/rendered/fluxsource"
	"meshc.dev/meshc/internal/rendered/registry"
)

// installFlags say what is installed, and where to.
type installFlags struct {
	approval               approvalFlags
	overlay, out, image    string
	secret                 string
	namespace, trustDomain string
	apply, force           bool
	cluster                clusterFlags
	timeout, poll, audit   time.Duration
}

func (a *app) installCmd() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use: "install --repo URL --trust FILE --image IMAGE@DIGEST", Short: "Print what runs meshc in a cluster", Args: takes(0, 0),
		Long: `Print the objects that run "meshc serve" and "meshc webhook" in a cluster, each with an
account that may do what it needs and no more, or write them as a kustomize base with
overlays. Nothing is asked of any cluster.

With --apply they are applied by server-side apply (field manager "meshc"): the API
server first says of all of them what would change, and only if it takes every one is
anything changed. Then it is waited until all replicas are ready.`,
		Example: `  meshc install --repo https://git.example/mesh.git --trust trust.yaml --image registry.example/meshc@sha256:… | kubectl apply --server-side -f -
  meshc install --repo https://git.example/mesh.git --trust trust.yaml --image registry.example/meshc@sha256:… --out deploy/meshc
  meshc install --repo https://git.example/mesh.git --repo-secret mesh-read --trust trust.yaml --image registry.example/meshc@sha256:… --apply
  meshc install --repo flux://gitrepository/flux-system/mesh --trust trust.yaml --image registry.example/meshc@sha256:… --apply`,
		PreRunE: func(*cobra.Command, []string) error {
			if f.apply && f.out != "" {
				return fail(diag.ExitFailure, "--out writes files and --apply changes a cluster: leave one of them out")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.install(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.approval.trust, "trust", "trust.yaml", "the operator's trust policy; it becomes a ConfigMap")
	fl.StringVar(&f.approval.env, "env", "", "environment (may be left out if the trust policy has one)")
	completes(cmd, "env", environmentsOf(&f.approval.trust))
	fl.StringVar(&f.approval.repo, "repo", "", "where the intent is followed, as the cluster reaches it: https://…, ssh://…, oci://host/repository:tag, flux://gitrepository/NAMESPACE/NAME, flux://ocirepository/NAMESPACE/NAME")
	fl.StringVar(&f.secret, "repo-secret", "", "Secret in the servers' namespace with the credentials by which --repo is read, keys as of Flux's; you make it")
	fl.StringVar(&f.image, "image", "", "image of meshc by its digest, such as registry.example/meshc@sha256:…")
	fl.StringVarP(&f.namespace, "namespace", "n", install.DefaultNamespace, "namespace of the servers")
	fl.StringVar(&f.trustDomain, "trust-domain", "mesh.local", "trust domain of the identities that are signed: the mesh's own, as its root package says; servers refuse another")
	fl.DurationVar(&f.poll, "poll", 15*time.Second, "how often the repository is looked at")
	fl.DurationVar(&f.audit, "audit", defaultAudit, "how often the webhook audits the objects that are there; 0 for never")
	fl.StringVar(&f.overlay, "overlay", string(install.Single), "how the servers run: "+list(install.Overlays()))
	choices(cmd, "overlay", words(install.Overlays())...)
	fl.StringVar(&f.out, "out", "", "folder to write a kustomize base and its overlays to, instead of printing one")
	fl.BoolVar(&f.apply, "apply", false, "apply the objects to a cluster and wait until they are ready")
	fl.BoolVar(&f.force, "force-conflicts", false, "with --apply: take fields that somebody else applied")
	fl.DurationVar(&f.timeout, "timeout", 5*time.Minute, "with --apply: how long to wait; 0 for not at all")
	f.cluster.add(cmd)
	_ = cmd.MarkFlagRequired("repo")
	_ = cmd.MarkFlagRequired("image")
	return cmd
}

// clusterFlags say which cluster a person means.
type clusterFlags struct{ kubeconfig, context string }

func (f *clusterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "file that leads to the cluster (default: $KUBECONFIG, or ~/.kube/config)")
	cmd.Flags().StringVar(&f.context, "context", "", "context of that file (default: its current one)")
}

func (f *clusterFlags) connect() (*kubeapi.Cluster, error) {
	path := f.kubeconfig
	if path == "" {
		path = os.Getenv("KUBECONFIG")
	}
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fail(diag.ExitFailure, "there is no kubeconfig: %v; name one with --kubeconfig", err)
		}
		path = filepath.Join(home, ".kube", "config")
	}
	return kubeapi.Account{Kubeconfig: path, Context: f.context}.Connect()
}

func words[T ~string](in []T) []string {
	var out []string
	for _, w := range in {
		out = append(out, string(w))
	}
	return out
}

// list writes words as a sentence does.
func list[T ~string](in []T) string {
	all := words(in)
	if last := len(all) - 1; last > 0 {
		return strings.Join(all[:last], ", ") + " or " + all[last]
	}
	return strings.Join(all, "")
}

func (a *app) install(ctx context.Context, f installFlags) error {
	s, err := f.settings(a)
	if err != nil {
		return err
	}
	tree, err := install.Tree(s)
	if err != nil {
		return err
	}
	if f.out != "" {
		return a.writeTree(f.out, tree)
	}
	objects, err := install.Render(tree, install.Overlay(f.overlay))
	if err != nil {
		return err
	}
	if f.apply {
		return a.applyObjects(ctx, f, tree, objects)
	}
	text, err := install.YAML(objects)
	if err != nil {
		return err
	}
	return printer.Fprint(a.out, string(text))
}

// answering bounds what an API server is asked before anything is waited for.
const answering = time.Minute

func (a *app) applyObjects(ctx context.Context, f installFlags, tree map[string][]byte, objects []*unstructured.Unstructured) error {
	cluster, err := f.cluster.connect()
	if err != nil {
		return err
	}
	to, err := install.NewCluster(cluster, f.force)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	if err := cluster.Supported(asking); err != nil {
		return err
	}
	changes, err := to.Plan(asking, objects)
	if err != nil {
		return err
	}
	if f.secret != "" {
		if err := to.HasSecret(asking, f.namespace, f.secret); err != nil {
			return err
		}
	}
	for _, c := range changes {
		a.tellChange(c)
	}
	if err := to.Apply(asking, changes, func(c install.Change) { printer.Fprintf(a.out, "applied %s\n", c.Name()) }); err != nil {
		return err
	}
	obsolete, err := to.Obsolete(asking, tree, install.Overlay(f.overlay))
	if err != nil {
		return err
	}
	for _, o := range obsolete {
		if err := to.Remove(asking, o); err != nil {
			return err
		}
		printer.Fprintf(a.out, "removed %s %s/%s, of an earlier installation\n", o.GetKind(), o.GetNamespace(), o.GetName())
	}
	if f.timeout == 0 {
		return nil
	}
	client, err := cluster.Client(10 * time.Second)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := install.Await(waiting, client, objects, func(s string) { printer.Fprintf(a.out, "%s\n", s) }); err != nil {
		return err
	}
	return printer.Fprintf(a.out, "meshc runs in %s; next: meshc doctor\n", f.namespace)
}

func (a *app) tellChange(c install.Change) {
	switch {
	case c.New:
		printer.Fprintf(a.out, "new       %s\n", c.Name())
	case c.Same():
		printer.Fprintf(a.out, "unchanged %s\n", c.Name())
	default:
		printer.Fprintf(a.out, "changed   %s\n", c.Name())
		for _, field := range c.Fields {
			printer.Fprintf(a.out, "  %s\n", field)
		}
	}
}

// An image by its digest, a namespace, a trust domain: what cannot be one is refused here,
// and not by an API server when half is applied.
var (
	imagePattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}$`)
	secretPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	labelPattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	domainPattern = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)
)

// settings checks the flags.
func (f *installFlags) settings(a *app) (install.Settings, error) {
	s := install.Settings{Namespace: f.namespace, Image: f.image, Repository: f.approval.repo, RepositorySecret: f.secret, TrustDomain: f.trustDomain, Poll: f.poll, Audit: f.audit}
	switch {
	case f.poll < leastPoll:
		return s, fail(diag.ExitFailure, "--poll %v is too often: at least %v", f.poll, leastPoll)
	case f.audit != 0 && f.audit < minAudit:
		return s, fail(diag.ExitFailure, "--audit %v is too often: at least %v, or 0 for never", f.audit, minAudit)
	case !slices.Contains(install.Overlays(), install.Overlay(f.overlay)):
		return s, fail(diag.ExitFailure, "--overlay %q is unknown; write %s", f.overlay, list(install.Overlays()))
	case !imagePattern.MatchString(f.image):
		return s, fail(diag.ExitFailure, "--image %q is no image by its digest; write registry.example/meshc@sha256:… (a tag may become another image)", f.image)
	case !labelPattern.MatchString(f.namespace):
		return s, fail(diag.ExitFailure, "--namespace %q is no name of a namespace; write something like %s", f.namespace, install.DefaultNamespace)
	case f.secret != "" && !secretPattern.MatchString(f.secret):
		return s, fail(diag.ExitFailure, "--repo-secret is no name of a Secret in %s; write its name, never what is in it", f.namespace)
	case f.secret == install.ServerSecret || f.secret == install.WebhookSecret:
		return s, fail(diag.ExitFailure, "--repo-secret %s is where servers keep their own keys; make another one for the repository", f.secret)
	case !domainPattern.MatchString(f.trustDomain):
		return s, fail(diag.ExitFailure, "--trust-domain %q is none; write something like mesh.local", f.trustDomain)
	}
	if err := reachable(f.approval.repo, f.secret != ""); err != nil {
		return s, err
	}
	if _, err := f.approval.policy(a); err != nil {
		return s, err
	}
	s.Environment = f.approval.env
	var err error
	if s.Trust, err = operatorfile.Read(f.approval.trust); err != nil {
		return s, fmt.Errorf("reading the trust policy: %w", err)
	}
	return s, alone(s.Trust)
}

// reachable refuses what no pod can follow.
func reachable(repo string, secret bool) error {
	switch {
	case strings.HasPrefix(repo, fluxsource.Scheme):
		source, err := fluxsource.Parse(repo)
		if err == nil && secret {
			err = fail(diag.ExitFailure, "--repo %s is fetched by Flux, which has the credentials (the source's secretRef); leave --repo-secret out", source)
		}
		return err
	case strings.HasPrefix(repo, registry.Scheme):
		_, err := registry.Parse(repo, false)
		return err
	}
	source, err := gitrepo.ParseSource(repo, gitrepo.Schemes{})
	switch {
	case err != nil:
		return err
	case source.Kind != gitrepo.Local:
		return nil
	case !filepath.IsAbs(repo):
		return fail(diag.ExitFailure, "--repo %q is on this machine, where the cluster does not find it; write https://…, ssh://…, oci://… or flux://…", repo)
	case secret:
		return fail(diag.ExitFailure, "--repo %q is a folder, which --repo-secret is not for; leave it out", repo)
	}
	return nil
}

// alone refuses a trust policy that names other files: the pods get this one.
func alone(policy []byte) error {
	var p struct {
		Signers map[string]struct {
			Keys []struct {
				PGPFile string `json:"pgpFile"`
			} `json:"keys"`
		} `json:"signers"`
	}
	if err := yaml.Unmarshal(policy, &p); err != nil {
		return fmt.Errorf("reading the trust policy: %w", err)
	}
	for name, s := range p.Signers {
		for _, k := range s.Keys {
			if k.PGPFile != "" {
				return fail(diag.ExitFailure, "the trust policy takes a key of %q from the file %q, which the pods do not have; write the key into the policy, as `pgp`", name, k.PGPFile)
			}
		}
	}
	return nil
}

// writeTree writes base and overlays, each in place of what an earlier one wrote there.
func (a *app) writeTree(dir string, tree map[string][]byte) error {
	folders := map[string]map[string][]byte{}
	for name, text := range tree {
		folder, file := filepath.Split(filepath.FromSlash(name))
		folder = filepath.Clean(folder)
		if folders[folder] == nil {
			folders[folder] = map[string][]byte{}
		}
		folders[folder][file] = text
	}
	var names []string
	for name := range folders {
		names = append(names, name)
		if err := ours(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := durable.WriteDir(filepath.Join(dir, name), folders[name], 0o644); err != nil {
			return err
		}
		printer.Fprintf(a.out, "wrote %s\n", filepath.ToSlash(filepath.Join(dir, name)))
	}
	return printer.Fprintf(a.out, "next: kubectl apply --server-side -k %s\n", filepath.ToSlash(filepath.Join(dir, "overlays", string(install.Single))))
}

// ours refuses a folder that holds what we did not write.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err == nil {
		var text []byte
		if text, err = operatorfile.Read(filepath.Join(dir, "kustomization.yaml")); err == nil && strings.HasPrefix(string(text), install.Header) {
			return nil
		}
	}
	return fail(diag.ExitFailure, "--output: %q holds what meshc did not write; name another folder", dir)
}
