package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/ci/bench/internal/judging"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
	"meshc.dev/meshc/webhook"
)

// judgeChild is the child that answers reviews by meshc's webhook; its argument is by which
// rules, and a folder with what is approved.
const judgeChild = "judge:"

// Who answers reviews.
const (
	byWebhook = "webhook" // meshc with all shipped rules
	byChecks  = "checks"  // meshc with those that Gatekeeper is given as well
	// Gatekeeper's, by how the checks lie in templates.
	byEach   = "each"
	byJoined = "joined"
	// peerPath is where Gatekeeper is asked.
	peerPath = "/v1/admit"
)

// judge answers reviews over TLS, in a process of its own.
type judge struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  *json.Decoder
	at    judging.Address
	busy  atomic.Int64 // answers that there was no time
}

func (b *bench) startJudge(who, dir string) (*judge, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.startProcess(who, self, childFlag, judgeChild+who+":"+dir)
}

// startPeer builds Gatekeeper's webhook and starts it. It is a program of its own, so that
// its libraries take no memory from any other process here.
func (b *bench) startPeer(layout, dir string) (*judge, error) {
	program := filepath.Join(dir, "gatekeeper")
	if out, err := exec.CommandContext(b.ctx, "go", "build", "-o", program, "meshc.dev/meshc/ci/bench/gatekeeper").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building Gatekeeper (run this in ci/bench): %w\n%s", err, out)
	}
	return b.startProcess(layout, program, layout, filepath.Join(dir, layout+"-roots.json"))
}

func (b *bench) startProcess(who, program string, args ...string) (*judge, error) {
	w := &judge{cmd: exec.CommandContext(b.ctx, program, args...)}
	var err error
	w.cmd.Stderr = b.err
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	w.said = json.NewDecoder(out)
	if err := w.said.Decode(&w.at); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", who, err), w.stop())
	}
	return w, nil
}

func (w *judge) stop() error { return errors.Join(w.stdin.Close(), w.cmd.Wait()) }

// allocated asks the process.
func (w *judge) allocated() (judging.Allocated, error) {
	if _, err := io.WriteString(w.stdin, "\n"); err != nil {
		return judging.Allocated{}, fmt.Errorf("asking what is allocated: %w", err)
	}
	var a judging.Allocated
	if err := w.said.Decode(&a); err != nil {
		return judging.Allocated{}, fmt.Errorf("asking what is allocated: %w", err)
	}
	return a, nil
}

// client is one caller with connections of its own.
func (w *judge) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(w.at.Roots))
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: askers}}
}

// ask sends one question and demands the right answer.
func (w *judge) ask(ctx context.Context, c *http.Client, q question) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+w.at.Address+q.path, bytes.NewReader(q.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if bytes.Contains(raw, []byte(diag.CodeBusy)) || bytes.Contains(raw, []byte(diag.CodePolicyBudget)) {
		w.busy.Add(1) // slowness is no failure
		return nil
	}
	if res.StatusCode != http.StatusOK || !bytes.Contains(raw, fmt.Appendf(nil, `"allowed":%t`, !q.refused)) {
		return fmt.Errorf("%s: %s: %.300s", q.name, res.Status, raw)
	}
	return nil
}

// serveJudge is the child.
func serveJudge(what string, in io.Reader, out io.Writer) error {
	who, dir, _ := strings.Cut(what, ":")
	return judging.Serve(filepath.Join(dir, who+"-roots.json"), func(ctx context.Context, conf *tls.Config) (string, func(context.Context) error, error) {
		a, err := approval.NewStore(filepath.Join(dir, "approved")).Restore()
		if err != nil {
			return "", nil, err
		}
		var rules fs.FS = policies.FS
		if who == byChecks {
			if rules, err = onlyChecks(); err != nil {
				return "", nil, err
			}
		}
		s, err := webhook.New(webhook.Config{Listen: "127.0.0.1:0", TLS: conf, Baseline: rules, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			return "", nil, err
		}
		if err := s.Publish(ctx, a); err != nil {
			return "", nil, err
		}
		return s.Addr().String(), s.Run, nil
	}, in, out)
}

// onlyChecks are the shipped rules over pods and services. An engine wants a rule over a
// mesh besides, which reviews do not ask.
func onlyChecks() (fs.FS, error) {
	out := fstest.MapFS{}
	for _, name := range []string{"pods", "services", "lib_cluster", "lib_workload", "lib", "retries"} {
		file := "baseline/" + name + ".rego"
		text, err := fs.ReadFile(policies.FS, file)
		if err != nil {
			return nil, fmt.Errorf("choosing rules: %w", err)
		}
		out[file] = &fstest.MapFile{Data: text}
	}
	return out, nil
}
