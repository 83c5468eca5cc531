package kube

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"meshc.dev/meshc/internal/kubeapi"
)

// watched is one resource that is followed. It knows how it is with the API server.
type watched struct {
	resource string
	source   *Source
	refl     *cache.Reflector

	mu sync.Mutex
	// read says that it was read as a whole, tried that it was asked for.
	read, tried bool
	// err is why the last request failed, nil if it did not; verb is what it was.
	err  error
	verb string
	// since is when that began.
	since time.Time
}

// follow adds a resource to those that are followed.
func (s *Source) follow(resource string) *watched {
	w := &watched{resource: resource, source: s, since: s.cfg.Now()}
	s.watch = append(s.watch, w)
	return w
}

type (
	lister  = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watcher = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// again is how long to wait between requests that fail.
func again() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 6, Jitter: 0.5, Cap: 5 * time.Second}
}

// reflect arranges how the resource is read.
func (w *watched) reflect(of runtime.Object, into cache.ReflectorStore, list lister, follow watcher) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			l, err := list(ctx, o)
			w.noteFailure(ctx, "list", err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			i, err := follow(ctx, o)
			w.noteFailure(ctx, "watch", err)
			return i, err
		},
	}
	log := kubeapi.Silent()
	w.refl = cache.NewReflectorWithOptions(lw, of, whole{into, w}, cache.ReflectorOptions{Name: w.resource, Logger: &log, Backoff: again()})
}

// run follows the resource until ctx ends. It does not wait for client-go, which waits
// until its next attempt whatever ctx says, nor for a program that gives credentials.
func (w *watched) run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.refl.RunWithContext(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// observed are settings with which it is seen how each request ends: client-go tries
// again by itself, and gives a watch that ends at once for a connection that did.
func (w *watched) observed(settings *rest.Config) *rest.Config {
	c := rest.CopyConfig(settings)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return observer{next, w} })
	return c
}

type observer struct {
	next http.RoundTripper
	of   *watched
}

// RoundTrip implements http.RoundTripper.
func (o observer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(r)
	verb := "list"
	if r.URL.Query().Has("watch") {
		verb = "watch"
	}
	switch {
	case err != nil:
		o.of.note(r.Context(), verb, err)
	case resp.StatusCode == http.StatusOK:
		o.of.note(r.Context(), verb, nil)
	}
	return resp, err
}

// noteFailure remembers what an API server refused: that it answered is seen before.
func (w *watched) noteFailure(ctx context.Context, verb string, err error) {
	if err != nil {
		w.note(ctx, verb, err)
	}
}

// note remembers how a request ended.
func (w *watched) note(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	first, was := !w.tried, w.err
	w.tried = true
	if (was == nil) != (err == nil) {
		w.since = w.source.cfg.Now()
	}
	w.err, w.verb = err, verb
	w.mu.Unlock()
	switch {
	case err != nil && was == nil:
		w.source.cfg.Log.Warn("the Kubernetes API does not answer; what was found last stays", slog.String("resource", w.resource), slog.String("verb", verb), slog.Any("error", err))
	case err == nil && was != nil:
		w.source.cfg.Log.Info("the Kubernetes API answers", slog.String("resource", w.resource))
	}
	if first {
		w.source.changed()
	}
}

// settled says that it was read as a whole; of nodes, which add only where an endpoint
// is, that they were asked for.
func (w *watched) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read || w.resource == nodesResource && w.tried && w.err != nil
}

// whole notes that a resource was read as a whole.
type whole struct {
	cache.ReflectorStore
	of *watched
}

// Replace takes all objects there are.
func (w whole) Replace(all []any, version string) error {
	err := w.ReflectorStore.Replace(all, version)
	w.of.mu.Lock()
	w.of.read = true
	w.of.mu.Unlock()
	w.of.source.changed()
	return err
}
