// Package content is the configuration that all servers are measured with.
//
// In: a number of services. Out: one cluster and one assignment of four addresses
// for each, ten route tables that share the services with two routes each, and a
// listener for each table, the same messages for every server.
package content

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Tables is how many route tables there are.
const Tables = 10

// perEndpoints is how many addresses an assignment has.
const perEndpoints = 4

// Service is the name of cluster and assignment i.
func Service(i int) string { return fmt.Sprintf("outbound/shop/service%04d/http", i) }

// Table is the name of route table j.
func Table(j int) string { return fmt.Sprintf("routes-%02d", j) }

// Addresses are those of a service; another state moves one of them.
func Addresses(state int) []string {
	var out []string
	for i := range perEndpoints {
		out = append(out, fmt.Sprintf("10.1.%d.%d", state*i%moves, 10+i))
	}
	return out
}

// moves is after how many states the addresses are the same again.
const moves = 250

// StateIn is the newest state, not above newest, that an encoded assignment shows.
func StateIn(body []byte, newest int) (int, bool) {
	_, rest, ok := bytes.Cut(body, []byte("10.1."))
	for ok {
		digits, _, found := bytes.Cut(rest, []byte(".11"))
		if n, err := strconv.Atoi(string(digits)); found && err == nil {
			if at := newest - (newest-n%moves+moves)%moves; at >= 0 {
				return at, true
			}
			return 0, false
		}
		_, rest, ok = bytes.Cut(rest, []byte("10.1."))
	}
	return 0, false
}

// Port is that of every address.
const Port = 8080

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// Cluster is cluster i.
func Cluster(i int) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: Service(i), AltStatName: strings.ReplaceAll(Service(i), "/", "."), ConnectTimeout: durationpb.New(2 * time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(1024), MaxPendingRequests: wrapperspb.UInt32(1024), MaxRequests: wrapperspb.UInt32(1024),
		}}},
		OutlierDetection: &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(5), BaseEjectionTime: durationpb.New(30 * time.Second)},
	}
}

// Assignment is that of service i.
func Assignment(i, state int) *endpointv3.ClusterLoadAssignment {
	l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{}, LoadBalancingWeight: wrapperspb.UInt32(perEndpoints)}
	for _, a := range Addresses(state) {
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{
			LoadBalancingWeight: wrapperspb.UInt32(1),
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(a, Port)}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: Service(i), Endpoints: []*endpointv3.LocalityLbEndpoints{l}}
}

func address(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// Routes is table j of n services; another state has another timeout in one route.
func Routes(j, n, state int) *routev3.RouteConfiguration {
	rc := &routev3.RouteConfiguration{Name: Table(j)}
	for i := j; i < n; i += Tables {
		timeout := 15 * time.Second
		if i == j {
			timeout += time.Duration(state) * time.Millisecond
		}
		host := fmt.Sprintf("service%04d", i)
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{
			Name: host, Domains: []string{host, host + ".shop", host + ".shop.svc"},
			Routes: []*routev3.Route{route("/items/", i, timeout), route("/", i, timeout)},
		})
	}
	return rc
}

func route(prefix string, i int, timeout time.Duration) *routev3.Route {
	return &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: Service(i)}, Timeout: durationpb.New(timeout),
			RetryPolicy: &routev3.RetryPolicy{RetryOn: "connect-failure,refused-stream", NumRetries: wrapperspb.UInt32(2)},
		}},
	}
}

// Listener is that of table j.
func Listener(j int) (*listenerv3.Listener, error) {
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		return nil, fmt.Errorf("making listener %d: %w", j, err)
	}
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix:     Table(j),
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: Table(j), ConfigSource: ads()}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
	})
	if err != nil {
		return nil, fmt.Errorf("making listener %d: %w", j, err)
	}
	return &listenerv3.Listener{
		Name: "listener-" + Table(j), Address: address("127.0.0.1", uint32(15000+j)),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm},
		}}}},
	}, nil
}

// State is which version of what changes is served.
type State struct {
	// Endpoint changes the addresses of the service in the middle, Route a route of
	// the table in the middle.
	Endpoint, Route int
}

// Moving is the service whose addresses change.
func Moving(n int) int { return n / 2 }

// Changing is the table whose route changes.
const Changing = Tables / 2

// All makes every message of a state of n services, by type in the order of
// delivery: clusters, assignments, listeners, routes.
func All(n int, s State) ([4][]proto.Message, error) {
	var out [4][]proto.Message
	for i := range n {
		state := 0
		if i == Moving(n) {
			state = s.Endpoint
		}
		out[0] = append(out[0], Cluster(i))
		out[1] = append(out[1], Assignment(i, state))
	}
	for j := range Tables {
		l, err := Listener(j)
		if err != nil {
			return out, err
		}
		state := 0
		if j == Changing {
			state = s.Route
		}
		out[2] = append(out[2], l)
		out[3] = append(out[3], Routes(j, n, state))
	}
	return out, nil
}
