package envoy

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// What /proc/net/tcp says of a connection's timer (https://docs.kernel.org/networking/proc_net_tcp.html):
// there is none, the other end has yet to confirm what was sent, or will be asked whether it is there.
const (
	none      = "00"
	resending = "01"
	keepAlive = "02"
)

// TestConnectionsAreOpenedAsIsWritten: a proxy takes what is written of connections to an external,
// requests pass over them, and the system asks on those alone for which it is written.
func TestConnectionsAreOpenedAsIsWritten(t *testing.T) {
	for words, want := range map[string]struct {
		timer  string
		config []string
	}{
		`connection: {connectTimeout: "2500ms", tcpKeepAlive: {time: "5m", interval: "10s", probes: 3}}`: {keepAlive,
			[]string{`"connect_timeout": "2.500s"`, `"keepalive_probes": 3`, `"keepalive_time": 300`, `"keepalive_interval": 10`}},
		`retry: attempts: 0`: {none, []string{`"connect_timeout": "5s"`}},
	} {
		t.Run(words, func(t *testing.T) {
			p := startOutside(t, words)
			if got := p.ask("/", 0, 0); got.Status != http.StatusOK {
				t.Errorf("status %d", got.Status)
			}
			config := p.page("/config_dump?resource=static_clusters&name_regex=external/shop/bank/api")
			for _, w := range want.config {
				if !strings.Contains(config, w) {
					t.Errorf("no %s: %s", w, config)
				}
			}
			at := regexp.MustCompile(`(?m)^external/shop/bank/api::([0-9.]+:[0-9]+)::`).FindStringSubmatch(p.page("/clusters"))
			if at == nil {
				t.Fatal("the external has no address")
			}
			to := netip.MustParseAddrPort(at[1])
			got := timerTo(t, to)
			for ; got == resending && p.ctx.Err() == nil; got = timerTo(t, to) {
				time.Sleep(10 * time.Millisecond)
			}
			if got != want.timer {
				t.Errorf("the connection's timer is %q, want %q", got, want.timer)
			}
		})
	}
}

// TestConnectionsEndAsIsWritten: what is said of requests on connections, the caller's proxy keeps to.
func TestConnectionsEndAsIsWritten(t *testing.T) {
	const cluster = "cluster.shop/app/http/default."
	atOnce := func(p *play) { // as many requests at a time, each of which takes a while
		var asked sync.WaitGroup
		for range 3 {
			asked.Go(func() {
				if got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/", Headers: []compiler.Header{{Name: rehearsal.WaitHeader, Value: "500ms"}}}); err != nil || got.Status != http.StatusOK {
					t.Errorf("%d, %v", got.Status, err)
				}
			})
		}
		asked.Wait()
	}
	inTurn := func(p *play) {
		for range 5 {
			if got := p.ask("/", 0, 0); got.Status != http.StatusOK {
				t.Errorf("status %d", got.Status)
			}
		}
	}
	for words, c := range map[string]struct {
		ask func(*play)
		// stat of the cluster is to come to least, and not to go beyond most.
		stat        string
		least, most int
	}{
		"retry: attempts: 0":                         {inTurn, "upstream_cx_total", 1, 1},
		"connection: maxRequests: 2":                 {inTurn, "upstream_cx_total", 3, 3},
		`connection: idle: "200ms"`:                  {inTurn, "upstream_cx_idle_timeout", 1, 5},
		`connection: maxAge: "200ms"`:                {inTurn, "upstream_cx_max_duration_reached", 1, 5},
		"buffer: \"2MiB\"":                           {atOnce, "upstream_cx_total", 1, 1},
		"connection: http2: maxConcurrentStreams: 1": {atOnce, "upstream_cx_total", 3, 3},
	} {
		t.Run(words, func(t *testing.T) {
			p := start(t, words)
			c.ask(p)
			p.until(c.stat, func() bool { return p.count(cluster+c.stat) >= c.least })
			if n := p.count(cluster + c.stat); n > c.most {
				t.Errorf("%s is %d, want %d to %d", c.stat, n, c.least, c.most)
			}
		})
	}
}

// count is a number among the metrics of the caller's proxy; 0 if there is none.
func (p *play) count(name string) int {
	p.t.Helper()
	return p.number(p.page("/stats?filter=^cluster"), name)
}

// page is a page of the caller's proxy's admin interface.
func (p *play) page(path string) string {
	p.t.Helper()
	page, err := p.stage.Admin(p.ctx, p.door.Class, path)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(page)
}

// timerTo is the kind of timer that is set for the connection to an address.
func timerTo(t *testing.T, to netip.AddrPort) string {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	a := to.Addr().As4()
	remote := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], to.Port()) // in the host's order
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 5 && f[2] == remote && f[3] == "01" { // established
			kind, _, _ := strings.Cut(f[5], ":")
			return kind
		}
	}
	t.Fatalf("no connection to %s:\n%s", to, table)
	return ""
}
