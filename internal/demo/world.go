package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"meshc.dev/meshc/internal/bookinfo"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/narrate"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
)

// World is everything that runs, and where. Paths in commands are relative to
// dir, so that what is printed is what was run.
type World struct {
	tools
	out  *narrate.Narrator
	opts Options
	dir  string
	// shift is how far the example's ports were moved.
	shift int

	repo   *people.Repo
	server *child.Child
	listen string // the server's address for proxies
	http   string // the server's address for metrics
	agents map[string]*child.Child
	load   *Load // runs in the background from the first release on

	first, canary string // commits

	mu    sync.Mutex
	stops []func()
}

func newWorld(ctx context.Context, o Options, n *narrate.Narrator) (*World, error) {
	// Unix sockets have short paths, and a Mac's folder for temporary files has a long one.
	dir, err := os.MkdirTemp(shortTemp(), "meshc-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the demo: %w", err)
	}
	w := &World{out: n, opts: o, dir: dir, agents: map[string]*child.Child{}}
	w.onClose(func() { _ = os.RemoveAll(dir) })
	if w.tools, err = findTools(ctx, o, dir, n); err != nil {
		w.close()
		return nil, err
	}
	n.Say("meshc demo: Bookinfo behind real Envoys (%s), on this machine only.", w.envoy.Version)
	n.Say("Everything is in %s; commands are run there.", dir)
	return w, nil
}

func shortTemp() string {
	if dir := os.TempDir(); len(dir) <= 20 {
		return dir
	}
	if st, err := os.Stat("/tmp"); err == nil && st.IsDir() {
		return "/tmp"
	}
	return ""
}

// onClose registers what undoes something; the last comes first.
func (w *World) onClose(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stops = append(w.stops, f)
}

// close undoes everything. It takes no context: also an interrupted demo cleans up.
func (w *World) close() {
	for {
		w.mu.Lock()
		if len(w.stops) == 0 {
			w.mu.Unlock()
			return
		}
		last := len(w.stops) - 1
		f := w.stops[last]
		w.stops = w.stops[:last]
		w.mu.Unlock()
		f()
	}
}

// path is a file of the demo, as an absolute path.
func (w *World) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// port is the example's port n, where it has been moved to.
func (w *World) port(n int) string { return fmt.Sprintf("127.0.0.1:%d", n+w.shift) }

// start starts a program that runs until the end, with a log in logs/.
func (w *World) start(name, program string, args ...string) (*child.Child, error) {
	if err := os.MkdirAll(w.path("logs"), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for logs: %w", err)
	}
	return child.Start(child.Spec{Path: program, Args: args, Dir: w.dir, Log: w.logFile(name)})
}

func (w *World) logFile(name string) string { return w.path("logs", name+".log") }

// logs are the ends of the logs of what matters in a failure.
func (w *World) logs() map[string]string {
	out := map[string]string{}
	files, _ := filepath.Glob(w.path("logs", "*.log")) // the pattern is well-formed
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || len(b) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		out[filepath.Base(f)] = strings.Join(lines[max(0, len(lines)-4):], "\n")
	}
	return out
}

// alive says which of the programs that ought to run has ended, and which Envoy
// complains of its configuration.
func (w *World) alive() error {
	var errs []error
	check := func(name string, c *child.Child) {
		if c == nil {
			return
		}
		select {
		case <-c.Done():
			errs = append(errs, fmt.Errorf("%s has ended: %w", name, errors.Join(c.Err(), errors.New("see its log"))))
		default:
		}
	}
	check("meshc serve", w.server)
	for name, c := range w.agents {
		check("meshc-agent "+name, c)
		if b, err := os.ReadFile(w.logFile(name)); err == nil {
			if lines := envoybin.Complaints(string(b)); len(lines) > 0 {
				errs = append(errs, fmt.Errorf("the Envoy of %s complains: %s", name, lines[0]))
			}
		}
	}
	return errors.Join(errs...)
}

// result is what a command of the user's came to.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

const commandLimit = 90 * time.Second

