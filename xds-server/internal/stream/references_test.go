package stream_test

import (
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// bytesTo is a listener that sends bytes to a cluster.
func bytesTo(t testing.TB, name string, port int, cluster string) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name, Address: socketAddress("127.0.0.1", port),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.tcp_proxy",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: boxed(t, &tcpv3.TcpProxy{
				StatPrefix: name, ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster},
			})},
		}}}},
	}
}

// TestTheOrderFollowsTheReferences: the release says what a resource needs, and that alone
// makes the order. Without a kind of reference the order breaks: a proxy gets what it
// cannot use yet, or loses what it still uses.
func TestTheOrderFollowsTheReferences(t *testing.T) {
	for name, c := range map[string]struct {
		from, to release.TypeURL
		// specs are two releases; change is what comes of the second, up to where the
		// reference counts. whole then sees what the reference is for, broken the order
		// without it.
		before, after func(t *testing.T) classSpec
		boot, change  func(c *deltaClient)
		whole, broken func(c *deltaClient)
	}{
		"a cluster's endpoints": {
			from: release.ClusterType, to: release.EndpointType,
			before: func(t *testing.T) classSpec { return app(t, time.Second, "a") },
			after:  func(t *testing.T) classSpec { return app(t, 2*time.Second, "a") },
			boot:   func(c *deltaClient) { c.boot("a") },
			change: func(c *deltaClient) { c.ack(c.want(cds, []string{"a"})) },
			// Envoy has asked for them already, and would wait.
			whole:  func(c *deltaClient) { c.ack(c.want(eds, []string{"a"})) },
			broken: func(c *deltaClient) { c.quiet(time.Minute) },
		},
		"a route's cluster": {
			from: release.RouteType, to: release.ClusterType,
			before: func(t *testing.T) classSpec { return app(t, time.Second, "a") },
			after:  func(t *testing.T) classSpec { return app(t, time.Second, "b") },
			boot:   func(c *deltaClient) { c.boot("a") },
			change: func(c *deltaClient) { c.ack(c.want(cds, []string{"b"})) },
			whole: func(c *deltaClient) { // whose endpoints have not been asked for
				c.quiet(time.Second)
				c.subscribe(eds, "b")
				c.ack(c.want(eds, []string{"b"}))
				c.ack(c.want(rds, []string{"r"}))
			},
			broken: func(c *deltaClient) { c.want(rds, []string{"r"}) },
		},
		"a listener's cluster": {
			from: release.ListenerType, to: release.ClusterType,
			before: func(t *testing.T) classSpec {
				return classSpec{class: shop, res: messages(bytesTo(t, "in", 15001, "a"), edsCluster("a", time.Second), assignment("a", 1001))}
			},
			after: func(t *testing.T) classSpec {
				return classSpec{class: shop, res: messages(bytesTo(t, "in", 15001, "b"), edsCluster("b", time.Second), assignment("b", 1001))}
			},
			boot: func(c *deltaClient) {
				c.subscribe(cds)
				r := c.want(cds, []string{"a"})
				c.subscribe(eds, "a")
				c.ack(c.want(eds, []string{"a"}))
				c.ack(r)
				c.subscribe(lds)
				c.ack(c.want(lds, []string{"in"}))
				c.quiet(time.Second)
			},
			change: func(c *deltaClient) { c.ack(c.want(cds, []string{"b"})) },
			whole: func(c *deltaClient) {
				c.quiet(time.Second)
				c.subscribe(eds, "b")
				c.ack(c.want(eds, []string{"b"}))
				c.ack(c.want(lds, []string{"in"}))
			},
			broken: func(c *deltaClient) { c.want(lds, []string{"in"}) },
		},
		"a listener's routes": {
			from: release.ListenerType, to: release.RouteType,
			before: func(t *testing.T) classSpec { return app(t, time.Second, "a") },
			after: func(t *testing.T) classSpec {
				spec := app(t, time.Second, "a")
				spec.res[0] = listener(t, "out", 15002, "s")
				spec.res = append(spec.res, routes("s", "a"))
				return spec
			},
			boot:   func(c *deltaClient) { c.boot("a") },
			change: func(c *deltaClient) { c.ack(c.want(lds, []string{"out"})) },
			whole: func(c *deltaClient) { // which nobody asked for: the new listener is not ready
				c.quiet(time.Second)
				c.subscribe(rds, "s")
				c.ack(c.want(rds, []string{"s"}))
				c.ack(c.want(lds, nil, "in"))
			},
			broken: func(c *deltaClient) { c.want(lds, nil, "in") },
		},
	} {
		for _, forgotten := range []bool{false, true} {
			label := name
			if forgotten {
				label += " forgotten"
			}
			t.Run(label, func(t *testing.T) {
				inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
					made := func(spec classSpec) classSpec {
						spec.forgets = func(from, to release.TypeURL) bool { return forgotten && from == c.from && to == c.to }
						return spec
					}
					s.publish(t, "commit-1", seal(t, made(c.before(t))))
					p := s.delta(t, shop, "p")
					c.boot(p)
					s.publish(t, "commit-2", seal(t, made(c.after(t))))
					c.change(p)
					if forgotten {
						c.broken(p)
					} else {
						c.whole(p)
					}
				})
			})
		}
	}
}
