package xdsserver

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"crypto/tls"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
)

// reader is who the server is in the cluster: it may what the documentation lists.
const reader = "meshc-serve"

func newCluster(t *testing.T) *kubetest.Cluster {
	t.Helper()
	c := kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: reader}, {Name: "nobody"}}})
	raw, err := os.ReadFile(filepath.Join("..", "docs", "kubernetes-serving.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "```yaml\n")
	role, _, _ := strings.Cut(rest, "```")
	if err := c.Apply(t.Context(), role, `
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: meshc-serve},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: meshc-serve}, subjects: [{kind: User, name: meshc-serve, apiGroup: rbac.authorization.k8s.io}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/region: west, topology.kubernetes.io/zone: w1}}}
`, service("web")); err != nil {
		t.Fatal(err)
	}
	return c
}

func service(name string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: shop},
 spec: {selector: {app: %s}, ipFamilyPolicy: RequireDualStack, ports: [{name: http, port: 80, targetPort: 8080}]}}`, name, name)
}

// pod makes a pod that its kubelet would call ready, at an address of each family.
func pod(t *testing.T, c *kubetest.Cluster, name, labels string, n int) {
	t.Helper()
	if err := c.Apply(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop, labels: {app: web%s}},
 spec: {nodeName: n1, containers: [{name: app, image: app}]}}`, name, labels)); err != nil {
		t.Fatal(err)
	}
	setReady(t, c, name, n, true)
}

