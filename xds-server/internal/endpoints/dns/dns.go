// Package dns finds live endpoints by name.
//
// In: the "host:port" names that the release uses. Out: their addresses, looked
// up again and again. The operating system's resolver gives no time to live, so
// all names are looked up at one interval; a name that fails keeps its addresses
// and is tried again at the next.
package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// Config is what a Source needs.
type Config struct {
	// Every is the interval between two lookups of a name.
	Every time.Duration
	// Resolver is asked; nil means the system's.
	Resolver *net.Resolver
}

// Source looks names up. Make one with New.
type Source struct {
	cfg  Config
	mu   sync.Mutex
	want []string
	kick chan struct{}
}

// New makes a source that looks nothing up yet.
func New(cfg Config) *Source {
	if cfg.Resolver == nil {
		cfg.Resolver = &net.Resolver{}
	}
	return &Source{cfg: cfg, kick: make(chan struct{}, 1)}
}

// Want sets the names, each "host:port", and has them looked up soon.
func (s *Source) Want(names []string) {
	s.mu.Lock()
	s.want = slices.Clone(names)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// parallel bounds the lookups at one time, timeout the length of one.
const (
	parallel = 16
	timeout  = 5 * time.Second
)

// Watch looks the names up until ctx ends, and returns nil then.
func (s *Source) Watch(ctx context.Context, sink endpoints.Sink) error {
	t := time.NewTicker(s.cfg.Every)
	defer t.Stop()
	for {
		s.round(ctx, sink)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.kick:
		}
	}
}

// round looks every name up once. Each answer is told when it comes, so that one
// silent name server holds no other name back.
func (s *Source) round(ctx context.Context, sink endpoints.Sink) {
	s.mu.Lock()
	names := s.want
	s.mu.Unlock()
	var telling sync.Mutex
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			key := endpoints.Key{DNS: name}
			addrs, err := s.resolve(ctx, name)
			telling.Lock()
			defer telling.Unlock()
			switch {
			case ctx.Err() != nil:
			case err != nil:
				sink(nil, []endpoints.Problem{{Key: key, Err: err}})
			default:
				sink([]endpoints.Change{{Key: key, Addresses: addrs}}, nil)
			}
		})
	}
	wg.Wait()
}

func (s *Source) resolve(ctx context.Context, name string) (endpoints.Addresses, error) {
	host, portText, err := net.SplitHostPort(name)
	if err != nil {
		return endpoints.Addresses{}, fmt.Errorf("not host:port: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return endpoints.Addresses{}, fmt.Errorf("port %q is not a number from 1 to 65535", portText)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ips, err := s.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return endpoints.Addresses{}, err
	}
	var list []endpoints.Address
	seen := map[netip.Addr]bool{}
	for _, ip := range ips {
		ip = ip.Unmap()
		if seen[ip] || ip.Zone() != "" {
			continue
		}
		seen[ip] = true
		list = append(list, endpoints.Address{Addr: netip.AddrPortFrom(ip, uint16(port))})
	}
	if len(list) == 0 {
		return endpoints.Addresses{}, fmt.Errorf("no usable address")
	}
	return endpoints.NewAddresses(list)
}
