package proxyless

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/agent"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	xdsserver "meshc.dev/meshc/xds-server"
)

// patience is for what has to come, on a busy machine.
const patience = 60 * time.Second

func compileDate() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// world is a server, and whoever has joined it.
type world struct {
	t         *testing.T
	ctx       context.Context //nolint:containedctx // the life of all that runs in it
	wg        *sync.WaitGroup
	server    *xdsserver.Server
	authority *ca.Authority
	tokens    *ca.Tokens
	records   int64
	ports     map[string]string
}

func open(t *testing.T) *world {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	w := &world{t: t, ctx: ctx, wg: &sync.WaitGroup{}, ports: map[string]string{}}
	t.Cleanup(func() { end(); w.wg.Wait() })
	dir := t.TempDir()
	var err error
	if w.authority, err = ca.Open(t.Context(), dir, ca.Options{TrustDomain: "mesh.local", TTL: time.Hour, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	if w.tokens, err = ca.OpenTokens(dir, time.Now); err != nil {
		t.Fatal(err)
	}
	joining := ca.NewService(w.authority, w.tokens, nil, slog.New(slog.DiscardHandler))
	w.server, err = xdsserver.New(xdsserver.Config{
		Listen: "127.0.0.1:0", TrustDomain: "mesh.local", StateDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Grace: time.Millisecond, ConnectionsPerSecond: -1,
		TLS:      func() (*tls.Config, error) { return w.authority.TLSConfig(ca.Requested), nil },
		Register: func(g grpc.ServiceRegistrar) { joining.Register(g) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() {
		if err := w.server.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	return w
}

// port is a free port of that name: "$NAME" in intent.
func (w *world) port(name string) string {
	w.t.Helper()
	if w.ports[name] == "" {
		n, err := freeport.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		w.ports[name] = fmt.Sprint(n)
	}
	return w.ports[name]
}

// load compiles intent of the namespace shop, in which $NAME stands for a free port.
func (w *world) load(body string) *compiler.Program {
	w.t.Helper()
	body = os.Expand(body, w.port)
	const head = "import \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue":      {Data: []byte("package mesh\n\n" + head + "mesh: {trustDomain: \"mesh.local\", environment: default: capture: \"explicit\"}\n")},
		"shop/shop.cue": {Data: []byte("package shop\n\n" + head + "mesh: namespace: \"shop\"\n" + body)},
	}, compiler.Options{At: compileDate(), Environment: "default"})
	if err := ds.Err(); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// publish has the server serve intent.
func (w *world) publish(body string) *compiler.Program {
	w.t.Helper()
	p := w.load(body)
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		w.t.Fatal(err)
	}
	w.approve(r)
	return p
}

func (w *world) approve(r release.Release) {
	w.t.Helper()
	w.records++
	id := fmt.Sprintf("%040x", w.records)
	raw, err := canon.JSON(approval.Record{
		Format: "meshc.dev/approval/v1", Commit: id, Environment: "default", Repository: "shop", Ref: "refs/heads/main",
		Place: approval.Place{Position: w.records}, Tip: id, VerifiedAt: time.Now(), EvidenceAt: time.Now(),
		Releases: []approval.ReleaseStep{{Digest: r.Digest()}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	man, prov, err := r.Index()
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	name := filepath.Join(dir, fmt.Sprintf("%08d-%s", w.records, canon.Digest(raw)))
	files := map[string][]byte{
		filepath.Join(name, "record.json"): raw, filepath.Join(name, "steps", "000", "manifest.json"): man, filepath.Join(name, "steps", "000", "provenance.json"): prov,
	}
	for path, digest := range r.Manifest().Artifacts {
		files[filepath.Join(dir, "blobs", digest)], _ = r.Artifact(path)
	}
	for path, b := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	approved, err := approval.NewStore(dir).Restore()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.server.Publish(w.t.Context(), approved); err != nil {
		w.t.Fatal(err)
	}
}

// join starts an agent for an account of the namespace shop, and gives its state folder once the bootstrap is there.
func (w *world) join(account string, cfg agent.Config) string {
	t := w.t
	t.Helper()
	id, err := ca.Identity{Namespace: "shop", Account: account}.SPIFFE(w.authority.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.JoinToken, err = w.tokens.Create(t.Context(), id, time.Hour); err != nil {
		t.Fatal(err)
	}
	if cfg.StateDir, err = os.MkdirTemp("", "mp"); err != nil { // sockets have short names
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(cfg.StateDir) })
	cfg.Servers, cfg.Fingerprints, cfg.Clock = []string{w.server.Addr().String()}, w.authority.Fingerprints(), time.Now
	cfg, problems := cfg.Normalise()
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	var mu sync.Mutex
	out := writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(b) })
	w.wg.Go(func() {
		if _, err := agent.Run(w.ctx, cfg, out, slog.New(slog.NewTextHandler(out, nil))); err != nil && w.ctx.Err() == nil {
			t.Errorf("the agent ended: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			t.Log(account, log.String())
		}
	})
	eventually(t, "the bootstrap of "+account, func() error { _, err := os.Stat(cfg.BootstrapOut); return err })
	return cfg.StateDir
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// program is an agent without Envoy, and the bootstrap that it has written.
func (w *world) program(account string) []byte {
	w.t.Helper()
	state := w.join(account, agent.Config{Proxyless: true})
	boot, err := os.ReadFile(filepath.Join(state, "grpc.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	return boot
}

// proxy is an agent with its Envoy.
func (w *world) proxy(account string) {
	w.t.Helper()
	binary, err := envoybin.Find(w.t.Context(), envoybin.Options{Download: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.join(account, agent.Config{Envoy: binary.Path, EnvoyArgs: []string{"--concurrency", "1", "--log-level", "error"}})
}

// client is a gRPC client of that bootstrap. Without certificates it would not call: nobody answers in plaintext.
func (w *world) client(boot []byte, target string) *grpc.ClientConn {
	w.t.Helper()
	resolver, err := xds.NewXDSResolverWithConfigForTesting(boot)
	if err != nil {
		w.t.Fatal(err)
	}
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.dial("xds:///"+target, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(creds))
}

func (w *world) dial(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// greeter answers calls with its name and with who has called. What it fails with is counted down.
type greeter struct {
	name  string
	mu    sync.Mutex
	fail  map[string]int // by method
	calls map[string]int
}

func (g *greeter) handle(method string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: method, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.calls[method]++
		if g.fail[method] > 0 {
			g.fail[method]--
			return nil, status.Error(codes.Unavailable, "not now")
		}
		if method == "Sleep" {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		who := ""
		if p, ok := peer.FromContext(ctx); ok {
			if s, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(s.State.PeerCertificates) > 0 {
				who = s.State.PeerCertificates[0].URIs[0].String()
			}
		}
		if md, _ := metadata.FromIncomingContext(ctx); who == "" && len(md.Get("x-forwarded-client-cert")) > 0 {
			_, who, _ = strings.Cut(md.Get("x-forwarded-client-cert")[0], ";URI=") // as its proxy has seen it
		}
		return wrapperspb.String(g.name + " " + who), nil
	}}
}

func newGreeter(name string) *greeter {
	return &greeter{name: name, fail: map[string]int{}, calls: map[string]int{}}
}

func (g *greeter) desc() *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: "shop.Greeter", HandlerType: (*any)(nil)}
	for _, m := range []string{"Hello", "Bye", "Secret", "Frozen", "Sleep", "Broken", "Flaky", "Once"} {
		d.Methods = append(d.Methods, g.handle(m))
	}
	return d
}

func (g *greeter) count(method string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[method]
}

// serve runs a gRPC server that gets who may call from xDS.
func (w *world) serve(boot []byte, address, name string) *greeter {
	t := w.t
	t.Helper()
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := xds.NewGRPCServer(grpc.Creds(creds), xds.BootstrapContentsForTesting(boot), xds.ServingModeCallback(func(a net.Addr, m xds.ServingModeChangeArgs) {
		if m.Err != nil {
			t.Logf("%s: %v: %v", a, m.Mode, m.Err)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	g := newGreeter(name)
	s.RegisterService(g.desc(), g)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return g
}

// plain runs a gRPC server that knows nothing of a mesh: an application behind its proxy.
func (w *world) plain(address, name string) *greeter {
	w.t.Helper()
	s, g := grpc.NewServer(), newGreeter(name)
	s.RegisterService(g.desc(), g)
	l, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	w.t.Cleanup(s.Stop)
	return g
}

// call is one call: the answer, or its status.
func (w *world) call(conn *grpc.ClientConn, method string, keys ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	out := &wrapperspb.StringValue{}
	err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, keys...), "/shop.Greeter/"+method, &emptypb.Empty{}, out)
	return out.Value, err
}

// answers waits until a call is answered by that server, for that caller.
func (w *world) answers(conn *grpc.ClientConn, method, want string) {
	w.t.Helper()
	eventually(w.t, method, func() error {
		got, err := w.call(conn, method)
		if err == nil && !strings.HasPrefix(got, want) {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}

// ends waits until a call ends with that status.
func (w *world) ends(conn *grpc.ClientConn, method string, want codes.Code, keys ...string) {
	w.t.Helper()
	eventually(w.t, method, func() error {
		if _, err := w.call(conn, method, keys...); status.Code(err) != want {
			return fmt.Errorf("%s, want %v", status.Convert(err), want)
		}
		return nil
	})
}

// eventually waits for something that has to come.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
