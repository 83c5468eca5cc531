package xdsserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/testca"
	"meshc.dev/meshc/xds-server/internal/alarm"
)

const trustDomain = "mesh.local"

var web = release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}

// world is a running server with what a test needs around it.
type world struct {
	*Server
	dir, endpoints string
	now            func() time.Time
	authority      *testca.Authority
	stop           func() error
}

func (w *world) issue(t *testing.T, id string) tls.Certificate {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return w.authority.Sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), URIs: []*url.URL{u},
		DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (w *world) pool() *x509.CertPool { return w.authority.Pool }

// run starts a server on free ports of the loopback.
func run(t *testing.T) *world {
	t.Helper()
	return runAt(t, t.TempDir(), time.Now)
}

// runAt starts one with a state folder and a clock.
func runAt(t *testing.T, dir string, now func() time.Time) *world {
	t.Helper()
	w := newWorld(t)
	w.dir, w.now, w.endpoints = dir, now, filepath.Join(dir, "endpoints")
	return w.start(t)
}

// newWorld is a world before its server starts.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: time.Now}
	w.endpoints = filepath.Join(w.dir, "endpoints")
	w.authority = testca.Of(t, &x509.Certificate{NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)})
	return w
}

// restart starts another server with the same folder and authority.
func (w *world) restart(t *testing.T, cfg Config) *world {
	t.Helper()
	again := *w
	return again.startWith(t, cfg)
}

func (w *world) start(t *testing.T) *world { return w.startWith(t, w.config(t)) }

func (w *world) startWith(t *testing.T, cfg Config) *world {
	t.Helper()
	var err error
	w.Server, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = func() error { cancel(); err := <-done; done <- nil; return err }
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) config(t *testing.T) Config {
	return Config{
		Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", TrustDomain: trustDomain, StateDir: w.dir, EndpointDir: w.endpoints,
		Narrows: func(_, _ release.Release) (bool, error) { return false, nil },
		Log:     slog.New(slog.DiscardHandler), Now: w.now,
		TLS: func() (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: w.pool(),
				Certificates: []tls.Certificate{w.issue(t, "spiffe://mesh.local/ns/meshc/sa/server")}}, nil
		},
	}
}

// sealed is a release with one live cluster.
func sealed(t *testing.T, timeout time.Duration) release.Release {
	t.Helper()
	c := &clusterv3.Cluster{Name: "a", ConnectTimeout: durationpb.New(timeout), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}
	raw, err := canon.Proto(c)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := canon.JSON(release.Snapshot{
		Class: web, TrustDomain: trustDomain, Endpoints: []release.Endpoints{{Cluster: "a", File: "addresses"}},
		Resources: map[release.TypeURL][]release.Resource{release.ClusterType: {{Name: "a", Digest: canon.Digest(raw), Needs: release.References{release.EndpointType: {"a"}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Seal([]release.Artifact{{Path: release.BlobPath(canon.Digest(raw)), Bytes: raw}, {Path: release.SnapshotPath(web), Bytes: snap}}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) approve(t *testing.T, commit string, timeout time.Duration) {
	t.Helper()
	if err := w.publish(t.Context(), []approval.Step{{Release: sealed(t, timeout)}}, approved{commit: commit, environment: "default"}); err != nil {
		t.Fatal(err)
	}
}

// proxy confirms everything and reports the ports of the endpoints of "a".
func (w *world) proxy(t *testing.T) (ports <-chan []uint32, ended <-chan error) {
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
	out, end := make(chan []uint32, 64), make(chan error, 1)
	ask := func(typ string, names ...string) {
		_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: names})
	}
	ask(release.ClusterType)
	ask(release.EndpointType, "a")
	ask(release.ListenerType)
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				end <- err
				return
			}
			if r.GetTypeUrl() == release.EndpointType {
				out <- portsOf(r)
			}
			_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		}
	}()
	return out, end
}

func portsOf(r *discoveryv3.DeltaDiscoveryResponse) []uint32 {
	ports := []uint32{}
	for _, res := range r.GetResources() {
		var cla endpointv3.ClusterLoadAssignment
		if res.GetResource().UnmarshalTo(&cla) != nil {
			return nil
		}
		for _, g := range cla.GetEndpoints() {
			for _, e := range g.GetLbEndpoints() {
				ports = append(ports, e.GetEndpoint().GetAddress().GetSocketAddress().GetPortValue())
			}
		}
	}
	return ports
}

func (w *world) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + w.HTTPAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// patience is how long a test waits for what must come, however busy the machine is.
const patience = time.Minute

// soon polls until ok says "".
func soon(t *testing.T, ok func() string) {
	t.Helper()
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = ok(); last == "" {
			return
		}
	}
	t.Fatal(last)
}

func codeOf(err error) diag.Code {
	var l *diag.ListError
	if errors.As(err, &l) && len(l.List) > 0 {
		return l.List[0].Code
	}
	return ""
}

func TestReadyOnlyWithARelease(t *testing.T) {
	w := run(t)
	soon(t, func() string {
		if code, _ := w.get(t, "/healthz"); code != http.StatusOK {
			return "not healthy"
		}
		return ""
	})
	if code, _ := w.get(t, "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("ready without a release: %d", code)
	}
	if err := w.Publish(t.Context(), approval.Approved{}); err == nil {
		t.Error("published nothing")
	}
	w.approve(t, "commit-1", time.Second)
	if code, _ := w.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %d", code)
	}
	w.proxy(t)
	soon(t, func() string {
		_, text := w.get(t, "/metrics")
		for _, want := range []string{
			`meshc_xds_connected_proxies{protocol="delta"} 1`, `meshc_xds_release_info{commit="commit-1",environment="default",release="`,
			`meshc_xds_answers_total{state="acked",type="clusters"} 1`, `meshc_xds_push_latency_seconds_count{type="clusters"} 1`,
		} {
			if !strings.Contains(text, want) {
				return "no metric " + want
			}
		}
		return ""
	})
}

