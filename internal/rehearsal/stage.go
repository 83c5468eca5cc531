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
	processes []*envoybin.Process      // of the classes' first workloads
	doors     map[compiler.Door]string // addresses
	inbound   map[string]string        // Unix sockets of listeners, of the first workload
	ids       authority
	visitors  visitors
	outsiders outsiders
	mu        sync.Mutex
	seen      []Seen
}

// maxSeen is how many requests a stage remembers.
const maxSeen = 20000

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
	return StartMany(ctx, bin, r, clock, nil)
}

// StartMany is Start with so many workloads of the classes that are named, each with a proxy
// and applications of its own, in place of one: Seen.Workload tells them apart. What else is
// asked of a class or a target is asked of its first workload.
func StartMany(ctx context.Context, bin envoybin.Binary, r compiler.Rehearsal, clock func() time.Time, workloads map[release.Class]int) (*Stage, error) {
	dir, err := os.MkdirTemp("", "meshc-") // short: a Unix socket's path has 104 bytes on some systems
	if err != nil {
		return nil, fmt.Errorf("starting a rehearsal: %w", err)
	}
	s := &Stage{dir: dir, doors: map[compiler.Door]string{}}
	if err := s.start(ctx, bin, r, clock, workloads); err != nil {
		s.Stop()
		return nil, fmt.Errorf("starting a rehearsal: %w", err)
	}
	return s, nil
}

func (s *Stage) start(ctx context.Context, bin envoybin.Binary, r compiler.Rehearsal, clock func() time.Time, workloads map[release.Class]int) error {
	plot, err := cut(r)
	if err != nil {
		return err
	}
	ids, err := newAuthority(ctx, filepath.Join(s.dir, "ca"), r.TrustDomain, clock)
	if err != nil {
		return err
	}
	at := places{apps: map[string][]string{}, sockets: map[string][]string{}}
	s.ids, s.inbound = ids, map[string]string{}
	for i, l := range plot.inbound {
		for w := range max(1, workloads[l.of]) {
			at.sockets[l.name] = append(at.sockets[l.name], filepath.Join(s.dir, fmt.Sprintf("%d-%d.s", i, w)))
		}
		s.inbound[l.name] = at.sockets[l.name][0]
	}
	others, err := newOutsiders(clock)
	if err != nil {
		return err
	}
	s.outsiders = others
	if s.visitors, err = newVisitors(clock); err != nil {
		return err
	}
	for _, c := range plot.applications {
		for w := range max(1, workloads[c.of]) {
			a, err := s.serve(ctx, c, w, others)
			if err != nil {
				return err
			}
			s.apps, at.apps[c.name] = append(s.apps, a), append(at.apps[c.name], a.addr)
		}
	}
	if plot.proxied {
		if at.proxy, err = s.serveProxy(ctx, at.apps); err != nil {
			return err
		}
	}
	s.classes = plot.classes
	if err := s.startProxies(ctx, workloads, func(class release.Class, workload int) (*envoybin.Process, error) {
		secrets, err := ids.secrets(class)
		if err != nil {
			return nil, err
		}
		boot, err := bootstrap(r.Release, class, at.of(workload), append(secrets, others.secrets(plot.roots())...), s.visitors)
		if err != nil {
			return nil, err
		}
		return envoybin.Start(ctx, bin, boot, envoybin.StartOptions{Until: envoybin.UntilLive})
	}); err != nil {
		return err
	}
	return s.findDoors(ctx, plot.classes, r.Doors)
}

// startProxies starts the proxies of all classes, those of their first workloads first.
func (s *Stage) startProxies(ctx context.Context, workloads map[release.Class]int, start func(release.Class, int) (*envoybin.Process, error)) error {
	type proxy struct {
		of       release.Class
		workload int
	}
	var all, more []proxy
	for _, c := range s.classes {
		all = append(all, proxy{of: c})
		for w := 1; w < workloads[c]; w++ {
			more = append(more, proxy{c, w})
		}
	}
	all = append(all, more...)
	s.processes = make([]*envoybin.Process, len(all))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, p := range all {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			// The process lives longer than the group: it has not its context.
			var err error
			s.processes[i], err = start(p.of, p.workload)
			return err
		})
	}
	return g.Wait()
}

