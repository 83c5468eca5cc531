package envoy

import (
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	dfpclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	httpdfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	snidfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	upstreamipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/matchers/upstream_ip_port/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"meshc.dev/meshc/compiler/internal/model"
)

// An external with `endpoints: dynamic` is wherever the name is that is asked for. Which names are its own is
// decided before: by the virtual host, or by the filter chain of a TLS connection. A filter looks the name up,
// another one refuses addresses at which no external is. Envoy tries all addresses of a name and tells that filter the
// first, so that it is TLS that holds what an owner of a name makes of the others: there is no dynamic external in plaintext.

const (
	clusterDynamic   = "envoy.clusters.dynamic_forward_proxy"
	filterSNI        = "envoy.filters.network.sni_dynamic_forward_proxy"
	filterNames      = "meshc.names"
	filterOutside    = "meshc.outside"
	matcherUpstreams = "envoy.rbac.matchers.upstream_ip_port"
)

// notOutside are addresses of the proxy's own machine and link, and those that stand for some address of IPv4: whoever
// owns a name may let it stand for them.
func notOutside() []string {
	return []string{
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
		"::/127", "::ffff:0:0/96", "64:ff9b::/96", "fe80::/10", "ff00::/8", "fd00:ec2::254/128",
	}
}

// inside refuses what goes to one of those.
func inside() *rbacconfigv3.RBAC {
	var to []*rbacconfigv3.Permission
	for _, text := range notOutside() {
		to = append(to, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Matcher{Matcher: &corev3.TypedExtensionConfig{
			Name: matcherUpstreams, TypedConfig: pack(&upstreamipv3.UpstreamIpPortMatcher{UpstreamIp: cidr(netip.MustParsePrefix(text))}),
		}}})
	}
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY, Policies: map[string]*rbacconfigv3.Policy{"inside": {
		Permissions: to, Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}},
	}}}
}

// names is the cache of names of an external's port. Cluster and filter name the same one.
func names(x *model.External, p model.Port) *dfpv3.DnsCacheConfig {
	return &dfpv3.DnsCacheConfig{Name: x.Upstream(p.Name)}
}

// lookUpHost has a route's requests go where their host is.
func lookUpHost(r *routev3.Route, x *model.External, p model.Port) {
	if r.GetRoute() == nil {
		return
	}
	AddFilter(r, SlotBodies, filterNames, &httpdfpv3.FilterConfig{
		ImplementationSpecifier: &httpdfpv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: names(x, p)}, SaveUpstreamAddress: true,
	})
	AddFilter(r, SlotBodies, filterOutside, &rbacv3.RBAC{Rules: inside()})
}

// lookedUp is the cluster that goes where the name is.
func lookedUp(x *model.External, p model.Port) *clusterv3.Cluster {
	c := baseCluster(x.Upstream(p.Name))
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: clusterDynamic, TypedConfig: pack(&dfpclusterv3.ClusterConfig{
			ClusterImplementationSpecifier: &dfpclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: names(x, p)},
			// Where it begins no TLS there is nothing to verify.
			AllowInsecureClusterOptions: !p.Protocol.Secured(),
		}),
	}}
	return c
}

// proveNames has the other side prove the host of each request, and asks for it by that name.
func proveNames(http *upstreamv3.HttpProtocolOptions) {
	http.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{AutoSni: true, AutoSanValidation: true}
}

// otherPorts answers 404 to requests for a port of a host that is not declared: Envoy would go there. Without one it
// goes to 443, because it begins TLS.
func otherPorts(p model.Port) *routev3.Route {
	own := stringHeader(":authority", regexString("[^:]+(:"+portText(p.Number)+")?"))
	own.InvertMatch = true
	match := everyRequest()
	match.Headers = append(match.Headers, own)
	return notFound("another port", match)
}

// lookUpName has a connection go where the name is for which its TLS asks.
func lookUpName(t target) []*listenerv3.Filter {
	return []*listenerv3.Filter{
		filter(filterSNI, &snidfpv3.FilterConfig{
			DnsCacheConfig: names(t.external, t.port), PortSpecifier: &snidfpv3.FilterConfig_PortValue{PortValue: t.port.Number}, SaveUpstreamAddress: true,
		}),
		filter(filterRBAC, &networkrbacv3.RBAC{StatPrefix: t.cluster() + "/inside", Rules: inside()}),
	}
}