func TestAdminSocket(t *testing.T) {
	w := run(t)
	if info, err := os.Stat(SocketPath(w.dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if _, err := New(w.config(t)); codeOf(err) != diag.CodeServerSocket {
		t.Errorf("second server: %v", err)
	}
	c := Dial(SocketPath(w.dir))
	defer c.Close()
	if resp, err := c.http.Post("http://meshc/status", "text/plain", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("post: %v %v", resp, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if p, err := c.Wait(short, "c0ffee0123", 0, nil); !errors.Is(err, context.DeadlineExceeded) || p.Outcome != Waiting {
		t.Errorf("waiting for the unknown: %+v, %v", p, err)
	}
	if _, err := c.Wait(t.Context(), "c0f", 0, nil); err == nil {
		t.Error("three characters are no commit")
	}
	if _, err := c.Wait(t.Context(), "c0ffee0", -1, nil); err == nil {
		t.Error("there are no fewer proxies than none")
	}
	_, ended := w.proxy(t)
	heard := 0
	p, err := c.Wait(t.Context(), "c0ffee0", 1, func(Progress) {
		if heard++; heard == 1 {
			w.approve(t, "c0ffee0123", time.Second)
		}
	})
	if err != nil || p.Outcome != Done || p.Commit != "c0ffee0123" || heard < 2 {
		t.Errorf("wait: %+v, %v, heard %d times", p, err, heard)
	}
	soon(t, func() string {
		st, err := c.Status(t.Context())
		if err != nil || len(st.Proxies) != 1 || !st.Proxies[0].UpToDate || st.Proxies[0].Types["clusters"].State != Acked || st.Proxies[0].Commit != "c0ffee0123" {
			return fmt.Sprintf("%+v, %v", st, err)
		}
		return ""
	})
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("stream ended with %v", err)
	}
	if _, err := c.Status(t.Context()); codeOf(err) != diag.CodeServerDown {
		t.Errorf("status of a server that is down: %v", err)
	}
	if _, err := os.Stat(SocketPath(w.dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestEndpointFiles: addresses come from files, a broken file keeps them, and the
// status says what is wrong.
func TestEndpointFiles(t *testing.T) {
	w := run(t)
	w.approve(t, "commit-1", time.Second)
	problem := func() diag.Code {
		if p := w.Status().Problems; len(p) == 1 {
			return p[0].Code
		}
		return ""
	}
	if got := problem(); got != diag.CodeEndpointMissing {
		t.Errorf("missing file: %q", got)
	}
	ports, _ := w.proxy(t)
	want := func(ps ...uint32) {
		t.Helper()
		for {
			select {
			case got := <-ports:
				if fmt.Sprint(got) == fmt.Sprint(ps) {
					return
				}
			case <-time.After(patience):
				t.Fatalf("endpoints %v did not come", ps)
			}
		}
	}
	write := func(text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(w.endpoints, 0o755), os.WriteFile(filepath.Join(w.endpoints, "addresses.yaml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want() // empty at first, so that the cluster does not wait
	write("endpoints: [\"10.0.0.1:1001\", {address: \"10.0.0.2:1002\", weight: 3}]")
	want(1001, 1002)
	write("endpoints: [\"10.0.0.1\"]")
	soon(t, func() string {
		if got := problem(); got != diag.CodeEndpointFile {
			return fmt.Sprintf("broken file: %q", got)
		}
		return ""
	})
	write("endpoints: [\"10.0.0.3:1003\"]")
	want(1003)
	soon(t, func() string {
		if got := problem(); got != "" {
			return fmt.Sprintf("repaired file: %q", got)
		}
		return ""
	})
}

// TestTimetable: a release that expires is followed by the next one without a
// publication, and a publication forgets what was to come.
func TestTimetable(t *testing.T) {
	var offset atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) }
	w := runAt(t, t.TempDir(), clock)
	first, second := sealed(t, time.Second), sealed(t, 2*time.Second)
	running := func() string { return w.Status().Release }
	steps := func() []approval.Step {
		return []approval.Step{{Release: first}, {From: clock().Add(time.Hour), Release: second}}
	}
	later := func() { offset.Add(int64(2 * time.Hour)) }
	if err := w.publish(t.Context(), steps(), approved{commit: "commit-1", environment: "default"}); err != nil {
		t.Fatal(err)
	}
	if running() != first.Digest() {
		t.Error("not the first release")
	}
	later()
	soon(t, func() string {
		if running() != second.Digest() {
			return "the second release did not come"
		}
		return ""
	})
	if err := w.publish(t.Context(), steps(), approved{commit: "commit-2", environment: "default"}); err != nil {
		t.Fatal(err)
	}
	w.approve(t, "commit-3", time.Second)
	later()
	time.Sleep(2 * alarm.Tick) // in which the forgotten step would be taken
	if running() != first.Digest() {
		t.Error("a step of something that is no longer approved was taken")
	}
	broken := steps()
	broken[1].Release = unservable(t)
	if err := w.publish(t.Context(), broken, approved{commit: "commit-4", environment: "default"}); codeOf(err) != diag.CodeNotServable || !strings.Contains(err.Error(), "what follows at "+broken[1].From.UTC().Format(time.RFC3339)) {
		t.Errorf("a later step that cannot be served: %v", err)
	}
	if st := w.Status(); st.Commit != "commit-3" {
		t.Errorf("serving %s", st.Commit)
	}
}

// unservable is a release whose only resource has no type that anybody knows.
func unservable(t *testing.T) release.Release {
	t.Helper()
	raw := []byte("{}")
	snap, err := canon.JSON(release.Snapshot{Class: web, TrustDomain: trustDomain,
		Resources: map[release.TypeURL][]release.Resource{"type.googleapis.com/unknown": {{Name: "a", Digest: canon.Digest(raw)}}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Seal([]release.Artifact{{Path: release.BlobPath(canon.Digest(raw)), Bytes: raw}, {Path: release.SnapshotPath(web), Bytes: snap}}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStepsFollowTheWallClock: a clock that is set forward, or a machine that slept,
// brings the steps that are due; one that is set back brings nothing back, not even
// over a restart. Another approval looks at the clock again.
func TestStepsFollowTheWallClock(t *testing.T) {
	var offset atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) }
	dir, start := t.TempDir(), time.Now()
	var rs []release.Release
	for i := range 3 {
		rs = append(rs, sealed(t, time.Duration(i+1)*time.Second))
	}
	steps := []approval.Step{{Release: rs[0]}, {From: start.Add(20 * time.Minute), Release: rs[1]}, {From: start.Add(3 * time.Hour), Release: rs[2]}}
	publish := func(w *world, commit string) {
		t.Helper()
		if err := w.publish(t.Context(), steps, approved{commit: commit, environment: "default"}); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(w *world, i int) {
		t.Helper()
		soon(t, func() string {
			if got := w.Status().Release; got != rs[i].Digest() {
				return fmt.Sprintf("not step %d", i)
			}
			return ""
		})
	}
	w := runAt(t, dir, clock)
	publish(w, "commit-1")
	serves(w, 0)
	offset.Store(int64(time.Hour))
	serves(w, 1)
	offset.Store(int64(-time.Hour))
	publish(w, "commit-1") // as after a reload
	serves(w, 1)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w = runAt(t, dir, clock)
	publish(w, "commit-1")
	serves(w, 1)
	publish(w, "commit-2") // the same releases, approved once more
	serves(w, 0)
	offset.Store(int64(24 * time.Hour)) // over two steps at once
	serves(w, 2)
}

// TestGate: an address that opens too many connections is cut off, another is not.
func TestGate(t *testing.T) {
	now := time.Unix(1000, 0)
	g, ok := newGate(nil, 10, func() time.Time { return now }, func() {}).(*gate)
	if !ok {
		t.Fatal("no gate")
	}
	a, b := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1}
	admitted := 0
	for range 1000 {
		if g.admit(a) {
			admitted++
		}
	}
	if admitted != 100 {
		t.Errorf("%d connections of a burst, want 100", admitted)
	}
	if !g.admit(b) {
		t.Error("another address is cut off too")
	}
	now = now.Add(time.Second)
	if !g.admit(a) {
		t.Error("cut off for ever")
	}
}
