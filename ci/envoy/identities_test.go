package envoy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
)

// Callers are who their certificates say that they are, of services or of none: by SPIFFE IDs whose segments fit, in
// no other spelling. At a port of bytes the handshake tells.
func TestIdentitiesAdmitAndRefuse(t *testing.T) {
	w := newCallee(t, `trustDomain: "shop.example"`, `
	grant: {
		machines: {identities: ["spiffe://shop.example/vm/*", "spiffe://shop.example/edge/*/till"], not: identities: ["spiffe://shop.example/vm/old/*", "spiffe://shop.example/vm/lost"]}
		web: {identities: ["spiffe://shop.example/ns/shop/sa/web"], ports: ["http"]}
		raw: {identities: ["spiffe://shop.example/vm/batch", "spiffe://shop.example/ns/*/sa/job"], ports: ["raw"]}
	}
	deny: night: {identities: ["spiffe://shop.example/vm/night/*"], not: identities: ["spiffe://shop.example/vm/night/owl"], ports: ["http"]}
`, "spiffe://shop.example/ns/shop/sa/app")
	for id, want := range map[string]int{ // 0: closed
		"spiffe://shop.example/vm/batch":         200,
		"spiffe://shop.example/vm/a/b":           200,
		"spiffe://shop.example/vm/.a":            200,
		"spiffe://shop.example/vm/a_b-c.D":       200,
		"spiffe://shop.example/vm":               403,
		"spiffe://shop.example/vm/":              403,
		"spiffe://shop.example/vm/a/":            403,
		"spiffe://shop.example/vm/a//b":          403,
		"spiffe://shop.example/vm//a":            403,
		"spiffe://shop.example/vm/..":            403,
		"spiffe://shop.example/vm/./a":           403,
		"spiffe://shop.example/vm/%61":           403,
		"spiffe://shop.example/vm/a?b":           403,
		"spiffe://shop.example/vm/a#b":           403,
		"spiffe://shop.example/VM/a":             403,
		"spiffe://shop.example/x/vm/a":           403,
		"spiffe://shop.example/vm/*":             403,
		"spiffe://SHOP.example/vm/batch":         0,
		"SPIFFE://shop.example/vm/batch":         0,
		"spiffe://shop.example:443/vm/batch":     0,
		"spiffe://x@shop.example/vm/batch":       0,
		"spiffe://shop.example.test/vm/batch":    0,
		"spiffe://shopxexample/vm/batch":         0,
		"spiffe://other.example/vm/batch":        0,
		"spiffe://shop.example/vm/lost":          403,
		"spiffe://shop.example/vm/lost/x":        200,
		"spiffe://shop.example/vm/old":           200,
		"spiffe://shop.example/vm/old/a/b":       403,
		"spiffe://shop.example/edge/berlin/till": 200,
		"spiffe://shop.example/edge/a/b/till":    403,
		"spiffe://shop.example/edge//till":       403,
		"spiffe://shop.example/edge/till":        403,
		"spiffe://shop.example/edge/a/tills":     403,
		"spiffe://shop.example/vm/night/shift":   403,
		"spiffe://shop.example/vm/night/owl":     200,
		"spiffe://shop.example/ns/shop/sa/web":   200,
		"spiffe://shop.example/ns/shop/sa/we":    403,
		"spiffe://shop.example/ns/shop/sa/web/x": 403,
	} {
		w.expect(t, id, want)
	}
	for id, want := range map[string]bool{
		"spiffe://shop.example/vm/batch":        true,
		"spiffe://shop.example/vm/batch/":       false,
		"spiffe://shop.example/vm/other":        false,
		"spiffe://shop.example/ns/a/sa/job":     true,
		"spiffe://shop.example/ns/a/b/sa/job":   false,
		"spiffe://shop.example/ns//sa/job":      false,
		"spiffe://shop.example/ns/a/sa/jobs":    false,
		"spiffe://shop.example/ns/a/sa/job/x":   false,
		"spiffe://other.example/ns/a/sa/job":    false,
		"spiffe://shop.example/ns/shop/sa/web":  false,
		"spiffe://shop.example/ns/a%2fb/sa/job": false,
	} {
		if got := w.greets(t, id); got != want {
			t.Errorf("bytes as %q: greeted %v, want %v", id, got, want)
		}
	}
}

// What refuses reads identities broadly: no spelling that SPIFFE has not gets past.
func TestRefusedIdentitiesAreReadBroadly(t *testing.T) {
	w := newCallee(t, `trustDomain: "shop.example"`, `
	grant: all: {mesh: true, ports: ["http"], not: identities: ["spiffe://shop.example/lost/*"]}
	deny: night: {identities: ["spiffe://shop.example/vm/night/*", "spiffe://shop.example/a/*/b"], ports: ["http"], not: identities: ["spiffe://shop.example/vm/night/owl/*"]}
`, "spiffe://shop.example/ns/shop/sa/app")
	for id, want := range map[string]int{
		"spiffe://shop.example/vm/night":         200,
		"spiffe://shop.example/vm/nightly":       200,
		"spiffe://shop.example/vm/night/a":       403,
		"spiffe://shop.example/vm/night/":        403,
		"spiffe://shop.example/vm/night//a":      403,
		"spiffe://shop.example/vm/night/%61":     403,
		"spiffe://shop.example/vm/night/a?b":     403,
		"spiffe://shop.example/vm/night/..":      403,
		"spiffe://shop.example/vm/night/owl":     403,
		"spiffe://shop.example/vm/night/owl/a":   200,
		"spiffe://shop.example/vm/night/owl/":    403,
		"spiffe://shop.example/vm/night/owl/a/":  403,
		"spiffe://shop.example/vm/night/owl/%61": 403,
		"spiffe://shop.example/a//b":             403,
		"spiffe://shop.example/a/x%2fy/b":        403,
		"spiffe://shop.example/a/x/y/b":          200,
		"spiffe://shop.example/lost/":            403,
		"spiffe://shop.example/lost/a?b":         403,
		"spiffe://shop.example/lost":             200,
	} {
		w.expect(t, id, want)
	}
}

