package pods

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const leaving = `
package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"

#Open: {owner: "shop", reason: "what it calls is declared next", until: "2099-01-01T00:00:00Z", ...}
#Caller: {port: http: number: 80, calls: {echo: {}, safe: {}, held: {}}, ...}

mesh: service: {
	shut: #Caller
	shadow: #Caller & {egress: #Open & {mode: "shadow"}}
	off: #Caller & {egress: #Open & {mode: "off"}}
	echo: {port: http: number: 80, version: v1: port: http: app: 8080, grant: all: mesh: true}
	safe: {port: http: number: 80, serviceAccount: "echo", version: v1: port: http: app: 8081}
	vault: {port: {http: {number: 80, main: true}, other: number: 8082}, serviceAccount: "echo", version: v1: port: {http: app: 8082, other: app: 8083}, grant: none: from: ["vault"]}
}
mesh: external: {
	held: {hosts: ["held.example"], port: api: {number: 8443, protocol: "tls"}}
	bank: {hosts: ["bank.example"], port: api: {number: 443, protocol: "https"}}
	ledger: {hosts: ["ledger.example"], port: http: {number: 8090, protocol: "http"}}
	store: {addresses: ["10.96.1.5"], endpoints: static: ["10.96.1.6:5432"], port: sql: {number: 5432, protocol: "tcp"}}
}
`

// storeIP is what an external declares; nobody calls it.
const storeIP = "10.96.1.5"

