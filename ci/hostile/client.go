package hostile

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
)

// Door is a place where requests enter, and the valid request there.
type Door struct {
	// Name says in words which way the door leads.
	Name string
	// Addr is "host:port".
	Addr string
	// Dial connects hostile clients in another way than neighbours, such as past the
	// first proxy; nil = all go to Addr.
	Dial func(context.Context) (net.Conn, error)
	Target
}

func (d Door) dial(ctx context.Context) (net.Conn, error) {
	if d.Dial != nil {
		return d.Dial(ctx)
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", d.Addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to the door %s: %w", d.Name, err)
	}
	return c, nil
}

const (
	// patience is how long a hostile client waits for an answer: many of its
	// requests are not complete, and get none.
	patience = 150 * time.Millisecond
	// maxAtOnce is how many connections of one attack are under way.
	maxAtOnce = 50
	// maxForgotten is how many connections stay open behind a hunter's back.
	maxForgotten = 400
)

// client carries attacks out.
type client struct {
	mu        sync.Mutex
	forgotten []net.Conn // oldest first
}

// attack ends when all connections have, but for those that are forgotten. That a
// proxy refuses or resets is no error.
func (c *client) attack(ctx context.Context, d Door, a Attack) {
	var g errgroup.Group
	g.SetLimit(maxAtOnce)
	for range max(1, a.Times) {
		g.Go(func() error { c.one(ctx, d, a); return nil })
	}
	_ = g.Wait() // nothing above is an error
}

func (c *client) one(ctx context.Context, d Door, a Attack) {
	con, err := d.dial(ctx)
	if err != nil {
		return
	}
	_ = con.SetDeadline(time.Now().Add(10*patience + a.Pause*time.Duration(len(a.Sends))))
	for i, s := range a.Sends {
		if i > 0 && a.Pause > 0 {
			time.Sleep(a.Pause)
		}
		if _, err := con.Write(s); err != nil {
			break // refused: its answer may still be read
		}
	}
	switch a.End {
	case Forgotten:
		time.Sleep(max(a.Pause, patience/10)) // so that what it asks for comes
		c.forget(con)
		return
	case HungUp:
		time.Sleep(a.Pause) // so that the request is on its way
		drop(con)
		return
	case HalfShut:
		if half, ok := con.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		fallthrough
	default:
		_ = con.SetReadDeadline(time.Now().Add(patience))
		receive(con, a.Bytes())
	}
	_ = con.Close()
}

// drop ends a connection without a word of TLS, and resets it if that can be.
func drop(con net.Conn) {
	if over, ok := con.(interface{ NetConn() net.Conn }); ok {
		con = over.NetConn()
	}
	if tcp, ok := con.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = con.Close()
}

func (c *client) forget(con net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten = append(c.forgotten, con)
	if len(c.forgotten) > maxForgotten {
		drop(c.forgotten[0])
		c.forgotten = c.forgotten[1:]
	}
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, con := range c.forgotten {
		drop(con)
	}
	c.forgotten = nil
}

// Hold carries an attack out and keeps its connections open until leave is called.
func Hold(ctx context.Context, d Door, a Attack) (leave func()) {
	c := &client{}
	a.End = Forgotten
	c.attack(ctx, d, a)
	return c.close
}

// receive reads until there is an answer, the end, or no patience left.
func receive(con net.Conn, sent []byte) {
	r := bufio.NewReader(con)
	if bytes.HasPrefix(sent, []byte(preface)) {
		for fr := http2.NewFramer(io.Discard, r); ; {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame, *http2.RSTStreamFrame:
				return
			case *http2.DataFrame:
				if f.StreamEnded() {
					return
				}
			case *http2.HeadersFrame:
				if f.StreamEnded() {
					return
				}
			}
		}
	}
	var to *http.Request
	if bytes.HasPrefix(sent, []byte("HEAD ")) {
		to = &http.Request{Method: http.MethodHead}
	}
	res, err := http.ReadResponse(r, to)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
}
