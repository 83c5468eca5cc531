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
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

const (
	name = "connection"
	// opening is what plans call the connect timeout.
	opening = "connect timeout"
	// longest is the most that Linux takes for TCP_KEEPIDLE and TCP_KEEPINTVL, 32,767 s, in
	// hours: with more, no connection would be opened.
	longest = 9 * time.Hour
)

// callees is how long the other end keeps a connection without requests.
func callees() time.Duration { return hop.At(hop.Inbound).Idle }

// Connection is what is written of connections, as one caller's proxy has them.
type Connection struct {
	// Connect bounds the opening of one. 0: not written.
	Connect   trait.Duration `json:"connect_timeout,omitempty"`
	KeepAlive KeepAlive      `json:"tcp_keepalive,omitzero"`
	// Idle is how long one is kept without requests, MaxAge how long it gets new ones, MaxRequests
	// how many it carries. 0: not written. All three, and HTTP2, are about requests.
	Idle        trait.Duration `json:"idle,omitempty"`
	MaxAge      trait.Duration `json:"max_age,omitempty"`
	MaxRequests int            `json:"max_requests,omitempty"`
	HTTP2       HTTP2          `json:"http2,omitzero"`
	// Tells is the version of the PROXY protocol, "v1" or "v2", by which each says whom it is for, "" if none does.
	Tells string `json:"proxy_protocol,omitempty"`
}

// HTTP2 is what is said of connections that speak HTTP/2. What is 0 is not written.
type HTTP2 struct {
	// Streams is how many requests are under way on one.
	Streams int `json:"max_concurrent_streams,omitempty"`
	// Every and Within are the proxy's questions whether the other end is there, by PING, and how
	// long it waits for an answer.
	Every  trait.Duration `json:"ping_every,omitempty"`
	Within trait.Duration `json:"ping_within,omitempty"`
}

// ofBytes is v without what is about requests.
func (v Connection) ofBytes() Connection {
	return Connection{Connect: v.Connect, KeepAlive: v.KeepAlive, Tells: v.Tells}
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
			{Field: "connection.idle", Value: "10m", Why: "shorter than the other end keeps it, so that none is closed while a request is on its way"},
			{Field: "connection.http2.maxConcurrentStreams", Value: "what the callee's proxy takes; 1 to an external", Why: "software that is not ours reads its streams at its own pace"},
			{Field: "connection.http2.ping", Value: "every 30s, within 10s", Why: "a peer that is gone is noticed while answers are awaited"},
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

// lower sets Cluster.connect_timeout, which counts the TLS handshake too,
// Cluster.upstream_connection_options, Cluster.transport_socket where each says whom it is for, and the protocol options idle_timeout,
// max_connection_duration, max_requests_per_connection and those of HTTP/2.
func lower(c *clusterv3.Cluster, v Connection, x *envoy.Ctx) {
	if v.Connect != 0 {
		c.ConnectTimeout = envoy.Duration(time.Duration(v.Connect))
	}
	if k := v.KeepAlive; k != (KeepAlive{}) {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: written(seconds(k.Time)), KeepaliveInterval: written(seconds(k.Interval)), KeepaliveProbes: written(k.Probes),
		}}
	}
	if v.Tells != "" {
		c.TransportSocket = envoy.Telling(v.Tells, c.TransportSocket)
	}
	if x.Protocol == nil {
		return
	}
	common := x.Protocol.GetCommonHttpProtocolOptions()
	if v.Idle != 0 {
		common.IdleTimeout = envoy.Duration(time.Duration(v.Idle))
	}
	if v.MaxAge != 0 {
		common.MaxConnectionDuration = envoy.Duration(time.Duration(v.MaxAge))
	}
	common.MaxRequestsPerConnection = written(v.MaxRequests)
	if o := x.Protocol.GetExplicitHttpConfig().GetHttp2ProtocolOptions(); o != nil {
		lowerHTTP2(o, v.HTTP2)
	}
}

func lowerHTTP2(o *corev3.Http2ProtocolOptions, v HTTP2) {
	if v.Streams != 0 {
		o.MaxConcurrentStreams = written(v.Streams)
	}
	if v.Every != 0 {
		o.ConnectionKeepalive.Interval = envoy.Duration(time.Duration(v.Every))
	}
	if v.Within != 0 {
		o.ConnectionKeepalive.Timeout = envoy.Duration(time.Duration(v.Within))
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
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%s says nothing of connections", n.Path()).WithFix("write connectTimeout, idle or another of its fields, or delete it"))
		return nil
	}
	c := Connection{
		Connect: x.Counted(n.Field("connectTimeout"), 0), Idle: x.Counted(n.Field("idle"), 0), MaxAge: x.Counted(n.Field("maxAge"), 0),
		MaxRequests: int(n.Field("maxRequests").Int()), HTTP2: readHTTP2(n.Field("http2"), x),
	}
	if at := n.Field("idle"); time.Duration(c.Idle) >= callees() && x.External() == nil {
		x.Problem(diag.New(diag.CodeRange, at.Pos(), "a callee's proxy closes a connection after %s without requests, and %s keeps it for %s", callees(), at.Path(), c.Idle).
			WithFix("write less than %s; to an external it may be more", callees()))
	}
	k := n.Field("tcpKeepAlive")
	if k.Exists() && len(k.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeOneOf, k.Pos(), "%s does not say when to ask", k.Path()).WithFix("write time, interval or probes, or delete it"))
	}
	c.Tells = telling(n.Field("proxyProtocol"), x)
	c.KeepAlive = KeepAlive{Time: whole(k.Field("time"), x), Interval: whole(k.Field("interval"), x), Probes: int(k.Field("probes").Int())}
	return meant(c, n, x)
}

