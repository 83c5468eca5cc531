package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/attest"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/kubetest/node"
	"meshc.dev/meshc/internal/programs"
	"meshc.dev/meshc/internal/proxypod"
	"meshc.dev/meshc/internal/testca"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == node.Word {
		os.Exit(node.Main())
	}
	os.Exit(m.Run())
}

// proxyImage is what the node has agent and Envoy as.
var proxyImage = "registry.example/meshc-proxy@sha256:" + strings.Repeat("2", 64)

// cluster is a gateway that runs in a pod, by the objects of its release.
type cluster struct {
	*edge
	*kubetest.Cluster
	node *node.Node
	keys []string // of all that were put into Secrets: a line of each
}

const inCluster = `
mesh: {namespace: "edge", mtls: {mode: "disable", owner: "test", reason: "the application has no proxy", until: "2099-01-01T00:00:00Z"}}
mesh: service: app: {port: http: number: 8080, grant: visitors: from: ["gateway/edge"], endpoints: static: [%q]}
mesh: certificate: {shop: secret: "shop-tls", other: secret: "edge/other.tls"}
mesh: gateway: edge: {
	port: {http: number: 8080, https: {number: 8443, protocol: "https"}}
	host: {
		"shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
		"other.test": {tls: certificates: ["other"], route: all: to: app: 100}
	}
}
`

func openCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{edge: &edge{t: t, approved: t.TempDir(), issuer: issuer{testca.New(t)}}}
	agent := c.build()
	envoy, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Cluster = kubetest.ForTest(t, kubetest.Options{})
	c.node = node.ForTest(t, c.Cluster, node.Options{Images: map[string]node.Image{
		proxyImage: {Files: map[string]string{"/usr/local/bin/meshc-agent": agent, "/usr/local/bin/envoy": envoy.Path}},
	}})
	machine := ""
	for _, a := range c.node.Machine {
		if a.Is4() {
			machine = a.String()
		}
	}
	c.backend = backend(t, machine)
	pods, err := attest.New(kubeapi.New(c.Config), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, wg := c.life()
	authority, _ := c.serve(ctx, wg, machine, pods)
	const head = "import \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	r := compiled(t, fstest.MapFS{
		"mesh.cue": {Data: fmt.Appendf(nil, "package mesh\n\n%smesh: trustDomain: \"mesh.local\"\nmesh: targets: kubernetes: injection: {image: %q, server: %q}\n",
			head, proxyImage, c.server.Addr().String())},
		"edge/edge.cue": {Data: fmt.Appendf(nil, "package edge\n\n"+head+inCluster, c.backend)},
		// One pod is enough here.
		"kustomize/kustomization.yaml": {Data: []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nreplicas: [{name: edge, count: 1}]\n")},
	})
	c.approve(r)
	c.apply(r, authority)
	return c
}

// build builds the agent, where the users of pods can read it.
func (c *cluster) build() (agent string) {
	c.t.Helper()
	dir := c.t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // programs are for all
			c.t.Fatal(err)
		}
	}
	if err := programs.Into(c.t.Context(), dir, "meshc-agent"); err != nil {
		c.t.Fatal(err)
	}
	return filepath.Join(dir, "meshc-agent")
}

