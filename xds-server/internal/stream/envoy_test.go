package stream_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// bootstrap points a real Envoy at the server, with a certificate of the class.
func (s *server) bootstrap(t *testing.T, class release.Class) []byte {
	t.Helper()
	dir := t.TempDir()
	cert := s.ca.issue(class.SPIFFEID(trustDomain))
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, raw []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type m = map[string]any
	host, port, _ := net.SplitHostPort(s.addr)
	number, _ := strconv.Atoi(port)
	address := func(host string, port int) m {
		return m{"socket_address": m{"address": host, "port_value": port}}
	}
	ads := m{"ads": m{}, "resource_api_version": "V3"}
	cdsConfig := m{"ads": m{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
	boot := m{
		"node":  m{"id": "envoy-1", "cluster": "mesh"},
		"admin": m{"address": address("127.0.0.1", 0)},
		"dynamic_resources": m{
			"ads_config": m{"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []m{{"envoy_grpc": m{"cluster_name": "xds", "retry_policy": m{"retry_back_off": m{"base_interval": "0.2s", "max_interval": "1s"}}}}}},
			"cds_config": cdsConfig, "lds_config": ads,
		},
		"static_resources": m{"clusters": []m{{
			"name": "xds", "type": "STATIC", "connect_timeout": "1s",
			"typed_extension_protocol_options": m{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": m{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": m{"http2_protocol_options": m{}},
			}},
			"load_assignment": m{"cluster_name": "xds", "endpoints": []m{{"lb_endpoints": []m{{"endpoint": m{"address": address(host, number)}}}}}},
			"transport_socket": m{"name": "envoy.transport_sockets.tls", "typed_config": m{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "localhost",
				"common_tls_context": m{
					"tls_params":         m{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
					"tls_certificates":   []m{{"certificate_chain": m{"filename": write("c.pem", "CERTIFICATE", cert.Certificate[0])}, "private_key": m{"filename": write("k.pem", "PRIVATE KEY", key)}}},
					"validation_context": m{"trusted_ca": m{"filename": write("ca.pem", "CERTIFICATE", s.ca.Root.Raw)}},
				},
			}},
		}}},
	}
	raw, err := json.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *server) envoy(t *testing.T, class release.Class) *envoybin.Process {
	t.Helper()
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoybin.Start(t.Context(), bin, s.bootstrap(t, class), envoybin.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if lines := envoybin.Complaints(p.Log()); len(lines) > 0 {
			t.Errorf("Envoy complains: %q", lines)
		}
		p.Stop()
	})
	return p
}

// backend answers every request with its name.
func backend(t *testing.T, name string) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(name)) })}
	go func() { _ = h.Serve(lis) }()
	t.Cleanup(func() { _ = h.Close() })
	return lis.Addr().(*net.TCPAddr).Port
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *server) addresses(t testing.TB, file string, ports ...int) {
	t.Helper()
	var list []endpoints.Address
	for _, p := range ports {
		list = append(list, endpoints.Address{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(p))})
	}
	a, err := endpoints.NewAddresses(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hub.SetEndpoints(endpoints.Change{Key: endpoints.Key{File: file}, Addresses: a}); err != nil {
		t.Fatal(err)
	}
}

// arrived waits until every connected proxy has the commit.
func (s *server) arrived(t testing.TB, commit string, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p, err := s.ledger.Wait(ctx, commit, 0, func(ledger.Progress) {})
	if err != nil || p.Outcome != ledger.Done || p.Connected == 0 {
		st, _ := json.MarshalIndent(s.ledger.Status(), "", " ")
		t.Fatalf("commit %s: %+v, %v\n%s", commit, p, err, st)
	}
}

func get(t *testing.T, port int) (int, string) {
	t.Helper()
	c := http.Client{Timeout: patience}
	resp, err := c.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b := make([]byte, 64)
	n, _ := resp.Body.Read(b)
	return resp.StatusCode, string(b[:n])
}

