package envoy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/testca"
)

// authority signs SPIFFE certificates for the tests below.
type authority struct{ *testca.Authority }

// identity makes a certificate for a SPIFFE ID. Several, with blanks between, make one
// that is none of SPIFFE; "DNS:" before one makes it a host name. Edits come last.
func (a authority) identity(t *testing.T, ids string, edits ...func(*x509.Certificate)) tls.Certificate {
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
	for _, edit := range edits {
		edit(c)
	}
	return a.Sign(t, c)
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

func serveSecrets(t *testing.T, a authority, own tls.Certificate) string {
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
			TrustedCa: inline(block("CERTIFICATE", a.Root.Raw))}}},
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
	a := authority{testca.New(t)}
	socket := serveSecrets(t, a, a.identity(t, "spiffe://mesh.local/ns/shop/sa/one"))
	banner, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = banner.Close() })
	go func() { // a server that speaks first, then repeats what it hears
		for {
			c, err := banner.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = c.Write([]byte("hello"))
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	http1, bytes1 := freePort(t), freePort(t)
	local, localTCP, localForged := freePort(t), freePort(t), freePort(t)
	callee := newForger(t)
	svc := func(name string, p uint32, proto model.Protocol, mode model.MTLS, app uint32, grants ...model.Grant) *model.Service {
		return &model.Service{ID: "shop/" + name, Namespace: "shop", Name: name,
			Ports:    []model.Port{{Name: "p", Number: 80, Protocol: proto, MTLS: mode}},
			Versions: []model.Version{{Name: "v", Account: "one", Ports: map[string]model.VersionPort{"p": {Host: loopback, Port: p, App: app}}}},
			Routes:   []model.Route{{Name: "default", To: []model.Target{{Version: "v", Weight: 1}}}}, Grants: grants}
	}
	friend := model.Grant{Name: "friend", Terms: model.Terms{Accounts: []string{"shop/one", "shop/friend"}}}
	web := svc("web", http1, model.HTTP, model.Strict, w.app(t, "v1"), friend, model.Grant{Name: "inner", Terms: model.Terms{Namespaces: []string{"inner"}}})
	db := svc("db", bytes1, model.TCP, model.Strict, port(t, banner.Addr().String()), friend)
	both := svc("both", freePort(t), model.HTTP, model.Permissive, w.app(t, "v2"), friend, model.Grant{Name: "open", Terms: model.Terms{Anyone: true, Paths: []model.Path{{Kind: model.PathExact, Value: "/open"}}}})
	forged := svc("forged", freePort(t), model.HTTP, model.Strict, freePort(t), friend)
	place := forged.Versions[0].Ports["p"]
	place.Host = "" // its address is among the endpoints
	forged.Versions[0].Ports["p"], forged.Versions[0].Endpoints.Static = place, []string{callee.addr}
	db.Calls = []model.Call{{To: web.ID, Port: "p", Local: local}, {To: db.ID, Port: "p", Local: localTCP}, {To: forged.ID, Port: "p", Local: localForged}}
	m := (&model.Mesh{TrustDomain: "mesh.local", Capture: model.Explicit, Services: []*model.Service{both, db, forged, web}}).Build()
	arts, _, problems := Emit(m, testColumn(), testConditions(), nil, Profile{})
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
	if got := read(t, nil, localTCP); got != "hello!" {
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
		{"", http1, "/", 0},
		{"spiffe://mesh.local/ns/inner/sa/any", http1, "/", 200},
		{"spiffe://mesh.local/ns/inner/any", http1, "/", 403}, // no account of the namespace
		{"spiffe://mesh.local/ns/inner2/sa/any", http1, "/", 403},
		{stranger, both.Versions[0].Ports["p"].Port, "/", 403},
		{stranger, both.Versions[0].Ports["p"].Port, "/open", 200},
	} {
		if err := tlsGet(t, a, c.id, c.port, c.path, c.status); err != nil {
			t.Error(err)
		}
	}
	for path, status := range map[string]int{"/open": 200, "/": 403} {
		if x := ask(t, "GET", fmt.Sprintf("%s:%d", loopback, both.Versions[0].Ports["p"].Port), path, "both", nil); x.Status != status {
			t.Errorf("plaintext to a permissive port, %s = %d, want %d", path, x.Status, status)
		}
	}
	for _, k := range kinds(t, a, "spiffe://mesh.local/ns/shop/sa/one", stranger, foreign) {
		t.Run(k.name, func(t *testing.T) {
			if status, err := tlsStatus(t, &tls.Config{Certificates: []tls.Certificate{k.cert}, InsecureSkipVerify: true}, http1, "/"); (status == 200) != k.caller {
				t.Errorf("a caller on an HTTP port got %d %v", status, err)
			}
			got := read(t, &tls.Config{Certificates: []tls.Certificate{k.cert}, InsecureSkipVerify: true, NextProtos: []string{alpnTCP}}, bytes1)
			if (got == "hello!") != k.caller || (got != "" && !k.caller && !k.greeted) {
				t.Errorf("a caller on a TCP port read %q", got)
			}
			want := 503
			if k.callee {
				want = 200
			}
			if got := callee.answer(t, k.cert, localForged); got != want {
				t.Errorf("of a callee: %d, want %d", got, want)
			}
		})
	}
	if got := read(t, nil, bytes1); got != "" {
		t.Errorf("plaintext to a strict port read %q", got)
	}
}

// kind is a certificate and what becomes of those who show it.
type kind struct {
	name           string
	cert           tls.Certificate
	caller, callee bool // taken
	greeted        bool // refused as a caller, but only with its first byte
}

// kinds are certificates that a trusted authority could sign for the identity own, or
// instead of it. Some that SPIFFE has no use for are taken, as docs/identity.md says:
// Envoy's validator for SPIFFE would refuse the last two, but takes a certificate that
// is for servers only, or for signing code, from a caller.
func kinds(t *testing.T, a authority, own, stranger, foreign string) []kind {
	t.Helper()
	usage := func(us ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = us }
	}
	during := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
	}
	bySomebody := authority{testca.New(t)}.identity(t, own)
	return []kind{
		{name: "own", cert: a.identity(t, own), caller: true, callee: true},
		{name: "stranger", cert: a.identity(t, stranger)},
		{name: "other trust domain", cert: a.identity(t, foreign)},
		{name: "no name", cert: a.identity(t, "")},
		{name: "host name", cert: a.identity(t, "DNS:"+own)},
		{name: "stranger with a host name", cert: a.identity(t, stranger+" DNS:"+own)},
		{name: "subject", cert: a.identity(t, "DNS:a.test", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: own} })},
		{name: "longer", cert: a.identity(t, own+"/more")},
		{name: "other authority", cert: bySomebody},
		{name: "signed by itself", cert: (authority{new(testca.Authority)}).identity(t, own)},
		{name: "ended", cert: a.identity(t, own, during(-2*time.Hour, -time.Hour))},
		{name: "not begun", cert: a.identity(t, own, during(time.Hour, 2*time.Hour))},
		{name: "servers only", cert: a.identity(t, own, usage(x509.ExtKeyUsageServerAuth)), callee: true},
		{name: "clients only", cert: a.identity(t, own, usage(x509.ExtKeyUsageClientAuth)), caller: true},
		{name: "code", cert: a.identity(t, own, usage(x509.ExtKeyUsageCodeSigning))},
		{name: "no signatures", cert: a.identity(t, own, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })},
		{name: "two, own first", cert: a.identity(t, own+" "+stranger), callee: true, greeted: true},
		{name: "two, own last", cert: a.identity(t, stranger+" "+own), callee: true, greeted: true},
		{name: "two, own and another domain", cert: a.identity(t, foreign+" "+own), callee: true, greeted: true},
		{name: "authority", cert: a.identity(t, own, func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, c.KeyUsage|x509.KeyUsageCertSign
		}), caller: true, callee: true},
		{name: "authority that may not sign", cert: a.identity(t, own, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), caller: true, callee: true},
	}
}

