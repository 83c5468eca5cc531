// Package kubetest runs a real Kubernetes control plane for tests and the demo: etcd,
// the API server and the controllers, without a kubelet and without a scheduler.
//
// In: Options. Out: a Cluster that answers, some three seconds later, with the ways to
// talk to it. Everything listens on loopback, under keys and tokens that were made for
// this one cluster, and lies in a folder that goes with it. A pod is where its
// spec.nodeName says and runs nowhere; it becomes an endpoint when its status is made
// ready and a Node of that name exists. Nothing is left behind by
// Stop, nor by a process that was killed before it could stop. The programs are built
// from their modules by ci/tools the first time; a cluster that cannot be had is an
// error, never something left out.
package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/freeport"
)

// Service addresses are taken from these ranges, both families. ServiceIP is that of the
// Service kubernetes.default, the API server as pods know it; it has endpoints only if a
// node gives it some.
const (
	ServiceCIDR   = "10.96.0.0/16"
	ServiceCIDRv6 = "fd00:10:96::/112"
	ServiceIP     = "10.96.0.1"
)

// Admin is the user of Config and Kubeconfig. It may do everything.
const Admin = "admin"

// Options says what kind of cluster is wanted. The zero value is one with the
// controllers of workloads and nobody but Admin.
type Options struct {
	Users       []User    // besides Admin
	Controllers []string  // of kube-controller-manager; nil = Controllers()
	Progress    io.Writer // told if the programs have to be built; nil = standard error
	Audit       bool      // keep who asked for what, for Asked
	Flags       []string  // of the API server, besides ours
}

// User is somebody the API server knows by a token. What a user may do is said by RBAC
// objects, as in any cluster.
type User struct {
	Name   string
	Groups []string
}

// Cluster is a running control plane. Its owner owes a Stop.
type Cluster struct {
	Config     *rest.Config // as Admin, without a limit of requests
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface
	Kubeconfig string // file, for programs; as Admin
	Programs   string // folder with kubectl
	CA         []byte // PEM; it signed the API server's certificate
	// WebhookClientCA (PEM) signed the certificate that the API server shows to admission
	// webhooks that ask for one. Its subject's common name is WebhookClientName.
	WebhookClientCA []byte

	dir       string
	etcd, api int               // ports
	tokens    map[string]string // by user
	processes []process         // in the order of their start
	applier   applier
}

// WebhookClientName is the common name of the API server's client certificate.
const WebhookClientName = "kube-apiserver"

type process struct {
	name string
	*child.Child
}

// Controllers are the controllers that run unless others are asked for: what
// Deployments, Services, namespaces and service accounts need.
func Controllers() []string {
	return []string{
		"namespace-controller", "serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
		"endpointslice-controller", "deployment-controller", "replicaset-controller", "statefulset-controller", "job-controller",
		"garbage-collector-controller",
	}
}

// How long things may take: a start on a busy machine, and a program's own end. Its data
// are thrown away, so it need not end tidily.
const (
	startLimit = 2 * time.Minute
	stopGrace  = time.Second
	pollEvery  = 50 * time.Millisecond
)

// Start starts a cluster and returns when the API server is ready and the controllers
// work. ctx bounds the start alone. If it fails, nothing is left and the error ends in
// the last lines of each program's log.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	programs, err := tools.Find(ctx, tools.Kube(), o.Progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "meshc-kube-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for a cluster: %w", err)
	}
	c := &Cluster{dir: dir, Programs: programs, tokens: map[string]string{}}
	wait, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.start(wait, o); err != nil {
		err = fmt.Errorf("starting a cluster: %w\n%s", err, c.Logs(30))
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o Options) error {
	var ports [3]int
	for i := range ports {
		p, err := freeport.Next()
		if err != nil {
			return err
		}
		ports[i] = p
	}
	etcd, peer, api := ports[0], ports[1], ports[2]
	c.etcd, c.api = etcd, api
	if err := c.writeCredentials(o.Users); err != nil {
		return err
	}
	if err := c.write(auditPolicy, []byte(auditEverything)); err != nil {
		return err
	}
	if err := c.connect(fmt.Sprintf("https://127.0.0.1:%d", api)); err != nil {
		return err
	}
	if err := c.run("etcd", etcdFlags(c.dir, etcd, peer)...); err != nil {
		return err
	}
	flags := append(apiServerFlags(c.dir, etcd, api), o.Flags...)
	if o.Audit {
		flags = append(flags, auditFlags(c.dir)...)
	}
	if err := c.run("kube-apiserver", flags...); err != nil {
		return err
	}
	if err := c.poll(ctx, "the API server is not ready", c.ready); err != nil {
		return err
	}
	controllers := o.Controllers
	if controllers == nil {
		controllers = Controllers()
	}
	if err := c.run("kube-controller-manager", controllerFlags(c.dir, controllers)...); err != nil {
		return err
	}
	return c.poll(ctx, "no service account in the namespace default", c.hasAccount)
}

