package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/examples"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/kubetest/flux"
)

// rendered is the branch that CI writes.
const rendered = "rendered/kubernetes"

func firstRelease(ctx context.Context, w *world) (string, error) {
	signer, err := people.FindSigner(w.meshc, w.dir)
	if err != nil {
		return "", err
	}
	if w.repo, w.keys, err = people.New(ctx, "git", signer, w.dir); err != nil {
		return "", err
	}
	if w.rendered, err = w.repo.Beside(ctx, "rendered", filepath.Base(w.repo.Origin), rendered); err != nil {
		return "", err
	}
	files, err := fs.Sub(examples.FS, "bookinfo/intent")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(w.repo.Work, files); err != nil {
		return "", fmt.Errorf("copying the example: %w", err)
	}
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: v1: 100"); err != nil {
		return "", err
	}
	w.out.Tell("Carol (platform) signs the first commit: the intent of Bookinfo, all on reviews v1.")
	if w.first, err = w.commit(ctx, people.Carol, true, "bookinfo: first release"); err != nil {
		return "", err
	}
	if err := w.push(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	if err := os.WriteFile(w.path("trust.yaml"), []byte(people.TrustPolicy(w.first, "kubernetes", w.keys)), 0o600); err != nil {
		return "", fmt.Errorf("writing the trust policy: %w", err)
	}
	if _, err := w.deliver(ctx); err != nil {
		return "", err
	}
	names, err := filepath.Glob(w.path("rendered", "kubernetes", "*", "*.yaml"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d objects for the cluster on the branch %s, beside the signed intent that proves them", len(names), rendered), nil
}

// commit commits everything in the intent's work tree and tells about it.
func (w *world) commit(ctx context.Context, who string, sign bool, message string) (string, error) {
	return w.commitIn(ctx, w.repo, who, sign, message)
}

func (w *world) commitIn(ctx context.Context, repo *people.Repo, who string, sign bool, message string) (string, error) {
	hash, err := repo.Commit(ctx, who, sign, message)
	if err != nil {
		return "", err
	}
	flag := ""
	if sign {
		flag = " -S"
	}
	w.out.Command(fmt.Sprintf("git -C %s commit%s -m %q   # as %s: %.12s", filepath.Base(repo.Work), flag, message, who, hash))
	return hash, nil
}

func (w *world) push(ctx context.Context, repo *people.Repo, refs ...string) error {
	w.out.Command("git -C " + filepath.Base(repo.Work) + " push origin " + strings.Join(refs, " "))
	_, err := repo.Run(ctx, append([]string{"push", "--quiet", "origin"}, refs...)...)
	return err
}

// deliver does what CI does after a merge, a tag or a record: it pushes what is approved,
// signed. It returns the head of the rendered branch, which lies in its work tree then.
func (w *world) deliver(ctx context.Context) (string, error) {
	if _, err := w.tool(ctx, 0, 2, "push", "--repo", "mesh", "--trust", "trust.yaml", "--env", "kubernetes", "--branch", rendered,
		"--key", filepath.Join("keys", people.CI), "--user-name", people.CI, "--user-email", people.CI+"@bookinfo.example"); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"fetch", "--quiet", "origin"}, {"checkout", "--quiet", "--force", "-B", rendered, "origin/" + rendered}} {
		if _, err := w.rendered.Run(ctx, args...); err != nil {
			return "", err
		}
	}
	return w.rendered.Run(ctx, "rev-parse", "HEAD")
}

// back takes the last commit of a branch back.
func (w *world) back(ctx context.Context, repo *people.Repo, branch string) error {
	w.out.Command("git -C " + filepath.Base(repo.Work) + " reset --hard HEAD~1")
	if _, err := repo.Run(ctx, "reset", "--quiet", "--hard", "HEAD~1"); err != nil {
		return err
	}
	return w.push(ctx, repo, "--force", branch)
}

// meet is how pods find the servers: one address that leads to each of them. The Secret
// has the authority that they share.
const meet = `
apiVersion: v1
kind: Namespace
metadata: {name: meshc-system}
---
apiVersion: v1
kind: Service
metadata: {name: meshc, namespace: meshc-system}
spec: {ports: [{name: xds, port: %d}]}
---
apiVersion: v1
kind: Secret
metadata: {name: meshc-authority, namespace: meshc-system}
`

