package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// killAfter is how long Envoy may take to end after SIGTERM.
const killAfter = 5 * time.Second

// child is a running Envoy.
type child struct {
	cmd   *exec.Cmd
	admin *admin
	drain time.Duration
	log   *slog.Logger

	done chan struct{} // closed when it has ended; err is set before
	err  error
}

// startEnvoy starts the binary with the bootstrap. Its output goes to out. It
// is not restarted: whoever runs the agent sees Envoy's end as the agent's.
func startEnvoy(cfg Config, out io.Writer, log *slog.Logger) (*child, error) {
	// The drain time also rules how long connections of replaced listeners
	// live on: 600 s by default, during which an old policy would apply.
	args := append([]string{
		"-c", cfg.BootstrapOut, "--disable-hot-restart",
		"--drain-time-s", strconv.Itoa(int(max(cfg.Drain, time.Second).Seconds())), "--drain-strategy", "immediate",
	}, cfg.EnvoyArgs...)
	c := &child{
		cmd: exec.Command(cfg.Envoy, args...), admin: newAdmin(cfg.adminDial()),
		drain: cfg.Drain, log: log, done: make(chan struct{}),
	}
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	go func() {
		// The system ties "end with the parent" to the thread that started the
		// child: it must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, problem(diag.New(diag.CodeEnvoyChild, diag.Pos{}, "Envoy cannot be started: %v", err).
			WithFix("give --envoy-path the path of an Envoy binary that this user may run"))
	}
	log.Info("envoy started", "pid", c.cmd.Process.Pid, "binary", cfg.Envoy)
	return c, nil
}

// stop ends Envoy: drain, wait until no connection is left or the time is
// over, SIGTERM, and at last SIGKILL.
func (c *child) stop() {
	select {
	case <-c.done:
		return
	default:
	}
	if c.drain > 0 {
		c.waitDrained()
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-c.done:
	case <-time.After(killAfter):
		c.log.Warn("envoy does not end; killing it", "pid", c.cmd.Process.Pid)
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (c *child) waitDrained() {
	ctx, cancel := context.WithTimeout(context.Background(), c.drain)
	defer cancel()
	if err := c.admin.drain(ctx); err != nil {
		c.log.Warn("envoy not drained", "error", err)
		return
	}
	c.log.Info("draining", "for", c.drain.String())
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ctx.Done():
			n, _ := c.admin.connections(context.Background())
			c.log.Info("drain time is over", "connections", n)
			return
		case <-tick.C:
			if n, err := c.admin.connections(ctx); err == nil && n == 0 {
				c.log.Info("drained")
				return
			}
		}
	}
}

// status is Envoy's exit status as a shell would give it: 128 and the signal
// if one ended it.
func (c *child) status() int {
	<-c.done
	var e *exec.ExitError
	switch {
	case c.err == nil:
		return 0
	case !errors.As(c.err, &e):
		return 1
	}
	if w, ok := e.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return e.ExitCode()
}

// checkEnvoy says early, and in words, what exec would say late.
func checkEnvoy(path string) error {
	if !strings.ContainsRune(path, filepath.Separator) {
		found, err := exec.LookPath(path)
		if err != nil {
			return problem(diag.New(diag.CodeEnvoyChild, diag.Pos{}, "Envoy %q is not found: %v", path, err).
				WithFix("give --envoy-path the path of an Envoy binary"))
		}
		path = found
	}
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Mode().Perm()&0o111 == 0) {
		err = fmt.Errorf("not an executable file")
	}
	if err != nil {
		return problem(diag.New(diag.CodeEnvoyChild, diag.Pos{}, "Envoy %q cannot be started: %v", path, err).
			WithFix("give --envoy-path the path of an Envoy binary that this user may run"))
	}
	return nil
}
