package hop

import "time"

// Door is where requests enter a proxy.
type Door string

// The doors on a request's way. An application may pass on what came in through
// Inbound through Outbound again.
const (
	Gateway  Door = "gateway"  // from visitors
	Outbound Door = "outbound" // a sidecar's, from its own application
	Inbound  Door = "inbound"  // a sidecar's, from other proxies
)

// Limits is what a proxy takes at a door. What has more lines or bytes of header is
// answered with 431 over HTTP/1 and ends its stream over HTTP/2.
type Limits struct {
	// HeaderLines of a request, Host among them (max_headers_count).
	HeaderLines uint32
	// HeaderKiB of a request's head: over HTTP/1 its bytes as sent, request line and
	// line ends included (max_request_headers_kb).
	HeaderKiB uint32
	// Streams at once on one HTTP/2 connection (max_concurrent_streams). Callers open
	// a further connection where they have more.
	Streams uint32
	// StreamWindow and ConnectionWindow are bytes under way to the receiver of a
	// stream, and of all streams of a connection (initial_stream_window_size,
	// initial_connection_window_size). A shared connection has a window for each of
	// its streams, so that those who read slowly cannot use it up for the others.
	StreamWindow, ConnectionWindow uint32
	// ControlFrames and Frames are what may wait to be written (max_outbound_control_frames,
	// max_outbound_frames), EmptyFrames what may come in a row
	// (max_consecutive_inbound_frames_with_empty_payload). Beyond them Envoy ends the
	// connection; a visitor's reset makes a control frame between the proxies.
	ControlFrames, Frames, EmptyFrames uint32
	// ResetBurst and ResetRate are how many streams the other side may reset at once,
	// and a second (stream_reset_burst, stream_reset_rate).
	ResetBurst, ResetRate uint64
	// Buffer is how many bytes a connection may hold (per_connection_buffer_limit_bytes).
	Buffer uint32
	// HeadersTimeout is how long a head may take from its first byte on; 0: as long as it likes.
	HeadersTimeout time.Duration
	// Idle is how long a connection without requests is kept (idle_timeout).
	Idle time.Duration
}

// What proxies and routes may add to a request on its way through one of them. The
// compiler refuses routes whose edits add more.
const (
	ownLines, ownBytes = 16, 4 << 10
	// EditLines and EditBytes are what the edits of a route may add: lines, and bytes
	// of names and values.
	EditLines = 32
	EditBytes = 16 << 10
)

// streams of a connection between proxies, and the window of each.
const (
	streams = 1024
	window  = 256 << 10
)

// waiting is how many control frames of a shared connection may wait to be written.
// A proxy reads from all its visitors before it writes: each of a thousand can have
// reset a thousand streams in what has come at once, and each reset is a frame.
const waiting = 1 << 20

// At is the one table of limits. Each door takes what the doors before it let
// through and what is added there, so that the first proxy is the one that refuses.
func At(d Door) Limits {
	shared := Limits{
		ResetBurst: Unbounded, ResetRate: Unbounded, // visitors who hang up
		Streams: streams, StreamWindow: window, ConnectionWindow: streams * window,
		ControlFrames: waiting, Frames: 2 * waiting, EmptyFrames: 100 * streams,
		Buffer: 1 << 20,   // Envoy's default
		Idle:   time.Hour, // Envoy's default; callers leave earlier (PoolIdle)
	}
	switch d {
	case Gateway:
		return Limits{
			HeaderLines: 100, HeaderKiB: 60, // Envoy's defaults, more than any browser sends
			Streams: 100, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, // Envoy's advice for an edge
			ResetBurst: 1000, ResetRate: 33, ControlFrames: 1000, Frames: 10000, EmptyFrames: 1, // Envoy's defaults: this client's own connection
			Buffer:         32 << 10,         // a hostile client must not make the gateway hold much for it
			HeadersTimeout: 10 * time.Second, // slow senders
			Idle:           15 * time.Minute, // longer than load balancers keep theirs: 10 minutes at most
		}
	case Outbound:
		shared.HeaderLines, shared.HeaderKiB = 150, 80 // what a gateway let in, passed on by the application
	default:
		shared.HeaderLines, shared.HeaderKiB = 200, 100 // what Outbound let in
	}
	return shared
}

// Silence is how long nothing may move on a request, in either direction, where its route says
// nothing else: Envoy's default (HttpConnectionManager.stream_idle_timeout).
const Silence = 5 * time.Minute

// HelloTimeout is how long a connection between proxies may wait with its first bytes,
// where these tell what it is (listener_filters_timeout).
const HelloTimeout = 5 * time.Second

// PoolIdle is how long a caller keeps a connection without requests: shorter than
// any proxy's Idle, so that none is closed while a request is on its way to it.
const PoolIdle = 10 * time.Minute

// AppStreams is how many requests a proxy has on one HTTP/2 connection to software
// that is not ours: one, as over HTTP/1. That software's windows are its own: while it
// does not read what one caller sends, the connection's window is full for all (1 MiB
// in a server of Go's), and what it takes for a broken connection ends all.
const AppStreams = 1

// AppAnswer… and MeshAnswer… are what a proxy takes of an answer's head: from
// applications (and externals), which may repeat in it what they were asked, and
// from other proxies, which add to it.
const (
	AppAnswerLines  = 250
	AppAnswerKiB    = 128
	MeshAnswerLines = 300
	MeshAnswerKiB   = 152
)

// Unbounded stands for "no limit" where Envoy's default is a number that counts all
// callers of a cluster as one (circuit breakers: 1,024 requests): a visitor with as
// many slow requests would close the service to others. A limit that is written
// (circuitBreaker) stands in its place.
const Unbounded = 1 << 30

// Connections is how many a proxy takes in all, so that it does not run out of memory.
const Connections = 50_000

// GatewayListener is how the names of the listeners of gateways begin.
const GatewayListener = "gateway/"

// resetsKey counts the streams of a connection that end early, and bounds half of
// them: beyond, Envoy ends the connection. It is meant against one hostile client;
// between proxies it would count all visitors who hang up as one.
const resetsKey = "overload.premature_reset_total_stream_count"

// Runtime is what every proxy's runtime starts with: that of a sidecar.
func Runtime() map[string]any {
	return map[string]any{
		resetsKey: Unbounded,
		// Path templates and lists of methods become regular expressions that are long,
		// but matched in linear time; Envoy's default refuses more than 100 instructions.
		"re2.max_program_size.error_level": 10_000,
		"re2.max_program_size.warn_level":  10_000,
	}
}

// tunnelBuffer is how much a connection between two listeners of one proxy may hold, in KiB.
const tunnelBuffer = 64

// Extensions are what every proxy's bootstrap has beside: listeners that the proxy itself connects to.
func Extensions() []map[string]any {
	return []map[string]any{{
		"name": "envoy.bootstrap.internal_listener",
		"typed_config": map[string]any{
			"@type":          "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
			"buffer_size_kb": tunnelBuffer,
		},
	}}
}

// GatewayRuntime is what a gateway sets instead: Envoy's own defaults.
func GatewayRuntime() map[string]any { return map[string]any{resetsKey: 500} }
