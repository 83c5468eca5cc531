// Package kubeapi reaches a Kubernetes API server.
//
// In: a kubeconfig file, or the account of the pod that this process runs in. Out:
// settings for clients, and what an API server's errors mean to somebody who can mend
// them. Requests are not slowed down here: whoever asks bounds what he asks. No error
// text has a credential in it.
package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeversion"
	"meshc.dev/meshc/internal/operatorfile"
)

// Account is how a process is known to an API server: by a kubeconfig file, or by the
// account of its pod. The zero Account is none.
type Account struct {
	// Kubeconfig is the path of a file, "" for none.
	Kubeconfig string
	// Context is the one of the file that is taken, "" for its current one.
	Context string
	// InCluster is the account of the pod.
	InCluster bool
}

// Used says whether there is any.
func (a Account) Used() bool { return a.Kubeconfig != "" || a.InCluster }

// Cluster is a way to an API server.
type Cluster struct{ Config *rest.Config }

// Connect reads the settings; it asks nobody. Problem: CodeKubeconfig.
func (a Account) Connect() (*Cluster, error) {
	c, err := a.settings()
	if err != nil {
		return nil, err
	}
	return New(c), nil
}

// New is a way to the API server of these settings, which are copied.
func New(settings *rest.Config) *Cluster {
	c := rest.CopyConfig(settings)
	c.UserAgent = "meshc"
	c.QPS = -1 // not bounded here
	c.WarningHandler = rest.NoWarnings{}
	return &Cluster{c}
}

// Client is a client whose requests end after limit; 0 means never, for those that watch.
func (c *Cluster) Client(limit time.Duration) (kubernetes.Interface, error) {
	settings := rest.CopyConfig(c.Config)
	settings.Timeout = limit
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	return client, nil
}

// Objects is a client for objects of any kind, whose requests end after limit.
func (c *Cluster) Objects(limit time.Duration) (dynamic.Interface, error) {
	settings := rest.CopyConfig(c.Config)
	settings.Timeout = limit
	client, err := dynamic.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	return client, nil
}

// asking bounds the question for the version.
const asking = 2 * time.Second

// Supported demands that the API server is one that meshc works with; whoever begins to
// use a cluster asks. One that does not answer within two seconds, or lets nobody ask,
// is no verdict: nil. Problem: CodeKubernetesOld.
func (c *Cluster) Supported(ctx context.Context) error {
	client, err := c.Client(asking)
	if err != nil {
		return err
	}
	raw, err := client.Discovery().RESTClient().Get().AbsPath("/version").MaxRetries(0).DoRaw(Quiet(ctx))
	if err != nil {
		if d := Explain(err, "get", "version", ""); d.Code == diag.CodeKubernetesOld {
			return problem(d)
		}
		return nil
	}
	var said version.Info
	if err := json.Unmarshal(raw, &said); err != nil {
		return old("what answers at %q does not say which Kubernetes it is: %v", c.Config.Host, err)
	}
	switch v, err := kubeversion.Reported(said.Major, said.Minor); {
	case err != nil:
		return old("the Kubernetes API at %q does not say its version: %v", c.Config.Host, err)
	case v < kubeversion.Oldest:
		return old("the Kubernetes API at %q is %s, and meshc needs %s or later", c.Config.Host, said.GitVersion, kubeversion.Oldest)
	}
	return nil
}

func old(why string, args ...any) error {
	return problem(diag.New(diag.CodeKubernetesOld, diag.Pos{}, why, args...).
		WithFix("check that the address is that of an API server, and upgrade the cluster to Kubernetes %s or later", kubeversion.Oldest))
}

func (a Account) settings() (*rest.Config, error) {
	switch {
	case a.Kubeconfig != "" && a.InCluster:
		return nil, problem(diag.New(diag.CodeKubeconfig, diag.Pos{}, "--kubeconfig and --in-cluster exclude each other").WithFix("keep one of them"))
	case a.InCluster:
		c, err := rest.InClusterConfig()
		if err != nil {
			return nil, problem(diag.New(diag.CodeKubeconfig, diag.Pos{}, "--in-cluster: %v", err).
				WithFix("run in a pod whose account's token is mounted, or name a file with --kubeconfig"))
		}
		return c, nil
	}
	c, err := load(a.Kubeconfig, a.Context)
	if err != nil {
		return nil, problem(diag.New(diag.CodeKubeconfig, diag.Pos{File: a.Kubeconfig}, "this kubeconfig cannot be used: %v", err).
			WithFix("`kubectl --kubeconfig %s get --raw /version` has to work", a.Kubeconfig))
	}
	return c, nil
}

// load reads a kubeconfig. One that says nothing is an error also in a pod, whose own
// account it would be to client-go. What it names is read by client-go again and again,
// without an end where it is no file.
func load(path, context string) (*rest.Config, error) {
	raw, err := operatorfile.Read(path)
	if err != nil {
		return nil, err
	}
	conf, err := clientcmd.Load(raw)
	if err != nil {
		return nil, err
	}
	var named []*string
	for _, u := range conf.AuthInfos {
		u.LocationOfOrigin = path
		named = append(named, &u.TokenFile, &u.ClientCertificate, &u.ClientKey)
	}
	for _, c := range conf.Clusters {
		c.LocationOfOrigin = path
		named = append(named, &c.CertificateAuthority)
	}
	if err := clientcmd.ResolveLocalPaths(conf); err != nil {
		return nil, err
	}
	for _, name := range named {
		if info, err := os.Stat(*name); err == nil && !info.Mode().IsRegular() { // one that is missing is told below
			return nil, fmt.Errorf("%q, which it names, is no file", *name)
		}
	}
	return clientcmd.NewNonInteractiveClientConfig(*conf, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
}

// Explain says why a request was not answered: verb and resource as in RBAC, group ""
// for the core.
func Explain(err error, verb, resource, group string) diag.Diagnostic {
	what := resource
	if group != "" {
		what += "." + group
	}
	switch {
	case apierrors.HasStatusCause(err, core.NamespaceTerminatingCause):
		return diag.New(diag.CodeKubernetesRights, diag.Pos{}, "the Kubernetes API takes no new %s in a namespace that is being deleted", what).
			WithFix("wait until it is gone (`kubectl get namespaces`), and make it again if it is still needed")
	case apierrors.IsForbidden(err):
		return diag.New(diag.CodeKubernetesRights, diag.Pos{}, "the Kubernetes API does not let meshc %s %s", verb, what).
			WithFix("allow it: apiGroups: [%q], resources: [%q], verbs: [%q] in a ClusterRole that is bound to its account; `docs/kubernetes-serving.md` has all of them", group, resource, verb)
	case apierrors.IsUnauthorized(err):
		return diag.New(diag.CodeKubernetesRights, diag.Pos{}, "the Kubernetes API does not know who meshc is (%s %s)", verb, what).
			WithFix("renew the credentials of its kubeconfig, or the token of its pod")
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return diag.New(diag.CodeKubernetesOld, diag.Pos{}, "this Kubernetes API has no %s", what).
			WithFix("meshc needs Kubernetes %s or later; check that the address is that of an API server", kubeversion.Oldest)
	}
	return diag.New(diag.CodeKubernetesAway, diag.Pos{}, "the Kubernetes API does not answer (%s %s): %v", verb, what, err).
		WithFix("check that it runs and can be reached from here; servers of meshc go on with what they know, and try again")
}

// Quiet keeps client-go from writing to standard error by itself: what went wrong is
// told by whoever asked.
func Quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, Silent()) }

// Silent is a log of client-go's kind that writes nothing.
func Silent() klog.Logger { return klog.New(nil) }

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
