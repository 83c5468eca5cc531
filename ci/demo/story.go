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
	"meshc.dev/meshc/internal/bookinfo"
	"meshc.dev/meshc/internal/demo/narrate"
	"meshc.dev/meshc/internal/demo/people"
)

// stepLimit ends a step that hangs.
const stepLimit = 3 * time.Minute

type step struct {
	title string
	run   func(context.Context, *world) (measured string, err error)
}

func story() []step {
	return []step{
		{"A signed commit becomes a release with objects for a cluster", commit},
		{"The control plane follows Git", controlPlane},
		{"The objects that were approved are applied", apply},
		{"Pods get their sidecar from the webhook", pods},
		{"One request through two sidecars", request},
		{"A visitor comes in by the gateway", visit},
		{"Who has no grant gets 403", noGrant},
		{"A pod without identity gets nothing", stranger},
		{"A hand edit is refused, at its line of intent", handEdit},
		{"A pod that breaks policy is refused", badPod},
		{"A signed change reaches the pods, and none restarts", change},
	}
}

func run(ctx context.Context, o options, out *narrate.Narrator) error {
	began := time.Now()
	out.Say("meshc demo on Kubernetes: a real API server, pods as network namespaces, on this machine only.")
	w, err := open(ctx, o, out)
	if err != nil {
		return err
	}
	defer w.close()
	out.Say("The cluster was ready after %v; everything is in %s.", time.Since(began).Round(time.Millisecond), w.dir)
	steps := story()
	for i, s := range steps {
		out.Title(i+1, len(steps), s.title)
		bounded, cancel := context.WithTimeout(ctx, stepLimit)
		measured, err := s.run(bounded, w)
		cancel()
		if measured != "" {
			out.Measured(measured)
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			out.Failed(err)
			out.Logs(map[string]string{"meshc serve": w.tail("serve"), "meshc webhook": w.tail("webhook"), "the node": w.node.Logs(6)})
			if o.keep {
				w.wait(ctx)
			}
			return fmt.Errorf("step %d (%s): %w", i+1, s.title, err)
		}
	}
	out.Say("All %d steps held, in %v.", len(steps), time.Since(began).Round(time.Second))
	if o.keep {
		w.wait(ctx)
	}
	return nil
}

// wait keeps everything running until ctx ends.
func (w *world) wait(ctx context.Context) {
	w.out.Say("\nStill running, until Ctrl-C:")
	w.out.Say("  export KUBECONFIG=%s PATH=%s:$PATH", w.cluster.Kubeconfig, w.cluster.Programs)
	w.out.Say("  kubectl get pods -A; kubectl -n bookinfo edit service reviews")
	w.out.Say("  folder    %s (mesh/ is the repository, *.log the logs)", w.dir)
	<-ctx.Done()
}

