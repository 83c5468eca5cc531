package history_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/ci/history"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
)

// proxy asks as Envoy does, over a real connection: all clusters and listeners, and
// the endpoints and route tables that those name. What it gets it records.
type proxy struct {
	w     *world
	name  string
	class release.Class
	tls   *tls.Config
	rng   *mathrand.Rand
	// naughty ones refuse some resources, always the same.
	naughty bool
	// whole ones speak the state-of-the-world protocol; versions are of their lists.
	whole    bool
	versions [4]string

	held  [4]map[string]item
	liked map[string]bool
	cut   atomic.Pointer[context.CancelFunc]
}

type item struct {
	history.Resource
	version string
}

// join gets a certificate of its own, as an agent does.
func (p *proxy) join(ctx context.Context, addr string) error {
	id, err := ca.Identity{Namespace: p.class.Namespace, Account: p.class.Account}.SPIFFE(p.w.authority.TrustDomain())
	if err != nil {
		return err
	}
	token, err := p.w.tokens.Create(ctx, id, time.Hour)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return err
	}
	trust := ca.Trust{TrustDomain: p.w.authority.TrustDomain(), Pins: p.w.authority.Fingerprints(), Clock: time.Now}
	c, err := ca.Dial([]string{addr}, trust)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := c.Join(ctx, token, csr)
	if err != nil {
		return err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: got.Chain[0]}
	for _, x := range got.Chain {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	trust.Roots, trust.Certificate = got.Bundle, cert
	p.tls = trust.TLSConfig(nil)
	return nil
}

// run connects again and again, to whichever server, until ctx ends.
func (p *proxy) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.session(ctx)
		p.w.record(history.Event{Kind: history.Cut, Proxy: p.name})
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(1+p.rng.IntN(20)) * time.Millisecond):
		}
	}
}

func (p *proxy) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.cut.Store(&cancel)
	to := p.w.servers[p.rng.IntN(len(p.w.servers))]
	if p.whole {
		to = p.w.servers[0]
	}
	conn, err := grpc.NewClient("passthrough:///"+to.addr, grpc.WithTransportCredentials(credentials.NewTLS(p.tls)))
	if err != nil {
		return
	}
	defer conn.Close()
	if p.whole {
		p.wholeSession(ctx, conn, to.dir)
		return
	}
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return
	}
	p.w.record(history.Event{Kind: history.Open, Proxy: p.name, Class: p.class.String(), Server: to.dir})
	for t, url := range release.Types() {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: map[string]string{}}
		if t == 0 {
			r.Node = &corev3.Node{Id: p.name}
		}
		for name, it := range p.held[t] {
			r.InitialResourceVersions[name] = it.version
		}
		if history.Type(t) == history.Endpoints || history.Type(t) == history.Routes {
			if r.ResourceNamesSubscribe = p.wanted(history.Type(t)); len(r.ResourceNamesSubscribe) == 0 {
				continue
			}
		}
		if st.Send(r) != nil {
			return
		}
	}
	for {
		r, err := st.Recv()
		if err != nil || p.take(st, r) != nil {
			return
		}
	}
}

// wanted are the names that what it holds leads to.
func (p *proxy) wanted(t history.Type) []string {
	names := map[string]bool{}
	for _, it := range p.held[history.Clusters] {
		for _, n := range it.Assignments {
			names[n] = t == history.Endpoints
		}
	}
	for _, it := range p.held[history.Listeners] {
		for _, n := range it.Tables {
			names[n] = t == history.Routes
		}
	}
	maps.DeleteFunc(names, func(_ string, ours bool) bool { return !ours })
	return slices.Sorted(maps.Keys(names))
}

type deltaStream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
}

func (p *proxy) take(st deltaStream, r *discoveryv3.DeltaDiscoveryResponse) error {
	t := history.Type(slices.Index(release.Types(), r.GetTypeUrl()))
	e := history.Event{Kind: history.Take, Proxy: p.name, Type: t, Nonce: t.String() + r.GetNonce(), Removed: r.GetRemovedResources()}
	var items []item
	for _, res := range r.GetResources() {
		got, err := p.w.known.read(res.GetResource())
		if err != nil {
			return err
		}
		items, e.Resources = append(items, item{got, res.GetVersion()}), append(e.Resources, got)
	}
	p.w.record(e)
	if p.rng.IntN(4) == 0 {
		time.Sleep(time.Duration(p.rng.IntN(3000)) * time.Microsecond)
	}
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	e.Kind, e.Resources, e.Removed = history.Confirm, nil, nil
	if p.naughty && p.w.faults.Load() && slices.ContainsFunc(items, p.dislikes) {
		e.Kind = history.Refuse
		p.w.record(e)
		answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: "not this one"}
		return st.Send(answer)
	}
	p.w.record(e)
	before := map[history.Type][]string{history.Endpoints: p.wanted(history.Endpoints), history.Routes: p.wanted(history.Routes)}
	for _, it := range items {
		p.held[t][it.Name] = it
	}
	for _, name := range r.GetRemovedResources() {
		delete(p.held[t], name)
	}
	// As Envoy does: what a response makes it need is asked for before the answer.
	for _, t := range []history.Type{history.Endpoints, history.Routes} {
		if err := p.subscribe(st, t, before[t]); err != nil {
			return err
		}
	}
	return st.Send(answer)
}

