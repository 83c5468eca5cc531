// Package tools has the programs and files of others that tests and the demo use and that
// no package manager brings: it builds each from its Go modules, once per machine.
//
// In: a Tool, whose module with its pinned versions is a folder beside this file. Out:
// a folder with its programs and files. It lies in a cache outside the repository, under a key of
// everything that the build depends on, so that it is built again exactly when one of
// those changes; finding it is a look at the disk. It appears as a whole or not at all,
// and of several processes that want it one builds. A program that cannot be had is an
// error and never a reason to leave something out.
package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Tool says what is taken from a module and how.
type Tool struct {
	Name     string   // the module's folder under ci/tools
	Packages []string // main packages of that module or of those that it requires; none = only Files
	// Names are further names of the one program, which goes by the name that it was
	// started by.
	Names []string
	// Files are what programs need beside themselves: patterns of files, each below the
	// path of a module that is required. They come into the folder by their own names.
	Files []Files
	// Stamp returns the linker's flags that tell the programs their version; nil = none.
	Stamp func(goMod []byte) ([]string, error)
	// Tags are the build tags.
	Tags []string
	// CGO says that a program is partly C, and that a compiler for it is needed.
	CGO bool
}

// Files are those of a required module that a pattern finds in its folder.
type Files struct{ Module, Pattern string }

// Kube is the Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager
// and kubectl.
func Kube() Tool {
	return Tool{
		Name:     "kube",
		Packages: []string{"."},
		Names:    []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"},
		Stamp:    stampKube,
	}
}

// Flux is source-controller and kustomize-controller, with the definitions of their
// objects (*.yaml).
func Flux() Tool {
	const source, kustomize, definitions = "github.com/fluxcd/source-controller", "github.com/fluxcd/kustomize-controller", "config/crd/bases/*.yaml"
	return Tool{
		Name:     "flux",
		Packages: []string{source, kustomize},
		Files:    []Files{{source, definitions}, {kustomize, definitions}},
	}
}

// ArgoCD is the definitions of Argo CD's objects alone: its programs cannot be built from
// their module, which lacks a part of them.
func ArgoCD() Tool {
	return Tool{Name: "argocd", Files: []Files{{"github.com/argoproj/argo-cd/v3", "manifests/crds/*-crd.yaml"}}}
}

// Spire is SPIRE's server and agent. The server's only database that needs no server of its
// own is SQLite, which is C.
func Spire() Tool {
	const commands = "github.com/spiffe/spire/cmd/"
	return Tool{Name: "spire", Packages: []string{commands + "spire-server", commands + "spire-agent"}, CGO: true}
}

// Ratelimit is Envoy's own rate limit service (service_cmd), which counts in a Redis.
func Ratelimit() Tool {
	return Tool{Name: "ratelimit", Packages: []string{"github.com/envoyproxy/ratelimit/src/service_cmd"}}
}

// EnvoyGateway is Envoy Gateway's command line (egctl), which has its translator.
func EnvoyGateway() Tool {
	return Tool{Name: "envoygateway", Packages: []string{"github.com/envoyproxy/gateway/cmd/egctl"}}
}

// Istio is Istio's control plane as far as it makes configuration of objects (istio).
func Istio() Tool { return Tool{Name: "istio", Packages: []string{"."}} }

// Prometheus is Prometheus and promtool, with the one way of several to find what it scrapes that the
// examples use beside files: those of clouds are most of what there is to compile.
func Prometheus() Tool {
	const commands = "github.com/prometheus/prometheus/cmd/"
	return Tool{Name: "prometheus", Packages: []string{commands + "prometheus", commands + "promtool"}, Tags: []string{"remove_all_sd", "enable_kubernetes_sd"}}
}

// Jaeger keeps spans and shows them, of OTLP and of Zipkin.
func Jaeger() Tool {
	return Tool{Name: "jaeger", Packages: []string{"github.com/jaegertracing/jaeger/cmd/jaeger"}}
}

// OIDC is a provider of OpenID Connect with one client (oidc).
func OIDC() Tool { return Tool{Name: "oidc", Packages: []string{"."}} }

// OfTests are the tools that tests of the repository's own module start.
func OfTests() []Tool { return []Tool{Kube(), Flux(), ArgoCD(), Ratelimit(), Prometheus(), OIDC()} }

// All are the tools that there are. Those beyond OfTests are too dear for every machine: who
// wants one names it.
func All() []Tool { return append(OfTests(), Spire(), Jaeger(), EnvoyGateway(), Istio()) }

