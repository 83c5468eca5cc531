package store

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/xds-server/internal/view"
)

// needsOf finds the references of a resource to other resources of the snapshot.
func needsOf(m proto.Message) view.Needs {
	var n view.Needs
	switch m := m.(type) {
	case *clusterv3.Cluster:
		n.Endpoints = endpointName(m)
	case *listenerv3.Listener:
		addListener(&n, m)
	case *routev3.RouteConfiguration:
		addRoutes(&n, m)
	}
	return view.Needs{Clusters: tidy(n.Clusters), Endpoints: tidy(n.Endpoints), Routes: tidy(n.Routes)}
}

func endpointName(c *clusterv3.Cluster) []string {
	if c.GetType() != clusterv3.Cluster_EDS {
		return nil
	}
	if s := c.GetEdsClusterConfig().GetServiceName(); s != "" {
		return []string{s}
	}
	return []string{c.GetName()}
}

func addListener(n *view.Needs, l *listenerv3.Listener) {
	chains := l.GetFilterChains()
	if d := l.GetDefaultFilterChain(); d != nil {
		chains = append(slices.Clone(chains), d)
	}
	for _, c := range chains {
		for _, f := range c.GetFilters() {
			addFilter(n, f.GetTypedConfig())
		}
	}
	addFilter(n, l.GetApiListener().GetApiListener())
}

func addFilter(n *view.Needs, a *anypb.Any) {
	if a == nil {
		return
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return // a payload that was decoded from JSON decodes again; anything else is not ours to follow
	}
	switch m := m.(type) {
	case *hcmv3.HttpConnectionManager:
		if r := m.GetRds(); r != nil {
			n.Routes = append(n.Routes, r.GetRouteConfigName())
		}
		addRoutes(n, m.GetRouteConfig())
	case *tcpv3.TcpProxy:
		if c := m.GetCluster(); c != "" {
			n.Clusters = append(n.Clusters, c)
		}
		for _, w := range m.GetWeightedClusters().GetClusters() {
			n.Clusters = append(n.Clusters, w.GetName())
		}
	}
}

func addRoutes(n *view.Needs, rc *routev3.RouteConfiguration) {
	addMirrors(n, rc.GetRequestMirrorPolicies())
	for _, vh := range rc.GetVirtualHosts() {
		addHost(n, vh)
	}
}

func addHost(n *view.Needs, vh *routev3.VirtualHost) {
	addMirrors(n, vh.GetRequestMirrorPolicies())
	for _, r := range vh.GetRoutes() {
		a := r.GetRoute()
		if c := a.GetCluster(); c != "" {
			n.Clusters = append(n.Clusters, c)
		}
		for _, w := range a.GetWeightedClusters().GetClusters() {
			if w.GetName() != "" {
				n.Clusters = append(n.Clusters, w.GetName())
			}
		}
		addMirrors(n, a.GetRequestMirrorPolicies())
	}
}

func addMirrors(n *view.Needs, ps []*routev3.RouteAction_RequestMirrorPolicy) {
	for _, p := range ps {
		if p.GetCluster() != "" {
			n.Clusters = append(n.Clusters, p.GetCluster())
		}
	}
}
