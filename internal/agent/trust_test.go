package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

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
	name := certref.Trust{"partner.example": {der(testca.New(t)), der(partner)}, "alias.example": nil, "broken.example": {"AAAA"}, "mesh.local": {der(partner)}}.String()
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

// What Envoy refuses of others' roots costs the mesh's own callers nothing.
func TestRefusedTrustDomainsAreClosed(t *testing.T) {
	p := newPlane(t, time.Hour)
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	name := certref.Trust{"partner.example": {base64.RawURLEncoding.EncodeToString(testca.New(t).Root.Raw)}, "alias.example": nil}.String()
	s, err := secretv3.NewSecretDiscoveryServiceClient(unix(t, r.cfg.SDSSocket)).DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	domains := func(ask *discoveryv3.DeltaDiscoveryRequest) (out []string, nonce string) {
		t.Helper()
		if err := s.Send(ask); err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		v := new(tlsv3.SPIFFECertValidatorConfig)
		if err := decode(t, m.GetResources()[0].GetResource()).GetValidationContext().GetCustomValidatorConfig().GetTypedConfig().UnmarshalTo(v); err != nil {
			t.Fatal(err)
		}
		for _, d := range v.GetTrustDomains() {
			out = append(out, d.GetName())
		}
		return out, m.GetNonce()
	}
	got, nonce := domains(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: []string{name}})
	if want := []string{"mesh.local", "alias.example", "partner.example"}; !slices.Equal(got, want) {
		t.Errorf("trust domains %v, want %v", got, want)
	}
	got, _ = domains(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}})
	if want := []string{"mesh.local", "alias.example"}; !slices.Equal(got, want) {
		t.Errorf("once refused, trust domains %v, want %v", got, want)
	}
}
