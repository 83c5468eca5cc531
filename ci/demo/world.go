package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/narrate"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/kubetest/flux"
	"meshc.dev/meshc/internal/kubetest/node"
)

// proxyImage is the image that the example's environment names for the sidecar.
const proxyImage = "registry.example/meshc-proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// serverPort is where pods reach meshc serve, by the example's environment.
const serverPort = 18000

type options struct {
	bin  string
	keep bool
}

// world is everything that runs.
type world struct {
	out     *narrate.Narrator
	dir     string
	meshc   string
	cluster *kubetest.Cluster
	flux    *flux.Flux
	node    *node.Node
	machine string // its address, for pods
	host    string // where Flux finds the repositories: URL of the folder

	// The repositories' work trees: intent; what it compiles to, on a branch of the same
	// repository; the teams' Deployments.
	repo, rendered, apps *people.Repo
	keys                 map[string]string // each person's public key
	first, canary        string            // commits

	running map[string]*child.Child
	stops   []func()
}

// open starts the cluster with its node, Flux and a Git host. Whatever it returns is closed by its owner.
func open(ctx context.Context, o options, out *narrate.Narrator) (w *world, err error) {
	if err := node.Possible(); err != nil {
		return nil, err
	}
	w = &world{out: out, running: map[string]*child.Child{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "meshc-k8s-"); err != nil {
		return nil, fmt.Errorf("making a folder for the demo: %w", err)
	}
	w.stops = append(w.stops, func() { _ = os.RemoveAll(w.dir) })
	if w.meshc, err = filepath.Abs(filepath.Join(o.bin, "meshc")); err != nil {
		return nil, err
	}
	agent := filepath.Join(filepath.Dir(w.meshc), "meshc-agent")
	for _, p := range []string{w.meshc, agent} {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%w; run `make demo-k8s`, which builds it", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	envoy, err := envoybin.Find(ctx, envoybin.Options{Download: true})
	if err != nil {
		return nil, err
	}
	if w.cluster, err = kubetest.Start(ctx, kubetest.Options{Progress: os.Stderr}); err != nil {
		return nil, err
	}
	w.stops = append(w.stops, w.cluster.Stop)
	if w.flux, err = flux.Start(ctx, w.cluster); err != nil {
		return nil, err
	}
	w.stops = append(w.stops, w.flux.Stop)
	if err := w.openGit(); err != nil {
		return nil, err
	}
	w.node, err = node.Start(ctx, w.cluster, node.Options{Images: map[string]node.Image{
		"bookinfo": {Files: map[string]string{"/bookinfo": self}, Entrypoint: []string{"/bookinfo"}},
		proxyImage: {Files: map[string]string{"/usr/local/bin/meshc-agent": agent, "/usr/local/bin/envoy": envoy.Path}},
	}})
	if err != nil {
		return nil, err
	}
	w.stops = append(w.stops, w.node.Stop)
	return w, nil
}

// openGit serves the repositories to Flux.
func (w *world) openGit() error {
	handler, err := githttp.Handler(w.dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serving repositories: %w", err)
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }() // it ends with Close
	w.host = "http://" + l.Addr().String()
	w.stops = append(w.stops, func() { _ = s.Close() })
	return nil
}

// close stops everything, the last first.
func (w *world) close() {
	for _, stop := range slices.Backward(w.stops) {
		stop()
	}
	w.stops = nil
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// start starts a program of ours that runs until the end.
func (w *world) start(name string, args ...string) error {
	w.out.Command("meshc " + strings.Join(args, " ") + " &")
	c, err := child.Start(child.Spec{Path: w.meshc, Args: args, Dir: w.dir, Log: w.path(name + ".log")})
	if err != nil {
		return err
	}
	w.running[name] = c
	w.stops = append(w.stops, func() { c.Stop(10 * time.Second) })
	return nil
}

const commandLimit = 2 * time.Minute

// command runs a program and tells about it; a code other than want is an error.
func (w *world) command(ctx context.Context, want, lines int, name, program string, args ...string) (string, error) {
	w.out.Command(child.Spec{Path: name, Args: args}.String())
	began := time.Now()
	out, err := child.Run(ctx, child.Spec{Path: program, Args: args, Dir: w.dir, Env: []string{"KUBECONFIG=" + w.cluster.Kubeconfig}}, commandLimit)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(out.Stdout) + string(out.Stderr))
	if lines >= 0 {
		w.out.Output(text, lines)
	}
	w.out.Exit(out.Code, time.Since(began))
	if out.Code != want {
		return text, fmt.Errorf("%s: exit code %d instead of %d: %s", name, out.Code, want, text)
	}
	return text, nil
}

func (w *world) tool(ctx context.Context, want, lines int, args ...string) (string, error) {
	return w.command(ctx, want, lines, "meshc", w.meshc, args...)
}

func (w *world) kubectl(ctx context.Context, want, lines int, args ...string) (string, error) {
	return w.command(ctx, want, lines, "kubectl", filepath.Join(w.cluster.Programs, "kubectl"), args...)
}

// until asks until ok or the step's time is up, or a program of ours has ended.
func (w *world) until(ctx context.Context, what string, ok func() (bool, error)) (time.Duration, error) {
	began := time.Now()
	for {
		good, err := ok()
		if good {
			return time.Since(began), nil
		}
		for name, c := range w.running {
			select {
			case <-c.Done():
				return 0, fmt.Errorf("meshc %s has ended: %w\n%s", name, errors.Join(c.Err()), w.tail(name))
			default:
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting until %s: %w", what, errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tail is the end of a program's log.
func (w *world) tail(name string) string {
	raw, err := os.ReadFile(w.path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// quiet runs a command of meshc's without telling.
func (w *world) quiet(ctx context.Context, args ...string) (child.Output, error) {
	return child.Run(ctx, child.Spec{Path: w.meshc, Args: args, Dir: w.dir}, commandLimit)
}

// ask makes a request from a pod's application and returns the status and the body.
func (w *world) ask(ctx context.Context, namespace, pod, url string) (status, body string, err error) {
	out, err := w.node.Exec(ctx, namespace, pod, "app", "/bookinfo", getWord, url)
	if err != nil {
		return "", "", err
	}
	status, body, _ = strings.Cut(strings.TrimSpace(out), "\n")
	return status, body, nil
}
