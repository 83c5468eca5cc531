package envoy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/hop"
)

// Resource is one resource of a release, as its blob has it.
type Resource struct {
	// Name is unique within its Type and class only.
	Name string
	// Type is its xDS type.
	Type release.TypeURL
	// Digest is the blob's digest, the key for a cache of verdicts.
	Digest string
	// JSON is the blob.
	JSON []byte
}

// Resources returns the distinct resources of the artifacts that Emit made for Envoys, in
// the order of their types and digests.
func Resources(arts []release.Artifact) ([]Resource, error) {
	blobs := make(map[string][]byte, len(arts))
	for _, a := range arts {
		blobs[a.Path] = a.Bytes
	}
	var out []Resource
	seen := map[string]bool{}
	for _, typ := range release.Types() {
		for _, a := range arts {
			if strings.HasPrefix(a.Path, release.BlobPath("")) {
				continue
			}
			var s release.Snapshot
			if err := json.Unmarshal(a.Bytes, &s); err != nil {
				return nil, fmt.Errorf("reading snapshot %q: %w", a.Path, err)
			}
			if s.Proxyless { // what gRPC reads is not all that Envoy takes
				continue
			}
			for _, r := range s.Resources[typ] {
				if seen[r.Digest] {
					continue
				}
				b, ok := blobs[release.BlobPath(r.Digest)]
				if !ok {
					return nil, fmt.Errorf("snapshot %q names resource %q, whose blob is missing", a.Path, r.Name)
				}
				seen[r.Digest] = true
				out = append(out, Resource{Name: r.Name, Type: typ, Digest: r.Digest, JSON: b})
			}
		}
	}
	return out, nil
}

// StaticBootstrap renders resources, of one class or of many, as one bootstrap
// for Envoy's validate mode, which loads listeners, routes and clusters but binds
// no port and contacts nobody. Route configurations stand inline in listeners;
// EDS clusters stay, with an ADS cluster present, and so does the SDS cluster.
//
// Resources of several classes may share names and addresses, so repeated names
// get a suffix and repeated addresses another loopback address. Whether every
// name that is mentioned exists is not Envoy's to say here; Emit has checked it.
func StaticBootstrap(rs []Resource) ([]byte, error) {
	b := bootstrap{names: map[string]int{}, addresses: map[string]bool{}, routes: map[string]any{}}
	for _, r := range rs {
		if r.Type == release.RouteType {
			v, err := object(r)
			if err != nil {
				return nil, err
			}
			v["validate_clusters"] = false
			b.pending = append(b.pending, v)
		}
	}
	for _, r := range rs {
		if r.Type == release.RouteType {
			continue
		}
		v, err := object(r)
		if err != nil {
			return nil, err
		}
		switch r.Type {
		case release.ClusterType:
			b.unique(r.Type, v)
			b.clusters = append(b.clusters, v)
		case release.ListenerType:
			b.unique(r.Type, v)
			b.readdress(v)
			b.inline(v)
			b.listeners = append(b.listeners, v)
		default:
			return nil, fmt.Errorf("rendering resource %s: no place for type %q in a static bootstrap", r.Digest, r.Type)
		}
	}
	if err := b.carry(); err != nil {
		return nil, err
	}
	return b.render()
}

func object(r Resource) (map[string]any, error) {
	var v map[string]any
	if err := json.Unmarshal(r.JSON, &v); err != nil {
		return nil, fmt.Errorf("reading resource %s: %w", r.Digest, err)
	}
	return v, nil
}

type bootstrap struct {
	clusters, listeners []any
	names               map[string]int
	addresses           map[string]bool
	pending             []map[string]any // route configurations without a listener yet
	routes              map[string]any
}

// unique gives a name that is repeated among resources of one type a suffix.
func (b *bootstrap) unique(typ release.TypeURL, v map[string]any) {
	name, _ := v["name"].(string)
	key := string(typ) + " " + name
	b.names[key]++
	if n := b.names[key]; n > 1 {
		v["name"] = name + "#" + strconv.Itoa(n)
	}
}

