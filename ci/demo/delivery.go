package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
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
	if _, err := w.deliver(ctx, w.first); err != nil {
		return "", err
	}
	names, err := filepath.Glob(w.path("rendered", "kubernetes", "*", "*.yaml"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d objects for the cluster on the branch %s", len(names), rendered), nil
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

// deliver does what CI does once a commit is approved: it compiles it, signs the result
// and pushes it for Flux.
func (w *world) deliver(ctx context.Context, commit string) (string, error) {
	if _, err := w.tool(ctx, 0, -1, "compile", "mesh", "--rev", commit, "--env", "kubernetes", "--out", "release"); err != nil {
		return "", err
	}
	if err := os.RemoveAll(w.path("rendered", "kubernetes")); err != nil {
		return "", err
	}
	if err := os.CopyFS(w.path("rendered", "kubernetes"), os.DirFS(w.path("release", "kubernetes"))); err != nil {
		return "", err
	}
	return w.deliverTree(ctx, fmt.Sprintf("kubernetes: %.12s", commit))
}

// deliverTree signs and pushes the rendered tree as it lies there, as CI.
func (w *world) deliverTree(ctx context.Context, message string) (string, error) {
	status, err := w.rendered.Run(ctx, "status", "--porcelain")
	if err != nil {
		return "", err
	}
	if status == "" { // nothing for a cluster has changed
		return w.rendered.Run(ctx, "rev-parse", "HEAD")
	}
	hash, err := w.commitIn(ctx, w.rendered, people.CI, true, message)
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, w.rendered, rendered); err != nil {
		return "", err
	}
	return hash, nil
}

// back takes the last commit of a branch back.
func (w *world) back(ctx context.Context, repo *people.Repo, branch string) error {
	w.out.Command("git -C " + filepath.Base(repo.Work) + " reset --hard HEAD~1")
	if _, err := repo.Run(ctx, "reset", "--quiet", "--hard", "HEAD~1"); err != nil {
		return err
	}
	return w.push(ctx, repo, "--force", branch)
}

// meet is how pods find the server: a Service without a selector, and its address.
const meet = `
apiVersion: v1
kind: Namespace
metadata: {name: meshc-system}
---
apiVersion: v1
kind: Service
metadata: {name: meshc, namespace: meshc-system}
spec: {ports: [{name: xds, port: %[2]d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: meshc-machine, namespace: meshc-system, labels: {kubernetes.io/service-name: meshc}}
addressType: IPv4
endpoints: [{addresses: [%[1]s], conditions: {ready: true}}]
ports: [{name: xds, port: %[2]d, protocol: TCP}]
`

func controlPlane(ctx context.Context, w *world) (string, error) {
	for _, a := range w.node.Machine {
		if a.Is4() {
			w.machine = a.String()
		}
	}
	if err := w.cluster.Apply(ctx, fmt.Sprintf(meet, w.machine, serverPort)); err != nil {
		return "", err
	}
	if err := w.serve(); err != nil {
		return "", err
	}
	guard, err := freeport.Address()
	if err != nil {
		return "", err
	}
	http, err := freeport.Address()
	if err != nil {
		return "", err
	}
	if err := w.start("webhook", w.follows("webhook", "--state", "guard", "--listen", guard, "--url", "https://"+guard, "--http", http)...); err != nil {
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

// follows are the arguments of a program that follows the repository.
func (w *world) follows(program string, more ...string) []string {
	return append([]string{program, "--repo", "origin.git", "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", w.cluster.Kubeconfig}, more...)
}

// serve starts meshc serve, for the first time or again.
func (w *world) serve() error {
	http, err := freeport.Address()
	if err != nil {
		return err
	}
	return w.start("serve", w.follows("serve", "--state", "server", "--trust-domain", "bookinfo.example",
		"--listen", net.JoinHostPort(w.machine, fmt.Sprint(serverPort)), "--http", http)...)
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
	if _, err := w.kubectl(ctx, 0, 0, "apply", "-f", "mesh.yaml", "-f", "apps.yaml"); err != nil {
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

// live is that a commit is what proxies run and, rendered, what Flux has applied.
func (w *world) live(ctx context.Context, commit string) error {
	rendered, err := w.deliver(ctx, commit)
	if err != nil {
		return err
	}
	if err := w.confirmed(ctx, commit); err != nil {
		return err
	}
	return w.applied(ctx, rendered)
}

// confirmed waits until every proxy runs a commit, once the server has seen it: before, a
// server may still refuse it for what it lacks.
func (w *world) confirmed(ctx context.Context, commit string) error {
	if _, err := w.until(ctx, fmt.Sprintf("meshc serve has %.12s", commit), func() (bool, error) {
		out, err := w.quiet(ctx, "status", "--state", "server", "--json")
		if err != nil || !out.OK() {
			return false, errors.Join(err, errors.New(string(out.Stderr)))
		}
		var status struct{ Commit string }
		err = json.Unmarshal(out.Stdout, &status)
		return err == nil && status.Commit == commit, errors.Join(err, fmt.Errorf("it has %.12s", status.Commit))
	}); err != nil {
		return err
	}
	_, err := w.tool(ctx, 0, -1, "wait", commit, "--state", "server")
	return err
}
