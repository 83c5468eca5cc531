package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/certstore"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/kubewatch"
	"meshc.dev/meshc/internal/probe"
	"meshc.dev/meshc/internal/redirect"
)

// Run is the agent's life: identity first, then sockets, bootstrap, Envoy;
// until ctx ends or Envoy does. The int is the exit status: Envoy's own if it
// was started here and ended by itself, else 0. envoyOut takes Envoy's output.
//
// When ctx ends, a child is drained and stopped before SDS and ADS close. An
// Envoy that runs by itself is left alone: it keeps its configuration and
// connections, and comes back to the next agent.
func Run(ctx context.Context, cfg Config, envoyOut io.Writer, log *slog.Logger) (int, error) {
	cfg, problems := cfg.Normalise()
	if err := problems.Err(); err != nil {
		return 0, err
	}
	if cfg.Envoy != "" {
		if err := checkEnvoy(cfg.Envoy); err != nil {
			return 0, err
		}
	}
	if cfg.RequireRedirect {
		if err := redirect.Stands(ctx); err != nil {
			return 0, err
		}
	}
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	a := newAgent(cfg, envoyOut, log)
	if cfg.Probes != "" {
		if a.page.probes, err = readProbes(cfg.Probes); err != nil {
			return 0, err
		}
	}
	if err := a.listen(); err != nil {
		return 0, errors.Join(err, a.close())
	}
	return a.run(ctx)
}

type agent struct {
	cfg      Config
	envoyOut io.Writer
	log      *slog.Logger

	hold  *holder
	keep  source
	certs *certstore.Store
	relay *relay
	page  *page

	servers []server
}

// server is one of the agent's sockets.
type server struct {
	serve func() error
	stop  func()
	close func() error
}

func newAgent(cfg Config, envoyOut io.Writer, log *slog.Logger) *agent {
	h, st := newHolder(), &stats{}
	keep := source(&keeper{cfg: cfg, hold: h, log: log, stats: st, look: lookEvery})
	if cfg.SPIFFEEndpoint != "" {
		keep = newWorkload(cfg, h, log, st)
	}
	places := certstore.Places{Folder: cfg.CertificateDir}
	if cfg.SecretsDir != "" {
		places.Cluster = &kubewatch.API{Address: cfg.KubernetesAPI, Token: filepath.Join(cfg.SecretsDir, "token"), Roots: filepath.Join(cfg.SecretsDir, "ca.crt")}
	}
	certs := certstore.New(places, cfg.Clock, log)
	return &agent{
		cfg: cfg, envoyOut: envoyOut, log: log, hold: h, keep: keep, certs: certs,
		relay: &relay{servers: cfg.Servers, clock: cfg.Clock, hold: h, log: log, stats: st, roots: cfg.serverRoots},
		page:  &page{hold: h, certs: certs, admin: newAdmin(cfg.adminDial()), clock: cfg.Clock, stats: st, redirected: cfg.RequireRedirect, proxyless: cfg.Proxyless},
	}
}

func readProbes(text string) (*probe.Set, error) {
	at, err := probe.PodAddress()
	if err != nil {
		return nil, problem(flagProblem("leave MESHC_PROBES out where there are no pods", "MESHC_PROBES: %v", err))
	}
	s, err := probe.Parse([]byte(text), at)
	if err != nil {
		return nil, problem(flagProblem("write one object by container and kind, as docs/pods.md shows", "MESHC_PROBES: %v", err))
	}
	return s, nil
}

