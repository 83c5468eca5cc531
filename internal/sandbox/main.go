package sandbox

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Word is the first argument of a child. A program that starts itself as a child
// calls Main if it sees the word, before it does anything else.
const Word = "sandbox-worker"

// Handler does one piece of work in the child: it turns a request into the answer.
// What it was given is its own.
type Handler func(request []byte) (answer []byte, err error)

// Exit codes of a child, beside 2 (Go's own, for a crash).
const (
	exitMemory = 4 // the watch over the heap ended it
	exitSetup  = 5 // limits or request could not be read; stderr says why
)

// What stands before an answer.
const (
	statusAnswer  = 'a'
	statusRefused = 'r' // the text of the handler's error follows
	statusTired   = 't' // an answer; so much memory is in use that the next request belongs to another child
)

// Main is the child: args are the program's arguments after Word, handlers the
// kinds of work that it knows. It returns the exit code when the parent has closed
// the child's stdin, and must be followed by os.Exit.
func Main(args []string, handlers map[string]Handler) int {
	if err := work(args, handlers); err != nil {
		fmt.Fprintln(os.Stderr, err) // nobody is left to be told if it cannot be written
		return exitSetup
	}
	return 0
}

func work(args []string, handlers map[string]Handler) error {
	if len(args) != 2 || handlers[args[0]] == nil {
		return fmt.Errorf("a worker is started by its parent only")
	}
	l, err := parseLimits(args[1])
	if err != nil {
		return err
	}
	if err := restrict(l); err != nil {
		return err
	}
	debug.SetMemoryLimit(l.Heap)
	debug.SetGCPercent(gcPercent) // a child is short-lived, and its memory is bounded
	go watchHeap(l.Data)
	requests := make(chan []byte)
	go func() {
		for req := range requests {
			if err := answer(os.Stdout, handlers[args[0]], req, l); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(exitSetup)
			}
		}
	}()
	// Reading goes on while there is work: the end of stdin is the parent's wish,
	// or the parent's own end, and this process ends with it whatever it is doing.
	for in := bufio.NewReader(os.Stdin); ; {
		req, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		requests <- req
	}
}

func answer(w io.Writer, h Handler, req []byte, l Limits) error {
	out, err := h(req)
	status := byte(statusAnswer)
	switch {
	case err != nil:
		status, out = statusRefused, []byte(err.Error())
	case InUse() > l.Data/4:
		status = statusTired
	}
	return writeFrame(w, []byte{status}, out)
}

// gcPercent lets garbage be four times what is in use, until the limit is near.
const gcPercent = 400

// frameHead is the length that stands before a request and before an answer.
const frameHead = 8

func readFrame(r io.Reader) ([]byte, error) {
	n, err := readLength(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

func readLength(r io.Reader) (uint64, error) {
	var head [frameHead]byte
	_, err := io.ReadFull(r, head[:])
	return binary.BigEndian.Uint64(head[:]), err
}

func writeFrame(w io.Writer, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	for _, p := range append([][]byte{binary.BigEndian.AppendUint64(nil, uint64(n))}, parts...) {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// watchEvery is how often the heap is looked at.
const watchEvery = 20 * time.Millisecond

// watchHeap ends the child when its memory has outgrown the limit. Where the system
// keeps the limit this is seldom the first to see it.
func watchHeap(limit int64) {
	for range time.Tick(watchEvery) {
		if InUse() > limit {
			os.Exit(exitMemory)
		}
	}
}

// InUse is the memory that this process holds for Go, in bytes.
func InUse() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}
