package users

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/internal/hop"
)

// What the names of the filters begin with: the one that removes headers, and one for each provider.
const removal, filters = "meshc.claims", "meshc.users"

// onRoute puts a filter for each provider on a gateway's route. Where the service behind looks for a
// token in the same place, it gets there.
func onRoute(r *routev3.Route, v Users, x *envoy.Ctx) {
	for _, h := range x.Edited(v.TraitName()) {
		if slices.Contains(v.Removed, h) {
			x.Problem("write another header", "the route edits header %s, by which providers of tokens tell who the user is", h)
		}
	}
	for _, h := range envoy.ChosenBy(r, v.Image()) {
		x.Problem("test another header", "the route is chosen by header %s, and what that says is only known when the user is: the visitor has written it", h)
	}
	if x.Again {
		v.chosenBy(r, x)
	}
	for _, d := range x.Gateway.AllDenies() {
		v.untested(d.Terms, x)
		v.untested(d.Not, x)
		for _, h := range slices.Concat(d.Headers, d.Not.Headers) {
			if slices.ContainsFunc(v.Image().Headers, func(e space.Edit) bool { return e.Name == h.Name }) {
				x.Problem("test another header", "deny %q tests header %s, and what that says is only known when the user is", d.Name, h.Name)
			}
		}
	}
	if len(v.Removed) > 0 {
		envoy.AddFilter(r, envoy.SlotUsers, removal, removed(v))
	}
	for _, u := range v.Of {
		read := slices.ContainsFunc(envoy.Behind[Users](x), func(behind Users) bool {
			return slices.ContainsFunc(behind.Of, func(b User) bool { return b.Provider.From.Meets(u.Provider.From) != "" })
		})
		for _, f := range u.filters(read, x) {
			envoy.AddFilter(r, envoy.SlotUsers, f.kind, f.config)
		}
	}
}

// onRoutesTo refuses what a route does with a header in which the service behind looks for a token: who
// is signed in there would not be who came.
func onRoutesTo(_ *routev3.Route, vs []Users, x *envoy.Ctx) {
	for _, h := range x.Edited(Users{}.TraitName()) {
		if slices.ContainsFunc(vs, func(v Users) bool { return v.reads(h) }) {
			x.Problem("leave the header as it comes", "the route edits header %s, in which the service behind looks for tokens of its users", h)
		}
	}
}

// reads reports whether a token is looked for in a header, or in a part of it.
func (us Users) reads(header string) bool {
	return slices.ContainsFunc(us.Of, func(u User) bool {
		return u.Provider.From.InHeader(header) || header == "cookie" && len(u.Provider.From.Cookies) > 0
	})
}

// chosenBy refuses conditions of a route on what is taken away before it is chosen again: headers that visitors write in place
// of providers, and tokens in parameters.
func (us Users) chosenBy(r *routev3.Route, x *envoy.Ctx) {
	for _, h := range r.GetMatch().GetHeaders() {
		if slices.ContainsFunc(us.Image().Headers, func(e space.Edit) bool { return e.Name == h.GetName() && !e.Open }) {
			x.Problem("test another header", "the route is chosen by header %s, which is taken away before it is chosen again by who the user is", h.GetName())
		}
	}
	for _, t := range x.Match.When {
		dim, name := t.Dim.Of()
		if dim.Name != string(space.QueryDim("")) {
			continue
		}
		for _, u := range us.Of {
			if !u.Provider.Forward && slices.Contains(u.Provider.From.Query, name) {
				x.Problem("test something else, or write `forward` there", "the route is chosen by parameter %s, in which provider %q looks for tokens and takes them away before it is chosen again", name, u.Provider.ID)
			}
		}
	}
}

// untested refuses terms about a parameter that has a token: it has gone no further by then.
func (us Users) untested(t model.Terms, x *envoy.Ctx) {
	for _, q := range t.Query {
		for _, u := range us.Of {
			if !u.Provider.Forward && slices.Contains(u.Provider.From.Query, q.Name) {
				x.Problem("test something else, or write `forward` there", "grants and denies test parameter %s, in which provider %q looks for tokens and takes them away", q.Name, u.Provider.ID)
			}
		}
	}
}

