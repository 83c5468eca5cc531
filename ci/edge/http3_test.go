package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// overUDP speaks HTTP/3 to the gateway, whatever the host is called; it shows a certificate if it is asked for one.
func (e *edge) overUDP(sni string, c *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: e.issuer.Pool, ServerName: sni}
	if c != nil {
		config.Certificates = []tls.Certificate{*c}
	}
	tr := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", e.port), t, q)
	}}
	e.t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

const overBoth = `
mesh: certificate: {shop: file: "shop", other: file: "other", partners: file: "partners", missing: file: "missing"}
mesh: gateway: edge: http3: true
mesh: gateway: edge: host: {
	"shop.test": {
		tls: certificates: ["shop"]
		deny: closed: paths: ["/closed/*"]
		deny: far: {clients: ["198.51.100.0/24"], methods: ["GET"], paths: ["/*"]}
		route: {all: to: app: 100, secure: {match: path: prefix: "/secure", to: app: 100, responseHeaders: set: "alt-svc": "clear"}}
	}
	"mail.shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"other.test": {tls: {certificates: ["other"], min: "1.3"}, route: all: to: app: 100}
	"*.other.test": {tls: certificates: ["other"], route: all: to: app: 100}
	"api.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners"}}, route: all: to: app: 100}
	"maybe.test": {tls: {certificates: ["shop"], client: {mode: "optional", roots: "partners"}}, route: all: to: app: 100}
	"till.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners", sans: ["till.partner.test"]}}, route: all: to: app: 100}
	"wild.other.test": {tls: {certificates: ["other"], client: {mode: "require", roots: "partners"}}, route: all: to: app: 100}
	"missing.test": {tls: certificates: ["missing"], route: all: to: app: 100}
	"plain.test": route: all: to: app: 100
}
`

func openBoth(t *testing.T) (e *edge, good, stranger tls.Certificate) {
	t.Helper()
	by := partners(t)
	e = open(t, overBoth, map[string][]string{"shop": {"shop.test", "mail.shop.test", "api.test", "maybe.test", "till.test"}, "other": {"other.test", "*.other.test", "shop.test"}})
	e.authorities("partners", roots(by))
	good = visitor(t, by, "a.partner.test")
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	e.is(e.as("h2", "", &good), "https://api.test/", http.StatusOK)
	return e, good, visitor(t, partners(t), "till.partner.test")
}

// HTTP/3 leads to the same hosts, routes and denies as HTTPS, and visitors are told of it.
func TestHTTP3IsAnswered(t *testing.T) {
	e, _, _ := openBoth(t)
	a := e.is(e.overUDP("", nil), "https://shop.test/a", http.StatusOK)
	if a.protocol != "HTTP/3.0" || a.saw != (saw{"shop.test", "/a", "GET", "https", ""}) {
		t.Errorf("%+v", a)
	}
	if a, err := ask(e.overUDP("", nil), "POST", "https://shop.test/a", "", strings.NewReader("body")); err != nil || a.saw.Body != "body" {
		t.Errorf("a body: %+v %v", a, err)
	}
	for path, want := range map[string]int{"/closed/a": http.StatusForbidden, "/%63losed/a": http.StatusForbidden, "/a%2fb": http.StatusBadRequest, "/secure": http.StatusOK, "/%2e%2e/closed/b": http.StatusForbidden} {
		if a, err := ask(e.overUDP("", nil), "GET", "https://shop.test"+path, "", nil); err != nil || a.status != want {
			t.Errorf("%s: %d %v, want %d", path, a.status, err, want)
		}
	}
	told := fmt.Sprintf(`h3=":%d"; ma=86400`, e.port)
	for url, want := range map[string]string{"https://shop.test/": told, "https://other.test/": told, "https://shop.test/closed/a": told, "https://shop.test/secure": "clear"} {
		for name, c := range map[string]*http.Client{"h2": e.client("h2", ""), "h3": e.overUDP("", nil)} {
			res, err := c.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if got := res.Header.Values("Alt-Svc"); len(got) != 1 || got[0] != want {
				t.Errorf("%s by %s: alt-svc %q, want %q", url, name, got, want)
			}
		}
	}
	c := e.client("http/1.1", "")
	c.Transport.(*http.Transport).DialContext = nil
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", e.plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "plain.test"
	if res, err := c.Do(req); err != nil || res.Header.Get("Alt-Svc") != "" {
		t.Errorf("plain HTTP tells of HTTP/3: %v %v", res, err)
	}
}

// A connection by UDP is for the hosts of its certificate, as one by TCP is.
func TestAConnectionByUDPIsForTheHostsOfItsCertificate(t *testing.T) {
	e, good, _ := openBoth(t)
	for _, x := range []struct {
		sni, host string
		want      int
	}{
		{"shop.test", "mail.shop.test", http.StatusOK},
		{"shop.test", "other.test", http.StatusMisdirectedRequest},
		{"shop.test", "api.test", http.StatusMisdirectedRequest},
		{"shop.test", "plain.test", http.StatusMisdirectedRequest},
		{"shop.test", "nobody.test", http.StatusMisdirectedRequest},
		{"a.other.test", "other.test", http.StatusMisdirectedRequest},
		{"a.other.test", "b.other.test", http.StatusOK},
	} {
		a, err := ask(e.overUDP(x.sni, &good), "GET", "https://"+x.sni+"/", x.host, nil)
		if err != nil || a.status != x.want {
			t.Errorf("connection for %s, request for %s: %d %v, want %d", x.sni, x.host, a.status, err, x.want)
		}
	}
	for _, sni := range []string{"plain.test", "nobody.test", "missing.test"} {
		if a, err := ask(e.overUDP(sni, nil), "GET", "https://shop.test/", "", nil); err == nil {
			t.Errorf("a connection for %q is answered: %+v", sni, a)
		}
	}
}

// A host that asks visitors for certificates is reached by TCP alone, and tells nobody of HTTP/3: Envoy resumes
// sessions of QUIC, which would stand in for a certificate.
func TestHostsThatAskForCertificatesStayWithTCP(t *testing.T) {
	e, good, stranger := openBoth(t)
	for _, host := range []string{"api.test", "maybe.test", "till.test"} {
		for who, c := range map[string]*tls.Certificate{"none": nil, "good": &good, "stranger": &stranger} {
			if a, err := ask(e.overUDP("", c), "GET", "https://"+host+"/", "", nil); err == nil {
				t.Errorf("%s, %s: answered %d by UDP", host, who, a.status)
			}
		}
	}
	for _, host := range []string{"api.test", "maybe.test"} {
		res, err := e.as("h2", "", &good).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if told := res.Header.Get("Alt-Svc"); res.StatusCode != http.StatusOK || told != "" {
			t.Errorf("%s: %s, alt-svc %q", host, res.Status, told)
		}
	}
	// A name that a wildcard's certificate takes gets a connection, and the host another answer.
	if a, err := ask(e.overUDP("a.other.test", &good), "GET", "https://a.other.test/", "wild.other.test", nil); err != nil || a.status != http.StatusMisdirectedRequest {
		t.Errorf("a host below a wildcard that asks for certificates: %d %v", a.status, err)
	}
	if a, err := ask(e.overUDP("wild.other.test", &good), "GET", "https://wild.other.test/", "", nil); err != nil || a.status != http.StatusMisdirectedRequest {
		t.Errorf("a connection for it: %d %v", a.status, err)
	}
}
