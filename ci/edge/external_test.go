package edge

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"meshc.dev/meshc/internal/testca"
)

// An external that asks for a certificate gets the one that is written for it, and no other does.
func TestAnExternalIsShownItsCertificate(t *testing.T) {
	by := partners(t)
	outside := func(name string, ask tls.ClientAuthType) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown := "nobody"
			if cs := r.TLS.PeerCertificates; len(cs) > 0 {
				shown = cs[0].DNSNames[0]
			}
			w.Header().Set("Shown", shown)
			_, _ = io.WriteString(w, "{}")
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: ask, ClientCAs: by.Pool,
			Certificates: []tls.Certificate{by.Sign(t, &x509.Certificate{DNSNames: []string{name}})}}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	e := open(t, fmt.Sprintf(`
mesh: certificate: {own: file: "own", missing: file: "missing"}
mesh: external: {
	asks: {hosts: ["asks.test"], port: https: number: 443, endpoints: static: [%q], tls: {roots: "corp", client: "own"}}
	nosy: {hosts: ["nosy.test"], port: https: number: 443, endpoints: static: [%q], tls: roots: "corp"}
	bare: {hosts: ["bare.test"], port: https: number: 443, endpoints: static: [%q], tls: roots: "corp"}
	lost: {hosts: ["lost.test"], port: https: number: 443, endpoints: static: [%q], tls: {roots: "corp", client: "missing"}}
}
mesh: gateway: edge: host: {
	"asks.example": route: all: to: asks: 100
	"nosy.example": route: all: to: nosy: 100
	"bare.example": route: all: to: bare: 100
	"lost.example": route: all: to: lost: 100
}
`, outside("asks.test", tls.RequireAndVerifyClientCert), outside("nosy.test", tls.RequestClientCert), outside("bare.test", tls.RequireAndVerifyClientCert), outside("lost.test", tls.RequestClientCert)), nil)
	if err := os.WriteFile(filepath.Join(e.dir, "corp.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: by.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	chain, key := testca.PEM(t, visitor(t, by, "us.test"))
	e.put("own", pair{chain, key, "1"})
	shown := func(host string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", e.plain), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("Shown")
	}
	eventually(t, "the certificate is shown", func() error {
		if status, who := shown("asks.example"); status != http.StatusOK || who != "us.test" {
			return fmt.Errorf("%d %s", status, who)
		}
		return nil
	})
	for host, want := range map[string]string{"nosy.example": "200 nobody", "bare.example": "503 ", "lost.example": "503 "} {
		status, who := shown(host)
		if got := fmt.Sprintf("%d %s", status, who); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}
