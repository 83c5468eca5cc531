package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler/release"
)

const method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

// client asks as Envoy does: clusters and listeners at once, the endpoints of the
// clusters and the routes of the listeners when it has those.
type client struct {
	fleet *Fleet
	node  string
	conn  *grpc.ClientConn
	end   context.CancelFunc
	done  chan struct{}

	mu   sync.Mutex
	held map[string]map[string]string // version by type and name
}

// open starts a stream. A client that has something says so.
func (c *client) open(ctx context.Context) error {
	ctx, c.end = context.WithCancel(ctx)
	st, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return fmt.Errorf("client %s: %w", c.node, err)
	}
	c.done = make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	again := c.held != nil
	if !again {
		c.held = map[string]map[string]string{}
		for _, t := range release.Types() {
			c.held[t] = map[string]string{}
		}
	}
	first := [][]byte{request(c.node, release.ClusterType, "", nil, c.held[release.ClusterType])}
	names := func(t string) []string { return slices.Collect(maps.Keys(c.held[t])) }
	if again {
		first = append(first, request("", release.EndpointType, "", names(release.EndpointType), c.held[release.EndpointType]))
	}
	first = append(first, request("", release.ListenerType, "", nil, c.held[release.ListenerType]))
	if again {
		first = append(first, request("", release.RouteType, "", names(release.RouteType), c.held[release.RouteType]))
	}
	for _, b := range first {
		if err := st.SendMsg(b); err != nil {
			return fmt.Errorf("client %s: %w", c.node, err)
		}
	}
	go c.follow(st, again)
	return nil
}

// follow takes every response and confirms it.
func (c *client) follow(st grpc.ClientStream, again bool) {
	defer close(c.done)
	asked := map[string]bool{release.ClusterType: again, release.ListenerType: again}
	for {
		var b []byte
		err := st.RecvMsg(&b)
		if err == nil {
			err = c.take(st, b, asked)
		}
		if err != nil {
			if st.Context().Err() == nil {
				c.fleet.failed(fmt.Errorf("client %s: %w", c.node, err))
			}
			return
		}
	}
}

func (c *client) take(st grpc.ClientStream, b []byte, asked map[string]bool) error {
	r, err := parse(b)
	if err != nil {
		return err
	}
	news := c.hold(r)
	c.fleet.age(c, r)
	if err := st.SendMsg(request("", r.typ, r.nonce, nil, nil)); err != nil {
		return err
	}
	if wanted, ok := asked[r.typ]; ok && !wanted && len(r.resources) > 0 {
		asked[r.typ] = true
		typ, names := c.fleet.following(r.typ)
		if err := st.SendMsg(request("", typ, "", names, nil)); err != nil {
			return err
		}
	}
	for _, n := range news {
		c.fleet.confirmed(r.typ, n)
	}
	return nil
}

// hold notes what a response says, and returns the names with another version.
func (c *client) hold(r response) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held[r.typ]
	if held == nil {
		return nil
	}
	var news []string
	for _, res := range r.resources {
		name, version := c.fleet.one(res.name), c.fleet.one(res.version)
		if old, ok := held[name]; !ok || old != version {
			news = append(news, name)
		}
		held[name] = version
	}
	for _, n := range r.removed {
		delete(held, n)
	}
	return news
}

func (c *client) count(typ string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held[typ])
}

func (c *client) version(typ, name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[typ][name]
}

// close ends stream and connection; what the client has stays.
func (c *client) close() {
	if c.end != nil {
		c.end()
		select {
		case <-c.done:
		case <-time.After(5 * time.Second):
		}
	}
	_ = c.conn.Close()
}
