package edge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// told says to each connection of bytes what it was told of whom it is for by PROXY protocol, and its first line.
func told(t *testing.T) string {
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
				r := bufio.NewReader(c)
				who, told := whom(r)
				if told {
					line, _ := r.ReadString('\n')
					who += " " + strings.TrimSpace(line)
				}
				_, _ = fmt.Fprintln(c, who)
			}()
		}
	}()
	return l.Addr().String()
}

// whom reads the PROXY protocol as haproxy.org/download/3.0/doc/proxy-protocol.txt has it: its version and the address.
// What is none of it is told as it came.
func whom(r *bufio.Reader) (who string, told bool) {
	if first, err := r.Peek(1); err == nil && first[0] == '\r' {
		head, err := r.Peek(16)
		if err != nil || !bytes.HasPrefix(head, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11")) {
			return fmt.Sprintf("no head but %x", head), false
		}
		body := make([]byte, len(head)+int(binary.BigEndian.Uint16(head[14:])))
		if _, err := io.ReadFull(r, body); err != nil {
			return err.Error(), false
		}
		a, _ := netip.AddrFromSlice(body[16:20])
		return "v2 " + a.String(), true
	}
	line, err := r.ReadString('\n')
	if f := strings.Fields(line); err == nil && len(f) == 6 && f[0] == "PROXY" && f[1] == "TCP4" {
		return "v1 " + f[2], true
	}
	return "nothing but " + strings.TrimSpace(line), false
}

// What says so is told whom each connection is for: who has come to the gateway, or of whom the proxy in front of it has
// said so. Others are told nothing.
func TestDestinationsAreToldWhomConnectionsAreFor(t *testing.T) {
	there := told(t)
	outside, inside, plain, believed := port(t), port(t), port(t), port(t)
	e := open(t, service("older", there)+service("newer", there)+service("silent", there)+fmt.Sprintf(`
mesh: certificate: shop: file: "shop"
mesh: external: far: {hosts: ["far.test"], port: raw: {number: 9000, protocol: "tcp"}, endpoints: static: [%q], connection: proxyProtocol: "v2"}
mesh: service: older: connection: proxyProtocol: "v1"
mesh: service: newer: port: raw: connection: proxyProtocol: "v2"
mesh: gateway: edge: {
	port: {
		outside: {number: %d, protocol: "tcp", route: all: to: far: 100}
		inside: {number: %d, protocol: "tcp", route: all: to: older: 100}
		plain: {number: %d, protocol: "tcp", route: all: to: silent: 100}
		believed: {number: %d, protocol: "tcp", proxyProtocol: from: ["127.0.0.0/8"], route: all: to: newer: 100}
	}
	host: "shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
}
`, there, outside, inside, plain, believed), map[string][]string{"shop": {"shop.test"}})
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	eventually(t, "the port is there", func() error {
		if e.greet(outside, nil, "") == "" {
			return fmt.Errorf("nothing is said")
		}
		return nil
	})
	front := []byte("PROXY TCP4 203.0.113.7 192.0.2.1 4711 25\r\n")
	for name, x := range map[string]struct {
		port int
		head []byte
		want string
	}{
		"an external":             {outside, nil, "v2 127.0.0.1 hello"},
		"a service":               {inside, nil, "v1 127.0.0.1 hello"},
		"one that asks for none":  {plain, nil, "nothing but hello"},
		"behind a proxy in front": {believed, front, "v2 203.0.113.7 hello"},
		"what a visitor pretends": {inside, front, "v1 127.0.0.1 PROXY TCP4 203.0.113.7 192.0.2.1 4711 25"},
	} {
		if got := e.greet(x.port, x.head, ""); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}
