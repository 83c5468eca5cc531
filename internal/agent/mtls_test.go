package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/envoybin"
)

// tlsContext refers to the agent's two secrets as compiled configuration does,
// and welcomes one identity.
func tlsContext(kind, peer string) obj {
	sds := func(name string) obj {
		return obj{"name": name, "sds_config": obj{"resource_api_version": "V3", "api_config_source": obj{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
			"grpc_services": []obj{{"envoy_grpc": obj{"cluster_name": clusterSDS, "retry_policy": obj{
				"retry_back_off": obj{"base_interval": "0.1s", "max_interval": "1s"},
			}}}},
		}}}
	}
	ctx := obj{
		"@type": secretCtx + kind,
		"common_tls_context": obj{
			"tls_params":                         obj{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
			"tls_certificate_sds_secret_configs": []obj{sds(SecretOwn)},
			"combined_validation_context": obj{
				"default_validation_context": obj{"match_typed_subject_alt_names": []obj{{
					"san_type": "URI", "matcher": obj{"exact": peer},
				}}},
				"validation_context_sds_secret_config": sds(SecretRoots),
			},
		},
	}
	if kind == "DownstreamTlsContext" {
		ctx["require_client_certificate"] = true
	} else {
		ctx["max_session_keys"] = 0 // as compiled: every connection shows its certificate
	}
	return obj{"name": "envoy.transport_sockets.tls", "typed_config": ctx}
}

// proxy is a static Envoy beside an agent.
func proxy(t *testing.T, r *running, l obj, clusters ...obj) *envoybin.Process {
	t.Helper()
	boot := mustJSON(t, obj{
		"node":  obj{"id": r.cfg.StateDir, "cluster": "test"},
		"admin": obj{"address": obj{"socket_address": obj{"address": "127.0.0.1", "port_value": 0}}},
		"static_resources": obj{
			"listeners": []obj{l},
			"clusters":  append(clusters, socketCluster(clusterSDS, r.cfg.SDSSocket)),
		},
	})
	e, err := envoybin.Start(t.Context(), findEnvoy(t), boot, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.Log())
		}
		e.Stop()
	})
	return e
}

func proxyAddress(t *testing.T, e *envoybin.Process, name string) string {
	t.Helper()
	page, err := e.Admin(t.Context(), "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	return address(t, page, name)
}

// toServer is the cluster for the callee, one handshake per request.
func toServer(addr, peer string) obj {
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		panic(err)
	}
	return obj{
		"name": "api", "type": "STATIC", "transport_socket": tlsContext("UpstreamTlsContext", peer),
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type":                        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"common_http_protocol_options": obj{"max_requests_per_connection": 1},
			"explicit_http_config":         obj{"http_protocol_options": obj{}},
		}},
		"load_assignment": obj{"cluster_name": "api", "endpoints": []obj{{"lb_endpoints": []obj{{
			"endpoint": obj{"address": obj{"socket_address": obj{"address": "127.0.0.1", "port_value": port}}},
		}}}}},
	}
}

// Three real Envoys with identities of three agents. Certificates live twelve
// seconds, of which more than half are left when they are renewed, and every request
// is a new handshake: for two lifetimes and a change of root, whoever is named gets
// through, whoever is not never does. In the middle the callee's agent restarts.
func TestEnvoysTrustEachOtherThroughRotation(t *testing.T) {
	const api, web = "spiffe://mesh.local/ns/shop/sa/api", "spiffe://mesh.local/ns/shop/sa/web"
	const life = 12 * time.Second
	p := newPlane(t, life)
	apiCfg := p.config(t, "shop/api")
	apiAgent, webAgent, evilAgent := start(t, apiCfg), start(t, p.config(t, "shop/web")), start(t, p.config(t, "shop/evil"))
	for _, r := range []*running{apiAgent, webAgent, evilAgent} {
		r.joined(t)
	}
	apiEnvoy := proxy(t, apiAgent, httpListener("in", answer("from api"), tlsContext("DownstreamTlsContext", web)))
	callee := proxyAddress(t, apiEnvoy, "in")
	forward := obj{"route": obj{"cluster": "api"}}
	good := proxyAddress(t, proxy(t, webAgent, httpListener("out", forward, nil), toServer(callee, api)), "out")
	evil := proxyAddress(t, proxy(t, evilAgent, httpListener("out", forward, nil), toServer(callee, api)), "out")
	fooledEnvoy := proxy(t, webAgent, httpListener("out", forward, nil), toServer(callee, "spiffe://mesh.local/ns/shop/sa/db"))
	fooled := proxyAddress(t, fooledEnvoy, "out")

	client := &http.Client{Timeout: time.Minute}
	get := func(addr string) (int, string) {
		res, err := client.Get("http://" + addr)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	begin, rotated, requests := time.Now(), false, 0
	few := func() bool { return requests < 50 || webAgent.metric(t, "certificate_renewals_total") < 4 }
	for time.Since(begin) < 2*life || time.Since(begin) < 10*life && few() {
		requests++
		if code, body := get(good); code != 200 || body != "from api" {
			t.Fatalf("after %v: %d %s", time.Since(begin), code, body)
		}
		if code, body := get(evil); code != 503 {
			t.Fatalf("a stranger got %d %s", code, body)
		}
		if code, body := get(fooled); code != 503 {
			t.Fatalf("the wrong callee was accepted: %d %s", code, body)
		}
		if !rotated && time.Since(begin) > life/2 {
			rotated = true
			if err := p.a.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			apiAgent.stop(t)
			apiCfg.JoinToken = ""
			apiAgent = start(t, apiCfg)
			apiAgent.joined(t)
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Both refusals were for the name, nothing else.
	for _, e := range []*envoybin.Process{apiEnvoy, fooledEnvoy} {
		stats, err := e.Stats(t.Context(), `ssl\.fail_verify`)
		if err != nil {
			t.Fatal(err)
		}
		named := int64(0)
		for name, v := range stats {
			if strings.HasSuffix(name, "fail_verify_san") {
				named += v
			} else if v > 0 {
				t.Errorf("%s = %d", name, v)
			}
		}
		if named == 0 {
			t.Errorf("nobody was refused for the name: %v", stats)
		}
	}
	if few() {
		t.Errorf("%d renewals, %d requests: too few to tell", webAgent.metric(t, "certificate_renewals_total"), requests)
	}
	if n := len(p.a.Fingerprints()); n != 2 {
		t.Errorf("%d roots at the end", n)
	}
	if n := webAgent.metric(t, "sds_refused_total"); n != 0 {
		t.Errorf("Envoy refused %d secrets", n)
	}
}