// stampKube: a server that does not know its version reports v0.0.0, and clients
// believe it.
func stampKube(goMod []byte) ([]string, error) {
	m := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)$`).FindSubmatch(goMod)
	if m == nil {
		return nil, errors.New("go.mod does not say which Kubernetes")
	}
	const at = "-X=k8s.io/component-base/version."
	return []string{
		at + "gitVersion=" + string(m[1]), at + "gitMajor=" + string(m[2]), at + "gitMinor=" + string(m[3]), at + "gitTreeState=clean",
	}, nil
}

// Find returns the folder with the tool's programs and builds them first if they are
// not there. That takes minutes; progress is told then.
func Find(ctx context.Context, t Tool, progress io.Writer) (string, error) {
	source, err := folder(t.Name)
	if err != nil {
		return "", err
	}
	flags, key, err := recipe(ctx, t, source)
	if err != nil {
		return "", fmt.Errorf("finding the programs of ci/tools/%s: %w", t.Name, err)
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, t.Name+"-"+key)
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making the cache of tools: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"), func() {
		say(progress, "waiting for another process that builds tools")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) { // the other one built it
		return dir, nil
	}
	return dir, build(ctx, t, source, flags, dir, progress)
}

// folder finds ci/tools/NAME of the repository that the process runs in: go test
// starts in the package's folder, make in the root.
func folder(name string) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		candidate := filepath.Join(dir, "ci", "tools", name)
		if _, err := os.Stat(filepath.Join(candidate, "go.mod")); err == nil {
			return candidate, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no ci/tools/%s in %s or above it: run this inside the repository", name, here)
		}
	}
}

// cacheFolder is MESHC_TOOLS, or meshc-tools in the user's cache folder.
func cacheFolder() (string, error) {
	if dir := os.Getenv("MESHC_TOOLS"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a cache for tools (MESHC_TOOLS names one): %w", err)
	}
	return filepath.Join(dir, "meshc-tools"), nil
}

// recipe returns the arguments of the build and the key of everything that its result
// depends on.
func recipe(ctx context.Context, t Tool, source string) (args []string, key string, err error) {
	goMod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return nil, "", err
	}
	ldflags := []string{"-s", "-w"}
	if t.Stamp != nil {
		stamps, err := t.Stamp(goMod)
		if err != nil {
			return nil, "", err
		}
		ldflags = append(ldflags, stamps...)
	}
	args = []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(ldflags, " ")}
	if len(t.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(t.Tags, ","))
	}
	args = append(args, t.Packages...)

	h := sha256.New()
	version, err := goCommand(ctx, source, t.CGO, "version").Output()
	if err != nil {
		return nil, "", fmt.Errorf("asking Go for its version: %w", err)
	}
	fmt.Fprintf(h, "%s%q %q %q\n", version, args, t.Names, t.Files)
	if t.CGO {
		fmt.Fprintln(h, "CGO")
	}
	files, err := filepath.Glob(filepath.Join(source, "*"))
	if err != nil {
		return nil, "", err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, "", err
		}
		fmt.Fprintf(h, "%s %d\n%s\n", filepath.Base(f), len(b), b)
	}
	return args, hex.EncodeToString(h.Sum(nil))[:16], nil
}

// goCommand runs Go in the module with the settings that the key stands for: what the
// caller builds with (a race detector, a workspace) is not for tools. Without cgo
// tools and all machines share what is compiled.
func goCommand(ctx context.Context, source string, cgo bool, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = source
	enabled := "CGO_ENABLED=0"
	if cgo {
		enabled = "CGO_ENABLED=1"
	}
	c.Env = append(os.Environ(), enabled, "GOFLAGS=-mod=readonly", "GOWORK=off", "GOOS=", "GOARCH=", "GOEXPERIMENT=")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with its compilers
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// build puts the programs into dir in one step.
func build(ctx context.Context, t Tool, source string, args []string, dir string, progress io.Writer) error {
	// Under the lock nobody else builds: such folders are of builds that were killed.
	stale, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "build-*"))
	for _, s := range stale {
		_ = os.RemoveAll(s)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return fmt.Errorf("making a folder for the build: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	say(progress, "building ci/tools/%s, once: some minutes", t.Name)
	start := time.Now()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for tick := time.NewTicker(30 * time.Second); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				say(progress, "still building ci/tools/%s, after %d s", t.Name, int(time.Since(start).Seconds()))
			}
		}
	}()
	if len(t.Packages) > 0 {
		var said bytes.Buffer
		cmd := goCommand(ctx, source, t.CGO, slices.Insert(slices.Clone(args), 1, "-o", tmp+string(filepath.Separator))...)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("building ci/tools/%s: %w: %s", t.Name, errors.Join(ctx.Err(), err), tail(said.String(), 20))
		}
	}
	for _, name := range t.Names {
		if err := os.Symlink(t.Name, filepath.Join(tmp, name)); err != nil {
			return fmt.Errorf("naming a tool: %w", err)
		}
	}
	for _, f := range t.Files {
		if err := bring(ctx, f, source, tmp); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("opening the folder of a tool: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("putting ci/tools/%s into place: %w", t.Name, err)
	}
	say(progress, "built ci/tools/%s in %d s", t.Name, int(time.Since(start).Seconds()))
	return nil
}

// bring copies files of a module into dir.
func bring(ctx context.Context, f Files, source, dir string) error {
	if out, err := goCommand(ctx, source, false, "mod", "download", f.Module).CombinedOutput(); err != nil {
		return fmt.Errorf("fetching the module %s: %w: %s", f.Module, errors.Join(ctx.Err(), err), out)
	}
	where, err := goCommand(ctx, source, false, "list", "-m", "-f", "{{.Dir}}", f.Module).Output()
	if err != nil {
		return fmt.Errorf("finding the module %s: %w", f.Module, err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(where)), filepath.FromSlash(f.Pattern)))
	if err != nil {
		return fmt.Errorf("looking for %s of %s: %w", f.Pattern, f.Module, err)
	}
	if len(names) == 0 {
		return fmt.Errorf("%s has no %s", f.Module, f.Pattern)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading a file of %s: %w", f.Module, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644); err != nil {
			return fmt.Errorf("copying a file of %s: %w", f.Module, err)
		}
	}
	return nil
}

// lock waits for the lock of the cache, which dies with its process. One for all
// tools: linking one takes gigabytes of memory.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the cache of tools: %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process that builds tools: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "tools: "+format+"\n", args...)
}

// tail returns the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
