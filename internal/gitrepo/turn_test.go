package gitrepo

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// stuckObjects are files of a network file system whose server is away: a read does
// not return before it is back, whatever its context says.
type stuckObjects struct{ back, asked chan struct{} }

func (s stuckObjects) stat(string) (kind, int64, error) { return 0, 0, errNoObject }

func (s stuckObjects) read(string, func(kind, int64) error) ([]byte, error) {
	s.asked <- struct{}{}
	<-s.back
	return nil, errNoObject
}

func (s stuckObjects) whyMissing() (reason, fix string) { return "away", "bring it back" }

// A read that the system never ends is left at its deadline or at a stop, there is
// never more than one of them, and it is well again when the system is.
func TestAReadThatNeverEndsIsLeft(t *testing.T) {
	o := stuckObjects{make(chan struct{}), make(chan struct{}, 100)}
	late := silentError(time.Millisecond)
	st := newStore(o, DefaultLimits(), newCache(), newTurn(20*time.Millisecond, late))
	s := newSnapshot("refs/heads/main", st)
	before := runtime.NumGoroutine()
	for range 5 {
		view := s.Within(t.Context())
		_, err := view.Commit(fuzzTree)
		var te *TransportError
		if !errors.As(err, &te) || te.Diagnostic().Code != diag.CodeGitFetch || !errors.Is(view.Err(), te) {
			t.Fatalf("got %v, and at the end %v", err, view.Err())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Within(ctx).FS(Commit{Tree: fuzzTree[:39] + "1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	<-o.asked // also where the worker comes to it after all of them have gone
	if len(o.asked) != 0 {
		t.Errorf("asked %d times more", len(o.asked))
	}
	waitAtMost(t, before+1)
	close(o.back)
	var r *Refused
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // the one that was left has to go first
		if _, err := s.Within(t.Context()).Commit(fuzzTree); errors.As(err, &r) {
			break
		}
	}
	if r == nil || r.Code != diag.CodeGitMissing {
		t.Errorf("when it is back: %v", r)
	}
}

// What is in memory needs no goroutine, and ends with its context as well.
func TestMemoryIsReadInTurn(t *testing.T) {
	turn := newTurn(0, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	if n, err := inTurn(ctx, turn, func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	cause := errors.New("enough")
	cancel(cause)
	if _, err := inTurn(ctx, turn, func(context.Context) (int, error) { t.Error("it ran"); return 0, nil }); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// However much is read, one goroutine reads it, and it goes when nothing more comes.
func TestOneGoroutineReadsAll(t *testing.T) {
	turn := newTurn(time.Minute, nil)
	before := runtime.NumGoroutine()
	readers := map[string]bool{}
	for i := range 1000 {
		name, err := inTurn(t.Context(), turn, func(context.Context) (string, error) { return goroutineName(), nil })
		if err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
		readers[name] = true
	}
	if len(readers) > 100 { // a busy machine may make a lull of its own between two reads
		t.Errorf("%d goroutines read 1000 times", len(readers))
	}
	waitAtMost(t, before)
	if n, err := inTurn(t.Context(), turn, func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("after a lull: %d, %v", n, err)
	}
}

// goroutineName is what the runtime calls the goroutine that asks: "goroutine 7".
func goroutineName() string {
	head := make([]byte, 64)
	head = head[:runtime.Stack(head, false)]
	name, _, _ := strings.Cut(string(head), " [")
	return name
}

// waitAtMost waits until no more than n goroutines are there. The count alone says nothing
// about the moment: the runtime's own ones, such as the one of finalizers, come and go.
func waitAtMost(t *testing.T, n int) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > n {
		if time.Now().After(end) {
			t.Errorf("%d goroutines stay, of %d at most", runtime.NumGoroutine(), n)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Whoever has his answer finds nobody at work: a repository that is closed after its
// last read gives back its files, and is not taken for stuck.
func TestAnAnswerEndsTheTurn(t *testing.T) {
	turn := newTurn(time.Minute, nil)
	for range 10_000 {
		if _, err := inTurn(t.Context(), turn, func(context.Context) (int, error) { return 7, nil }); err != nil {
			t.Fatal(err)
		}
		wantFree(t, turn)
	}
}

// A worker that goes is nobody at work, either.
func TestAWorkerGoesUnseen(t *testing.T) {
	turn := newTurn(time.Minute, nil)
	for range 5 {
		if _, err := inTurn(t.Context(), turn, func(context.Context) (int, error) { return 7, nil }); err != nil {
			t.Fatal(err)
		}
		for there := true; there; {
			wantFree(t, turn)
			turn.mu.Lock()
			there = turn.worker
			turn.mu.Unlock()
		}
	}
}

func wantFree(t *testing.T, turn *turn) {
	t.Helper()
	select {
	case turn.lock <- struct{}{}:
		<-turn.lock
	default:
		t.Fatal("somebody is still at work")
	}
}