// TestUndeclared sends to what nobody declares, and to what is declared and not called, from pods of which one keeps
// closed what nobody declares, one counts it, and one lets it out.
func TestUndeclared(t *testing.T) {
	n := newNode(t)
	m := newMesh(t, fstest.MapFS{"shop/shop.cue": &fstest.MapFile{Data: []byte(strings.TrimSpace(leaving))}})
	callers := map[string]*pod{"shut": n.pod(t, "shut"), "shadow": n.pod(t, "shadow"), "off": n.pod(t, "off")}
	echo, stranger := n.pod(t, "echo"), n.pod(t, "x")
	echo.web(t, "echo", "[::]:8080", "[::]:8081", "[::]:8082", "[::]:8083")
	stranger.web(t, "stranger", "[::]:80", "[::]:7070", "[::]:8090", "[::]:8083")
	stranger.talker(t, "stranger", "[::]:1234", "[::]:5432", "[::]:8082")
	stranger.secret(t, "[::]:443", "[::]:8443", "[::]:9443")
	n.service(t, storeIP, 5432, 5432, stranger)
	eds := map[string][]string{"shop/echo/http/v1": echo.at(8080)[:1], "shop/safe/http/v1": echo.at(8081)[:1]}
	for class, p := range callers {
		m.sidecar(t, p, "sidecar/shop/"+class, eds)
	}
	m.sidecar(t, echo, "sidecar/shop/echo", eds)

	const broken = 0
	for mode, from := range callers {
		open := mode != "shut"
		either := func(opened, shut int) int {
			if open {
				return opened
			}
			return shut
		}
		for i, family := range []string{"IPv4", "IPv6"} {
			at := func(p *pod, port int) string { return p.at(port)[i] }
			for name, c := range map[string]struct {
				address, host string
				status        int
				answers       string
			}{
				"requests, where nobody declares any":      {at(stranger, 7070), "old.example", either(200, broken), "stranger"},
				"requests, beside those that it calls":     {at(stranger, 80), "old.example", either(200, 404), "stranger"},
				"requests, beside those that others call":  {at(stranger, 8090), "old.example", either(200, broken), "stranger"},
				"requests to an address":                   {at(stranger, 8090), at(stranger, 8090), either(200, broken), "stranger"},
				"requests to an address, beside its calls": {at(stranger, 80), at(stranger, 80), 503, ""},
				"what it calls":                            {at(stranger, 80), "echo", 200, "echo"},
				"what it calls and no grant allows":        {at(stranger, 80), "safe", 403, ""},
				"a service that it does not call":          {at(stranger, 80), "vault", 404, ""},
				"the same by a longer name":                {at(stranger, 80), "vault.shop.svc.cluster.local:80", 404, ""},
				"the same at another port":                 {at(stranger, 8082), "vault", either(404, broken), ""},
				"an external that it does not call":        {at(stranger, 8090), "ledger.example", either(404, broken), ""},
				"the same at another port, undeclared":     {at(stranger, 7070), "ledger.example", either(200, broken), "stranger"},
				"the same, which begins TLS, in plaintext": {at(stranger, 80), "bank.example", 404, ""},
				"a pod that it does not call, by address":  {at(echo, 8082), at(echo, 8082), either(503, broken), ""},
				"the same, by a name that nobody has":      {at(echo, 8083), "old.example", broken, ""},
			} {
				t.Run(strings.Join([]string{mode, family, name}, "/"), func(t *testing.T) {
					got, err := from.ask(t.Context(), c.address, c.host)
					if (err != nil) != (c.status == broken) || err == nil && (got.Status != c.status || c.status == 200 && got.Name != c.answers) {
						t.Errorf("%+v, %v", got, err)
					}
				})
			}
			for name, c := range map[string]struct {
				address string
				greeted bool
			}{
				"bytes, where nobody declares any":              {at(stranger, 1234), open},
				"bytes, where an external has an address":       {at(stranger, 5432), open},
				"bytes, where requests of others are":           {at(stranger, 8082), open},
				"the sidecar's own port, from its application":  {net.JoinHostPort([]string{"127.0.0.1", "::1"}[i], "15001"), false},
				"the sidecar's own port, from its pod":          {at(from, 15001), false},
				"the outbound port of another pod's sidecar":    {at(echo, 15001), false},
				"a port of another pod that nobody declares":    {at(echo, 5555), false},
				"an external's address that it does not call":   {storeIP + ":5432", false},
				"an external's endpoint that it does not call":  {"10.96.1.6:5432", false},
				"nobody, where nothing is declared and nothing": {at(stranger, 4321), false},
			} {
				t.Run(strings.Join([]string{mode, family, name}, "/"), func(t *testing.T) {
					got, err := from.greet(t.Context(), c.address, 12*time.Second)
					if err != nil || (got == "stranger") != c.greeted {
						t.Errorf("greeted by %q: %v", got, err)
					}
				})
			}
			for name, c := range map[string]struct {
				port   int
				asks   string
				passes bool
			}{
				"TLS, where nobody declares any":                    {9443, "old.example", open},
				"TLS, beside an external's":                         {443, "old.example", open},
				"TLS that asks for no name":                         {443, "", open},
				"TLS that asks for an external that it calls not":   {443, "bank.example", false},
				"TLS beside what it calls":                          {8443, "old.example", open},
				"TLS at a port where nobody declares that external": {9443, "bank.example", open},
			} {
				t.Run(strings.Join([]string{mode, family, name}, "/"), func(t *testing.T) {
					if err := from.shake(t.Context(), at(stranger, c.port), c.asks); (err == nil) != c.passes {
						t.Error(err)
					}
				})
			}
		}
		t.Run(mode+"/counted", func(t *testing.T) {
			got := from.counters(t, "undeclared")
			if sum := got["cluster.undeclared/shadow.upstream_cx_total"]; (sum > 10) != (mode == "shadow") {
				t.Errorf("%v", got)
			}
			if mode == "shut" && len(got) > 0 {
				t.Errorf("%v", got)
			}
			if n := from.counters(t, "listener.*15001")["listener.[__]_15001.downstream_cx_total"]; mode == "shut" && n < 10 {
				t.Errorf("closed, and %d counted", n)
			}
		})
	}
}

// counters are those of the pod's proxy whose names fit.
func (p *pod) counters(t *testing.T, filter string) map[string]int {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) }}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:15000/stats?type=Counters&usedonly&filter="+filter, nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Body.Close()
	b, err := io.ReadAll(x.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.Atoi(value); ok && err == nil {
			out[name] = n
		}
	}
	return out
}

// secret is an application of TLS of its own.
func (p *pod) secret(t *testing.T, addresses ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"old.example", "bank.example"}}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, a := range addresses {
		l := tls.NewListener(p.listen(t, a), config)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
}

// shake begins TLS that asks for a name, and has a word returned.
func (p *pod) shake(ctx context.Context, address, asks string) error {
	raw, err := p.dial(ctx, address)
	if err != nil {
		return err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	c := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: asks, InsecureSkipVerify: true}) //nolint:gosec // which name is asked for is the question
	if _, err := io.WriteString(c, "word"); err != nil {
		return err
	}
	word := make([]byte, 4)
	if _, err := io.ReadFull(c, word); err != nil || string(word) != "word" {
		return fmt.Errorf("returned %q: %w", word, err)
	}
	return nil
}