// serverSlice makes a server an endpoint of that Service, by name, address and port.
const serverSlice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: meshc-%s, namespace: meshc-system, labels: {kubernetes.io/service-name: meshc}}
addressType: IPv4
endpoints: [{addresses: [%s], conditions: {ready: true}}]
ports: [{name: xds, port: %d, protocol: TCP}]
`

// server is a replica of meshc serve; its name is that of its state folder and its log.
type server struct {
	name, repo string
	port       int
}

// servers follow the repository itself, and what Flux has fetched of the branch that CI
// writes.
func servers() [2]server {
	return [2]server{
		{"server-a", "origin.git", serverPort},
		{"server-b", "flux://gitrepository/flux-system/mesh", serverPort + 1},
	}
}

func controlPlane(ctx context.Context, w *world) (string, error) {
	for _, a := range w.node.Machine {
		if a.Is4() {
			w.machine = a.String()
		}
	}
	if err := w.cluster.Apply(ctx, fmt.Sprintf(meet, serverPort)); err != nil {
		return "", err
	}
	if err := w.serve(ctx, servers()[0]); err != nil {
		return "", err
	}
	guard, err := freeport.Address()
	if err != nil {
		return "", err
	}
	metrics, err := freeport.Address()
	if err != nil {
		return "", err
	}
	if err := w.start("webhook", w.follows("webhook", "origin.git", "--state", "guard", "--listen", guard, "--url", "https://"+guard, "--http", metrics)...); err != nil {
		return "", err
	}
	took, err := w.until(ctx, "the API server asks the webhook", func() (bool, error) {
		_, err := w.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "zz-meshc-inject", metav1.GetOptions{})
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("commit %.12s was verified by both, and the API server asks the webhook, after %v", w.first, took.Round(time.Millisecond)), nil
}

// follows are the arguments of a program that follows what is approved.
func (w *world) follows(program, repo string, more ...string) []string {
	return append([]string{program, "--repo", repo, "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", w.cluster.Kubeconfig}, more...)
}

// serve starts a server, for the first time or again, and leads pods to it when it is ready.
func (w *world) serve(ctx context.Context, s server) error {
	state, err := freeport.Address()
	if err != nil {
		return err
	}
	at := func(port int) string { return net.JoinHostPort(w.machine, fmt.Sprint(port)) }
	peers := servers()
	if err := w.start(s.name, w.follows("serve", s.repo, "--state", s.name, "--trust-domain", "bookinfo.example", "--authority", "secret/meshc-system/meshc-authority",
		"--listen", at(s.port), "--peer", at(peers[0].port+peers[1].port-s.port), "--http", state)...); err != nil {
		return err
	}
	if _, err := w.until(ctx, s.name+" is ready", func() (bool, error) { return answers(ctx, "http://"+state+"/readyz") }); err != nil {
		return err
	}
	return w.cluster.Apply(ctx, fmt.Sprintf(serverSlice, s.name, w.machine, s.port))
}

func answers(ctx context.Context, url string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK, errors.New(res.Status)
}

// follow gives Flux the example's files, with our addresses, and tells it to try again
// soon.
func follow(ctx context.Context, w *world) (string, error) {
	if err := w.publishApps(ctx); err != nil {
		return "", err
	}
	if _, err := w.cluster.Client.CoreV1().Secrets(flux.Namespace).Create(ctx, &core.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "mesh-signers"}, StringData: map[string]string{"ci.sshpub": w.keys[people.CI]},
	}, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("telling Flux CI's key: %w", err)
	}
	for _, file := range []string{"mesh.yaml", "apps.yaml"} {
		text, err := fs.ReadFile(examples.FS, "flux/"+file)
		if err != nil {
			return "", err
		}
		here := strings.NewReplacer("https://git.example/mesh.git", w.host+"/origin.git", "https://git.example/apps.git", w.host+"/apps.git",
			"retryInterval: 15s", "retryInterval: 1s", "retryInterval: 1m", "retryInterval: 1s").Replace(string(text))
		if err := os.WriteFile(w.path(file), []byte(here), 0o600); err != nil {
			return "", err
		}
	}
	began := time.Now()
	w.out.Tell("The files are examples/flux: a branch whose commits have to be signed by CI, and the teams' own Deployments after it.")
	if _, err := w.kubectl(ctx, 0, 0, "apply", "-f", "mesh.yaml"); err != nil {
		return "", err
	}
	w.out.Tell("A second server: it reads what Flux has fetched, verifies it as well, and shares the authority.")
	if err := w.serve(ctx, servers()[1]); err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, 0, 0, "apply", "-f", "apps.yaml"); err != nil {
		return "", err
	}
	hash, err := w.rendered.Run(ctx, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	if err := w.applied(ctx, hash); err != nil {
		return "", err
	}
	mesh := time.Since(began)
	if _, err := w.until(ctx, "the teams' Deployments are ready", func() (bool, error) {
		s, err := w.flux.State(ctx, flux.Kustomization, "apps")
		return err == nil && s.Condition("Ready").Status == "True", errors.Join(err, errors.New(s.Condition("Ready").Message))
	}); err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, 0, 0, "-n", flux.Namespace, "get", "gitrepositories,kustomizations"); err != nil {
		return "", err
	}
	return fmt.Sprintf("verified, applied through the webhook, and the gateway's pods ready after %v; all of Bookinfo after %v",
		mesh.Round(time.Millisecond), time.Since(began).Round(time.Millisecond)), nil
}

// applied waits until Flux has applied a rendered commit and everything in it is healthy.
// Flux is told to look, so that nothing waits for an interval.
func (w *world) applied(ctx context.Context, commit string) error {
	if err := w.flux.Reconcile(ctx, flux.GitRepository, "mesh"); err != nil {
		return err
	}
	_, err := w.until(ctx, fmt.Sprintf("Flux has applied %.12s", commit), func() (bool, error) {
		s, err := w.flux.State(ctx, flux.Kustomization, "mesh")
		return err == nil && s.Has(commit), errors.Join(err, fmt.Errorf("it has %s: %s", s.Revision, s.Condition("Ready").Message))
	})
	return err
}

// live is that a commit is what all proxies run and, rendered, what Flux has applied.
func (w *world) live(ctx context.Context, commit string) error {
	rendered, err := w.deliver(ctx)
	if err != nil {
		return err
	}
	if err := w.applied(ctx, rendered); err != nil {
		return err
	}
	return w.confirmed(ctx, commit)
}

// proxies is how many there are: one for each pod of the teams, and two of the gateway.
func proxies() int { return len(workloads()) + 2 }

// confirmed waits until every server that runs has a commit and every proxy, connected to
// one of them, has confirmed it.
func (w *world) confirmed(ctx context.Context, commit string) error {
	_, err := w.until(ctx, fmt.Sprintf("all proxies run %.12s", commit), func() (bool, error) {
		n := 0
		for _, s := range servers() {
			if w.running[s.name] == nil {
				continue
			}
			has, err := w.status(ctx, s)
			if err != nil {
				return false, err
			}
			if has.Commit != commit {
				return false, fmt.Errorf("%s has %.12s", s.name, has.Commit)
			}
			n += has.upToDate()
		}
		return n == proxies(), fmt.Errorf("%d of %d proxies have confirmed it", n, proxies())
	})
	return err
}

// status is what meshc status says, as far as the story needs it.
type status struct {
	Commit  string
	Proxies []struct {
		UpToDate  bool `json:"up_to_date"`
		Connected bool
	}
}

func (s status) upToDate() (n int) {
	for _, p := range s.Proxies {
		if p.Connected && p.UpToDate {
			n++
		}
	}
	return n
}

func (w *world) status(ctx context.Context, s server) (is status, err error) {
	out, err := w.quiet(ctx, "status", "--state", s.name, "-o", "json")
	if err != nil {
		return is, err
	}
	if !out.OK() {
		return is, fmt.Errorf("meshc status of %s: %s", s.name, out.Stderr)
	}
	return is, json.Unmarshal(out.Stdout, &is)
}
