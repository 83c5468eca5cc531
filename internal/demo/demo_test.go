package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/programs"
)

// build makes the two programs once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meshc-demo-bin-")
	if err != nil {
		return "", err
	}
	return dir, programs.Into(context.Background(), dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := build(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func built(t *testing.T) Options {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Meshc: filepath.Join(dir, "meshc"), Agent: filepath.Join(dir, "meshc-agent"), Fast: true}
}

// folder finds where a demo worked, from what it said.
func folder(t *testing.T, said string) string {
	t.Helper()
	_, rest, ok := strings.Cut(said, "Everything is in ")
	if !ok {
		t.Fatalf("it does not say where it works:\n%s", said)
	}
	dir, _, _ := strings.Cut(rest, ";")
	return dir
}

// leftovers fails the test if anything of a demo is still there: every program
// that it starts has the demo's folder or one of its ports on its command line. What was
// killed may be on its way still.
func leftovers(t *testing.T, said string) {
	t.Helper()
	dir := folder(t, said)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
	bin, _ := build()
	var left []string
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("ps", "-A", "-o", "pid=,args=").Output()
		if err != nil {
			t.Fatal(err)
		}
		left = nil
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, dir) || strings.Contains(line, bin) {
				left = append(left, line)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestTheWholeStoryHoldsAndKeepWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := &trigger{text: "Still running, until Ctrl-C", cancel: cancel}
	o := built(t)
	o.Keep, o.Out = true, io.MultiWriter(g, testLog{t})
	if err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() == nil {
		t.Error("it ended although it was to be kept")
	}
	leftovers(t, g.buf.String())
	if strings.Contains(g.buf.String(), "\x1b") {
		t.Error("colour without having been asked for")
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// trigger cancels when the narration comes to a text.
type trigger struct {
	buf    bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (g *trigger) Write(p []byte) (int, error) {
	n, err := g.buf.Write(p)
	if strings.Contains(string(p), g.text) {
		g.cancel()
	}
	return n, err
}

func TestAnInterruptLeavesNothingBehind(t *testing.T) {
	for _, moment := range []string{"Everything is in", "meshc serve", "meshc-agent --server", "… and the same", "meshc wait", "2/10", "kill -KILL"} {
		t.Run(moment, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			g := &trigger{text: moment, cancel: cancel}
			o := built(t)
			o.Out = g
			if err := Run(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			leftovers(t, g.buf.String())
		})
	}
}

// What is missing is told, and the folder that was made for the demo is gone.
func TestAMissingProgramIsTold(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "d") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	t.Setenv("TMPDIR", tmp)
	t.Setenv("PATH", "")
	if err := Run(t.Context(), Options{Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "the demo needs git on PATH") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestCommitsAreSignedWithoutOpenSSH(t *testing.T) {
	dir := t.TempDir()
	signer, err := people.OwnSigner(built(t).Meshc, dir)
	if err != nil {
		t.Fatal(err)
	}
	r, public, err := people.New(t.Context(), "git", signer, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Work, "a"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(t.Context(), people.Alice, true, "first"); err != nil {
		t.Fatal(err)
	}
	// The real ssh-keygen has the last word.
	allowed := filepath.Join(dir, "allowed")
	if err := os.WriteFile(allowed, []byte("alice@bookinfo.example "+public[people.Alice]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", "HEAD"); err != nil {
		t.Error(err)
	}
}

func TestCountsTellWhatChangedSince(t *testing.T) {
	a := newCounts()
	a.Total, a.Status[200], a.Version["v1"] = 10, 10, 10
	b := newCounts()
	b.Total, b.Status[200], b.Status[503], b.Version["v1"], b.Version["v3"], b.FirstBad = 15, 13, 1, 11, 2, "12:00 status 503"
	b.Errors["EOF"] = 1
	d := b.Since(a)
	if got, want := d.String(), "5 requests, 3 × status 200, 1 × status 503, 1 × reviews v1 (33.3 %), 2 × reviews v3 (66.7 %), 1 × EOF"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d.Failed() != 2 || d.FirstBad == "" || a.Since(a).Failed() != 0 {
		t.Errorf("failed %d, first %q", d.Failed(), d.FirstBad)
	}
}

func TestPortsMoveTogether(t *testing.T) {
	if got := movePorts("environments/local/a.cue", `address: "127.0.0.1:21101", app: 21201`, 500); got != `address: "127.0.0.1:21601", app: 21701` {
		t.Error(got)
	}
	if got := movePorts("edge/edge.cue", "21080", 500); got != "21080" {
		t.Error(got)
	}
}
