package rehearsal

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
)

// parallel is how many Envoys are started at once.
const parallel = 3

// Stage is a running rehearsal. Its owner owes a Stop.
type Stage struct {
	dir       string
	apps      []app
	classes   []release.Class
	processes []*envoybin.Process      // of the classes
	doors     map[compiler.Door]string // addresses
	inbound   map[string]string        // Unix sockets of listeners
	ids       authority
	mu        sync.Mutex
	seen      []Seen
}

// maxSeen is how many requests a stage remembers.
const maxSeen = 5000

// Seen is what has arrived at all applications so far, copies of requests included;
// the oldest are forgotten.
func (s *Stage) Seen() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *Stage) saw(x Seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, x)
	if len(s.seen) >= 2*maxSeen {
		s.seen = slices.Clone(s.seen[maxSeen:])
	}
}

// Start runs what the doors of a rehearsal lead to and returns when every proxy
// is live. clock dates the certificates. After an error nothing is left running.
func Start(ctx context.Context, bin envoybin.Binary, r compiler.Rehearsal, clock func() time.Time) (*Stage, error) {
	dir, err := os.MkdirTemp("", "meshc-") // short: a Unix socket's path has 104 bytes on some systems
	if err != nil {
		return nil, fmt.Errorf("starting a rehearsal: %w", err)
	}
	s := &Stage{dir: dir, doors: map[compiler.Door]string{}}
	if err := s.start(ctx, bin, r, clock); err != nil {
		s.Stop()
		return nil, fmt.Errorf("starting a rehearsal: %w", err)
	}
	return s, nil
}

