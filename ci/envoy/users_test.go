package envoy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// signer signs tokens by ES256 (RFC 7518 section 3.4).
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

// keys is its JWK Set as a text of CUE.
func (i signer) keys() string {
	point, err := i.key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	return fmt.Sprintf("%q", fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"one","alg":"ES256","use":"sig","x":%q,"y":%q}]}`, x, y))
}

// token is one for a user, with what claims say otherwise.
func (i signer) token(claims map[string]any) string {
	all := map[string]any{"iss": "https://id.example", "aud": []string{"other", "shop"}, "sub": "jason", "exp": time.Now().Add(time.Hour).Unix(), "groups": map[string]any{"main": "staff"}}
	for name, v := range claims {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	return rehearsal.Sign(i.key, all)
}

// carries gives a request the token that it is told to have, where its provider looks for it and
// nothing else that is one.
func (i signer) carries(p *compiler.Program, r compiler.Request) compiler.Request {
	out, err := i.issuers(p).Carries(p, r, time.Now())
	if err != nil {
		panic(err)
	}
	return out
}

// issuers are it in the place of all providers; those whose keys are not written have keys of their own.
func (i signer) issuers(p *compiler.Program) rehearsal.Issuers {
	out := rehearsal.Issuers{}
	for _, x := range p.Providers() {
		out[x.KeyID()] = i.key
		if x.Keys != "" {
			continue
		}
		d := sha256.Sum256([]byte(x.KeyID()))
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
		if err != nil {
			panic(err) // one in 2^32 texts is no key
		}
		out[x.KeyID()] = key
	}
	return out
}

// rehearsed are the keys by which tokens of the issuers are checked: those that are written, and in the place of those
// that would be fetched, or of keys and passwords, their own.
func (i signer) rehearsed(p *compiler.Program) func(compiler.Provider) string {
	all := i.issuers(p)
	return func(x compiler.Provider) string {
		if x.Keys != "" {
			return x.Keys
		}
		return all.KeySet(x)
	}
}

// What a program shows as a token by itself is judged as anywhere else, whether browsers are sent to sign in there or not, and
// in whichever header tokens stand.
func TestALoginLeavesTokensToTheirProvider(t *testing.T) {
	id := newSigner(t)
	for _, users := range []string{`login: "web"`, `login: "web", require: true`, `login: "web", require: true, not: paths: ["/public"]`} {
		for _, from := range []string{`"x-id": ""`, `"authorization": "Bearer "`} {
			p := shop(t, `
mesh: external: idp: {hosts: ["id.example"], port: https: {number: 443, protocol: "https"}}
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: headers: `+from+`}
mesh: login: web: {client: "shop", file: "shop-login", authorization: "https://id.example/auth", token: {to: "idp", path: "/token"}}
mesh: certificate: own: file: "own"
mesh: service: app: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: {http: number: 80, https: {number: 443, protocol: "https"}}, host: "app.shop": {
	tls: certificates: ["own"], users: corp: {`+users+`}, route: default: to: app: 100
}}`)
			want := map[string]int{compiler.SignedIn: http.StatusOK, compiler.BadToken: http.StatusUnauthorized, compiler.OtherAudience: http.StatusForbidden}
			var rs []compiler.Request
			for token := range want {
				rs = append(rs, id.carries(p, compiler.Request{To: "gateway/shop/edge", Host: "app.shop", Path: "/", Method: "GET", Users: []compiler.User{{Provider: "shop/corp", Token: token}}}))
			}
			for _, x := range try(t, realEnvoy(t), p, rs) {
				if token := x.request.Users[0].Token; x.got.Status != want[token] || x.differs != "" {
					t.Errorf("users: {%s} from %s: %s: %d, not %d %s", users, from, token, x.got.Status, want[token], x.differs)
				}
			}
		}
	}
}

// What stands in the header in which a session's token goes, and is none of its provider's, comes to whom it is for.
func TestALoginLeavesWhatIsNoToken(t *testing.T) {
	id := newSigner(t)
	for _, users := range []string{`login: "web"`, `login: "web", require: true, not: paths: ["/app"]`} {
		p := shop(t, `
