package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	exprdescv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rate_limit_descriptors/expr/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	exprv1alpha1 "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
)

// none is the value of what a request does not have: an action that finds none counts nothing, and
// that would be the way around a limit.
const none = "none"

// Counted is how requests get the values by which they are counted, and the entries under which a
// limit is kept for any of them.
func Counted(by trait.CountedBy) (actions []*routev3.RateLimit_Action, entries []*commonv3.RateLimitDescriptor_Entry) {
	add := func(key string, value *exprv1alpha1.Expr) {
		actions = append(actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Extension{Extension: &corev3.TypedExtensionConfig{
			Name: "meshc." + key, TypedConfig: pack(&exprdescv3.Descriptor{DescriptorKey: key, ExprSpecifier: &exprdescv3.Descriptor_Parsed{Parsed: value}}),
		}}})
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: key})
	}
	request, connection := ident("request"), ident("connection")
	if by.Identity { // as its certificate proves it
		add("identity", either(selected(connection, "mtls"), selected(connection, "uri_san_peer_certificate")))
	}
	if by.Client { // as the connection manager knows it
		actions = append(actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RemoteAddress_{RemoteAddress: &routev3.RateLimit_Action_RemoteAddress{}}})
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: "remote_address"})
	}
	if by.Method {
		add("method", selected(request, "method"))
	}
	if by.Path { // as the connection manager has normalised it
		add("path", selected(request, "url_path"))
	}
	for _, h := range by.Headers { // its lines joined by commas
		headers := selected(request, "headers")
		add("header."+h, either(apply("@in", textOf(h), headers), apply("_[_]", headers, textOf(h))))
	}
	for _, c := range by.Claims { // what is no text is none
		key := "claim." + c.Provider + "." + c.Name
		at := &metadatav3.MetadataKey{Key: tokenMetadata}
		for _, step := range append([]string{c.Provider}, model.ClaimSteps(c.Name)...) {
			at.Path = append(at.Path, &metadatav3.MetadataKey_PathSegment{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: step}})
		}
		actions = append(actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
			DescriptorKey: key, MetadataKey: at, DefaultValue: none, Source: routev3.RateLimit_Action_MetaData_DYNAMIC,
		}}})
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: key})
	}
	return actions, entries
}

func either(is, then *exprv1alpha1.Expr) *exprv1alpha1.Expr {
	return apply("_?_:_", is, then, textOf(none))
}
