package kube

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// Config is what a Source needs.
type Config struct {
	Cluster *kubeapi.Cluster
	Log     *slog.Logger
	Now     func() time.Time
}

// Source keeps the addresses of the release's services. Make one with New.
type Source struct {
	cfg   Config
	watch []*watched
	kick  chan struct{}

	mu    sync.Mutex
	table *table
}

// The resources that are watched.
const (
	slicesResource = "endpointslices"
	podsResource   = "pods"
	nodesResource  = "nodes"
)

// New makes a source that asks nobody yet.
func New(cfg Config) (*Source, error) {
	s := &Source{cfg: cfg, table: newTable(), kick: make(chan struct{}, 1)}
	typed, err := discoveryclient.NewForConfig(binary(cfg.Cluster.Config))
	if err != nil {
		return nil, fmt.Errorf("preparing to watch EndpointSlices: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg.Cluster.Config)
	if err != nil {
		return nil, fmt.Errorf("preparing to watch pods: %w", err)
	}
	all := typed.EndpointSlices(metav1.NamespaceAll)
	ofServices := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector = discoveryv1.LabelServiceName
		return o
	}
	s.watch = []*watched{
		newWatched(s, slicesResource, &discoveryv1.EndpointSlice{},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return all.List(ctx, ofServices(o))
			},
			func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return all.Watch(ctx, ofServices(o))
			},
			s.sliceStore()),
		newMetadata(s, meta, podsResource, s.podStore()),
		newMetadata(s, meta, nodesResource, s.nodeStore()),
	}
	return s, nil
}

// binary is the settings with the encoding that costs least.
func binary(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}

func newMetadata(s *Source, c metadata.Interface, resource string, into cache.ReflectorStore) *watched {
	client := c.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource})
	return newWatched(s, resource, &metav1.PartialObjectMetadata{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return client.Watch(ctx, o) },
		into)
}

// Want sets the services of the release.
func (s *Source) Want(all []release.Discovered) {
	s.mu.Lock()
	s.table.want(all)
	s.mu.Unlock()
	s.changed()
}

func (s *Source) changed() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

const (
	// quiet is how long nothing must happen before changes are told, latest how long
	// they are held back at most: a rollout changes a Service many times.
	quiet  = 5 * time.Millisecond
	latest = 25 * time.Millisecond
)

// Watch follows the cluster until ctx ends, and returns nil then. Nothing is told before
// slices and pods were read as a whole, and nodes read or refused.
func (s *Source) Watch(ctx context.Context, sink endpoints.Sink) error {
	// Whatever client-go has to say is said by state, in words about the release.
	ctx = klog.NewContext(ctx, silent())
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range s.watch {
		g.Go(func() error { w.run(ctx); return nil })
	}
	g.Go(func() error { s.tell(ctx, sink); return nil })
	return g.Wait()
}

// silent is client-go's log.
func silent() klog.Logger { return klog.New(nil) }

// tell joins what has changed and tells it.
func (s *Source) tell(ctx context.Context, sink endpoints.Sink) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		if !s.calm(ctx) {
			return
		}
		if changes, problems := s.changes(); len(changes)+len(problems) > 0 {
			sink(changes, problems)
		}
	}
}

// calm waits until nothing has changed for a moment, or for long enough.
func (s *Source) calm(ctx context.Context) bool {
	end := time.NewTimer(latest)
	defer end.Stop()
	for {
		calm := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			calm.Stop()
			return false
		case <-s.kick:
			calm.Stop()
		case <-calm.C:
			return true
		case <-end.C:
			calm.Stop()
			return true
		}
	}
}

func (s *Source) changes() (changes []endpoints.Change, problems []endpoints.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watch {
		if !w.settled() {
			return nil, nil
		}
	}
	joined := s.table.join()
	for _, n := range slices.SortedFunc(maps.Keys(joined), func(a, b name) int { return cmp.Compare(a.String(), b.String()) }) {
		f := joined[n]
		for _, cluster := range slices.Sorted(maps.Keys(f.addresses)) {
			key := endpoints.Key{Cluster: cluster}
			addrs, err := endpoints.NewAddresses(f.addresses[cluster])
			if err != nil {
				problems = append(problems, endpoints.Problem{Key: key, Err: err})
				continue
			}
			changes = append(changes, endpoints.Change{Key: key, Addresses: addrs})
		}
	}
	return changes, problems
}

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

// again is how long to wait between requests that fail.
func again() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 6, Jitter: 0.5, Cap: 5 * time.Second}
}

func newWatched(s *Source, resource string, of runtime.Object,
	list func(context.Context, metav1.ListOptions) (runtime.Object, error), follow func(context.Context, metav1.ListOptions) (watch.Interface, error),
	into cache.ReflectorStore,
) *watched {
	w := &watched{resource: resource, source: s, since: s.cfg.Now()}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			l, err := list(ctx, o)
			w.note(ctx, "list", err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			i, err := follow(ctx, o)
			w.note(ctx, "watch", err)
			return i, err
		},
	}
	log := silent()
	w.refl = cache.NewReflectorWithOptions(lw, of, whole{into, w}, cache.ReflectorOptions{Name: resource, Logger: &log, Backoff: again()})
	return w
}

// run follows the resource until ctx ends.
func (w *watched) run(ctx context.Context) { w.refl.RunWithContext(ctx) }

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
	case err != nil && (was == nil || was.Error() != err.Error()):
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