// listen opens every socket before the token is spent: a wrong path must not
// cost a token.
func (a *agent) listen() error {
	if a.cfg.Proxyless {
		if err := os.MkdirAll(filepath.Join(a.cfg.StateDir, programFolder), 0o700); err != nil {
			return err
		}
	}
	sds := &sds{hold: a.hold, certs: a.certs, log: a.log, stats: a.page.stats, roots: a.cfg.authorities(a.log)}
	for _, g := range []struct {
		path string
		s    *grpc.Server
	}{{a.cfg.SDSSocket, sds.newServer()}, {a.cfg.ADSSocket, a.relay.newADSServer()}} {
		if a.cfg.Proxyless && g.path == a.cfg.SDSSocket {
			continue // its certificate lies in files
		}
		l, err := listenUnix(g.path)
		if err != nil {
			return err
		}
		a.servers = append(a.servers, server{func() error {
			if err := g.s.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
				return err
			}
			return nil // stopped before it began
		}, g.s.Stop, l.Close})
	}
	l, err := listenStatus(a.cfg.StatusAddr)
	if err != nil {
		return err
	}
	h := &http.Server{Handler: a.page.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	a.servers = append(a.servers, server{func() error {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, func() { _ = h.Close() }, l.Close})
	a.log.Info("agent listening", "sds", a.cfg.SDSSocket, "ads", a.cfg.ADSSocket, "status", l.Addr().String())
	return nil
}

func (a *agent) close() error {
	var errs []error
	for _, s := range a.servers {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// run has two lives: ctx, the wish to go on, and a longer one for what Envoy
// needs while it drains.
func (a *agent) run(ctx context.Context) (int, error) {
	long, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, long := errgroup.WithContext(long)
	for _, s := range a.servers {
		g.Go(s.serve)
		context.AfterFunc(long, s.stop)
	}
	code, err := a.work(ctx, long, g)
	end()
	return code, errors.Join(err, g.Wait())
}

// work returns when Envoy has ended, ctx has, or one of the group has failed.
func (a *agent) work(ctx, long context.Context, g *errgroup.Group) (int, error) {
	joining, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(long, cancel)()
	if err := a.keep.first(joining); err != nil {
		if joining.Err() != nil {
			return 0, nil // asked to end, or a server failed, which the group reports
		}
		return 0, err
	}
	next, err := a.relay.open(long) // before the bootstrap is there: whoever starts by it is answered
	if err != nil {
		return 0, err
	}
	if a.cfg.Proxyless { // before the bootstrap is there, too
		files := &programFiles{dir: filepath.Join(a.cfg.StateDir, programFolder), hold: a.hold, log: a.log}
		again, err := files.write()
		if err != nil {
			return 0, err
		}
		g.Go(func() error { return files.run(long, again) })
	}
	if err := a.bootstrap(); err != nil {
		return 0, err
	}
	g.Go(func() error { return a.keep.run(long) })
	g.Go(func() error { return giveBack(long, a.page.stats) })
	g.Go(func() error { return a.relay.run(long, next) })
	g.Go(func() error { return a.certs.Run(long) })
	if a.cfg.Proxyless {
		a.page.written.Store(true)
	} else {
		g.Go(func() error { return keepRole(long, a.page.admin, a.log) })
	}
	if a.cfg.Envoy == "" {
		select {
		case <-ctx.Done():
		case <-long.Done():
		}
		return 0, nil
	}
	envoy, err := startEnvoy(a.cfg, a.envoyOut, a.log)
	if err != nil {
		return 0, err
	}
	select {
	case <-envoy.done:
		a.log.Error("envoy ended", "status", envoy.status())
		return envoy.status(), nil
	case <-ctx.Done():
	case <-long.Done():
	}
	a.page.stopping.Store(true)
	envoy.stop()
	a.log.Info("envoy stopped", "status", envoy.status())
	return 0, nil
}

func (a *agent) bootstrap() error {
	s, _ := a.hold.get()
	who, err := ca.IdentityOf(s.id)
	if err != nil {
		return err
	}
	if a.cfg.NodeID == "" {
		name, err := instance(a.cfg.StateDir)
		if err != nil {
			return err
		}
		a.cfg.NodeID = who.String() + "/" + name
	}
	write := Bootstrap
	if a.cfg.Proxyless {
		write = ProgramBootstrap
	}
	boot, err := write(a.cfg, who)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(a.cfg.BootstrapOut, boot, 0o600); err != nil {
		return err
	}
	a.log.Info("bootstrap written", "path", filepath.Clean(a.cfg.BootstrapOut), "node", a.cfg.NodeID)
	return nil
}
