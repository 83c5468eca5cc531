package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/testca"
)

// foreignRoot is a root of an authority that is not ours.
type foreignRoot struct{ *testca.Authority }

func newForeignRoot(t *testing.T, domain string) *foreignRoot {
	t.Helper()
	return &foreignRoot{testca.Of(t, &x509.Certificate{
		Subject:  pkix.Name{Country: []string{"US"}, Organization: []string{"SPIFFE"}}, // all of SPIRE's are called so
		URIs:     []*url.URL{spiffeid.RequireTrustDomainFromString(domain).ID().URL()},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	})}
}

// certify makes a certificate with its key, of an identity.
func (r *foreignRoot) certify(t *testing.T, id string, life time.Duration, serial *big.Int) tls.Certificate {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return r.Sign(t, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}}, URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(life),
	})
}

// svid is the same as an agent has it.
func (r *foreignRoot) svid(t *testing.T, id string, life time.Duration, serial *big.Int) *svid {
	t.Helper()
	c := r.certify(t, id, life, serial)
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		t.Fatalf("a key of type %T signs nothing", c.PrivateKey)
	}
	return &svid{id: spiffeid.RequireFromString(id), chain: []*x509.Certificate{c.Leaf}, key: key}
}

// workloadAPI is one on a socket, for one workload.
type workloadAPI struct {
	workloadpb.UnimplementedSpiffeWorkloadAPIServer
	socket string
	server *grpc.Server

	mu   sync.Mutex
	now  *workloadpb.X509SVIDResponse
	bell chan struct{}
}

func newWorkloadAPI(t *testing.T) *workloadAPI {
	t.Helper()
	w := &workloadAPI{socket: filepath.Join(shortDir(t), "api.sock"), bell: make(chan struct{})}
	w.start(t)
	t.Cleanup(func() { w.server.Stop() })
	return w
}

func (w *workloadAPI) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	w.server = grpc.NewServer()
	workloadpb.RegisterSpiffeWorkloadAPIServer(w.server, w)
	go func(s *grpc.Server) { _ = s.Serve(l) }(w.server)
}