func commit(ctx context.Context, w *world) (string, error) {
	signer, err := people.FindSigner(w.meshc, w.dir)
	if err != nil {
		return "", err
	}
	var public map[string]string
	if w.repo, public, err = people.New(ctx, "git", signer, w.dir); err != nil {
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
	if w.head, err = w.push(ctx, people.Carol, "bookinfo: first release"); err != nil {
		return "", err
	}
	if err := os.WriteFile(w.path("trust.yaml"), []byte(people.TrustPolicy(w.head, "kubernetes", public)), 0o600); err != nil {
		return "", fmt.Errorf("writing the trust policy: %w", err)
	}
	if _, err := w.tool(ctx, 0, 0, "compile", "mesh", "--env", "kubernetes", "--out", "release"); err != nil {
		return "", err
	}
	names, err := filepath.Glob(w.path("release", "kubernetes", "*", "*.yaml"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d objects for the cluster in release/kubernetes", len(names)), nil
}

// push commits everything, signed, and pushes it.
func (w *world) push(ctx context.Context, who, message string) (string, error) {
	hash, err := w.repo.Commit(ctx, who, true, message)
	if err != nil {
		return "", err
	}
	_, err = w.repo.Run(ctx, "push", "--quiet", "origin", "main")
	return hash, err
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
	machine := ""
	for _, a := range w.node.Machine {
		if a.Is4() {
			machine = a.String()
		}
	}
	if err := w.cluster.Apply(ctx, fmt.Sprintf(meet, machine, serverPort)); err != nil {
		return "", err
	}
	http, err := address()
	if err != nil {
		return "", err
	}
	follow := []string{"--repo", "origin.git", "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", w.cluster.Kubeconfig}
	serve := append([]string{"serve"}, follow...)
	if err := w.start("serve", append(serve, "--state", "server", "--trust-domain", "bookinfo.example",
		"--listen", net.JoinHostPort(machine, fmt.Sprint(serverPort)), "--http", http)...); err != nil {
		return "", err
	}
	guard, err := address()
	if err != nil {
		return "", err
	}
	if http, err = address(); err != nil {
		return "", err
	}
	webhook := append([]string{"webhook"}, follow...)
	if err := w.start("webhook", append(webhook, "--state", "guard", "--listen", guard, "--url", "https://"+guard, "--http", http)...); err != nil {
		return "", err
	}
	took, err := w.until(ctx, "the API server asks the webhook", func() (bool, error) {
		_, err := w.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "zz-meshc-inject", metav1.GetOptions{})
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("commit %.12s was verified by both, and the API server asks the webhook, after %v", w.head, took.Round(time.Millisecond)), nil
}

func apply(ctx context.Context, w *world) (string, error) {
	out, err := w.kubectl(ctx, 0, 6, "apply", "--server-side", "-k", "release/kubernetes")
	if err != nil {
		return "", err
	}
	if _, err := w.until(ctx, "an edit is refused", func() (bool, error) {
		_, err := w.cluster.Client.CoreV1().Services("bookinfo").Patch(ctx, "reviews", "application/merge-patch+json",
			[]byte(`{"spec":{"publishNotReadyAddresses":true}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil, nil
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d objects went through the webhook", strings.Count(out, "\n")+1), nil
}

// workload is an application of Bookinfo in the cluster.
type workload struct{ namespace, name, version, account, calls string }

func workloads() []workload {
	return []workload{
		{"bookinfo", "productpage", "v1", "productpage", "details=details:9080 reviews=reviews:9080"},
		{"bookinfo", "details", "v1", "details", ""},
		{"bookinfo", "reviews", "v1", "reviews-v1", "ratings=ratings:9080"},
		{"bookinfo", "reviews", "v2", "reviews-v2", "ratings=ratings:9080"},
		{"bookinfo", "reviews", "v3", "reviews-v3", "ratings=ratings:9080"},
		{"bookinfo", "ratings", "v1", "ratings", ""},
		{"reports", "report", "v1", "report", "bookinfo/ratings=ratings.bookinfo:9080"},
	}
}

func (a workload) yaml() string {
	args := append([]string{appWord, a.name, a.version}, strings.Fields(a.calls)...)
	quoted, err := json.Marshal(args)
	if err != nil {
		panic(err) // strings
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s-%[3]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s, version: %[3]s}}
  template:
    metadata: {labels: {app: %[2]s, version: %[3]s}}
    spec:
      serviceAccountName: %[4]s
      terminationGracePeriodSeconds: 5
      containers:
      - {name: app, image: bookinfo, args: %[5]s, ports: [{name: http, containerPort: 9080}], securityContext: {runAsUser: 1000},
         readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 2}}
`, a.namespace, a.name, a.version, a.account, quoted)
}

func pods(ctx context.Context, w *world) (string, error) {
	var texts []string
	for _, a := range workloads() {
		texts = append(texts, a.yaml())
	}
	w.out.Tell("Plain Deployments of Bookinfo; nothing in them speaks of a mesh.")
	if err := w.cluster.Apply(ctx, texts...); err != nil {
		return "", err
	}
	took, err := w.until(ctx, "all pods are ready", func() (bool, error) { return w.ready(ctx, len(workloads())) })
	if err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, 0, 0, "get", "pods", "-A"); err != nil {
		return "", err
	}
	pod, err := w.pod(ctx, "bookinfo", "reviews")
	if err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, 0, 0, "-n", "bookinfo", "get", "pod", pod, "-o", "jsonpath={range .spec.initContainers[*]}{.name} {.image}{\"\\n\"}{end}"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d pods with sidecars ready after %v", len(workloads()), took.Round(time.Millisecond)), nil
}

// ready reports whether so many pods are, all with a sidecar.
func (w *world) ready(ctx context.Context, want int) (bool, error) {
	list, err := w.cluster.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	n := 0
	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			if c.Type == core.PodReady && c.Status == core.ConditionTrue && len(p.Spec.InitContainers) == 2 {
				n++
			}
		}
	}
	return n == want, fmt.Errorf("%d of %d pods are ready", n, want)
}

// pod is the name of the one pod of an application's first version.
func (w *world) pod(ctx context.Context, namespace, app string) (string, error) {
	list, err := w.cluster.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "version=v1,app=" + app})
	if err != nil {
		return "", err
	}
	if len(list.Items) != 1 {
		return "", fmt.Errorf("%d pods of %s v1", len(list.Items), app)
	}
	return list.Items[0].Name, nil
}

const reviewsURL = "http://reviews:9080/reviews/0"

// reviews asks for them from a pod of the page.
func (w *world) reviews(ctx context.Context, page string) (bookinfo.Reviews, error) {
	var answer bookinfo.Reviews
	status, body, err := w.ask(ctx, "bookinfo", page, reviewsURL)
	if err != nil || status != "200" {
		return answer, errors.Join(err, fmt.Errorf("status %s: %s", status, body))
	}
	return answer, json.Unmarshal([]byte(body), &answer)
}

func request(ctx context.Context, w *world) (string, error) {
	page, err := w.pod(ctx, "bookinfo", "productpage")
	if err != nil {
		return "", err
	}
	w.out.Command("kubectl -n bookinfo exec " + page + " -- curl " + reviewsURL)
	var answer bookinfo.Reviews
	took, err := w.until(ctx, "reviews answer", func() (bool, error) {
		answer, err = w.reviews(ctx, page)
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	w.out.Output(fmt.Sprintf("200 from %s, which was called by %s", answer.From, answer.Caller), 0)
	if answer.From != "reviews-v1" || answer.Caller != "spiffe://bookinfo.example/ns/bookinfo/sa/productpage" {
		return "", fmt.Errorf("the answer is %+v", answer)
	}
	return fmt.Sprintf("the caller's name was proved by mutual TLS with the token of its pod; the application spoke plain HTTP (%v)", took.Round(time.Millisecond)), nil
}

const outsider = `
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default}
spec:
  containers:
  - {name: app, image: bookinfo, args: ["app", "details", "v1"], ports: [{containerPort: 9080}], securityContext: {runAsUser: 1000}}
`

// visit asks for the page from a pod outside of the mesh, by the gateway's Service.
func visit(ctx context.Context, w *world) (string, error) {
	if err := w.cluster.Apply(ctx, outsider); err != nil {
		return "", err
	}
	if _, err := w.until(ctx, "the visitor's pod is ready", func() (bool, error) {
		p, err := w.cluster.Client.CoreV1().Pods("default").Get(ctx, "stranger", metav1.GetOptions{})
		return err == nil && p.Status.PodIP != "" && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready, err
	}); err != nil {
		return "", err
	}
	if _, err := w.until(ctx, "the gateway is ready", func() (bool, error) {
		d, err := w.cluster.Client.AppsV1().Deployments("edge").Get(ctx, "edge", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return d.Status.ReadyReplicas == 2, fmt.Errorf("%d pods of the gateway are ready", d.Status.ReadyReplicas)
	}); err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, 0, 0, "-n", "edge", "get", "pods,services,poddisruptionbudgets"); err != nil {
		return "", err
	}
	const url, host = "http://edge.edge:8080/productpage", "bookinfo.example"
	w.out.Command("kubectl exec stranger -- curl --header 'Host: " + host + "' " + url)
	var body string
	took, err := w.until(ctx, "the page comes", func() (bool, error) {
		status, text, err := w.ask(ctx, "default", "stranger", url, host)
		body = text
		return err == nil && status == "200", errors.Join(err, fmt.Errorf("status %s: %s", status, text))
	})
	if err != nil {
		return "", err
	}
	w.out.Output("200", 0)
	if !strings.Contains(body, "reviews-v1") {
		return "", fmt.Errorf("the page has no reviews: %s", body)
	}
	return fmt.Sprintf("the page came with its reviews through the gateway, whose pods the release has (%v)", took.Round(time.Millisecond)), nil
}

func noGrant(ctx context.Context, w *world) (string, error) {
	report, err := w.pod(ctx, "reports", "report")
	if err != nil {
		return "", err
	}
	const url = "http://ratings.bookinfo:9080/ratings/0"
	w.out.Command("kubectl -n reports exec " + report + " -- curl " + url)
	status, _, err := w.ask(ctx, "reports", report, url)
	if err != nil {
		return "", err
	}
	w.out.Output(status, 0)
	if status != "403" {
		return "", fmt.Errorf("the report got %q", status)
	}
	return "the report has an identity, and no grant for ratings", nil
}

func stranger(ctx context.Context, w *world) (string, error) {
	const url = "http://ratings.bookinfo:9080/ratings/0"
	w.out.Command("kubectl exec stranger -- curl " + url)
	status, _, err := w.ask(ctx, "default", "stranger", url)
	if err != nil {
		return "", err
	}
	w.out.Output(status, 0)
	if !strings.HasPrefix(status, "no answer") {
		return "", fmt.Errorf("the stranger got %q", status)
	}
	return "plaintext is closed by the sidecar of ratings", nil
}

func handEdit(ctx context.Context, w *world) (string, error) {
	out, err := w.kubectl(ctx, 1, 0, "-n", "bookinfo", "patch", "service", "reviews", "--type", "merge", "-p", `{"spec":{"selector":{"app":"mallory"}}}`)
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "MESH0701") || !strings.Contains(out, "bookinfo/reviews.cue:") {
		return "", fmt.Errorf("it was refused for another reason: %s", out)
	}
	return "", nil
}

const mallory = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"mallory","namespace":"bookinfo"},"spec":{"serviceAccountName":"ratings",
	"containers":[{"name":"app","image":"bookinfo","securityContext":{"capabilities":{"add":["NET_ADMIN"]}}}]}}`

func badPod(ctx context.Context, w *world) (string, error) {
	if err := os.WriteFile(w.path("pod.json"), []byte(mallory), 0o600); err != nil {
		return "", err
	}
	out, err := w.kubectl(ctx, 1, 0, "apply", "-f", "pod.json")
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "[pod-net-admin]") {
		return "", fmt.Errorf("it was refused for another reason: %s", out)
	}
	return "", nil
}

func change(ctx context.Context, w *world) (string, error) {
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: v1: 100", "to: v3: 100"); err != nil {
		return "", err
	}
	hash, err := w.push(ctx, people.Alice, "reviews: v3 for everybody")
	if err != nil {
		return "", err
	}
	w.out.Tell("Alice (team-bookinfo) signs and pushes: reviews v3 for everybody.")
	if _, err := w.tool(ctx, 0, 0, "wait", hash, "--state", "server"); err != nil {
		return "", err
	}
	page, err := w.pod(ctx, "bookinfo", "productpage")
	if err != nil {
		return "", err
	}
	took, err := w.until(ctx, "v3 answers", func() (bool, error) {
		answer, err := w.reviews(ctx, page)
		return err == nil && answer.Version == "v3", errors.Join(err, fmt.Errorf("%s answered", answer.From))
	})
	if err != nil {
		return "", err
	}
	list, err := w.cluster.Client.CoreV1().Pods("bookinfo").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range list.Items {
		for _, c := range append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...) {
			if c.RestartCount > 0 {
				return "", fmt.Errorf("container %s of %s restarted", c.Name, p.Name)
			}
		}
	}
	return fmt.Sprintf("v3 answers %v after the proxies confirmed; no container restarted", took.Round(time.Millisecond)), nil
}
