package xdsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/alarm"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// Server serves approved releases. Make one with New, then call Run once.
type Server struct {
	cfg    Config
	hub    *stream.Hub
	facts  *evidence.Log
	peers  *exchanger
	ledger *ledger.Ledger
	meter  *meter
	live   *sources
	grpc   *grpc.Server

	xds, web, admin net.Listener

	alarms *alarm.Clock

	mu     sync.Mutex
	table  timetable // what is approved
	cancel func()    // takes the alarm for its next step back
	gen    int       // counts alarms, so that an old one does nothing
	stuck  string    // why the next step is not served, as last told
}

// New makes a server and opens its sockets, so that its addresses are known;
// nobody is served before Run. A caller that does not call Run must call Close.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("making the xDS server: %w", err)
	}
	cfg = cfg.withDefaults()
	tc, err := cfg.TLS()
	if err != nil {
		return nil, fmt.Errorf("making the xDS server: %w", err)
	}
	s := &Server{cfg: cfg, ledger: ledger.New(cfg.Now), meter: newMeter(cfg.Registry), alarms: alarm.New(cfg.Now), cancel: func() {}}
	cfg.Registry.MustRegister(newHeldProxies(s.ledger.HeldProxies), newBehindProxies(s.ledger.BehindProxies))
	// First the socket, which no two servers of one folder have, then the file.
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	if s.facts, err = evidence.Open(cfg.StateDir, cfg.Log); err != nil {
		s.Close()
		return nil, fmt.Errorf("making the xDS server: %w", err)
	}
	s.hub = stream.NewHub(stream.Config{
		TrustDomain: cfg.TrustDomain, Limits: cfg.Limits, Evidence: s.facts, Bounds: cfg.Bounds, Ledger: s.ledger, Meter: s.meter,
		Log: cfg.Log, Now: cfg.Now, Owner: cfg.Owner, Narrows: cfg.Narrows, Denied: cfg.Denied,
	})
	s.facts.Watch(s.hub.Learned)
	s.ledger.LookAt(ledger.Look{Source: cfg.Source, Lacking: s.hub.Lacking})
	if s.live, err = newSources(cfg, s.hub, s.ledger.Poke); err != nil {
		s.Close()
		return nil, fmt.Errorf("making the xDS server: %w", err)
	}
	s.grpc = grpc.NewServer(options(cfg, credentials.NewTLS(tc))...)
	s.hub.Register(s.grpc)
	s.peers = newExchanger(cfg.Peers, s.facts, cfg.Log, cfg.Now, s.serves)
	s.peers.register(s.grpc)
	if cfg.Register != nil {
		cfg.Register(s.grpc)
	}
	return s, nil
}

// options are the settings of the gRPC server. Envoy pings every few seconds and
// without streams, which gRPC would punish by default. Buffers for reading are
// small, because requests are, and there is one per connection.
func options(cfg Config, creds credentials.TransportCredentials) []grpc.ServerOption {
	const (
		readBuffer    = 4 << 10
		headerBytes   = 16 << 10
		streamsOnConn = 100
	)
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(store.Codec()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			// A proxy has a stream all the time, and joining takes seconds. Anybody
			// may connect, because joining is for those without a certificate.
			MaxConnectionIdle: 15 * time.Second,
			MaxConnectionAge:  30 * time.Minute, MaxConnectionAgeGrace: 30 * time.Second,
		}),
		grpc.MaxConcurrentStreams(streamsOnConn),
		grpc.MaxRecvMsgSize(cfg.Limits.MessageBytes),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.ReadBufferSize(readBuffer),
	}
}

