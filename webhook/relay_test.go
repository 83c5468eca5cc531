package webhook

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// relay stands between the API server and the replicas of the webhook, which get
// connections in turn, and fails as networks do.
type relay struct {
	net.Listener
	to   []string
	turn atomic.Uint32
	mode atomic.Int32

	mu    sync.Mutex
	conns map[net.Conn]bool
}

const (
	passing   int32 = iota
	down            // nobody answers
	swallowed       // connections are taken and stay silent, those that exist as well
)

func newRelay(t *testing.T, to ...string) *relay {
	t.Helper()
	return newRelayAt(t, "127.0.0.1:0", to...)
}

func newRelayAt(t *testing.T, address string, to ...string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to, conns: map[net.Conn]bool{}}
	go r.run()
	t.Cleanup(func() { _ = l.Close(); r.end() })
	return r
}

// become changes the mode; what was connected before a webhook went down is not after.
func (r *relay) become(mode int32) {
	r.mode.Store(mode)
	if mode != swallowed {
		r.end()
	}
}

func (r *relay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *relay) run() {
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		if r.mode.Load() == down {
			_ = c.Close()
			continue
		}
		out, err := net.Dial("tcp", r.to[int(r.turn.Add(1))%len(r.to)])
		if err != nil {
			_ = c.Close()
			continue
		}
		r.mu.Lock()
		r.conns[c], r.conns[out] = true, true
		r.mu.Unlock()
		go r.copy(out, c)
		go r.copy(c, out)
	}
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if r.mode.Load() == swallowed {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
