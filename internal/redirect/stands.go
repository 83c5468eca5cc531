package redirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// unused is the port that is dialled: one of the sidecar's own, so that no application
// has it, at which nobody listens. Without rules it refuses.
const unused = 15020

// mark is an address of this pod at which the proxy's user is redirected as if it
// came from outside, and the address to dial it from: the sidecar's own source is left
// alone. Neither takes a capability.
type mark struct{ from, to netip.Addr }

func (m mark) String() string { return netip.AddrPortFrom(m.to, unused).String() }

func (m mark) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(m.from, 0))}
	return d.DialContext(ctx, "tcp", m.String())
}

func marks() []mark {
	out := []mark{{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}}
	if !noIPv6() {
		out = append(out, mark{netip.IPv6Loopback(), netip.MustParseAddr(sourceV6)})
	}
	return out
}

// Stands sees for itself that connections are redirected, of both families: it takes
// the place of Envoy's inbound listener for a moment and dials another port. It is for
// the user ProxyID, before Envoy runs.
func Stands(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("::", strconv.Itoa(inboundPort)))
	if err != nil {
		return problem("port %d, to which connections are redirected, cannot be opened for both IP families: %v", inboundPort, err)
	}
	defer l.Close()
	for _, m := range marks() {
		if err := seen(ctx, l, m); err != nil {
			return problem("connections of this pod are not redirected to its sidecar: %s: %v", m, err)
		}
	}
	return nil
}

// seen dials and looks whether it is the listener that accepts.
func seen(ctx context.Context, l net.Listener, m mark) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := l.(*net.TCPListener); ok {
		if deadline, ok := ctx.Deadline(); ok {
			_ = d.SetDeadline(deadline)
		}
	}
	for {
		a, err := l.Accept()
		if err != nil {
			return err
		}
		_ = a.Close()
		if sameAddress(a.RemoteAddr(), c.LocalAddr()) {
			return nil
		}
	}
}

func sameAddress(a, b net.Addr) bool {
	x, err := netip.ParseAddrPort(a.String())
	y, err2 := netip.ParseAddrPort(b.String())
	return errors.Join(err, err2) == nil && x.Port() == y.Port() && x.Addr().Unmap() == y.Addr().Unmap()
}

// Goes reports whether connections are redirected to an Envoy that listens. Without
// rules they are refused, for nobody listens where it dials.
func Goes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, m := range marks() {
		c, err := m.dial(ctx)
		if err != nil {
			return problem("connections of this pod are not redirected to its sidecar: %s: %v", m, err)
		}
		_ = c.Close()
	}
	return nil
}
