package edge

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
)

// idp is a provider of OpenID Connect that runs at idp.test.
type idp struct {
	address string
	end     func()
}

const clientSecret = "the-secret-of-the-client"

// provider starts one whose users are ana and ben.
func provider(t *testing.T, by *testca.Authority) idp {
	t.Helper()
	dir, err := tools.Find(t.Context(), tools.OIDC(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	in := t.TempDir()
	chain, key := testca.PEM(t, by.Sign(t, &x509.Certificate{DNSNames: []string{"idp.test"}}))
	users := `{"id-ana": {"ID": "id-ana", "Username": "ana", "Password": "sesame"}, "id-ben": {"ID": "id-ben", "Username": "ben", "Password": "sesame"}}`
	for name, b := range map[string][]byte{"cert": chain, "key": key, "users": []byte(users)} {
		if err := os.WriteFile(filepath.Join(in, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	p := idp{address: fmt.Sprintf("127.0.0.1:%d", port)}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "oidc"), "-listen", p.address, "-issuer", "https://idp.test/", "-cert", filepath.Join(in, "cert"), "-key", filepath.Join(in, "key"),
		"-client", "web", "-secret", clientSecret, "-redirects", "https://shop.test/login/callback", "-users", filepath.Join(in, "users"))
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.end = func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Log(out)
		}
	})
	eventually(t, "the provider listens", func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return p
}

// browser keeps cookies and follows redirects, and idp.test is the provider.
func (e *edge) browser(p idp) *http.Client {
	e.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		e.t.Fatal(err)
	}
	c := e.client("h2", "")
	tr := c.Transport.(*http.Transport)
	tr.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == "idp.test:443" {
			return new(net.Dialer).DialContext(ctx, network, p.address)
		}
		return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", e.port))
	}
	c.Jar, c.CheckRedirect = jar, nil
	return c
}

// page is what a browser gets at last.
type page struct {
	status int
	url    *url.URL
	header http.Header
	body   string
}

func visit(t *testing.T, c *http.Client, req *http.Request) page {
	t.Helper()
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return page{res.StatusCode, res.Request.URL, res.Header, string(b)}
}

func get(t *testing.T, c *http.Client, at string) page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	return visit(t, c, req)
}