// meshcWant runs a command of meshc's and tells about it: the line, at most lines of
// its output (0 = all, -1 = none), the exit code. A code other than want is an error.
func (w *World) meshcWant(ctx context.Context, want, lines int, args ...string) (result, error) {
	w.out.Command(child.Spec{Path: "meshc", Args: args}.String())
	r, err := w.quiet(ctx, args...)
	if err != nil {
		return r, err
	}
	if lines >= 0 {
		w.out.Output(strings.TrimLeft(strings.TrimRight(r.stdout, "\n")+"\n"+r.stderr, "\n"), lines)
	}
	w.out.Exit(r.code, r.took)
	if r.code != want {
		return r, fmt.Errorf("meshc %s: exit code %d instead of %d: %s", args[0], r.code, want, strings.TrimSpace(r.stderr))
	}
	return r, nil
}

// quiet runs a command of meshc's without telling.
func (w *World) quiet(ctx context.Context, args ...string) (result, error) {
	start := time.Now()
	out, err := child.Run(ctx, child.Spec{Path: w.tools.meshc, Args: args, Dir: w.dir}, commandLimit)
	r := result{code: out.Code, stdout: string(out.Stdout), stderr: string(out.Stderr), took: time.Since(start)}
	if err == nil && out.TimedOut {
		err = fmt.Errorf("meshc %s took more than %v", args[0], commandLimit)
	}
	return r, err
}

// eventually asks until ok, the step's time is up, or something has died.
func (w *World) eventually(ctx context.Context, what string, ok func() (bool, error)) (time.Duration, error) {
	start := time.Now()
	var last error
	for {
		good, err := ok()
		if good {
			return time.Since(start), nil
		}
		last = err
		if err := w.alive(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting until %s: %w", what, errors.Join(ctx.Err(), last))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startApps runs the applications in this process: they are not what is shown.
func (w *World) startApps() error {
	ratings := func(local int) map[string]string { return map[string]string{"ratings": w.port(local)} }
	s, err := bookinfo.Start([]bookinfo.App{
		{Name: "productpage", Version: "v1", Listen: w.port(21201), Calls: map[string]string{"details": w.port(21301), "reviews": w.port(21302)}},
		{Name: "details", Version: "v1", Listen: w.port(21211)},
		{Name: "reviews", Version: "v1", Listen: w.port(21221), Calls: ratings(21321)},
		{Name: "reviews", Version: "v2", Listen: w.port(21222), Calls: ratings(21322)},
		{Name: "reviews", Version: "v3", Listen: w.port(21223), Calls: ratings(21323)},
		{Name: "ratings", Version: "v1", Listen: w.port(21231)},
		{Name: "report", Version: "v1", Listen: w.port(21241), Calls: map[string]string{"bookinfo/ratings": w.port(21341)}},
	}, w.opts.Log)
	if err != nil {
		return err
	}
	w.onClose(s.Stop)
	return nil
}

// identities are the proxies of the example: namespace/account.
func identities() []string {
	return []string{"edge/edge", "bookinfo/productpage", "bookinfo/details", "bookinfo/reviews-v1", "bookinfo/reviews-v2", "bookinfo/reviews-v3",
		"bookinfo/ratings", "reports/report"}
}

// stopAll ends children at the same time; each may drain.
func stopAll(children []*child.Child) {
	var wg sync.WaitGroup
	for _, c := range slices.Backward(children) {
		wg.Go(func() { c.Stop(8 * time.Second) })
	}
	wg.Wait()
}

// wait keeps everything running until ctx ends.
func (w *World) wait(ctx context.Context) {
	w.out.Say("\nStill running, until Ctrl-C:")
	w.out.Say("  page      http://localhost:%d/productpage (sign in as jason to be a tester)", 21080+w.shift)
	w.out.Say("  as JSON   curl -H 'Host: bookinfo.example' http://%s/api/v1/products/0", w.port(21080))
	w.out.Say("  metrics   http://%s/metrics", w.http)
	w.out.Say("  folder    %s (mesh/ is the repository, logs/ the logs, trust.yaml who may approve)", w.dir)
	w.out.Say("  status    cd %s && %s status --state server", w.dir, w.tools.meshc)
	<-ctx.Done()
}
