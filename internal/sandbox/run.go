// Package sandbox does work on other people's input in a child process with
// limits on time, memory and output.
//
// In: a request, limits, and the program to start (itself, with a hidden word as
// first argument). Out: the child's answer, or an *Error that says which limit
// was hit and on which subject. The child has an empty environment, three pipes
// and no other file; it dies with its parent. Whatever the child does, Run returns
// and the parent lives.
package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// waitDelay is how long a killed child's pipes may stay open.
const waitDelay = time.Second

// Run starts argv0 as a child, gives it the request and returns its answer.
// If ctx ends first, its error is returned; every other failure is an *Error.
func Run(ctx context.Context, l Limits, argv0 string, in io.Reader) ([]byte, error) {
	request, err := readAll(in, l.Input)
	if err != nil {
		return nil, err
	}
	arg, err := l.arg()
	if err != nil {
		return nil, &Error{Kind: Failed, Text: err.Error()}
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.Wall > 0 {
		inner, cancel = context.WithTimeout(inner, l.Wall)
		defer cancel()
	}
	out := &capped{limit: l.Output, full: cancel}
	errs := &progress{open: map[string]int{}}
	cmd := exec.CommandContext(inner, argv0, Word, arg)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, errs, waitDelay
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, &Error{Kind: Failed, Text: "making a pipe: " + err.Error()}
	}
	if err := cmd.Start(); err != nil {
		return nil, &Error{Kind: Failed, Text: fmt.Sprintf("starting %q: %v", argv0, err)}
	}
	// A child that dies early closes the pipe; how it died is the news, not that.
	go func() { _, _ = stdin.Write(frame(request)) }()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("waiting for the child: %w", ctx.Err())
	}
	if err == nil {
		return out.b.Bytes(), nil
	}
	return nil, verdict(l, cmd, err, out.over.Load(), errors.Is(inner.Err(), context.DeadlineExceeded), errs)
}

func readAll(in io.Reader, limit int64) ([]byte, error) {
	if limit > 0 {
		in = io.LimitReader(in, limit+1)
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	if limit > 0 && int64(len(b)) > limit {
		return nil, &Error{Kind: Failed, Text: fmt.Sprintf("the request is larger than %d bytes", limit)}
	}
	return b, nil
}

// frame puts the length before the request. The pipe stays open behind it: the
// child takes its end for the parent's.
func frame(request []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(request)), uint64(len(request))), request...)
}

// verdict says why a child failed.
func verdict(l Limits, cmd *exec.Cmd, err error, over, late bool, p *progress) *Error {
	e := &Error{Kind: Crashed, Subjects: p.subjects(), Limits: l}
	used := time.Duration(0)
	var sig syscall.Signal
	if s := cmd.ProcessState; s != nil {
		used = s.UserTime() + s.SystemTime()
		if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			sig = ws.Signal()
		}
	}
	switch code := exitCode(err); {
	case over:
		e.Kind = Output
	case late:
		e.Kind = Time
	case code == exitMemory || p.outOfMemory():
		e.Kind = Memory
	case outOfCPU(l, used, sig):
		e.Kind = CPU
	case code == exitRefused:
		e.Kind, e.Text = Refused, p.refusal()
	case code == exitSetup:
		e.Kind, e.Text = Failed, p.refusal()
	case p.runtimeCrash() && cmd.ProcessState != nil && wasFull(l, cmd.ProcessState):
		e.Kind = Memory
	default:
		e.Text = fmt.Sprintf("%v: %s", err, p.lastWords())
	}
	return e
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// capped collects the answer up to a limit and then ends the child.
type capped struct {
	b     bytes.Buffer
	limit int64
	over  atomic.Bool
	full  func()
}

var errFull = errors.New("the output is too large")

func (c *capped) Write(p []byte) (int, error) {
	if c.limit > 0 && int64(c.b.Len()+len(p)) > c.limit {
		c.over.Store(true)
		c.full()
		return 0, errFull
	}
	return c.b.Write(p)
}
