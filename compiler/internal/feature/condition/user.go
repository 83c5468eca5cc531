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

// User is the row of `user`: who the visitor is, by his token. A gateway's routes alone ask it: a service's routes act at
// its callers, whose proxies look at no tokens.
//
// Envoy chooses a route before it looks at tokens, and again behind that.
var User = feature.Condition{
	Word: resolve.Word{Field: "user", Read: readUser, Door: nil},
	Dims: []string{string(space.UserDim("")), string(space.Claims)},
	Examples: []feature.Example{
		{Name: "user, at a gateway", Mesh: atHost(`user: corp: {}`)},
		{Name: "user with claims, at a gateway", Mesh: atHost(`user: corp: claims: groups: ["beta"]`)},
	},
	Envoy:      envoy.OnUser(),
	GatewayAPI: gatewayapi.RefuseCondition("no condition of an HTTPRoute is about who the end user is"),
}

func readUser(n intent.Node, x *resolve.Place) model.Match {
	return model.NewMatch(model.Path{}, x.EndUser(n)...)
}

// atHost is a package whose gateway has a host that knows users, and a route there with that match.
func atHost(match string) string {
	return `mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: #"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","alg":"ES256","use":"sig","x":"1EyHU0RHWAnQ8Dypb2oWlYkqvjcncRRnqe5dMN_to0E","y":"oK9oUjQujv9y45Gk55xLVBs7NFX64HYYkSjMhWG0opI"}]}"#}
mesh: gateway: edge: {port: http: number: 80, host: "*": {users: corp: {}, route: {x: {match: ` + match + `, to: cart: 100}, default: to: web: 100}}}`
}
