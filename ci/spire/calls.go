package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// patience bounds one call.
const patience = 5 * time.Second

// listen starts the application behind the callee's proxy: it answers each line with the
// same line.
func (w *world) listen() error {
	l, err := net.Listen("tcp", w.ports["api-app"])
	if err != nil {
		return err
	}
	w.stops = append(w.stops, func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return nil
}

// dial opens a connection through both proxies: a handshake of its own.
func (w *world) dial() (*line, error) {
	c, err := net.DialTimeout("tcp", w.ports["web-api"], patience)
	if err != nil {
		return nil, err
	}
	return &line{c, bufio.NewReader(c)}, nil
}

// line is a connection to the application.
type line struct {
	net.Conn
	in *bufio.Reader
}

// echo sends a line and demands it back.
func (l *line) echo() error {
	_ = l.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(l, "hello\n"); err != nil {
		return err
	}
	said, err := l.in.ReadString('\n')
	if err != nil {
		return err
	}
	if said != "hello\n" {
		return fmt.Errorf("the answer is %q", said)
	}
	return nil
}

// call is one connection with one line.
func (w *world) call() error {
	l, err := w.dial()
	if err != nil {
		return err
	}
	defer l.Close()
	return l.echo()
}

// load calls twenty times a second, with a connection each, and keeps one connection in use
// beside. stop ends it and says what was seen; the error is the first call that failed.
func (w *world) load(ctx context.Context) (stop func() (string, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var first error
	var calls, lines int
	note := func(what string, n *int, err error) {
		mu.Lock()
		defer mu.Unlock()
		*n++
		if err != nil && first == nil {
			first = fmt.Errorf("%s %d: %w", what, *n, err)
		}
	}
	var wg sync.WaitGroup
	every := func(d time.Duration, do func()) {
		wg.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					do()
				}
			}
		})
	}
	kept, err := w.dial()
	note("the connection that is kept", new(int), err)
	every(50*time.Millisecond, func() { note("call", &calls, w.call()) })
	if err == nil {
		every(100*time.Millisecond, func() { note("line of the connection that is kept", &lines, kept.echo()) })
	}
	return func() (string, error) {
		cancel()
		wg.Wait()
		if kept != nil {
			_ = kept.Close()
		}
		return fmt.Sprintf("none of %d calls failed, and a connection stayed open for %d lines", calls, lines), first
	}
}

// get is the body of a page.
func (w *world) get(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, res.Body); err != nil {
		return "", err
	}
	return text.String(), nil
}
