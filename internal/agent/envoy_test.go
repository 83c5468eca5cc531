package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	// Types inside the listener's Any fields.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/hop"
)

const (
	secretCtx = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
	listener  = "type.googleapis.com/envoy.config.listener.v3.Listener"
)

// hcm is an HTTP listener on a free port with one route.
func httpListener(name string, route, transportSocket obj) obj {
	chain := obj{"filters": []obj{{"name": "envoy.filters.network.http_connection_manager", "typed_config": obj{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": name,
		"route_config": obj{"virtual_hosts": []obj{{"name": "all", "domains": []string{"*"}, "routes": []obj{{
			"match": obj{"prefix": "/"},
		}}}}},
		"http_filters": []obj{{"name": "envoy.filters.http.router", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
		}}},
	}}}}
	vh := chain["filters"].([]obj)[0]["typed_config"].(obj)["route_config"].(obj)["virtual_hosts"].([]obj)[0]
	for k, v := range route {
		vh["routes"].([]obj)[0][k] = v
	}
	if transportSocket != nil {
		chain["transport_socket"] = transportSocket
	}
	return obj{
		"name": name, "address": obj{"socket_address": obj{"address": "127.0.0.1", "port_value": 0}},
		"filter_chains": []obj{chain},
	}
}

func answer(text string) obj {
	return obj{"direct_response": obj{"status": 200, "body": obj{"inline_string": text}}}
}

func TestBootstrapIsAcceptedByEnvoyWithoutWarnings(t *testing.T) {
	bin := findEnvoy(t)
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	var boots [][]byte
	for _, port := range []int{0, 19000} {
		cfg.AdminPort, cfg.NodeID = port, "n"
		norm, l := cfg.Normalise()
		if l != nil {
			t.Fatal(l)
		}
		b, err := Bootstrap(norm, ca.Identity{Namespace: "shop", Account: "web"})
		if err != nil {
			t.Fatal(err)
		}
		boots = append(boots, b)
	}
	verdicts, err := envoybin.Validate(t.Context(), bin, boots)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Kind != envoybin.Accepted {
			t.Errorf("%+v", v)
		}
	}
}

// serveListener answers Envoy over delta ADS: no clusters, and l when open is closed.
func serveListener(t *testing.T, l obj, open <-chan struct{}) func(string, grpc.ServerStream) error {
	t.Helper()
	m := new(listenerv3.Listener)
	if err := protojson.Unmarshal(mustJSON(t, l), m); err != nil {
		t.Fatal(err)
	}
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return func(_ string, s grpc.ServerStream) error {
		for seen := map[string]bool{}; ; {
			b, err := recv(s)
			if err != nil {
				return err
			}
			var q discoveryv3.DeltaDiscoveryRequest
			if err := proto.Unmarshal(b, &q); err != nil {
				return err
			}
			if seen[q.GetTypeUrl()] {
				continue
			}
			seen[q.GetTypeUrl()] = true
			out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: q.GetTypeUrl(), Nonce: "1"}
			if q.GetTypeUrl() == listener {
				<-open
				out.Resources = []*discoveryv3.Resource{{Name: m.GetName(), Version: "1", Resource: body}}
			}
			if b, err = proto.Marshal(out); err != nil {
				return err
			}
			if err := send(s, b); err != nil {
				return err
			}
		}
	}
}

