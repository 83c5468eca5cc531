package envoy

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/certref"
)

const trustedUntil = `owner: "platform", reason: "the company has a new name", until: "2027-02-01T00:00:00Z"`

// A trust domain that is taken for the mesh's own is so for both sides of a connection, and its authority signs for nothing
// else: neither for the mesh's own trust domain nor the other way round.
func TestAnAliasIsTheMeshItself(t *testing.T) {
	old := newIssuer(t, "old")
	w := newPair(t, `trustDomain: "new.example", aliases: "old.example": {bundle: file: "old.pem", `+trustedUntil+`}`, "", "", `
	grant: {
		web: {from: ["web"], paths: ["/named"]}
		space: {namespaces: ["shop"], paths: ["/space"]}
		batch: {identities: ["spiffe://new.example/vm/batch", "spiffe://old.example/vm/night"], paths: ["/batch"]}
		all: {mesh: true, paths: ["/all"]}
	}
	deny: night: {identities: ["spiffe://new.example/vm/late"], paths: ["/all"]}`, "old.pem", old.pem())
	for _, c := range []struct {
		by       issuer
		shows    string
		asBy     issuer
		as, path string
		want     int
	}{
		{w.mesh, "spiffe://new.example/ns/shop/sa/app", w.mesh, "spiffe://new.example/ns/shop/sa/web", "/named", 200},
		{old, "spiffe://old.example/ns/shop/sa/app", old, "spiffe://old.example/ns/shop/sa/web", "/named", 200},
		{w.mesh, "spiffe://new.example/ns/shop/sa/app", old, "spiffe://old.example/ns/shop/sa/web", "/space", 200},
		{old, "spiffe://old.example/ns/shop/sa/app", w.mesh, "spiffe://new.example/ns/shop/sa/web", "/named", 200},
		{old, "spiffe://new.example/ns/shop/sa/app", w.mesh, "spiffe://new.example/ns/shop/sa/web", "/named", 503},
		{w.mesh, "spiffe://old.example/ns/shop/sa/app", w.mesh, "spiffe://new.example/ns/shop/sa/web", "/named", 503},
		{w.mesh, "spiffe://new.example/ns/shop/sa/app", old, "spiffe://new.example/ns/shop/sa/web", "/named", 503},
	} {
		if got := w.ask(t, "app", c.by.uri(t, c.shows), "web", c.asBy.uri(t, c.as), c.path); got != c.want {
			t.Errorf("%s asks %s for %s: %d, want %d", c.as, c.shows, c.path, got, c.want)
		}
	}
	defer w.proxy(t, "app", w.mesh.uri(t, "spiffe://new.example/ns/shop/sa/app"))()
	for _, c := range []struct {
		by       issuer
		as, path string
		want     int // 0: closed
	}{
		{old, "spiffe://old.example/vm/batch", "/batch", 200},
		{old, "spiffe://old.example/vm/night", "/batch", 200},
		{w.mesh, "spiffe://new.example/vm/night", "/batch", 200},
		{old, "spiffe://old.example/vm/other", "/batch", 403},
		{old, "spiffe://old.example/vm/other", "/all", 200},
		{old, "spiffe://old.example/vm/late", "/all", 403},
		{w.mesh, "spiffe://new.example/vm/late", "/all", 403},
		{old, "spiffe://new.example/vm/batch", "/batch", 0},
		{w.mesh, "spiffe://old.example/vm/batch", "/batch", 0},
		{old, "spiffe://older.example/vm/batch", "/batch", 0},
	} {
		w.comes(t, c.by, c.as, c.path, c.want)
	}
}

// A trust domain of others is let in where a grant names it, by certificates of its own authority alone, and a port whose
// grants do not name it takes none of them.
func TestForeignersAreWhoTheirAuthoritySays(t *testing.T) {
	partner, other := newIssuer(t, "partner"), newIssuer(t, "other")
	w := newPair(t, `trustDomain: "shop.example", federation: {"partner.example": bundle: file: "partner.pem", "other.example": bundle: file: "other.pem"}`, "", "", `
	grant: {
		partner: {identities: ["spiffe://partner.example/ns/pay/sa/*"], paths: ["/pay/*"]}
		other: {identities: ["spiffe://other.example/batch"], paths: ["/batch"]}
		own: {mesh: true, paths: ["/all"]}
	}
	deny: late: {identities: ["spiffe://partner.example/ns/pay/sa/late"]}`, "partner.pem", partner.pem(), "other.pem", other.pem())
	stop := w.proxy(t, "app", w.mesh.uri(t, "spiffe://shop.example/ns/shop/sa/app"))
	for _, c := range []struct {
		by       issuer
		as, path string
		want     int
	}{
		{partner, "spiffe://partner.example/ns/pay/sa/till", "/pay/1", 200},
		{partner, "spiffe://partner.example/ns/pay/sa/till", "/all", 403},
		{partner, "spiffe://partner.example/ns/pay/sa/late", "/pay/1", 403},
		{partner, "spiffe://partner.example/ns/pay", "/pay/1", 403},
		{partner, "spiffe://shop.example/ns/shop/sa/web", "/all", 0},
		{partner, "spiffe://other.example/batch", "/batch", 0},
		{other, "spiffe://other.example/batch", "/batch", 200},
		{other, "spiffe://partner.example/ns/pay/sa/till", "/pay/1", 0},
		{other, "spiffe://shop.example/ns/shop/sa/web", "/all", 0},
		{w.mesh, "spiffe://shop.example/ns/shop/sa/web", "/all", 200},
		{w.mesh, "spiffe://shop.example/ns/shop/sa/web", "/pay/1", 403},
		{w.mesh, "spiffe://partner.example/ns/pay/sa/till", "/pay/1", 0},
		{partner, "spiffe://third.example/ns/pay/sa/till", "/pay/1", 0},
	} {
		w.comes(t, c.by, c.as, c.path, c.want)
	}
	stop()
	closed := newPair(t, `trustDomain: "shop.example", federation: "partner.example": bundle: file: "partner.pem"`, "", "", `
	grant: own: {mesh: true}`, "partner.pem", partner.pem())
	defer closed.proxy(t, "app", closed.mesh.uri(t, "spiffe://shop.example/ns/shop/sa/app"))()
	closed.comes(t, closed.mesh, "spiffe://shop.example/ns/shop/sa/web", "/all", 200)
	closed.comes(t, partner, "spiffe://partner.example/ns/pay/sa/till", "/all", 0)
}

