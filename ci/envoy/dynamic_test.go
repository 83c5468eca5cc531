package envoy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
)

// zone is a name server on loopback.
type zone struct {
	at    *net.UDPAddr
	mu    sync.Mutex
	asked []string
}

// serveNames answers for names with the addresses; for others it says that there are none.
func serveNames(t *testing.T, names map[string]string) *zone {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	z := &zone{at: c.LocalAddr().(*net.UDPAddr)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDP(b)
			if err != nil {
				return
			}
			if answer, err := z.answer(b[:n], names); err == nil {
				_, _ = c.WriteToUDP(answer, from)
			}
		}
	}()
	return z
}

func (z *zone) answer(query []byte, names map[string]string) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
		z.mu.Lock()
		z.asked = append(z.asked, name)
		z.mu.Unlock()
		addr, err := netip.ParseAddr(names[name])
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
		switch {
		case names[name] == "":
			m.RCode = dnsmessage.RCodeNameError
		case err != nil:
			return nil, err
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return m.Pack()
}

// lookUpAt has a proxy ask the name server, and lets it go to loopback, where the origins of a test are; of
// that range 127.9.0.0/16 stays closed.
func lookUpAt(z *zone) func(map[string]any) {
	return func(boot map[string]any) {
		boot["typed_dns_resolver_config"] = map[string]any{"name": "envoy.network.dns_resolver.cares", "typed_config": map[string]any{
			"@type":                "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
			"resolvers":            []any{map[string]any{"socket_address": map[string]any{"address": z.at.IP.String(), "port_value": z.at.Port}}},
			"dns_resolver_options": map[string]any{"no_default_search_domain": true},
		}}
		openLoopback(boot)
	}
}

func openLoopback(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["address_prefix"] == "127.0.0.0" {
			v["address_prefix"], v["prefix_len"] = "127.9.0.0", 16
		}
		for _, x := range v {
			openLoopback(x)
		}
	case []any:
		for _, x := range v {
			openLoopback(x)
		}
	}
}

// origin serves by TLS at an address with a certificate, and tells of the hosts that it was asked for.
func origin(t *testing.T, at string, cert tls.Certificate) *api {
	t.Helper()
	a := &api{}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.hosts = append(a.hosts, r.Host)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, h.ServerName)
		return &cert, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	a.addr = l.Addr().String()
	return a
}

// getAs asks an external for a host in plain HTTP, 0 if there is no answer.
func (o *outside) getAs(external, host string) int {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", o.local[external]), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Host = host
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// Names that an external's hosts cover are looked up as they are asked for; each has to prove itself, and no
// other name, port or address is gone to.
func TestNamesAreLookedUpAsTheyAreAskedFor(t *testing.T) {
	ours := newIssuer(t, "ours")
	one := origin(t, "127.7.7.1:443", ours.server(t, false, "one.s3.test"))
	two := origin(t, "127.7.7.2:443", ours.server(t, false, "two.s3.test", "one.s3.test.evil.test"))
	own := origin(t, "127.7.7.3:0", ours.server(t, false, "own.own.test"))
	_, ownPort, _ := net.SplitHostPort(own.addr)
	z := serveNames(t, map[string]string{
		"one.s3.test": "127.7.7.1", "two.s3.test": "127.7.7.2", "three.s3.test": "127.7.7.1", "a.b.s3.test": "127.7.7.2",
		"loop.s3.test": "127.9.0.1", "meta.s3.test": "169.254.169.254", "zero.s3.test": "0.0.0.0", "six.s3.test": "::1", "mapped.s3.test": "::ffff:127.7.7.1",
		"other.test": "127.7.7.1", "s3.test": "127.7.7.1", "own.own.test": "127.7.7.3", "loop.own.test": "127.9.0.1",
	})
	o := callOutsideWith(t, map[string]string{
		"s3":  `hosts: ["*.s3.test"], endpoints: dynamic: {}, port: api: number: 443, tls: roots: "corp", route: default: retry: attempts: 0`,
		"own": `hosts: ["*.own.test"], endpoints: dynamic: {}, port: own: {number: ` + ownPort + `, protocol: "tls"}`,
	}, map[string]string{"roots/corp": ours.pem()}, lookUpAt(z))
	for host, want := range map[string]int{
		"one.s3.test": 200, "ONE.s3.test": 200, "two.s3.test": 200, "one.s3.test:443": 200,
		"three.s3.test": 503, // proves another name
		"a.b.s3.test":   503,
		"none.s3.test":  503,
		"loop.s3.test":  403, "meta.s3.test": 403, "zero.s3.test": 403, "six.s3.test": 403, "mapped.s3.test": 403,
		"one.s3.test:80": 404, "one.s3.test:8443": 404, "one.s3.test:0443": 404,
		"other.test": 404, "s3.test": 404, "127.7.7.1": 404, "[::1]": 404, "evils3.test": 404, "one.s3.test.evil.test": 404,
	} {
		if got := o.getAs("s3", host); got != want {
			t.Errorf("%s: answered %d, want %d", host, got, want)
		}
	}
	for a, want := range map[*api]string{one: "one.s3.test", two: "two.s3.test"} {
		a.mu.Lock()
		if hosts := slices.Compact(slices.Clone(a.hosts)); len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return strings.TrimSuffix(strings.ToLower(h), ":443") != want }) {
			t.Errorf("%s was asked for the hosts %q, want %q alone", a.addr, hosts, want)
		}
		a.mu.Unlock()
	}
	for name, want := range map[string]bool{"own.own.test": true, "OWN.own.test": true, "loop.own.test": false, "none.own.test": false, "one.s3.test": false, "": false} {
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ours.Pool, ServerName: name},
		}}
		res, err := c.Get(fmt.Sprintf("https://127.0.0.1:%d/", o.local["own"]))
		if err == nil {
			_ = res.Body.Close()
		}
		if got := err == nil; got != want {
			t.Errorf("TLS for %q: %v, want an answer: %v", name, err, want)
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, name := range z.asked {
		if !strings.HasSuffix(name, ".s3.test") && !strings.HasSuffix(name, ".own.test") || strings.HasSuffix(name, "evil.test") {
			t.Errorf("%s was looked up", name)
		}
	}
}

