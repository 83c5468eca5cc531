package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"meshc.dev/meshc/ci/bench/internal/binaries"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
)

// pod measures what the programs hold as users start them: `meshc serve` with a signed
// release of many services, and agent and Envoy in network namespaces, with all that a pod
// captures and nobody who calls. Linux, root, `ip`.
func (b *bench) pod(s report.Section) (err error) {
	services, settle := 1000, 10*time.Second
	if b.quick {
		services, settle = 20, time.Second
	}
	dir, err := os.MkdirTemp("/tmp", "mp") // sockets have short paths
	if err != nil {
		return err
	}
	w := &installation{b: b, dir: dir}
	defer func() { err = errors.Join(err, w.close()) }()
	b.say("pod: %d services", services)
	if err := w.serve(services); err != nil {
		return err
	}
	pods := []sidecar{{account: "few", calls: fewCalls}, {account: "all", calls: services}, {account: "few", calls: fewCalls, everything: true}, {account: "all", calls: services, everything: true}}
	for i := range pods {
		if err := w.start(&pods[i]); err != nil {
			return err
		}
	}
	time.Sleep(settle)
	series := map[string]float64{}
	for _, p := range pods {
		n, err := w.report(s, p, services)
		if err != nil {
			return err
		}
		series[p.state()] = n
	}
	s.AtLeast(10, "series of a proxy that knows the whole mesh and counts everything, beside one that knows whom it calls and counts what is looked at", series["all-more"]/series["few"], "×", "pages of the same agents")
	m, err := measure.ShareOf(w.server.PID())
	if err != nil {
		return err
	}
	s.Add(fmt.Sprintf("meshc serve with a release of %d services", services), measure.MiB(m.Resident), "MiB", "resident, with two proxies; highest point %.1f MiB, its compiler in processes of its own", measure.MiB(m.Peak))
	return nil
}

// fewCalls is how many services the smaller of the sidecars calls.
const fewCalls = 10

// sidecar is agent and Envoy of a pod.
type sidecar struct {
	account string
	calls   int
	// everything says that Envoy counts all that it can, as it does by itself.
	everything bool
	agent      *child.Child
	envoy      int // process
}

// state is the name of the folder of the pod's agent, and of its namespace.
func (p sidecar) state() string {
	if p.everything {
		return p.account + "-more"
	}
	return p.account
}

// nth is which of its account's pods it is, in the order in which they start.
func (p sidecar) nth() int {
	if p.everything {
		return 2
	}
	return 1
}

// report tells of both processes, and returns how many series whoever scrapes the pod has.
func (w *installation) report(s report.Section, p sidecar, services int) (float64, error) {
	name := fmt.Sprintf("of a pod that calls %d of %d services", p.calls, services)
	if p.everything {
		name += ", everything counted"
	}
	a, err := measure.ShareOf(p.agent.PID())
	if err != nil {
		return 0, err
	}
	e, err := measure.ShareOf(p.envoy)
	if err != nil {
		return 0, err
	}
	page, err := w.page(p)
	if err != nil {
		return 0, err
	}
	series := 0
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if !strings.Contains(page, "meshc_agent_envoy_metrics 1") {
		return 0, fmt.Errorf("%s: Envoy's metrics are missing:\n%.2000s", name, page)
	}
	if !p.everything {
		s.AtMost(25, "agent "+name, measure.MiB(a.Resident), "MiB", "resident; its own and its part of what is shared %.1f MiB; highest point %.1f MiB", measure.MiB(a.Proportional), measure.MiB(a.Peak))
	}
	s.Add("Envoy "+name, measure.MiB(e.Resident), "MiB", "resident; its own and its part of what is shared %.1f MiB; one worker", measure.MiB(e.Proportional))
	s.Add("series "+name, float64(series), "", "on the agent's page, of %.0f KiB; nobody has called yet", float64(len(page))/1024)
	return float64(series), nil
}

