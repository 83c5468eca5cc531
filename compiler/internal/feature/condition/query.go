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

// Query is the row of `query`: the first value of each parameter is like what is written.
var Query = feature.Condition{
	Word: resolve.Word{Field: "query", Read: readQuery, Door: nil},
	Dims: []string{string(space.QueryDim(""))},
	Examples: []feature.Example{
		{Name: "query", Match: `query: q: exact: "b"`},
		{Name: "query, regex", Match: `query: q: regex: "b+"`},
		{Name: "query, negated", Match: `not: query: q: present: true`},
	},
	Envoy:      envoy.OnParameters(),
	GatewayAPI: gatewayapi.OnParameters(),
}

func readQuery(n intent.Node, x *resolve.Place) model.Match {
	var when []space.Test
	dim, _ := space.QueryDim("").Of()
	for _, e := range n.Fields() {
		if p, ok := written(e.Node, x, " &#"); ok {
			when = append(when, dim.Test(e.Name, false, p))
		}
	}
	return model.NewMatch(model.Path{}, when...)
}
