package compiler

import (
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/resolve"
)

// Default is one row of the table of defaults: the field, what holds if nothing is
// written, and why.
type Default = resolve.Default

// Defaults is the whole table: what the language itself settles, then each feature.
func Defaults() []Default {
	out := []Default{
		{Field: "trustDomain", Value: resolve.DefaultTrustDomain, Why: "a name of its own; production sets one"},
		{Field: "environment.capture", Value: "transparent", Why: "as in pods"},
		{Field: "mtls.mode", Value: "strict", Why: "nobody without identity gets in"},
		{Field: "owner", Value: "the package's path", Why: "somebody always answers"},
		{Field: "service.port.protocol", Value: "http", Why: "the common case"},
		{Field: "service.serviceAccount", Value: "the service's name", Why: "one identity for one service"},
		{Field: "service.version", Value: "one, called default", Why: "a service without canaries needs none"},
		{Field: "service.grant", Value: "nobody may call", Why: "default deny"},
		{Field: "service.route", Value: "one, called default: all versions alike, all paths", Why: "a service without wishes works"},
		{Field: "service.calls.port", Value: "the callee's first port by name", Why: "most have one"},
		{Field: "gateway.address", Value: "0.0.0.0", Why: "a gateway is there to be reached"},
	}
	for _, f := range catalog.All() {
		out = append(out, f.Defaults...)
	}
	return out
}