func etcdFlags(dir string, port, peer int) []string {
	client, peers := fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d", peer)
	return []string{
		"--name=default", "--data-dir=" + filepath.Join(dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers,
		"--unsafe-no-fsync", "--log-level=error", "--heartbeat-interval=50", "--election-timeout=500",
	}
}

func apiServerFlags(dir string, etcd, port int) []string {
	in := func(file string) string { return filepath.Join(dir, file) }
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcd),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--advertise-address=127.0.0.1",
		"--cert-dir=" + in("certs"), "--tls-cert-file=" + in(servingCert), "--tls-private-key-file=" + in(servingKey),
		"--token-auth-file=" + in(tokensFile), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=" + ServiceCIDR + "," + ServiceCIDRv6,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in(accountKey), "--service-account-signing-key-file=" + in(accountKey),
		"--admission-control-config-file=" + in(admissionFile),
		// Nothing may publish a loopback address as the endpoint of the Service kubernetes.
		"--endpoint-reconciler-type=none",
		// Webhooks in pods are reached at the pods' addresses: Services are rules of nodes.
		"--enable-aggregator-routing=true",
		"--allow-privileged=true", "--profiling=false",
	}
}

func controllerFlags(dir string, controllers []string) []string {
	in := func(file string) string { return filepath.Join(dir, file) }
	return []string{
		"--kubeconfig=" + in(kubeconfigOf(Admin)), "--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=false",
		"--service-account-private-key-file=" + in(accountKey), "--root-ca-file=" + in(caFile),
		"--controllers=" + strings.Join(controllers, ","),
	}
}

// run starts one of the programs. It dies with us.
func (c *Cluster) run(name string, flags ...string) error {
	p, err := child.Start(child.Spec{Path: filepath.Join(c.Programs, name), Args: flags, Dir: c.dir, Log: c.log(name), Bound: true})
	if err != nil {
		return err
	}
	c.processes = append(c.processes, process{name, p})
	return nil
}

func (c *Cluster) log(name string) string { return filepath.Join(c.dir, name+".log") }

// poll asks until the answer is yes; the end of a program ends it as well.
func (c *Cluster) poll(ctx context.Context, not string, ask func(context.Context) (bool, error)) error {
	for {
		ok, err := ask(ctx)
		if ok {
			return nil
		}
		for _, p := range c.processes {
			select {
			case <-p.Done():
				return fmt.Errorf("%s ended: %w", p.name, errors.Join(p.Err(), errors.New("see its log")))
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", not, ctx.Err(), err)
		case <-time.After(pollEvery):
		}
	}
}

func (c *Cluster) ready(ctx context.Context) (bool, error) {
	var status int
	err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status).Error()
	return err == nil && status == http.StatusOK, err
}

func (c *Cluster) hasAccount(ctx context.Context) (bool, error) {
	a, err := c.Client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && a.UID != "", err
}

// RestartAPIServer ends the API server and starts it again, on the same port and data, and
// returns when it is ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	const name = "kube-apiserver"
	c.processes = slices.DeleteFunc(c.processes, func(p process) bool {
		if p.name == name {
			p.Stop(stopGrace)
		}
		return p.name == name
	})
	if err := c.run(name, apiServerFlags(c.dir, c.etcd, c.api)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return c.poll(ctx, "the API server is not ready again", c.ready)
}

// Stop ends the cluster and removes its folder. The order matters: an API server whose
// etcd went first does not end when it is asked to. Calling it again is harmless.
func (c *Cluster) Stop() {
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].Stop(stopGrace)
	}
	c.processes = nil
	_ = os.RemoveAll(c.dir)
}

// Logs returns the last n lines of each program's log.
func (c *Cluster) Logs(n int) string {
	var b strings.Builder
	for _, p := range c.processes {
		text, err := os.ReadFile(c.log(p.name))
		if err != nil {
			text = []byte(err.Error())
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		b.WriteString("== " + p.name + "\n" + strings.Join(lines[max(0, len(lines)-n):], "\n") + "\n")
	}
	return b.String()
}
