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
	"meshc.dev/meshc/internal/hop"
)

// Headers is the row of `headers`: some line of each is like what is written.
var Headers = feature.Condition{
	Word: resolve.Word{Field: "headers", Read: readHeaders, Door: nil},
	Dims: []string{string(space.HeaderDim(""))},
	Examples: []feature.Example{
		{Name: "header, exact", Match: `headers: "x-a": exact: "b"`},
		{Name: "header, prefix", Match: `headers: "x-a": prefix: "b"`},
		{Name: "header, suffix", Match: `headers: "x-a": suffix: "b"`},
		{Name: "header, present", Match: `headers: "x-a": present: true`},
		{Name: "header, contains", Match: `headers: "x-a": contains: "b"`},
		{Name: "header, regex", Match: `headers: "x-a": regex: "b+"`},
		{Name: "header, in any case", Match: `headers: "x-a": {exact: "b", ignoreCase: true}`},
		{Name: "header, negated", Match: `not: headers: "x-a": exact: "b"`},
	},
	Envoy:      envoy.OnHeaders(),
	GatewayAPI: gatewayapi.OnHeaders(),
}

func readHeaders(n intent.Node, x *resolve.Place) model.Match {
	var when []space.Test
	dim, _ := space.HeaderDim("").Of()
	for _, e := range n.Fields() {
		name := strings.ToLower(e.Name)
		checkHeader(e.Node, name, x)
		if p, ok := written(e.Node, x, ""); ok {
			when = append(when, dim.Test(name, false, p))
		}
	}
	return model.NewMatch(model.Path{}, when...)
}

// checkHeader refuses headers that are not the caller's, and values that no header has: HTTP
// drops the blanks around them.
func checkHeader(n intent.Node, name string, x *resolve.Place) {
	if hop.Reserved(name) || hop.OfConnection(name) {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "header %q belongs to the proxies: they replace what a caller sends", name).
			WithFix("test a header of your own; hosts are told apart by a gateway's `host`"))
	}
	for _, e := range n.Fields() {
		if e.Name == string(space.Contains) || e.Name == string(space.Regex) {
			continue
		}
		value := e.Node.Str()
		head, tail := strings.TrimLeft(value, " \t") != value, strings.TrimRight(value, " \t") != value
		if head && e.Name != string(space.Suffix) || tail && e.Name != string(space.Prefix) {
			x.Problem(diag.New(diag.CodeNever, e.Node.Pos(), "no header is like %q: HTTP drops the blanks around a value", value).WithFix("write it without"))
		}
	}
}
