package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/testca"
)

// An agent makes of the roots in a secret's name what a real Envoy holds certificates against: those of each trust domain for
// that one alone, and the workload's own, also after they have changed, for its own and for those that have none.
func TestOtherTrustDomains(t *testing.T) {
	p := newPlane(t, time.Hour)
	agent := start(t, p.config(t, "shop/api"))
	agent.joined(t)
	partner := testca.New(t)
	der := func(a *testca.Authority) string { return base64.RawURLEncoding.EncodeToString(a.Root.Raw) }
	name := certref.Trust{"partner.example": {der(testca.New(t)), der(partner)}, "alias.example": nil, "mesh.local": {der(partner)}}.String()
	socket := tlsContext("DownstreamTlsContext", "")
	context, _ := socket["typed_config"].(obj)["common_tls_context"].(obj)["combined_validation_context"].(obj)
	context["default_validation_context"] = obj{"match_typed_subject_alt_names": []obj{{"san_type": "URI", "matcher": obj{"prefix": "spiffe://"}}}}
	context["validation_context_sds_secret_config"].(obj)["name"] = name //nolint:forcetypeassert // made above
	at := proxyAddress(t, proxy(t, agent, httpListener("in", answer("in"), socket)), "in")
	uri := func(by *testca.Authority, id string) tls.Certificate {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		return by.Sign(t, &x509.Certificate{URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	ask := func(cert tls.Certificate) bool {
		client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // the proxy's own certificate is not looked at
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		}}}
		res, err := client.Get("https://" + at)
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}
	own, err := loadSVID(agent.cfg.StateDir, identityName)
	if err != nil {
		t.Fatal(err)
	}
	if !ask(*own.tls()) {
		t.Error("a certificate of the mesh is refused")
	}
	for id, want := range map[string]bool{
		"spiffe://partner.example/till":           true,
		"spiffe://mesh.local/ns/shop/sa/api":      false,
		"spiffe://alias.example/ns/shop/sa/api":   false,
		"spiffe://unknown.example/ns/shop/sa/api": false,
	} {
		if got := ask(uri(partner, id)); got != want {
			t.Errorf("%s of the partner's authority: let in %v, want %v", id, got, want)
		}
	}
	if n := agent.metric(t, "sds_refused_total"); n != 0 {
		t.Errorf("Envoy refused %d secrets", n)
	}
}
