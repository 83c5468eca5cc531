package draw

import (
	"encoding/base64"
	"strings"
	"sync"
)

// The alphabets. They are small, so that what one line looks for is what another one says,
// and so that requests that are drawn from them as well meet both. What stands in none is
// drawn from the schema's pattern or bounds.

// alphabet are the words of a definition at a place, nil if the schema's pattern is all there
// is to know of them.
func alphabet(name string, at spot) []string {
	for _, key := range []string{at.owner + "." + at.field, at.owner + ":" + name, at.field + ":" + name, name} {
		if ws, ok := alphabets()[key]; ok {
			return ws
		}
	}
	return nil
}

// alphabets is a table that every value of a mesh is looked up in.
var alphabets = sync.OnceValue(func() map[string][]string { //nolint:gochecknoglobals // a table is a constant that Go cannot express
	return map[string][]string{
		"string": {"one", "two words", "%REQ(X-A)%", "é"},
		"bool":   {"true", "true", "true", "false"},

		"#Name":               {"alpha", "beta", "edge", "http", "v1", "one"},
		"port:#Name":          {"http", "http", "alt"},
		"ports:#Name":         {"http", "http", "alt", "raw"},
		"version:#Name":       {"v1", "v1", "v1", "v2"},
		"logs:#Name":          {"all", "out"},
		"traces:#Name":        {"all"},
		"roots:#Name":         {"corp", "far"},
		"grant:#Name":         {"g0", "g1", "g2", "g3"},
		"deny:#Name":          {"d0", "d1"},
		"#Ref":                {"alpha/s0", "beta/s1", "alpha/s2", "beta/s3"},
		"from:#Ref":           {"alpha/s0", "beta/s1", "alpha/s2", "gateway/edge/gw"},
		"namespaces:#Name":    {"alpha", "beta", "edge"},
		"certificates:#Ref":   {"one", "two"},
		"#ClientTLS.roots":    {"one", "two"},
		"#ExternalTLS.client": {"own"},
		"#ClientName":         {"partner.test", "*.partner.test", "spiffe://partner.test/till"},
		"#KeyHash":            {"n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="},
		"#AccountPattern":     {"alpha/*", "*/s1", "*/s*", "al*/s0", "beta/s1", "*a/s3", "edge/*", "*/gw"},
		"#IdentityPattern":    {"spiffe://mesh.test/ns/alpha/sa/s0", "spiffe://mesh.test/ns/*/sa/s1", "spiffe://mesh.test/ns/beta/*", "spiffe://mesh.test/*", "spiffe://mesh.test/vm/batch", "spiffe://mesh.test/*/beta/sa/*"},

		"#ProviderRef":           {"alpha/j0", "beta/j0", "edge/id", "edge/id", "edge/id", "edge/id", "edge/j0", "edge/c0", "alpha/c0"},
		"#Issuer":                {"https://id.test", "https://id.test", "https://other.test"},
		"#Audience":              {"shop", "till"},
		"#KeySet":                {KeySet()},
		"#KeysURL.to":            {"beta/far"},
		"#KeysURL.port":          {"https"},
		"#ClaimHeader":           {"x-a", "X-B", "x-user"},
		"#ClaimName":             {"sub", "groups.main", "role"},
		"#ClaimText":             ClaimTexts(),
		"#TokenPrefix":           {"", "Token ", "on"},
		"#TokenFrom:#HeaderName": {"x-token", "x-a", "authorization", "cookie", "x-b"},
		"#TokenFrom:#QueryName":  {"token", "q"},
		"#TokenFrom:#CookieName": {"token", "sid"},

		"#Login.secret":       {"shop-login"},
		"#LoginClient":        {"shop", "till"},
		"#TokenEndpoint.to":   {"beta/far"},
		"#TokenEndpoint.port": {"https"},
		"#LoginPath":          {"/a", "/b/c", "/login/back", "/login/end"},
		"#HTTPSPage":          {"https://id.test/auth", "https://id.test:8443/end?a=b"},
		"#Scope":              {"email", "groups"},

		"#AuthorizerRef": {"watch/judge"},

		"#MetricTag":            {"plan", "over"},
		"#MetricTagValue.value": {"%PROTOCOL%", "100 %%"},
		"#TagText":              {"gold", "HTTP/2"},

		"#Owner":           {"ops", "a team"},
		"#Domain":          {"new.test", "a.b.new.test", "inner.test", "a.inner.test"},
		"#Host":            Hosts(),
		"sources:#IPRange": {"127.0.0.0/8", "127.0.0.1", "10.2.0.0/16", "10.0.0.0/8", "10.2.0.7", "2001:db8::/32"},
		"clients:#IPRange": {"127.0.0.1", "198.51.100.0/24", "10.0.0.0/8", "2001:db8::/32", "203.0.113.9", "0.0.0.0/0"},
		"#AccessHost":      AccessHosts(),
		"#Origin":          append(Origins(), "https://*.a.test", "*"),
		"#CSRF:#Origin":    append(Origins(), "https://*.a.test"),

		"#Match:#AccessHost":            calledHosts(),
		"#CallerConditions:#AccessHost": calledHosts(),

		// A share of one half is the only one that chance decides.
		"#Percent":                     {"0", "100", "100", "50"},
		"#Share":                       {"0", "100", "12.5"},
		"#Count":                       {"100000", "4000000000"},
		"#Duration":                    {"7s", "9s", "30s"},
		"#Timeout":                     {"20s", "1m", "10m", "none"},
		"#Instant":                     {"2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "2027-03-01T12:00:00+01:00", "2026-05-31T00:00:00Z"},
		"#Admission.successRate":       {"1"}, // nothing else fails as often
		"#Admission.window":            {"30s", "1m"},
		"#Bandwidth:#Size":             {"1024MiB", "4095MiB"}, // a request waits for it
		"#Compress:#Size":              {"30B", "1KiB", "1MiB"},
		"#MediaType":                   {"text/html", "text/*", "application/json"},
		"#FaultDelay.duration":         {"1ms", "20ms"}, // a request waits for it
		"#Answers.statuses":            {"408", "413", "429", "500", "502", "503", "504"},
		"#Quota.limiter":               {"all"},
		"#Process.to":                  {"watch/judge"},
		"#Process.port":                {"grpc"},
		"#Process.onFailure":           {`"admit"`}, // nobody looks in a rehearsal
		"#Process.timeout":             {"50ms"},
		"#ProcessPart":                 {`"requestHeaders"`}, // a stream has no end for which to wait, and nobody looks
		"#ProcessHeaders:#ClaimHeader": {"x-seen"},
		"#Lua.code":                    scripts(),
		"#Keys.file":                   {"keys.json"},
		"#Lua.file":                    {"script.lua"},
		"#Respond.file":                {"page.html"},
		"#ServicePort.descriptors":     {"shop.pb"},
		"#Wasm.file":                   {"module.wasm"},
		"#SHA256":                      {"f38ce6f0dcfeaabd896f3de432173a56a782ee6bb1bb21adbeac85c9e243899a"},
		"#Wasm.config":                 {"{limit: 3}", "{}"},
		"#WasmHeaders:#ClaimHeader":    {"x-module"},
		"#LuaHeaders:#ClaimHeader":     {"x-lua"}, // nothing else speaks of what nobody knows
		"#Via.gateway":                 {"edge/out"},
		"#ProxyAddress":                {"192.0.2.77:3128", "proxy.test:3128"},
		"#Quota.onFailure":             {`"admit"`}, // nobody counts in a rehearsal
		"#Quota.per":                   {"1s", "1m", "1h", "24h"},
		"#Retry.attempts":              {"0", "1", "2"},
		"#RetryStatus":                 {"429", "409", "500", "503"},
		"#RetryBackOff:#Duration":      {"1ms", "2ms", "3ms"}, // a request waits for it

		"#PanicPercent": {"1", "50", "100"}, // with 0 a proxy answers what no address does
		"#Empty":        {"spread"},
		"#Zone":         {"eu-1", "eu-2", "us-1"},

		"#GRPCService": {"a", "b", "x.y", "items"},
		"#GRPCMethod":  {"a", "b", "items"},

		"#Method":                  Methods(),
		"#Path":                    Paths(),
		"#PathMatch.template":      {"/{x}", "/a/{x}", "/{x}/b", "/a/{x}/b", "/b/{x}/{y}", "/{x}/items", "/x.y/{x}", "/a/{rest=**}", "/{x}/{rest=**}", "/a/{x}/{rest=**}", "/{x}/b/{rest=**}", "/{rest=**}"},
		"#Rewrite.path":            append(Paths(), "/a/{x}", "/{x}", "/b/{x}/a", "/{x}/{x}", "/items/{x}/", "/b/{rest}", "/{x}/{rest}", "/{rest}"),
		"#Substitution.pattern":    {"/a/(.*)", "/([^/]+)", "/([^/]+)/b", "/(?i:A|items)/(.*)", "/([ab]|x.y)(?:/.*)?", "(/.*?)(?:/b)*", "(.*)"},
		"#Substitution.to":         {`/b/\1`, `/\1`, `/a/\1`, `/a/b`, `\0`, `/items/\1`, `/a\0`},
		"#Redirect.prefix":         {"/", "/new", "/new/place", "/a", "/b/a", "/items"},
		"#Redirect.port":           {"80", "443", "8443"},
		"#Redirect.path":           {"/", "/new", "/new/place/", "/a%20b", "/a/b"},
		"#GrantPath":               grantPaths(),
		"#HeaderName":              HeaderNames(),
		"#HeaderEdits:#HeaderName": append(HeaderNames(), "x-new", "x-app", "x-app-two", "cache-control", "server"),
		"#HeaderValue":             HeaderValues(),
		"#CookieName":              CookieNames(),
		"#CookieValue":             CookieValues(),
		"#QueryName":               QueryNames(),
		"#QueryValue":              QueryValues(),
	}
})

// descriptors are a FileDescriptorSet of all services and methods that a mesh may name.
func descriptors() string {
	return decoded("CqkBCgYucHJvdG8iAwoBUTIuCgFhEgsKAWESAi5RGgIuURILCgFiEgIuURoCLlESDwoFaXRlbXMSAi5RGgIuUTIuCgFiEgsKAWESAi5RGgIuURILCgFiEgIuURoCLlESDwoFaXRlbXMSAi5RGgIuUTIyCgVpdGVtcxILCgFhEgIuURoCLlESCwoBYhICLlEaAi5REg8KBWl0ZW1zEgIuURoCLlFiBnByb3RvMwpVCgd4LnByb3RvEgF4IgMKAVEyOgoBeRIPCgFhEgQueC5RGgQueC5REg8KAWISBC54LlEaBC54LlESEwoFaXRlbXMSBC54LlEaBC54LlFiBnByb3RvMw==")
}

// module passes requests on: it exports what one needs, and its functions give zeroes.
func module() string {
	return decoded("AGFzbQEAAAABEANgAABgA39/fwF/YAF/AX8DBAMAAQIFAwEAAQdIBAZtZW1vcnkCABdwcm94eV9hYmlfdmVyc2lvbl8wXzJfMQAAGHByb3h5X29uX3JlcXVlc3RfaGVhZGVycwABBm1hbGxvYwACCg4DAgALBABBAAsEAEEQCw==")
}

func decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// scripts answer nothing, so that what becomes of requests can be told. One sets a header, if it may.
func scripts() []string {
	return []string{
		`function envoy_on_request(handle) handle:headers():replace("x-lua", "set") end`,
		`function envoy_on_response(handle) handle:headers():get("x-a") end`,
		`function envoy_on_request(handle) error("it fails") end`,
	}
}

// Methods are some that a mesh may name.
func Methods() []string {
	return []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PURGE", "MKCOL"}
}

// Paths are such as conditions look for, normalised.
func Paths() []string {
	return []string{"/", "/a", "/b", "/a/b", "/a/", "/b/a", "/a/a", "/a/b/a", "/items", "/a/items", "/A", "/x.y", "/b-c/a", "/~t", "/a;p", "/a:b/b", "/a@b", "/%20", "/a%2Cb/a", "/a=b", "/$", "/b/$"}
}

func grantPaths() []string {
	out := []string{"/*"}
	for _, p := range Paths() {
		out = append(out, p, strings.TrimSuffix(p, "/")+"/*")
	}
	return append(out, "/{x}", "/a/{x}", "/{x}/b", "/{x}/*", "/a/{x}/*", "/{x}/b/{y}", "/b/{x}/items", "/{x}/", "*/items", "*/a", "*/b/a")
}

// HeaderNames are of conditions, of edits and of requests alike: none of those that proxies
// replace.
func HeaderNames() []string {
	return []string{"x-a", "x-a", "X-B", "end-user", "cookie", "accept", "x-forwarded-for", "via", "content-type", "user-agent", "x_under", "forwarded", "origin", "authorization", "x-forwarded-host", "date"}
}

// HeaderValues are likewise.
func HeaderValues() []string {
	return []string{"one", "two", "one,two", "on", "", "One", "o.e", "two words", "jason", "é", "50%", "%REQ(:path)%", "%", "%%", "a;b=\"c\"", "~", "{x}"}
}

// CookieNames are of conditions and of requests alike.
func CookieNames() []string { return []string{"sid", "Sid", "a.b", "x-a"} }

// CookieValues are likewise.
func CookieValues() []string { return []string{"", "1", "one", "1=2", "=", `"one"`, "one,two", "."} }

// QueryNames are of conditions and of requests alike.
func QueryNames() []string { return []string{"q", "Q", "a.b", "x?y", "%71"} }

// QueryValues are likewise.
func QueryValues() []string {
	return []string{"", "1", "one", "1=2", "=", "a%20b", "a+b", "?", ";q=1", "/a", "%26"}
}

// AccessHosts are those that grants and denies name: of gateways, of what routes make of them, and of services.
func AccessHosts() []string {
	return []string{"shop.test", "*.shop.test", "a.shop.test", "new.test", "*.new.test", "*.test", "*.alpha", "*.beta", "*.svc", "s0.alpha"}
}

// calledHosts are names of services, and such as gateways and externals have.
func calledHosts() []string {
	return []string{"s0.alpha", "s1.beta", "s2.alpha.svc", "*.svc", "*.alpha", "*.beta", "*.beta.svc.cluster.local", "shop.test", "*.shop.test", "new.test", "far.test", "*.test"}
}

// Addresses are of connections and visitors.
func Addresses() []string {
	return []string{"", "127.0.0.1", "10.2.0.7", "10.9.9.9", "198.51.100.7", "203.0.113.9", "2001:db8::1", "192.0.2.5"}
}

// ClaimTexts are of conditions and of tokens alike.
func ClaimTexts() []string { return []string{"staff", "guests", "shop", "till", "3"} }

// Claims are names of claims, likewise.
func Claims() []string { return []string{"sub", "aud", "azp", "groups.main", "role"} }

// Origins are of pages (https://fetch.spec.whatwg.org/#origin-header).
func Origins() []string {
	return []string{"https://a.test", "http://a.test:3000", "https://x.a.test"}
}

// Hosts are of gateways, and of what externals prove.
func Hosts() []string {
	return []string{"shop.test", "a.shop.test", "*.shop.test", "*.a.shop.test", "*", "b.a.shop.test"}
}
