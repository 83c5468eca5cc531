package xdsserver

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate closes connections of an address that opens too many per second, before
// they cost a handshake. Others are not delayed.
type gate struct {
	net.Listener
	now      func() time.Time
	rate     float64
	burst    float64
	rejected func()

	mu      sync.Mutex
	buckets map[netip.Addr]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

const (
	burstSeconds = 10
	maxBuckets   = 100_000
)

func newGate(l net.Listener, perSecond int, now func() time.Time, rejected func()) net.Listener {
	if perSecond < 0 {
		return l
	}
	return &gate{
		Listener: l, now: now, rejected: rejected, rate: float64(perSecond),
		burst: float64(perSecond) * burstSeconds, buckets: map[netip.Addr]bucket{},
	}
}

// Accept returns the next connection that is within its address's rate.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || g.admit(c.RemoteAddr()) {
			return c, err
		}
		g.rejected()
		_ = c.Close() // the peer sees the end of the connection either way
	}
}

func (g *gate) admit(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return true
	}
	ip, now := tcp.AddrPort().Addr().Unmap(), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.buckets[ip]
	if !ok {
		if len(g.buckets) >= maxBuckets {
			g.forget(now)
		}
		b = bucket{g.burst, now}
	}
	b.tokens = min(g.burst, b.tokens+g.rate*now.Sub(b.at).Seconds())
	b.at = now
	admitted := b.tokens >= 1
	if admitted {
		b.tokens--
	}
	g.buckets[ip] = b
	return admitted
}

// forget drops the addresses whose buckets are full again: they are as good as new.
func (g *gate) forget(now time.Time) {
	for ip, b := range g.buckets {
		if b.tokens+g.rate*now.Sub(b.at).Seconds() >= g.burst {
			delete(g.buckets, ip)
		}
	}
}
