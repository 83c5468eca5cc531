package importer

import (
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/foreign"
)

// unsaid says why a field of a kind is not translated, and what to write. Fields that are not
// listed are those that the kind does not have, or that nobody here knows.
func unsaid(kind, path string) (why, way string) {
	path = kind + "." + index.ReplaceAllString(path, "[]")
	for _, u := range unsaidFields() {
		if u.path == path || strings.HasPrefix(path, u.path+".") {
			return u.why, u.way
		}
	}
	return "is not a field that is translated", "look whether it is misspelt; else say what it does by words of intent, and take it out here"
}

var index = regexp.MustCompile(`\[[0-9]+\]`)

type unsaidField struct{ path, why, way string }

func unsaidFields() []unsaidField {
	return []unsaidField{
		{"HTTPRoute.spec.rules[].sessionPersistence", "keeps a visitor at one workload", "write `session` on the service"},
		{"HTTPRoute.spec.rules[].retry", "says when requests are tried again, by statuses", "write `retry` on the route: what the callee may have begun needs `idempotent: true`"},
		{"HTTPRoute.spec.useDefaultGateways", "attaches the route to gateways that are not named here", "name them in parentRefs"},
		{"Gateway.spec.addresses", "asks for addresses of a load balancer", "ask for them where you run the gateway"},
		{"Gateway.spec.infrastructure", "is about the objects that run the gateway", "say it there"},
		{"Gateway.spec.allowedListeners", "lets others add listeners", "import what they add as listeners of the Gateway itself"},
		{"Gateway.spec.tls", "is about the gateway's certificates to backends and those of visitors", "write `tls: client` on the hosts that ask visitors for a certificate"},
		{"Gateway.spec.defaultScope", "attaches routes that do not name the gateway", "name it in their parentRefs"},
		{"Gateway.spec.listeners[].tls.options", "is the implementation's own", "write `tls: min` on the host, if it is about versions of TLS"},
		{"Gateway.spec.listeners[].tls.frontendValidation", "asks visitors for a certificate", "write `tls: client` on the hosts"},
		{"Service.spec.type", "opens the Service to what is outside of the cluster", "lead visitors in by a gateway"},
		{"Service.spec.clusterIP", "makes callers choose a pod themselves", "write the service without it, or reach its pods outside of the mesh"},
		{"Service.spec.clusterIPs", "makes callers choose a pod themselves", "write the service without it, or reach its pods outside of the mesh"},
		{"Service.spec.sessionAffinity", "keeps a caller at one pod", "write `balance: hash: source: true` on the service"},
		{"Service.spec.sessionAffinityConfig", "keeps a caller at one pod", "write `balance: hash: source: true` on the service"},
		{"Service.spec.externalIPs", "opens the Service to what is outside of the cluster", "lead visitors in by a gateway"},
		{"Service.spec.externalName", "is a name outside of the cluster", "write an `external`"},
		{"Service.spec.internalTrafficPolicy", "keeps requests on their node", "nothing does that in the mesh"},
		{"Service.spec.trafficDistribution", "prefers pods that are near", "nothing does that in the mesh"},
		{"Service.spec.publishNotReadyAddresses", "sends requests to pods that are not ready", "nothing does that in the mesh"},
		{"Service.spec.ports[].nodePort", "opens the port on every node", "lead visitors in by a gateway"},
	}
}

// unsaidKind says why a kind is not translated.
func unsaidKind(apiVersion, kind string) (why, way string) {
	group, _, _ := strings.Cut(apiVersion, "/")
	switch {
	case group == gatewayGroup && kind == "HTTPRoute", group == gatewayGroup && kind == "Gateway", group == gatewayGroup && kind == "GatewayClass":
		return "is of the version " + apiVersion + ", and v1 is read", "get it as that version: `kubectl get httproutes.v1." + gatewayGroup + " -o yaml`"
	case group == gatewayGroup && kind == "GRPCRoute":
		return "is not translated", "write a route with `match: grpc` at the gateway's host"
	case group == gatewayGroup && slices.Contains([]string{"TCPRoute", "TLSRoute"}, kind):
		return "is not translated", "write a route on a port of the gateway that speaks \"tcp\" or \"tls\""
	case group == gatewayGroup && kind == "BackendTLSPolicy":
		return "is not translated: inside the mesh TLS is mutual and always there", "for what lies outside write an `external` with `tls`"
	case slices.ContainsFunc(foreign.Groups(), func(g foreign.Group) bool { return g.Name == group }):
		return "is a kind of " + group + ", which is not translated", "say what it does by words of intent, and take it out here"
	}
	return "is no object that says where traffic goes", "leave it out; it stays as it is"
}
