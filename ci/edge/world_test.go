package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/agent"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/certstore"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/testca"
	xdsserver "meshc.dev/meshc/xds-server"
)

// patience is for what has to come, on a busy machine.
const patience = 60 * time.Second

func compileDate() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// edge is a gateway that runs, with all that it needs.
type edge struct {
	t           *testing.T
	dir         string // of its certificates
	approved    string // folder
	state       string // of the agent
	plain, port int
	server      *xdsserver.Server
	backend     string // where the application is
	records     int64
	endpoints   string // folder of endpoint files
	zone        string // of the gateway
	issuer      issuer
}

// open runs a gateway for that intent of its hosts and certificates.
func open(t *testing.T, intent string, certificates map[string][]string) *edge {
	t.Helper()
	return openIn(t, "", t.TempDir(), intent, certificates)
}

// openIn is open for a gateway in a zone, and a folder of endpoint files.
func openIn(t *testing.T, zone, endpoints, intent string, certificates map[string][]string) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), approved: t.TempDir(), state: shortDir(t), issuer: issuer{testca.New(t)}, backend: backend(t, "127.0.0.1"), endpoints: endpoints, zone: zone}
	for _, port := range []*int{&e.plain, &e.port} {
		var err error
		if *port, err = freeport.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for name, hosts := range certificates {
		e.put(name, e.issuer.pair(t, hosts...))
	}
	ctx, wg := e.life()
	authority, tokens := e.serve(ctx, wg, "127.0.0.1", nil)
	e.publish(intent)
	e.envoy(ctx, wg, authority, tokens)
	return e
}

// life is as long as the test; what runs in it has ended then.
func (e *edge) life() (context.Context, *sync.WaitGroup) {
	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	e.t.Cleanup(func() { end(); wg.Wait() })
	return ctx, &wg
}

