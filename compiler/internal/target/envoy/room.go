package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"meshc.dev/meshc/internal/hop"
)

// door is the place's name in the table of limits.
func (p place) door() hop.Door {
	switch p {
	case atGateway:
		return hop.Gateway
	case atCallee, atExit:
		return hop.Inbound
	default:
		return hop.Outbound
	}
}

// limitRequests puts a door's limits into its connection manager.
func limitRequests(h *hcmv3.HttpConnectionManager, d hop.Door) {
	l := hop.At(d)
	h.MaxRequestHeadersKb = UInt32(l.HeaderKiB)
	h.Http2ProtocolOptions = http2(l, l.HeaderKiB)
	// A connection of HTTP/1 that changes its protocol is a stream of HTTP/2 that does
	// (RFC 8441). Routes say which may.
	h.Http2ProtocolOptions.AllowConnect = true
	h.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		MaxHeadersCount: UInt32(l.HeaderLines),
		IdleTimeout:     Duration(l.Idle),
	}
	if l.HeadersTimeout > 0 {
		h.RequestHeadersTimeout = Duration(l.HeadersTimeout)
	}
}

// usualField is how many KiB nghttp2 takes of one header unless told otherwise, and the
// least that it may be told.
const usualField = 64

// http2 is HTTP/2 on one connection. What is wrong with one stream ends it and not
// the connection, which may carry the requests of many. One field may fill a head.
func http2(l hop.Limits, headKiB uint32) *corev3.Http2ProtocolOptions {
	o := &corev3.Http2ProtocolOptions{
		OverrideStreamErrorOnInvalidHttpMessage:     Bool(true),
		MaxConcurrentStreams:                        UInt32(l.Streams),
		InitialStreamWindowSize:                     UInt32(l.StreamWindow),
		InitialConnectionWindowSize:                 UInt32(l.ConnectionWindow),
		StreamResetBurst:                            UInt64(l.ResetBurst),
		StreamResetRate:                             UInt64(l.ResetRate),
		MaxOutboundFrames:                           UInt32(l.Frames),
		MaxOutboundControlFrames:                    UInt32(l.ControlFrames),
		MaxConsecutiveInboundFramesWithEmptyPayload: UInt32(l.EmptyFrames),
	}
	if headKiB > usualField {
		o.MaxHeaderFieldSizeKb = UInt32(headKiB)
	}
	return o
}

// poolHTTP2 is HTTP/2 towards an upstream. Keep-alive finds a dead peer.
func poolHTTP2(a answers) *corev3.Http2ProtocolOptions {
	o := http2(hop.At(hop.Inbound), a.kib)
	o.MaxConcurrentStreams = UInt32(a.streams)
	o.ConnectionKeepalive = &corev3.KeepaliveSettings{Interval: Duration(30 * time.Second), Timeout: Duration(10 * time.Second)}
	return o
}

// answers is what a cluster takes of the head of an answer, and how many it awaits on
// one HTTP/2 connection.
type answers struct{ lines, kib, streams uint32 }

func fromApps() answers { return answers{hop.AppAnswerLines, hop.AppAnswerKiB, hop.AppStreams} }

func fromMesh() answers {
	return answers{hop.MeshAnswerLines, hop.MeshAnswerKiB, hop.At(hop.Inbound).Streams}
}

func (a answers) options() *corev3.HttpProtocolOptions {
	return &corev3.HttpProtocolOptions{
		MaxHeadersCount:      UInt32(a.lines),
		MaxResponseHeadersKb: UInt32(a.kib),
		IdleTimeout:          Duration(hop.PoolIdle),
	}
}

// unbounded takes away Envoy's own bounds on what a cluster may have open; a written
// circuit breaker sets others.
func unbounded(c *clusterv3.Cluster) {
	t := DefaultThresholds(c)
	t.MaxConnections, t.MaxPendingRequests, t.MaxRequests = UInt32(hop.Unbounded), UInt32(hop.Unbounded), UInt32(hop.Unbounded)
}
