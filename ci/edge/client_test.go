package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"meshc.dev/meshc/internal/certstore"
	"meshc.dev/meshc/internal/testca"
)

// partners sign certificates of visitors.
func partners(t *testing.T) *testca.Authority {
	t.Helper()
	return testca.Of(t, &x509.Certificate{Subject: pkix.Name{CommonName: "partners"}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
}

// visitor is a certificate for a client of that name.
func visitor(t *testing.T, by *testca.Authority, name string) tls.Certificate {
	t.Helper()
	return by.Sign(t, &x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// authorities lays files into the operator's folder, at once.
func (e *edge) authorities(name string, files map[string][]byte) {
	e.t.Helper()
	tmp := filepath.Join(e.dir, fmt.Sprintf(".%s-%d", name, time.Now().UnixNano()))
	link := filepath.Join(e.dir, name)
	err := os.Mkdir(tmp, 0o700)
	for file, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(tmp, file), text, 0o600))
	}
	if err = errors.Join(err, os.Symlink(tmp, link+".new"), os.Rename(link+".new", link)); err != nil {
		e.t.Fatal(err)
	}
}

func roots(as ...*testca.Authority) map[string][]byte {
	var out []byte
	for _, a := range as {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root.Raw})...)
	}
	return map[string][]byte{certstore.RootsName: out}
}

// as is a client that shows a certificate, if it is asked for one.
func (e *edge) as(protocol, sni string, c *tls.Certificate) *http.Client {
	client := e.client(protocol, sni)
	if c != nil {
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{*c}
	}
	return client
}

const partnersOnly = `
mesh: certificate: {shop: file: "shop", partners: file: "partners", missing: file: "missing"}
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"api.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners"}}, route: all: to: app: 100}
	"also.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners"}}, route: all: to: app: 100}
	"maybe.test": {tls: {certificates: ["shop"], client: {mode: "optional", roots: "partners"}}, route: all: to: app: 100}
	"till.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners", sans: ["till.partner.test", "*.tills.partner.test", "spiffe://partner.test/till"]}}, route: all: to: app: 100}
	"pinned.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners", spki: [%q]}}, route: all: to: app: 100}
	"lost.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "missing"}}, route: all: to: app: 100}
}
`

// openPartners is a gateway whose hosts ask visitors for certificates; one key is known to it.
func openPartners(t *testing.T) (e *edge, by *testca.Authority, pinned tls.Certificate) {
	t.Helper()
	by = partners(t)
	pinned = visitor(t, by, "pinned.partner.test")
	sum := sha256.Sum256(pinned.Leaf.RawSubjectPublicKeyInfo)
	e = open(t, fmt.Sprintf(partnersOnly, base64.StdEncoding.EncodeToString(sum[:])),
		map[string][]string{"shop": {"shop.test", "api.test", "also.test", "maybe.test", "till.test", "pinned.test", "lost.test"}})
	e.authorities("partners", roots(by))
	good := visitor(t, by, "a.partner.test")
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	e.is(e.as("h2", "", &good), "https://api.test/", http.StatusOK)
	return e, by, pinned
}