func setReady(t *testing.T, c *kubetest.Cluster, name string, n int, ready bool) {
	t.Helper()
	state := map[bool]string{true: "True", false: "False"}[ready]
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"10.1.0.%d","podIPs":[{"ip":"10.1.0.%d"},{"ip":"fd00::%d"}],"conditions":[{"type":"Ready","status":%q}]}}`, n, n, n, state)
	if _, err := c.Client.CoreV1().Pods("shop").Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// discoveredRelease has service shop/web in two versions, and shop/late that the cluster
// does not have at first.
func discoveredRelease(t *testing.T) (release.Release, []release.Discovered) {
	t.Helper()
	services := []release.Discovered{
		{Namespace: "shop", Name: "web", Ports: []string{"http"}, Versions: []release.DiscoveredVersion{
			{Name: "v1", Labels: map[string]string{"version": "v1"}, Clusters: map[string][]string{"http": {"shop/web/http/v1"}}},
			{Name: "v2", Labels: map[string]string{"version": "v2"}, Clusters: map[string][]string{"http": {"shop/web/http/v2"}}},
		}},
		{Namespace: "shop", Name: "late", Ports: []string{"http"}, Versions: []release.DiscoveredVersion{
			{Name: "default", Clusters: map[string][]string{"http": {"shop/late/http/default"}}},
		}},
	}
	var arts []release.Artifact
	snap := release.Snapshot{Class: web, TrustDomain: trustDomain, Resources: map[release.TypeURL][]release.Resource{}}
	for _, s := range services {
		for _, v := range s.Versions {
			name := v.Clusters["http"][0]
			raw, err := canon.Proto(&clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(time.Second), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}})
			if err != nil {
				t.Fatal(err)
			}
			arts = append(arts, release.Artifact{Path: release.BlobPath(canon.Digest(raw)), Bytes: raw})
			snap.Resources[release.ClusterType] = append(snap.Resources[release.ClusterType], release.Resource{Name: name, Digest: canon.Digest(raw), Needs: release.References{release.EndpointType: {name}}})
			snap.Endpoints = append(snap.Endpoints, release.Endpoints{Cluster: name})
		}
	}
	slices.SortFunc(snap.Endpoints, func(a, b release.Endpoints) int { return cmp.Compare(a.Cluster, b.Cluster) })
	raw, err := canon.JSON(snap)
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Seal(append(arts, release.Artifact{Path: release.SnapshotPath(web), Bytes: raw}), release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, services
}

// follower is a proxy that confirms everything and knows the addresses of each cluster.
type follower struct {
	mu   sync.Mutex
	have map[string]string
}

func (f *follower) of(cluster string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have[cluster]
}

func (w *world) follower(t *testing.T, clusters ...string) *follower {
	t.Helper()
	conn, err := grpc.NewClient(w.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: w.pool(), ServerName: "localhost", Certificates: []tls.Certificate{w.issue(t, web.SPIFFEID(trustDomain))},
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{have: map[string]string{}}
	_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(release.ClusterType)})
	_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(release.EndpointType), ResourceNamesSubscribe: clusters})
	_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(release.ListenerType)})
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				return
			}
			for _, res := range r.GetResources() {
				var cla endpointv3.ClusterLoadAssignment
				if res.GetResource().UnmarshalTo(&cla) == nil {
					f.mu.Lock()
					f.have[cla.GetClusterName()] = addressesOf(&cla)
					f.mu.Unlock()
				}
			}
			_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		}
	}()
	return f
}

func addressesOf(cla *endpointv3.ClusterLoadAssignment) string {
	var all []string
	for _, g := range cla.GetEndpoints() {
		for _, e := range g.GetLbEndpoints() {
			at := e.GetEndpoint().GetAddress().GetSocketAddress()
			all = append(all, fmt.Sprintf("%s:%d@%s/%s", at.GetAddress(), at.GetPortValue(), g.GetLocality().GetRegion(), g.GetLocality().GetZone()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (f *follower) reach(t *testing.T, cluster, want string) {
	t.Helper()
	soon(t, func() string {
		if got := f.of(cluster); got != want {
			return fmt.Sprintf("%s is at %q, want %q", cluster, got, want)
		}
		return ""
	})
}

func (w *world) problem(t *testing.T, code diag.Code, text string, want bool) {
	t.Helper()
	soon(t, func() string {
		var all []string
		for _, d := range w.Status().Problems {
			if d.Code == code && strings.Contains(d.Text, text) {
				if !want {
					return "still told: " + d.String()
				}
				return ""
			}
			all = append(all, d.String())
		}
		if want {
			return fmt.Sprintf("%s %q is not told: %q", code, text, all)
		}
		return ""
	})
}

// serveCluster starts a server that discovers services through a door that can be shut.
func serveCluster(t *testing.T, c *kubetest.Cluster, user string) (*world, *door) {
	t.Helper()
	config, _, err := c.As(user)
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, config)
	w := newWorld(t)
	r, services := discoveredRelease(t)
	cfg := w.config(t)
	cfg.Kubernetes = kubeapi.New(d.config)
	cfg.Discovered = func(release.Release) ([]release.Discovered, error) { return services, nil }
	w.startWith(t, cfg)
	if err := w.publish(t.Context(), []approval.Step{{Release: r}}, approved{commit: "c", environment: "default"}); err != nil {
		t.Fatal(err)
	}
	return w, d
}

// door is a way to an API server that can be shut.
type door struct {
	config *rest.Config
	mu     sync.Mutex
	shut   bool
	open   map[net.Conn]bool
}

func newDoor(t *testing.T, to *rest.Config) *door {
	t.Helper()
	u, err := url.Parse(to.Host)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{config: rest.CopyConfig(to), open: map[net.Conn]bool{}}
	d.config.Host = "https://" + l.Addr().String()
	t.Cleanup(func() { _ = l.Close(); d.set(true) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(in, u.Host)
		}
	}()
	return d
}

func (d *door) pass(in net.Conn, to string) {
	var dialer net.Dialer
	out, err := dialer.DialContext(context.Background(), "tcp", to)
	d.mu.Lock()
	if err != nil || d.shut {
		d.mu.Unlock()
		_ = in.Close()
		return
	}
	d.open[in], d.open[out] = true, true
	d.mu.Unlock()
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(in, out)
	_ = in.Close()
}

func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	for c := range d.open {
		_ = c.Close()
		delete(d.open, c)
	}
}

// What the controllers make of pods and Services reaches proxies, by the pods' labels.
func TestServicesAreDiscovered(t *testing.T) {
	c := newCluster(t)
	pod(t, c, "a", ", version: v1", 1)
	pod(t, c, "b", ", version: v1", 2)
	pod(t, c, "c", ", version: v2", 3)
	pod(t, c, "d", "", 4)
	w, _ := serveCluster(t, c, reader)
	f := w.follower(t, "shop/web/http/v1", "shop/web/http/v2", "shop/late/http/default")
	f.reach(t, "shop/web/http/v1", "10.1.0.1:8080@west/w1 10.1.0.2:8080@west/w1")
	f.reach(t, "shop/web/http/v2", "10.1.0.3:8080@west/w1")
	w.problem(t, diag.CodeEndpointUnfit, `such as "d"`, true)
	w.problem(t, diag.CodeServiceMissing, `"shop/late"`, true)

	setReady(t, c, "a", 1, false)
	f.reach(t, "shop/web/http/v1", "10.1.0.2:8080@west/w1")
	setReady(t, c, "a", 1, true)
	f.reach(t, "shop/web/http/v1", "10.1.0.1:8080@west/w1 10.1.0.2:8080@west/w1")
	relabel := func(name, patch string) {
		t.Helper()
		if _, err := c.Client.CoreV1().Pods("shop").Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"labels":`+patch+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	relabel("d", `{"version":"v2"}`)
	f.reach(t, "shop/web/http/v2", "10.1.0.3:8080@west/w1 10.1.0.4:8080@west/w1")
	w.problem(t, diag.CodeEndpointUnfit, "", false)
	relabel("d", `{"version":null}`)
	f.reach(t, "shop/web/http/v2", "10.1.0.3:8080@west/w1")

	// A pod that ends: not offered while another is there, and then it alone.
	grace := int64(600)
	end := func(name string) {
		t.Helper()
		if err := c.Client.CoreV1().Pods("shop").Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
			t.Fatal(err)
		}
	}
	end("a")
	f.reach(t, "shop/web/http/v1", "10.1.0.2:8080@west/w1")
	end("b")
	f.reach(t, "shop/web/http/v1", "10.1.0.1:8080@west/w1 10.1.0.2:8080@west/w1")
	soon(t, func() string {
		if _, text := w.get(t, "/metrics"); !strings.Contains(text, `meshc_kubernetes_endpoints{state="no_version"} 1`) || !strings.Contains(text, "meshc_kubernetes_current 1") || !strings.Contains(text, "meshc_kubernetes_table_age_seconds 0") {
			return text
		}
		return ""
	})

	// Without a Service there is nothing to read: what was found stays, and is told.
	if err := c.Delete(t.Context(), service("web")); err != nil {
		t.Fatal(err)
	}
	w.problem(t, diag.CodeServiceMissing, `"shop/web"`, true)
	f.reach(t, "shop/web/http/v2", "10.1.0.3:8080@west/w1")
	if err := c.Apply(t.Context(), service("web")); err != nil {
		t.Fatal(err)
	}
	w.problem(t, diag.CodeServiceMissing, `"shop/web"`, false)
}

