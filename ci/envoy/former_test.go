package envoy

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
)

// While an account is a former one of a service, callers take the service's proxies with it, and the service is let in with it
// where it is named. Nobody else is taken for it, and afterwards neither is it.
func TestFormerAccountsAreTakenBothWays(t *testing.T) {
	const former = `{owner: "shop", reason: "pods are being made anew", until: "2027-02-01T00:00:00Z"}`
	w := newPair(t, "", `serviceAccount: "front", formerAccounts: web: `+former, "formerAccounts: legacy: "+former, `
	grant: web: {from: ["web"], paths: ["/named"]}
	grant: literally: {accounts: ["shop/front"], paths: ["/literally"]}`)
	const td = "spiffe://mesh.local/ns/shop/sa/"
	for _, c := range []struct {
		callee, shows, caller, as string
		path                      string
		want                      int
	}{
		{"app", td + "app", "front", td + "front", "/named", 200},
		{"app", td + "app", "web", td + "web", "/named", 200},
		{"legacy", td + "legacy", "front", td + "front", "/named", 200},
		{"legacy", td + "legacy", "web", td + "web", "/named", 200},
		{"app", td + "app", "front", td + "front", "/literally", 200},
		{"app", td + "app", "web", td + "web", "/literally", 403},
		{"app", td + "app2", "front", td + "front", "/named", 503},
		{"app", td + "app", "front", td + "web2", "/named", 403},
	} {
		if got := w.ask(t, c.callee, w.mesh.uri(t, c.shows), c.caller, w.mesh.uri(t, c.as), c.path); got != c.want {
			t.Errorf("%s, proving %s, asks %s, proving %s, for %s: %d, want %d", c.caller, c.as, c.callee, c.shows, c.path, got, c.want)
		}
	}
}

// pair is a caller and a callee, shop/web and shop/app, each with a proxy of its own whenever they are asked.
type pair struct {
	mesh    issuer
	rel     release.Release
	program *compiler.Program
	at      int // where the caller's proxy takes what is for the callee
	http    int // where the callee's proxy listens
}

// newPair compiles a mesh: about is what the root package says, web and app what the caller and the callee do.
func newPair(t *testing.T, about, web, app, grants string, files ...string) *pair {
	t.Helper()
	w := &pair{mesh: newIssuer(t, "mesh")}
	var ports [4]int
	for i := range ports {
		p, err := freeport.Next()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = int(p)
	}
	w.http, w.at = ports[0], ports[2]
	application := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", ports[1]), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = application.ListenAndServe() }()
	t.Cleanup(func() { _ = application.Close() })
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	repo := fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: {environment: local: capture: \"explicit\"\n" + about + "}\n")},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + fmt.Sprintf(`mesh: namespace: "shop"
mesh: service: web: {port: http: number: 80, version: default: {endpoints: static: [], port: http: address: "127.0.0.1:%d"}, calls: app: local: %d, %s}
mesh: service: app: {
	port: http: number: 81
	version: default: {endpoints: static: [], port: http: {address: "127.0.0.1:%d", app: %d}}
	%s
	%s
}
`, ports[3], ports[2], web, ports[0], ports[1], app, grants))},
	}
	for i := 0; i+1 < len(files); i += 2 {
		repo[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	program, ds := compiler.Load(repo, compiler.Options{At: compileDate(), Environment: "local"})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	if w.rel, ds = program.Release(); ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	w.program = program
	return w
}

// ask lets the caller's proxy, which is served as an account and shows a certificate, ask the callee's for a path.
func (w *pair) ask(t *testing.T, callee string, shows tls.Certificate, caller string, as tls.Certificate, path string) int {
	t.Helper()
	defer w.proxy(t, callee, shows)()
	defer w.proxy(t, caller, as)()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", w.at, path))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// proxy starts the proxy of an account with a certificate, and gives what ends it.
func (w *pair) proxy(t *testing.T, account string, shows tls.Certificate) func() {
	t.Helper()
	return w.run(t, account, shows).Stop
}

func (w *pair) run(t *testing.T, account string, shows tls.Certificate) *envoybin.Process {
	t.Helper()
	rs, err := compiler.Resources(w.rel, release.Class{Role: release.Sidecar, Namespace: "shop", Account: account})
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
	static, _ := boot["static_resources"].(map[string]any)
	chain, key := testca.PEM(t, shows)
	text := func(s string) map[string]any { return map[string]any{"inline_string": s} }
	secrets := []any{
		map[string]any{"name": "default", "tls_certificate": map[string]any{"certificate_chain": text(string(chain)), "private_key": text(string(key))}},
		map[string]any{"name": "ROOTCA", "validation_context": map[string]any{"trusted_ca": text(w.mesh.pem())}},
	}
	static["secrets"] = append(secrets, w.trusts(raw)...)
	withoutAgent(static)
	if raw, err = json.Marshal(boot); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(`"sds_config"`)) {
		t.Fatal("a secret is still asked for")
	}
	p, err := envoybin.Start(t.Context(), realEnvoy(t), raw, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
