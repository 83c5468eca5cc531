// Package connection is the feature `connection` of services, their ports and versions, and of
// externals: how a caller's proxy opens connections there, and finds out that one is dead.
package connection

import (
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "connection"
	// opening is what plans call the connect timeout.
	opening = "connect timeout"
	// longest is the most that Linux takes for TCP_KEEPIDLE and TCP_KEEPINTVL, 32,767 s, in
	// hours: with more, no connection would be opened.
	longest = 9 * time.Hour
)

// Connection is what is written of connections, as one caller's proxy has them.
type Connection struct {
	// Connect bounds the opening of one. 0: not written.
	Connect   trait.Duration `json:"connect_timeout,omitempty"`
	KeepAlive KeepAlive      `json:"tcp_keepalive,omitzero"`
}

// KeepAlive is the system's questions whether the other end is there. What is 0 is the system's
// own; if all is, it does not ask.
type KeepAlive struct {
	Time     trait.Duration `json:"time,omitempty"`
	Interval trait.Duration `json:"interval,omitempty"`
	Probes   int            `json:"probes,omitempty"`
}

// TraitName is "connection".
func (Connection) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "connection", On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true,
		Defaults: []resolve.Default{
			{Field: "connection.connectTimeout", Value: envoy.ConnectTimeout.String(), Why: "Envoy's default"},
			{Field: "connection.tcpKeepAlive", Value: "none", Why: "HTTP/2 between proxies asks by itself, every 30s"},
		},
		Read: read, Uses: nil,
	},
	Codec:      trait.JSON[Connection],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.Nothing("the callers' proxies open them"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of the connections to a Service's endpoints"),
}

// lower sets Cluster.connect_timeout, which counts the TLS handshake too, and
// Cluster.upstream_connection_options.
func lower(c *clusterv3.Cluster, v Connection, _ *envoy.Ctx) {
	if v.Connect != 0 {
		c.ConnectTimeout = envoy.Duration(time.Duration(v.Connect))
	}
	if k := v.KeepAlive; k != (KeepAlive{}) {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: written(seconds(k.Time)), KeepaliveInterval: written(seconds(k.Interval)), KeepaliveProbes: written(k.Probes),
		}}
	}
}

func seconds(d trait.Duration) int { return int(time.Duration(d) / time.Second) }

// written leaves out what is not: Envoy takes 0 for no questions at all.
func written(n int) *wrapperspb.UInt32Value {
	if n == 0 {
		return nil
	}
	return envoy.UInt32(uint32(n))
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	if len(n.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%s says nothing of connections", n.Path()).WithFix("write connectTimeout or tcpKeepAlive, or delete it"))
		return nil
	}
	c := Connection{Connect: x.Duration(n.Field("connectTimeout"), 0)}
	if c.Connect != 0 && time.Duration(c.Connect) < time.Millisecond {
		at := n.Field("connectTimeout")
		x.Problem(diag.New(diag.CodeRange, at.Pos(), "%s is shorter than a millisecond, which is what proxies count", at.Path()).WithFix("write 1ms or more"))
	}
	k := n.Field("tcpKeepAlive")
	if k.Exists() && len(k.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeOneOf, k.Pos(), "%s does not say when to ask", k.Path()).WithFix("write time, interval or probes, or delete it"))
	}
	c.KeepAlive = KeepAlive{Time: whole(k.Field("time"), x), Interval: whole(k.Field("interval"), x), Probes: int(k.Field("probes").Int())}
	return c
}

// whole reads a duration of whole seconds that the system can count.
func whole(n intent.Node, x *resolve.Place) trait.Duration {
	d := x.Duration(n, 0)
	if t := time.Duration(d); t%time.Second != 0 || t > longest {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "%s is %s, and systems count whole seconds up to %d h", n.Path(), d, int(longest.Hours())).
			WithFix("write whole seconds, 1s to %dh", int(longest.Hours())))
	}
	return d
}

func meaning(v trait.Value) []space.Act {
	c := v.(Connection)
	var fields []space.Field
	if c.Connect != 0 {
		fields = append(fields, space.Field{Feature: name, Name: opening, Value: c.Connect.String(), Number: time.Duration(c.Connect).Seconds()})
	}
	say := func(what string, d trait.Duration) {
		if d != 0 {
			fields = append(fields, space.Field{Feature: name, Name: what, Value: d.String()})
		}
	}
	say("keep-alive interval", c.KeepAlive.Interval)
	if p := c.KeepAlive.Probes; p != 0 {
		fields = append(fields, space.Field{Feature: name, Name: "keep-alive probes", Value: strconv.Itoa(p)})
	}
	say("keep-alive time", c.KeepAlive.Time)
	return space.Labels(space.AtWorkload, fields...)
}

// change: less time to open a connection may fail requests that were answered, and all else is
// between the proxies and the system.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	if opens(after) < opens(before) {
		class = plan.Narrowing
	}
	return class, plan.Arrow("connections", before, after)
}

// opens is how many seconds opening one may take.
func opens(fs []space.Field) float64 {
	for _, f := range fs {
		if f.Name == opening {
			return f.Number
		}
	}
	return envoy.ConnectTimeout.Seconds()
}