// serve runs what stands behind a cluster.
func (s *Stage) serve(ctx context.Context, a application, workload int, others outsiders) (app, error) {
	who := Seen{Target: strings.TrimPrefix(a.name, localCluster), Workload: workload}
	if a.tcp {
		return serveTCP(ctx, who, s.saw)
	}
	secure, err := others.config(a.proves)
	if err != nil {
		return app{}, err
	}
	return serveHTTP(ctx, who, secure, s.saw)
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
		if d.Missing != "" || d.Plain { // a socket (inbound)
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

// PID is the process of the first proxy of a class, for those who measure what it takes; false if the
// rehearsal has none.
func (s *Stage) PID(of release.Class) (int, bool) {
	if i := slices.Index(s.classes, of); i >= 0 {
		return s.processes[i].PID(), true
	}
	return 0, false
}

// Entrance connects to an inbound listener over mTLS with the identity of a class,
// but without its proxy: as somebody could who has taken hold of its key.
func (s *Stage) Entrance(as release.Class, listener string) (func(context.Context) (net.Conn, error), error) {
	return s.EntranceFor(as, listener, "")
}

// EntranceFor is Entrance by a connection that asks for a name (SNI), as one does to a gateway's port for proxies.
func (s *Stage) EntranceFor(as release.Class, listener, name string) (func(context.Context) (net.Conn, error), error) {
	socket, ok := s.inbound[listener]
	if !ok {
		return nil, fmt.Errorf("the rehearsal has no listener %q", listener)
	}
	own, err := s.ids.certificate(as)
	if err != nil {
		return nil, err
	}
	// Who the other side is does not matter to those who come this way.
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, InsecureSkipVerify: true, ServerName: name}
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

// Plain connects to an inbound listener without TLS, as somebody does who has no proxy.
func (s *Stage) Plain(ctx context.Context, listener string) (net.Conn, error) {
	socket, ok := s.inbound[listener]
	if !ok {
		return nil, fmt.Errorf("the rehearsal has no listener %q", listener)
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", listener, err)
	}
	return c, nil
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

// Application is where the application of a target ("namespace/service/port/version") listens,
// "127.0.0.1:port", for those who lead to it by other proxies; false if the rehearsal has none.
func (s *Stage) Application(target string) (string, bool) {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.who.Target == target })
	if i < 0 {
		return "", false
	}
	return s.apps[i].addr, true
}

// Away ends the application of a target that speaks HTTP ("namespace/service/port/version"),
// so that it refuses connections. back serves at the same address again.
func (s *Stage) Away(target string) (back func(context.Context) error, err error) {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.who.Target == target && a.again != nil })
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

// Recast gives the place of an application that speaks HTTP to somebody else's server, behind the TLS of an external.
func (s *Stage) Recast(ctx context.Context, target string, serve func(net.Listener)) error {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.who.Target == target && a.again != nil })
	if i < 0 {
		return fmt.Errorf("replacing an application: there is no %q that speaks HTTP", target)
	}
	s.apps[i].close()
	l, err := listen(ctx, s.apps[i].addr)
	if err != nil {
		return err
	}
	s.apps[i].close = func() { _ = l.Close() }
	if secure := s.apps[i].secure; secure != nil {
		secure = secure.Clone()
		secure.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, secure)
	}
	go serve(l)
	return nil
}

// Rename gives an external that speaks TLS ("external/namespace/name/port") a certificate for other names, of
// the same authority.
func (s *Stage) Rename(ctx context.Context, target string, names ...string) error {
	i := slices.IndexFunc(s.apps, func(a app) bool { return a.who.Target == target && a.secure != nil })
	if i < 0 {
		return fmt.Errorf("renaming an external: there is no %q that speaks TLS", target)
	}
	secure, err := s.outsiders.config(&proof{names: names})
	if err != nil {
		return err
	}
	gone := s.apps[i]
	gone.close()
	s.apps[i], err = serveHTTPAt(ctx, gone.addr, gone.who, secure, s.saw)
	return err
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
