package monitoring

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/programs"
	"meshc.dev/meshc/internal/testca"
)

const (
	// Two environments of one mesh: of processes on this machine, and of the cluster whose objects
	// the webhook guards.
	hosts, cluster = "hosts", "cluster"
	trustDomain    = "shop.example"
	patience       = 90 * time.Second
)

// mesh is a shop whose limiter and authorizer are away: requests about which they are asked are let
// through, and counted.
const mesh = `package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {
	owner: "platform"
	trustDomain: "shop.example"
	environment: {hosts: capture: "explicit", cluster: {}}
	telemetry: metrics: {}
	limiter: all: to: "platform/limits"
}
`

const platform = `package platform

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "platform"
mesh: authorizer: opa: {to: "policies", failOpen: true}
mesh: service: {
	limits: {port: grpc: {number: 8081, protocol: "grpc"}, grant: asked: namespaces: ["shop"]}
	policies: {port: grpc: {number: 9191, protocol: "grpc"}, grant: asked: namespaces: ["shop"]}
}
`

const shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {namespace: "shop", owner: "team-shop"}
mesh: gateway: edge: {
	port: {http: {}, https: {protocol: "https"}}
	host: {
		"shop.example": {ports: ["http"], route: {
			all: to: web: 100
			orders: {match: path: prefix: "/orders", to: orders: 100}
		}}
		"secure.example": {tls: certificates: ["shop"], ports: ["https"], route: all: to: web: 100}
	}
}
mesh: service: {
	web: {port: http: number: 8080, calls: orders: {}, grant: visitors: from: ["gateway/edge"]}
	orders: {
		port: http: number: 8080
		grant: {
			reads: {from: ["web", "gateway/edge"], methods: ["GET"]}
			writes: {from: ["web"], methods: ["POST"], shadow: true}
		}
		deny: old: {mesh: true, paths: ["/orders/old/*"], shadow: true}
		quota: tenants: {limiter: "all", onFailure: "admit", requests: 1000, per: "1m"}
		authorize: "platform/opa": {}
		rateLimit: few: {requests: 20, per: "1m", shadow: true}
	}
}
`

// targets has the webhook asked about pods.
const targets = `package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: targets: kubernetes: injection: {
	image: "registry.example/meshc-proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	server: "meshc.meshc-system.svc:18000"
}
`

// at says where everything is on this machine.
const at = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: certificate: shop: file: "shop"
mesh: gateway: edge: {address: "127.0.0.1", port: {http: number: %d, https: number: %d}}
mesh: service: {
	web: version: default: {port: http: {address: "127.0.0.1:%d", app: %d}, calls: orders: local: %d}
	orders: version: default: port: http: {address: "127.0.0.1:%d", app: %d}
}
`

const atPlatform = `package platform

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: service: {
	limits: version: default: port: grpc: {address: "127.0.0.1:%d", app: %d}
	policies: version: default: port: grpc: {address: "127.0.0.1:%d", app: %d}
}
`

// world is a mesh on this machine, a cluster that its webhook guards, and a Prometheus.
type world struct {
	*kubetest.Cluster
	t                       *testing.T
	dir, meshc, agent       string
	envoy                   string
	repo                    *people.Repo
	listen, server, webhook string   // addresses
	agents                  []string // of their status pages
	parse                   func(expr string) (any, error)
	gateway, local          string // where visitors ask, and where web's application asks for orders
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) port() int {
	w.t.Helper()
	p, err := freeport.Next()
	w.must(err)
	return p
}

func (w *world) address() string { return fmt.Sprintf("127.0.0.1:%d", w.port()) }

func (w *world) file(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	w.must(os.MkdirAll(filepath.Dir(path), 0o700))
	w.must(os.WriteFile(path, []byte(text), 0o600))
}

