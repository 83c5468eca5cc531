package compiler

import (
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/internal/kubeversion"
)

// DefaultTrustDomain is that of a mesh whose root package names none.
const DefaultTrustDomain = resolve.DefaultTrustDomain

// Default is one row of the table of defaults: the field, what holds if nothing is
// written, and why.
type Default = resolve.Default

// Defaults is the whole table: what the language itself settles, then each feature.
func Defaults() []Default {
	out := []Default{
		{Field: "trustDomain", Value: DefaultTrustDomain, Why: "a name of its own; production sets one"},
		{Field: "environment.capture", Value: "transparent", Why: "as in pods"},
		{Field: "mtls.mode", Value: "strict", Why: "nobody without identity gets in"},
		{Field: "owner", Value: "the package's path", Why: "somebody always answers"},
		{Field: "service.port.protocol", Value: "http", Why: "the common case"},
		{Field: "service.serviceAccount", Value: "the service's name", Why: "one identity for one service"},
		{Field: "service.version.serviceAccount", Value: "the service's", Why: "what is granted to a service is granted to all its versions"},
		{Field: "service.version.labels", Value: "version: its name", Why: "the usual label"},
		{Field: "service.selector", Value: "app: the service's name", Why: "the usual label"},
		{Field: "service.version", Value: "one, called default", Why: "a service without canaries needs none"},
		{Field: "targets.kubernetes.admissionPolicies", Value: "no", Why: "whoever applies the release must be let write cluster-wide policies"},
		{Field: "targets.kubernetes.networkPolicies", Value: "no", Why: "what the cluster's network makes of them has to be tried first"},
		{Field: "targets.kubernetes.version", Value: kubeversion.Oldest.String(), Why: "the oldest that says whose a pod's token is"},
		{Field: "service.grant", Value: "nobody may call", Why: "default deny"},
		{Field: "service.route", Value: "one, called default: all versions alike, all paths", Why: "a service without wishes works"},
		{Field: "service.calls.port", Value: "the callee's only port, or its main one", Why: "adding a port moves nobody"},
		{Field: "route.match", Value: "all requests", Why: "a condition is what is written"},
		{Field: "route.priority", Value: "0: the more specific match first", Why: "an order that nobody has to maintain"},
		{Field: "grant.methods, paths", Value: "all", Why: "a restriction is what is written"},
		{Field: "grant.ports", Value: "the service's only port, or its main one", Why: "adding a port lets nobody in"},
		{Field: "external.endpoints", Value: "the one host in hosts, looked up, at each port's number", Why: "a public API is where its name says"},
		{Field: "external.grant", Value: "its own namespace may call", Why: "what a package needs is its own affair"},
		{Field: "external.hosts", Value: "the name in endpoints: dns", Why: "it is called by its name"},
		{Field: "external.port.protocol", Value: "https where the number is 443 or the name is https, else http", Why: "nobody sends secrets in plaintext unasked"},
		{Field: "external.route", Value: "one, called default: all requests", Why: "an external without wishes works"},
		{Field: "gateway.serviceAccount", Value: "the gateway's name", Why: "one identity for one gateway"},
		{Field: "gateway.address", Value: "`::`, all addresses of both families; `0.0.0.0` where capture is explicit", Why: "a gateway is there to be reached"},
		{Field: "gateway.autoscale", Value: "2 pods, always", Why: "one may go"},
		{Field: "gateway.autoscale.min", Value: "2, or max if that is 1", Why: "one may go"},
		{Field: "test.request.from", Value: "a caller without identity", Why: "what is not granted to anyone is refused"},
		{Field: "test.request.method, path", Value: "GET, /", Why: "the plainest request"},
	}
	for _, f := range catalog.All() {
		out = append(out, f.Defaults...)
	}
	return out
}

// Defaults is what the intent's own defaults put in place of the table's, with their lines: the
// mesh's, then each namespace's. A Program that was opened from a release has none.
func (p *Program) Defaults() []Default {
	var out []Default
	for _, s := range p.result.Defaults {
		of := "for namespace " + s.Namespace
		if s.Namespace == "" {
			of = "for the mesh"
		}
		out = append(out, Default{Field: "default." + s.Field, Value: s.Value, Why: of + ", " + s.Pos.String()})
	}
	return out
}
