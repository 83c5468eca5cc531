package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// A request that hears no signal does not keep the server from ending.
func TestWatchedEndsWithItsContext(t *testing.T) {
	s := &Source{cfg: Config{Now: time.Now}, kick: make(chan struct{}, 1)}
	asked, stuck := make(chan struct{}, 9), make(chan struct{})
	defer close(stuck)
	deaf := func() error {
		asked <- struct{}{}
		<-stuck
		return errors.New("too late")
	}
	w := s.follow(podsResource)
	w.reflect(&corev1.Pod{}, s.podStore(),
		func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, deaf() },
		func(context.Context, metav1.ListOptions) (watch.Interface, error) { return nil, deaf() })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	<-asked
	stop()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}
