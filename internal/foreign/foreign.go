// Package foreign lists the kinds by which other meshes, and Gateway API, say where
// traffic goes and how it is protected.
//
// Out: their API groups with the resources that lie in namespaces.
//
// What always holds: it is a closed list. A group that nobody thought of is not among it.
// The rules of policies/baseline/foreign.rego name the same groups; a test says so.
package foreign

// Group is an API group.
type Group struct {
	Name string
	// Resources are plural names, sorted.
	Resources []string
	// Kinds are those of Resources if the group has others as well that are none of a
	// mesh's, else nil.
	Kinds []string
}

// Groups are all, sorted by name.
func Groups() []Group {
	return []Group{
		{Name: "access.smi-spec.io", Resources: []string{"traffictargets"}},
		{Name: "cilium.io", Resources: []string{"ciliumenvoyconfigs"}, Kinds: []string{"CiliumEnvoyConfig"}},
		{Name: "consul.hashicorp.com", Resources: []string{
			"ingressgateways", "jwtproviders", "meshes", "proxydefaults", "servicedefaults", "serviceintentions", "serviceresolvers", "servicerouters", "servicesplitters", "terminatinggateways",
		}},
		{Name: "extensions.istio.io", Resources: []string{"trafficextensions", "wasmplugins"}},
		{Name: "gateway.envoyproxy.io", Resources: []string{
			"backends", "backendtrafficpolicies", "clienttrafficpolicies", "envoyextensionpolicies", "envoypatchpolicies", "envoyproxies", "httproutefilters", "securitypolicies",
		}},
		{Name: "gateway.networking.k8s.io", Resources: []string{
			"backendtlspolicies", "gateways", "grpcroutes", "httproutes", "listenersets", "referencegrants", "tcproutes", "tlsroutes", "udproutes",
		}},
		{Name: "gateway.networking.x-k8s.io", Resources: []string{"xbackendtrafficpolicies", "xlistenersets"}},
		{Name: "kuma.io", Resources: []string{
			"meshaccesslogs", "meshcircuitbreakers", "meshexternalservices", "meshfaultinjections", "meshhealthchecks", "meshhttproutes", "meshloadbalancingstrategies", "meshmetrics",
			"meshmultizoneservices", "meshpassthroughs", "meshproxypatches", "meshratelimits", "meshretries", "meshservices", "meshtcproutes", "meshtimeouts", "meshtlses", "meshtraces",
			"meshtrafficpermissions",
		}},
		{Name: "linkerd.io", Resources: []string{"serviceprofiles"}},
		{Name: "networking.istio.io", Resources: []string{
			"destinationrules", "envoyfilters", "gateways", "proxyconfigs", "serviceentries", "sidecars", "virtualservices", "workloadentries", "workloadgroups",
		}},
		{Name: "policy.linkerd.io", Resources: []string{
			"authorizationpolicies", "egressnetworks", "httplocalratelimitpolicies", "httproutes", "meshtlsauthentications", "networkauthentications", "serverauthorizations", "servers",
		}},
		{Name: "security.istio.io", Resources: []string{"authorizationpolicies", "peerauthentications", "requestauthentications"}},
		{Name: "specs.smi-spec.io", Resources: []string{"httproutegroups", "tcproutes", "udproutes"}},
		{Name: "split.smi-spec.io", Resources: []string{"trafficsplits"}},
		{Name: "telemetry.istio.io", Resources: []string{"telemetries"}},
	}
}
