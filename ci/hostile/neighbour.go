package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// inTime is how long a neighbour waits for anything. It tells a request that is
// stuck from one on a busy machine.
const inTime = 30 * time.Second

// neighbour is an ordinary client of a door.
type neighbour struct {
	door Door
	http *http.Client
}

func newNeighbour(d Door) *neighbour {
	return &neighbour{d, &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

func (n *neighbour) close() { n.http.CloseIdleConnections() }

func (n *neighbour) request(ctx context.Context, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.door.Addr+n.door.Path, body)
	if err != nil {
		return nil, err
	}
	req.Host = n.door.Host
	res, err := n.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		_ = res.Body.Close()
		return nil, fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	return res, nil
}

// ask sends two whole requests.
func (n *neighbour) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inTime)
	defer cancel()
	for method, body := range map[string]string{http.MethodGet: "", http.MethodPost: "whole request"} {
		res, err := n.request(ctx, method, strings.NewReader(body))
		if err != nil {
			return fmt.Errorf("a %s: %w", method, err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(got) != body {
			return fmt.Errorf("a %s: the body is %q (%w), not %q", method, got, err, body)
		}
	}
	return nil
}

// well waits until whole requests are answered.
func (n *neighbour) well(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inTime)
	defer cancel()
	for {
		err := n.ask(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The halves of a request that stays open.
const (
	firstHalf  = "first half, "
	secondHalf = "second half"
)

// open is a request under way: its first half has come back.
type open struct {
	body   *io.PipeWriter
	answer io.ReadCloser
	cancel context.CancelFunc
}

// open begins a request and waits for the first half of its answer. Then it is on
// its way through all proxies, on the connections that they share.
func (n *neighbour) open(ctx context.Context) (*open, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*inTime)
	r, w := io.Pipe()
	o := &open{body: w, cancel: cancel}
	context.AfterFunc(ctx, func() { _ = r.CloseWithError(context.Cause(ctx)) })
	go func() { _, _ = io.WriteString(w, firstHalf) }()
	res, err := n.request(ctx, http.MethodPost, r)
	if err != nil {
		o.close()
		return nil, err
	}
	o.answer = res.Body
	if err := o.expect(firstHalf); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *open) expect(want string) error {
	defer time.AfterFunc(inTime, o.cancel).Stop()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(o.answer, got); err != nil || string(got) != want {
		return fmt.Errorf("the body is %q (%w), not %q", got[:n], err, want)
	}
	return nil
}

// finish sends the second half and demands it back, and nothing more.
func (o *open) finish() error {
	defer o.close()
	go func() {
		_, _ = io.WriteString(o.body, secondHalf)
		_ = o.body.Close()
	}()
	if err := o.expect(secondHalf); err != nil {
		return err
	}
	defer time.AfterFunc(inTime, o.cancel).Stop()
	if n, err := o.answer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("the body goes on, or does not end: %w", err)
	}
	return nil
}

func (o *open) close() {
	o.cancel()
	_ = o.body.Close()
	if o.answer != nil {
		_ = o.answer.Close()
	}
}
