package xdsserver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/endpoints/dns"
	"meshc.dev/meshc/xds-server/internal/endpoints/file"
	"meshc.dev/meshc/xds-server/internal/endpoints/kube"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// sources runs the sources of live endpoints and remembers what is wrong with them.
type sources struct {
	cfg   Config
	hub   *stream.Hub
	names *dns.Source
	// cluster is nil if there is none.
	cluster *kube.Source

	mu     sync.Mutex
	wanted []endpoints.Key
	bad    map[endpoints.Key]diag.Diagnostic
	seen   map[endpoints.Key]bool
	// changed is called after each change.
	changed func()
}

func newSources(cfg Config, hub *stream.Hub, changed func()) (*sources, error) {
	s := &sources{
		cfg: cfg, hub: hub, changed: changed, bad: map[endpoints.Key]diag.Diagnostic{}, seen: map[endpoints.Key]bool{},
		names: dns.New(dns.Config{Every: cfg.ResolveEvery}),
	}
	if cfg.Kubernetes == nil {
		return s, nil
	}
	var err error
	if s.cluster, err = kube.New(kube.Config{Cluster: cfg.Kubernetes, Log: cfg.Log, Now: cfg.Now}); err == nil {
		cfg.Registry.MustRegister(newClusterMetrics(s.cluster.State, cfg.Now))
	}
	return s, err
}

func (s *sources) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.names.Watch(ctx, s.take) })
	if s.cfg.EndpointDir != "" {
		g.Go(func() error { return file.Watch(ctx, s.cfg.EndpointDir, s.cfg.EndpointPoll, s.take) })
	}
	if s.cluster != nil {
		g.Go(func() error { return s.cluster.Watch(ctx, s.take) })
	}
	return g.Wait()
}

// want tells the sources what the release names, and the services that are discovered.
func (s *sources) want(keys []endpoints.Key, discovered []release.Discovered) {
	s.mu.Lock()
	s.wanted = keys
	maps.DeleteFunc(s.bad, func(k endpoints.Key, _ diag.Diagnostic) bool { return k.DNS != "" && !slices.Contains(keys, k) })
	s.mu.Unlock()
	var names []string
	for _, k := range keys {
		if k.DNS != "" {
			names = append(names, k.DNS)
		}
	}
	s.names.Want(names)
	if s.cluster != nil {
		s.cluster.Want(discovered)
	}
}

// kubernetes says how it is with the cluster, nil for none.
func (s *sources) kubernetes() *Kubernetes {
	if s.cluster == nil {
		return nil
	}
	st := s.cluster.State()
	out := &Kubernetes{Current: st.Current, Since: st.Since, Endpoints: map[string]int{}}
	for fate, n := range st.Endpoints {
		out.Endpoints[string(fate)] = n
	}
	return out
}

// take is called by the sources with changes and problems.
func (s *sources) take(changes []endpoints.Change, problems []endpoints.Problem) {
	s.mu.Lock()
	for _, c := range changes {
		delete(s.bad, c.Key)
		s.seen[c.Key] = !c.Gone
	}
	for _, p := range problems {
		if old, ok := s.bad[p.Key]; !ok || old.Text != text(p) {
			s.cfg.Log.Warn("endpoint source unusable; its last content stays", slog.String("source", p.Key.String()), slog.Any("error", p.Err))
		}
		s.bad[p.Key] = diagnose(p)
	}
	s.mu.Unlock()
	defer s.changed()
	if err := s.hub.SetEndpoints(changes...); err != nil {
		s.cfg.Log.Error("new addresses are not served", slog.Any("error", err))
	}
}

func text(p endpoints.Problem) string {
	switch {
	case p.Key.File != "":
		return fmt.Sprintf("endpoint file %q: %v", p.Key.File, p.Err)
	case p.Key.Cluster != "":
		return fmt.Sprintf("pods of %q: %v", p.Key.Cluster, p.Err)
	}
	return fmt.Sprintf("endpoint name %q: %v", p.Key.DNS, p.Err)
}

func diagnose(p endpoints.Problem) diag.Diagnostic {
	switch {
	case p.Key.File != "":
		return diag.New(diag.CodeEndpointFile, diag.Pos{File: p.Path}, "%s", text(p)).
			WithFix(`write the file as {"endpoints": ["IP:PORT", …]}; the addresses read before stay in use`)
	case p.Key.Cluster != "":
		return diag.New(diag.CodeEndpointUnfit, diag.Pos{}, "%s", text(p)).
			WithFix("divide the service; the addresses found before stay in use")
	}
	return diag.New(diag.CodeEndpointName, diag.Pos{}, "%s", text(p)).
		WithFix("correct the name in the intent or in DNS; the addresses found before stay in use")
}

// problems returns what is wrong now, sorted.
func (s *sources) problems() []diag.Diagnostic {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []diag.Diagnostic
	for _, d := range s.bad {
		out = append(out, d)
	}
	for _, k := range s.wanted {
		if _, bad := s.bad[k]; k.File != "" && !bad && !s.seen[k] {
			out = append(out, diag.New(diag.CodeEndpointMissing, diag.Pos{},
				"the release names endpoint file %q, which is not in folder %q", k.File, s.cfg.EndpointDir).
				WithFix("put %s.yaml or %s.json there", k.File, k.File))
		}
	}
	if s.cluster != nil {
		out = append(out, s.cluster.State().Problems...)
	} else if d, lost := s.undiscovered(); lost {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b diag.Diagnostic) int { return strings.Compare(string(a.Code)+a.Text, string(b.Code)+b.Text) })
	return out
}

// undiscovered tells of clusters whose addresses nobody looks for. The caller holds mu.
func (s *sources) undiscovered() (diag.Diagnostic, bool) {
	n, first := 0, ""
	for _, k := range s.wanted { // sorted
		if k.Cluster != "" {
			n++
			first = cmp.Or(first, k.Cluster)
		}
	}
	return diag.Warn(diag.CodeNotDiscovered, diag.Pos{}, "the release says of %d clusters, such as %q, neither where they are nor who knows it, and this server looks for them nowhere", n, first).
		WithFix("start it with --in-cluster or --kubeconfig, or write in the intent where the services are (endpoints, address)"), n > 0
}