// newWorld returns when requests arrive.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: kubetest.ForTest(t, kubetest.Options{}), t: t, dir: t.TempDir()}
	w.must(w.Apply(t.Context(), `{apiVersion: v1, kind: Namespace, metadata: {name: meshc-system}}`,
		`{apiVersion: v1, kind: Namespace, metadata: {name: shop}}`, `{apiVersion: v1, kind: Secret, metadata: {name: meshc-webhook, namespace: meshc-system}}`))
	w.build()
	w.certificate()
	w.push()
	// Of the time before the webhook.
	w.until("a pod without a sidecar is stored", func() error { return w.Apply(t.Context(), pod("early", "")) })
	w.listen, w.server, w.webhook = w.address(), w.address(), w.address()
	w.program("serve", w.meshc, "serve", "--repo", w.repo.Origin, "--trust", "hosts.yaml", "--env", hosts, "--trust-domain", trustDomain, "--poll", "200ms",
		"--state", "server", "--listen", w.listen, "--http", w.server)
	asked := w.address()
	w.program("webhook", w.meshc, "webhook", "--repo", w.repo.Origin, "--trust", "cluster.yaml", "--env", cluster, "--poll", "200ms", "--kubeconfig", w.Kubeconfig,
		"--authority", "secret/meshc-system/meshc-webhook", "--state", "hook", "--listen", asked, "--url", "https://"+asked, "--http", w.webhook)
	for _, address := range []string{w.server, w.webhook} {
		w.until(address+" is ready", func() error { _, err := page("http://" + address + "/readyz"); return err })
	}
	for _, id := range []string{"shop/edge", "shop/web", "shop/orders"} {
		w.sidecar(id)
	}
	for _, address := range w.agents {
		w.until("a proxy is ready", func() error { _, err := page("http://" + address + "/ready"); return err })
	}
	return w
}

func (w *world) build() {
	w.t.Helper()
	bin := w.t.TempDir()
	w.meshc, w.agent = filepath.Join(bin, "meshc"), filepath.Join(bin, "meshc-agent")
	w.must(programs.Into(w.t.Context(), bin))
	envoy, err := envoybin.Find(w.t.Context(), envoybin.Options{Download: true})
	w.must(err)
	w.envoy = envoy.Path
}

// push signs the intent, with places for all of it on this machine, and what the applications are.
func (w *world) push() {
	w.t.Helper()
	signer, err := people.FindSigner(w.meshc, w.dir)
	w.must(err)
	var keys map[string]string
	w.repo, keys, err = people.New(w.t.Context(), "git", signer, w.dir)
	w.must(err)
	gateway, web, local, orders := w.port(), w.application(), w.port(), w.application()
	w.gateway, w.local = fmt.Sprintf("127.0.0.1:%d", gateway), fmt.Sprintf("127.0.0.1:%d", local)
	for name, text := range map[string]string{
		"mesh.cue": mesh, "platform/platform.cue": platform, "shop/shop.cue": shop,
		"environments/hosts/shop/at.cue":     fmt.Sprintf(at, gateway, w.port(), w.port(), web, local, w.port(), orders),
		"environments/cluster/targets.cue":   targets,
		"environments/cluster/shop/at.cue":   "package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: certificate: shop: secret: \"shop\"\nmesh: gateway: edge: port: {http: number: 80, https: number: 443}\n",
		"environments/hosts/platform/at.cue": fmt.Sprintf(atPlatform, w.port(), w.port(), w.port(), w.port()),
	} {
		w.file(filepath.Join("mesh", name), text)
	}
	root := w.commit("first release")
	for _, env := range []string{hosts, cluster} {
		w.file(env+".yaml", people.TrustPolicy(root, env, keys))
	}
}

func (w *world) commit(message string) string {
	w.t.Helper()
	hash, err := w.repo.Commit(w.t.Context(), people.Carol, true, message)
	w.must(err)
	_, err = w.repo.Run(w.t.Context(), "push", "--quiet", "origin", "main")
	w.must(err)
	return hash
}

