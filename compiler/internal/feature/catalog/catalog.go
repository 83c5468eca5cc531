// Package catalog is the ordered list of all features. It cuts the matrix into
// the columns that the stages of the compiler consume.
package catalog

import (
	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/feature/admission"
	"meshc.dev/meshc/compiler/internal/feature/answers"
	"meshc.dev/meshc/compiler/internal/feature/authorize"
	"meshc.dev/meshc/compiler/internal/feature/balance"
	"meshc.dev/meshc/compiler/internal/feature/bandwidth"
	"meshc.dev/meshc/compiler/internal/feature/circuitbreaker"
	"meshc.dev/meshc/compiler/internal/feature/compress"
	"meshc.dev/meshc/compiler/internal/feature/condition"
	"meshc.dev/meshc/compiler/internal/feature/connection"
	"meshc.dev/meshc/compiler/internal/feature/cors"
	"meshc.dev/meshc/compiler/internal/feature/csrf"
	"meshc.dev/meshc/compiler/internal/feature/faults"
	"meshc.dev/meshc/compiler/internal/feature/headers"
	"meshc.dev/meshc/compiler/internal/feature/health"
	"meshc.dev/meshc/compiler/internal/feature/locality"
	"meshc.dev/meshc/compiler/internal/feature/lua"
	"meshc.dev/meshc/compiler/internal/feature/mirror"
	"meshc.dev/meshc/compiler/internal/feature/origination"
	"meshc.dev/meshc/compiler/internal/feature/outlier"
	"meshc.dev/meshc/compiler/internal/feature/panicking"
	"meshc.dev/meshc/compiler/internal/feature/patches"
	"meshc.dev/meshc/compiler/internal/feature/process"
	"meshc.dev/meshc/compiler/internal/feature/quota"
	"meshc.dev/meshc/compiler/internal/feature/ratelimit"
	"meshc.dev/meshc/compiler/internal/feature/redirect"
	"meshc.dev/meshc/compiler/internal/feature/respond"
	"meshc.dev/meshc/compiler/internal/feature/retries"
	"meshc.dev/meshc/compiler/internal/feature/rewrite"
	"meshc.dev/meshc/compiler/internal/feature/sticky"
	"meshc.dev/meshc/compiler/internal/feature/structure"
	"meshc.dev/meshc/compiler/internal/feature/telemetry"
	"meshc.dev/meshc/compiler/internal/feature/timeouts"
	"meshc.dev/meshc/compiler/internal/feature/upgrades"
	"meshc.dev/meshc/compiler/internal/feature/users"
	"meshc.dev/meshc/compiler/internal/feature/wasm"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
)

// All returns the rows in the order of the documentation.
func All() []feature.Feature {
	return []feature.Feature{
		timeouts.Feature,
		timeouts.Idle,
		timeouts.MaxDuration,
		upgrades.Feature,
		retries.Feature,
		retries.Kept,
		headers.Request,
		headers.Response,
		rewrite.Feature,
		rewrite.ToHost,
		mirror.Feature,
		sticky.Feature,
		redirect.Feature,
		respond.Feature,
		cors.Feature,
		users.Feature,
		csrf.Feature,
		authorize.Feature,
		faults.Feature,
		outlier.Feature,
		health.Feature,
		panicking.Feature,
		locality.Feature,
		circuitbreaker.Feature,
		balance.Feature,
		balance.Session,
		connection.Feature,
		ratelimit.Feature,
		quota.Feature,
		admission.Feature,
		bandwidth.Feature,
		compress.Feature,
		answers.Feature,
		telemetry.Feature,
		telemetry.Tracing,
		telemetry.Counting,
		lua.Feature,
		wasm.Feature,
		process.Feature,
		origination.Feature,
		patches.Feature,
	}
}

// Conditions returns the rows of a route's match, in the order of the documentation.
func Conditions() []feature.Condition {
	return []feature.Condition{
		condition.Methods,
		condition.From,
		condition.Namespaces,
		condition.Headers,
		condition.Cookies,
		condition.Query,
		condition.Hosts,
		condition.Scheme,
		condition.User,
	}
}