// A host takes the visitors whose certificates its authorities have signed, and closes the
// connection to others, who hear of nothing else.
func TestVisitorsAreTakenByTheirCertificates(t *testing.T) {
	e, by, pinned := openPartners(t)
	of := func(c tls.Certificate) *tls.Certificate { return &c }
	good, stranger := of(visitor(t, by, "a.partner.test")), of(visitor(t, partners(t), "till.partner.test"))
	till, tills, server := of(visitor(t, by, "till.partner.test")), of(visitor(t, by, "A.tills.partner.test")), of(by.Sign(t, &x509.Certificate{DNSNames: []string{"till.partner.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	ended := of(by.Sign(t, &x509.Certificate{DNSNames: []string{"till.partner.test"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(-time.Hour)}))
	id := &url.URL{Scheme: "spiffe", Host: "partner.test", Path: "/till"}
	uri := of(by.Sign(t, &x509.Certificate{URIs: []*url.URL{id}}))
	for _, x := range []struct {
		host string
		who  map[string]*tls.Certificate
		want bool
	}{
		{"api.test", map[string]*tls.Certificate{"good": good, "till": till, "uri": uri}, true},
		{"api.test", map[string]*tls.Certificate{"none": nil, "stranger": stranger, "ended": ended, "a server's": server}, false},
		{"maybe.test", map[string]*tls.Certificate{"none": nil, "good": good}, true},
		{"maybe.test", map[string]*tls.Certificate{"stranger": stranger, "ended": ended}, false},
		{"till.test", map[string]*tls.Certificate{"till": till, "tills": tills, "uri": uri}, true},
		{"till.test", map[string]*tls.Certificate{"none": nil, "good": good, "stranger": stranger, "pinned": &pinned}, false},
		{"pinned.test", map[string]*tls.Certificate{"pinned": &pinned}, true},
		{"pinned.test", map[string]*tls.Certificate{"none": nil, "good": good, "stranger": stranger}, false},
		{"lost.test", map[string]*tls.Certificate{"none": nil, "good": good, "stranger": stranger}, false},
		{"shop.test", map[string]*tls.Certificate{"none": nil, "good": good, "stranger": stranger}, true},
	} {
		for who, c := range x.who {
			for _, protocol := range []string{"h2", "http/1.1"} {
				for _, newest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					client := e.as(protocol, "", c)
					client.Transport.(*http.Transport).TLSClientConfig.MaxVersion = newest
					a, err := ask(client, "GET", "https://"+x.host+"/", "", nil)
					if x.want != (err == nil && a.status == http.StatusOK) || !x.want && err == nil {
						t.Errorf("%s, %s, %s, %s: %d %v", x.host, who, protocol, tls.VersionName(newest), a.status, err)
					}
				}
			}
		}
	}
}

// A connection that was asked for no certificate, or by another host, is good for none that asks.
func TestAConnectionIsForTheHostsThatAskedForItsCertificate(t *testing.T) {
	e, by, _ := openPartners(t)
	good := visitor(t, by, "a.partner.test")
	for _, x := range []struct {
		sni, host string
		want      int
	}{
		{"shop.test", "api.test", http.StatusMisdirectedRequest},
		{"shop.test", "maybe.test", http.StatusMisdirectedRequest},
		{"maybe.test", "api.test", http.StatusMisdirectedRequest},
		{"api.test", "shop.test", http.StatusMisdirectedRequest},
		{"api.test", "till.test", http.StatusMisdirectedRequest},
		{"api.test", "also.test", http.StatusOK},
	} {
		for _, protocol := range []string{"h2", "http/1.1"} {
			a, err := ask(e.as(protocol, x.sni, &good), "GET", "https://"+x.sni+"/", x.host, nil)
			if err != nil || a.status != x.want {
				t.Errorf("%s, connection for %s, request for %s: %d %v, want %d", protocol, x.sni, x.host, a.status, err, x.want)
			}
		}
	}
}

// Where a certificate is asked for no session is resumed, at whatever host it began.
func TestNoSessionStandsInForACertificate(t *testing.T) {
	e, by, _ := openPartners(t)
	good := visitor(t, by, "a.partner.test")
	for _, newest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		one := &oneSession{} // whatever name it was for
		get := func(host string, c *tls.Certificate) (resumed bool, err error) {
			config := &tls.Config{RootCAs: e.issuer.Pool, ServerName: host, MinVersion: tls.VersionTLS12, MaxVersion: newest, ClientSessionCache: one, NextProtos: []string{"http/1.1"}}
			if c != nil {
				config.Certificates = []tls.Certificate{*c}
			}
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", e.port), config)
			if err != nil {
				return false, err
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(conn)
			if err == nil && len(b) == 0 {
				err = net.ErrClosed
			}
			return conn.ConnectionState().DidResume, err
		}
		if _, err := get("shop.test", nil); err != nil {
			t.Fatal(err)
		}
		if resumed, err := get("shop.test", nil); err != nil || !resumed {
			t.Fatalf("%s: sessions of shop.test are not resumed (%v), so that this test sees nothing", tls.VersionName(newest), err)
		}
		if resumed, err := get("api.test", nil); err == nil || resumed {
			t.Errorf("%s: a session of shop.test opens api.test", tls.VersionName(newest))
		}
		one.last = nil
		if _, err := get("api.test", &good); err != nil {
			t.Fatal(err)
		}
		if resumed, err := get("api.test", nil); err == nil || resumed {
			t.Errorf("%s: a session of api.test stands in for a certificate (resumed: %v)", tls.VersionName(newest), resumed)
		}
	}
}

// oneSession keeps the last session, for any name.
type oneSession struct{ last *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.last, o.last != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState)    { o.last = s }

// What an authority has withdrawn is refused; without its list, or with one that is too old, nobody
// gets in. Other hosts are not touched.
func TestWithdrawnCertificatesAreRefused(t *testing.T) {
	by := partners(t)
	e := open(t, `
mesh: certificate: {shop: file: "shop", partners: file: "partners"}
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"loose.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners"}}, route: all: to: app: 100}
	"api.test": {tls: {certificates: ["shop"], client: {mode: "require", roots: "partners", crl: true}}, route: all: to: app: 100}
}
`, map[string][]string{"shop": {"shop.test", "loose.test", "api.test"}})
	good, bad := visitor(t, by, "a.partner.test"), visitor(t, by, "b.partner.test")
	list := func(until time.Time, withdrawn ...tls.Certificate) []byte {
		l := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Unix(1, 0), NextUpdate: until}
		for _, c := range withdrawn {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Unix(2, 0)})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, by.Root, by.Key())
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	lay := func(crl []byte) {
		files := roots(by)
		if crl != nil {
			files[certstore.RevokedName] = crl
		}
		e.authorities("partners", files)
	}
	becomes := func(what, host string, c tls.Certificate, want bool) {
		t.Helper()
		eventually(t, what, func() error {
			a, err := ask(e.as("h2", "", &c), "GET", "https://"+host+"/", "", nil)
			if (err == nil && a.status == http.StatusOK) != want {
				return errors.Join(fmt.Errorf("%s: %d", host, a.status), err)
			}
			return nil
		})
	}
	lay(nil)
	becomes("a host that asks for no list", "loose.test", good, true)
	becomes("a host without its list", "api.test", good, false)
	lay(list(time.Now().Add(time.Hour)))
	becomes("an empty list", "api.test", good, true)
	becomes("an empty list", "api.test", bad, true)
	lay(list(time.Now().Add(time.Hour), bad))
	becomes("a list", "api.test", bad, false)
	becomes("a list", "api.test", good, true)
	becomes("a host that asks for no list", "loose.test", bad, true)
	lay([]byte("nothing"))
	eventually(t, "a bad list is told", func() error {
		if s := e.status("authorities-crl/file/partners"); !s.Served || s.Problem == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	becomes("the last good list counts", "api.test", good, true)
	becomes("the last good list counts", "api.test", bad, false)
	lay(list(time.Now().Add(-time.Hour)))
	becomes("a list that is too old", "api.test", good, false)
	becomes("another host", "shop.test", good, true)
}

// Services know the gateway and not its visitors: neither a certificate with an identity of the mesh
// in it nor a header that pretends to come from a proxy makes a caller of anybody.
func TestAVisitorsCertificateIsNoIdentity(t *testing.T) {
	e, by, _ := openPartners(t)
	forged := by.Sign(t, &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.local", Path: "/ns/edge/sa/admin"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	req, err := http.NewRequest(http.MethodGet, "https://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-Client-Cert", "By=spiffe://mesh.local/ns/edge/sa/app;URI=spiffe://mesh.local/ns/edge/sa/admin")
	req.Header.Set("Client-Cert", ":MIIB:")
	res, err := e.as("h2", "", &forged).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	for _, name := range []string{"X-Forwarded-Client-Cert", "Client-Cert"} {
		if said := res.Header.Get("Saw-" + name); said != "" {
			t.Errorf("the application is told %s: %s", name, said)
		}
	}
	if res.Header.Get("Saw-X-Request-Id") == "" {
		t.Error("the application tells no header that it sees, so that this test sees nothing")
	}
}

// The ciphers and the versions of HTTP are those that a host chooses.
func TestAHostChoosesCiphersAndVersionsOfHTTP(t *testing.T) {
	e := open(t, `
mesh: certificate: shop: file: "shop"
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], route: all: to: app: 100}
	"old.test": {tls: {certificates: ["shop"], ciphers: ["ECDHE-ECDSA-AES256-GCM-SHA384"], alpn: ["http/1.1"]}, route: all: to: app: 100}
}
`, map[string][]string{"shop": {"shop.test", "old.test"}})
	e.is(e.client("h2", ""), "https://shop.test/", http.StatusOK)
	for _, x := range []struct {
		host   string
		cipher uint16
		want   string // what is chosen of h2 and http/1.1, "closed" for nothing at all
	}{
		{"shop.test", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "h2"}, {"shop.test", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "h2"},
		{"old.test", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "closed"}, {"old.test", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "http/1.1"},
	} {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", e.port), &tls.Config{RootCAs: e.issuer.Pool, ServerName: x.host, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{x.cipher}, NextProtos: []string{"h2", "http/1.1"}})
		got := "closed"
		if err == nil {
			got = conn.ConnectionState().NegotiatedProtocol
			_ = conn.Close()
		}
		if got != x.want {
			t.Errorf("%s by %s: %s %v, want %s", x.host, tls.CipherSuiteName(x.cipher), got, err, x.want)
		}
	}
}