// serve starts a server at that address, with an authority that certifies who has a token
// of its own or is such a pod.
func (e *edge) serve(ctx context.Context, wg *sync.WaitGroup, address string, pods ca.Attestor) (*ca.Authority, *ca.Tokens) {
	t := e.t
	t.Helper()
	authority, err := ca.Open(t.Context(), filepath.Join(e.approved, "ca"), ca.Options{TrustDomain: "mesh.local", TTL: time.Hour, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ca.OpenTokens(filepath.Join(e.approved, "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	joining := ca.NewService(authority, tokens, nil, slog.New(slog.DiscardHandler))
	if pods != nil {
		joining.TakePods(pods)
	}
	e.server, err = xdsserver.New(xdsserver.Config{
		Listen: net.JoinHostPort(address, "0"), TrustDomain: "mesh.local", StateDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		EndpointDir: e.endpoints, Grace: time.Millisecond, ConnectionsPerSecond: -1,
		TLS:      func() (*tls.Config, error) { return authority.TLSConfig(ca.Requested), nil },
		Register: func(g grpc.ServiceRegistrar) { joining.Register(g) },
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		if err := e.server.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	return authority, tokens
}

// envoy starts agent and Envoy.
func (e *edge) envoy(ctx context.Context, wg *sync.WaitGroup, authority *ca.Authority, tokens *ca.Tokens) {
	t := e.t
	t.Helper()
	binary, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Identity{Namespace: "edge", Account: "edge"}.SPIFFE(authority.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Create(t.Context(), id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := agent.Config{
		Servers: []string{e.server.Addr().String()}, JoinToken: token, Fingerprints: authority.Fingerprints(), StateDir: e.state, Envoy: binary.Path,
		EnvoyArgs: []string{"--concurrency", "1", "--log-level", "error"}, Clock: time.Now, Drain: 0, CertificateDir: e.dir, RootsDir: e.dir, Zone: e.zone,
	}.Normalise()
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	var mu sync.Mutex
	out := writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(b) })
	wg.Go(func() {
		if _, err := agent.Run(ctx, cfg, out, slog.New(slog.NewTextHandler(out, nil))); err != nil && ctx.Err() == nil {
			t.Errorf("the agent ended: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			t.Log(log.String())
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "me")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// saw is what the application was asked.
type saw struct{ Host, Path, Method, Scheme, Body string }

// backend answers with what it was asked, at a port of that address.
func backend(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		for name, lines := range r.Header {
			w.Header().Set("Saw-"+name, lines[0])
		}
		w.Header().Set("Saw-Query", r.URL.RawQuery)
		_ = json.NewEncoder(w).Encode(saw{r.Host, r.URL.Path, r.Method, r.Header.Get("X-Forwarded-Proto"), string(b)})
	})}
	go func() { _ = h.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = h.Close() })
	return l.Addr().String()
}

// publish compiles the intent, approves the release, and serves it.
func (e *edge) publish(hosts string) {
	e.t.Helper()
	const head = "import \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	body := fmt.Sprintf(`
mesh: {namespace: "edge", mtls: {mode: "disable", owner: "test", reason: "the application has no proxy", until: "2099-01-01T00:00:00Z"}}
mesh: service: app: {port: http: number: 8080, grant: visitors: from: ["gateway/edge"], endpoints: static: [%q]}
mesh: gateway: edge: {address: "127.0.0.1", port: {http: number: %d, https: {number: %d, protocol: "https"}}}
`, e.backend, e.plain, e.port)
	e.approve(compiled(e.t, fstest.MapFS{
		"mesh.cue":      {Data: []byte("package mesh\n\n" + head + "mesh: trustDomain: \"mesh.local\"\n")},
		"edge/edge.cue": {Data: []byte("package edge\n\n" + head + body + hosts)},
	}))
}

func compiled(t *testing.T, files fstest.MapFS) release.Release {
	t.Helper()
	p, ds := compiler.Load(files, compiler.Options{At: compileDate()})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	return r
}

// approve has the server serve a release.
func (e *edge) approve(r release.Release) {
	e.t.Helper()
	e.records++
	id := fmt.Sprintf("%040x", e.records)
	rec := approval.Record{
		Format: "meshc.dev/approval/v1", Commit: id, Environment: "default", Repository: "edge", Ref: "refs/heads/main",
		Place: approval.Place{Position: e.records}, Tip: id, VerifiedAt: time.Now(), EvidenceAt: time.Now(),
		Releases: []approval.ReleaseStep{{Digest: r.Digest()}},
	}
	raw, err := canon.JSON(rec)
	if err != nil {
		e.t.Fatal(err)
	}
	man, prov, err := r.Index()
	if err != nil {
		e.t.Fatal(err)
	}
	dir := e.t.TempDir()
	name := filepath.Join(dir, fmt.Sprintf("%08d-%s", e.records, canon.Digest(raw)))
	files := map[string][]byte{
		filepath.Join(name, "record.json"): raw, filepath.Join(name, "steps", "000", "manifest.json"): man, filepath.Join(name, "steps", "000", "provenance.json"): prov,
	}
	for path, digest := range r.Manifest().Artifacts {
		files[filepath.Join(dir, "blobs", digest)], _ = r.Artifact(path)
	}
	for path, b := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			e.t.Fatal(err)
		}
	}
	approved, err := approval.NewStore(dir).Restore()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.server.Publish(context.Background(), approved); err != nil {
		e.t.Fatal(err)
	}
}

// issuer signs certificates for visitors.
type issuer struct{ *testca.Authority }

// pair is PEM of a certificate for the hosts and of its key.
type pair struct {
	chain, key []byte
	serial     string
}

func (i issuer) pair(t *testing.T, hosts ...string) pair {
	t.Helper()
	c := i.Sign(t, &x509.Certificate{DNSNames: hosts})
	chain, key := testca.PEM(t, c)
	return pair{chain, key, c.Leaf.SerialNumber.String()}
}

// put lays a pair into the operator's folder, at once as operators should.
func (e *edge) put(name string, p pair) {
	e.t.Helper()
	tmp := filepath.Join(e.dir, "."+name+"-"+p.serial)
	link := filepath.Join(e.dir, name)
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.WriteFile(filepath.Join(tmp, certstore.ChainName), p.chain, 0o600),
		os.WriteFile(filepath.Join(tmp, certstore.KeyName), p.key, 0o600), os.Symlink(tmp, link+".new"), os.Rename(link+".new", link)); err != nil {
		e.t.Fatal(err)
	}
}

// client speaks HTTP/2 or HTTP/1.1 over TLS to the gateway, whatever the host is called;
// sni is the name that its connections ask for, "" for the request's own.
func (e *edge) client(protocol, sni string) *http.Client {
	return e.clientOf(fmt.Sprintf("127.0.0.1:%d", e.port), protocol, sni)
}

// clientOf is a client of the gateway at an address.
func (e *edge) clientOf(gateway, protocol, sni string) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, gateway)
		},
		TLSClientConfig: &tls.Config{RootCAs: e.issuer.Pool, ServerName: sni, MinVersion: tls.VersionTLS12},
		Protocols:       new(http.Protocols),
	}
	tr.Protocols.SetHTTP2(protocol == "h2")
	tr.Protocols.SetHTTP1(protocol != "h2")
	e.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is what came of a request.
type answer struct {
	status   int
	protocol string
	location string
	saw      saw
	serial   string // of the certificate that was shown
}

func ask(c *http.Client, method, url, host string, body io.Reader) (answer, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return answer{}, err
	}
	if host != "" {
		req.Host = host
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, protocol: res.Proto, location: res.Header.Get("Location")}
	if res.TLS != nil {
		a.serial = res.TLS.PeerCertificates[0].SerialNumber.String()
	}
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(b, &a.saw)
	}
	return a, err
}

// eventually waits for something that has to come.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// is waits until the request is answered so.
func (e *edge) is(c *http.Client, url string, status int) answer {
	e.t.Helper()
	var got answer
	eventually(e.t, url, func() (err error) {
		if got, err = ask(c, http.MethodGet, url, "", nil); err == nil && got.status != status {
			err = fmt.Errorf("%d, want %d", got.status, status)
		}
		return err
	})
	return got
}

// nameless asks for no name: an address is none.
func (e *edge) nameless() *http.Client {
	c := e.client("http/1.1", "127.0.0.1")
	c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	return c
}

// status is what the agent says of a certificate.
func (e *edge) status(name string) certstore.Status {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(e.state, "status.sock"))
	}}}
	return statusOf(c, "http://agent", name)
}

func statusOf(c http.Client, agent, name string) certstore.Status {
	res, err := c.Get(agent + "/certificates")
	if err != nil {
		return certstore.Status{Problem: err.Error()}
	}
	defer res.Body.Close()
	var page struct{ Certificates []certstore.Status }
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
		return certstore.Status{Problem: err.Error()}
	}
	for _, s := range page.Certificates {
		if s.Name == name {
			return s
		}
	}
	return certstore.Status{Problem: "the agent does not know it"}
}