// apply applies the objects of a release, and what a server lays beside them.
func (c *cluster) apply(r release.Release, authority *ca.Authority) {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), "release")
	if err := release.WriteDir(r, dir); err != nil {
		c.t.Fatal(err)
	}
	roots := &core.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: release.RootsConfigMap},
		Data:       map[string]string{release.RootsKey: string(ca.EncodeCertificates(authority.Bundle().X509Authorities()))},
	}
	eventually(c.t, "the release is taken", func() error {
		_, err := c.Kubectl(c.t.Context(), "apply", "--server-side", "-k", filepath.Join(dir, "kubernetes"))
		return err
	})
	if _, err := c.Client.CoreV1().ConfigMaps("edge").Create(c.t.Context(), roots, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// keep puts a pair into a Secret.
func (c *cluster) keep(name string, p pair) {
	c.t.Helper()
	c.keys = append(c.keys, strings.Split(string(p.key), "\n")[1])
	s := &core.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: core.SecretTypeTLS,
		Data: map[string][]byte{core.TLSCertKey: p.chain, core.TLSPrivateKeyKey: p.key},
	}
	secrets := c.Client.CoreV1().Secrets("edge")
	_, err := secrets.Update(c.t.Context(), s, metav1.UpdateOptions{})
	if err != nil {
		_, err = secrets.Create(c.t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// ready waits for a gateway's pod other than that one and returns its name and address.
func (c *cluster) ready(other string) (name, address string) {
	c.t.Helper()
	eventually(c.t, "a pod is ready", func() error {
		pods, err := c.Client.CoreV1().Pods("edge").List(c.t.Context(), metav1.ListOptions{LabelSelector: "app=edge"})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			for _, is := range p.Status.Conditions {
				if p.Name != other && p.DeletionTimestamp == nil && is.Type == core.PodReady && is.Status == core.ConditionTrue {
					name, address = p.Name, p.Status.PodIP
					return nil
				}
			}
		}
		return fmt.Errorf("none among %d", len(pods.Items))
	})
	return name, address
}

// says waits until the agent at an address says so of a Secret.
func (c *cluster) says(address, secret string, served bool, problem string) {
	c.t.Helper()
	eventually(c.t, "what the agent says of "+secret, func() error {
		s := statusOf(http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
			fmt.Sprintf("http://%s:%d", address, proxypod.StatusPort), "certificate/secret/edge/"+secret)
		if s.Served != served || (s.Problem == "") != (problem == "") || !strings.Contains(s.Problem, problem) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// shows waits until visitors of a host are shown the certificate.
func (c *cluster) shows(address, host, serial string) {
	c.t.Helper()
	eventually(c.t, host+" is shown with its certificate", func() error {
		a, err := ask(c.clientOf(net.JoinHostPort(address, "8443"), "h2", ""), "GET", "https://"+host+"/", "", nil)
		if err == nil && (a.status != http.StatusOK || a.serial != serial) {
			err = fmt.Errorf("%+v, want %s", a, serial)
		}
		return err
	})
}

// closed demands that visitors of a host get no connection.
func (c *cluster) closed(address, host string) {
	c.t.Helper()
	if a, err := ask(c.clientOf(net.JoinHostPort(address, "8443"), "h2", ""), "GET", "https://"+host+"/", "", nil); err == nil {
		c.t.Errorf("%s is answered: %+v", host, a)
	}
}

// load asks for a host over connections that come and ones that stay, until the returned
// function is called, which returns how often.
func (c *cluster) load(address, host string) (end func() int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	asked := 0
	for _, fresh := range []bool{true, false} {
		client := c.clientOf(net.JoinHostPort(address, "8443"), "h2", "")
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := ask(client, "GET", "https://"+host+"/", "", nil)
				if err != nil || a.status != http.StatusOK {
					c.t.Errorf("%s, under way: %+v %v", host, a, err)
				}
				mu.Lock()
				asked++
				mu.Unlock()
				if fresh {
					client.CloseIdleConnections()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() int { cancel(); wg.Wait(); return asked }
}

// A gateway's pod shows what is in the Secrets that its release names: as they are made,
// mended, renewed and deleted, with the token of its account and no other right.
func TestAGatewayShowsSecrets(t *testing.T) {
	c := openCluster(t)
	first := c.issuer.pair(t, "shop.test")
	c.keep("shop-tls", first)
	pod, address := c.ready("")
	c.shows(address, "shop.test", first.serial)

	// What is missing, or none, closes its own host, until it is mended.
	c.says(address, "other.tls", false, "there is no Secret edge/other.tls: make it")
	c.closed(address, "other.test")
	mixed := c.issuer.pair(t, "other.test")
	mixed.key = c.issuer.pair(t, "other.test").key
	end := c.load(address, "shop.test")
	c.keep("other.tls", mixed)
	c.says(address, "other.tls", false, "tls.crt and tls.key in the Secret edge/other.tls: tls: private key does not match public key")
	c.closed(address, "other.test")
	other := c.issuer.pair(t, "other.test")
	c.keep("other.tls", other)
	c.shows(address, "other.test", other.serial)
	c.says(address, "other.tls", true, "")

	// A renewal disturbs nobody, nor does a bad one, nor a deletion.
	var second pair
	for range 10 {
		second = c.issuer.pair(t, "shop.test")
		c.keep("shop-tls", second)
		c.shows(address, "shop.test", second.serial)
	}
	bad := c.issuer.pair(t, "shop.test")
	bad.chain = []byte("nothing")
	c.keep("shop-tls", bad)
	c.says(address, "shop-tls", true, "failed to find any PEM data in certificate input")
	if err := c.Client.CoreV1().Secrets("edge").Delete(t.Context(), "shop-tls", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.says(address, "shop-tls", true, "there is no Secret edge/shop-tls")
	c.shows(address, "shop.test", second.serial)
	if n := end(); n == 0 {
		t.Error("nobody asked meanwhile")
	} else {
		t.Logf("%d requests meanwhile", n)
	}

	// A pod that has had no good one closes that host alone, until it is back.
	if err := c.Client.CoreV1().Pods("edge").Delete(t.Context(), pod, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, address = c.ready(pod)
	c.shows(address, "other.test", other.serial)
	c.says(address, "shop-tls", false, "there is no Secret edge/shop-tls")
	c.closed(address, "shop.test")
	third := c.issuer.pair(t, "shop.test")
	c.keep("shop-tls", third)
	c.shows(address, "shop.test", third.serial)

	t.Run("Rights", c.rights)

	// What was good stays without an API server, and none of its keys was written anywhere.
	end = c.load(address, "shop.test")
	logs := c.node.Logs(1 << 20)
	c.Stop()
	c.says(address, "shop-tls", true, "the Kubernetes API at "+kubetest.ServiceIP+":443 does not answer about Secret edge/shop-tls")
	c.shows(address, "shop.test", third.serial)
	c.shows(address, "other.test", other.serial)
	end()
	logs += c.node.Logs(1<<20) + c.pages(address)
	for _, key := range c.keys {
		if strings.Contains(logs, key) {
			t.Error("a key is in a log or on a page of the agent")
		}
	}
	for _, words := range []string{"certificate for visitors", "there is no Secret edge/shop-tls", `visitor_certificate_problem{name="certificate/secret/edge/shop-tls"} 1`} {
		if !strings.Contains(logs, words) {
			t.Errorf("nothing says %q", words)
		}
	}
}

// rights: the account may read what the release names, and nothing else of the kind.
func (c *cluster) rights(t *testing.T) {
	c.keep("unnamed-tls", c.issuer.pair(t, "unnamed.test"))
	for _, x := range []struct{ account, verb, object, want string }{
		{"edge", "get", "secret/shop-tls", "yes"}, {"edge", "watch", "secret/shop-tls", "yes"}, {"edge", "get", "secret/other.tls", "yes"},
		{"edge", "get", "secret/unnamed-tls", "no"}, {"edge", "watch", "secret/unnamed-tls", "no"}, {"edge", "list", "secrets", "no"}, {"edge", "get", "secrets", "no"},
		{"edge", "update", "secret/shop-tls", "no"}, {"edge", "delete", "secret/shop-tls", "no"}, {"edge", "create", "secrets", "no"},
		{"default", "get", "secret/shop-tls", "no"},
	} {
		out, err := c.Kubectl(t.Context(), "auth", "can-i", x.verb, x.object, "-n", "edge", "--as", "system:serviceaccount:edge:"+x.account)
		if got := strings.TrimSpace(out); got != x.want {
			t.Errorf("%s: %s %s: %q (%v), want %s", x.account, x.verb, x.object, got, err, x.want)
		}
	}
}

// pages are what the agent at an address says of certificates.
func (c *cluster) pages(address string) string {
	c.t.Helper()
	var out strings.Builder
	for _, path := range []string{"/certificates", "/metrics", "/ready"} {
		body, err := fetch(fmt.Sprintf("http://%s:%d%s", address, proxypod.StatusPort, path))
		if err != nil {
			c.t.Error(err)
		}
		out.WriteString(body)
	}
	return out.String()
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}
