package node

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// report writes the pod's status whenever it has changed, until the pod is cleared away.
func (p *pod) report(ctx context.Context) {
	var written corev1.PodStatus
	for ctx.Err() == nil {
		status := p.status(written.Conditions)
		if !reflect.DeepEqual(status, written) {
			err := p.write(ctx, status)
			switch {
			case err == nil:
				written = status
			case apierrors.IsNotFound(err):
				return
			case ctx.Err() == nil:
				p.k.log.Warn("status is not written", "pod", p.spec().Name, "error", err)
				sleep(ctx, 200*time.Millisecond)
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-p.changed:
		}
	}
}

func (p *pod) write(ctx context.Context, status corev1.PodStatus) error {
	// The UID, so that a pod of the same name that came after gets nothing of this.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.uid}, "status": status})
	if err != nil {
		return err
	}
	o := p.spec()
	_, err = p.k.client.CoreV1().Pods(o.Namespace).Patch(ctx, o.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsConflict(err) {
		return nil // it is another pod's name now
	}
	return err
}

// release deletes the object of a pod that has ended: that is what everybody waits for.
func (k *kubelet) release(ctx context.Context, p *pod) {
	o, none := p.spec(), int64(0)
	for range 10 {
		err := k.client.CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{GracePeriodSeconds: &none, Preconditions: &metav1.Preconditions{UID: &p.uid}})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		k.log.Warn("pod is not deleted", "pod", o.Name, "error", err)
		sleep(ctx, 200*time.Millisecond)
	}
}

// status is what a kubelet would say now.
func (p *pod) status(before []corev1.PodCondition) corev1.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	began := metav1.NewTime(p.began.Truncate(time.Second))
	s := corev1.PodStatus{Phase: corev1.PodPending, StartTime: &began, Message: p.trouble}
	host := p.k.Network
	s.HostIP = host.v4(nodeHost).String()
	s.HostIPs = []corev1.HostIP{{IP: s.HostIP}, {IP: host.v6(nodeHost).String()}}
	if p.pause != nil {
		for _, a := range p.addresses() {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: a.String()})
		}
		s.PodIP = s.PodIPs[0].IP
	}
	ready, succeeded := p.initialized, true
	for _, c := range p.initial {
		cs := c.status()
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
		ready = ready && (!c.sidecar || cs.Ready)
	}
	for _, c := range p.apps {
		cs := c.status()
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
		ready = ready && cs.Ready
		succeeded = succeeded && cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0
	}
	switch {
	case p.done && succeeded && !p.failed:
		s.Phase = corev1.PodSucceeded
	case p.done:
		s.Phase = corev1.PodFailed
	case p.initialized:
		s.Phase = corev1.PodRunning
	}
	for _, c := range []struct {
		kind  corev1.PodConditionType
		holds bool
	}{
		{corev1.PodReadyToStartContainers, p.pause != nil}, {corev1.PodInitialized, p.initialized},
		{corev1.ContainersReady, ready}, {corev1.PodReady, ready}, {corev1.PodScheduled, true},
	} {
		s.Conditions = append(s.Conditions, condition(before, c.kind, c.holds))
	}
	return s
}

// condition keeps the time of what has not changed.
func condition(before []corev1.PodCondition, kind corev1.PodConditionType, holds bool) corev1.PodCondition {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second))}
	if holds {
		c.Status = corev1.ConditionTrue
	} else if kind == corev1.ContainersReady || kind == corev1.PodReady {
		c.Reason, c.Message = "ContainersNotReady", "a container is not ready"
	}
	for _, b := range before {
		if b.Type == kind && b.Status == c.Status {
			return b
		}
	}
	return c
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started
	s := corev1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image, ImageID: "kubetest://" + c.spec.Image, Ready: c.ready, Started: &started, RestartCount: c.restarts}
	switch {
	case c.process != nil:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.process.began.Truncate(time.Second))}
	case c.waiting.Reason != "":
		waiting := c.waiting
		s.State.Waiting = &waiting
	case c.last != nil:
		s.State.Terminated = c.last
		s.Ready = !c.sidecar && c.last.ExitCode == 0 && c.isInit() // an init container that is done is ready
	}
	if s.State.Terminated == nil && c.last != nil {
		s.LastTerminationState.Terminated = c.last
	}
	return s
}

func (c *container) isInit() bool {
	for _, i := range c.p.initial {
		if i == c {
			return true
		}
	}
	return false
}
