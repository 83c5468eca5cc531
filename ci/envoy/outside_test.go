package envoy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
)

// issuer is an authority of the world outside.
type issuer struct{ *testca.Authority }

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	return issuer{testca.Of(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageCertSign})}
}

// pem is the authority's certificate.
func (i issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Root.Raw}))
}

// server makes the certificate of a server with these names.
func (i issuer) server(t *testing.T, expired bool, names ...string) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if expired {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	return i.Sign(t, c)
}

// api is a server outside that notes what it is asked.
type api struct {
	addr string

	mu    sync.Mutex
	asked []string // names that were asked for at handshakes
	hosts []string // of requests
	proto string   // of the last request
}

// newAPI serves HTTP by TLS as config says.
func newAPI(t *testing.T, config *tls.Config) *api {
	t.Helper()
	a := &api{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.hosts, a.proto = append(a.hosts, r.Host), r.Proto
		_, _ = io.WriteString(w, "outside")
	}))
	certificate := config.Certificates[0]
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, hello.ServerName)
		return nil, nil //nolint:nilnil // the same configuration
	}
	config.Certificates = []tls.Certificate{certificate}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
	s.TLS = config
	s.StartTLS()
	t.Cleanup(s.Close)
	a.addr = s.Listener.Addr().String()
	return a
}

func (a *api) requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.hosts)
}

// outside is a workload's proxy that calls externals.
type outside struct {
	t     *testing.T
	proxy *envoybin.Process
	local map[string]int // by external
}

// callOutside runs the proxy of a service that calls the externals, each written as CUE by its
// name. roots are what the agent would give, by the names of secrets.
func callOutside(t *testing.T, externals map[string]string, roots map[string]string) *outside {
	t.Helper()
	return callOutsideWith(t, externals, roots, func(map[string]any) {})
}

// callOutsideWith is callOutside by a bootstrap that change has changed.
func callOutsideWith(t *testing.T, externals map[string]string, roots map[string]string, change func(map[string]any)) *outside {
	t.Helper()
	o := &outside{t: t, local: map[string]int{}}
	var calls, body strings.Builder
	for name, x := range externals {
		port, err := freeport.Next()
		if err != nil {
			t.Fatal(err)
		}
		o.local[name] = port
		fmt.Fprintf(&calls, "%q: local: %d\n", name, port)
		fmt.Fprintf(&body, "mesh: external: %q: {%s}\n", name, x)
	}
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: environment: host: capture: \"explicit\"\n")},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + "mesh: namespace: \"shop\"\n" +
			"mesh: service: app: {port: http: number: 80, version: default: port: http: {address: \"127.0.0.1:21000\", app: 21001}, calls: {\n" + calls.String() + "}}\n" + body.String())},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	rel, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	rs, err := compiler.Resources(rel, release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := compiler.Bootstrap(slices.DeleteFunc(rs, func(r compiler.Resource) bool {
		return strings.HasPrefix(r.Name, "inbound/") || strings.HasPrefix(r.Name, "app/")
	}))
	if err != nil {
		t.Fatal(err)
	}
	boot := map[string]any{}
	if err := json.Unmarshal(raw, &boot); err != nil {
		t.Fatal(err)
	}
	delete(boot, "dynamic_resources")
	boot["admin"] = map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}}}
	var secrets []any
	for name, pem := range roots {
		secrets = append(secrets, map[string]any{"name": name, "validation_context": map[string]any{"trusted_ca": map[string]any{"inline_string": pem}}})
	}
	static, _ := boot["static_resources"].(map[string]any)
	static["secrets"] = secrets
	giveSecrets(static, roots)
	change(boot)
	if raw, err = json.Marshal(boot); err != nil {
		t.Fatal(err)
	}
	if o.proxy, err = envoybin.Start(t.Context(), realEnvoy(t), raw, envoybin.StartOptions{Until: envoybin.UntilLive}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(o.proxy.Log())
		}
		o.proxy.Stop()
	})
	return o
}