// A gateway on the way out looks names up as callers' proxies do: for those who may call, and for no others.
func TestGatewayLooksNamesUp(t *testing.T) {
	ours, mesh := newIssuer(t, "ours"), newIssuer(t, "mesh")
	one := origin(t, "127.7.8.1:443", ours.server(t, false, "one.s3.test"))
	z := serveNames(t, map[string]string{"one.s3.test": "127.7.8.1", "two.s3.test": "127.7.8.1", "loop.s3.test": "127.9.0.1", "other.test": "127.7.8.1"})
	port, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	p := shop(t, fmt.Sprintf(`mesh: gateway: out: {address: "127.0.0.1", port: mesh: {number: %d, protocol: "mesh"}}
mesh: service: {app: {port: http: number: 80, calls: s3: {}}, other: port: http: number: 80}
mesh: external: s3: {hosts: ["*.s3.test"], endpoints: dynamic: {}, port: api: number: 443, tls: roots: "corp", via: gateway: "out"}
`, port))
	rel, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	class := release.Class{Role: release.Gateway, Namespace: "shop", Account: "out"}
	rs, err := compiler.Resources(rel, class)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := compiler.Bootstrap(rs)
	if err != nil {
		t.Fatal(err)
	}
	boot := map[string]any{}
	if err := json.Unmarshal(raw, &boot); err != nil {
		t.Fatal(err)
	}
	delete(boot, "dynamic_resources")
	boot["admin"] = map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}}}
	identity := func(account string) tls.Certificate {
		id, err := url.Parse(release.Class{Role: release.Sidecar, Namespace: "shop", Account: account}.SPIFFEID("mesh.local"))
		if err != nil {
			t.Fatal(err)
		}
		return mesh.Sign(t, &x509.Certificate{URIs: []*url.URL{id}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	}
	chain, key := testca.PEM(t, identity("out"))
	static, _ := boot["static_resources"].(map[string]any)
	text := func(s string) map[string]any { return map[string]any{"inline_string": s} }
	static["secrets"] = []any{
		map[string]any{"name": "default", "tls_certificate": map[string]any{"certificate_chain": text(string(chain)), "private_key": text(string(key))}},
		map[string]any{"name": "ROOTCA", "validation_context": map[string]any{"trusted_ca": text(mesh.pem())}},
		map[string]any{"name": "roots/corp", "validation_context": map[string]any{"trusted_ca": text(ours.pem())}},
	}
	withoutAgent(static)
	lookUpAt(z)(boot)
	if raw, err = json.Marshal(boot); err != nil {
		t.Fatal(err)
	}
	proxy, err := envoybin.Start(t.Context(), realEnvoy(t), raw, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	for _, c := range []struct {
		as, host string
		status   int
	}{
		{"app", "one.s3.test", 200}, {"app", "one.s3.test:443", 200}, {"app", "one.s3.test:22", 404}, {"app", "two.s3.test", 503}, {"app", "loop.s3.test", 403}, {"app", "other.test", 403}, {"app", "127.7.8.1", 403}, // where no grant is written nobody may
		{"other", "one.s3.test", 403}, {"other", "other.test", 403},
	} {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{identity(c.as)}, ServerName: "api.s3.shop.external",
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		_ = conn.Close()
		if err != nil {
			t.Fatalf("%s for %s: %v", c.as, c.host, err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s for %s: answered %d, want %d", c.as, c.host, res.StatusCode, c.status)
		}
	}
	if n := one.requests(); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
}

// withoutAgent takes the agent's socket out of references to secrets.
func withoutAgent(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "sds_config")
		for _, x := range v {
			withoutAgent(x)
		}
	case []any:
		for _, x := range v {
			withoutAgent(x)
		}
	}
}