// page is what a pod's agent tells whoever scrapes it.
func (w *installation) page(p sidecar) (string, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.path(p.state(), "status.sock"))
	}}}
	req, err := http.NewRequestWithContext(w.b.ctx, http.MethodGet, "http://agent/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// installation is meshc with its files in one folder.
type installation struct {
	b      *bench
	dir    string
	listen string
	server *child.Child
	stops  []func() error
}

func (w *installation) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *installation) close() error {
	var err error
	for i := len(w.stops) - 1; i >= 0; i-- {
		err = errors.Join(err, w.stops[i]())
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// run runs a program to its end.
func (w *installation) run(limit time.Duration, program string, args ...string) (string, error) {
	out, err := child.Run(w.b.ctx, child.Spec{Path: program, Dir: w.dir, Args: args, Env: []string{"CGO_ENABLED=0"}}, limit)
	if err != nil {
		return "", err
	}
	if !out.OK() {
		return "", fmt.Errorf("%s %s: exit code %d: %s", filepath.Base(program), strings.Join(args, " "), out.Code, out.Stderr)
	}
	return string(out.Stdout), nil
}

// child starts a program whose log is NAME.log.
func (w *installation) child(name, program string, args ...string) (*child.Child, error) {
	c, err := child.Start(child.Spec{Path: program, Dir: w.dir, Args: args, Log: w.path(name + ".log")})
	if err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() error { c.Stop(10 * time.Second); return nil })
	return c, nil
}

// until waits for a text in a log.
func (w *installation) until(name, text string) error {
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end) && w.b.ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if log, err := os.ReadFile(w.path(name + ".log")); err == nil && strings.Contains(string(log), text) {
			return nil
		}
	}
	log, err := os.ReadFile(w.path(name + ".log"))
	return errors.Join(w.b.ctx.Err(), err, fmt.Errorf("%s never said %q:\n%.2000s", name, text, log))
}

// serve builds the programs and starts `meshc serve` with a signed commit.
func (w *installation) serve(services int) error {
	if err := binaries.Build(w.b.ctx, w.dir, "meshc", "meshc-agent"); err != nil {
		return err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return err
	}
	signer, err := people.FindSigner(w.path("meshc"), w.dir)
	if err != nil {
		return err
	}
	repo, public, err := people.New(w.b.ctx, git, signer, w.dir)
	if err != nil {
		return err
	}
	if err := os.CopyFS(repo.Work, shopInPods(services)); err != nil {
		return err
	}
	first, err := repo.Commit(w.b.ctx, people.Carol, true, "first release")
	if err != nil {
		return err
	}
	if _, err := repo.Run(w.b.ctx, "push", "--quiet", "origin", "main"); err != nil {
		return err
	}
	if err := os.WriteFile(w.path("trust.yaml"), []byte(people.TrustPolicy(first, environment, public)), 0o600); err != nil {
		return err
	}
	if w.listen, err = freeport.Address(); err != nil {
		return err
	}
	if w.server, err = w.child("serve", w.path("meshc"), "serve", "--repo", "origin.git", "--trust", "trust.yaml", "--env", environment,
		"--trust-domain", trustDomain, "--state", "state", "--listen", w.listen, "--http", ""); err != nil {
		return err
	}
	return w.until("serve", `"msg":"release approved"`)
}

// environment is the one that is served.
const environment = "bench"

const trustDomain = "mesh.local"

// shopInPods is a mesh of services of which two accounts call some, and all.
func shopInPods(n int) fstest.MapFS {
	var t, few, all strings.Builder
	for i := range n {
		fmt.Fprintf(&t, "mesh: service: s%d: {port: http: number: 8080, version: v1: port: http: address: \"10.%d.%d.1\", grant: callers: from: [\"few\", \"all\"]}\n", i, i/200, i%200)
		fmt.Fprintf(&all, "s%d: {}, ", i)
		if i < fewCalls {
			fmt.Fprintf(&few, "s%d: {}, ", i)
		}
	}
	for name, calls := range map[string]string{"few": few.String(), "all": all.String()} {
		fmt.Fprintf(&t, "mesh: service: %s: {port: http: number: 8080, version: v1: port: http: address: \"10.9.0.1\", calls: {%s}}\n", name, calls)
	}
	return fstest.MapFS{
		"cue.mod/module.cue": {Data: []byte("module: \"bench.example/mesh\"\nlanguage: version: \"v0.17.0\"\n")},
		"mesh.cue":           {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"" + trustDomain + "\", environment: " + environment + ": {}}\n")},
		"shop/shop.cue":      {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", owner: \"shop\"}\n" + t.String())},
	}
}

