// Package compress is the feature `compress` of services, gateways' hosts and gateways' routes:
// answers are packed on their way back.
package compress

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "compress"
	// least is Envoy's own bound: below it nothing is packed.
	least = trait.Size(30)
	// most is what a length may be at most; longer answers are packed anyway.
	most  = 64 * trait.MiB
	usual = trait.KiB
	// library is the canonical name of the extension.
	library = "envoy.compression.gzip.compressor"
	partial = 206
)

// Packing is which answers are packed. Types are sorted.
type Packing struct {
	Types []string   `json:"types"`
	Min   trait.Size `json:"min"`
}

// TraitName is "compress".
func (Packing) TraitName() string { return name }

// texts are the media types in which text of the web is.
func texts() []string {
	return []string{"application/javascript", "application/json", "application/manifest+json", "application/xhtml+xml", "application/xml", "image/svg+xml",
		"text/css", "text/html", "text/javascript", "text/plain", "text/xml"}
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false,
		Defaults: []resolve.Default{
			{Field: "compress.types", Value: strings.Join(texts(), ", "), Why: "these shrink, and pictures and films are packed already"},
			{Field: "compress.min", Value: usual.String(), Why: "of less a network sends as many packets packed as not"},
		},
		Read: read, Uses: nil,
	},
	Codec: trait.JSON[Packing],
	Meaning: func(v trait.Value) []space.Act {
		p := v.(Packing)
		types := strings.Join(p.Types, ", ")
		if slices.Equal(p.Types, texts()) {
			types = "text of the web"
		}
		return space.Labels(space.AtArrival, space.Field{Feature: name, Name: "from", Value: p.Min.String(), Number: float64(p.Min)},
			space.Field{Feature: name, Name: "types", Value: types})
	},
	Change: func(before, after []space.Field) (plan.Class, string) { // who cannot unpack gets the same as before
		return plan.Neutral, plan.Arrow("packed answers", before, after)
	},
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Packing, _ *envoy.Ctx) {
			envoy.AddFilter(r, envoy.SlotBodies, "meshc.compress", lower(v))
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Packing, _ *envoy.Ctx) {
			envoy.AddHostFilter(h, envoy.SlotBodies, "meshc.compress", lower(v))
		}),
	).Needs(envoy.SlotBodies),
	Kubernetes: kubernetes.Nothing("the proxies pack"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of how bodies are encoded"),
}

// lower makes Compressor for answers alone. A part of a body (206) is none by itself, and its ranges count what is
// not packed; a strong etag becomes a weak one, because the bytes are others.
func lower(v Packing) *compressorv3.Compressor {
	common := &compressorv3.Compressor_CommonDirectionConfig{MinContentLength: envoy.UInt32(uint32(v.Min))}
	for _, t := range v.Types {
		m := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t}, IgnoreCase: true}
		if below, all := strings.CutSuffix(t, "*"); all {
			m.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: below}
		}
		common.ContentTypeMatcher = append(common.ContentTypeMatcher, m)
	}
	return &compressorv3.Compressor{
		ResponseDirectionConfig: &compressorv3.Compressor_ResponseDirectionConfig{CommonConfig: common, WeakenEtagOnCompress: true, UncompressibleResponseCodes: []uint32{partial}},
		CompressorLibrary:       &corev3.TypedExtensionConfig{Name: library, TypedConfig: envoy.Packed(&gzipv3.Gzip{})},
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	p := Packing{Types: texts(), Min: usual}
	if types := n.Field("types"); types.Exists() {
		if p.Types = types.Strings(); len(p.Types) == 0 {
			x.Problem(diag.New(diag.CodeNever, types.Pos(), "an empty list of types packs nothing").WithFix("name the types, or delete `types`"))
		}
		for _, t := range types.List() {
			if slices.ContainsFunc([]string{"application/grpc", "application/*"}, func(s string) bool { return t.Str() == s }) || strings.HasPrefix(t.Str(), "application/grpc+") {
				x.Problem(diag.New(diag.CodeRange, t.Pos(), "gRPC packs its messages by itself, and %s takes its answers", t.Str()).WithFix("name other types, such as \"application/json\""))
			}
		}
	}
	if least := n.Field("min"); least.Exists() {
		p.Min = minimum(least, x)
	}
	return p
}

func minimum(n intent.Node, x *resolve.Place) trait.Size {
	size, ok := x.Size(n, most)
	if ok && size < least {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "min is %s, and proxies pack nothing below %s", size, least).WithFix("write %q or more", least.String()))
	}
	return size
}