mesh: external: idp: {hosts: ["id.example"], port: https: {number: 443, protocol: "https"}}
mesh: jwt: {
	corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`}
	own: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: headers: "authorization": "Token "}
}
mesh: login: web: {client: "shop", file: "shop-login", authorization: "https://id.example/auth", token: {to: "idp", path: "/token"}}
mesh: certificate: own: file: "own"
mesh: service: app: {port: http: number: 80, users: own: require: true, grant: all: mesh: true}
mesh: gateway: edge: {port: https: {number: 443, protocol: "https"}, host: "app.shop": {
	tls: certificates: ["own"], users: corp: {`+users+`}, route: default: to: app: 100
}}`)
		want := map[string]int{compiler.SignedIn: http.StatusOK, compiler.BadToken: http.StatusUnauthorized, compiler.OtherAudience: http.StatusForbidden}
		var rs []compiler.Request
		for token := range want {
			rs = append(rs, id.carries(p, compiler.Request{To: "gateway/shop/edge", Host: "app.shop", Path: "/app", Method: "GET", Users: []compiler.User{{Provider: "shop/own", Token: token}}}))
		}
		for _, x := range try(t, realEnvoy(t), p, rs) {
			if token := x.request.Users[0].Token; x.got.Status != want[token] || x.differs != "" {
				t.Errorf("users: {%s}: %s: %d, not %d %s", users, token, x.got.Status, want[token], x.differs)
			}
		}
	}
}

// Who need not sign in keeps the cookies that are no session's, all of them and in their order, whatever is written of them.
func TestALoginLeavesCookiesAsTheyAre(t *testing.T) {
	const others = "c=3; b=2; b=1"
	id := newSigner(t)
	for _, users := range []string{`login: "web"`, `login: "web", require: true, not: paths: ["/"]`} {
		p := shop(t, `
mesh: external: idp: {hosts: ["id.example"], port: https: {number: 443, protocol: "https"}}
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`}
mesh: login: web: {client: "shop", file: "shop-login", authorization: "https://id.example/auth", token: {to: "idp", path: "/token"}}
mesh: certificate: own: file: "own"
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, deny: two: {anyone: true, headers: cookie: exact: "a=1; a=2"}}
mesh: gateway: edge: {port: {http: number: 80, https: {number: 443, protocol: "https"}}, host: "app.shop": {
	tls: certificates: ["own"], users: corp: {`+users+`}, route: default: to: app: 100
}}`)
		var rs []compiler.Request
		for _, lines := range [][]string{
			{"z=1; y=2; x=3; w=4; v=5"}, {"sid = .;a.b=. ;Sid=1"}, {"a=1; a=1; b=2; b=3"}, {"a=1; a=2"}, {"a=2; a=1"}, {"word; =; a=; ;x"},
			{"a=1; b=2", "c=3; b=4"}, {"__Host-shop-web-token=forged; " + others}, {""}, nil,
		} {
			for _, version := range []string{compiler.HTTP11, compiler.HTTP2} {
				r := compiler.Request{To: "gateway/shop/edge", Host: "app.shop", Path: "/", Method: "GET", HTTP: version}
				for _, l := range lines {
					r.Headers = append(r.Headers, compiler.Header{Name: "cookie", Value: l})
				}
				rs = append(rs, r)
			}
		}
		for _, x := range try(t, realEnvoy(t), p, rs) {
			sent := x.request.Headers
			if len(sent) == 1 && strings.HasSuffix(sent[0].Value, others) { // behind what looks like a session
				if x.got.Seen == nil || strings.Join(x.got.Seen.Headers["cookie"], "; ") != others {
					t.Errorf("users: {%s}: %v: arrived is %+v", users, sent, x.got.Seen)
				}
			} else if x.differs != "" {
				t.Errorf("users: {%s}: %v: %s", users, sent, x.differs)
			}
		}
	}
}

// Whoever has to sign in is sent there before the tokens of others are looked at, and keys and passwords are looked at last: what a
// request without one token and with a wrong one of another provider is answered does not hang on their names.
func TestALoginComesBeforeOtherProviders(t *testing.T) {
	id := newSigner(t)
	p := shop(t, `
mesh: external: idp: {hosts: ["id.example"], port: https: {number: 443, protocol: "https"}}
mesh: jwt: {
	corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`}
	another: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: headers: "x-two": ""}
}
mesh: credentials: aged: {file: "partners", apiKey: header: "x-key"}
mesh: login: web: {client: "shop", file: "shop-login", authorization: "https://id.example/auth", token: {to: "idp", path: "/token"}}
mesh: certificate: own: file: "own"
mesh: service: app: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: https: {number: 443, protocol: "https"}, host: "app.shop": {
	tls: certificates: ["own"], users: {corp: {login: "web", require: true}, another: require: true}
	route: {keys: {match: path: prefix: "/keys", users: {aged: require: true, another: {}}, to: app: 100}, default: to: app: 100}
}}`)
	at := func(path, method string, users ...compiler.User) compiler.Request {
		return id.carries(p, compiler.Request{To: "gateway/shop/edge", Host: "app.shop", Path: path, Method: method, Users: users})
	}
	corp, other := compiler.User{Provider: "shop/corp", Token: compiler.SignedIn}, compiler.User{Provider: "shop/another", Token: compiler.OtherAudience}
	want := []int{http.StatusFound, http.StatusFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnauthorized, http.StatusForbidden}
	for i, x := range try(t, realEnvoy(t), p, []compiler.Request{
		at("/", "GET"), at("/", "GET", other), at("/", "POST", other), at("/", "GET", corp, other), at("/keys", "GET"), at("/keys", "GET", other),
	}) {
		if x.got.Status != want[i] || x.differs != "" {
			t.Errorf("%s %s of %v: %d, not %d %s", x.request.Method, x.request.Path, x.request.Users, x.got.Status, want[i], x.differs)
		}
	}
}