// Structure returns the rows of what a mesh is made of, in the order of the documentation.
func Structure() []feature.Structure {
	return []feature.Structure{
		structure.Identity,
		structure.Former,
		structure.TrustDomains,
		structure.Grants,
		structure.Asked,
		structure.Names,
		structure.Denies,
		structure.Shadows,
		structure.MTLS,
		structure.Calls,
		structure.Versions,
		structure.TCP,
		structure.Gateways,
		structure.Streams,
		structure.ProxyProtocol,
		structure.Splits,
		structure.TrustedHops,
		structure.HTTP10,
		structure.HTTP3,
		structure.Autoscale,
		structure.CertificateFiles,
		structure.CertificateSecrets,
		structure.TLSMin,
		structure.ClientTLS,
		structure.TLSParts,
		structure.PlainRefused,
		structure.Externals, structure.Via,
		structure.Endpoints,
		structure.Proxyless,
	}
}

// Rules is the column that resolve reads.
func Rules() []resolve.Rule {
	var out []resolve.Rule
	for _, f := range All() {
		out = append(out, f.Rule)
	}
	return out
}

// ConditionWords is the column of conditions that resolve reads.
func ConditionWords() []resolve.Word {
	var out []resolve.Word
	for _, c := range Conditions() {
		out = append(out, c.Word)
	}
	return out
}

// Codecs is the column that reads mesh.json.
func Codecs() map[string]trait.Codec {
	out := map[string]trait.Codec{}
	for _, f := range All() {
		out[f.Name] = f.Codec
	}
	return out
}

// Meaning is the column that eval reads.
func Meaning() eval.Column {
	out := eval.Column{}
	for _, f := range All() {
		out[f.Name] = f.Meaning
	}
	return out
}

// Words is the column that plan reads.
func Words() plan.Words {
	out := plan.Words{}
	for _, f := range All() {
		out[f.Name] = f.Change
	}
	return out
}

// Envoy is the column of the target envoy.
func Envoy() envoy.Column {
	out := envoy.Column{}
	for _, f := range All() {
		out[f.Name] = envoy.Cell{Lowering: f.Envoy, Uses: f.Uses, Word: f.Field}
	}
	return out
}

// EnvoyConditions is the column of conditions of the target envoy.
func EnvoyConditions() envoy.Conditions {
	out := envoy.Conditions{}
	for _, c := range Conditions() {
		for _, dim := range c.Dims {
			out[dim] = c.Envoy
		}
	}
	return out
}

// GatewayAPIConditions is the column of conditions of the target gateway-api.
func GatewayAPIConditions() gatewayapi.Conditions {
	out := gatewayapi.Conditions{}
	for _, c := range Conditions() {
		for _, dim := range c.Dims {
			out[dim] = c.GatewayAPI
		}
	}
	return out
}

// Kubernetes is the column of the target kubernetes.
func Kubernetes() kubernetes.Column {
	out := kubernetes.Column{}
	for _, f := range All() {
		out[f.Name] = kubernetes.Cell{Lowering: f.Kubernetes, Uses: f.Uses}
	}
	return out
}

// GatewayAPI is the column of the target gateway-api.
func GatewayAPI() gatewayapi.Column {
	out := gatewayapi.Column{}
	for _, f := range All() {
		out[f.Name] = f.GatewayAPI
	}
	return out
}

// parts is the column of structure of the target whose answer is given.
func parts(answer func(feature.Structure) coverage.Answer) []coverage.Part {
	var out []coverage.Part
	for _, s := range Structure() {
		out = append(out, coverage.Part{Name: s.Name, Uses: s.Uses, Answer: answer(s)})
	}
	return out
}

// EnvoyParts is the column of structure of the target envoy.
func EnvoyParts() []coverage.Part {
	return parts(func(s feature.Structure) coverage.Answer { return s.Envoy })
}

// KubernetesParts is the column of structure of the target kubernetes.
func KubernetesParts() []coverage.Part {
	return parts(func(s feature.Structure) coverage.Answer { return s.Kubernetes })
}

// GatewayAPIParts is the column of structure of the target gateway-api.
func GatewayAPIParts() []coverage.Part {
	return parts(func(s feature.Structure) coverage.Answer { return s.GatewayAPI })
}

// Series is about how many series a proxy counts of requests with so many callers, routes and
// statuses; 0 if it counts none.
func Series(traits trait.Set, callers, routes, statuses int) int {
	return telemetry.Series(traits, callers, routes, statuses)
}
