package condition

import (
	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
)

// Scheme is the row of `scheme`: how a visitor came to a gateway.
var Scheme = feature.Condition{
	Word: resolve.Word{Field: "scheme", Read: readScheme, Door: &resolve.Door{
		Dim: space.SchemeDim, Values: (*model.Gateway).Schemes,
		Fix: "a proxy in front of the gateway ends TLS and writes x-forwarded-proto, let the gateway say `trustedHops: 1`",
	}},
	Dims:       []string{string(space.SchemeDim)},
	Examples:   []feature.Example{{Name: "scheme, at a gateway", Match: `scheme: "https"`}},
	Envoy:      envoy.OnField(envoy.SchemeField),
	GatewayAPI: gatewayapi.RefuseCondition("no condition of an HTTPRoute is about the scheme by which a request came"),
}

func readScheme(n intent.Node, _ *resolve.Place) model.Match {
	return model.NewMatch(model.Path{}, space.Values(space.SchemeDim, n.Str()))
}
