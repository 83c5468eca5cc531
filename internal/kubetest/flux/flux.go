// Package flux runs Flux for tests and the demo: its real source-controller and
// kustomize-controller, as programs on this machine that talk to a cluster of kubetest.
//
// In: a cluster. Out: a Flux that takes GitRepositories and Kustomizations; their
// definitions are applied. Each controller acts by a token of its own service account in
// flux-system, which may do everything, as Flux's own manifests have it. Everything
// listens on loopback and lies in a folder that goes with it. The programs are built from
// their modules by ci/tools the first time; a Flux that cannot be had is an error.
package flux

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/kubetest"
)

// Namespace is where the controllers' accounts are, and where users put their objects.
const Namespace = "flux-system"

// The controllers, by the names of their programs and accounts.
const (
	source    = "source-controller"
	kustomize = "kustomize-controller"
)

// Flux is a running Flux. Its owner owes a Stop, before that of the cluster.
type Flux struct {
	cluster   *kubetest.Cluster
	dir       string
	programs  string
	processes []process
}

type process struct {
	name   string
	health string // URL
	*child.Child
}

const (
	startLimit = 2 * time.Minute
	stopGrace  = time.Second
	pollEvery  = 50 * time.Millisecond
)

// base is what the controllers need in the cluster.
const base = `
apiVersion: v1
kind: Namespace
metadata: {name: flux-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: source-controller, namespace: flux-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: kustomize-controller, namespace: flux-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cluster-reconciler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
- {kind: ServiceAccount, name: source-controller, namespace: flux-system}
- {kind: ServiceAccount, name: kustomize-controller, namespace: flux-system}
`

// Start starts Flux and returns when both controllers are ready. ctx bounds the start
// alone. If it fails, nothing is left running and the error ends in the last lines of
// each log.
func Start(ctx context.Context, c *kubetest.Cluster) (*Flux, error) {
	programs, err := tools.Find(ctx, tools.Flux(), os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "meshc-flux-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for Flux: %w", err)
	}
	f := &Flux{cluster: c, dir: dir, programs: programs}
	wait, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := f.start(wait); err != nil {
		err = fmt.Errorf("starting Flux: %w\n%s", err, f.Logs(30))
		f.Stop()
		return nil, err
	}
	return f, nil
}

func (f *Flux) start(ctx context.Context) error {
	definitions, err := filepath.Glob(filepath.Join(f.programs, "*.yaml"))
	if err != nil {
		return err
	}
	texts := []string{base}
	for _, file := range definitions {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		texts = append(texts, string(text))
	}
	if err := f.cluster.Apply(ctx, texts...); err != nil {
		return err
	}
	artifacts, err := freeport.Address()
	if err != nil {
		return err
	}
	if err := f.run(ctx, source, "--storage-path="+filepath.Join(f.dir, "artifacts"), "--storage-addr="+artifacts, "--storage-adv-addr="+artifacts); err != nil {
		return err
	}
	// What waits for another Kustomization looks again this often.
	if err := f.run(ctx, kustomize, "--requeue-dependency=1s"); err != nil {
		return err
	}
	return f.ready(ctx)
}

