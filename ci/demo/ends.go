package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/demo/people"
)

func restart(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	a := servers()[0]
	c := w.running[a.name]
	delete(w.running, a.name)
	w.out.Command(fmt.Sprintf("kill -KILL %d   # %s", c.PID(), a.name))
	if err := c.Signal(syscall.SIGKILL); err != nil {
		return "", err
	}
	<-c.Done()
	w.out.Tell("Its proxies go to the other one. Alice's next change is approved meanwhile:")
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: {v1: 75, v3: 25}"); err != nil {
		return "", err
	}
	hash, err := w.commit(ctx, people.Alice, true, "reviews: a quarter on v3")
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	began := time.Now()
	if err := w.live(ctx, hash); err != nil {
		return "", err
	}
	took := time.Since(began)
	if err := w.serve(ctx, a); err != nil {
		return "", err
	}
	if err := w.confirmed(ctx, hash); err != nil {
		return "", err
	}
	calm, err := w.calm(ctx, before)
	return fmt.Sprintf("all %d proxies run %.12s from the other server, %v after it was pushed; the first has it since it is back\n%s",
		proxies(), hash, took.Round(time.Millisecond), calm), err
}

// restartedBy is the field manager of a restart that Flux leaves alone: a field of any
// manager of kubectl's own it takes back when it looks next.
const restartedBy = "flux-client-side-apply"

// roll replaces every pod: those of the teams by their Deployments, those of the gateway
// as a node that is drained would.
func roll(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	old, err := w.uids(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	w.out.Tell("A restart under Flux says whose it is: what managers of kubectl's own wrote, Flux takes back when it looks next.")
	for _, namespace := range []string{"bookinfo", "reports"} {
		if _, err := w.kubectl(ctx, 0, 2, "-n", namespace, "rollout", "restart", "deployment", "--field-manager", restartedBy); err != nil {
			return "", err
		}
	}
	if err := w.rollGateway(ctx); err != nil {
		return "", err
	}
	if _, err := w.until(ctx, "all pods are others", func() (bool, error) {
		now, err := w.uids(ctx)
		if err != nil {
			return false, err
		}
		for uid := range now {
			if old[uid] != "" {
				return false, fmt.Errorf("%s is still there", old[uid])
			}
		}
		n, err := w.ready(ctx)
		return err == nil && n == len(workloads()) && len(now) == len(old), errors.Join(err, fmt.Errorf("%d pods are ready", n))
	}); err != nil {
		return "", err
	}
	took := time.Since(began)
	calm, err := w.calm(ctx, before)
	return fmt.Sprintf("%d pods are others, after %v\n%s", len(old), took.Round(time.Millisecond), calm), err
}

// rollGateway deletes each pod of the gateway when the one before has a successor.
func (w *world) rollGateway(ctx context.Context) error {
	edge := w.cluster.Client.CoreV1().Pods("edge")
	list, err := edge.List(ctx, metav1.ListOptions{LabelSelector: "app=edge"})
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		if _, err := w.kubectl(ctx, 0, 0, "-n", "edge", "delete", "pod", p.Name, "--wait=false"); err != nil {
			return err
		}
		if _, err := w.until(ctx, "the gateway has two pods again", func() (bool, error) {
			pods, err := edge.List(ctx, metav1.ListOptions{LabelSelector: "app=edge"})
			n := 0
			for _, other := range pods.Items {
				if other.DeletionTimestamp == nil && isReady(&other) {
					n++
				}
			}
			return err == nil && n == 2, errors.Join(err, fmt.Errorf("%d are ready", n))
		}); err != nil {
			return err
		}
	}
	return nil
}

// uids are those of the mesh's pods, each with the pod's name.
func (w *world) uids(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, namespace := range []string{"bookinfo", "edge", "reports"} {
		list, err := w.cluster.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, p := range list.Items {
			out[string(p.UID)] = p.Namespace + "/" + p.Name
		}
	}
	return out, nil
}

func rollback(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	w.out.Tell("Carol goes back to the first release. The record is signed and says why; main is not rewritten.")
	if err := w.sign(ctx, people.Carol, "rollback", w.first, "--reason", "red stars upset the readers"); err != nil {
		return "", err
	}
	if err := w.live(ctx, w.first); err != nil {
		return "", err
	}
	c, err := w.only(ctx, 100, "", "v1")
	if err != nil {
		return "", err
	}
	status, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if status != "403" {
		return "", fmt.Errorf("the report's access outlived the rollback: %s", status)
	}
	calm, err := w.calm(ctx, before)
	if err != nil {
		return calm, err
	}
	all, err := w.visitors(ctx, "/counts")
	return fmt.Sprintf("%s\n%s\nthe whole story: %s", c, calm, all), err
}