func (s *Server) open() error {
	var err error
	if s.xds, err = listen(s.cfg.Listen); err != nil {
		return err
	}
	if s.cfg.HTTP != "" {
		if s.web, err = listen(s.cfg.HTTP); err != nil {
			return err
		}
	}
	s.admin, err = listenAdmin(s.cfg.StateDir)
	return err
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fix := "write host:port with an address of this machine, such as 127.0.0.1:18000"
		if errors.Is(err, syscall.EADDRINUSE) {
			fix = "choose another address, or end the process that has it"
		}
		return nil, diag.List{diag.New(diag.CodeServerListen, diag.Pos{}, "cannot listen on %q: %v", addr, err).WithFix("%s", fix)}.Err()
	}
	return l, nil
}

// Addr is the address for proxies.
func (s *Server) Addr() net.Addr { return s.xds.Addr() }

// HTTPAddr is the address for metrics and health, nil if there is none.
func (s *Server) HTTPAddr() net.Addr {
	if s.web == nil {
		return nil
	}
	return s.web.Addr()
}

// Close frees the sockets of a server that is not run.
func (s *Server) Close() {
	for _, l := range []net.Listener{s.xds, s.web, s.admin} {
		if l != nil {
			_ = l.Close() // nothing was served on it
		}
	}
	if s.facts != nil {
		s.facts.Close()
	}
}

// Publish serves what is approved from now on: the step in force, and later steps
// when the clock reaches their instants. All of them are prepared first: if one
// cannot be served as a whole, what was served before still is, and the error is a
// diagnostic. Publish what was approved last before Run, so that no proxy finds the
// server without it.
func (s *Server) Publish(ctx context.Context, a approval.Approved) error {
	return s.publish(ctx, a.Steps(), approved{a.Commit(), a.Environment(), a.Record().Place})
}

func (s *Server) publish(ctx context.Context, steps []approval.Step, by approved) error {
	t, err := s.prepare(ctx, steps, by)
	if err != nil {
		return err
	}
	return s.follow(t)
}

// Recall makes an earlier approval known, so that proxies which fail with a later
// one can be held at it. Recall the oldest first, before the first Publish.
func (s *Server) Recall(ctx context.Context, a approval.Approved) error {
	t, err := s.prepare(ctx, a.Steps(), approved{a.Commit(), a.Environment(), a.Record().Place})
	if err != nil {
		return err
	}
	if len(t.steps) == 0 {
		return errors.New("recalling: nothing is approved")
	}
	t.at = t.reached(s.cfg.Now())
	s.hub.Recall(t.steps[t.at].release, t.approval())
	return nil
}

// prepare makes the steps of an approval ready to be served.
func (s *Server) prepare(ctx context.Context, steps []approval.Step, by approved) (timetable, error) {
	t := timetable{approved: by}
	for _, st := range steps {
		ready, err := s.hub.Prepare(ctx, st.Release)
		if err != nil && !st.From.IsZero() {
			err = fmt.Errorf("what follows at %s: %w", st.From.UTC().Format(time.RFC3339), err)
		}
		if err != nil {
			return timetable{}, notServable(fmt.Errorf("commit %.12s: %w", by.commit, err))
		}
		discovered, err := s.discovered(st.Release)
		if err != nil {
			return timetable{}, notServable(fmt.Errorf("commit %.12s: %w", by.commit, err))
		}
		t.steps = append(t.steps, step{st.From, ready, discovered})
	}
	return t, nil
}

// serves is what proxies get now, nil for nothing.
func (s *Server) serves() *served {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.table.steps) == 0 {
		return nil
	}
	a := s.table.approval()
	return &served{Environment: a.Environment, Commit: a.Commit, Position: a.Position}
}

// Ready says why proxies should ask another server now, nil if they need not.
func (s *Server) Ready() error {
	if !s.hub.Ready() {
		return errors.New("no approved release is loaded")
	}
	if err := s.peers.ready(); err != nil {
		return err
	}
	if s.cfg.Ready != nil {
		return s.cfg.Ready()
	}
	return nil
}