// TestEnvoyChangedClusterDoesNotStall: Envoy warms a changed cluster and waits for
// endpoints that it does not ask for again. A server that only compares versions
// makes it wait 15 s; the change must be confirmed at once.
func TestEnvoyChangedClusterDoesNotStall(t *testing.T) {
	s := start(t, stream.Limits{})
	port := freePort(t)
	spec := func(timeout time.Duration) classSpec {
		return classSpec{class: shop,
			res:  messages(edsCluster("a", timeout), listener(t, "in", port, "r"), routes("r", "a")),
			live: []release.Endpoints{{Cluster: "a", File: "a"}}}
	}
	s.addresses(t, "a", backend(t, "hello"))
	s.publish(t, "commit-1", seal(t, spec(time.Second)))
	s.envoy(t, shop)
	eventually(t, patience, func() string {
		code, text := get(t, port)
		if code == 200 && text == "hello" {
			return ""
		}
		return fmt.Sprint(code, text)
	})
	s.arrived(t, "commit-1", patience)
	began := time.Now()
	s.publish(t, "commit-2", seal(t, spec(2*time.Second)))
	s.arrived(t, "commit-2", patience)
	if d := time.Since(began); d > 12*time.Second { // however busy the machine is
		t.Errorf("the changed cluster was confirmed after %s", d)
	}
	if code, text := get(t, port); code != 200 {
		t.Errorf("after the change: %d %s", code, text)
	}
}

// loggingListener is a listener whose manager logs to a cluster, "" for none.
func loggingListener(t testing.TB, port int, cluster string) *listenerv3.Listener {
	m := hcm(t, "in", "r")
	if cluster != "" {
		m.AccessLog = []*accesslogv3.AccessLog{{Name: "envoy.access_loggers.open_telemetry", ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: boxed(t, &otelv3.OpenTelemetryAccessLogConfig{GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster},
			}}}),
		}}}
	}
	return &listenerv3.Listener{Name: "in", Address: socketAddress("127.0.0.1", port), FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: boxed(t, m)},
	}}}}}
}

// TestAChangedLoggerLosesNoRequest: a logger is part of a listener, and only its filter chain
// drains: whoever keeps a connection is asked to open another one, and no request fails. The
// cluster that the logger names is there before it, because the listener says that it needs it.
func TestAChangedLoggerLosesNoRequest(t *testing.T) {
	s := start(t, stream.Limits{})
	port := freePort(t)
	s.addresses(t, "a", backend(t, "hello"))
	publish := func(i int) {
		spec := classSpec{class: shop, res: messages(edsCluster("a", time.Second), routes("r", "a")), live: []release.Endpoints{{Cluster: "a", File: "a"}}}
		cluster := ""
		if i > 0 {
			cluster = "log-" + strconv.Itoa(i)
			spec.res = append(spec.res, edsCluster(cluster, time.Second))
			spec.live = append(spec.live, release.Endpoints{Cluster: cluster, File: "nobody"})
		}
		spec.res = append(spec.res, loggingListener(t, port, cluster))
		s.publish(t, fmt.Sprintf("commit-%d", i), seal(t, spec))
	}
	publish(0)
	proxy := s.envoy(t, shop)
	eventually(t, patience, func() string {
		if code, text := get(t, port); code != 200 {
			return fmt.Sprint(code, text)
		}
		return ""
	})
	dials := 0
	keeps := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}}
	asked := 0
	ask := func() {
		t.Helper()
		asked++
		resp, err := keeps.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("request %d: %v, %v", asked, resp, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
	}
	const changes = 3
	for i := 1; i <= changes; i++ {
		ask()
		publish(i)
		eventually(t, patience, func() string { // requests go on meanwhile
			ask()
			page, err := proxy.Admin(t.Context(), "/stats?filter=listener_in_place_updated")
			if err != nil {
				return err.Error()
			}
			if want := fmt.Sprintf("listener_in_place_updated: %d", i); !strings.Contains(string(page), want) {
				return string(page)
			}
			return ""
		})
		s.arrived(t, fmt.Sprintf("commit-%d", i), patience)
		ask()
	}
	t.Logf("%d requests, %d connections, %d changes", asked, dials, changes)
}