// TestUsersAreThoseWhomTheirProviderSigns: at a gateway and at a service's own proxy a token is
// looked at before anything else of the mesh decides, as the evaluator says; applications are told of
// the user by headers that nobody else can write, and get the token only where that is said.
func TestUsersAreThoseWhomTheirProviderSigns(t *testing.T) {
	id, stranger := newSigner(t), newSigner(t)
	p := shop(t, `
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, claims: {"x-user": "sub", "x-group": "groups.main"}, clockSkew: "5s"}
mesh: jwt: shown: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: {headers: "x-token": "", query: ["token"], cookies: ["session"]}, forward: true}
mesh: service: app: {port: http: number: 80, grant: all: mesh: true}
mesh: service: own: {port: http: number: 80, users: corp: {require: true, paths: ["/admin/*"]}, grant: {all: {mesh: true, methods: ["GET", "HEAD"]}}}
mesh: service: caller: {port: http: number: 80, calls: {own: {}}}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": {
	users: corp: {require: true, not: {paths: ["/public/*"], methods: ["OPTIONS"]}}
	route: {
		guests: {match: path: prefix: "/guests", to: app: 100, users: corp: {}}
		writes: {match: path: prefix: "/writes", to: app: 100, users: corp: {require: true, methods: ["POST"]}}
		shown: {match: path: prefix: "/shown", to: app: 100, users: shown: require: true}
		free: {match: path: prefix: "/free", to: app: 100, users: {}}
		gone: {match: path: prefix: "/gone", respond: status: 410}
		own: {match: path: prefix: "/admin", to: own: 100}
		default: to: app: 100
	}
}}`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{To: "gateway/shop/edge", Host: "app.shop"}, {From: "shop/caller", To: "shop/own"}})
	good := id.token(nil)
	bearer := func(token string) []compiler.Header {
		return []compiler.Header{{Name: "authorization", Value: "Bearer " + token}}
	}
	with := func(hs []compiler.Header, name, value string) []compiler.Header {
		return append(slices.Clone(hs), compiler.Header{Name: name, Value: value})
	}
	const edge, inside = 0, 1
	for _, c := range []struct {
		name, method, path string
		door               int
		headers            []compiler.Header
		user               string // what the evaluator is told
		status             int
		arrives            map[string]string
	}{
		{"nobody", "GET", "/", edge, nil, "", 401, nil},
		{"signed in", "GET", "/", edge, bearer(good), compiler.SignedIn, 200, map[string]string{"x-user": "jason", "x-group": "staff", "authorization": ""}},
		{"expired", "GET", "/", edge, bearer(id.token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), compiler.BadToken, 401, nil},
		{"not yet", "GET", "/", edge, bearer(id.token(map[string]any{"nbf": time.Now().Add(time.Minute).Unix()})), compiler.BadToken, 401, nil},
		{"another issuer", "GET", "/", edge, bearer(id.token(map[string]any{"iss": "https://other.example"})), compiler.BadToken, 401, nil},
		{"no issuer", "GET", "/", edge, bearer(id.token(map[string]any{"iss": nil})), compiler.BadToken, 401, nil},
		{"another audience", "GET", "/", edge, bearer(id.token(map[string]any{"aud": "other"})), compiler.OtherAudience, 403, nil},
		{"no audience", "GET", "/", edge, bearer(id.token(map[string]any{"aud": nil})), compiler.OtherAudience, 403, nil},
		{"another key", "GET", "/", edge, bearer(stranger.token(nil)), compiler.BadToken, 401, nil},
		{"unsigned", "GET", "/", edge, bearer(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + "."), compiler.BadToken, 401, nil},
		{"cut off", "GET", "/", edge, bearer(good[:len(good)-2]), compiler.BadToken, 401, nil},
		{"no token", "GET", "/", edge, bearer("nonsense"), compiler.BadToken, 401, nil},
		{"basic", "GET", "/", edge, []compiler.Header{{Name: "authorization", Value: "Basic eDp5"}}, "", 401, nil},
		{"as a parameter that nobody reads", "GET", "/?access_token=" + good, edge, nil, "", 401, nil},
		{"a forged name beside a token", "GET", "/", edge, with(with(bearer(good), "x-user", "admin"), "x.group", "root"), compiler.SignedIn, 200, map[string]string{"x-user": "jason", "x-group": "staff", "x.group": ""}},
		{"excepted", "GET", "/public/x", edge, []compiler.Header{{Name: "x-user", Value: "admin"}, {Name: "x~user", Value: "admin"}}, "", 200, map[string]string{"x-user": "", "x~user": ""}},
		{"excepted with a wrong token", "GET", "/public/x", edge, bearer("nonsense"), compiler.BadToken, 200, map[string]string{"x-user": ""}},
		{"not excepted", "GET", "/publicity", edge, nil, "", 401, nil},
		{"not excepted either", "GET", "/public", edge, nil, "", 401, nil},
		{"excepted method", "OPTIONS", "/", edge, nil, "", 200, nil},
		{"a guest", "GET", "/guests", edge, []compiler.Header{{Name: "X-User", Value: "admin"}}, "", 200, map[string]string{"x-user": ""}},
		{"a guest who signs in", "GET", "/guests", edge, bearer(good), compiler.SignedIn, 200, map[string]string{"x-user": "jason", "authorization": ""}},
		{"a guest with a wrong token", "GET", "/guests", edge, bearer(stranger.token(nil)), compiler.BadToken, 401, nil},
		{"a guest of another issuer", "GET", "/guests", edge, bearer(id.token(map[string]any{"iss": "https://other.example"})), compiler.BadToken, 401, nil},
		{"a guest of another audience", "GET", "/guests", edge, bearer(id.token(map[string]any{"aud": "other"})), compiler.OtherAudience, 403, nil},
		{"a reader", "GET", "/writes", edge, nil, "", 200, nil},
		{"a writer", "POST", "/writes", edge, nil, "", 401, nil},
		{"a writer who is signed in", "POST", "/writes", edge, bearer(good), compiler.SignedIn, 200, map[string]string{"x-user": "jason"}},
		{"where nobody asks", "GET", "/free", edge, []compiler.Header{{Name: "x-user", Value: "admin"}}, "", 200, map[string]string{"x-user": ""}},
		{"an answer of the route", "GET", "/gone", edge, nil, "", 401, nil},
		{"an answer of the route, signed in", "GET", "/gone", edge, bearer(good), compiler.SignedIn, 410, nil},
		{"read twice", "GET", "/admin/x", edge, bearer(good), compiler.SignedIn, 200, map[string]string{"x-user": "jason", "authorization": ""}},
		{"read twice, none", "GET", "/admin/x", edge, nil, "", 401, nil},
		{"a path that nobody asks about", "GET", "/", inside, nil, "", 200, nil},
		{"inside, nobody", "GET", "/admin/x", inside, nil, "", 401, nil},
		{"inside, as applications spell it", "GET", "/admin//x/", inside, nil, "", 401, nil},
		{"inside, in capitals", "GET", "/ADMIN/x", inside, nil, "", 401, nil},
		{"inside, HEAD", "HEAD", "/admin/x", inside, nil, "", 401, nil},
		{"inside, signed in", "GET", "/admin/x", inside, with(bearer(good), "x_user", "admin"), compiler.SignedIn, 200, map[string]string{"x-user": "jason", "x_user": "", "authorization": ""}},
		{"inside, without a grant", "POST", "/admin/x", inside, nil, "", 401, nil},
		{"inside, signed in without a grant", "POST", "/admin/x", inside, bearer(good), compiler.SignedIn, 403, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := compiler.Request{To: "gateway/shop/edge", Method: c.method, Path: c.path, Host: "app.shop", Headers: c.headers}
			if c.door == inside {
				r.From, r.To, r.Host = "shop/caller", "shop/own", "own.shop"
			}
			got, err := stage.Ask(t.Context(), reh.Doors[c.door], r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != c.status {
				t.Errorf("%s %s: %d %s, want %d", c.method, c.path, got.Status, got.Text, c.status)
			}
			for name, want := range c.arrives {
				if got.Seen == nil {
					t.Fatalf("it did not arrive: %d", got.Status)
				}
				if have := strings.Join(got.Seen.Headers[name], "|"); have != want {
					t.Errorf("%s arrives as %q, want %q", name, have, want)
				}
			}
			if c.user != "" {
				r.Users = []compiler.User{{Provider: "shop/corp", Token: c.user}}
			}
			said, err := p.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			if status := orStatus(said.Status, 200); status != c.status {
				t.Errorf("the evaluator says %d: %s", status, said.Words())
			}
		})
	}
	for _, c := range []struct {
		name, path string
		headers    []compiler.Header
		status     int
		path2      string
	}{
		{"nowhere", "/shown", nil, 401, ""},
		{"in the usual header", "/shown", bearer(good), 401, ""},
		{"in a header", "/shown", []compiler.Header{{Name: "x-token", Value: good}}, 200, "/shown"},
		{"in a parameter", "/shown?a=1&token=" + good, nil, 200, "/shown?a=1&token=" + good},
		{"in a cookie", "/shown", []compiler.Header{{Name: "cookie", Value: "a=1; session=" + good}}, 200, "/shown"},
		{"right in one place and wrong in another", "/shown", []compiler.Header{{Name: "x-token", Value: good}, {Name: "cookie", Value: "session=" + stranger.token(nil)}}, 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := stage.Ask(t.Context(), reh.Doors[edge], compiler.Request{Path: c.path, Host: "app.shop", Headers: c.headers})
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != c.status {
				t.Fatalf("%d %s, want %d", got.Status, got.Text, c.status)
			}
			if c.status == 200 && (got.Seen == nil || got.Seen.Path != c.path2) {
				t.Errorf("%+v arrives, want %s", got.Seen, c.path2)
			}
		})
	}
}