func (w *workloadAPI) FetchX509SVID(_ *workloadpb.X509SVIDRequest, s grpc.ServerStreamingServer[workloadpb.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(s.Context()); len(md.Get("workload.spiffe.io")) == 0 {
		return status.Error(codes.InvalidArgument, "no security header")
	}
	for {
		w.mu.Lock()
		now, bell := w.now, w.bell
		w.mu.Unlock()
		if now == nil {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		if err := s.Send(now); err != nil {
			return err
		}
		select {
		case <-bell:
		case <-s.Context().Done():
			return nil
		}
	}
}

// give has the workload be id, under the first of the roots. It returns the serial number
// as Envoy prints it.
func (w *workloadAPI) give(t *testing.T, id string, life time.Duration, roots ...*foreignRoot) string {
	t.Helper()
	cert := roots[0].certify(t, id, life, nil)
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var bundle []byte
	for _, r := range roots {
		bundle = append(bundle, r.Root.Raw...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = &workloadpb.X509SVIDResponse{Svids: []*workloadpb.X509SVID{{SpiffeId: id, X509Svid: cert.Leaf.Raw, X509SvidKey: der, Bundle: bundle}}}
	close(w.bell)
	w.bell = make(chan struct{})
	return cert.Leaf.SerialNumber.Text(16)
}

// workloadConfig is an agent that has its identity from there.
func (p *plane) workloadConfig(t *testing.T, w *workloadAPI) Config {
	t.Helper()
	roots := filepath.Join(shortDir(t), "roots.pem")
	if err := os.WriteFile(roots, ca.EncodeCertificates(p.a.Bundle().X509Authorities()), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Servers: []string{p.addr}, SPIFFEEndpoint: "unix://" + w.socket, BundleFile: roots, StateDir: shortDir(t), NoEnvoy: true, Clock: time.Now}
}

const workloadID = "spiffe://mesh.local/ns/shop/sa/"

// Three real Envoys with identities of a Workload API. Every request is a new handshake:
// while certificates are replaced twice a second and the root changes, whoever is named
// gets through and whoever is not never does. Then the API goes away: what there is lasts
// to its end, and no longer.
func TestEnvoysWithIdentitiesOfAWorkloadAPI(t *testing.T) {
	p, root := newPlane(t, time.Minute), newForeignRoot(t, "mesh.local")
	apis := map[string]*workloadAPI{}
	agents := map[string]*running{}
	for _, name := range []string{"web", "api", "evil"} {
		apis[name] = newWorkloadAPI(t)
		if name != "web" { // whose identity comes later than its agent
			apis[name].give(t, workloadID+name, time.Minute, root)
		}
		agents[name] = start(t, p.workloadConfig(t, apis[name]))
	}
	eventually(t, "the agent waits", func() error { return says(agents["web"], "no identity issued") })
	apis["web"].give(t, workloadID+"web", time.Minute, root)
	for _, r := range agents {
		r.joined(t)
	}
	envoys := map[string]*envoybin.Process{"api": proxy(t, agents["api"], httpListener("in", answer("from api"), tlsContext("DownstreamTlsContext", workloadID+"web")))}
	callee := proxyAddress(t, envoys["api"], "in")
	for _, name := range []string{"web", "evil"} {
		envoys[name] = proxy(t, agents[name], httpListener("out", obj{"route": obj{"cluster": "api"}}, nil), toServer(callee, workloadID+"api"))
	}
	good, evil := proxyAddress(t, envoys["web"], "out"), proxyAddress(t, envoys["evil"], "out")
	has := func(name, serial string) {
		t.Helper()
		eventually(t, name+" has its new identity", func() error {
			page, err := envoys[name].Admin(t.Context(), "/certs")
			if err != nil {
				return err
			}
			return contains(string(page), serial)
		})
	}

	client := &http.Client{Timeout: time.Minute}
	last := "" // body
	get := func(addr string) int {
		res, err := client.Get("http://" + addr)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		last = string(text)
		return res.StatusCode
	}
	next := newForeignRoot(t, "mesh.local")
	rounds := [][]*foreignRoot{{root}, {root, next}, {root, next}, {next, root}, {next, root}, {next}, {next}}
	for i, roots := range rounds {
		serials := map[string]string{}
		for name, w := range apis {
			serials[name] = w.give(t, workloadID+name, time.Minute, roots...)
		}
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
			if code := get(good); code != 200 {
				t.Fatalf("round %d: %d %s", i, code, last)
			}
			if code := get(evil); code != 503 {
				t.Fatalf("round %d: a stranger got %d", i, code)
			}
		}
		// The bundles of one round are everywhere before the next signs with them.
		for name, serial := range serials {
			has(name, serial)
			for _, r := range roots {
				has(name, r.Root.SerialNumber.Text(16))
			}
		}
	}

	has("web", apis["web"].give(t, workloadID+"web", 15*time.Second, next))
	apis["web"].server.Stop()
	_ = os.Remove(apis["web"].socket) // a server that is stopped has removed it
	eventually(t, "the agent says that the API is away", func() error { return says(agents["web"], "the identity that is there lasts until 2") })
	if code := get(good); code != 200 {
		t.Errorf("what there is does not last: %d", code)
	}
	eventually(t, "its end", func() error {
		_, body := agents["web"].get(t, "/ready")
		return contains(body, "the certificate has ended")
	})
	eventually(t, "nobody takes it then", func() error { return atLeast(int64(get(good)), 503) })
	apis["web"].give(t, workloadID+"web", time.Minute, next)
	apis["web"].start(t)
	eventually(t, "the API is back", func() error {
		if code := get(good); code != 200 {
			return fmt.Errorf("got %d", code)
		}
		return nil
	})
}

func says(r *running, text string) error { return contains(r.log.String(), text) }

func contains(all, text string) error {
	if !strings.Contains(all, text) {
		return fmt.Errorf("no %q", text)
	}
	return nil
}

func atLeast(got, want int64) error {
	if got < want {
		return fmt.Errorf("got %d", got)
	}
	return nil
}

// What a Workload API says must be an identity of the mesh.
func TestAWorkloadAPIOfAnotherMesh(t *testing.T) {
	p := newPlane(t, time.Minute)
	for id, want := range map[string]diag.Code{"spiffe://other.example/ns/shop/sa/web": diag.CodeIdentityMismatch, "spiffe://mesh.local/web": diag.CodeIdentity} {
		w := newWorkloadAPI(t)
		w.give(t, id, time.Minute, newForeignRoot(t, strings.Split(id, "/")[2]))
		r := start(t, p.workloadConfig(t, w))
		r.wait(t)
		wantCode(t, r.err, want)
	}
	bad := p.workloadConfig(t, newWorkloadAPI(t))
	bad.JoinToken, bad.BundleFile, bad.SPIFFEEndpoint = p.token(t, "shop/web"), "", "/run/api.sock"
	if _, problems := bad.Normalise(); len(problems) != 3 {
		t.Errorf("%v", problems)
	}
}

// The server takes certificates of another authority only if it was told whose, and then
// for what they say: nothing is renewed for them, and none of them is a server or passes
// for one of its own.
func TestTheServerAndAnotherAuthority(t *testing.T) {
	p, root := newPlane(t, time.Minute), newForeignRoot(t, "mesh.local")
	p.ads = func(_ string, s grpc.ServerStream) error {
		who, err := ca.PeerFromContext(s.Context())
		if err != nil {
			return ca.StatusOf(err)
		}
		if err := p.a.CheckServer(s.Context()); err == nil {
			return status.Error(codes.Internal, "it passes for a server")
		}
		return status.Error(codes.Aborted, "you are "+who.ID.String())
	}
	ask := func(by *foreignRoot, id string, serial *big.Int) string {
		s := by.svid(t, id, time.Minute, serial)
		trust := ca.Trust{TrustDomain: p.a.TrustDomain(), Roots: p.a.Bundle().X509Authorities(), Certificate: s.tls(), Clock: time.Now}
		conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(trust.Credentials(nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = conn.Invoke(ctx, "/"+adsService+"/x", &workloadpb.X509SVIDRequest{}, &workloadpb.X509SVIDRequest{})
		return err.Error()
	}
	web := workloadID + "web"
	if got := ask(root, web, nil); strings.Contains(got, "you are") {
		t.Errorf("nobody was told of that authority: %s", got)
	}
	file := filepath.Join(t.TempDir(), "bundle.pem")
	write := func(roots ...*foreignRoot) {
		var text []byte
		for _, r := range roots {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Root.Raw})...)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(root)
	foreign, err := ca.OpenForeign(file, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.a.Accept(foreign)
	if got := ask(root, web, nil); !strings.Contains(got, "you are "+web) {
		t.Errorf("got %s", got)
	}
	mine := append([]byte("Mm"), bytes.Repeat([]byte{7}, 17)...)
	for what, got := range map[string]string{
		"a lineage of ours":    ask(root, web, new(big.Int).SetBytes(mine)),
		"another trust domain": ask(root, "spiffe://other.example/ns/shop/sa/web", nil),
		"another authority":    ask(newForeignRoot(t, "mesh.local"), web, nil),
	} {
		if strings.Contains(got, "you are") {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := ask(root, ca.ServerID(p.a.TrustDomain()).String(), nil); strings.Contains(got, "passes for a server") || strings.Contains(got, "you are") {
		t.Errorf("a server by another authority: %s", got)
	}
	next := newForeignRoot(t, "mesh.local")
	write(next, root)
	eventually(t, "the file is read again", func() error { return contains(ask(next, web, nil), "you are "+web) })

	s := root.svid(t, web, time.Minute, nil)
	c, err := ca.Dial([]string{p.addr}, ca.Trust{TrustDomain: p.a.TrustDomain(), Roots: p.a.Bundle().X509Authorities(), Certificate: s.tls(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, csr, err := newRequest(s.id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Renew(t.Context(), "", csr)
	wantCode(t, err, diag.CodeIdentity)
}