// readdress moves a listener whose address is taken to a free one of loopback.
func (b *bootstrap) readdress(v map[string]any) {
	a, _ := v["address"].(map[string]any)
	s, _ := a["socket_address"].(map[string]any)
	key := func() string { return fmt.Sprintf("%v %v %v", s["protocol"], s["address"], s["port_value"]) }
	if s == nil {
		return
	}
	family := ""
	if s["ipv4_compat"] == true {
		family = "::ffff:" // what Envoy takes of IPv4 there
	}
	for i := 2; b.addresses[key()]; i++ {
		s["address"] = fmt.Sprintf("%s127.%d.%d.%d", family, i>>16&255, i>>8&255, i&255)
	}
	b.addresses[key()] = true
}

// inline replaces a listener's subscriptions to routes by the configuration of
// that name, or by an empty one: those that are left over get a listener of their
// own, because one listener may serve several classes with different routes.
func (b *bootstrap) inline(listener map[string]any) {
	chains, _ := listener["filter_chains"].([]any)
	for _, c := range chains {
		chain, _ := c.(map[string]any)
		filters, _ := chain["filters"].([]any)
		for _, f := range filters {
			filter, _ := f.(map[string]any)
			config, _ := filter["typed_config"].(map[string]any)
			rds, _ := config["rds"].(map[string]any)
			if rds == nil {
				continue
			}
			name, _ := rds["route_config_name"].(string)
			delete(config, "rds")
			config["route_config"] = b.take(name)
		}
	}
}

func (b *bootstrap) take(name string) any {
	for i, v := range b.pending {
		if v["name"] == name {
			b.pending = append(b.pending[:i:i], b.pending[i+1:]...)
			b.routes[name] = v
			return v
		}
	}
	if v, ok := b.routes[name]; ok {
		return v // a second chain of the listener, or of another one
	}
	return map[string]any{"name": name}
}

// carry gives every route configuration that no listener took a listener with
// the filters of both sides.
func (b *bootstrap) carry() error {
	for i, v := range b.pending {
		l := newListener("carrier/"+strconv.Itoa(i), "127.255."+strconv.Itoa(i>>8&255)+"."+strconv.Itoa(i&255), 1, 0)
		at := atCaller
		if name, _ := v["name"].(string); strings.HasPrefix(name, "inbound/") {
			at = atCallee
		}
		l.FilterChains = append(l.FilterChains, chainOf(httpManager(at, "carried")))
		raw, err := encode(l)
		if err != nil {
			return err
		}
		carrier, err := object(Resource{JSON: raw})
		if err != nil {
			return err
		}
		b.routes = map[string]any{"carried": v}
		b.inline(carrier)
		b.listeners = append(b.listeners, carrier)
	}
	return nil
}

// render adds what every proxy's own bootstrap has.
func (b *bootstrap) render() ([]byte, error) {
	pipe := func(name string) any {
		return map[string]any{
			"name": name, "type": "STATIC", "connect_timeout": "1s",
			"typed_extension_protocol_options": map[string]any{httpOptions: map[string]any{
				"@type":                "type.googleapis.com/" + httpOptions,
				"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
			}},
			"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{
				"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{
					"address": map[string]any{"pipe": map[string]any{"path": "@meshc/" + name}},
				}}},
			}}},
		}
	}
	return canon.JSON(map[string]any{
		"node":                 map[string]any{"id": "validate", "cluster": "meshc"},
		"layered_runtime":      map[string]any{"layers": []any{map[string]any{"name": "meshc", "static_layer": hop.Runtime()}}},
		"bootstrap_extensions": hop.Extensions(),
		"dynamic_resources": map[string]any{"ads_config": map[string]any{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
			"grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "xds"}}},
		}},
		"static_resources": map[string]any{
			"clusters":  append(b.clusters, pipe("xds"), pipe(SDSCluster)),
			"listeners": append([]any{}, b.listeners...),
		},
	})
}
