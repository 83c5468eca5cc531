// Package child runs other programs so that nothing of them is left behind.
//
// In: a Spec. Out: a running Child, or the Output of a finished one. Each
// child leads a process group of its own: a Ctrl-C at the terminal reaches only
// us, and a stop reaches the child with everything it started itself.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	Path string   // the program: a path, or a name to look up on PATH
	Args []string // without the program's name
	Dir  string   // working directory; empty = ours
	Env  []string // added to our environment, "KEY=value"; the last one wins
	Log  string   // file that gets stdout and stderr, appended; empty = discarded (Start) or captured (Run)
	// Bound children are killed by the kernel when we end without stopping them, where
	// the system has that (Linux).
	Bound bool
}

// String is the command line as one would type it.
func (s Spec) String() string {
	words := make([]string, 0, 1+len(s.Args))
	for _, w := range append([]string{s.Path}, s.Args...) {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>(){}*?#~`") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func (s Spec) command() *exec.Cmd {
	c := exec.Command(s.Path, s.Args...)
	c.Dir = s.Dir
	if len(s.Env) > 0 {
		c.Env = append(os.Environ(), s.Env...)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.Bound {
		bind(c.SysProcAttr)
	}
	return c
}

// Child is a running program. Its methods may be called from several goroutines.
type Child struct {
	spec Spec
	pid  int
	done chan struct{}
	err  error // set before done is closed
	stop sync.Mutex
}

// Start starts the program and returns at once. The caller owes a Stop.
func Start(s Spec) (*Child, error) {
	cmd := s.command()
	var log *os.File
	if s.Log != "" {
		f, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the log of %q: %w", s.Path, err)
		}
		log, cmd.Stdout, cmd.Stderr = f, f, f
	}
	err := start(cmd)
	if log != nil {
		_ = log.Close() // the child has its own handle
	}
	if err != nil {
		return nil, fmt.Errorf("starting %q: %w", s.Path, err)
	}
	c := &Child{spec: s, pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		sweep(c.pid)
		close(c.done)
	}()
	return c, nil
}

// start retries while the kernel says "text file busy": another goroutine that
// forks at the moment a program is being written holds its file open for an instant.
func start(cmd *exec.Cmd) error {
	for try := 0; ; try++ {
		err := cmd.Start()
		if try == 20 || !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// PID is the process id, which is the id of its group as well.
func (c *Child) PID() int { return c.pid }

// Done is closed when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the program ended: nil for exit code 0 and while it runs.
func (c *Child) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Signal sends sig to the program alone, not to its group. A program that has
// ended is no error.
func (c *Child) Signal(sig syscall.Signal) error {
	c.stop.Lock()
	defer c.stop.Unlock()
	if c.ended() { // its id may belong to someone else by now
		return nil
	}
	if err := syscall.Kill(c.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %v to %q: %w", sig, c.spec.Path, err)
	}
	return nil
}

// Stop asks the whole group to end, waits up to grace and then kills it. It
// returns when the program is gone; calling it again is harmless.
func (c *Child) Stop(grace time.Duration) {
	c.stop.Lock()
	defer c.stop.Unlock()
	if !c.ended() {
		_ = syscall.Kill(-c.pid, syscall.SIGTERM)
		t := time.NewTimer(grace)
		select {
		case <-c.done:
		case <-t.C:
		}
		t.Stop()
	}
	if !c.ended() {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	}
	<-c.done
}

// sweep ends what a program that has just ended left in its group. It must
// follow at once: an id is not given away while its group has members, but
// later the group may be somebody else's.
func sweep(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

func (c *Child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Output is what a finished program left.
type Output struct {
	Stdout, Stderr []byte         // at most MaxOutput bytes each
	Code           int            // exit code; -1 if a signal ended it
	Signal         syscall.Signal // the signal that ended it, or 0
	TimedOut       bool           // we ended it because its time was up
}

// OK reports whether the program ended by itself with code 0.
func (o Output) OK() bool { return o.Code == 0 && o.Signal == 0 && !o.TimedOut }

// MaxOutput is how many bytes of each stream Run keeps; the rest is dropped.
const MaxOutput = 8 << 20

// Run runs the program to its end, or for at most limit (0 = as long as ctx
// lasts). It returns an error only if the program could not be run or ctx
// ended; a bad exit code is in the Output.
func Run(ctx context.Context, s Spec, limit time.Duration) (Output, error) {
	if err := ctx.Err(); err != nil {
		return Output{}, err
	}
	cmd := s.command()
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A grandchild that keeps our pipes open must not keep us waiting.
	cmd.WaitDelay = 2 * time.Second
	if err := start(cmd); err != nil {
		return Output{}, fmt.Errorf("starting %q: %w", s.Path, err)
	}
	pid := cmd.Process.Pid
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var timer <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timer = t.C
	}
	var out Output
	var err error
	select {
	case err = <-done:
	case <-timer:
		out.TimedOut = true
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		err = <-done
	case <-ctx.Done():
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		return Output{}, fmt.Errorf("running %q: %w (%w)", s.Path, ctx.Err(), <-done)
	}
	sweep(pid)
	out.Stdout, out.Stderr = stdout.Bytes(), stderr.Bytes()
	out.Code = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		out.Signal = ws.Signal()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return out, fmt.Errorf("running %q: %w", s.Path, err)
	}
	return out, nil
}

// capped keeps the first MaxOutput bytes.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if room := MaxOutput - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
