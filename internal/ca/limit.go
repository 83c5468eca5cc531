package ca

import (
	"net/netip"
	"sync"
	"time"
)

// Rates of Join and Renew per client address. A hundred proxies of one host
// may start at once; a loop is slowed to ten a second.
const (
	limitBurst     = 100
	limitPerSecond = 10
	limitClients   = 4096
)

// limiter is a token bucket per client network, in bounded memory.
type limiter struct {
	clock func() time.Time

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// allow spends one request of the client at address addr ("ip:port", or
// anything else for a Unix socket: one client).
func (l *limiter) allow(addr string) bool {
	key := clientNet(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	b, known := l.buckets[key]
	if !known {
		l.makeRoom(now)
		b = bucket{left: limitBurst, at: now}
	}
	b = b.filled(now)
	ok := b.left >= 1
	if ok {
		b.left--
	}
	l.buckets[key] = b
	return ok
}

func (b bucket) filled(now time.Time) bucket {
	b.left = min(limitBurst, b.left+max(0, now.Sub(b.at).Seconds())*limitPerSecond)
	b.at = now
	return b
}

// makeRoom forgets clients that are back at full credit; if all are busy it
// forgets everybody: memory is bounded, and nobody is locked out by others.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < limitClients {
		return
	}
	for k, b := range l.buckets {
		if b.filled(now).left >= limitBurst {
			delete(l.buckets, k)
		}
	}
	if len(l.buckets) >= limitClients {
		clear(l.buckets)
	}
}

// clientNet is the address for IPv4 and the /64 for IPv6, of which one
// customer has as many addresses as he likes.
func clientNet(addr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap(), 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits) // cannot fail: bits fits the address
	return p
}
