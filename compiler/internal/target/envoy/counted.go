package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	exprdescv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rate_limit_descriptors/expr/v3"
	exprv1alpha1 "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// Key is by what requests are counted: a value that each of them has. One that a request does not
// have is a value too, for an action that finds none counts nothing, and that would be the way
// around a limit.
type Key struct {
	name  string
	value *exprv1alpha1.Expr // nil for the address, which an action of its own knows
}

// none is the value of what a request does not have.
const none = "none"

// ByIdentity is the caller's identity, as its certificate proves it.
func ByIdentity() Key {
	connection := ident("connection")
	return Key{"identity", either(selected(connection, "mtls"), selected(connection, "uri_san_peer_certificate"))}
}

// ByClient is the address of whoever asks, as the connection manager knows it.
func ByClient() Key { return Key{"client", nil} }

// ByMethod is the request's method.
func ByMethod() Key { return Key{"method", selected(ident("request"), "method")} }

// ByHeader is a header's value, its lines joined by commas.
func ByHeader(name string) Key {
	headers := selected(ident("request"), "headers")
	return Key{"header", either(apply("@in", textOf(name), headers), apply("_[_]", headers, textOf(name)))}
}

func either(is, then *exprv1alpha1.Expr) *exprv1alpha1.Expr {
	return apply("_?_:_", is, then, textOf(none))
}

// Counted is how requests get the values of keys, and the entries under which a limit is kept for any
// values of them.
func Counted(keys []Key) (*routev3.RateLimit, []*commonv3.RateLimitDescriptor_Entry) {
	out := &routev3.RateLimit{}
	var entries []*commonv3.RateLimitDescriptor_Entry
	for _, k := range keys {
		if k.value == nil {
			out.Actions = append(out.Actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RemoteAddress_{RemoteAddress: &routev3.RateLimit_Action_RemoteAddress{}}})
			entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: "remote_address"})
			continue
		}
		out.Actions = append(out.Actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Extension{Extension: &corev3.TypedExtensionConfig{
			Name: "meshc." + k.name,
			TypedConfig: pack(&exprdescv3.Descriptor{
				DescriptorKey: k.name, ExprSpecifier: &exprdescv3.Descriptor_Parsed{Parsed: k.value},
			}),
		}}})
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: k.name})
	}
	return out, entries
}