// forger is a callee that shows any certificate.
type forger struct {
	*httptest.Server

	addr  string
	cert  atomic.Pointer[tls.Certificate]
	shown atomic.Int64
	last  atomic.Pointer[net.Conn]
}

func newForger(t *testing.T) *forger {
	t.Helper()
	f := &forger{Server: httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))}
	f.EnableHTTP2, f.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	f.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		f.shown.Add(1)
		return f.cert.Load(), nil
	}}
	f.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		f.last.Store(&c)
		return ctx
	}
	f.StartTLS()
	t.Cleanup(f.Close)
	f.addr = f.Listener.Addr().String()
	return f
}

// answer is what the proxy answers a request for which it saw the certificate.
func (f *forger) answer(t *testing.T, cert tls.Certificate, local uint32) int {
	t.Helper()
	f.cert.Store(&cert)
	if c := f.last.Load(); c != nil {
		_ = (*c).Close()
	}
	status, before := 0, f.shown.Load()
	until(t, func() error { // the proxy may not have noticed yet
		status = ask(t, "GET", fmt.Sprintf("%s:%d", loopback, local), "/", "forged", nil).Status
		if f.shown.Load() == before {
			return fmt.Errorf("%d without a new connection", status)
		}
		return nil
	})
	return status
}

// tlsGet asks with a certificate of that identity ("" = none). Status 0 wants no answer.
func tlsGet(t *testing.T, a authority, id string, p uint32, path string, want int) error {
	t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true}
	if id != "" {
		conf.Certificates = []tls.Certificate{a.identity(t, id)}
	}
	if status, err := tlsStatus(t, conf, p, path); status != want {
		return fmt.Errorf("%q on %s = %d, want %d: %w", id, path, status, want, err)
	}
	return nil
}

// tlsStatus is what a request is answered with over HTTP/2 and TLS 1.3; 0 without an answer.
func tlsStatus(t *testing.T, conf *tls.Config, p uint32, path string) (int, error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(fmt.Sprintf("https://%s:%d%s", loopback, p, path))
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.ProtoMajor != 2 || res.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%s: %s over TLS version %x", path, res.Proto, res.TLS.Version)
	}
	return res.StatusCode, nil
}

// read sends one byte and returns what comes back: "hello" of a server that speaks
// first, and the byte.
func read(t *testing.T, conf *tls.Config, p uint32) string {
	t.Helper()
	var c net.Conn
	c, err := net.Dial("tcp", net.JoinHostPort(loopback, portText(p)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		c = tls.Client(c, conf)
	}
	_, _ = c.Write([]byte("!"))
	b, _ := io.ReadAll(io.LimitReader(c, int64(len("hello!"))))
	return string(b)
}

func until(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
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