// submit fills in the provider's page and sends it.
func submit(t *testing.T, c *http.Client, form page, user string) page {
	t.Helper()
	m := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(form.body)
	if form.url.Host != "idp.test" || m == nil {
		t.Fatalf("%d at %s is no page to sign in: %s", form.status, form.url, form.body)
	}
	said := url.Values{"id": {m[1]}, "username": {user}, "password": {"sesame"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://idp.test/login/username", strings.NewReader(said.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return visit(t, c, req)
}

const loginHosts = `
mesh: certificate: shop: file: "shop"
mesh: external: {
	idp: {hosts: ["idp.test"], port: https: {number: 443, protocol: "https"}, endpoints: static: [%q], tls: roots: "idp"}
	down: {hosts: ["down.test"], port: https: {number: 443, protocol: "https"}, endpoints: static: [%q], tls: roots: "idp"}
}
mesh: jwt: {
	corp: {issuer: "https://idp.test/", audiences: ["web"], keys: url: {to: "idp", path: "/keys"}, claims: "x-user": "sub"}
	two: {issuer: "https://idp.test/", audiences: ["web"], keys: url: {to: "idp", path: "/keys"}, from: headers: "x-two": ""}
	lost: {issuer: "https://idp.test/", audiences: ["web"], keys: url: {to: "down", path: "/keys"}}
}
mesh: login: {
	web: {client: "web", file: "web", authorization: "https://idp.test/auth", token: {to: "idp", path: "/oauth/token"}, end: "https://idp.test/end_session"}
	none: {client: "web", file: "none", authorization: "https://idp.test/auth", token: {to: "idp", path: "/oauth/token"}}
	down: {client: "web", file: "web", authorization: "https://idp.test/auth", token: {to: "down", path: "/token"}}
}
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], users: corp: {require: true, login: "web", not: paths: ["/public/*"]}
		deny: staff: {paths: ["/staff/*"], not: user: corp: subjects: ["id-ben"]}
		route: all: to: app: 100
	}
	"other.test": {tls: certificates: ["shop"], route: {
		all: {users: corp: {require: true, login: "web"}, to: app: 100}
		open: {match: path: prefix: "/open", to: app: 100}
	}}
	"two.test": {tls: certificates: ["shop"], users: two: {require: true, login: "web"}, route: all: to: app: 100}
	"none.test": {tls: certificates: ["shop"], users: corp: {require: true, login: "none"}, route: all: to: app: 100}
	"down.test": {tls: certificates: ["shop"], users: lost: {require: true, login: "down"}, route: all: to: app: 100}
	"open.test": {tls: certificates: ["shop"], route: all: to: app: 100}
}
`

// People sign in with a browser at a real provider of OpenID Connect: whoever has no session is sent there and comes back to the
// page that he wanted; what his token says counts for denies and applications, which see neither token nor session; what is forged
// is refused, and a provider that is away hurts those alone who would sign in.
func TestPeopleSignInWithABrowser(t *testing.T) {
	by := testca.New(t)
	p := provider(t, by)
	closed, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, fmt.Sprintf(loginHosts, p.address, fmt.Sprintf("127.0.0.1:%d", closed)), map[string][]string{"shop": {"shop.test", "other.test", "two.test", "none.test", "down.test", "open.test"}})
	if err := os.WriteFile(filepath.Join(e.dir, "idp.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: by.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	e.keep("web", "client-secret", clientSecret+"\n")
	e.issuer.Pool.AddCert(by.Root)
	plain := e.client("h2", "")
	e.is(plain, "https://open.test/", http.StatusOK)
	e.is(plain, "https://shop.test/account", http.StatusFound)

	ana := e.browser(p)
	form := get(t, ana, "https://shop.test/account?a=b&c=d%20e")
	home := submit(t, ana, form, "ana")
	if home.status != http.StatusOK || home.url.String() != "https://shop.test/account?a=b&c=d%20e" || home.header.Get("Saw-X-User") != "id-ana" {
		t.Fatalf("signed in, she gets %d at %s as %q: %s", home.status, home.url, home.header.Get("Saw-X-User"), home.body)
	}
	shop := &url.URL{Scheme: "https", Host: "shop.test", Path: "/"}
	ana.Jar.SetCookies(shop, []*http.Cookie{{Name: "own", Value: "1"}})
	again := get(t, ana, "https://shop.test/")
	if got := again.header.Get("Saw-Cookie"); again.status != http.StatusOK || again.header.Get("Saw-Authorization") != "" || got != "own=1" {
		t.Errorf("the application is given %d, cookies %q, authorization %q", again.status, got, again.header.Get("Saw-Authorization"))
	}
	for name := range again.header {
		if strings.Contains(name, "Meshc") || strings.Contains(name, "Oauth") {
			t.Errorf("the application is told %s", name)
		}
	}
	// The same host's route without a login.
	ana.Jar.SetCookies(&url.URL{Scheme: "https", Host: "other.test", Path: "/"}, append(ana.Jar.Cookies(shop), &http.Cookie{Name: "own", Value: "1"}))
	if got := get(t, ana, "https://other.test/open"); got.status != http.StatusOK || got.header.Get("Saw-Cookie") != "own=1" {
		t.Errorf("behind a route without a login: %d, cookies %q", got.status, got.header.Get("Saw-Cookie"))
	}
	for path, status := range map[string]int{"/public/a": 200, "/staff/a": 403} {
		if got := get(t, ana, "https://shop.test"+path); got.status != status {
			t.Errorf("ana at %s: %d, want %d", path, got.status, status)
		}
	}
	ben := e.browser(p)
	if got := submit(t, ben, get(t, ben, "https://shop.test/staff/a"), "ben"); got.status != http.StatusOK || got.url.Path != "/staff/a" || got.header.Get("Saw-X-User") != "id-ben" {
		t.Errorf("ben at /staff/a: %d at %s as %q", got.status, got.url, got.header.Get("Saw-X-User"))
	}
	t.Run("without", func(t *testing.T) { e.withoutSession(t, plain) })
	t.Run("forged", func(t *testing.T) { e.forged(t, p, ana) })
	t.Run("away", func(t *testing.T) { e.away(t, p, ana, plain) })
}

// withoutSession asks as programs, scripts of pages and nobody do.
func (e *edge) withoutSession(t *testing.T, c *http.Client) {
	for _, x := range []struct {
		what, method, url string
		header            []string
		status            int
	}{
		{"nobody", "GET", "shop.test/", nil, 302},
		{"a page", "HEAD", "shop.test/", []string{"sec-fetch-mode", "navigate"}, 302},
		{"a script", "GET", "shop.test/", []string{"sec-fetch-mode", "cors"}, 401},
		{"a form", "POST", "shop.test/", []string{"sec-fetch-mode", "navigate"}, 401},
		{"a program with a wrong token", "GET", "shop.test/", []string{"authorization", "Bearer a.b.c"}, 401},
		{"a program that says what proxies say", "GET", "shop.test/", []string{"x-meshc-shown", "Bearer a.b.c"}, 302},
		{"one that says that it need not", "GET", "shop.test/", []string{"x-meshc-asked", "allowed"}, 302},
		{"where nobody need", "GET", "shop.test/public/x", []string{"x-user", "id-ana"}, 200},
		{"almost there", "GET", "shop.test/public", nil, 302},
		{"who has not been sent", "GET", "shop.test/login/callback", nil, 401},
		{"who makes it up", "GET", "shop.test/login/callback?code=a&state=b", nil, 401},
		{"who signs out", "GET", "shop.test/login/logout", nil, 302},
		{"nobody, in a header", "GET", "two.test/", nil, 302},
		{"a token in a header that is none", "GET", "two.test/", []string{"x-two", "a.b.c"}, 401},
		{"nothing in a header", "GET", "two.test/", []string{"x-two", ""}, 401},
		{"a blank in a header", "GET", "two.test/", []string{"x-two", " "}, 401},
		{"nothing in two headers", "GET", "two.test/", []string{"x-two", "", "x-two", ""}, 401},
		{"nothing behind the prefix", "GET", "shop.test/", []string{"authorization", "Bearer "}, 401},
		{"no secret", "GET", "none.test/", nil, 503},
		{"no login", "GET", "open.test/", nil, 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), x.method, "https://"+x.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(x.header); i += 2 {
			req.Header.Add(x.header[i], x.header[i+1])
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != x.status || x.status == http.StatusOK && res.Header.Get("Saw-X-User") != "" {
			t.Errorf("%s: %d as %q, want %d", x.what, res.StatusCode, res.Header.Get("Saw-X-User"), x.status)
		}
	}
}

// stopping does not follow redirects to a host.
func stopping(c *http.Client, host, path string) *http.Client {
	at := *c
	at.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if req.URL.Host == host && req.URL.Path == path {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &at
}

// coming is where the provider sends a browser that has signed in, before it goes there.
func coming(t *testing.T, c *http.Client, user string) *url.URL {
	t.Helper()
	stop := stopping(c, "shop.test", "/login/callback")
	back, err := submit(t, stop, get(t, stop, "https://shop.test/mine"), user).location()
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func (p page) location() (*url.URL, error) { return p.url.Parse(p.header.Get("Location")) }

// forged tries what people try with links and cookies.
func (e *edge) forged(t *testing.T, p idp, ana *http.Client) {
	// A link with somebody else's code signs nobody in (login CSRF).
	eve := e.browser(p)
	link := coming(t, eve, "ben")
	if got := get(t, e.browser(p), link.String()); got.status != http.StatusUnauthorized {
		t.Errorf("somebody else's link: %d", got.status)
	}
	if got := get(t, eve, link.String()); got.status != http.StatusOK || got.url.Path != "/mine" {
		t.Errorf("the link in its own browser: %d at %s", got.status, got.url)
	}
	// A state that leads elsewhere, with the browser's own cookies.
	for _, to := range []string{"https://evil.test/", "//evil.test/", "https://shop.test.evil.test/", "https://shop.test@evil.test/"} {
		eve := e.browser(p)
		bent := coming(t, eve, "ben")
		q := bent.Query()
		state, err := base64.RawURLEncoding.DecodeString(q.Get("state"))
		if err != nil || !strings.Contains(string(state), "https://shop.test/mine") {
			t.Fatalf("%s, %v", state, err)
		}
		q.Set("state", base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(state), "https://shop.test/mine", to, 1))))
		bent.RawQuery = q.Encode()
		if got := get(t, stopping(eve, "evil.test", "/"), bent.String()); got.status != http.StatusUnauthorized || got.header.Get("Location") != "" {
			t.Errorf("a state that leads to %s: %d to %s", to, got.status, got.header.Get("Location"))
		}
	}
	// A session is one host's, and each of its cookies counts.
	shop := &url.URL{Scheme: "https", Host: "shop.test", Path: "/"}
	session := ana.Jar.Cookies(shop)
	try := func(what, host string, change func(*http.Cookie)) {
		mallory := e.browser(p)
		mallory.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		var bent []*http.Cookie
		for _, c := range session {
			one := *c
			change(&one)
			bent = append(bent, &one)
		}
		mallory.Jar.SetCookies(&url.URL{Scheme: "https", Host: host, Path: "/"}, bent)
		if got := get(t, mallory, "https://"+host+"/"); got.status != http.StatusFound && got.status != http.StatusUnauthorized {
			t.Errorf("%s: %d as %q", what, got.status, got.header.Get("Saw-X-User"))
		}
	}
	try("a session of another host", "other.test", func(*http.Cookie) {})
	seen := 0
	for _, c := range session {
		if !strings.HasPrefix(c.Name, "__Host-edge-web-") || strings.Contains(c.Name, "nonce") || strings.Contains(c.Name, "code") {
			continue
		}
		seen++
		try("a changed "+c.Name, "shop.test", func(x *http.Cookie) {
			if x.Name == c.Name {
				x.Value = "1" + x.Value
			}
		})
	}
	if seen < 3 {
		t.Errorf("a session has the cookies %v", session)
	}
}

// away takes the provider away: who has a session keeps it until he ends it, and all others are told.
func (e *edge) away(t *testing.T, p idp, ana, plain *http.Client) {
	late := e.browser(p)
	back := coming(t, late, "ben")
	p.end()
	if got := get(t, late, back.String()); got.status < 400 {
		t.Errorf("who comes back while the provider is away: %d at %s", got.status, got.url)
	}
	if got := get(t, ana, "https://shop.test/"); got.status != http.StatusOK || got.header.Get("Saw-X-User") != "id-ana" {
		t.Errorf("who has a session: %d as %q", got.status, got.header.Get("Saw-X-User"))
	}
	e.is(plain, "https://open.test/", http.StatusOK)
	e.is(plain, "https://shop.test/public/a", http.StatusOK)
	e.is(plain, "https://down.test/", http.StatusFound)
	// Signed out, she is nobody.
	stop := stopping(ana, "idp.test", "/end_session")
	if got := get(t, stop, "https://shop.test/login/logout"); got.status != http.StatusFound || !strings.HasPrefix(got.header.Get("Location"), "https://idp.test/end_session?") {
		t.Errorf("signing out: %d to %s", got.status, got.header.Get("Location"))
	}
	if got := get(t, stopping(ana, "idp.test", "/auth"), "https://shop.test/"); got.status != http.StatusFound {
		t.Errorf("signed out: %d", got.status)
	}
	// A secret that comes later is read.
	e.keep("none", "client-secret", "short")
	eventually(t, "a short secret is told", func() error {
		if s := e.status("client-secret/file/none"); s.Served || !strings.Contains(s.Problem, "5 characters") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	e.keep("none", "client-secret", clientSecret)
	e.is(plain, "https://none.test/", http.StatusFound)
}