// start starts agent and Envoy in a network namespace, and waits until Envoy has its
// configuration.
func (w *installation) start(p *sidecar) error {
	envoy, err := envoybin.Find(w.b.ctx, envoybin.Options{Download: true})
	if err != nil {
		return err
	}
	ns := fmt.Sprintf("mb%d%s", os.Getpid(), p.state())
	for _, args := range [][]string{{"netns", "add", ns}, {"-n", ns, "link", "set", "lo", "up"}} {
		if _, err := w.run(time.Minute, "ip", args...); err != nil {
			return fmt.Errorf("a pod is a network namespace, which takes Linux, root and ip: %w", err)
		}
	}
	w.stops = append(w.stops, func() error {
		out, err := exec.CommandContext(context.WithoutCancel(w.b.ctx), "ip", "netns", "del", ns).CombinedOutput()
		if err != nil {
			return fmt.Errorf("removing a namespace: %w: %s", err, out)
		}
		return nil
	})
	server, err := w.lead(ns)
	if err != nil {
		return err
	}
	said, err := w.run(time.Minute, w.path("meshc"), "token", "create", "--state", "state", "--identity", "shop/"+p.account)
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.path(p.state()+".token"), []byte(word(said, "token:")), 0o600); err != nil {
		return err
	}
	args := []string{"netns", "exec", ns, w.path("meshc-agent"), "--server", server, "--join-token-file", p.state() + ".token", "--server-fingerprint", word(said, "fingerprint:"),
		"--state", p.state(), "--drain", "1s", "--envoy-path", envoy.Path, "--", "--concurrency", "1", "--log-level", "warning"}
	if p.everything {
		args = append(args, "--config-yaml", "stats_config: {stats_matcher: {reject_all: false}}")
	}
	if p.agent, err = w.child(p.state(), "ip", args...); err != nil {
		return err
	}
	return w.configured(p)
}

// word is what stands behind a label on a line.
func word(said, label string) string {
	_, rest, _ := strings.Cut(said, label)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// lead listens in a namespace and carries what arrives to the server outside of it.
func (w *installation) lead(ns string) (string, error) {
	var l net.Listener
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // never given back: it is of another namespace
		f, err := os.Open(filepath.Join("/run/netns", ns))
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			_ = f.Close()
		}
		if err == nil {
			l, err = (&net.ListenConfig{}).Listen(w.b.ctx, "tcp", "127.0.0.1:18000")
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		return "", fmt.Errorf("listening in a namespace: %w", err)
	}
	w.stops = append(w.stops, l.Close)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", w.listen)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	return "127.0.0.1:18000", nil
}

// configured waits until the server says that the sidecar has the release.
func (w *installation) configured(p *sidecar) error {
	why := ""
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end) && w.b.ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		said, err := w.run(time.Minute, w.path("meshc"), "status", "--state", "state", "-o", "json")
		if err != nil {
			return err
		}
		n, err := upToDate(said, p.account)
		if err != nil {
			return err
		}
		if pid := envoyOf(p.agent.PID()); n >= p.nth() && pid != 0 {
			p.envoy = pid
			return nil
		}
		why = said
	}
	return errors.Join(w.b.ctx.Err(), fmt.Errorf("the sidecar of %s never had its configuration: %.2000s", p.account, why))
}

// upToDate tells from the server's status how many proxies of an account have all.
func upToDate(status, account string) (int, error) {
	type proxy struct {
		Identity  string
		Connected bool
		UpToDate  bool `json:"up_to_date"`
	}
	var s struct{ Proxies []proxy }
	if err := json.Unmarshal([]byte(status), &s); err != nil {
		return 0, fmt.Errorf("reading the status: %w", err)
	}
	n := 0
	for _, p := range s.Proxies {
		if strings.HasSuffix(p.Identity, "/"+account) && p.Connected && p.UpToDate {
			n++
		}
	}
	return n, nil
}

// envoyOf is the process that an agent has started, 0 if there is none yet.
func envoyOf(agent int) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				return pid
			}
		}
	}
	return 0
}
