package edge

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// zones are workloads in several zones, each of which answers with the name of its own, or fails.
type zones struct {
	fails map[string]*atomic.Bool
	file  strings.Builder
}

// add starts a workload in a zone.
func (z *zones) add(t *testing.T, zone string) {
	fails := z.fails[zone]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, zone)
	}))
	t.Cleanup(s.Close)
	fmt.Fprintf(&z.file, "  - {address: %q, zone: %s}\n", s.Listener.Addr(), zone)
}

const quickly = `outlier: {consecutive5xx: 1, interval: "50ms", baseEjection: "500ms", maxEjectionPercent: 100}`

// nearFirst are services of one set of workloads: one takes the caller's zone first, one has an order of
// zones behind, and one takes them all alike.
const nearFirst = `
mesh: service: near: {port: http: number: 8081, grant: visitors: from: ["gateway/edge"], endpoints: file: "zones", ` + quickly + `, locality: prefer: "zone"}
mesh: service: over: {port: http: number: 8082, grant: visitors: from: ["gateway/edge"], endpoints: file: "zones", ` + quickly + `, locality: failover: a: {b: 1, c: 2}}
mesh: service: all: {port: http: number: 8083, grant: visitors: from: ["gateway/edge"], endpoints: file: "zones", ` + quickly + `}
mesh: gateway: edge: host: {
	"near.test": route: all: to: near: 100
	"over.test": route: all: to: over: 100
	"all.test": route: all: to: all: 100
}
`

func openZones(t *testing.T, zone string) (*edge, *zones) {
	t.Helper()
	z := &zones{fails: map[string]*atomic.Bool{"a": {}, "b": {}, "c": {}}}
	z.file.WriteString("endpoints:\n")
	for _, in := range []string{"a", "a", "b", "b", "c"} {
		z.add(t, in)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "zones.yaml"), []byte(z.file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return openIn(t, zone, dir, nearFirst, nil), z
}

// answering are the zones that answer requests for a host, which are so many that a choice among all workloads
// meets each.
func (e *edge) answering(host string) (string, error) {
	found := map[string]bool{}
	for range 60 {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", e.plain), nil)
		if err != nil {
			return "", err
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return "", err
		}
		if res.StatusCode == http.StatusOK { // one that fails gets a request now and then, to see whether it still does
			found[string(b)] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), ""), nil
}

// become waits until those zones and no others answer.
func (e *edge) become(host, want string) {
	e.t.Helper()
	eventually(e.t, host+" is answered by "+want, func() error {
		got, err := e.answering(host)
		if err == nil && got != want {
			err = fmt.Errorf("answered by %q", got)
		}
		return err
	})
}

// Workloads of the caller's zone answer; as they fail those do that follow, and when they are well again they do.
// Where a caller is it says itself, and who says nothing, or names a place where nothing is, gets all alike.
func TestTheNearestThatAreWellAnswer(t *testing.T) {
	e, z := openZones(t, "a")
	for host, want := range map[string]string{"near.test": "a", "over.test": "a", "all.test": "abc"} {
		e.become(host, want)
	}
	z.fails["a"].Store(true)
	for host, want := range map[string]string{"near.test": "bc", "over.test": "b", "all.test": "bc"} {
		e.become(host, want)
	}
	z.fails["b"].Store(true)
	e.become("over.test", "c")
	e.become("near.test", "c")
	z.fails["a"].Store(false)
	e.become("over.test", "a")
	e.become("near.test", "a")
	z.fails["b"].Store(false)
	e.become("all.test", "abc")
	e.become("near.test", "a")

	// The order is of the addresses as they are now.
	text := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(z.file.String(), "zone: a}", "zone: x}"), "zone: c}", "zone: a}"), "zone: x}", "zone: c}")
	path := filepath.Join(e.endpoints, "zones.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	e.become("near.test", "c")
	e.become("over.test", "c")

	// The rule is the release's.
	e.publish(strings.ReplaceAll(nearFirst, `failover: a: {b: 1, c: 2}`, `failover: b: a: 1`))
	e.become("over.test", "abc")
	e.become("near.test", "c")
}

func TestWhereTheCallerIs(t *testing.T) {
	for zone, want := range map[string][2]string{"b": {"b", "abc"}, "": {"abc", "abc"}, "nowhere": {"abc", "abc"}} {
		t.Run("zone "+zone, func(t *testing.T) {
			e, _ := openZones(t, zone)
			e.become("near.test", want[0])
			e.become("over.test", want[1])
			e.become("all.test", "abc")
		})
	}
}

// Hosts that intent names take requests, and are near as intent says. No source of addresses knows them.
func TestWorkloadsTakeRequests(t *testing.T) {
	var hosts []string
	port := 0
	for i, zone := range []string{"a", "b"} { // one port at two addresses, as a service has it
		host := fmt.Sprintf("127.0.0.%d", i+1)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, zone) })}
		go func() { _ = s.Serve(l) }() // ends with Close
		t.Cleanup(func() { _ = s.Close() })
		hosts = append(hosts, fmt.Sprintf("mesh: workload: %s: {service: \"hosts\", address: %q, zone: %q}\n", zone, host, zone))
	}
	service := func(locality string) string {
		return fmt.Sprintf("mesh: service: hosts: {port: http: number: %d, grant: visitors: from: [\"gateway/edge\"], outlier: {}%s}\n", port, locality) +
			"mesh: gateway: edge: host: \"hosts.test\": route: all: to: hosts: 100\n"
	}
	e := openIn(t, "a", t.TempDir(), service("")+hosts[0]+hosts[1], nil)
	e.become("hosts.test", "ab")
	e.publish(service(`, locality: prefer: "zone"`) + hosts[0] + hosts[1])
	e.become("hosts.test", "a")
	e.publish(service(`, locality: prefer: "zone"`) + hosts[1])
	e.become("hosts.test", "b")
}