// While the API server is away the last table is served, and told; then what changed
// meanwhile arrives.
func TestTheTableOutlivesTheAPIServer(t *testing.T) {
	c := newCluster(t)
	pod(t, c, "a", ", version: v1", 1)
	w, d := serveCluster(t, c, reader)
	f := w.follower(t, "shop/web/http/v1", "shop/web/http/v2")
	f.reach(t, "shop/web/http/v1", "10.1.0.1:8080@west/w1")
	d.set(true)
	w.problem(t, diag.CodeKubernetesAway, "endpointslices", true)
	pod(t, c, "b", ", version: v2", 2)
	if err := c.Client.CoreV1().Pods("shop").Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	soon(t, func() string {
		_, text := w.get(t, "/metrics")
		if !strings.Contains(text, "meshc_kubernetes_current 0") || strings.Contains(text, "meshc_kubernetes_table_age_seconds 0\n") {
			return "not told: " + text
		}
		return ""
	})
	late := w.follower(t, "shop/web/http/v1")
	late.reach(t, "shop/web/http/v1", "10.1.0.1:8080@west/w1")
	d.set(false)
	f.reach(t, "shop/web/http/v1", "")
	f.reach(t, "shop/web/http/v2", "10.1.0.2:8080@west/w1")
	w.problem(t, diag.CodeKubernetesAway, "", false)
	if k := w.Status().Kubernetes; k == nil || !k.Current || k.Endpoints["served"] != 1 {
		t.Errorf("status says %+v", k)
	}
}

// Who may not is told which right is missing, and goes on serving.
func TestMissingRightsAreTold(t *testing.T) {
	c := newCluster(t)
	w, _ := serveCluster(t, c, "nobody")
	for _, resource := range []string{"endpointslices.discovery.k8s.io", "pods", "nodes"} {
		w.problem(t, diag.CodeKubernetesRights, "list "+resource, true)
	}
	if st := w.Status(); !st.Ready || st.Kubernetes.Current {
		t.Errorf("status says %+v", st)
	}
}
