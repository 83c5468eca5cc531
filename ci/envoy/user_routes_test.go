package envoy

import (
	"net/http"
	"slices"
	"testing"

	"meshc.dev/meshc/compiler"
)

// TestRoutesAskForUsers: a gateway's route that asks who the user is takes those whose token is right and says so, and no others:
// whoever has none goes by the next route, and a wrong one is refused whichever it is. What routes do is done by the one that is
// chosen last, answers of their own included.
func TestRoutesAskForUsers(t *testing.T) {
	id := newSigner(t)
	p := shop(t, `
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, claims: "x-user": "sub"}
mesh: jwt: shown: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: {query: ["token"], cookies: ["session"]}}
mesh: service: app: {port: http: number: 80, version: {v1: {}, v2: {}}, grant: all: mesh: true, route: default: to: v1: 100}
mesh: gateway: edge: {port: http: number: 80, host: {
	"open.shop": {
		users: corp: not: paths: ["/public/*"]
		deny: mallory: user: corp: subjects: ["mallory"]
		route: {
			beta: {match: user: corp: claims: {groups: ["beta", "test"]}, to: new: 100, destination: new: {service: "app", version: "v2"}, requestHeaders: set: "x-route": "beta"}
			gone: {match: {path: prefix: "/gone", user: corp: claims: {groups: ["beta"], "org.unit": ["a"]}}, respond: {status: 410}}
			moved: {match: {path: prefix: "/moved", user: corp: {}}, redirect: {path: "/other"}}
			here: {match: path: prefix: "/here", respond: {status: 418}}
			known: {priority: 1, match: {path: prefix: "/here", user: corp: subjects: ["jason"]}, to: app: 100, requestHeaders: set: "x-route": "known"}
			default: {to: app: 100, requestHeaders: set: "x-route": "default"}
		}
	}
	"closed.shop": {
		users: corp: require: true
		route: {beta: {match: {path: prefix: "/a", user: corp: claims: groups: ["beta"]}, to: app: 100}, other: {match: path: prefix: "/b", to: app: 100}}
	}
	"few.shop": {
		users: corp: {}
		route: beta: {match: {path: prefix: "/a", user: corp: claims: groups: ["beta"]}, to: app: 100}
	}
	"shown.shop": {
		users: {shown: {}, corp: {}}
		route: {beta: {match: user: {shown: claims: groups: ["beta"], corp: {}}, to: app: 100, requestHeaders: set: "x-route": "both"}
			one: {match: user: shown: claims: groups: ["beta"], to: app: 100, requestHeaders: set: "x-route": "one"}
			default: {to: app: 100, requestHeaders: set: "x-route": "default"}}
	}
}}`)
	with := func(provider, token string, claims ...string) compiler.User {
		u := compiler.User{Provider: "shop/" + provider, Token: token}
		for i := 0; i < len(claims); i += 2 {
			u.Claims = append(u.Claims, compiler.Claim{Name: claims[i], Value: claims[i+1]})
		}
		return u
	}
	corp := func(claims ...string) []compiler.User {
		return []compiler.User{with("corp", compiler.SignedIn, claims...)}
	}
	other, wrong := []compiler.User{with("corp", compiler.OtherAudience)}, []compiler.User{with("corp", compiler.BadToken)}
	cases := []struct {
		host, path string
		users      []compiler.User
		status     int
		route      string
	}{
		{"open", "/", nil, 200, "default"},
		{"open", "/", corp(), 200, "default"},
		{"open", "/", corp("groups", "beta"), 200, "beta"},
		{"open", "/", corp("groups", "all", "groups", "test"), 200, "beta"},
		{"open", "/", corp("groups", "betatest"), 200, "default"},
		{"open", "/", wrong, 401, ""},
		{"open", "/", other, 403, ""},
		{"open", "/", corp("sub", "mallory", "groups", "beta"), 403, ""},
		{"open", "/public/x", corp("groups", "beta"), 200, "default"},
		{"open", "/public/x", wrong, 200, "default"},
		{"open", "/gone", corp("groups", "beta", "org.unit", "a"), 410, ""},
		{"open", "/gone", corp("groups", "beta", "org.unit", "b"), 200, "beta"},
		{"open", "/gone", corp("org.unit", "a"), 200, "default"},
		{"open", "/gone", nil, 200, "default"},
		{"open", "/gone", wrong, 401, ""},
		{"open", "/moved", corp(), 301, ""},
		{"open", "/moved", nil, 200, "default"},
		{"open", "/here", nil, 418, ""},
		{"open", "/here", wrong, 401, ""},
		{"open", "/here", corp("sub", "jason"), 200, "known"},
		{"open", "/here", corp("sub", "jane"), 418, ""},
		{"closed", "/a", nil, 401, ""},
		{"closed", "/a", corp("groups", "beta"), 200, ""},
		{"closed", "/a", corp("groups", "all"), 404, ""},
		{"closed", "/b", corp("groups", "all"), 200, ""},
		{"closed", "/b", nil, 401, ""},
		{"closed", "/c", nil, 401, ""},
		{"closed", "/c", corp(), 404, ""},
		{"few", "/a", nil, 404, ""},
		{"few", "/a", corp(), 404, ""},
		{"few", "/a", corp("groups", "beta"), 200, ""},
		{"few", "/a", wrong, 401, ""},
		{"few", "/c", corp("groups", "beta"), 404, ""},
		{"few", "/c", other, 403, ""},
		{"shown", "/", nil, 200, "default"},
		{"shown", "/", corp("groups", "beta"), 200, "default"},
		{"shown", "/", []compiler.User{with("shown", compiler.SignedIn, "groups", "beta")}, 200, "one"},
		{"shown", "/?a&b=1", []compiler.User{with("shown", compiler.SignedIn, "groups", "beta"), with("corp", compiler.SignedIn)}, 200, "both"},
		{"shown", "/", []compiler.User{with("shown", compiler.SignedIn, "groups", "beta"), with("corp", compiler.BadToken)}, 401, ""},
	}
	// What a visitor writes is no token, whatever it says.
	forged := []compiler.Header{{Name: "x-route", Value: "beta"}, {Name: "x-user", Value: "jason"}, {Name: "x-jwt-payload", Value: "eyJncm91cHMiOlsiYmV0YSJdfQ"}}
	var rs []compiler.Request
	for _, c := range cases {
		rs = append(rs, id.carries(p, compiler.Request{To: "gateway/shop/edge", Host: c.host + ".shop", Method: http.MethodGet, Path: c.path, Users: c.users, Headers: slices.Clone(forged)}))
	}
	for i, x := range try(t, realEnvoy(t), p, rs) {
		c := cases[i]
		if x.got.Status != c.status || x.differs != "" {
			t.Errorf("%s%s of %v: %d, not %d %s", c.host, c.path, c.users, x.got.Status, c.status, x.differs)
		}
		if c.route == "" {
			continue
		}
		if x.got.Seen == nil || !slices.Equal(x.got.Seen.Headers["x-route"], []string{c.route}) {
			t.Errorf("%s%s of %v: arrived is %+v, not what route %s sends", c.host, c.path, c.users, x.got.Seen, c.route)
		}
	}
}
