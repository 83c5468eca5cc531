package rehearsal

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/hop"
)

// object is a JSON object.
type object = map[string]any

// Names of the compiler's resources start like this.
const (
	localCluster    = "app/"
	externalCluster = "external/"
	proxyCluster    = "proxy/"
	spreadCluster   = "spread/"
	inboundListener = "inbound/"
)

// places says where things are in this rehearsal, as one workload sees it: for each, those of
// the workloads of its class.
type places struct {
	apps    map[string][]string // addresses of the applications of a cluster "app/…" or "external/…"
	sockets map[string][]string // Unix sockets of the listener "inbound/…", or "gateway/…" of a way out
	proxy   string              // address of the HTTP proxy that stands for all, "" if none is needed
	own     int                 // which workload of its class it is
}

// of is the same for another workload.
func (at places) of(workload int) places {
	at.own = workload
	return at
}

// bootstrap is the static bootstrap of one class's Envoy.
func bootstrap(r release.Release, class release.Class, at places, secrets []any, comes visitors) ([]byte, error) {
	rs, err := compiler.Resources(r, class)
	if err != nil {
		return nil, err
	}
	raw, err := compiler.Bootstrap(rs)
	if err != nil {
		return nil, err
	}
	var b object
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("reading the bootstrap of %s: %w", class, err)
	}
	delete(b, "dynamic_resources")
	b["node"] = object{"id": class.String(), "cluster": "rehearsal"}
	if class.Role == release.Gateway {
		b["layered_runtime"] = object{"layers": []any{object{"name": "meshc", "static_layer": hop.Runtime()}, object{"name": "gateway", "static_layer": hop.GatewayRuntime()}}}
	}
	b["admin"] = object{"address": tcpAddress(loopback, 0)}
	static, _ := b["static_resources"].(object)
	var clusters []any
	for _, c := range list(static["clusters"]) {
		if c["name"] == "xds" || c["name"] == "sds" {
			continue
		}
		if err := at.settle(c); err != nil {
			return nil, fmt.Errorf("bootstrap of %s: %w", class, err)
		}
		if class == compiler.Nobody() && !isOutside(c["name"]) {
			delete(c, "transport_socket")
		}
		clusters = append(clusters, c)
	}
	for _, l := range list(static["listeners"]) {
		at.open(l)
	}
	shown, err := shownTo([]any{static["listeners"], clusters})
	if err != nil {
		return nil, err
	}
	trusted, err := comes.trusted(static["listeners"])
	if err != nil {
		return nil, err
	}
	static["clusters"], static["secrets"] = clusters, slices.Concat(secrets, shown, trusted)
	useStaticSecrets(static)
	return json.Marshal(b)
}

// open gives a listener its address.
func (at places) open(l object) {
	switch sockets, ok := at.sockets[text(l["name"])]; {
	case ok:
		l["address"] = pipe(sockets[at.own])
	case l["internal_listener"] != nil:
		// nobody outside connects to it
	case l["udp_listener_config"] != nil:
		l["address"] = object{"socket_address": object{"address": loopback, "port_value": 0, "protocol": "UDP"}}
	default:
		l["address"] = tcpAddress(loopback, 0)
	}
}

// settle gives a cluster its endpoints: the workload's own application, or all of a destination.
func (at places) settle(c object) error {
	name := text(c["name"])
	if strings.HasPrefix(name, spreadCluster) { // which has no addresses of its own
		return nil
	}
	if direct, ok := release.ParseProxied(name); ok {
		return at.askFor(c, direct)
	}
	var where []object
	addrs, ok := at.apps[name]
	if strings.HasPrefix(name, proxyCluster) {
		addrs, ok = []string{at.proxy}, true
	}
	if ok {
		if strings.HasPrefix(name, localCluster) {
			addrs = addrs[at.own : at.own+1]
		}
		for _, addr := range addrs {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return err
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return err
			}
			where = append(where, tcpAddress(host, n))
		}
	}
	for _, socket := range at.sockets[answering(name)] {
		where = append(where, pipe(socket))
	}
	if len(where) == 0 {
		return fmt.Errorf("cluster %q leads nowhere", name)
	}
	endpoints := make([]any, len(where))
	for i, address := range where {
		endpoints[i] = object{"endpoint": object{"address": address}}
	}
	delete(c, "eds_cluster_config")
	if _, ok := c["cluster_type"]; ok { // names are not looked up in a rehearsal
		delete(c, "cluster_type")
		delete(c, "lb_policy")
	}
	c["type"] = "STATIC"
	c["load_assignment"] = object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": endpoints}}}
	return nil
}

// useStaticSecrets takes the agent's socket out of every reference to a secret.
func useStaticSecrets(v any) {
	switch v := v.(type) {
	case object:
		for _, s := range list(v["tls_certificate_sds_secret_configs"]) {
			delete(s, "sds_config")
		}
		for _, field := range []string{"validation_context_sds_secret_config", "token_secret", "hmac_secret"} {
			s, ok := v[field].(object)
			if !ok {
				continue
			}
			delete(s, "sds_config")
			if _, trust := certref.ParseTrust(text(s["name"])); trust {
				s["name"] = "ROOTCA" // nobody comes from another trust domain
			}
		}
		for _, x := range v {
			useStaticSecrets(x)
		}
	case []any:
		for _, x := range v {
			useStaticSecrets(x)
		}
	}
}

// list is the objects of a JSON array.
func list(v any) []object {
	all, _ := v.([]any)
	out := make([]object, 0, len(all))
	for _, x := range all {
		if o, ok := x.(object); ok {
			out = append(out, o)
		}
	}
	return out
}

func text(v any) string { s, _ := v.(string); return s }

func pipe(path string) object { return object{"pipe": object{"path": path}} }

func tcpAddress(host string, port uint64) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}

// isTCP reports whether a cluster has bytes behind it: only clusters of requests
// say which HTTP they speak.
func isTCP(cluster []byte) bool {
	return !strings.Contains(string(cluster), "HttpProtocolOptions")
}
