// Package sandbox does work on other people's input in child processes with
// limits on time, memory and output.
//
// In: limits, the program to start (itself, with a hidden word as first argument),
// the kind of work, and requests. Out: a child that answers one request after the
// other, or an *Error that says which limit was hit. A child has an empty
// environment, three pipes and no other file; it ends with its parent. Whatever it
// does, Do returns and the parent lives.
package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// waitDelay is how long a killed child's pipes may stay open.
const waitDelay = time.Second

// Child is a process that works. Use it from one goroutine; the caller owes a Close.
type Child struct {
	limits Limits
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr words
	tired  bool
	ended  bool
}

// Program is the path of this program, for children of its own kind.
func Program() (string, error) {
	p, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program's own file to start a child: %w", err)
	}
	return p, nil
}

// Start starts argv0 as a child for one kind of work. A failure is an *Error.
func Start(argv0, kind string, l Limits) (*Child, error) {
	fail := func(format string, args ...any) (*Child, error) {
		return nil, &Error{Kind: Failed, Limits: l, Text: fmt.Sprintf(format, args...)}
	}
	arg, err := l.arg()
	if err != nil {
		return fail("%v", err)
	}
	c := &Child{limits: l, cmd: exec.Command(argv0, Word, kind, arg)}
	c.cmd.Env, c.cmd.Stderr, c.cmd.WaitDelay = []string{}, &c.stderr, waitDelay
	// A terminal's Ctrl-C is for the parent, who says how it ends: a child that the same signal
	// ended would be told as a failure of its own.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return fail("making a pipe: %v", err)
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return fail("making a pipe: %v", err)
	}
	if err := c.cmd.Start(); err != nil {
		return fail("starting %q: %v", argv0, err)
	}
	return c, nil
}

// Run is one piece of work in a child of its own.
func Run(ctx context.Context, argv0, kind string, l Limits, request ...[]byte) ([]byte, error) {
	c, err := Start(argv0, kind, l)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(ctx, request...)
}

// Fit reports whether the child can be given more work.
func (c *Child) Fit() bool { return !c.ended && !c.tired }

// Close ends the child.
func (c *Child) Close() {
	if c.ended {
		return
	}
	_ = c.stdin.Close() // which it takes for our end
	_ = c.end()         // how it ends is no longer news
}

// end makes sure that the child has ended, and waits until nothing of it is left.
func (c *Child) end() error {
	c.ended = true
	late := time.AfterFunc(waitDelay, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	return c.cmd.Wait()
}

// Do gives the child a request, whose parts follow each other, and returns its
// answer. If ctx ends first, that is the error; every other failure is an *Error.
// After a failure other than a Refused one the child is no longer Fit.
func (c *Child) Do(ctx context.Context, request ...[]byte) ([]byte, error) {
	if !c.Fit() {
		return nil, &Error{Kind: Failed, Limits: c.limits, Text: "it was given work after its end"}
	}
	var late atomic.Bool
	kill := func() { _ = c.cmd.Process.Kill() }
	clock := time.AfterFunc(c.limits.Time, func() { late.Store(true); kill() })
	defer clock.Stop()
	defer context.AfterFunc(ctx, kill)()

	written := make(chan struct{})
	go func() { // a child that dies early closes the pipe; how it died is the news, not that
		defer close(written)
		_ = writeFrame(c.stdin, request...)
	}()
	status, out, err := c.read()
	if err == nil && ctx.Err() == nil {
		<-written
		c.tired = status == statusTired
		if status == statusRefused {
			return nil, &Error{Kind: Refused, Limits: c.limits, Text: string(out)}
		}
		return out, nil
	}
	kill()
	ended := c.end()
	<-written
	if ctx.Err() != nil {
		return nil, fmt.Errorf("waiting for the child: %w", context.Cause(ctx))
	}
	return nil, c.verdict(err, ended, late.Load())
}

var errFull = errors.New("the answer is too large")

// read reads one answer.
func (c *Child) read() (status byte, out []byte, err error) {
	n, err := readLength(c.stdout)
	switch {
	case err != nil:
		return 0, nil, err
	case n == 0:
		return 0, nil, io.ErrUnexpectedEOF
	case n > uint64(c.limits.Output)+1:
		return 0, nil, errFull
	}
	out = make([]byte, n)
	if _, err := io.ReadFull(c.stdout, out); err != nil {
		return 0, nil, err
	}
	return out[0], out[1:], nil
}

// verdict says why a child failed.
func (c *Child) verdict(read, ended error, late bool) *Error {
	e := &Error{Kind: Crashed, Limits: c.limits}
	state := c.cmd.ProcessState
	code := -1
	var exit *exec.ExitError
	if errors.As(ended, &exit) {
		code = exit.ExitCode()
	}
	switch {
	case errors.Is(read, errFull):
		e.Kind = Output
	case late:
		e.Kind = Time
	case code == exitMemory || c.stderr.outOfMemory() || c.stderr.runtimeCrash() && state != nil && wasFull(c.limits, state):
		e.Kind = Memory
	case code == exitSetup:
		e.Kind, e.Text = Failed, c.stderr.first()
	default:
		e.Text = fmt.Sprintf("%v: %s", ended, c.stderr.first())
	}
	return e
}

// maxWords bounds what is kept of a child's stderr: a Go crash prints every
// goroutine, and its reason comes first.
const maxWords = 4 << 10

// words is the beginning of what a child said on stderr. It is read after the
// child has ended.
type words struct{ b bytes.Buffer }

// Write never fails, so that a talkative child is not stopped by its chatter.
func (w *words) Write(b []byte) (int, error) {
	w.b.Write(b[:min(len(b), maxWords-w.b.Len())])
	return len(b), nil
}

// outOfMemory recognises the last words of a Go program that got no memory.
func (w *words) outOfMemory() bool {
	for _, sign := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread", "pthread_create failed", "runtime: cannot map pages", "failed to reserve"} {
		if strings.Contains(w.b.String(), sign) {
			return true
		}
	}
	return false
}

// runtimeCrash recognises an end inside Go's runtime, as opposed to a panic. The
// garbage collector may die so, without another word, if a mapping is refused.
func (w *words) runtimeCrash() bool {
	return strings.HasPrefix(w.b.String(), "SIGSEGV") || strings.HasPrefix(w.b.String(), "fatal error")
}

// first is the first line that the child said.
func (w *words) first() string {
	line, _, _ := strings.Cut(w.b.String(), "\n")
	if line == "" {
		return "it said nothing"
	}
	return line
}
