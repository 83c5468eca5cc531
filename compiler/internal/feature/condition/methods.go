package condition

import (
	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/internal/diag"
)

// Methods is the row of `methods`.
var Methods = feature.Condition{
	Word:       resolve.Word{Field: "methods", Read: readMethods, Door: nil},
	Dims:       []string{string(space.MethodDim)},
	Examples:   []feature.Example{{Name: "methods", Match: `methods: ["GET"]`}},
	Envoy:      envoy.OnField(":method"),
	GatewayAPI: gatewayapi.OnMethod(),
}

func readMethods(n intent.Node, x *resolve.Place) model.Match {
	methods := x.Methods(n)
	if len(methods) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "an empty list of methods takes no request").WithFix("leave `methods` out to take all methods"))
		return model.Match{}
	}
	return model.NewMatch(model.Path{}, space.Values(space.MethodDim, methods...))
}
