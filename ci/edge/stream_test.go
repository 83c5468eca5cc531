package edge

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/freeport"
)

// greeter says its name to each connection of bytes, and what the first line of it was.
func greeter(t *testing.T, name string, secure *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				asked := ""
				if secure != nil {
					s := tls.Server(c, secure)
					if s.Handshake() != nil {
						return
					}
					c, asked = s, s.ConnectionState().ServerName
				}
				line, _ := bufio.NewReader(c).ReadString('\n')
				_, _ = fmt.Fprintf(c, "%s %s %s\n", name, asked, strings.TrimSpace(line))
			}()
		}
	}()
	return l.Addr().String()
}

// port is a number that is free.
func port(t *testing.T) int {
	t.Helper()
	n, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// greet sends head and a line to a port and returns what is said in return; "" if the connection is
// closed. With a name it speaks TLS and asks for that ("-" for none).
func (e *edge) greet(port int, head []byte, name string) string {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(head); err != nil {
		return ""
	}
	if name != "" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: strings.TrimPrefix(name, "-"), MinVersion: tls.VersionTLS12})
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

func service(name, address string) string {
	return fmt.Sprintf("mesh: service: %s: {port: raw: {number: 9000, protocol: \"tcp\", speaks: \"client\"}, endpoints: static: [%q], grant: all: {anyone: true, owner: \"test\", reason: \"it has no proxy\", until: \"2099-01-01T00:00:00Z\"}}\n", name, address)
}

// TLS that a gateway does not end goes where the name leads that it asks for, as it is.
func TestTLSIsPassedOnByItsName(t *testing.T) {
	by := issuer{partners(t)}
	secure := func(name string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{visitor(t, by.Authority, name)}}
	}
	tlsPort := port(t)
	e := open(t, service("one", greeter(t, "one", secure("one")))+service("two", greeter(t, "two", secure("two")))+service("three", greeter(t, "three", secure("three")))+fmt.Sprintf(`
mesh: certificate: shop: file: "shop"
mesh: gateway: edge: {
	port: {
		https: route: {raw: {match: sni: ["raw.shop.test", "*.raw.test"], to: one: 100}}
		mail: {number: %d, protocol: "tls", route: {
			exact: {match: sni: ["a.test"], to: one: 100}
			below: {match: sni: ["*.a.test"], to: two: 100}
			far: {match: {sni: ["c.test"], sources: ["203.0.113.0/24"]}, to: one: 100}
			rest: {match: sni: ["*"], to: three: 100}
		}}
	}
	host: "*.shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
}
`, tlsPort), map[string][]string{"shop": {"*.shop.test"}})
	e.is(e.client("h2", ""), "https://web.shop.test/", http.StatusOK)
	eventually(t, "the port is there", func() error {
		if got := e.greet(tlsPort, nil, "a.test"); got == "" {
			return fmt.Errorf("nothing is said")
		}
		return nil
	})
	for name, want := range map[string]string{
		"a.test": "one a.test hello", "A.test": "one A.test hello", "b.a.test": "two b.a.test hello", "c.b.a.test": "two c.b.a.test hello",
		"other.test": "three other.test hello", "-": "three  hello", "c.test": "", // no falling back from a name to the rest
	} {
		got := e.greet(tlsPort, nil, name)
		if !strings.EqualFold(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"raw.shop.test": "one raw.shop.test hello", "x.raw.test": "one x.raw.test hello", "raw.test": "", "nobody.test": "", "-": ""} {
		if got := e.greet(e.port, nil, name); got != want {
			t.Errorf("%s at the port of HTTPS: %q, want %q", name, got, want)
		}
	}
	// A certificate for all names below lets browsers ask for this one on connections of others.
	if a, err := ask(e.client("h2", "web.shop.test"), "GET", "https://web.shop.test/", "raw.shop.test", nil); err != nil || a.status != http.StatusMisdirectedRequest {
		t.Errorf("a request for a name that is passed on: %d %v", a.status, err)
	}
	if got := e.greet(tlsPort, []byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), ""); got != "" {
		t.Errorf("what is no TLS: %q", got)
	}
}

// header is the PROXY protocol's of a connection from an address.
func header(version int, from string) []byte {
	src := netip.MustParseAddr(from)
	if version == 1 {
		return fmt.Appendf(nil, "PROXY TCP4 %s 127.0.0.1 1234 443\r\n", src)
	}
	out := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12)
	out = append(append(out, src.AsSlice()...), 127, 0, 0, 1)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, 1234), 443)
}

// A port believes where connections come from if a proxy says so that it knows, and takes nobody else.
func TestProxiesInFrontAreBelievedWhereItIsWritten(t *testing.T) {
	believed, strict, plain, elsewhere := port(t), port(t), port(t), port(t)
	e := open(t, service("one", greeter(t, "one", nil))+service("two", greeter(t, "two", nil))+fmt.Sprintf(`
mesh: certificate: shop: file: "shop"
mesh: gateway: edge: {
	port: {
		believed: {number: %d, protocol: "tcp", proxyProtocol: from: ["127.0.0.0/8"], route: {
			near: {match: sources: ["198.51.100.0/24"], to: one: 100}
			nearer: {match: sources: ["198.51.100.7"], to: two: 100}
		}}
		plain: {number: %d, protocol: "tcp", route: {
			near: {match: sources: ["198.51.100.0/24"], to: one: 100}
			local: {match: sources: ["127.0.0.1"], to: two: 100}
		}}
		elsewhere: {number: %d, protocol: "tcp", proxyProtocol: from: ["192.0.2.0/24"], route: all: to: one: 100}
		web: {number: %d, proxyProtocol: from: ["127.0.0.1"]}
	}
	host: "shop.test": {tls: certificates: ["shop"], ports: ["https"], route: all: to: app: 100}
	host: "plain.test": {ports: ["web"], route: all: to: app: 100}
}
`, believed, plain, elsewhere, strict), map[string][]string{"shop": {"shop.test"}})
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	eventually(t, "the ports are there", func() error {
		if got := e.greet(plain, nil, ""); got != "two  hello" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	for _, version := range []int{1, 2} {
		for from, want := range map[string]string{"198.51.100.9": "one  hello", "198.51.100.7": "two  hello", "203.0.113.9": "", "127.0.0.1": ""} {
			if got := e.greet(believed, header(version, from), ""); got != want {
				t.Errorf("version %d from %s: %q, want %q", version, from, got, want)
			}
		}
		// Where it is not written a header is bytes like any other.
		if got := e.greet(plain, header(version, "198.51.100.9"), ""); strings.HasPrefix(got, "one") {
			t.Errorf("version %d is believed where nobody says so: %q", version, got)
		}
		if got := e.greet(elsewhere, header(version, "192.0.2.9"), ""); got != "" {
			t.Errorf("version %d is believed of a stranger: %q", version, got)
		}
	}
	if got := e.greet(believed, nil, ""); got != "" {
		t.Errorf("a stranger without the header gets %q", got)
	}
	get := func(head []byte) string {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", strict))
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(append(head, "GET / HTTP/1.1\r\nHost: plain.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"...))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return ""
		}
		defer res.Body.Close()
		return res.Header.Get("Saw-X-Forwarded-For")
	}
	if got := get(header(2, "198.51.100.9")); got != "6.6.6.6,198.51.100.9" && got != "198.51.100.9" {
		t.Errorf("the application is told of %q", got)
	}
	if got := get(nil); got != "" {
		t.Errorf("a request without the header gets through: %q", got)
	}
}
