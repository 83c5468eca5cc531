package main

import (
	"bufio"
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
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/ci/bench/internal/gatekeeper"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/policies"
	"meshc.dev/meshc/webhook"
)

// judgeChild is the child that answers reviews; its argument is who does, and a folder with
// what is approved.
const judgeChild = "judge:"

// Who answers reviews, besides Gatekeeper in its layouts.
const (
	byWebhook = "webhook" // with all shipped rules
	byChecks  = "checks"  // with those that Gatekeeper is given as well
)

// judge answers reviews over TLS, in a process of its own.
type judge struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  *json.Decoder
	at    judgeAddress
	busy  atomic.Int64 // answers that there was no time
}

// judgeAddress is what the child says of itself.
type judgeAddress struct {
	Address string `json:"address"`
	Roots   string `json:"roots"` // PEM
}

// allocated is what a process has allocated since its start.
type allocated struct{ Objects, Bytes uint64 }

func (b *bench) startJudge(who, dir string) (*judge, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &judge{cmd: exec.CommandContext(b.ctx, self, childFlag, judgeChild+who+":"+dir)}
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
func (w *judge) allocated() (allocated, error) {
	if _, err := io.WriteString(w.stdin, "\n"); err != nil {
		return allocated{}, fmt.Errorf("asking what is allocated: %w", err)
	}
	var a allocated
	if err := w.said.Decode(&a); err != nil {
		return allocated{}, fmt.Errorf("asking what is allocated: %w", err)
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
	if bytes.Contains(raw, []byte(string(diag.CodeBusy))) {
		w.busy.Add(1) // slowness is no failure
		return nil
	}
	if res.StatusCode != http.StatusOK || !bytes.Contains(raw, fmt.Appendf(nil, `"allowed":%t`, !q.refused)) {
		return fmt.Errorf("%s: %s: %.300s", q.name, res.Status, raw)
	}
	return nil
}

// serveJudge is the child: it answers reviews until its standard input ends, and says what
// it has allocated for each line of it.
func serveJudge(what string, in io.Reader, out io.Writer) error {
	who, dir, _ := strings.Cut(what, ":")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	certs, err := webhook.OpenCertificates(ctx, kept.File(filepath.Join(dir, who+"-roots.json")), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return err
	}
	addr, run, err := answering(ctx, who, dir, certs.TLS())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run(ctx) })
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	say := json.NewEncoder(out)
	if err := say.Encode(judgeAddress{Address: net.JoinHostPort("127.0.0.1", port), Roots: string(certs.Bundle())}); err != nil {
		return err
	}
	asked := bufio.NewScanner(in)
	for asked.Scan() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if err := say.Encode(allocated{m.Mallocs, m.TotalAlloc}); err != nil {
			return err
		}
	}
	if err := asked.Err(); err != nil {
		return err
	}
	cancel()
	return g.Wait()
}

// answering opens the port of whoever answers; run serves until its context ends.
func answering(ctx context.Context, who, dir string, conf *tls.Config) (addr string, run func(context.Context) error, err error) {
	switch who {
	case byWebhook, byChecks:
	default:
		return answeringPeer(ctx, gatekeeper.Layout(who), conf)
	}
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
}

func answeringPeer(ctx context.Context, layout gatekeeper.Layout, conf *tls.Config) (string, func(context.Context) error, error) {
	h, err := gatekeeper.Handler(ctx, layout, "shop")
	if err != nil {
		return "", nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		return "", nil, fmt.Errorf("listening: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	return l.Addr().String(), func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = s.Close() })
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	}, nil
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
