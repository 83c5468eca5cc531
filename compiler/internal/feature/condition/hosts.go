package condition

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/internal/diag"
)

// Hosts is the row of `hosts`: by which of its names a service or an external was asked. A gateway's routes stand
// at hosts already.
var Hosts = feature.Condition{
	Word:       resolve.Word{Field: "hosts", Read: readHosts, Door: nil},
	Dims:       []string{string(space.HostDim)},
	Examples:   []feature.Example{{Name: "hosts", Match: `hosts: ["old.shop.example", "*.old.shop.example"]`}},
	Envoy:      envoy.OnHost(),
	GatewayAPI: gatewayapi.RefuseCondition("an HTTPRoute of a Service has no host names"),
}

// readHosts tests a whole name as a value, so that two routes of different names are known not to take the same
// request.
func readHosts(n intent.Node, x *resolve.Place) model.Match {
	t := space.Test{Dim: space.HostDim}
	for _, e := range n.List() {
		p := space.Pattern{Kind: space.Exact, Text: e.Str()}
		if strings.HasPrefix(p.Text, "*.") {
			p.Kind = space.Named
		}
		t.Any = append(t.Any, p)
	}
	if len(t.Any) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "an empty list of hosts takes no request").WithFix("leave `hosts` out to take requests for all of its names"))
		return model.Match{}
	}
	return model.NewMatch(model.Path{}, t)
}
