package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHTTPSIsAnswered(t *testing.T) {
	e := open(t, `
mesh: certificate: shop: file: "shop"
mesh: gateway: edge: host: "shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
`, map[string][]string{"shop": {"shop.test"}})
	for _, protocol := range []string{"h2", "http/1.1"} {
		a := e.is(e.client(protocol, ""), "https://shop.test/a", http.StatusOK)
		if (a.protocol == "HTTP/2.0") != (protocol == "h2") || a.saw != (saw{"shop.test", "/a", "GET", "https", ""}) {
			t.Errorf("%s: %+v", protocol, a)
		}
	}
}

const twoShops = `
mesh: certificate: {shop: file: "shop", other: file: "other"}
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"mail.shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"other.test": {tls: {certificates: ["other"], min: "1.3", http: "refuse"}, route: all: to: app: 100}
	"*.other.test": {tls: certificates: ["other"], route: all: to: app: 100}
	"plain.test": route: all: to: app: 100
}
`

func certificates() map[string][]string {
	return map[string][]string{"shop": {"shop.test", "mail.shop.test", "other.test"}, "other": {"other.test", "*.other.test", "shop.test"}}
}

// A name chooses a certificate, and a connection is good for the hosts that share it: for
// all others it is the wrong one, whatever else its certificate would be good for.
func TestAConnectionIsForTheHostsOfItsCertificate(t *testing.T) {
	e := open(t, twoShops, certificates())
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	serials := map[string]string{}
	for _, host := range []string{"shop.test", "mail.shop.test", "other.test", "a.other.test", "b.a.other.test"} {
		c := e.client("h2", "")
		if host == "b.a.other.test" { // a wildcard of ours is any depth, one of a certificate is not
			c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
		}
		a := e.is(c, "https://"+host+"/", http.StatusOK)
		serials[host] = a.serial
		if a.saw.Host != host {
			t.Errorf("%s: %+v", host, a)
		}
	}
	if serials["shop.test"] != serials["mail.shop.test"] || serials["shop.test"] == serials["other.test"] || serials["other.test"] != serials["a.other.test"] {
		t.Errorf("shown: %v", serials)
	}
	for _, x := range []struct {
		sni, host string
		want      int
	}{
		{"shop.test", "mail.shop.test", http.StatusOK},
		{"shop.test", "MAIL.shop.test.:443", http.StatusOK},
		{"mail.shop.test", "shop.test", http.StatusOK},
		{"shop.test", "other.test", http.StatusMisdirectedRequest},
		{"shop.test", "a.other.test", http.StatusMisdirectedRequest},
		{"shop.test", "plain.test", http.StatusMisdirectedRequest},
		{"shop.test", "nobody.test", http.StatusMisdirectedRequest},
		{"other.test", "shop.test", http.StatusMisdirectedRequest},
		// One certificate, but this connection may be of a version that the host refuses.
		{"a.other.test", "other.test", http.StatusMisdirectedRequest},
		{"a.other.test", "b.other.test", http.StatusOK},
	} {
		for _, protocol := range []string{"h2", "http/1.1"} {
			a, err := ask(e.client(protocol, x.sni), "GET", "https://"+x.sni+"/", x.host, nil)
			if err != nil || a.status != x.want {
				t.Errorf("%s, connection for %s, request for %s: %d %v, want %d", protocol, x.sni, x.host, a.status, err, x.want)
			}
		}
	}
	for _, sni := range []string{"plain.test", "nobody.test", "test"} {
		if a, err := ask(e.client("h2", sni), "GET", "https://shop.test/", "", nil); err == nil {
			t.Errorf("a connection for %q is answered: %+v", sni, a)
		}
	}
	if a, err := ask(e.nameless(), "GET", "https://127.0.0.1/", "shop.test", nil); err == nil {
		t.Errorf("a connection for nobody is answered: %+v", a)
	}
}

// TLS is as new as a host asks for.
func TestOldVersionsAreClosed(t *testing.T) {
	e := open(t, twoShops, certificates())
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	for host, versions := range map[string]map[uint16]bool{
		"shop.test":  {tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true},
		"other.test": {tls.VersionTLS12: false, tls.VersionTLS13: true},
	} {
		for version, want := range versions {
			c := e.client("http/1.1", "")
			config := c.Transport.(*http.Transport).TLSClientConfig
			config.MinVersion, config.MaxVersion = version, version
			if a, err := ask(c, "GET", "https://"+host+"/", "", nil); (err == nil) != want {
				t.Errorf("%s by %s: %+v %v", host, tls.VersionName(version), a, err)
			}
		}
	}
}