// callee is a real proxy of the service shop/app, at addresses of this machine, that trusts one authority.
type callee struct {
	mesh      issuer
	http, raw int
	program   *compiler.Program
}

// newCallee starts it. about is what the root package says, and app what the service does. Its port "http" answers 200 and its port "raw" speaks first.
func newCallee(t *testing.T, about, app, identity string) *callee {
	t.Helper()
	w := &callee{mesh: newIssuer(t, "mesh")}
	var ports [4]int
	for i := range ports {
		p, err := freeport.Next()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = int(p)
	}
	w.http, w.raw = ports[0], ports[1]
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[2]))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	talk, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[3]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = talk.Close() })
	go func() {
		for c, err := talk.Accept(); err == nil; c, err = talk.Accept() {
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	}()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	program, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: {environment: local: capture: \"explicit\"\n" + about + "}\n")},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + fmt.Sprintf(`mesh: namespace: "shop"
mesh: service: app: {
	port: {http: {number: 80, main: true}, raw: {number: 81, protocol: "tcp", speaks: "server"}}
	version: default: {endpoints: static: [], port: {http: {address: "127.0.0.1:%d", app: %d}, raw: {address: "127.0.0.1:%d", app: %d}}}
%s}
`, ports[0], ports[2], ports[1], ports[3], app))},
	}, compiler.Options{At: compileDate(), Environment: "local"})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	w.program = program
	rel, ds := program.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	w.start(t, rel, identity)
	return w
}

func (w *callee) start(t *testing.T, rel release.Release, identity string) {
	t.Helper()
	rs, err := compiler.Resources(rel, release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"})
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
	chain, key := testca.PEM(t, w.as(t, identity))
	static, _ := boot["static_resources"].(map[string]any)
	text := func(s string) map[string]any { return map[string]any{"inline_string": s} }
	static["secrets"] = []any{
		map[string]any{"name": "default", "tls_certificate": map[string]any{"certificate_chain": text(string(chain)), "private_key": text(string(key))}},
		map[string]any{"name": "ROOTCA", "validation_context": map[string]any{"trusted_ca": text(w.mesh.pem())}},
	}
	withoutAgent(static)
	if raw, err = json.Marshal(boot); err != nil {
		t.Fatal(err)
	}
	proxy, err := envoybin.Start(t.Context(), realEnvoy(t), raw, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
}

// as is a certificate with the URI as it is spelt, which no library of URLs has touched.
func (w *callee) as(t *testing.T, uri string) tls.Certificate {
	t.Helper()
	return w.mesh.uri(t, uri)
}

// uri makes a certificate with that one name, for both sides of a connection.
func (i issuer) uri(t *testing.T, uri string) tls.Certificate {
	t.Helper()
	const ofURI = 6 // RFC 5280 section 4.2.1.6
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: ofURI, Bytes: []byte(uri)}})
	if err != nil {
		t.Fatal(err)
	}
	return i.Sign(t, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names}},
	})
}

func (w *callee) dial(t *testing.T, port int, uri, alpn string) (*tls.Conn, error) {
	t.Helper()
	cert := w.as(t, uri)
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{alpn}, //nolint:gosec // the proxy's own certificate is not looked at
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return conn, err
}

// expect asks as somebody with that URI, and holds the answer against the evaluator's: 0 is a connection that is closed.
func (w *callee) expect(t *testing.T, uri string, want int) {
	t.Helper()
	got := 0
	if conn, err := w.dial(t, w.http, uri, "http/1.1"); err == nil {
		_, _ = io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: app.shop\r\n\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			got = res.StatusCode
			_ = res.Body.Close()
		}
		_ = conn.Close()
	}
	if got != want {
		t.Errorf("as %q: %d, want %d", uri, got, want)
	}
	if !strings.HasPrefix(uri, "spiffe://") {
		return // nobody can ask the evaluator as him
	}
	said, err := w.program.Decide(compiler.Request{From: uri, To: "shop/app", Port: "http", Method: "GET", Path: "/a"})
	if err != nil {
		t.Fatal(err)
	}
	status := said.Status
	if status == 0 && !said.Closed {
		status = http.StatusOK
	}
	if status != want {
		t.Errorf("as %q: the evaluator says %d (%s), want %d", uri, status, said.Words(), want)
	}
}

// greets reports whether the port of bytes says something to somebody with that URI.
func (w *callee) greets(t *testing.T, uri string) bool {
	t.Helper()
	conn, err := w.dial(t, w.raw, uri, "meshc")
	if err != nil {
		return false
	}
	defer conn.Close()
	heard, _ := io.ReadAll(conn)
	return string(heard) == "hello"
}
