package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing/fstest"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/plane"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
)

// slicesPerSecond is how many changes of EndpointSlices there are.
const slicesPerSecond = 50

// population is what a cluster has: services with one slice each, and pods.
type population struct {
	services, pods int // pods of each service
	client         kubernetes.Interface
}

func (p population) service(i int) string { return fmt.Sprintf("s%d", i) }

func (p population) address(i, j int) string { return fmt.Sprintf("10.%d.%d.1", i, j) }

// kubernetes measures a server that discovers services in a real cluster: how long an
// endpoint's change takes from the API server to a proxy's confirmation, and what 5,000
// endpoints cost. Pods are objects only, and the slices are written by the bench: kwok, which
// stands in for kubelets, would add nothing, for nobody here reads what a kubelet writes.
func (b *bench) kubernetes(s report.Section) (err error) {
	p, span := population{services: 50, pods: 100}, 20*time.Second
	if b.quick {
		p.services, p.pods, span = 4, 20, 2*time.Second
	}
	c, err := kubetest.Start(b.ctx, kubetest.Options{Controllers: []string{"namespace-controller", "serviceaccount-controller", "serviceaccount-token-controller"}, Progress: b.err})
	if err != nil {
		return err
	}
	defer c.Stop()
	p.client = c.Client
	b.say("kubernetes: %d pods", p.services*p.pods)
	if err := p.fill(b.ctx); err != nil {
		return err
	}
	idle := heap()
	began := time.Now()
	pl, err := plane.OpenIn(compileDate(), kubeapi.New(c.Config))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pl.Close()) }()
	if _, err := pl.Publish(b.ctx, p.intent()); err != nil {
		return err
	}
	proxy, err := p.proxy(b.ctx, pl)
	if err != nil {
		return err
	}
	if err := proxy.full(b.ctx, p); err != nil {
		return err
	}
	s.Add("from the start until a proxy has all endpoints", measure.MS(time.Since(began)), "ms", "%d endpoints of %d services; with compiling", p.services*p.pods, p.services)
	s.Add("heap for them", measure.MiB(heap()-idle), "MiB", "the whole server, with its proxy in the same process")
	b.say("kubernetes: changes")
	before, start := measure.CPU(), time.Now()
	ages, err := p.change(b.ctx, proxy, span)
	if err != nil {
		return err
	}
	busy, took := measure.CPU()-before, time.Since(start)
	s.AtMost(100, fmt.Sprintf("%d changes a second: from the API server to a proxy's confirmation, p99", slicesPerSecond), measure.MS(ages.Percentile(99)), "ms",
		"median %s ms, %d changes in %.1f s; changes are collected for 5 to 25 ms", ms(ages.Median()), len(ages), took.Seconds())
	s.Add(fmt.Sprintf("%d changes a second: CPU", slicesPerSecond), 1000*busy.Seconds()/took.Seconds(), "ms/s", "server, one proxy and the writer of the changes in one process; heap %.1f MiB", measure.MiB(heap()-idle))
	return nil
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill makes namespace, pods and slices.
func (p population) fill(ctx context.Context) error {
	if _, err := p.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making the namespace: %w", err)
	}
	if _, err := p.client.CoreV1().ServiceAccounts("shop").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making the account: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	const atOnce = 16
	g.SetLimit(atOnce)
	for i := range p.services {
		g.Go(func() error { return p.fillService(ctx, i) })
	}
	return g.Wait()
}

func (p population) fillService(ctx context.Context, i int) error {
	tcp, name, number, yes := corev1.ProtocolTCP, "http", int32(8080), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: p.service(i), Labels: map[string]string{
			discoveryv1.LabelServiceName: p.service(i), discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &tcp}},
	}
	for j := range p.pods {
		pod, err := p.client.CoreV1().Pods("shop").Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", p.service(i), j), Labels: map[string]string{"app": p.service(i), "version": "v1"}},
			Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "app", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("making a pod: %w", err)
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.address(i, j)}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod.Name, UID: pod.UID},
		})
	}
	if _, err := p.client.DiscoveryV1().EndpointSlices("shop").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making a slice: %w", err)
	}
	return nil
}

// intent is a mesh whose service web calls all others.
func (p population) intent() fstest.MapFS {
	calls, services := "", ""
	for i := range p.services {
		calls += p.service(i) + ": {}\n"
		services += fmt.Sprintf("mesh: service: %s: {port: http: number: 8080, version: v1: {}, grant: web: from: [\"web\"]}\n", p.service(i))
	}
	return fstest.MapFS{
		"mesh.cue":           {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"mesh.local\"}\n")},
		"cue.mod/module.cue": {Data: []byte("module: \"bench.example/mesh\"\nlanguage: version: \"v0.17.0\"\n")},
		"shop/shop.cue":      {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", owner: \"shop\"}\nmesh: service: web: {port: http: number: 8080, calls: {" + calls + "}}\n" + services)},
	}
}