// run starts a controller. It dies with us.
func (f *Flux) run(ctx context.Context, name string, flags ...string) error {
	kubeconfig, err := f.kubeconfig(ctx, name)
	if err != nil {
		return err
	}
	// Each has a folder for what it unpacks.
	scratch := filepath.Join(f.dir, name)
	for _, dir := range []string{scratch, filepath.Join(f.dir, "artifacts")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	health, err := freeport.Address()
	if err != nil {
		return err
	}
	p, err := child.Start(child.Spec{
		Path: filepath.Join(f.programs, name), Dir: scratch, Log: f.log(name), Bound: true,
		Args: append([]string{"--events-addr=", "--enable-leader-election=false", "--watch-all-namespaces", "--metrics-addr=127.0.0.1:0", "--health-addr=" + health}, flags...),
		Env:  []string{"KUBECONFIG=" + kubeconfig, "RUNTIME_NAMESPACE=" + Namespace, "TMPDIR=" + scratch, "HOME=" + scratch},
	})
	if err != nil {
		return err
	}
	f.processes = append(f.processes, process{name, "http://" + health + "/readyz", p})
	return nil
}

// kubeconfig writes a file by which a program acts as an account of Flux's.
func (f *Flux) kubeconfig(ctx context.Context, account string) (string, error) {
	day := int64(24 * time.Hour / time.Second)
	t, err := f.cluster.Client.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, account, &authv1.TokenRequest{
		Spec: authv1.TokenRequestSpec{ExpirationSeconds: &day},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("getting a token of %s: %w", account, err)
	}
	file := filepath.Join(f.dir, account+".kubeconfig")
	return file, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"kubetest": {Server: f.cluster.Config.Host, CertificateAuthorityData: f.cluster.CA}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{account: {Token: t.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{"kubetest": {Cluster: "kubetest", AuthInfo: account}},
		CurrentContext: "kubetest",
	}, file)
}

// ready waits until both say that they are.
func (f *Flux) ready(ctx context.Context) error {
	for _, p := range f.processes {
		for !answers(ctx, p.health) {
			select {
			case <-p.Done():
				return fmt.Errorf("%s ended: %w", p.name, errors.Join(p.Err(), errors.New("see its log")))
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %w", p.name, ctx.Err())
			case <-time.After(pollEvery):
			}
		}
	}
	return nil
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Kind is a kind of Flux's objects, by the name of its resource.
type Kind string

// The kinds that are looked at here.
const (
	GitRepository Kind = "gitrepositories"
	OCIRepository Kind = "ocirepositories"
	Kustomization Kind = "kustomizations"
)

func (k Kind) resource() schema.GroupVersionResource {
	group := "source.toolkit.fluxcd.io"
	if k == Kustomization {
		group = "kustomize.toolkit.fluxcd.io"
	}
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: string(k)}
}

// Reconcile tells Flux to look at an object of its namespace now, as `flux reconcile` does.
func (f *Flux) Reconcile(ctx context.Context, kind Kind, name string) error {
	_, err := f.cluster.Dynamic.Resource(kind.resource()).Namespace(Namespace).Patch(ctx, name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":%q}}}`, time.Now().Format(time.RFC3339Nano)), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("asking Flux to look at %s: %w", name, err)
	}
	return nil
}

// State is what an object's status says.
type State struct {
	// Revision is what a source has, or a Kustomization has applied: "branch@sha1:hash".
	Revision string
	// Tried is what a Kustomization last tried to apply.
	Tried      string
	Conditions []Condition
}

// Condition is one of an object's conditions.
type Condition struct{ Type, Status, Reason, Message string }

// Condition returns the one of a type; the zero value if there is none.
func (s State) Condition(kind string) Condition {
	i := slices.IndexFunc(s.Conditions, func(c Condition) bool { return c.Type == kind })
	if i < 0 {
		return Condition{}
	}
	return s.Conditions[i]
}

// Has reports whether the object is ready with a commit.
func (s State) Has(commit string) bool {
	return s.Condition("Ready").Status == "True" && strings.HasSuffix(s.Revision, ":"+commit)
}

// State reads the status of an object in Flux's namespace.
func (f *Flux) State(ctx context.Context, kind Kind, name string) (State, error) {
	o, err := f.cluster.Dynamic.Resource(kind.resource()).Namespace(Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return State{}, fmt.Errorf("reading the status of %s: %w", name, err)
	}
	var s State
	if s.Revision, _, _ = unstructured.NestedString(o.Object, "status", "artifact", "revision"); s.Revision == "" {
		s.Revision, _, _ = unstructured.NestedString(o.Object, "status", "lastAppliedRevision")
	}
	s.Tried, _, _ = unstructured.NestedString(o.Object, "status", "lastAttemptedRevision")
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range list {
		field := func(name string) string {
			text, _, _ := unstructured.NestedString(c.(map[string]any), name)
			return text
		}
		s.Conditions = append(s.Conditions, Condition{field("type"), field("status"), field("reason"), field("message")})
	}
	return s, nil
}

func (f *Flux) log(name string) string { return filepath.Join(f.dir, name+".log") }

// Stop ends both controllers and removes their folder. Calling it again is harmless.
func (f *Flux) Stop() {
	for _, p := range slices.Backward(f.processes) {
		p.Stop(stopGrace)
	}
	f.processes = nil
	_ = os.RemoveAll(f.dir)
}

// Logs returns the last n lines of each controller's log.
func (f *Flux) Logs(n int) string {
	var b strings.Builder
	for _, p := range f.processes {
		text, err := os.ReadFile(f.log(p.name))
		if err != nil {
			text = []byte(err.Error())
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		b.WriteString("== " + p.name + "\n" + strings.Join(lines[max(0, len(lines)-n):], "\n") + "\n")
	}
	return b.String()
}
