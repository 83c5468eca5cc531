// Package upstream makes a gRPC connection to one of several servers that serve the same.
//
// In: the servers as "host:port". Out: a connection to the first of their addresses that
// answers.
//
// What always holds: there is one connection with which work is done, never two. All
// addresses of all names are one list in an order of chance, so that many clients spread over
// the servers. One that refuses, or does not answer a handshake within a quarter of a second,
// is left for the next; after the last all are tried again, each with pauses that double. A
// connection that stands is kept until it breaks, even if names lead elsewhere by then.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/resolver"
)

const (
	scheme = "meshc"
	// lookupTime is how long one name may take.
	lookupTime = 5 * time.Second
	// lookEvery is the least time between two looks at the names.
	lookEvery = time.Second
)

// Dial prepares a connection; the first call makes it. No proxy of the environment is used.
func Dial(servers []string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	if len(servers) == 0 {
		return nil, errors.New("connecting: no server is named")
	}
	conn, err := grpc.NewClient(scheme+":///servers", append([]grpc.DialOption{
		grpc.WithResolvers(names(servers)), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + pickfirst.Name + `": {"shuffleAddressList": true}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.3, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("preparing a connection to %s: %w", Names(servers), err)
	}
	return conn, nil
}

// Names are the servers as a message tells them.
func Names(servers []string) string {
	quoted := make([]string, len(servers))
	for i, s := range servers {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(quoted, ", ")
}

// names builds resolvers of these servers.
type names []string

// Scheme implements resolver.Builder.
func (names) Scheme() string { return scheme }

// Build implements resolver.Builder.
func (n names) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, end := context.WithCancel(context.Background())
	l := &looker{servers: n, cc: cc, known: make([][]string, len(n)), again: make(chan struct{}, 1), end: end, done: make(chan struct{})}
	go l.run(ctx)
	return l, nil
}

// looker looks names up: at the start, and when gRPC finds that an address does not answer.
type looker struct {
	servers []string
	cc      resolver.ClientConn
	known   [][]string // addresses of each server, as they were found last
	told    []resolver.Endpoint
	again   chan struct{}
	end     context.CancelFunc
	done    chan struct{}
}

// ResolveNow implements resolver.Resolver.
func (l *looker) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (l *looker) Close() {
	l.end()
	<-l.done
}

func (l *looker) run(ctx context.Context) {
	defer close(l.done)
	for {
		if err := l.look(ctx); err != nil { // nobody asks again before there is an address
			l.cc.ReportError(err)
			l.ResolveNow(resolver.ResolveNowOptions{})
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return
		}
		select {
		case <-l.again:
		case <-ctx.Done():
			return
		}
	}
}

// look tells gRPC all addresses. A name that cannot be looked up keeps those that it had.
// The error says why there is none at all.
func (l *looker) look(ctx context.Context) error {
	errs := make([]error, len(l.servers))
	var all sync.WaitGroup
	for i, s := range l.servers {
		all.Go(func() {
			found, err := lookUp(ctx, s)
			if errs[i] = err; err == nil {
				l.known[i] = found
			}
		})
	}
	all.Wait()
	var list []resolver.Endpoint
	for i, addresses := range l.known {
		for _, a := range addresses {
			list = append(list, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a, ServerName: l.servers[i]}}})
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case len(list) == 0:
		return errors.Join(errs...)
	case slices.EqualFunc(list, l.told, func(a, b resolver.Endpoint) bool { return a.Addresses[0].Equal(b.Addresses[0]) }):
		return nil // told again it would be shuffled again
	}
	l.told = list
	_ = l.cc.UpdateState(resolver.State{Endpoints: list}) // gRPC keeps what is wrong with it for the calls
	return nil
}

// lookUp returns the addresses of a server, with its port, in a fixed order.
func lookUp(ctx context.Context, server string) ([]string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return nil, fmt.Errorf("reading the server %q: %w", server, err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host) // an address is its own
	if err != nil {
		return nil, fmt.Errorf("looking up the server %q: %w", server, err)
	}
	for i, a := range found {
		found[i] = net.JoinHostPort(a, port)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