func (s *Stage) start(ctx context.Context, bin envoybin.Binary, r compiler.Rehearsal, clock func() time.Time) error {
	plot, err := cut(r)
	if err != nil {
		return err
	}
	ids, err := newAuthority(ctx, filepath.Join(s.dir, "ca"), r.TrustDomain, clock)
	if err != nil {
		return err
	}
	at := places{apps: map[string]string{}, sockets: map[string]string{}}
	s.ids, s.inbound = ids, at.sockets
	for i, name := range plot.inbound {
		at.sockets[name] = filepath.Join(s.dir, strconv.Itoa(i)+".s")
	}
	others, err := newOutsiders(clock)
	if err != nil {
		return err
	}
	for _, c := range plot.applications {
		a, err := s.serve(ctx, c, others)
		if err != nil {
			return err
		}
		s.apps, at.apps[c.name] = append(s.apps, a), a.addr
	}
	s.classes, s.processes = plot.classes, make([]*envoybin.Process, len(plot.classes))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, class := range plot.classes {
		g.Go(func() error {
			secrets, err := ids.secrets(class)
			if err != nil {
				return err
			}
			boot, err := bootstrap(r.Release, class, at, append(secrets, others.secrets(plot.roots())...))
			if err != nil {
				return err
			}
			if err := gctx.Err(); err != nil {
				return err
			}
			// The process lives longer than the group: ctx, not gctx.
			s.processes[i], err = envoybin.Start(ctx, bin, boot, envoybin.StartOptions{Until: envoybin.UntilLive})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.findDoors(ctx, plot.classes, r.Doors)
}

// serve runs what stands behind a cluster.
func (s *Stage) serve(ctx context.Context, a application, others outsiders) (app, error) {
	target := strings.TrimPrefix(a.name, localCluster)
	if a.tcp {
		return serveTCP(ctx, target, s.saw)
	}
	secure, err := others.config(a.proves)
	if err != nil {
		return app{}, err
	}
	return serveHTTP(ctx, target, secure, s.saw)
}

// findDoors asks the Envoys on which ports they listen.
func (s *Stage) findDoors(ctx context.Context, classes []release.Class, doors []compiler.Door) error {
	at := map[string]string{}
	for i, class := range classes {
		raw, err := s.processes[i].Admin(ctx, "/listeners?format=json")
		if err != nil {
			return err
		}
		var page struct {
			Listeners []struct {
				Name  string `json:"name"`
				Local struct {
					Socket struct {
						Address string `json:"address"`
						Port    int    `json:"port_value"`
					} `json:"socket_address"`
				} `json:"local_address"`
			} `json:"listener_statuses"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return fmt.Errorf("reading the listeners of %s: %w", class, err)
		}
		for _, l := range page.Listeners {
			at[class.String()+" "+l.Name] = l.Local.Socket.Address + ":" + strconv.Itoa(l.Local.Socket.Port)
		}
	}
	for _, d := range doors {
		if d.Missing != "" {
			continue
		}
		addr, ok := at[d.Class.String()+" "+d.Listener]
		if !ok {
			return fmt.Errorf("the proxy of %s does not listen at %q", d.Class, d.Listener)
		}
		s.doors[d] = addr
	}
	return nil
}

// Entrance connects to an inbound listener over mTLS with the identity of a class,
// but without its proxy: as somebody could who has taken hold of its key.
func (s *Stage) Entrance(as release.Class, listener string) (func(context.Context) (net.Conn, error), error) {
	socket, ok := s.inbound[listener]
	if !ok {
		return nil, fmt.Errorf("the rehearsal has no listener %q", listener)
	}
	own, err := s.ids.certificate(as)
	if err != nil {
		return nil, err
	}
	// Who the other side is does not matter to those who come this way.
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, InsecureSkipVerify: true}
	return func(ctx context.Context) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", listener, err)
		}
		c := tls.Client(raw, config)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("greeting %s: %w", listener, err)
		}
		return c, nil
	}, nil
}

// Usurp listens in the place of an inbound listener, with the identity of its class:
// as somebody could who has taken hold of its key. Proxies that are already connected
// stay so.
func (s *Stage) Usurp(as release.Class, listener string) (net.Listener, error) {
	socket, ok := s.inbound[listener]
	if !ok {
		return nil, fmt.Errorf("the rehearsal has no listener %q", listener)
	}
	own, err := s.ids.certificate(as)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil {
		return nil, fmt.Errorf("taking the place of %s: %w", listener, err)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("taking the place of %s: %w", listener, err)
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}}), nil
}

// Away ends the application of a target that speaks HTTP ("namespace/service/port/version"),
// so that it refuses connections. back serves at the same address again.
func (s *Stage) Away(target string) (back func(context.Context) error, err error) {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.target == target && a.again != nil })
	if i < 0 {
		return nil, fmt.Errorf("ending an application: there is no %q that speaks HTTP", target)
	}
	gone := s.apps[i]
	gone.close()
	return func(ctx context.Context) error {
		a, err := gone.again(ctx)
		if err == nil {
			s.apps[i] = a
		}
		return err
	}, nil
}

// Recast gives the place of an application that speaks HTTP to somebody else's server.
func (s *Stage) Recast(ctx context.Context, target string, serve func(net.Listener)) error {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.target == target && a.again != nil })
	if i < 0 {
		return fmt.Errorf("replacing an application: there is no %q that speaks HTTP", target)
	}
	s.apps[i].close()
	l, err := listen(ctx, s.apps[i].addr)
	if err != nil {
		return err
	}
	s.apps[i].close = func() { _ = l.Close() }
	go serve(l)
	return nil
}

// Classes are those whose proxies run, in order.
func (s *Stage) Classes() []release.Class { return slices.Clone(s.classes) }

// Admin reads a page of the admin interface of a class's proxy, such as "/clusters".
func (s *Stage) Admin(ctx context.Context, class release.Class, page string) ([]byte, error) {
	i := slices.Index(s.classes, class)
	if i < 0 {
		return nil, fmt.Errorf("the rehearsal has no proxy of %s", class)
	}
	return s.processes[i].Admin(ctx, page)
}

// Inbound is the Unix socket where a version's sidecar takes requests, for those who
// are a proxy themselves; listener is "inbound/namespace/service/port/version".
func (s *Stage) Inbound(listener string) (path string, ok bool) {
	path, ok = s.inbound[listener]
	return path, ok
}

// Stop ends all proxies and applications and removes their files. Calling it
// again is harmless.
func (s *Stage) Stop() {
	var g errgroup.Group
	for _, p := range s.processes {
		if p != nil {
			g.Go(func() error { p.Stop(); return nil })
		}
	}
	_ = g.Wait()
	for _, a := range s.apps {
		a.close()
	}
	_ = os.RemoveAll(s.dir)
}
