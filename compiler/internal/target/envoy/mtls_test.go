package envoy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/internal/model"
)

// authority signs SPIFFE certificates for the tests below.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out, key
}

// identity makes a certificate for a SPIFFE ID. Several, with blanks between, make one
// that is none of SPIFFE; "DNS:" before one makes it a host name.
func (a *authority) identity(t *testing.T, ids string) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	for _, id := range strings.Fields(ids) {
		if name, ok := strings.CutPrefix(id, "DNS:"); ok {
			c.DNSNames = append(c.DNSNames, name)
			continue
		}
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	cert, key := a.sign(t, c)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// secrets is an agent's SDS: one identity and the roots, over a Unix socket.
type secrets struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	byName map[string]*tlsv3.Secret
}

func (s *secrets) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the proxy went away
		}
		if req.ResponseNonce != "" {
			continue
		}
		res := &discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: req.TypeUrl}
		for _, n := range req.ResourceNames {
			a, err := anypb.New(s.byName[n])
			if err != nil {
				return err
			}
			res.Resources = append(res.Resources, a)
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}

func serveSecrets(t *testing.T, a *authority, own tls.Certificate) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	s := &secrets{byName: map[string]*tlsv3.Secret{
		SecretOwn: {Name: SecretOwn, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(block("CERTIFICATE", own.Certificate[0])), PrivateKey: inline(block("PRIVATE KEY", keyDER))}}},
		SecretRoots: {Name: SecretRoots, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(block("CERTIFICATE", a.cert.Raw))}}},
	}}
	path := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return path
}

