package agent

import (
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/hop"
)

// Names of the clusters in the bootstrap; compiled configuration refers to sds.
const (
	clusterADS = "xds"
	clusterSDS = "sds"
)

// obj keeps the bootstrap readable: it is Envoy's JSON, written as such, so
// that the agent need not link Envoy's bootstrap types.
type obj = map[string]any

// Bootstrap is Envoy's static configuration: where ADS and SDS are, who this
// proxy is, and nothing about the mesh. cfg must be normalised and NodeID set.
// Without an answer from ADS, Envoy opens no listener.
func Bootstrap(cfg Config, who ca.Identity) ([]byte, error) {
	admin := obj{"pipe": obj{"path": cfg.adminSocket(), "mode": 0o600}}
	if cfg.AdminPort != 0 {
		admin = obj{"socket_address": obj{"address": "127.0.0.1", "port_value": cfg.AdminPort}}
	}
	// A restarted agent or server is met within seconds, not after Envoy's 30.
	retry := obj{"retry_back_off": obj{"base_interval": "0.2s", "max_interval": "3s"}}
	return canon.JSON(obj{
		"node":  node(cfg, who),
		"admin": obj{"address": admin},
		"dynamic_resources": obj{
			"ads_config": obj{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []obj{{"envoy_grpc": obj{"cluster_name": clusterADS, "retry_policy": retry}}},
			},
			// No time limit on clusters: without them there is nothing to start with.
			"cds_config": obj{"ads": obj{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
			"lds_config": obj{"ads": obj{}, "resource_api_version": "V3"},
		},
		"static_resources": obj{"clusters": []obj{
			socketCluster(clusterADS, cfg.ADSSocket),
			socketCluster(clusterSDS, cfg.SDSSocket),
		}},
		"stats_config": obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": statPatterns()}}, "stats_tags": statTags()},
		// Which role a proxy has its listeners tell; until then it counts as a sidecar,
		// and the agent of a gateway sets its limits through the admin layer (role.go).
		"layered_runtime":      obj{"layers": []obj{{"name": "meshc", "static_layer": hop.Runtime()}, {"name": "role", "admin_layer": obj{}}}},
		"bootstrap_extensions": hop.Extensions(),
		// Envoy warns about an unlimited number of connections, rightly.
		"overload_manager": obj{"resource_monitors": []obj{{
			"name": "envoy.resource_monitors.global_downstream_max_connections",
			"typed_config": obj{
				"@type":                             "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
				"max_active_downstream_connections": hop.Connections,
			},
		}}},
	})
}

// node is who and where this proxy is.
func node(cfg Config, who ca.Identity) obj {
	n := obj{"id": cfg.NodeID, "cluster": who.String()}
	if cfg.Region != "" || cfg.Zone != "" {
		n["locality"] = obj{"region": cfg.Region, "zone": cfg.Zone}
	}
	return n
}

func socketCluster(name, path string) obj {
	return obj{
		"name": name, "type": "STATIC", "connect_timeout": "1s",
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": obj{"http2_protocol_options": obj{
				"connection_keepalive": obj{"interval": "30s", "timeout": "10s"},
			}},
		}},
		"load_assignment": obj{"cluster_name": name, "endpoints": []obj{{"lb_endpoints": []obj{{
			"endpoint": obj{"address": obj{"pipe": obj{"path": path}}},
		}}}}},
	}
}

// statTags have limits and quotas told apart by a label, as all else is, and not by the metric's name.
func statTags() []obj {
	return []obj{
		{"tag_name": "meshc_quota", "regex": `^cluster\..+\.ratelimit\.((.+?)\.)(?:ok|error|over_limit|failure_mode_allowed)$`},
		{"tag_name": "meshc_rate_limit", "regex": `^rate_limit\.((.+?)\.)http_local_rate_limit\.`},
	}
}

// statPatterns keeps what readiness, drain and operators look at. Envoy has
// 133 statistics per cluster; a large mesh would spend its memory on them.
func statPatterns() []obj {
	var out []obj
	for _, p := range []string{"listener_manager.", "cluster_manager.", "control_plane.", "server.", "http.", "sds.", "runtime.", "meshc."} {
		out = append(out, obj{"prefix": p})
	}
	return append(out, obj{"safe_regex": obj{"regex": `cluster\..*\.(upstream_cx_(total|active|connect_fail|destroy_remote)|` +
		`upstream_rq_(total|active|retry|retry_success|timeout|pending_overflow|[1-5]xx|[1-5][0-9][0-9])|membership_(healthy|total)|` +
		`warming_state|update_rejected|init_fetch_timeout|outlier_detection\.ejections_active|circuit_breakers\..*|ssl\.(handshake|fail_.*|connection_error)|` +
		`client_ssl_socket_factory\..*)`}},
		obj{"safe_regex": obj{"regex": `listener\..*\.(downstream_cx_(active|total|overflow)|ssl\.(handshake|fail_.*|connection_error)|server_ssl_socket_factory\..*|http_local_rate_limit.*)|` +
			`.*\.?rbac\..*|.*http_local_rate_limit\..*|` +
			// What became of questions to limiters and authorizers: where those fail, and who fails open lets all through.
			`cluster\..*\.(ratelimit|ext_authz)\..*`}})
}
