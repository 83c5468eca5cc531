package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/demo/people"
)

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

// yaml is its Deployment. A pod that goes is told so after everybody else.
func (a workload) yaml() (string, error) {
	args := append([]string{appWord, a.name, a.version}, strings.Fields(a.calls)...)
	quoted, err := json.Marshal(args)
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
      terminationGracePeriodSeconds: 20
      containers:
      - {name: app, image: bookinfo, args: %[5]s, ports: [{name: http, containerPort: 9080}], securityContext: {runAsUser: 1000},
         readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}, lifecycle: {preStop: {sleep: {seconds: 3}}}}
`, a.namespace, a.name, a.version, a.account, quoted), err
}

// publishApps makes the teams' repository and lets the visitor's pod come.
func (w *world) publishApps(ctx context.Context) (err error) {
	if w.apps, err = w.repo.Beside(ctx, "apps", "apps.git", "main"); err != nil {
		return err
	}
	for _, a := range workloads() {
		text, err := a.yaml()
		if err != nil {
			return err
		}
		if err := os.WriteFile(w.path("apps", a.name+"-"+a.version+".yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	w.out.Tell("The teams' repository: plain Deployments of Bookinfo; nothing in them speaks of a mesh.")
	if _, err := w.commitIn(ctx, w.apps, people.Alice, true, "bookinfo: Deployments"); err != nil {
		return err
	}
	if err := w.push(ctx, w.apps, "main"); err != nil {
		return err
	}
	return w.cluster.Apply(ctx, visitor)
}

func sidecars(ctx context.Context, w *world) (string, error) {
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
	n, err := w.ready(ctx)
	if err != nil {
		return "", err
	}
	if n != len(workloads()) {
		return "", fmt.Errorf("%d pods with sidecars are ready", n)
	}
	return fmt.Sprintf("%d pods with sidecars are ready, each known by the token of its service account", n), nil
}

// ready counts the pods that are, with a sidecar.
func (w *world) ready(ctx context.Context) (n int, err error) {
	list, err := w.cluster.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	for _, p := range list.Items {
		if len(p.Spec.InitContainers) == 2 && isReady(&p) {
			n++
		}
	}
	return n, nil
}

func isReady(p *core.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == core.PodReady && c.Status == core.ConditionTrue {
			return true
		}
	}
	return false
}

// pod is the name of the one pod of an application's first version.
func (w *world) pod(ctx context.Context, namespace, app string) (string, error) {
	list, err := w.cluster.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "version=v1,app=" + app})
	if err != nil {
		return "", err
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("no pod of %s", app)
}