// Real handshakes: sidecar to sidecar, and callers of our own with other
// identities, on HTTP and TCP ports and in all modes.
func TestMutualTLS(t *testing.T) {
	w := &world{}
	a := newAuthority(t)
	socket := serveSecrets(t, a, a.identity(t, "spiffe://mesh.local/ns/shop/sa/one"))
	banner, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = banner.Close() })
	go func() { // a server that speaks first
		for {
			c, err := banner.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = c.Write([]byte("hello"))
				_, _ = io.Copy(io.Discard, c) // closing with bytes unread would reset, and lose the greeting
			}()
		}
	}()
	http1, bytes1 := freePort(t), freePort(t)
	local, localTCP := freePort(t), freePort(t)
	svc := func(name string, p uint32, proto model.Protocol, mode model.MTLS, app uint32, grants ...model.Grant) *model.Service {
		return &model.Service{ID: "shop/" + name, Namespace: "shop", Name: name,
			Ports:    []model.Port{{Name: "p", Number: 80, Protocol: proto, MTLS: mode}},
			Versions: []model.Version{{Name: "v", Account: "one", Host: loopback, Port: p, AppPort: app}},
			Routes:   []model.Route{{Name: "default", To: []model.Target{{Version: "v", Weight: 1}}}}, Grants: grants}
	}
	friend := model.Grant{Name: "friend", Accounts: []string{"shop/one", "shop/friend"}}
	web := svc("web", http1, model.HTTP, model.Strict, w.app(t, "v1"), friend, model.Grant{Name: "inner", Namespaces: []string{"inner"}})
	db := svc("db", bytes1, model.TCP, model.Strict, port(t, banner.Addr().String()), friend)
	both := svc("both", freePort(t), model.HTTP, model.Permissive, w.app(t, "v2"), friend, model.Grant{Name: "open", Anyone: true, Paths: []model.Path{{Kind: model.PathExact, Value: "/open"}}})
	db.Calls = []model.Call{{To: web.ID, Port: "p", Local: local}, {To: db.ID, Port: "p", Local: localTCP}}
	m := (&model.Mesh{TrustDomain: "mesh.local", Capture: model.Explicit, Services: []*model.Service{both, db, web}}).Build()
	arts, _, problems := Emit(m, testColumn(), Profile{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	w.run(t, bytes.ReplaceAll(render(t, arts), []byte("@meshc/sds"), []byte(socket)))
	until(t, func() error { // secrets arrive after Envoy is live
		return tlsGet(t, a, "spiffe://mesh.local/ns/shop/sa/friend", http1, "/", 200)
	})
	if x := ask(t, "GET", fmt.Sprintf("%s:%d", loopback, local), "/", "web", nil); x.Status != 200 || x.Version != "v1" {
		t.Errorf("sidecar to sidecar = %d from %q", x.Status, x.Version)
	} else if got := x.Headers.Get("X-Forwarded-Client-Cert"); got == "" {
		t.Error("the application was not told the caller's identity")
	}
	if got := read(t, nil, localTCP); got != "hello" {
		t.Errorf("bytes from sidecar to sidecar = %q", got)
	}
	stranger, foreign := "spiffe://mesh.local/ns/shop/sa/stranger", "spiffe://other.local/ns/shop/sa/friend"
	for _, c := range []struct {
		id     string
		port   uint32
		path   string
		status int // 0: no answer
	}{
		{stranger, http1, "/", 403},
		{"spiffe://mesh.local/ns/shop/sa/friendly", http1, "/", 403},
		{foreign, http1, "/", 0},
		{stranger + " DNS:spiffe://mesh.local/ns/shop/sa/friend", http1, "/", 403},
		{"DNS:spiffe://mesh.local/ns/shop/sa/friend", http1, "/", 0},
		{stranger + " spiffe://mesh.local/ns/shop/sa/friend", http1, "/", 403},
		{"spiffe://mesh.local/ns/shop/sa/friend " + stranger, http1, "/", 403},
		{"", http1, "/", 0},
		{"spiffe://mesh.local/ns/inner/sa/any", http1, "/", 200},
		{"spiffe://mesh.local/ns/inner/any", http1, "/", 403}, // no account of the namespace
		{"spiffe://mesh.local/ns/inner2/sa/any", http1, "/", 403},
		{stranger, both.Versions[0].Port, "/", 403},
		{stranger, both.Versions[0].Port, "/open", 200},
	} {
		if err := tlsGet(t, a, c.id, c.port, c.path, c.status); err != nil {
			t.Error(err)
		}
	}
	for path, status := range map[string]int{"/open": 200, "/": 403} {
		if x := ask(t, "GET", fmt.Sprintf("%s:%d", loopback, both.Versions[0].Port), path, "both", nil); x.Status != status {
			t.Errorf("plaintext to a permissive port, %s = %d, want %d", path, x.Status, status)
		}
	}
	for id, want := range map[string]string{"spiffe://mesh.local/ns/shop/sa/friend": "hello", stranger: "", foreign: ""} {
		cert := a.identity(t, id)
		if got := read(t, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{alpnTCP}}, bytes1); got != want {
			t.Errorf("%s read %q, want %q", id, got, want)
		}
	}
	if got := read(t, nil, bytes1); got == "hello" {
		t.Errorf("plaintext to a strict port read %q", got)
	}
}

// tlsGet asks with a certificate of that identity ("" = none). Status 0 wants no answer.
func tlsGet(t *testing.T, a *authority, id string, p uint32, path string, status int) error {
	t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true}
	if id != "" {
		conf.Certificates = []tls.Certificate{a.identity(t, id)}
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get(fmt.Sprintf("https://%s:%d%s", loopback, p, path))
	if err != nil {
		if status == 0 {
			return nil
		}
		return fmt.Errorf("%s on %s: %w", id, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != status {
		return fmt.Errorf("%q on %s = %d, want %d", id, path, res.StatusCode, status)
	}
	if res.ProtoMajor != 2 || res.TLS.Version != tls.VersionTLS13 {
		return fmt.Errorf("%q on %s: %s over TLS version %x", id, path, res.Proto, res.TLS.Version)
	}
	return nil
}

// read returns what a server that speaks first says, "" if it says nothing.
func read(t *testing.T, conf *tls.Config, p uint32) string {
	t.Helper()
	var c net.Conn
	c, err := net.Dial("tcp", net.JoinHostPort(loopback, portText(p)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		c = tls.Client(c, conf)
	}
	_, _ = c.Write([]byte("plain or not\n")) // a listener that wants TLS closes at once
	b, _ := io.ReadAll(io.LimitReader(c, 5))
	return string(b)
}

func until(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
