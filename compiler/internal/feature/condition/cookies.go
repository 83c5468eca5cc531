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

// Cookies is the row of `cookies`: some value of each cookie is like what is written, or none is.
//
// Envoy's own RouteMatch.cookies looks at the first cookie of a name alone, takes quotes off, and
// has no form of presence; a header's lines are read by evaluator, proof and edits alike.
var Cookies = feature.Condition{
	Word: resolve.Word{Field: "cookies", Read: readCookies, Door: nil},
	Dims: []string{string(space.CookieDim(""))},
	Examples: []feature.Example{
		{Name: "cookie, exact", Match: `cookies: a: exact: "b"`},
		{Name: "cookie, regex", Match: `cookies: a: regex: "b.*"`},
		{Name: "cookie, negated", Match: `not: cookies: a: present: true`},
	},
	Envoy:      envoy.OnLines(),
	GatewayAPI: gatewayapi.OnLines(),
}

func readCookies(n intent.Node, x *resolve.Place) model.Match {
	var when []space.Test
	dim, _ := space.CookieDim("").Of()
	for _, e := range n.Fields() {
		if p, ok := written(e.Node, x, "\t ;"); ok {
			when = append(when, dim.Test(e.Name, false, p))
		}
	}
	return model.NewMatch(model.Path{}, when...)
}
