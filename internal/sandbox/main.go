package sandbox

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"
)

// Word is the first argument of a child. A program that calls Run with itself
// as argv0 calls Main if it sees the word, before it does anything else.
const Word = "sandbox-worker"

// Handler does the work in the child: it turns the request into the answer.
// progress tells the parent which subject (a package) is being worked on, so that
// it can be named if the child does not survive; it may be called from several
// goroutines.
type Handler func(in []byte, progress func(subject string, begin bool)) ([]byte, error)

// Exit codes of a child, beside 2 (Go's own, for a crash).
const (
	exitRefused = 3 // the handler returned an error, told on stderr
	exitMemory  = 4 // the watch over the heap ended it
	exitSetup   = 5 // limits or request could not be read
)

// Lines on the child's stderr that the parent understands.
const (
	lineBegin = "sandbox begin "
	lineEnd   = "sandbox end "
	lineError = "sandbox error "
)

// Main is the child: args are the program's arguments after Word. It returns the
// exit code and must be followed by os.Exit.
func Main(args []string, h Handler) int {
	w := &reporter{w: os.Stderr}
	if len(args) != 1 {
		w.line(lineError, "a worker is started by its parent only")
		return exitSetup
	}
	l, err := parseLimits(args[0])
	if err == nil {
		err = restrict(l)
	}
	if err != nil {
		w.line(lineError, err.Error())
		return exitSetup
	}
	if l.Heap > 0 {
		debug.SetMemoryLimit(l.Heap)
	}
	go watchHeap(l.Data)
	in, err := readRequest(os.Stdin, l.Input)
	if err != nil {
		w.line(lineError, err.Error())
		return exitSetup
	}
	go dieWithParent()
	out, err := h(in, w.progress)
	if err != nil {
		w.line(lineError, err.Error())
		return exitRefused
	}
	if _, err := os.Stdout.Write(out); err != nil {
		w.line(lineError, err.Error())
		return exitSetup
	}
	return 0
}

// readRequest reads a request with its length before it; stdin stays open after it.
func readRequest(r io.Reader, limit int64) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading the request's length: %w", err)
	}
	n := binary.BigEndian.Uint64(head[:])
	if limit > 0 && n > uint64(limit) {
		return nil, fmt.Errorf("the request has %d bytes, more than %d", n, limit)
	}
	in := make([]byte, n)
	if _, err := io.ReadFull(bufio.NewReader(r), in); err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	return in, nil
}

// dieWithParent ends the child when its stdin closes, which it does if the
// parent dies, however it dies.
func dieWithParent() {
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err != nil {
		os.Exit(exitSetup)
	}
}

// watchEvery is how often the heap is looked at.
const watchEvery = 20 * time.Millisecond

// watchHeap ends the child when its heap has outgrown the limit. Where the system
// keeps the limit this is seldom the first to see it.
func watchHeap(limit int64) {
	if limit <= 0 {
		return
	}
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for range time.Tick(watchEvery) {
		metrics.Read(s)
		if int64(s[0].Value.Uint64()-s[1].Value.Uint64()) > limit {
			os.Exit(exitMemory)
		}
	}
}

// reporter writes lines for the parent.
type reporter struct {
	mu sync.Mutex
	w  io.Writer
}

func (r *reporter) progress(subject string, begin bool) {
	kind := lineEnd
	if begin {
		kind = lineBegin
	}
	r.line(kind, subject)
}

// line writes one line; the text is quoted, so that it cannot pass for another.
// Nobody is left to be told if it cannot be written.
func (r *reporter) line(kind, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = io.WriteString(r.w, kind+strconv.Quote(text)+"\n")
}