// dislikes tells whether the proxy refuses a resource: one in twenty, but none that it
// has taken before.
func (p *proxy) dislikes(it item) bool {
	liked, known := p.liked[it.Digest]
	if !known {
		liked = p.rng.IntN(20) > 0
		p.liked[it.Digest] = liked
	}
	return !liked
}

// subscribe tells which names it wants now and did not before, and the other way round.
func (p *proxy) subscribe(st deltaStream, t history.Type, before []string) error {
	now := p.wanted(t)
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: release.Types()[t]}
	for _, n := range now {
		if !slices.Contains(before, n) {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, n)
		}
	}
	for _, n := range before {
		if !slices.Contains(now, n) {
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, n)
			delete(p.held[t], n)
		}
	}
	if len(r.ResourceNamesUnsubscribe) > 0 {
		p.w.record(history.Event{Kind: history.Drop, Proxy: p.name, Type: t, Removed: r.ResourceNamesUnsubscribe})
	}
	if len(r.ResourceNamesSubscribe)+len(r.ResourceNamesUnsubscribe) == 0 {
		return nil
	}
	return st.Send(r)
}

// reader understands resources, each once.
type reader struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]history.Resource
}

func (k *reader) read(boxed *anypb.Any) (history.Resource, error) {
	key := sha256.Sum256(append([]byte(boxed.GetTypeUrl()+"\n"), boxed.GetValue()...))
	k.mu.Lock()
	defer k.mu.Unlock()
	if res, ok := k.known[key]; ok {
		return res, nil
	}
	m, err := boxed.UnmarshalNew()
	if err != nil {
		return history.Resource{}, fmt.Errorf("reading %s: %w", boxed.GetTypeUrl(), err)
	}
	raw, err := canon.Proto(m)
	if err != nil {
		return history.Resource{}, err
	}
	var name string
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		name = m.GetClusterName()
	case interface{ GetName() string }:
		name = m.GetName()
	}
	res := resourceOf(name, canon.Digest(raw), m)
	if len(k.known) > 100_000 {
		clear(k.known)
	}
	k.known[key] = res
	return res, nil
}

// resourceOf finds what a resource names. It knows Envoy's messages and nothing of
// the server's own way to find references.
func resourceOf(name, digest string, m proto.Message) history.Resource {
	r := history.Resource{Name: name, Digest: digest}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		if m.GetType() == clusterv3.Cluster_EDS {
			r.Assignments = []string{m.GetName()}
			if s := m.GetEdsClusterConfig().GetServiceName(); s != "" {
				r.Assignments = []string{s}
			}
		}
	case *listenerv3.Listener:
		for _, c := range append(slices.Clone(m.GetFilterChains()), m.GetDefaultFilterChain()) {
			for _, f := range c.GetFilters() {
				filter(&r, f.GetTypedConfig())
			}
		}
	case *routev3.RouteConfiguration:
		table(&r, m)
	case *endpointv3.ClusterLoadAssignment:
	}
	return r
}

func filter(r *history.Resource, boxed *anypb.Any) {
	m, err := boxed.UnmarshalNew()
	if err != nil {
		return // a filter that forwards nothing
	}
	switch m := m.(type) {
	case *hcmv3.HttpConnectionManager:
		if name := m.GetRds().GetRouteConfigName(); name != "" {
			r.Tables = append(r.Tables, name)
		}
		table(r, m.GetRouteConfig())
	case *tcpv3.TcpProxy:
		if m.GetCluster() != "" {
			r.Clusters = append(r.Clusters, m.GetCluster())
		}
		for _, w := range m.GetWeightedClusters().GetClusters() {
			r.Clusters = append(r.Clusters, w.GetName())
		}
	}
}

func table(r *history.Resource, rc *routev3.RouteConfiguration) {
	for _, vh := range rc.GetVirtualHosts() {
		for _, route := range vh.GetRoutes() {
			a := route.GetRoute()
			if a.GetCluster() != "" {
				r.Clusters = append(r.Clusters, a.GetCluster())
			}
			for _, w := range a.GetWeightedClusters().GetClusters() {
				r.Clusters = append(r.Clusters, w.GetName())
			}
			for _, mirror := range a.GetRequestMirrorPolicies() {
				r.Clusters = append(r.Clusters, mirror.GetCluster())
			}
		}
	}
}
