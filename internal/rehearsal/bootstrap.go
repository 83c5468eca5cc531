package rehearsal

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

// object is a JSON object.
type object = map[string]any

// Names of the compiler's resources start like this.
const (
	localCluster    = "app/"
	externalCluster = "external/"
	inboundListener = "inbound/"
)

// places says where things are in this rehearsal.
type places struct {
	apps    map[string]string // address of the application of a cluster "app/…" or "external/…"
	sockets map[string]string // Unix socket of the listener "inbound/…"
}

// bootstrap is the static bootstrap of one class's Envoy.
func bootstrap(r release.Release, class release.Class, at places, secrets []any) ([]byte, error) {
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
		if socket, ok := at.sockets[text(l["name"])]; ok {
			l["address"] = pipe(socket)
		} else {
			l["address"] = tcpAddress(loopback, 0)
		}
	}
	shown, err := shownTo(static["listeners"])
	if err != nil {
		return nil, err
	}
	static["clusters"], static["secrets"] = clusters, append(secrets, shown...)
	useStaticSecrets(static)
	return json.Marshal(b)
}

// settle gives a cluster its one endpoint.
func (at places) settle(c object) error {
	name := text(c["name"])
	var where object
	if addr, ok := at.apps[name]; ok {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return err
		}
		where = tcpAddress(host, n)
	} else if socket, ok := at.sockets[inboundListener+name]; ok {
		where = pipe(socket)
	} else {
		return fmt.Errorf("cluster %q leads nowhere", name)
	}
	delete(c, "eds_cluster_config")
	c["type"] = "STATIC"
	c["load_assignment"] = object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{object{"endpoint": object{"address": where}}}}}}
	return nil
}

// useStaticSecrets takes the agent's socket out of every reference to a secret.
func useStaticSecrets(v any) {
	switch v := v.(type) {
	case object:
		for _, s := range list(v["tls_certificate_sds_secret_configs"]) {
			delete(s, "sds_config")
		}
		if s, ok := v["validation_context_sds_secret_config"].(object); ok {
			delete(s, "sds_config")
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
