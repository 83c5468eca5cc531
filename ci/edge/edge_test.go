package edge

import (
	"net/http"
	"testing"
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
