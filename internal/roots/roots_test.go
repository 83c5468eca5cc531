package roots_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/roots"
)

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// shared are roots that servers share: seen is what this server has read of them.
type shared struct {
	mu        sync.Mutex
	all, seen string
	away      error
}

func (s *shared) PEM() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.seen)
}

func (s *shared) Refresh(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		s.seen = s.all
	}
	return s.away
}

func (s *shared) set(all string, away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.away = all, away
}

// Every namespace of the mesh has the roots: new namespaces, edited and deleted
// ConfigMaps, and new roots.
func TestNamespacesHaveTheRoots(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{})
	made, err := release.Seal([]release.Artifact{
		{Path: "envoy/sidecar/shop/web.json", Bytes: []byte("{}")}, {Path: "envoy/sidecar/default/cart.json", Bytes: []byte("{}")},
	}, release.Inputs{Environment: "e"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	text := &shared{all: "first"}
	p := roots.New(c.Client, text, slog.New(slog.NewTextHandler(log, nil)))
	p.Serve(made)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Run(ctx) // it ends with ctx
	}()
	holds := func(namespace, want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			m, err := c.Client.CoreV1().ConfigMaps(namespace).Get(ctx, release.RootsConfigMap, metav1.GetOptions{})
			if err == nil && m.Data[release.RootsKey] == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v, %v, want %q", namespace, m, err, want)
			}
		}
	}
	holds("default", "first")
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), "no such namespace yet"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody told of the missing namespace:\n%s", log)
		}
	}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds("shop", "first")
	if err := c.Client.CoreV1().ConfigMaps("shop").Delete(ctx, release.RootsConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	text.set("second", nil)
	if err := text.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	p.Serve(made) // looks at once
	holds("shop", "second")
	holds("default", "second")
	// A server that has not read them takes nothing back that another one has published.
	m, err := c.Client.CoreV1().ConfigMaps("shop").Get(ctx, release.RootsConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data[release.RootsKey] = "third"
	if _, err := c.Client.CoreV1().ConfigMaps("shop").Update(ctx, m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	text.set("third", errors.New("the roots are away"))
	p.Serve(made)
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), "the roots are away"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody told:\n%s", log)
		}
	}
	holds("shop", "third")
	text.set("third", nil)
	if err := text.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	p.Serve(made)
	holds("default", "third")

	// A namespace that is being deleted, and waits for something else, takes no new one. It is
	// told with the way out, and the others have theirs.
	if _, err := c.Client.CoreV1().ConfigMaps("shop").Create(ctx, &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"test.example/held"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Client.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Client.CoreV1().ConfigMaps("shop").Delete(ctx, release.RootsConfigMap, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	p.Serve(made)
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), "in a namespace that is being deleted") || !strings.Contains(log.String(), "wait until it is gone"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody told of the namespace that goes:\n%s", log)
		}
	}
	text.set("fourth", nil)
	p.Serve(made)
	holds("default", "fourth")
	stop()
	<-ended
	if got := log.String(); strings.Count(got, "no such namespace yet") != 1 || strings.Count(got, "ERROR") != 2 {
		t.Errorf("the log:\n%s", got)
	}
}
