package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
)

// Set is the probes of one pod. The zero Set has none.
type Set struct {
	probes map[string]handler
	at     netip.Addr
	once   singleflight.Group
}

// handler is one probe; exactly one of the first three is set.
type handler struct {
	HTTPGet   *httpGet   `json:"httpGet"`
	TCPSocket *tcpSocket `json:"tcpSocket"`
	GRPC      *grpcCall  `json:"grpc"`
	// TimeoutSeconds is 1 if it is left out, as in the Kubernetes API.
	TimeoutSeconds int `json:"timeoutSeconds"`
}

type tcpSocket struct {
	Port uint16 `json:"port"`
}

// maxTimeout bounds how long an asker can occupy the application.
const maxTimeout = 300

// Parse reads the probes of the pod with that address.
func Parse(raw []byte, at netip.Addr) (*Set, error) {
	s := &Set{at: at}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.probes); err != nil {
		return nil, fmt.Errorf("reading probes: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading probes: something follows the object")
	}
	for key, h := range s.probes {
		if err := check(key, h); err != nil {
			return nil, fmt.Errorf("probe %q: %w", key, err)
		}
	}
	return s, nil
}

func check(key string, h handler) error {
	container, kind, _ := strings.Cut(key, "/")
	if container == "" || kind != "liveness" && kind != "readiness" && kind != "startup" {
		return errors.New("the name is not CONTAINER/liveness, readiness or startup")
	}
	var ports []uint16
	if h.HTTPGet != nil {
		ports = append(ports, h.HTTPGet.Port)
		if err := h.HTTPGet.check(); err != nil {
			return err
		}
	}
	if h.TCPSocket != nil {
		ports = append(ports, h.TCPSocket.Port)
	}
	if h.GRPC != nil {
		ports = append(ports, h.GRPC.Port)
	}
	if len(ports) != 1 {
		return errors.New("exactly one of httpGet, tcpSocket and grpc is needed")
	}
	if ports[0] == 0 {
		return errors.New("the port is missing")
	}
	if h.TimeoutSeconds < 0 || h.TimeoutSeconds > maxTimeout {
		return fmt.Errorf("timeoutSeconds is 1 to %d", maxTimeout)
	}
	return nil
}

// ErrUndeclared is an asked probe that the pod does not have.
var ErrUndeclared = errors.New("the pod declares no such probe")

// Ask asks the application; nil is a pass. Whoever asks while the same is being asked
// gets the same answer.
func (s *Set) Ask(ctx context.Context, container, kind string) error {
	key := container + "/" + kind
	h, ok := s.probes[key]
	if !ok {
		return ErrUndeclared
	}
	answer := s.once.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(max(h.TimeoutSeconds, 1))*time.Second)
		defer cancel()
		return nil, h.ask(ctx, s.at)
	})
	select {
	case a := <-answer:
		return a.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h handler) ask(ctx context.Context, at netip.Addr) error {
	switch {
	case h.HTTPGet != nil:
		return h.HTTPGet.ask(ctx, at)
	case h.GRPC != nil:
		return h.GRPC.ask(ctx, at)
	default:
		c, err := dial(ctx, netip.AddrPortFrom(at, h.TCPSocket.Port).String())
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// The addresses of the sidecar towards its application, which the pod's rules leave alone.
const sourceV4, sourceV6 = "127.0.0.6", "::6"

// dial connects to the application as the sidecar does.
func dial(ctx context.Context, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	from := sourceV6
	if to.Addr().Is4() {
		from = sourceV4
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	return d.DialContext(ctx, "tcp", address)
}

// PodAddress is the address by which the kubelet knows this pod: the first of its
// interfaces' that others can reach, IPv4 before IPv6.
func PodAddress() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading this pod's addresses: %w", err)
	}
	var found netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap()
		if !ip.IsGlobalUnicast() || ip.String() == sourceV6 || found.IsValid() && (found.Is4() || ip.Is6()) {
			continue
		}
		found = ip
	}
	if !found.IsValid() {
		return found, errors.New("this pod has no address that others could reach")
	}
	return found, nil
}