// application answers 500 where it is asked to fail.
func (w *world) application() (port int) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/fails") {
			http.Error(rw, "no", http.StatusInternalServerError)
		}
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	w.t.Cleanup(func() { _ = s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// program runs until the test ends.
func (w *world) program(name, path string, args ...string) *child.Child {
	w.t.Helper()
	log := filepath.Join(w.dir, name+".log")
	c, err := child.Start(child.Spec{Path: path, Args: args, Dir: w.dir, Log: log, Bound: true})
	w.must(err)
	w.t.Cleanup(func() {
		c.Stop(5 * time.Second)
		if text, err := os.ReadFile(log); w.t.Failed() && err == nil {
			w.t.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return c
}

// sidecar starts agent and Envoy of an account, whose page is at an address of this machine.
func (w *world) sidecar(id string) {
	w.t.Helper()
	out, err := child.Run(w.t.Context(), child.Spec{Path: w.meshc, Dir: w.dir, Args: []string{"token", "create", "--state", "server", "--identity", id, "-o", "json"}}, time.Minute)
	w.must(err)
	var token struct{ Token, Fingerprint string }
	if err := json.Unmarshal(out.Stdout, &token); err != nil || token.Token == "" {
		w.t.Fatalf("no token: %s%s", out.Stdout, out.Stderr)
	}
	state, err := os.MkdirTemp("", "mm") // sockets want a short path
	w.must(err)
	w.t.Cleanup(func() { _ = os.RemoveAll(state) })
	file := filepath.Join(state, "token")
	w.must(os.WriteFile(file, []byte(token.Token), 0o600))
	status := w.address()
	w.agents = append(w.agents, status)
	w.program(strings.ReplaceAll(id, "/", "-"), w.agent, "--identity", id, "--join-token-file", file, "--server-fingerprint", token.Fingerprint, "--server", w.listen,
		"--state", state, "--envoy-path", w.envoy, "--status-addr", status, "--drain", "0s", "--certificates", w.dir, "--", "--concurrency", "1", "-l", "error")
}

// page is what is at an address, which has to answer 200.
func page(address string) (string, error) {
	res, err := http.Get(address)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", res.Status, body)
	}
	return string(body), err
}

func (w *world) until(what string, ok func() error) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("it never came to pass that %s: %v", what, err)
		}
	}
}

// asks sends a request: as a visitor, or as the application of web.
func (w *world) asks(address, method, path string) (int, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		return 0, err
	}
	if address == w.gateway {
		req.Host = "shop.example"
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// pod is one of the namespace's that has no sidecar.
func pod(name, capability string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop}, spec: {hostNetwork: true, containers: [{name: a, image: a, securityContext: {capabilities: {add: [%s]}}}]}}`, name, capability)
}

// certificate is one for visitors that ends soon.
func (w *world) certificate() {
	w.t.Helper()
	chain, key := testca.PEM(w.t, testca.New(w.t).Sign(w.t, &x509.Certificate{DNSNames: []string{"secure.example"}, NotAfter: time.Now().Add(time.Hour)}))
	w.file("shop/tls.crt", string(chain))
	w.file("shop/tls.key", string(key))
}

// traffic asks until the test ends: what is answered, what fails, what nobody admits, what a shadowed
// grant and a shadowed deny are about, and now and again about an object.
func (w *world) traffic() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			_ = w.Apply(ctx, pod("late", "NET_ADMIN")) // which is refused, as trouble sees to
			for _, r := range []struct{ address, method, path string }{
				{w.gateway, "GET", "/"}, {w.gateway, "GET", "/orders/1"}, {w.local, "GET", "/orders/old/1"}, {w.local, "POST", "/orders/1"}, {w.local, "GET", "/fails"},
			} {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
				}
				if _, err := w.asks(r.address, r.method, r.path); err != nil && ctx.Err() == nil {
					w.t.Errorf("%s %s: %v", r.method, r.path, err)
				}
			}
		}
	}()
}

// trouble makes what operators are woken for: a listener that Envoy refuses, an object and a commit
// that nobody approved.
func (w *world) trouble() {
	w.t.Helper()
	w.must(w.repo.Edit("mesh.cue", "telemetry: metrics: {}", "telemetry: metrics: {}\n\tcollector: nowhere: file: \"/no/such/folder/log\""))
	w.must(w.repo.Edit("shop/shop.cue", "rateLimit: few", "telemetry: {metrics: {}, logs: nowhere: {}}\n\t\trateLimit: few"))
	w.commit("a log that no proxy can open")
	w.until("a proxy is held", func() error {
		text, err := page("http://" + w.server + "/metrics")
		if err == nil && !strings.Contains(text, `meshc_xds_held_proxies{class="sidecar/shop/orders"} 1`) {
			err = errors.New("none is")
		}
		return err
	})
	w.until("the webhook refuses a pod", func() error {
		err := w.Apply(w.t.Context(), pod("late", "NET_ADMIN"))
		if err == nil {
			return errors.New("a pod without a sidecar is stored")
		}
		if !strings.Contains(err.Error(), "pod-net-admin") {
			return err
		}
		return nil
	})
	w.file("mesh/shop/note.cue", "package shop\n")
	_, err := w.repo.Commit(w.t.Context(), people.Nobody, false, "nobody signs")
	w.must(err)
	_, err = w.repo.Run(w.t.Context(), "push", "--quiet", "origin", "main")
	w.must(err)
}
