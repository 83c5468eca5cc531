package users

import (
	"cmp"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	oauth2v3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/oauth2/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
)

// sessions is the kind of the filters that have browsers sign in. They stand before the one that looks at tokens, which
// judges the token of a session as any other.
const sessions = envoy.Sessions

// Headers by which those filters are told of a request, and by which they tell of one; no visitor has a word in them, and
// nobody behind sees them. shownHeader has what the request itself shows as a token, askedHeader whether it has to sign in, sessionHeader
// the token of a session, and cookiesHeader all cookies as they have come.
const (
	shownHeader, askedHeader, sessionHeader = "x-meshc-shown", "x-meshc-asked", "x-meshc-session"
	cookiesHeader                           = "x-meshc-cookies"
	statusHeader                            = "x-envoy-oauth-status"
	failureHeader                           = "x-envoy-oauth-failure-reason"
)

// fetchMode is the header in which browsers say what a request is for (Fetch Metadata), and navigating what it says when
// somebody goes to a page: anything else is a script, a picture, a frame's content, of which no page to sign in can be made.
const fetchMode, navigating = "sec-fetch-mode", "navigate"

// signsIn are the answers to requests without a token where browsers sign in, before tokens of others are looked at, if there
// are others.
func (u User) signsIn(others bool) []space.Act {
	if u.Login == nil {
		return nil
	}
	var out []space.Act
	nobody := space.Values(space.UserDim(u.Provider.ID), space.NoToken)
	answer := func(status int, when ...space.Test) {
		out = append(out, space.Act{At: space.AtUsers, When: append(when, nobody), Answer: &space.Reply{Status: status}})
	}
	callback, logout := space.Values(space.PathDim, u.Login.Callback), space.Values(space.PathDim, u.Login.Logout)
	answer(unauthorized, callback) // nobody comes back who has not been sent
	answer(found, logout)
	if !u.Require {
		return out
	}
	callback.Not, logout.Not = true, true
	pages := append(u.Tests(), callback, logout, space.Values(space.MethodDim, "GET", "HEAD"))
	answer(found, append(slices.Clone(pages), space.Test{Dim: space.HeaderDim(fetchMode), Not: true})...)
	answer(found, append(slices.Clone(pages), space.Values(space.HeaderDim(fetchMode), navigating))...)
	if others {
		answer(unauthorized, u.Tests()...) // what is no page
	}
	return out
}

// fieldsOfLogin say how browsers sign in.
func (u User) fieldsOfLogin(put func(what, value string)) {
	x := u.Login
	put("login", x.Client+" at "+x.Authorization)
	put("login tokens", x.To+":"+x.Port+x.Path)
	put("login secret", cmp.Or(x.Secret, x.File))
	put("login scopes", strings.Join(x.Scopes, " "))
	put("login callback", x.Callback)
	put("login logout", strings.TrimSpace(x.Logout+" "+x.End))
}

// session are the filters by which a browser's session becomes a token. Its cookies are taken away behind them, as on all
// routes of the host.
func (u User) session(x *envoy.Ctx) []named {
	if u.Login == nil {
		return nil
	}
	var out []named
	told := []*mutationv3.HeaderMutation{gone(shownHeader), gone(sessionHeader), gone(cookiesHeader), copied(shownHeader, "%REQ("+u.Provider.Session()+")%")}
	if u.Require && !u.All() {
		noted := "login." + u.Login.ID
		out = append(out, named{sessions, envoy.Noting(noted, u.Asked)})
		told = append(told, gone(askedHeader), copied(askedHeader, "%DYNAMIC_METADATA("+string(envoy.SlotRBAC)+":"+noted+".shadow_engine_result)%"))
	}
	mutation := func(m ...*mutationv3.HeaderMutation) *headermutationv3.HeaderMutation {
		return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{RequestMutations: m}}
	}
	out = append(out, named{sessions, mutation(told...)})
	if h := u.Provider.From.Headers[0]; h.Prefix == "" {
		out = append(out, named{sessions, shows(h.Name)})
	}
	return append(out,
		named{sessions, remembersCookies()}, named{sessions, &oauth2v3.OAuth2{Config: u.oauth2(x)}}, named{sessions, brings(u.Provider.From.Headers[0])},
		named{sessions, mutation(copied("cookie", "%REQ("+cookiesHeader+")%"), gone(cookiesHeader), gone(shownHeader), gone(askedHeader), gone(statusHeader), gone(failureHeader), gone(sessionHeader))})
}