// telling reads by which version of the PROXY protocol connections say whom they are for. Those that carry requests are
// several callers', and a proxy of the mesh reads mTLS first.
func telling(n intent.Node, x *resolve.Place) string {
	problem := func(why, fix string) string {
		x.Problem(diag.New(diag.CodeTells, n.Pos(), "%s %s", n.Path(), why).WithFix("%s", fix))
		return ""
	}
	switch {
	case !n.Exists():
		return ""
	case x.At == resolve.OnDefault:
		return problem("would be sent to all, most of whom read something else", "say it of the service or external that reads it")
	case !x.OfBytes():
		return problem("says whom a connection is for, and one that carries requests is for several callers", "say it of a port of the protocol tcp, or take it out: requests have x-forwarded-for")
	case x.Proxied():
		return problem("says whom a connection is for, and it has its connections from an HTTP proxy (`via`)", "delete it")
	case !x.Plaintext(): // no error: an exception of mTLS ends
		x.Problem(diag.Warn(diag.CodeTells, n.Pos(), "%s does nothing: its proxies take mTLS, and nobody reads it", n.Path()).WithFix(`let its mTLS be "disable", or take it out`))
		return ""
	}
	return n.Str()
}

// meant is what a value says of the connections that it is for.
func meant(c Connection, n intent.Node, x *resolve.Place) trait.Value {
	bytes := x.OfBytes() || x.To.Name != "" && !x.To.Protocol.IsHTTP()
	for _, word := range []string{"idle", "maxAge", "maxRequests", "http2"} {
		if at := n.Field(word); at.Exists() && x.OfBytes() && x.At != resolve.OnDefault {
			x.Problem(diag.New(diag.CodeProtocol, at.Pos(), "%s is about connections that carry requests, and here are none", at.Path()).
				WithFix("take it out, or let the port say http, http2 or grpc"))
		}
	}
	older := x.External() != nil && (x.Speaks(model.HTTP) || x.To.Name != "" && x.To.Protocol.Plain() == model.HTTP)
	if at := n.Field("http2"); at.Exists() && older && x.At != resolve.OnDefault {
		x.Problem(diag.New(diag.CodeProtocol, at.Pos(), "%s is about HTTP/2, and its ports speak HTTP/1.1", at.Path()).
			WithFix("take it out, or let the port say http2, https2, grpc or grpcs"))
	}
	if older {
		c.HTTP2 = HTTP2{}
	}
	if bytes {
		c = c.ofBytes()
	}
	if c == (Connection{}) {
		return nil
	}
	return c
}

func readHTTP2(n intent.Node, x *resolve.Place) HTTP2 {
	if n.Exists() && len(n.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%s says nothing of HTTP/2", n.Path()).WithFix("write maxConcurrentStreams or ping, or delete it"))
	}
	ping := n.Field("ping")
	v := HTTP2{Streams: int(n.Field("maxConcurrentStreams").Int()), Every: x.Counted(ping.Field("every"), 0), Within: x.Counted(ping.Field("within"), 0)}
	if ping.Exists() && len(ping.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeOneOf, ping.Pos(), "%s does not say when to ask", ping.Path()).WithFix("write every or within, or delete it"))
	}
	return v
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
	count := func(what string, n int) {
		if n != 0 {
			fields = append(fields, space.Field{Feature: name, Name: what, Value: strconv.Itoa(n)})
		}
	}
	if c.Tells != "" {
		fields = append(fields, space.Field{Feature: name, Name: "told whom they are for by PROXY protocol", Value: c.Tells})
	}
	say("keep-alive interval", c.KeepAlive.Interval)
	count("keep-alive probes", c.KeepAlive.Probes)
	say("keep-alive time", c.KeepAlive.Time)
	say("kept idle for", c.Idle)
	say("new requests for", c.MaxAge)
	count("requests on one", c.MaxRequests)
	count("requests at a time on one", c.HTTP2.Streams)
	say("asked by PING every", c.HTTP2.Every)
	say("dead without an answer to PING within", c.HTTP2.Within)
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
