package agent

import (
	"bytes"
	"context"
	"encoding/json"
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
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
)

// plane is a control plane with a real authority on a free port. ADS streams
// go to its ads function, frame by frame.
type plane struct {
	a      *ca.Authority
	tokens *ca.Tokens
	addr   string
	server *grpc.Server
	ads    func(method string, s grpc.ServerStream) error
}

func newPlane(t *testing.T, ttl time.Duration) *plane {
	t.Helper()
	return newPlaneAt(t, ttl, time.Now)
}

// newPlaneAt is newPlane with another clock.
func newPlaneAt(t *testing.T, ttl time.Duration, clock func() time.Time) *plane {
	t.Helper()
	dir := t.TempDir()
	a, err := ca.Open(t.Context(), dir, ca.Options{TrustDomain: "mesh.local", TTL: ttl, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ca.OpenTokens(dir, clock)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{a: a, tokens: tokens}
	p.start(t)
	t.Cleanup(func() { p.server.Stop() })
	return p
}

// start serves on p.addr, which nobody takes while the server is away: after p.server.Stop
// it serves there again.
func (p *plane) start(t *testing.T) {
	t.Helper()
	var err error
	if p.addr == "" {
		if p.addr, err = freeport.Address(); err != nil {
			t.Fatal(err)
		}
	}
	lis, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	// Like the real server: one codec for everything, here proto or frames.
	p.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(p.a.TLSConfig(ca.Requested))), grpc.MaxRecvMsgSize(maxFromEnvoy), enforcement(),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(s)
			return p.ads(method, s)
		}), grpc.ForceServerCodecV2(eitherCodec{}))
	ca.NewService(p.a, p.tokens, nil, slog.New(slog.DiscardHandler)).Register(p.server)
	go func(s *grpc.Server) { _ = s.Serve(lis) }(p.server)
}

func (p *plane) id(t *testing.T, who string) spiffeid.ID {
	t.Helper()
	i, err := ca.ParseIdentity(who)
	if err != nil {
		t.Fatal(err)
	}
	id, err := i.SPIFFE(p.a.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *plane) token(t *testing.T, who string) string {
	t.Helper()
	text, err := p.tokens.Create(t.Context(), p.id(t, who), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// config is an agent without Envoy that may join as who.
func (p *plane) config(t *testing.T, who string) Config {
	t.Helper()
	return Config{
		Servers: []string{p.addr}, JoinToken: p.token(t, who), Fingerprints: p.a.Fingerprints(),
		StateDir: shortDir(t), NoEnvoy: true, Clock: time.Now,
	}
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ma")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// running is an agent in this process.
type running struct {
	cfg  Config
	log  *syncBuffer
	end  context.CancelFunc
	done chan struct{}
	code int
	err  error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	norm, problems := cfg.Normalise()
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cfg: norm, log: &syncBuffer{}, end: cancel, done: make(chan struct{})}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		defer close(r.done)
		r.code, r.err = Run(ctx, cfg, r.log, log)
	}()
	t.Cleanup(func() {
		r.stop(t)
		if lines := envoybin.Complaints(r.log.String()); len(lines) > 0 {
			t.Errorf("Envoy complains: %q", lines)
		}
		if t.Failed() {
			t.Logf("agent's log:\n%s", r.log)
		}
	})
	return r
}

// stop ends the agent and waits for it.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.end()
	r.wait(t)
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		t.Fatalf("the agent does not end\n%s", r.log)
	}
}

// joined waits until the agent has an identity and a bootstrap.
func (r *running) joined(t *testing.T) {
	t.Helper()
	eventually(t, "a bootstrap", func() error {
		select {
		case <-r.done:
			t.Fatalf("the agent ended: %v", r.err)
		default:
		}
		_, err := os.Stat(r.cfg.BootstrapOut)
		return err
	})
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(r.cfg.StateDir, "status.sock"))
	}}}
	res, err := c.Get("http://agent" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func (r *running) metric(t *testing.T, name string) int64 {
	t.Helper()
	_, text := r.get(t, "/metrics")
	for line := range strings.Lines(text) {
		var v int64
		if n, _ := fmt.Sscanf(line, "meshc_agent_"+name+" %d", &v); n == 1 {
			return v
		}
	}
	return -1
}

// unix is a plain connection to one of the agent's sockets.
func unix(t *testing.T, path string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("unix://"+path, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func wantCode(t *testing.T, err error, want diag.Code) {
	t.Helper()
	if got := codeOf(err); got != want {
		t.Fatalf("got code %q (%v), want %q", got, err, want)
	}
}

// findEnvoy is a real Envoy; without one these tests fail.
func findEnvoy(t *testing.T) envoybin.Binary {
	t.Helper()
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