// TestEnvoySwapsLoseNoRequest swaps 25 releases under load, each with a new
// cluster, a route to it, and without the old one.
func TestEnvoySwapsLoseNoRequest(t *testing.T) {
	s := start(t, stream.Limits{})
	port := freePort(t)
	ports := []int{backend(t, "blue"), backend(t, "green")}
	spec := func(i int) classSpec {
		name := "svc-" + strconv.Itoa(i)
		return classSpec{class: shop,
			res:  messages(edsCluster(name, time.Second), listener(t, "in", port, "r"), routes("r", name)),
			live: []release.Endpoints{{Cluster: name, File: name}}}
	}
	publish := func(i int) {
		s.addresses(t, "svc-"+strconv.Itoa(i), ports[i%2])
		s.publish(t, fmt.Sprintf("commit-%d", i), seal(t, spec(i)))
	}
	publish(0)
	s.envoy(t, shop)
	eventually(t, patience, func() string {
		if code, text := get(t, port); code != 200 {
			return fmt.Sprint(code, text)
		}
		return ""
	})
	var sent, failed atomic.Int64
	var firstFailure sync.Once
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := http.Client{Timeout: patience, Transport: &http.Transport{}}
			for ctx.Err() == nil {
				sent.Add(1)
				resp, err := c.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					firstFailure.Do(func() { t.Errorf("request failed: %v %v", resp, err) })
				}
				if err == nil {
					var sink strings.Builder
					_ = resp.Write(&sink)
					_ = resp.Body.Close()
				}
			}
		})
	}
	for i := 1; i <= 25; i++ {
		before := sent.Load()
		publish(i)
		s.arrived(t, fmt.Sprintf("commit-%d", i), patience)
		eventually(t, patience, func() string { // however busy the machine is
			if n := sent.Load() - before; n < 20 {
				return fmt.Sprint(n, " requests since the swap")
			}
			return ""
		})
	}
	cancel()
	wg.Wait()
	if failed.Load() > 0 || sent.Load() < 500 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
	t.Logf("%d requests, %d failed", sent.Load(), failed.Load())
}

// TestEnvoyFreedFromWedge: a cluster that fails while its load balancer is built,
// beside a good new one, makes Envoy 1.40 withhold every answer. The server must
// see that, take the class back without waiting, and so free the proxy.
func TestEnvoyFreedFromWedge(t *testing.T) {
	s := start(t, stream.Limits{Ack: 3 * time.Second, Warming: 6 * time.Second})
	port := freePort(t)
	bad := edsCluster("bad", time.Second)
	bad.LbPolicy = clusterv3.Cluster_RING_HASH
	bad.LbConfig = ringHash(2048, 1024)
	base := func(timeout time.Duration, more ...*clusterv3.Cluster) classSpec {
		c := classSpec{class: shop,
			res:  messages(edsCluster("a", timeout), listener(t, "in", port, "r"), routes("r", "a")),
			live: []release.Endpoints{{Cluster: "a", File: "a"}}}
		for _, m := range more {
			c.res = append(c.res, m)
			c.live = append(c.live, release.Endpoints{Cluster: m.GetName(), File: m.GetName()})
		}
		return c
	}
	s.addresses(t, "a", backend(t, "hello"))
	s.addresses(t, "good", backend(t, "good"))
	s.addresses(t, "bad", freePort(t))
	s.publish(t, "commit-1", seal(t, base(time.Second)))
	p := s.envoy(t, shop)
	s.arrivedSoon(t, "commit-1")
	s.publish(t, "commit-2", seal(t, base(time.Second, bad, edsCluster("good", time.Second))))
	eventually(t, patience, func() string {
		if c := s.class(t, shop); !c.Held || c.ServingCommit != "commit-1" || c.UpToDate != 1 {
			return fmt.Sprintf("%+v", c)
		}
		return ""
	})
	// The proxy takes changes again.
	s.publish(t, "commit-3", seal(t, base(3*time.Second)))
	s.arrived(t, "commit-3", patience)
	if code, text := get(t, port); code != 200 {
		t.Errorf("after the wedge: %d %s", code, text)
	}
	stats, err := p.Stats(t.Context(), `^cluster_manager\.warming_clusters$`)
	if err != nil || stats["cluster_manager.warming_clusters"] != 0 {
		t.Errorf("warming: %v, %v", stats, err)
	}
}

func ringHash(low, high uint64) *clusterv3.Cluster_RingHashLbConfig_ {
	return &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
		MinimumRingSize: wrapped(low), MaximumRingSize: wrapped(high),
	}}
}

// arrivedSoon waits for a proxy that is still starting.
func (s *server) arrivedSoon(t testing.TB, commit string) {
	t.Helper()
	eventually(t, patience, func() string {
		for _, p := range s.ledger.Status().Proxies {
			if p.Commit == commit && p.UpToDate {
				return ""
			}
		}
		return "no proxy has " + commit
	})
}
