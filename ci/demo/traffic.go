package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/bookinfo"
	"meshc.dev/meshc/internal/demo/people"
)

func visitors(ctx context.Context, w *world) (string, error) {
	if _, err := w.until(ctx, "the visitor's pod is ready", func() (bool, error) {
		p, err := w.cluster.Client.CoreV1().Pods("default").Get(ctx, "visitor", metav1.GetOptions{})
		return err == nil && isReady(p), err
	}); err != nil {
		return "", err
	}
	w.out.Command("kubectl exec visitor -- curl --header 'Host: bookinfo.example' http://edge.edge:8080/api/v1/products/0")
	took, err := w.until(ctx, "the page comes", func() (bool, error) {
		_, err := w.only(ctx, 1, "", "v1")
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	c, err := w.only(ctx, 100, "", "v1")
	if err != nil {
		return "", err
	}
	page, err := w.pod(ctx, "bookinfo", "productpage")
	if err != nil {
		return "", err
	}
	const url = "http://reviews:9080/reviews/0"
	w.out.Command("kubectl -n bookinfo exec " + page + " -- curl " + url)
	status, body, err := w.ask(ctx, "bookinfo", page, url)
	if err != nil {
		return "", err
	}
	var answer bookinfo.Reviews
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != "200" {
		return "", errors.Join(err, fmt.Errorf("status %s: %s", status, body))
	}
	w.out.Output(fmt.Sprintf("200 from %s, which was called by %s", answer.From, answer.Caller), 0)
	if answer.From != "reviews-v1" || answer.Caller != "spiffe://bookinfo.example/ns/bookinfo/sa/productpage" {
		return "", fmt.Errorf("the answer is %+v", answer)
	}
	if _, err := w.visitors(ctx, "/start"); err != nil {
		return "", err
	}
	return fmt.Sprintf("the page came through the gateway and two sidecars (%v)\n%s\nthe caller's name was proved by mutual TLS with the token of its pod; the applications speak plain HTTP\n"+
		"from here on, visitors ask %d times a second in the background", took.Round(time.Millisecond), c, visitPerSecond), nil
}

func pullRequest(ctx context.Context, w *world) (string, error) {
	w.out.Tell("Alice (team-bookinfo) wants one request in ten on reviews v3. Her branch:")
	if _, err := w.repo.Run(ctx, "checkout", "--quiet", "-b", "canary"); err != nil {
		return "", err
	}
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: v1: 100", "to: {v1: 90, v3: 10}"); err != nil {
		return "", err
	}
	var err error
	if w.canary, err = w.commit(ctx, people.Alice, true, "reviews: canary of 10 % on v3"); err != nil {
		return "", err
	}
	out, err := w.tool(ctx, 2, 40, "plan", "mesh", "--env", "kubernetes", "--base", "main", "--detailed-exitcode")
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "reviews") {
		return "", errors.New("the plan does not mention reviews")
	}
	c, err := w.only(ctx, 100, "", "v1")
	if err != nil {
		return "", err
	}
	return "the plan is only a plan; visitors still get: " + c.String(), nil
}

func canary(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	w.out.Command("git checkout main && git merge --ff-only canary")
	for _, args := range [][]string{{"checkout", "--quiet", "main"}, {"merge", "--quiet", "--ff-only", "canary"}} {
		if _, err := w.repo.Run(ctx, args...); err != nil {
			return "", err
		}
	}
	if err := w.push(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	if err := w.live(ctx, w.canary); err != nil {
		return "", err
	}
	const n = 400
	c, err := w.come(ctx, n, "")
	if err != nil {
		return "", err
	}
	// Four standard deviations: a correct split fails one time in fifteen thousand.
	if share, bound := c.Share("v3"), 400*math.Sqrt(0.1*0.9/n); c.Failed() > 0 || math.Abs(share-10) > bound || c.Version["v2"] > 0 {
		return "", fmt.Errorf("expected 10 ± %.1f %% on v3: %s", bound, c)
	}
	if err := w.unrestarted(ctx); err != nil {
		return "", err
	}
	calm, err := w.calm(ctx, before)
	return c.String() + "\nno container restarted\n" + calm, err
}

// unrestarted returns an error if a container has been started again.
func (w *world) unrestarted(ctx context.Context) error {
	list, err := w.cluster.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		for _, c := range append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...) {
			if c.RestartCount > 0 {
				return fmt.Errorf("container %s of %s restarted", c.Name, p.Name)
			}
		}
	}
	return nil
}

func testers(ctx context.Context, w *world) (string, error) {
	w.out.Tell("The header passes through the gateway and productpage; the route is reviews' own.")
	if _, err := w.tool(ctx, 0, 12, "explain", "mesh", "--env", "kubernetes", "--from", "bookinfo/productpage", "--to", "bookinfo/reviews", "--path", "/reviews/0", "-H", "end-user=jason"); err != nil {
		return "", err
	}
	c, err := w.only(ctx, 100, "end-user:jason", "v2")
	if err != nil {
		return "", err
	}
	other, err := w.come(ctx, 100, "end-user:jasonx")
	if err != nil {
		return "", err
	}
	if other.Failed() > 0 || other.Version["v2"] > 0 {
		return "", fmt.Errorf("expected no v2 for others: %s", other)
	}
	return fmt.Sprintf("end-user: jason   %s\nend-user: jasonx  %s", c, other), nil
}

const ratingsURL = "http://ratings.bookinfo:9080/ratings/0"

// report asks ratings from the pod of the report, and returns the status.
func (w *world) report(ctx context.Context) (string, error) {
	report, err := w.pod(ctx, "reports", "report")
	if err != nil {
		return "", err
	}
	w.out.Command("kubectl -n reports exec " + report + " -- curl " + ratingsURL)
	status, _, err := w.ask(ctx, "reports", report, ratingsURL)
	w.out.Output(status, 0)
	return status, err
}

func noGrant(ctx context.Context, w *world) (string, error) {
	status, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if status != "403" {
		return "", fmt.Errorf("the report got %q", status)
	}
	return "the report of another team has an identity, and no grant for ratings", nil
}

func stranger(ctx context.Context, w *world) (string, error) {
	w.out.Command("kubectl exec visitor -- curl " + ratingsURL)
	status, _, err := w.ask(ctx, "default", "visitor", ratingsURL)
	if err != nil {
		return "", err
	}
	w.out.Output(status, 0)
	if !strings.HasPrefix(status, "no answer") {
		return "", fmt.Errorf("the visitor got %q", status)
	}
	return "plaintext is closed by the sidecar of ratings", nil
}
