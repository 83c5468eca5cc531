package xdsserver

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate closes connections of a network that opens too many per second, before
// they cost a handshake. Others are not delayed.
type gate struct {
	net.Listener
	now      func() time.Time
	rate     float64
	burst    float64
	rejected func()

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
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
		burst: float64(perSecond) * burstSeconds, buckets: map[netip.Prefix]bucket{},
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
	client, now := network(tcp.AddrPort().Addr()), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.buckets[client]
	if !ok {
		g.makeRoom(now)
		b = bucket{g.burst, now}
	}
	b.tokens = min(g.burst, b.tokens+g.rate*max(0, now.Sub(b.at).Seconds()))
	b.at = now
	admitted := b.tokens >= 1
	if admitted {
		b.tokens--
	}
	g.buckets[client] = b
	return admitted
}

// makeRoom drops the clients whose buckets are full again: they are as good as new.
// If there are too many others it drops all: memory is bounded, and nobody is
// locked out by them.
func (g *gate) makeRoom(now time.Time) {
	if len(g.buckets) < maxBuckets {
		return
	}
	for c, b := range g.buckets {
		if b.tokens+g.rate*max(0, now.Sub(b.at).Seconds()) >= g.burst {
			delete(g.buckets, c)
		}
	}
	if len(g.buckets) > maxBuckets/2 { // else the next one would search again
		clear(g.buckets)
	}
}

// network is the address for IPv4 and the /64 for IPv6, of which one customer has
// as many addresses as he likes.
func network(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // cannot fail: bits fits the address
	return p
}
