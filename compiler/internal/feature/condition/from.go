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

// noCaller is why a route of the Gateway API does not ask who calls.
const noCaller = "no condition of an HTTPRoute is about who calls"

// From is the row of `from`, Namespaces that of `namespaces`: who calls. A caller's proxy knows
// itself, so it has the routes that its account may take, and no request says anything of it.
var (
	From = feature.Condition{
		Word:       resolve.Word{Field: "from", Read: readFrom, Door: nil},
		Dims:       []string{string(space.CallerDim)},
		Examples:   []feature.Example{{Name: "from", Match: `from: ["web"]`}},
		Envoy:      envoy.OnCaller(),
		GatewayAPI: gatewayapi.RefuseCondition(noCaller),
	}
	Namespaces = feature.Condition{
		Word:     resolve.Word{Field: "namespaces", Read: readNamespaces, Door: nil},
		Examples: []feature.Example{{Name: "from namespaces", Match: `namespaces: ["shop"]`}},
	}
)

func readFrom(n intent.Node, x *resolve.Place) model.Match {
	return calledBy(n, x, space.Values(space.CallerDim, x.Callers(n)...))
}

func readNamespaces(n intent.Node, x *resolve.Place) model.Match {
	t := space.Test{Dim: space.CallerDim}
	for _, name := range x.Namespaces(n) {
		t.Any = append(t.Any, space.Pattern{Kind: space.Prefix, Text: name + "/"})
	}
	return calledBy(n, x, t)
}

// calledBy is the match that a list of callers says.
func calledBy(n intent.Node, x *resolve.Place, t space.Test) model.Match {
	if len(n.List()) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "an empty list of callers takes no request").WithFix("leave it out to take the requests of all callers"))
	}
	if len(t.Any) == 0 { // told
		return model.Match{}
	}
	return model.NewMatch(model.Path{}, t)
}
