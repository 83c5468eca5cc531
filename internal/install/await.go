package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/diag"
)

// lookEvery is how often readiness is looked at.
const lookEvery = 500 * time.Millisecond

// Await waits until the StatefulSets among the objects run as they were applied and all
// their replicas are ready, and tells what changes on the way. When ctx ends at its
// deadline, the error (CodeNotInstalled) says what is missing.
func Await(ctx context.Context, client kubernetes.Interface, objects []*unstructured.Unstructured, tell func(string)) error {
	said := map[string]string{}
	for {
		waiting := false
		for _, o := range objects {
			if o.GetKind() != "StatefulSet" {
				continue
			}
			state, ready, err := progress(ctx, client, o)
			if err != nil {
				state, ready = err.Error(), false
			}
			if ctx.Err() == nil && said[o.GetName()] != state {
				said[o.GetName()] = state
				tell(o.GetName() + ": " + state)
			}
			waiting = waiting || !ready
		}
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return late(ctx, objects, said)
		case <-time.After(lookEvery):
		}
	}
}

func late(ctx context.Context, objects []*unstructured.Unstructured, said map[string]string) error {
	if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return ctx.Err()
	}
	var missing []string
	for _, o := range objects {
		if state := said[o.GetName()]; o.GetKind() == "StatefulSet" && state != allReady {
			missing = append(missing, o.GetName()+": "+state)
		}
	}
	ns := objects[len(objects)-1].GetNamespace()
	return diag.List{diag.New(diag.CodeNotInstalled, diag.Pos{}, "all is applied, but not ready: %s", strings.Join(missing, "; ")).
		WithFix("see `kubectl -n %s describe pods` and the pods' logs; then `meshc doctor`", ns)}.Err()
}

const allReady = "ready"

// progress says how far a StatefulSet is.
func progress(ctx context.Context, client kubernetes.Interface, o *unstructured.Unstructured) (state string, ready bool, err error) {
	have, err := client.AppsV1().StatefulSets(o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil {
		return "", false, err
	}
	var want apps.StatefulSet
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &want); err != nil {
		return "", false, err
	}
	n := *want.Spec.Replicas
	s := have.Status
	if s.ObservedGeneration >= have.Generation && s.UpdatedReplicas == n && s.ReadyReplicas == n && s.Replicas == n {
		return allReady, true, nil
	}
	state = fmt.Sprintf("%d of %d ready", s.ReadyReplicas, n)
	pods, err := client.CoreV1().Pods(o.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(want.Spec.Selector.MatchLabels).String()})
	if err != nil {
		return state, false, nil //nolint:nilerr // who may not list pods is told less
	}
	for _, p := range pods.Items {
		if why := Trouble(p); why != "" {
			state += "; " + p.Name + ": " + why
			break
		}
	}
	return state, false, nil
}

// Trouble says why a pod is not ready, "" if it is.
func Trouble(p core.Pod) string {
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type == core.PodReady && c.Status == core.ConditionTrue:
			return ""
		case c.Type == core.PodScheduled && c.Status == core.ConditionFalse:
			return "no node for it: " + c.Message
		}
	}
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		switch w := c.State.Waiting; {
		case w != nil && c.LastTerminationState.Terminated != nil:
			return fmt.Sprintf("%s ended with %d, %s", c.Name, c.LastTerminationState.Terminated.ExitCode, w.Reason)
		case w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing":
			return strings.TrimSpace(c.Name + ": " + w.Reason + " " + w.Message)
		}
	}
	return strings.ToLower(string(p.Status.Phase)) + ", not ready"
}
