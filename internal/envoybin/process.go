package envoybin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/diag"
)

// Until says what Start waits for.
type Until string

// What Start waits for. Live is Envoy's own word and means that the first
// configuration is in; whether a listener of it was refused, it does not tell.
const (
	UntilAdmin Until = "admin" // the admin port answers (the zero value means this)
	UntilLive  Until = "live"  // Envoy calls itself LIVE
)

// StartOptions says how an Envoy is run. The zero value is one worker, warnings
// only, a temporary folder and half a minute to come up.
type StartOptions struct {
	Dir         string        // for bootstrap and log; empty = a temporary one that Stop removes
	Concurrency int           // worker threads; 0 = 1
	LogLevel    string        // Envoy's; empty = "warning"
	Until       Until         // what to wait for
	Timeout     time.Duration // for that; 0 = 30 s
	Args        []string      // further arguments
}

// Process is a running Envoy. Its owner owes a Stop.
type Process struct {
	child  *child.Child
	dir    string
	ours   bool // dir goes with the process
	admin  string
	client *http.Client
}

// Start runs Envoy with a bootstrap (JSON or YAML) that has an admin address;
// its port may be 0. If the Envoy does not come up, nothing of it is left and
// the error is a *diag.ListError with MESH0333 that quotes Envoy.
func Start(ctx context.Context, bin Binary, bootstrap []byte, o StartOptions) (*Process, error) {
	p := &Process{dir: o.Dir, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "meshc-envoy-")
		if err != nil {
			return nil, fmt.Errorf("making a folder for Envoy: %w", err)
		}
		p.dir, p.ours = dir, true
	}
	err := p.start(ctx, bin, bootstrap, o)
	if err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Process) start(ctx context.Context, bin Binary, bootstrap []byte, o StartOptions) error {
	file, adminFile := filepath.Join(p.dir, "envoy.json"), filepath.Join(p.dir, "admin-address")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return fmt.Errorf("writing the bootstrap: %w", err)
	}
	if err := os.RemoveAll(adminFile); err != nil {
		return fmt.Errorf("clearing the way for Envoy: %w", err)
	}
	level := o.LogLevel
	if level == "" {
		level = "warning"
	}
	args := append([]string{"--config-path", file, "--admin-address-path", adminFile, "--disable-hot-restart",
		"--concurrency", strconv.Itoa(max(o.Concurrency, 1)), "--log-level", level}, o.Args...)
	c, err := child.Start(child.Spec{Path: bin.Path, Args: args, Dir: p.dir, Log: p.LogPath()})
	if err != nil {
		return err
	}
	p.child = c
	limit := o.Timeout
	if limit <= 0 {
		limit = 30 * time.Second
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !p.up(wait, adminFile, o.Until) {
		select {
		case <-c.Done():
			return p.failed("ended: " + reason(p.Log()))
		case <-wait.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("starting Envoy: %w", ctx.Err())
			}
			return p.failed(fmt.Sprintf("was not ready after %v: %s", limit, reason(p.Log())))
		case <-time.After(20 * time.Millisecond):
		}
	}
	// What it says of its bootstrap is in its log by now. Nothing that we write may need it.
	if lines := Complaints(p.Log()); len(lines) > 0 {
		return p.failed("complains of its configuration: " + lines[0])
	}
	return nil
}

func (p *Process) failed(what string) error {
	return problem(diag.New(diag.CodeEnvoyNotReady, diag.Pos{}, "Envoy %s", what).
		WithFix("free the port or mend the file that it names, and start again"))
}

func (p *Process) up(ctx context.Context, adminFile string, until Until) bool {
	if p.admin == "" {
		addr, err := os.ReadFile(adminFile)
		if err != nil || len(addr) == 0 {
			return false
		}
		p.admin = "http://" + strings.TrimSpace(string(addr))
	}
	state, err := p.State(ctx)
	return err == nil && (until != UntilLive || state == "LIVE")
}

// PID is Envoy's process id.
func (p *Process) PID() int { return p.child.PID() }

// Done is closed when Envoy has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.child.Done() }

// LogPath is the file with Envoy's standard error.
func (p *Process) LogPath() string { return filepath.Join(p.dir, "envoy.log") }

// Log returns what Envoy has logged, at most its last 64 KiB.
func (p *Process) Log() string {
	const most = 64 << 10
	b, err := os.ReadFile(p.LogPath())
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-most):])
}

// Stop ends Envoy (SIGTERM, after 5 s SIGKILL) and returns when it is gone.
// Calling it again is harmless.
func (p *Process) Stop() {
	if p.child != nil {
		p.child.Stop(5 * time.Second)
	}
	if p.ours {
		_ = os.RemoveAll(p.dir)
	}
}

// Admin asks the admin interface for path (with its query, "/stats?format=json")
// and returns the body, at most 64 MiB. Any status other than 200 is an error.
func (p *Process) Admin(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking Envoy for %q: status %d: %s", path, res.StatusCode, lastLines(string(body), 2))
	}
	return body, nil
}

// State is Envoy's word for how far it is: PRE_INITIALIZING, INITIALIZING,
// LIVE, DRAINING.
func (p *Process) State(ctx context.Context) (string, error) {
	body, err := p.Admin(ctx, "/server_info")
	if err != nil {
		return "", err
	}
	var info struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("reading Envoy's server info: %w", err)
	}
	return info.State, nil
}

// Stats returns the counters and gauges whose name matches the regular
// expression filter (RE2); empty = all.
func (p *Process) Stats(ctx context.Context, filter string) (map[string]int64, error) {
	body, err := p.Admin(ctx, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	var list struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("reading Envoy's stats: %w", err)
	}
	out := map[string]int64{}
	for _, s := range list.Stats {
		// Histograms have no name here, texts no number.
		if n, err := strconv.ParseInt(string(s.Value), 10, 64); err == nil && s.Name != "" {
			out[s.Name] = n
		}
	}
	return out, nil
}

// Clusters returns the admin interface's list of clusters and hosts as JSON.
func (p *Process) Clusters(ctx context.Context) ([]byte, error) {
	return p.Admin(ctx, "/clusters?format=json")
}

// ConfigDump returns what Envoy runs with, as JSON. The query may narrow it:
// "resource=dynamic_listeners", "include_eds"; empty = all.
func (p *Process) ConfigDump(ctx context.Context, query string) ([]byte, error) {
	return p.Admin(ctx, "/config_dump?"+query)
}