// reader is a proxy that knows which addresses it has, and when a change came.
type reader struct {
	mu   sync.Mutex
	have map[string]map[string]bool // cluster, address
	// wait are changes under way: the address, when it was asked for, and whether it comes.
	wait map[string]change
	ages measure.Samples
	err  error
}

type change struct {
	at   time.Time
	come bool
}

func (p population) proxy(ctx context.Context, pl *plane.Plane) (*reader, error) {
	cfg, err := pl.Join(ctx, "shop/web")
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+pl.Address(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		return nil, fmt.Errorf("connecting a proxy: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting a proxy: %w", err)
	}
	var names []string
	for i := range p.services {
		names = append(names, "shop/"+p.service(i)+"/http/v1")
	}
	for typ, names := range map[string][]string{release.ClusterType: nil, release.EndpointType: names, release.ListenerType: nil, release.RouteType: nil} {
		if err := st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: names}); err != nil {
			return nil, fmt.Errorf("asking for %s: %w", typ, err)
		}
	}
	r := &reader{have: map[string]map[string]bool{}, wait: map[string]change{}}
	go r.follow(st)
	return r, nil
}

func (r *reader) follow(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for {
		resp, err := st.Recv()
		if err == nil {
			err = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()})
		}
		now := time.Now() // confirmed
		r.mu.Lock()
		if err != nil {
			r.err = err
			r.mu.Unlock()
			return
		}
		for _, res := range resp.GetResources() {
			var cla endpointv3.ClusterLoadAssignment
			if res.GetResource().UnmarshalTo(&cla) == nil {
				r.take(&cla, now)
			}
		}
		r.mu.Unlock()
	}
}

// take notes a cluster's addresses, and which changes have come with them. The caller
// holds mu.
func (r *reader) take(cla *endpointv3.ClusterLoadAssignment, now time.Time) {
	has := map[string]bool{}
	for _, g := range cla.GetEndpoints() {
		for _, e := range g.GetLbEndpoints() {
			has[e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()] = true
		}
	}
	old := r.have[cla.GetClusterName()]
	r.have[cla.GetClusterName()] = has
	for _, all := range []map[string]bool{old, has} {
		for addr := range all {
			if w, ok := r.wait[addr]; ok && w.come == has[addr] {
				delete(r.wait, addr)
				r.ages = append(r.ages, now.Sub(w.at))
			}
		}
	}
}

// full waits until the proxy has all endpoints.
func (r *reader) full(ctx context.Context, p population) error {
	return r.until(ctx, func() string {
		n := 0
		for _, all := range r.have {
			n += len(all)
		}
		if n != p.services*p.pods {
			return fmt.Sprintf("a proxy has %d of %d endpoints", n, p.services*p.pods)
		}
		return ""
	})
}

func (r *reader) until(ctx context.Context, ok func() string) error {
	why := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		err := r.err
		why = ok()
		r.mu.Unlock()
		if err != nil || why == "" {
			return err
		}
	}
	return errors.Join(ctx.Err(), errors.New(why))
}

// change has endpoints become ready and not, one after the other, and gives how long
// each took to the proxy.
func (p population) change(ctx context.Context, r *reader, span time.Duration) (measure.Samples, error) {
	every := time.NewTicker(time.Second / slicesPerSecond)
	defer every.Stop()
	total := int(span.Seconds() * slicesPerSecond)
	g, writing := errgroup.WithContext(ctx)
	const atOnce = 16
	g.SetLimit(atOnce) // an API server that is behind sets the pace
	for n := range total {
		select {
		case <-writing.Done():
			return nil, errors.Join(g.Wait(), ctx.Err())
		case <-every.C:
		}
		i, j, come := n%p.services, n/p.services/2%p.pods, n/p.services%2 == 1
		g.Go(func() error { return p.set(writing, r, i, j, come) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	err := r.until(ctx, func() string {
		if len(r.wait) > 0 {
			return fmt.Sprintf("%d changes never came", len(r.wait))
		}
		return ""
	})
	return r.ages, err
}

// set has one endpoint ready or not. Time counts from the request to the API server.
func (p population) set(ctx context.Context, r *reader, i, j int, come bool) error {
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/%d/conditions/ready","value":%t}]`, j, come)
	r.mu.Lock()
	r.wait[p.address(i, j)] = change{time.Now(), come}
	r.mu.Unlock()
	_, err := p.client.DiscoveryV1().EndpointSlices("shop").Patch(ctx, p.service(i), types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("changing an endpoint: %w", err)
	}
	return nil
}