// address of a listener with port 0, as Envoy's admin page tells.
func address(t *testing.T, page []byte, name string) string {
	t.Helper()
	var p struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(page, &p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Statuses {
		if s.Name == name {
			return fmt.Sprintf("%s:%d", s.Address.Socket.Address, s.Address.Socket.Port)
		}
	}
	t.Fatalf("no listener %q in %s", name, page)
	return ""
}

// withEnvoy is an agent with an Envoy child that has one listener, "in".
func withEnvoy(t *testing.T, open chan struct{}) (*running, func() string) {
	t.Helper()
	return withListener(t, "in", open)
}

func withListener(t *testing.T, name string, open chan struct{}) (*running, func() string) {
	t.Helper()
	bin := findEnvoy(t)
	p := newPlane(t, time.Hour)
	p.ads = serveListener(t, httpListener(name, answer("hello"), nil), open)
	cfg := p.config(t, "shop/web")
	cfg.Envoy, cfg.NoEnvoy, cfg.Drain = bin.Path, false, time.Minute
	cfg.EnvoyArgs = []string{"--concurrency", "1", "-l", "warning"}
	r := start(t, cfg)
	r.joined(t)
	return r, func() string {
		page, err := newAdmin(r.cfg.adminDial()).do(t.Context(), http.MethodGet, "/listeners?format=json")
		if err != nil {
			t.Fatal(err)
		}
		return "http://" + address(t, page, name)
	}
}

func ready(t *testing.T, r *running) {
	t.Helper()
	eventually(t, "readiness", func() error {
		if code, body := r.get(t, "/ready"); code != 200 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

// A gateway's connections belong to one client each, a sidecar's to all visitors of
// a gateway: what is meant against the one must not count the other.
func TestRoleDecidesHowManyStreamsMayBeReset(t *testing.T) {
	const key = "overload.premature_reset_total_stream_count"
	for name, want := range map[string]any{"inbound/shop/web/http/v1": hop.Runtime()[key], "gateway/shop/edge": hop.GatewayRuntime()[key]} {
		open := make(chan struct{})
		close(open)
		r, _ := withListener(t, name, open)
		ready(t, r)
		eventually(t, "the limit of "+name, func() error {
			got, err := newAdmin(r.cfg.adminDial()).runtime(t.Context())
			if err == nil && got[key] != fmt.Sprint(want) {
				err = fmt.Errorf("%s, want %v", got[key], want)
			}
			return err
		})
		r.stop(t)
	}
}

func TestEnvoyChildFromStartToDrain(t *testing.T) {
	open := make(chan struct{})
	var once sync.Once
	letGo := func() { once.Do(func() { close(open) }) }
	t.Cleanup(letGo)
	r, url := withEnvoy(t, open)
	eventually(t, "Envoy without a listener", func() error {
		if code, body := r.get(t, "/ready"); code != 503 || !strings.Contains(body, "Envoy has no listener") {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	letGo()
	ready(t, r)
	in := url()

	// A connection that is kept open while the agent is asked to end.
	client := &http.Client{Timeout: time.Minute}
	get := func() (*http.Response, error) {
		res, err := client.Get(in)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		return res, err
	}
	if res, err := get(); err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	scraped(t, r)
	r.end()
	eventually(t, "the drain", func() error {
		if !strings.Contains(r.log.String(), `"msg":"draining"`) {
			return os.ErrNotExist
		}
		return nil
	})
	res, err := get()
	if err != nil || res.StatusCode != 200 || !res.Close {
		t.Fatalf("while draining: %+v, %v", res, err)
	}
	if code, body := r.get(t, "/ready"); code != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("%d %s", code, body)
	}
	r.wait(t)
	if r.err != nil || r.code != 0 {
		t.Errorf("ended with %d, %v", r.code, r.err)
	}
	if !strings.Contains(r.log.String(), `"msg":"drained"`) {
		t.Error("the last connection's end was not noticed")
	}
}

// scraped: one page has the agent's metrics and Envoy's, and Prometheus can read it.
func scraped(t *testing.T, r *running) {
	t.Helper()
	_, page := r.get(t, "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	for _, name := range []string{"meshc_agent_roots", "envoy_http_downstream_rq_total", "envoy_listener_manager_lds_update_success"} {
		if families[name] == nil {
			t.Errorf("there is no %s in\n%s", name, page)
		}
	}
	if r.metric(t, "envoy_metrics") != 1 {
		t.Error("nobody says that Envoy's are there")
	}
}

func TestAgentEndsWithItsEnvoy(t *testing.T) {
	open := make(chan struct{})
	close(open)
	r, _ := withEnvoy(t, open)
	ready(t, r)
	var pid int
	for line := range strings.Lines(r.log.String()) {
		var entry struct {
			Msg string `json:"msg"`
			PID int    `json:"pid"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "envoy started" {
			pid = entry.PID
		}
	}
	if pid == 0 {
		t.Fatal("no pid in the log")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	if r.code != 128+9 || r.err != nil {
		t.Errorf("ended with %d, %v", r.code, r.err)
	}
}