func onHost(h *routev3.VirtualHost, v Users, x *envoy.Ctx) {
	for _, g := range x.Service.Grants {
		v.untested(g.Terms, x)
		v.untested(g.Not, x)
	}
	for _, d := range x.Service.Denies {
		v.untested(d.Terms, x)
		v.untested(d.Not, x)
	}
	if len(v.Removed) > 0 {
		envoy.AddHostFilter(h, envoy.SlotUsers, removal, removed(v))
	}
	for _, u := range v.Of {
		for _, f := range u.filters(false, x) {
			envoy.AddHostFilter(h, envoy.SlotUsers, f.kind, f.config)
		}
	}
}

// removed takes headers away in all their spellings: jwt_authn removes what it writes in one.
func removed(v Users) proto.Message {
	edits := make([]hop.Edit, len(v.Removed))
	for i, h := range v.Removed {
		edits[i] = hop.Whole(h)
	}
	return envoy.Removal(edits...)
}

// lower makes JwtAuthentication. Its rules are tried in their order, and one that requires nothing
// lets requests pass.
func lower(u User, read bool, x *envoy.Ctx) *jwtv3.JwtAuthentication {
	p := u.Provider
	asked := &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_AllowMissing{AllowMissing: &emptypb.Empty{}}}
	if u.Require {
		asked = &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: p.ID}}
	}
	out := &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{p.ID: provider(p, read, x)}}
	for _, m := range envoy.Excepted(u.Not.Methods, u.Not.Paths) {
		out.Rules = append(out.Rules, &jwtv3.RequirementRule{Match: m})
	}
	for _, m := range envoy.Broadly(u.Broadly(), u.Paths) {
		out.Rules = append(out.Rules, &jwtv3.RequirementRule{Match: m, RequirementType: &jwtv3.RequirementRule_Requires{Requires: asked}})
	}
	return out
}

// How long a fetch may take, which a request waits for while there are no keys at all, and after what time the next one
// follows one that failed.
const fetching, again = 3, 10

// remote has proxies fetch keys beside requests. Nothing waits for that, no listener and no request, but for requests with a
// token while there are none yet.
func remote(f model.Fetched, x *envoy.Ctx) *jwtv3.RemoteJwks {
	host := x.Mesh.External(f.To).Host()
	return &jwtv3.RemoteJwks{
		HttpUri: &corev3.HttpUri{
			Uri: "https://" + host + f.Path, HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: x.Cluster(f.Target())}, Timeout: &durationpb.Duration{Seconds: fetching},
		},
		CacheDuration: &durationpb.Duration{Seconds: int64(f.Cache)},
		AsyncFetch:    &jwtv3.JwksAsyncFetch{FastListener: true, FailedRefetchDuration: &durationpb.Duration{Seconds: again}},
	}
}

func provider(p model.Provider, read bool, x *envoy.Ctx) *jwtv3.JwtProvider {
	out := &jwtv3.JwtProvider{
		Issuer: p.Issuer, Audiences: p.Audiences, Forward: p.Forward || read, FromParams: p.From.Query, FromCookies: p.From.Cookies, ClockSkewSeconds: p.Skew,
		ClearRouteCache: x.Again,
		// What a token says is there for denies and grants by the provider's name; of "scope" each word (RFC 8693 section 4.2).
		PayloadInMetadata:          p.ID,
		NormalizePayloadInMetadata: &jwtv3.JwtProvider_NormalizePayload{SpaceDelimitedClaims: []string{"scope"}},
	}
	if keys := x.Keys(p); keys != "" {
		out.JwksSourceSpecifier = &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: keys}}}
	} else {
		out.JwksSourceSpecifier = &jwtv3.JwtProvider_RemoteJwks{RemoteJwks: remote(*p.Fetched, x)}
	}
	for _, h := range p.From.Headers {
		out.FromHeaders = append(out.FromHeaders, &jwtv3.JwtHeader{Name: h.Name, ValuePrefix: h.Prefix})
	}
	for _, c := range p.Claims {
		out.ClaimToHeaders = append(out.ClaimToHeaders, &jwtv3.JwtClaimToHeader{HeaderName: c.Header, ClaimName: c.Name})
	}
	return out
}
