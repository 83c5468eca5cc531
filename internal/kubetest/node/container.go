package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// container is one container of a pod, over all its restarts.
type container struct {
	p       *pod
	spec    corev1.Container
	sidecar bool

	// stopping ends when the container has to; it is not started after that.
	stopping context.Context
	stop     context.CancelFunc
	begun    chan struct{} // closed when it has started once: its startup probe has passed
	over     chan struct{} // closed when it has ended for good

	mu         sync.Mutex
	supervised bool
	process    *process // nil = none runs
	waiting    corev1.ContainerStateWaiting
	last       *corev1.ContainerStateTerminated // how the last process ended
	restarts   int32
	started    bool
	ready      bool
}

// process is one run of a container.
type process struct {
	pid     int
	began   time.Time
	running context.Context // ends with it
	ended   context.CancelFunc
	last    corev1.ContainerStateTerminated // set before
}

// How long a container that ended waits for its next start: a kubelet begins with ten
// seconds and goes to five minutes.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

func newContainer(p *pod, spec corev1.Container) *container {
	c := &container{p: p, spec: spec, begun: make(chan struct{}), over: make(chan struct{})}
	c.waiting.Reason = "PodInitializing"
	c.stopping, c.stop = context.WithCancel(context.Background())
	return c
}

// supervise runs the container until it may not start again, or has to end.
func (c *container) supervise(start again) {
	c.mu.Lock()
	if c.supervised || c.stopping.Err() != nil {
		c.mu.Unlock()
		return
	}
	c.supervised = true
	c.mu.Unlock()
	defer func() { close(c.over); c.p.touch() }()
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		run, err := c.start()
		if err == nil {
			go c.probe(run)
			<-run.running.Done()
			c.ended(run)
			if c.stopping.Err() != nil || !start(int(run.last.ExitCode)) {
				return
			}
			c.set(func() {
				c.waiting = corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "it starts again after " + backoff.String()}
				c.restarts++
			})
		} else {
			reason := "CreateContainerError"
			if r, ok := errors.AsType[*reasonError](err); ok {
				reason = r.reason
			}
			c.set(func() { c.waiting = corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()} })
		}
		sleep(c.stopping, backoff)
		if c.stopping.Err() != nil {
			return
		}
	}
}

// reasonError is an error with a kubelet's word for it.
type reasonError struct {
	reason string
	error
}

func (c *container) set(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	c.p.touch()
}

// start starts one process.
func (c *container) start() (*process, error) {
	cmd, err := c.command(c.stopping)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logFile(c.p.k.Dir, c.p.spec().Namespace, c.p.spec().Name, c.spec.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening its log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	run := &process{pid: cmd.Process.Pid, began: time.Now()}
	run.running, run.ended = context.WithCancel(context.Background())
	go run.wait(cmd)
	run.awaitCommand()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping.Err() != nil { // whoever stops it has seen no process
		_ = syscall.Kill(run.pid, syscall.SIGKILL)
	}
	c.process, c.waiting = run, corev1.ContainerStateWaiting{}
	c.started, c.ready = c.spec.StartupProbe == nil, c.spec.StartupProbe == nil && c.spec.ReadinessProbe == nil
	if c.started {
		c.hasBegun()
	}
	c.p.touch()
	return run, nil
}

// awaitCommand waits until the process is the container's command, in the container's
// file system, and no more one of the programs that led to it. Those have the
// environment in their arguments.
func (r *process) awaitCommand() {
	for r.running.Err() == nil {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(r.pid) + "/cmdline")
		if err != nil || len(line) > 0 && !bytes.Contains(line, []byte(environmentMark)) {
			return
		}
		sleep(r.running, 2*time.Millisecond)
	}
}

// hasBegun is called under the lock, as often as one likes.
func (c *container) hasBegun() {
	select {
	case <-c.begun:
	default:
		close(c.begun)
	}
}

func (r *process) wait(cmd *exec.Cmd) {
	err := cmd.Wait()
	_ = syscall.Kill(-r.pid, syscall.SIGKILL) // what it left in its group
	r.last = corev1.ContainerStateTerminated{
		Reason: "Completed", StartedAt: metav1.NewTime(r.began), FinishedAt: metav1.Now(), ExitCode: int32(cmd.ProcessState.ExitCode()),
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.last.Signal, r.last.ExitCode = int32(ws.Signal()), 128+int32(ws.Signal())
	}
	if err != nil {
		r.last.Reason = "Error"
	}
	r.ended()
}

func (c *container) ended(run *process) {
	c.set(func() { c.process, c.last, c.started, c.ready = nil, &run.last, false, false })
}

func (c *container) exitCode() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return -1
	}
	return int(c.last.ExitCode)
}

// await waits for the container's end, awaitStart for its start.
func (c *container) await(ctx context.Context) {
	select {
	case <-c.over:
	case <-ctx.Done():
	}
}

func (c *container) awaitStart(ctx context.Context) {
	select {
	case <-c.begun:
	case <-ctx.Done():
	}
}

// end ends the container for good: its preStop hook, SIGTERM, and SIGKILL when the grace
// period is over. A container that never began is over at once.
func (c *container) end(hurry context.Context) {
	c.mu.Lock()
	c.stop()
	run, supervised := c.process, c.supervised
	c.mu.Unlock()
	if !supervised {
		return
	}
	if run != nil {
		c.terminate(hurry, run)
	}
	<-c.over
}

// terminate ends one process.
func (c *container) terminate(hurry context.Context, run *process) {
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil {
		ctx, cancel := context.WithCancel(hurry)
		stop := context.AfterFunc(run.running, cancel)
		if err := c.hook(ctx, l.PreStop, run); err != nil {
			c.p.k.log.Warn("preStop hook failed", "container", c.spec.Name, "error", err)
		}
		stop()
		cancel()
	}
	_ = syscall.Kill(run.pid, syscall.SIGTERM)
	select {
	case <-run.running.Done():
	case <-hurry.Done():
		_ = syscall.Kill(run.pid, syscall.SIGKILL)
		<-run.running.Done()
	}
}