func orStatus(s, def int) int {
	if s == 0 {
		return def
	}
	return s
}

// TestAccessAsksForUsers: grants and denies of a service, and denies of a gateway, go by what a right token
// says, one element of a list included; where none was looked at, nobody is signed in.
func TestAccessAsksForUsers(t *testing.T) {
	id, stranger := newSigner(t), newSigner(t)
	p := shop(t, `
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop", "other"], keys: inline: `+id.keys()+`}
mesh: jwt: second: {issuer: "https://second.example", audiences: ["shop"], keys: inline: `+id.keys()+`, from: headers: "x-second": ""}
mesh: service: app: {
	port: http: number: 80
	users: {corp: not: paths: ["/unread/*"], second: {}}
	grant: {
		staff: {mesh: true, methods: ["POST"], user: corp: {presenters: ["console"], claims: {"org.groups": ["admins", "orders"], scope: ["write"]}}}
		signed: {mesh: true, methods: ["PUT"], user: corp: {}}
		jason: {mesh: true, methods: ["PATCH"], user: corp: subjects: ["jason"]}
		other: {mesh: true, methods: ["LOCK"], user: corp: audiences: ["other"]}
		both: {mesh: true, methods: ["COPY"], user: {corp: {}, second: subjects: ["jason"]}}
		readers: {mesh: true, methods: ["GET"], not: user: corp: {subjects: ["eve"], claims: groups: ["trainees"]}}
		unread: {mesh: true, paths: ["/unread/*"], methods: ["DELETE"], user: corp: {}}
	}
	deny: {
		levels: {mesh: true, user: corp: claims: level: ["3", "true"]}
		people: {mesh: true, methods: ["GET"], paths: ["/people/*"], not: user: corp: claims: kind: ["person"]}
	}
}
mesh: service: caller: {port: http: number: 80, calls: app: {}}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": {
	users: corp: not: paths: ["/public/*"]
	deny: gone: user: corp: subjects: ["mallory"]
	deny: office: {paths: ["/admin/*", "/public/admin/*"], not: user: corp: claims: "org.groups": ["admins"]}
	route: default: to: app: 100
}}`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{To: "gateway/shop/edge", Host: "app.shop"}, {From: "shop/caller", To: "shop/app"}})
	const edge, inside = 0, 1
	type claims = map[string]any
	org := func(groups ...string) claims {
		return claims{"azp": "console", "scope": "read write", "org": claims{"groups": groups}}
	}
	with := func(c claims, name string, v any) claims { c[name] = v; return c }
	for _, c := range []struct {
		name, method, path string
		door               int
		claims             claims // nil: no token
		status             int
		told               []string // what the evaluator is told of them, where that is not all
	}{
		{"all of it", "POST", "/", inside, org("all", "orders"), 200, []string{"azp=console", "org.groups=all", "org.groups=orders", "scope=read", "scope=write"}},
		{"nobody", "POST", "/", inside, nil, 403, nil},
		{"another group", "POST", "/", inside, org("all", "order"), 403, []string{"azp=console", "org.groups=all", "org.groups=order", "scope=write"}},
		{"no group", "POST", "/", inside, org(), 403, []string{"azp=console", "scope=write"}},
		{"another application", "POST", "/", inside, with(org("orders"), "azp", "app"), 403, []string{"azp=app", "org.groups=orders", "scope=write"}},
		{"no scope", "POST", "/", inside, with(org("orders"), "scope", "read rewrite"), 403, []string{"azp=console", "org.groups=orders", "scope=read", "scope=rewrite"}},
		{"the claim one level up", "POST", "/", inside, claims{"azp": "console", "scope": "write", "groups": "orders", "org.groups": "orders"}, 403, []string{"azp=console", "scope=write", "groups=orders"}},
		{"one group", "POST", "/", inside, with(org(), "org", claims{"groups": "admins"}), 200, []string{"azp=console", "org.groups=admins", "scope=write"}},
		{"groups in groups", "POST", "/", inside, with(org(), "org", claims{"groups": []any{[]string{"admins"}}}), 403, []string{"azp=console", "scope=write"}},
		{"a text with the group in it", "POST", "/", inside, with(org(), "org", claims{"groups": "admins,orders"}), 403, []string{"azp=console", "org.groups=admins,orders", "scope=write"}},
		{"signed in", "PUT", "/", inside, claims{}, 200, nil},
		{"not signed in", "PUT", "/", inside, nil, 403, nil},
		{"by name", "PATCH", "/", inside, claims{}, 200, nil},
		{"by another name", "PATCH", "/", inside, claims{"sub": "Jason"}, 403, nil},
		{"without a name", "PATCH", "/", inside, claims{"sub": nil}, 403, []string{}},
		{"for one more audience", "LOCK", "/", inside, claims{}, 200, []string{"aud=shop", "aud=other"}},
		{"for one audience", "LOCK", "/", inside, claims{"aud": "shop"}, 403, []string{"aud=shop"}},
		{"reads", "GET", "/", inside, claims{}, 200, nil},
		{"reads without a token", "GET", "/", inside, nil, 200, nil},
		{"must not read", "GET", "/", inside, claims{"sub": "eve"}, 403, nil},
		{"must not read yet", "GET", "/", inside, claims{"groups": []string{"x", "trainees"}}, 403, []string{"groups=x", "groups=trainees"}},
		{"reads where nobody looks", "GET", "/unread/x", inside, claims{"sub": "eve"}, 200, nil},
		{"is nobody where nobody looks", "DELETE", "/unread/x", inside, claims{}, 403, nil},
		{"is refused by a text", "PUT", "/", inside, claims{"level": "3"}, 403, nil},
		{"is refused by a number", "PUT", "/", inside, claims{"level": 3}, 403, []string{"level=3"}},
		{"is refused by a truth", "PUT", "/", inside, claims{"level": true}, 403, []string{"level=true"}},
		{"is refused by one of several", "PUT", "/", inside, claims{"level": []any{1, 3}}, 403, []string{"level=1", "level=3"}},
		{"is not refused", "PUT", "/", inside, claims{"level": "33"}, 200, nil},
		{"is a person", "GET", "/people/x", inside, claims{"kind": "person"}, 200, nil},
		{"is no person", "GET", "/people/x", inside, claims{"kind": "robot"}, 403, nil},
		{"is nobody among people", "GET", "/people/x", inside, nil, 403, nil},
		{"by the gateway", "GET", "/", edge, claims{}, 200, nil},
		{"by the gateway no more", "GET", "/", edge, claims{"sub": "mallory"}, 403, nil},
		{"by the gateway where nobody looks", "GET", "/public/x", edge, claims{"sub": "mallory"}, 200, nil},
		{"to the office", "GET", "/admin/x", edge, org("admins"), 200, []string{"org.groups=admins"}},
		{"to the office as anybody", "GET", "/admin/x", edge, claims{}, 403, nil},
		{"to the office as nobody", "GET", "/admin/x", edge, nil, 403, nil},
		{"to the office where nobody looks", "GET", "/public/admin/x", edge, org("admins"), 403, []string{"org.groups=admins"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := compiler.Request{To: "gateway/shop/edge", Method: c.method, Path: c.path, Host: "app.shop"}
			if c.door == inside {
				r.From, r.To = "shop/caller", "shop/app"
			}
			if c.claims != nil {
				r.Headers = []compiler.Header{{Name: "authorization", Value: "Bearer " + id.token(c.claims)}}
				said := c.told
				if said == nil {
					for name, v := range c.claims {
						if text, ok := v.(string); ok {
							said = append(said, name+"="+text)
						}
					}
				}
				if c.claims["sub"] == nil && c.told == nil {
					said = append(said, "sub=jason")
				}
				r.Users = []compiler.User{{Provider: "shop/corp", Token: compiler.SignedIn}}
				for _, text := range said {
					var err error
					if r.Users, err = compiler.ReadClaim(r.Users, "shop/corp:"+text); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := stage.Ask(t.Context(), reh.Doors[c.door], r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != c.status {
				t.Errorf("%s %s: %d %s, want %d", c.method, c.path, got.Status, got.Text, c.status)
			}
			said, err := p.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			if status := orStatus(said.Status, 200); status != c.status {
				t.Errorf("the evaluator says %d: %s", status, said.Words())
			}
		})
	}
	second := []compiler.Header{{Name: "x-second", Value: id.token(claims{"iss": "https://second.example"})}, {Name: "authorization", Value: "Bearer " + id.token(nil)}}
	forged := []compiler.Header{{Name: "x-second", Value: stranger.token(claims{"iss": "https://second.example"})}, second[1]}
	crossed := []compiler.Header{{Name: "x-second", Value: id.token(nil)}, second[1]}
	for _, c := range []struct {
		name    string
		headers []compiler.Header
		status  int
	}{{"both", second, 200}, {"one of both", second[1:], 403}, {"one forged", forged, 401}, {"one of the other's", crossed, 401}} {
		t.Run(c.name, func(t *testing.T) {
			got, err := stage.Ask(t.Context(), reh.Doors[inside], compiler.Request{Method: "COPY", Path: "/", Host: "app.shop", Headers: c.headers})
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != c.status {
				t.Errorf("%d %s, want %d", got.Status, got.Text, c.status)
			}
		})
	}
}

// TestKeysAreFetched: proxies look for an issuer's keys where it publishes them. Nothing waits for them but requests with a
// token of its users; while there are none those are refused, and nobody else is hurt. A new key counts once it is seen,
// and an old one until then, whatever the issuer answers meanwhile.
func TestKeysAreFetched(t *testing.T) {
	id, next, other := newSigner(t), newSigner(t), newSigner(t)
	p := shop(t, `
mesh: external: idp: {hosts: ["id.example"], port: https: {number: 443, protocol: "https"}}
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: url: {to: "idp", path: "/keys", cache: "1s"}}
mesh: jwt: own: {issuer: "https://own.example", audiences: ["shop"], keys: inline: `+other.keys()+`, from: headers: "x-own": ""}
mesh: service: app: {port: http: number: 80, users: {corp: {}, own: {}}, grant: {
	signed: {mesh: true, methods: ["GET"], user: corp: {}}
	owned: {mesh: true, methods: ["POST"], user: own: {}}
	all: {mesh: true, methods: ["PUT"]}
}}
mesh: service: caller: {port: http: number: 80, calls: app: {}}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": {users: corp: require: true, route: {default: to: app: 100, second: {match: path: prefix: "/second", to: app: 100}}}}`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{From: "shop/caller", To: "shop/app"}, {To: "gateway/shop/edge", Host: "app.shop"}})
	var answer atomic.Pointer[http.HandlerFunc]
	says := func(h http.HandlerFunc) { answer.Store(&h) }
	set := func(keys string) http.HandlerFunc {
		text, err := strconv.Unquote(keys)
		if err != nil {
			t.Fatal(err)
		}
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "id.example" || r.URL.Path != "/keys" {
				t.Errorf("keys are looked for at %s%s", r.Host, r.URL)
			}
			_, _ = io.WriteString(w, text)
		}
	}
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	says(down)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })}
	t.Cleanup(func() { _ = server.Close() })
	if err := stage.Recast(t.Context(), "external/shop/idp/https", func(l net.Listener) { _ = server.Serve(l) }); err != nil {
		t.Fatal(err)
	}
	bearer := func(i signer) compiler.Header {
		return compiler.Header{Name: "authorization", Value: "Bearer " + i.token(nil)}
	}
	ask := func(door int, method, path string, hs ...compiler.Header) int {
		t.Helper()
		got, err := stage.Ask(t.Context(), reh.Doors[door], compiler.Request{Method: method, Path: path, Host: "app.shop", Headers: hs})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status
	}
	want := func(what string, status, is int) {
		t.Helper()
		if is != status {
			t.Errorf("%s: %d, want %d", what, is, status)
		}
	}
	const inside, edge = 0, 1
	others := func(when string) {
		t.Helper()
		want(when+", nobody", 200, ask(inside, "PUT", "/"))
		want(when+", a user of another provider", 200, ask(inside, "POST", "/", compiler.Header{Name: "x-own", Value: other.token(map[string]any{"iss": "https://own.example"})}))
		want(when+", forged", 401, ask(inside, "GET", "/", bearer(other)))
	}
	becomes := func(what string, status int, ask func() int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			is := ask()
			if is == status {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: still %d, want %d", what, is, status)
			}
		}
	}
	want("without keys", 401, ask(inside, "GET", "/", bearer(id)))
	others("without keys")
	says(func(w http.ResponseWriter, _ *http.Request) { // without end
		for chunk := bytes.Repeat([]byte(" "), 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	want("with an answer without end", 401, ask(inside, "GET", "/", bearer(id)))
	others("with an answer without end")
	says(set(id.keys()))
	want("with keys", 200, ask(inside, "GET", "/", bearer(id)))
	want("with keys, at the gateway", 200, ask(edge, "GET", "/", bearer(id)))
	want("with keys, on another route", 200, ask(edge, "GET", "/second", bearer(id)))
	want("by a key to come", 401, ask(inside, "GET", "/", bearer(next)))
	others("with keys")
	says(set(next.keys()))
	becomes("by the new key", 200, func() int { return ask(inside, "GET", "/", bearer(next)) })
	want("by the old key", 401, ask(inside, "GET", "/", bearer(id)))
	becomes("by the new key at the gateway", 200, func() int { return ask(edge, "GET", "/", bearer(next)) })
	// What a request has waited for counts for a second; what was fetched beside requests counts until there is another one.
	app := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"}
	fetched := func() (n int) {
		t.Helper()
		page, err := stage.Admin(t.Context(), app, "/stats?filter=jwks_fetch_success")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(page)) {
			_, count, _ := strings.Cut(line, ": ")
			one, _ := strconv.Atoi(strings.TrimSpace(count))
			n += one
		}
		return n
	}
	before := fetched()
	becomes("fetched beside requests", 1, func() int { time.Sleep(100 * time.Millisecond); return min(1, fetched()-before) })
	gone := make(chan struct{}, 1)
	says(func(w http.ResponseWriter, r *http.Request) {
		down(w, r)
		select {
		case gone <- struct{}{}:
		default:
		}
	})
	<-gone
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); { // for longer than a cache lasts
		want("by the last key that was seen", 200, ask(inside, "GET", "/", bearer(next)))
	}
	want("by an older one", 401, ask(inside, "GET", "/", bearer(id)))
	others("without a server")
}
