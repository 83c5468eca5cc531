package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/sandbox"
)

// Bounds of the processes that evaluate users' rules.
const (
	// maxWorkers bounds how many there are, maxHeld how many questions about one namespace
	// have one at a time: an object that ends its worker must not take all of them.
	maxWorkers = 6
	maxHeld    = 2
	// dying is how long a worker may go on after its question's time was over.
	dying = 200 * time.Millisecond
)

// WorkerMemory is what all of them may use together, in bytes.
const WorkerMemory = maxWorkers * workerMemory

const workerMemory = 192 << 20

// workers are processes that evaluate the rules that came with one release. A rule that
// takes all memory, or goes on when its time is over, ends the process that it runs in:
// the question that it was about is denied, and the next one finds another process.
type workers struct {
	program string
	setup   []byte
	log     *slog.Logger
	shares  shares
	room    *semaphore.Weighted

	mu     sync.Mutex
	idle   []*sandbox.Child
	closed bool
}

// newWorkers starts the first ones, which shows that they can work.
func newWorkers(setup []byte, log *slog.Logger) (*workers, error) {
	program, err := sandbox.Program()
	if err != nil {
		return nil, err
	}
	w := &workers{program: program, setup: setup, log: log, shares: shares{most: maxHeld}, room: semaphore.NewWeighted(maxWorkers)}
	var group errgroup.Group
	for range maxHeld + 1 { // a namespace that holds its share leaves one that is ready
		group.Go(func() error {
			c, err := w.start()
			if err == nil {
				w.put(c)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.close()
		return nil, fmt.Errorf("starting a process for the release's own rules: %w", err)
	}
	return w, nil
}

// preparing bounds how long one may take to read the rules.
const preparing = 30 * time.Second

// start starts one that has the rules.
func (w *workers) start() (*sandbox.Child, error) {
	c, err := sandbox.Start(w.program, guard.EvaluateWork, sandbox.Limits{Time: preparing, Data: workerMemory, Heap: workerMemory / 3 * 2, Output: MaxReview})
	if err != nil {
		return nil, err
	}
	if _, err := c.Do(context.Background(), w.setup); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Ask has a question answered by a worker that is free, or by a new one. It may take as long
// as ctx and a little more: what ctx ends otherwise does not end a worker.
func (w *workers) Ask(ctx context.Context, namespace string, question []byte) ([]byte, error) {
	leave, err := w.shares.acquire(ctx, namespace)
	if err != nil {
		return nil, err
	}
	if err := w.room.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	free := func() {
		w.room.Release(1)
		leave()
	}
	c, err := w.take()
	if err != nil {
		free()
		return nil, err
	}
	end, _ := ctx.Deadline()
	left := time.Until(end)
	patient, stop := context.WithTimeout(context.WithoutCancel(ctx), left+dying)
	defer stop()
	out, err := c.Do(patient, guard.Timed(left), question)
	if c.Fit() {
		w.put(c)
		free()
		return out, err
	}
	go func() { // until it has a successor, its namespace has one worker less
		defer free()
		c.Close()
		w.replace()
	}()
	return out, told(err)
}

// told is the reason why a worker ended.
func told(err error) error {
	var e *sandbox.Error
	if errors.As(err, &e) && e.Kind == sandbox.Memory {
		return &guard.SpentError{Bytes: workerMemory}
	}
	return err
}

// replace starts a successor.
func (w *workers) replace() {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if closed {
		return
	}
	c, err := w.start()
	if err != nil { // the next question tries again
		w.log.Error("no process for the release's own rules", "reason", err)
		return
	}
	w.put(c)
}

func (w *workers) take() (*sandbox.Child, error) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		return c, nil
	}
	w.mu.Unlock()
	return w.start()
}

func (w *workers) put(c *sandbox.Child) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		go c.Close()
		return
	}
	w.idle = append(w.idle, c)
}

// close ends all that have nothing to do, and the others when they are done. w may be nil.
func (w *workers) close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.idle {
		go c.Close()
	}
	w.idle = nil
}