// oauth2 makes OAuth2Config. A request that shows a token by itself passes, for no browser's page has sent it; one that
// need not sign in goes on without a session as it has come.
func (u User) oauth2(x *envoy.Ctx) *oauth2v3.OAuth2Config {
	login := u.Login
	secret, key := login.Refs()
	out := &oauth2v3.OAuth2Config{
		TokenEndpoint: &corev3.HttpUri{
			Uri: "https://" + x.Mesh.External(login.To).Host() + login.Path, HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: x.Cluster(login.Target())},
			Timeout: &durationpb.Duration{Seconds: fetching},
		},
		AuthorizationEndpoint: login.Authorization, EndSessionEndpoint: login.End, AuthScopes: login.Scopes, AuthType: oauth2v3.OAuth2Config_BASIC_AUTH,
		Credentials: &oauth2v3.OAuth2Credentials{
			ClientId: login.Client, TokenSecret: envoy.SoonSecret(secret.String()),
			TokenFormation: &oauth2v3.OAuth2Credentials_HmacSecret{HmacSecret: envoy.SoonSecret(key.String())}, CookieNames: cookies(login.ID),
		},
		RedirectUri: "https://%REQ(:authority)%" + login.Callback, RedirectPathMatcher: path(login.Callback), SignoutPath: path(login.Logout),
		OriginalRequestUri: "https://%REQ(:authority)%", AllowedRedirectDomains: []string{u.Host},
		// Envoy takes whatever stands in the header in which it forwards a token away from who has no session, and authorization as well.
		ForwardIdToken: &oauth2v3.OAuth2TokenForwarding{Header: sessionHeader}, PreserveAuthorizationHeader: true,
		// The access token is for nobody here.
		DisableAccessTokenSetCookie: true,
		PassThroughMatcher:          []*routev3.HeaderMatcher{token(u.Provider.From.Headers[0].Prefix)},
		DenyRedirectMatcher: []*routev3.HeaderMatcher{
			not(exactly(":method", "GET", "HEAD")), not(exactly(fetchMode, navigating)),
		},
		CookieConfigs: lax(), TokenCookieChunking: &oauth2v3.TokenCookieChunking{},
		StatPrefix: "login_" + strings.ReplaceAll(login.ID, "/", "_") + ".",
	}
	switch {
	case !u.Require:
		out.AllowFailedMatcher = []*routev3.HeaderMatcher{{Name: ":path", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}}
	case !u.All():
		out.AllowFailedMatcher = []*routev3.HeaderMatcher{exactly(askedHeader, "allowed")}
	}
	return out
}

// cookies are those of a session.
func cookies(login string) *oauth2v3.OAuth2Credentials_CookieNames {
	of := func(what string) string { return envoy.SessionCookies(login) + what }
	return &oauth2v3.OAuth2Credentials_CookieNames{
		BearerToken: of("access"), OauthHmac: of("sum"), OauthExpires: of("end"), IdToken: of("token"), RefreshToken: of("again"), OauthNonce: of("nonce"), CodeVerifier: of("code"),
	}
}

// lax has browsers send cookies to pages that others lead to, as a provider does, and with nothing else of others.
func lax() *oauth2v3.CookieConfigs {
	c := &oauth2v3.CookieConfig{SameSite: oauth2v3.CookieConfig_LAX}
	return &oauth2v3.CookieConfigs{
		BearerTokenCookieConfig: c, OauthHmacCookieConfig: c, OauthExpiresCookieConfig: c, IdTokenCookieConfig: c, RefreshTokenCookieConfig: c,
		OauthNonceCookieConfig: c, CodeVerifierCookieConfig: c,
	}
}

func path(exact string) *matcherv3.PathMatcher {
	return &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: exact}}}}
}

func exactly(header string, values ...string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(values, "|")}},
	}}}
}

// not is true where the header is there and says something else.
func not(m *routev3.HeaderMatcher) *routev3.HeaderMatcher {
	m.InvertMatch = true
	return m
}

// token is true where something stands behind the prefix, as jwt_authn looks for it.
func token(prefix string) *routev3.HeaderMatcher {
	m := &routev3.HeaderMatcher{Name: shownHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	if prefix != "" {
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: prefix}}}
	}
	return m
}

// shows is a script that has a request show something if the header is there: with nothing in it, of which there is no copy,
// it is to jwt_authn a token, and a wrong one.
func shows(header string) *luav3.Lua {
	return script("  if handle:headers():get(" + envoy.LuaText(header) + ") ~= nil then handle:headers():add(" + envoy.LuaText(shownHeader) + ", \"token\") end\n")
}

// brings is a script that puts the token of a session where its provider looks for one, in place of what stands there.
func brings(to model.TokenHeader) *luav3.Lua {
	name := envoy.LuaText(to.Name)
	return script("  local headers = handle:headers()\n  local token = headers:get(" + envoy.LuaText(sessionHeader) + ")\n" +
		"  if token ~= nil then headers:remove(" + name + ") headers:add(" + name + ", " + envoy.LuaText(to.Prefix) + " .. token) end\n")
}

func script(body string) *luav3.Lua {
	return &luav3.Lua{DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
		InlineString: "function envoy_on_request(handle)\n" + body + "end\n",
	}}, StatPrefix: "login"}
}

// remembersCookies is a script that notes the cookies of a request. Envoy reads them into a table where it looks for a session,
// and writes what is left of it: in another order, and of those with one name a single one.
func remembersCookies() *luav3.Lua {
	return script("  local headers, all = handle:headers(), {}\n" +
		"  for i = 0, headers:getNumValues(\"cookie\") - 1 do all[#all + 1] = headers:getAtIndex(\"cookie\", i) end\n" +
		"  if #all > 0 then headers:add(" + envoy.LuaText(cookiesHeader) + ", table.concat(all, \"; \")) end\n")
}

func gone(header string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: header}}
}

func copied(header, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: header, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}