// Plain HTTP leads to HTTPS, with method and body, unless the host says otherwise.
func TestPlainHTTPLeadsToHTTPS(t *testing.T) {
	e := open(t, twoShops+`
mesh: gateway: edge: host: "served.test": {
	tls: {certificates: ["shop"], http: "serve", owner: "edge", reason: "old devices", until: "2099-01-01T00:00:00Z"}
	route: all: to: app: 100
}
`, certificates())
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	c, plain := e.client("http/1.1", ""), fmt.Sprintf("http://127.0.0.1:%d", e.plain)
	c.Transport.(*http.Transport).DialContext = nil
	for _, x := range []struct {
		host, location string
		want           int
	}{
		{"shop.test", fmt.Sprintf("https://shop.test:%d/a?b=c", e.port), http.StatusPermanentRedirect},
		{"SHOP.test:80", fmt.Sprintf("https://SHOP.test:%d/a?b=c", e.port), http.StatusPermanentRedirect},
		{"x.other.test", fmt.Sprintf("https://x.other.test:%d/a?b=c", e.port), http.StatusPermanentRedirect},
		{"other.test", "", http.StatusForbidden},
		{"plain.test", "", http.StatusOK},
		{"served.test", "", http.StatusOK},
		{"nobody.test", "", http.StatusNotFound},
	} {
		a, err := ask(c, "POST", plain+"/a?b=c", x.host, strings.NewReader("body"))
		if err != nil || a.status != x.want || a.location != x.location {
			t.Errorf("%s: %+v %v, want %d %s", x.host, a, err, x.want, x.location)
		}
		if a.status == http.StatusOK && (a.saw.Scheme != "http" || a.saw.Body != "body") {
			t.Errorf("%s: %+v", x.host, a)
		}
	}
}

// A certificate that is not there, or is none, closes its own hosts, and is told. When it
// comes, they are served.
func TestABadCertificateDisturbsNobody(t *testing.T) {
	e := open(t, twoShops+`
mesh: certificate: {missing: file: "missing", broken: file: "broken"}
mesh: gateway: edge: host: {
	"missing.test": {tls: certificates: ["missing"], route: all: to: app: 100}
	"broken.test": {tls: certificates: ["broken"], route: all: to: app: 100}
}
`, certificates())
	mixed := e.issuer.pair(t, "broken.test")
	mixed.key = e.issuer.pair(t, "broken.test").key
	e.put("broken", mixed)
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	for _, host := range []string{"missing.test", "broken.test"} {
		if a, err := ask(e.client("h2", ""), "GET", "https://"+host+"/", "", nil); err == nil {
			t.Errorf("%s is answered: %+v", host, a)
		}
	}
	eventually(t, "what is wrong is told", func() error {
		for name, text := range map[string]string{"certificate/file/missing": "no such file", "certificate/file/broken": "private key does not match"} {
			if s := e.status(name); s.Served || !strings.Contains(s.Problem, text) {
				return fmt.Errorf("%+v", s)
			}
		}
		if s := e.status("certificate/file/shop"); !s.Served || s.Problem != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	for _, name := range []string{"missing", "broken"} {
		e.put(name, e.issuer.pair(t, name+".test"))
		e.is(e.client("h2", ""), "https://"+name+".test/", http.StatusOK)
	}
}

// A new certificate is shown without a request that fails, and a bad one in its place
// changes nothing.
func TestANewCertificateIsShown(t *testing.T) {
	e := open(t, twoShops, certificates())
	first := e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK).serial
	ctx, end := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer end()
	for _, fresh := range []bool{true, false} { // connections that come, and ones that stay
		load.Go(func() {
			c := e.client("h2", "")
			for ctx.Err() == nil {
				if a, err := ask(c, "GET", "https://shop.test/", "", nil); err != nil || a.status != http.StatusOK {
					t.Errorf("under way: %+v %v", a, err)
				}
				if fresh {
					c.CloseIdleConnections()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	next := e.issuer.pair(t, "shop.test", "mail.shop.test")
	e.put("shop", next)
	shown := func(serial string) func() error {
		return func() error {
			a, err := ask(e.client("h2", ""), "GET", "https://shop.test/", "", nil)
			if err == nil && a.serial != serial {
				err = fmt.Errorf("%s is shown, the first was %s", a.serial, first)
			}
			return err
		}
	}
	eventually(t, "the new certificate", shown(next.serial))
	bad := e.issuer.pair(t, "shop.test")
	bad.chain = []byte("nothing")
	e.put("shop", bad)
	eventually(t, "the bad one is told", func() error {
		if s := e.status("certificate/file/shop"); !s.Served || s.Problem == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if err := shown(next.serial)(); err != nil {
		t.Error(err)
	}
}