// Who still comes in plaintext, and who by which account, the callee's metrics tell: what says when the old way may be closed.
func TestMetricsTellWhoComesTheOldWay(t *testing.T) {
	w := newPair(t, `telemetry: metrics: {}`, `serviceAccount: "front", formerAccounts: web: {`+trustedUntil+"}", `mtls: {mode: "permissive", `+trustedUntil+`}`, `
	grant: {
		web: from: ["web"]
		hosts: {plaintext: true, sources: ["127.0.0.0/8"]}
	}`)
	proxy := w.run(t, "app", w.mesh.uri(t, "spiffe://mesh.local/ns/shop/sa/app"))
	defer proxy.Stop()
	w.comes(t, w.mesh, "spiffe://mesh.local/ns/shop/sa/front", "/", 200)
	w.comes(t, w.mesh, "spiffe://mesh.local/ns/shop/sa/web", "/", 200)
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", w.http))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("in plaintext: %v, %v", res, err)
	}
	_ = res.Body.Close()
	missing := func() []string {
		page, err := proxy.Admin(t.Context(), "/stats/prometheus")
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, caller := range []string{"", "spiffe://mesh.local/ns/shop/sa/front", "spiffe://mesh.local/ns/shop/sa/web"} {
			if !regexp.MustCompile(`envoy_meshc_requests_total\{[^}]*caller="` + caller + `"[^}]*\} 1\n`).Match(page) {
				out = append(out, caller)
			}
		}
		return out
	}
	for end := time.Now().Add(20 * time.Second); len(missing()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the metrics do not tell of %q", missing())
		}
	}
}

// comes lets somebody with a certificate of an authority ask the callee's proxy, and holds the answer against the evaluator's
// where it is not the authority that refuses him.
func (w *pair) comes(t *testing.T, by issuer, as, path string, want int) {
	t.Helper()
	cert := by.uri(t, as)
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // the proxy's own certificate is not looked at
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}}}
	got := 0
	if res, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", w.http, path)); err == nil {
		got = res.StatusCode
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if got != want {
		t.Errorf("%s for %s: %d, want %d", as, path, got, want)
	}
	if want == 0 {
		return
	}
	said, err := w.program.Decide(compiler.Request{From: as, To: "shop/app", Method: "GET", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	status := said.Status
	if status == 0 && !said.Closed {
		status = http.StatusOK
	}
	if status != want {
		t.Errorf("%s for %s: the evaluator says %d (%s), want %d", as, path, status, said.Words(), want)
	}
}

// trusts are the secrets that an agent makes of the names of them in a configuration: the mesh's own roots, and those of
// others beside them, each for its own trust domain.
func (w *pair) trusts(configuration []byte) []any {
	var out []any
	seen := map[string]bool{}
	for _, found := range regexp.MustCompile(`"(trust/[^"]*)"`).FindAllSubmatch(configuration, -1) {
		name := string(found[1])
		roots, ok := certref.ParseTrust(name)
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		domains := []any{map[string]any{"name": w.domain(), "trust_bundle": map[string]any{"inline_string": w.mesh.pem()}}}
		for domain, certificates := range roots {
			text := ""
			for _, der := range certificates {
				text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			}
			domains = append(domains, map[string]any{"name": domain, "trust_bundle": map[string]any{"inline_string": text}})
		}
		out = append(out, map[string]any{"name": name, "validation_context": map[string]any{"custom_validator_config": map[string]any{
			"name": "envoy.tls.cert_validator.spiffe",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig", "trust_domains": domains,
			},
		}}})
	}
	return out
}

// domain is the mesh's own trust domain, as the release says it.
func (w *pair) domain() string {
	raw, ok := w.rel.Artifact("mesh.json")
	var m struct {
		TrustDomain string `json:"trust_domain"`
	}
	if !ok || json.Unmarshal(raw, &m) != nil {
		panic("a release without a mesh")
	}
	return m.TrustDomain
}