// giveSecrets takes the agent's socket out of references to secrets that are there.
func giveSecrets(v any, have map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if s, ok := v["validation_context_sds_secret_config"].(map[string]any); ok {
			if name, _ := s["name"].(string); have[name] != "" {
				delete(s, "sds_config")
			}
		}
		for _, x := range v {
			giveSecrets(x, have)
		}
	case []any:
		for _, x := range v {
			giveSecrets(x, have)
		}
	}
}

// get asks an external as its caller's application does, in plain HTTP.
func (o *outside) get(external, path string) int {
	o.t.Helper()
	res, err := (&http.Client{Timeout: 20 * time.Second}).Get("http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(o.local[external])) + path)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// counter is a counter of the external's cluster.
func (o *outside) counter(external, name string) int64 {
	o.t.Helper()
	stats, err := o.proxy.Stats(o.t.Context(), "cluster.external/shop/"+external+"/.*"+name)
	if err != nil {
		o.t.Fatal(err)
	}
	var n int64
	for _, v := range stats {
		n += v
	}
	return n
}

// Whoever is called outside proves who it is, or is not called: a request that cannot be
// secret is answered 503 and counted, and nothing of it is seen outside.
func TestExternalsProveWhoTheyAre(t *testing.T) {
	ours, other := newIssuer(t, "ours"), newIssuer(t, "other")
	type external struct {
		words   string // beside endpoints
		cert    tls.Certificate
		max     uint16 // version of TLS that the server speaks
		status  int
		counted string // of refused handshakes
		sni     string
		proto   string
	}
	all := map[string]external{
		"right":     {words: `hosts: ["api.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, false, "api.test"), status: 200, sni: "api.test", proto: "HTTP/1.1"},
		"wildcard":  {words: `hosts: ["api.wild.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, false, "*.wild.test"), status: 200, sni: "api.wild.test", proto: "HTTP/1.1"},
		"h2":        {words: `hosts: ["two.test"], port: api: {number: 443, protocol: "https2"}, tls: roots: "corp"`, cert: ours.server(t, false, "two.test"), status: 200, sni: "two.test", proto: "HTTP/2.0"},
		"named":     {words: `hosts: ["named.test"], port: https: number: 8443, tls: roots: "corp"`, cert: ours.server(t, false, "named.test"), status: 200, sni: "named.test", proto: "HTTP/1.1"},
		"old":       {words: `hosts: ["old.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, false, "old.test"), max: tls.VersionTLS12, status: 200, sni: "old.test", proto: "HTTP/1.1"},
		"pinned":    {words: `hosts: ["front.test"], port: api: number: 443, tls: {roots: "corp", sni: "front.test", sans: ["other.test", "*.behind.test"]}`, cert: ours.server(t, false, "a.behind.test"), status: 200, sni: "front.test", proto: "HTTP/1.1"},
		"system":    {words: `hosts: ["public.test"], port: api: number: 443`, cert: other.server(t, false, "public.test"), status: 200, sni: "public.test", proto: "HTTP/1.1"},
		"wrong":     {words: `hosts: ["wrong.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, false, "api.test"), status: 503, counted: "ssl.fail_verify_san", sni: "wrong.test"},
		"below":     {words: `hosts: ["below.test"], port: api: number: 443, tls: {roots: "corp", sans: ["*.below.test"]}`, cert: ours.server(t, false, "evilbelow.test"), status: 503, counted: "ssl.fail_verify_san", sni: "below.test"},
		"expired":   {words: `hosts: ["expired.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, true, "expired.test"), status: 503, counted: "ssl.fail_verify_error", sni: "expired.test"},
		"stranger":  {words: `hosts: ["stranger.test"], port: api: number: 443, tls: roots: "corp"`, cert: other.server(t, false, "stranger.test"), status: 503, counted: "ssl.fail_verify_error", sni: "stranger.test"},
		"floor":     {words: `hosts: ["floor.test"], port: api: number: 443, tls: {roots: "corp", min: "1.3"}`, cert: ours.server(t, false, "floor.test"), max: tls.VersionTLS12, status: 503, counted: "ssl.connection_error", sni: "floor.test"},
		"ancient":   {words: `hosts: ["ancient.test"], port: api: number: 443, tls: roots: "corp"`, cert: ours.server(t, false, "ancient.test"), max: tls.VersionTLS11, status: 503, counted: "ssl.connection_error", sni: "ancient.test"},
		"rootless":  {words: `hosts: ["rootless.test"], port: api: number: 443, tls: roots: "absent"`, cert: ours.server(t, false, "rootless.test"), status: 503, counted: "upstream_cx_connect_fail"},
		"plaintext": {words: `hosts: ["plain.test"], port: http: number: 80`, cert: ours.server(t, false, "plain.test"), status: 400},
	}
	externals, apis := map[string]string{}, map[string]*api{}
	for name, x := range all {
		apis[name] = newAPI(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: x.max, Certificates: []tls.Certificate{x.cert}}) //nolint:gosec // old versions are the point
		externals[name] = x.words + fmt.Sprintf(`, endpoints: static: [%q], route: default: retry: attempts: 0`, apis[name].addr)
	}
	o := callOutside(t, externals, map[string]string{"roots/corp": ours.pem(), "roots": other.pem()})
	for name, x := range all {
		if got := o.get(name, "/"); got != x.status {
			t.Errorf("%s: answered %d, want %d", name, got, x.status)
		}
		if x.counted != "" && o.counter(name, x.counted) == 0 {
			t.Errorf("%s: %s counts nothing", name, x.counted)
		}
		a := apis[name]
		a.mu.Lock()
		if x.sni != "" && !slices.Equal(slices.Compact(slices.Clone(a.asked)), []string{x.sni}) {
			t.Errorf("%s: asked for the names %q, want %q", name, a.asked, x.sni)
		}
		switch {
		case x.status != http.StatusOK && len(a.hosts) > 0:
			t.Errorf("%s: a request arrived outside", name)
		case x.status == http.StatusOK && (len(a.hosts) != 1 || a.hosts[0] != x.sni || a.proto != x.proto):
			t.Errorf("%s: %s requests to hosts %q, want one %s request to %q", name, a.proto, a.hosts, x.proto, x.sni)
		}
		a.mu.Unlock()
	}
}

// TLS that callers begin themselves goes where the name that they ask for leads: no proxy of ours
// reads what is inside, and what asks for another name, for none, or speaks plaintext is closed.
func TestCallersOwnTLSIsToldByItsName(t *testing.T) {
	ours := newIssuer(t, "ours")
	a := newAPI(t, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ours.server(t, false, "own.test", "a.own.test", "other.test")}})
	o := callOutside(t, map[string]string{
		"own": fmt.Sprintf(`hosts: ["own.test", "*.own.test"], port: own: {number: 443, protocol: "tls"}, endpoints: static: [%q]`, a.addr),
	}, nil)
	for name, want := range map[string]bool{"own.test": true, "a.own.test": true, "OWN.test": true, "other.test": false, "evilown.test": false, "": false} {
		before := a.requests()
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ours.Pool, ServerName: name},
		}}
		at := net.JoinHostPort("127.0.0.1", fmt.Sprint(o.local["own"]))
		res, err := c.Get("https://" + at + "/")
		if err == nil {
			_ = res.Body.Close()
		}
		if got := err == nil; got != want {
			t.Errorf("name %q: %v, want an answer: %v", name, err, want)
		}
		if got := a.requests() > before; got != want {
			t.Errorf("name %q: arrived outside: %v, want %v", name, got, want)
		}
	}
	if res, err := (&http.Client{Timeout: 20 * time.Second}).Get("http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(o.local["own"])) + "/"); err == nil {
		_ = res.Body.Close()
		t.Errorf("plaintext is answered %d, want a closed connection", res.StatusCode)
	}
}
