package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/freeport"
)

// serverArgs are the flags of meshc serve, the same at each start.
func (w *World) serverArgs() []string {
	return []string{"serve", "--repo", "origin.git", "--trust", "trust.yaml", "--env", "local", "--trust-domain", "bookinfo.example",
		"--state", "server", "--poll", "200ms", "--listen", w.listen, "--http", w.http}
}

// startServer starts meshc serve and waits until it answers.
func (w *World) startServer(ctx context.Context) error {
	if w.listen == "" {
		for _, addr := range []*string{&w.listen, &w.http} {
			port, err := freeport.Next()
			if err != nil {
				return err
			}
			*addr = fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	w.out.Command(child.Spec{Path: "meshc", Args: w.serverArgs()}.String() + " &")
	c, err := w.start("serve", w.tools.meshc, w.serverArgs()...)
	if err != nil {
		return err
	}
	w.server = c
	w.onClose(func() { c.Stop(8 * time.Second) })
	_, err = w.eventually(ctx, "the server answers", func() (bool, error) {
		_, err := w.status(ctx)
		return err == nil, err
	})
	return err
}

// killServer ends the server without any chance to say goodbye.
func (w *World) killServer() error {
	w.out.Command(fmt.Sprintf("kill -KILL %d   # meshc serve", w.server.PID()))
	c := w.server
	w.server = nil
	if err := c.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-c.Done()
	return nil
}

// status is what `meshc status` says, as far as the story needs it.
type status struct {
	Commit  string
	Release string
	Proxies []struct {
		Identity string
		Commit   string
		// UpToDate is that the proxy has confirmed what it is to have now.
		UpToDate  bool `json:"up_to_date"`
		Connected bool
	}
	Failures []json.RawMessage
}

func (s status) upToDate() (n int) {
	for _, p := range s.Proxies {
		if p.Connected && p.UpToDate {
			n++
		}
	}
	return n
}

func (w *World) status(ctx context.Context) (status, error) {
	var s status
	r, err := w.quiet(ctx, "status", "--state", "server", "-o", "json")
	if err != nil {
		return s, err
	}
	if r.code != 0 {
		return s, fmt.Errorf("meshc status: %s", strings.TrimSpace(r.stderr))
	}
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		return s, fmt.Errorf("reading the status: %w", err)
	}
	return s, nil
}

// served waits until all proxies have confirmed a commit, and says how long that took.
func (w *World) served(ctx context.Context, commit string) (time.Duration, status, error) {
	var last status
	took, err := w.eventually(ctx, "all proxies run "+commit[:12], func() (bool, error) {
		s, err := w.status(ctx)
		last = s
		if err != nil {
			return false, err
		}
		if s.Commit == commit && s.upToDate() == len(identities()) {
			return true, nil
		}
		return false, fmt.Errorf("the server has %.12s, %d of %d proxies are up to date, %d failures", s.Commit, s.upToDate(), len(identities()), len(s.Failures))
	})
	return took, last, err
}

// startAgents gives every workload a one-time token and starts its agent, which
// starts its Envoy.
func (w *World) startAgents(ctx context.Context) error {
	var all []*child.Child
	w.onClose(func() { stopAll(all) })
	for i, id := range identities() {
		tell := i == 0 // the others are alike
		r, err := w.token(ctx, id, tell)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(id, "/", "-")
		file := filepath.Join("tokens", name)
		if err := os.MkdirAll(w.path("tokens"), 0o700); err != nil {
			return fmt.Errorf("making the folder for tokens: %w", err)
		}
		if err := os.WriteFile(w.path(file), []byte(r["token"]+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing a token: %w", err)
		}
		args := []string{"--server", w.listen, "--identity", id, "--join-token-file", file, "--server-fingerprint", r["fingerprint"],
			"--state", filepath.Join("a", name), "--envoy-path", w.envoy.Path, "--drain", "1s", "--log-level", "warn", "--", "--concurrency", "1", "--log-level", "warning"}
		if tell {
			w.out.Command(child.Spec{Path: "meshc-agent", Args: args}.String() + " &")
		}
		if err := os.MkdirAll(w.path("a"), 0o700); err != nil {
			return fmt.Errorf("making the folder for agents: %w", err)
		}
		c, err := w.start(name, w.tools.agent, args...)
		if err != nil {
			return err
		}
		all, w.agents[id] = append(all, c), c
	}
	w.out.Tell("… and the same for %s.", strings.Join(identities()[1:], ", "))
	return nil
}

// token runs `meshc token create` and reads what it printed.
func (w *World) token(ctx context.Context, id string, tell bool) (map[string]string, error) {
	args := []string{"token", "create", "--state", "server", "--identity", id, "--ttl", "5m"}
	if tell {
		w.out.Command(child.Spec{Path: "meshc", Args: args}.String())
	}
	r, err := w.quiet(ctx, args...)
	if err != nil {
		return nil, err
	}
	if r.code != 0 {
		return nil, fmt.Errorf("meshc token create: %s", strings.TrimSpace(r.stderr))
	}
	out := map[string]string{}
	for line := range strings.Lines(r.stdout) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			out[k] = strings.TrimSpace(v)
		}
	}
	if out["token"] == "" || out["fingerprint"] == "" {
		return nil, errors.New("meshc token create printed no token or no fingerprint")
	}
	return out, nil
}

// refused waits until the server has said in its log that it refuses a commit.
func (w *World) refused(ctx context.Context, commit string) error {
	_, err := w.eventually(ctx, "the server refuses "+commit[:12], func() (bool, error) {
		b, err := os.ReadFile(w.logFile("serve"))
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(b)) {
			var entry struct{ Msg, Commit string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "commit refused" && entry.Commit == commit {
				return true, nil
			}
		}
		return false, nil
	})
	return err
}

// closed reports whether nobody listens at an address.
func closed(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return true
	}
	_ = c.Close()
	return false
}