// discovered are the services of a release that are found by name.
func (s *Server) discovered(r release.Release) ([]release.Discovered, error) {
	if s.cfg.Kubernetes == nil || s.cfg.Discovered == nil {
		return nil, nil
	}
	return s.cfg.Discovered(r)
}

// Status returns what each proxy runs, and what is wrong.
func (s *Server) Status() Status {
	st := s.ledger.Status()
	st.Problems = slices.Concat(s.live.problems(), s.facts.Problems())
	if st.Source != nil {
		st.Problems = append(st.Problems, st.Source.Problems...)
	}
	st.Kubernetes, st.IgnoredEndpoints = s.live.kubernetes(), s.hub.Ignored()
	for _, l := range st.Lacking {
		st.Problems = append(st.Problems, lacking(l))
	}
	return st
}

// lacking tells of a part of a route that nobody answers.
func lacking(l Lacking) diag.Diagnostic {
	whose := fmt.Sprintf("cluster %q", l.Cluster)
	if l.Version != "" {
		whose = fmt.Sprintf("version %q of %q", l.Version, l.Service)
	}
	return diag.Warn(diag.CodeNoEndpoints, l.Pos, "route table %q sends %d of %d requests to %s, which has had no endpoint since %s: they are answered with 503",
		l.Routes, l.Weight, l.Total, whose, l.Since.UTC().Format(time.RFC3339)).
		WithFix("start the version's workload, tell %s its addresses, or take the version out of the split", l.Source)
}

// SourceChanged has those who wait for a commit ask again what the source refuses.
func (s *Server) SourceChanged() { s.ledger.Poke() }

// Run serves until ctx ends, then lets streams go and returns nil. Proxies keep
// what they have. It returns an error if a part of the server fails.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	gated := newGate(s.xds, s.cfg.ConnectionsPerSecond, s.cfg.Now, s.meter.rejected.Inc)
	g.Go(func() error {
		if err := s.grpc.Serve(gated); !errors.Is(err, grpc.ErrServerStopped) { // before it began
			return err
		}
		return nil
	})
	g.Go(func() error { return s.live.run(ctx) })
	g.Go(func() error { return giveBack(ctx, s.meter.opened.Load) })
	g.Go(func() error { s.facts.Run(ctx.Done()); return nil })
	g.Go(func() error { return s.hub.Watch(ctx) })
	g.Go(func() error { return s.peers.exchangeAll(ctx) })
	admin := s.httpServer(s.adminMux())
	servers := []*http.Server{admin}
	g.Go(func() error { return serveHTTP(admin, s.admin) })
	if s.web != nil {
		web := s.httpServer(s.webMux())
		// Nothing here takes long; who does not read his answer must not keep it. The
		// admin socket is for this user alone, and waiting takes as long as it takes.
		web.ReadTimeout, web.WriteTimeout = 10*time.Second, 30*time.Second
		servers = append(servers, web)
		g.Go(func() error { return serveHTTP(web, s.web) })
	}
	g.Go(func() error {
		<-ctx.Done()
		s.stop(servers)
		return nil
	})
	err := g.Wait()
	s.facts.Close()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serving xDS: %w", err)
	}
	return nil
}

func serveHTTP(h *http.Server, l net.Listener) error {
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// stop ends everything. ADS streams never end by themselves, so the grace is for
// what is being written.
func (s *Server) stop(servers []*http.Server) {
	s.mu.Lock()
	s.gen++
	s.cancel()
	s.mu.Unlock()
	t := time.AfterFunc(s.cfg.Grace, s.grpc.Stop)
	s.hub.Drain()
	s.grpc.GracefulStop()
	t.Stop()
	for _, h := range servers {
		_ = h.Close() // ends requests that wait
	}
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
}

// maxScrapes are answered at the same time, the others with 503.
const maxScrapes = 10

func (s *Server) webMux() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// SocketPath is the admin socket of a server with that state folder.
func SocketPath(stateDir string) string { return stateDir + string(os.PathSeparator) + socketName }
