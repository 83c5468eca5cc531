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
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

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
	if err := s.followSlices(); err != nil {
		return nil, fmt.Errorf("preparing to watch EndpointSlices: %w", err)
	}
	for resource, into := range map[string]cache.ReflectorStore{podsResource: s.podStore(), nodesResource: s.nodeStore()} {
		if err := s.followLabels(resource, into); err != nil {
			return nil, fmt.Errorf("preparing to watch %s: %w", resource, err)
		}
	}
	return s, nil
}

// followSlices arranges to watch the slices of Services.
func (s *Source) followSlices() error {
	w := s.follow(slicesResource)
	settings := w.observed(s.cfg.Cluster.Config)
	settings.ContentType = runtime.ContentTypeProtobuf // costs least
	settings.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := discoveryclient.NewForConfig(settings)
	if err != nil {
		return err
	}
	all := client.EndpointSlices(metav1.NamespaceAll)
	w.reflect(&discoveryv1.EndpointSlice{}, s.sliceStore(),
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = discoveryv1.LabelServiceName
			return all.List(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = discoveryv1.LabelServiceName
			return all.Watch(ctx, o)
		})
	return nil
}

// followLabels arranges to watch the metadata of a resource.
func (s *Source) followLabels(resource string, into cache.ReflectorStore) error {
	w := s.follow(resource)
	client, err := metadata.NewForConfig(w.observed(s.cfg.Cluster.Config))
	if err != nil {
		return err
	}
	all := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource})
	w.reflect(&metav1.PartialObjectMetadata{}, into,
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return all.List(ctx, o) },
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return all.Watch(ctx, o) })
	return nil
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
	ctx = kubeapi.Quiet(ctx) // what matters is said by State, in words about the release
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range s.watch {
		g.Go(func() error { w.run(ctx); return nil })
	}
	g.Go(func() error { s.tell(ctx, sink); return nil })
	return g.Wait()
}

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
