package hostile

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Target is the valid request of which attacks are varieties.
type Target struct {
	// Host and Path are those of a request that the application answers with 200.
	Host, Path string
	// SizeHeader names a header by which a request asks for so many bytes; empty =
	// there is none.
	SizeHeader string
}

// At is attack number i of a seed.
func At(seed uint64, i int, to Target) Attack {
	g := gen{Rand: rand.New(rand.NewPCG(seed, uint64(i))), to: to}
	switch {
	case g.chance(4):
		return g.noise()
	case g.chance(35):
		return g.http2()
	}
	return g.http1()
}

// gen draws attacks.
type gen struct {
	*rand.Rand
	to Target
}

func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *gen, of ...T) T { return of[g.IntN(len(of))] }

func word(g *gen, of []string) string { return of[g.IntN(len(of))] }

// nasty are bytes and words that some parser somewhere stumbles over.
func nasty() []string {
	return []string{
		"", " ", "\t", "\x00", "\r", "\n", "\r\n", "\x0b", "\x0c", "\x7f", "\x80", "\xff", "\u00e9", "\u2028", "\xc0\xaf", "\x1b[2J",
		",", ";", ":", "@", "%", "%00", "%0d%0a", "%2e%2e", "%2F", "%zz", "\\", "/", "//", "?", "#", "[", "]", "{", "}", "(", ")", "<", ">", "\"", "'", "`", "*", "..", "=", "&", "|", "^", "~", "!", "$",
		"\r\n x", "\r\nte:", "\n\n", "\r\n\r\n", ": ", "0", "-1", "+1", "1e3", "0x10", "1.5", "007", "4294967296", "9223372036854775807", "18446744073709551616",
		"chunked", "identity", "gzip", "trailers", "trailers;q=0", "close", "keep-alive", "upgrade", "h2c", "websocket", "100-continue", "null", "true", "*/*", "_",
	}
}

// near draws a size at or beside a limit that proxies have.
func (g *gen) near() int {
	return max(1, pick(g, 256, 1024, 4096, 8192, 16384, 32768, 60<<10, 61250, 65536, 96<<10)+g.IntN(600)-300)
}

// vary changes a text a little, or replaces it.
func (g *gen) vary(s string) string {
	at := 0
	if len(s) > 0 {
		at = g.IntN(len(s) + 1)
	}
	switch g.IntN(9) {
	case 0:
		return word(g, nasty())
	case 1:
		return s + word(g, nasty())
	case 2:
		return word(g, nasty()) + s
	case 3:
		return s[:at] + word(g, nasty()) + s[at:]
	case 4:
		return s[:at]
	case 5:
		return s + s
	case 6:
		return strings.ToUpper(s)
	case 7:
		b := []byte(s)
		if len(b) > 0 {
			b[g.IntN(len(b))] ^= 1 << g.IntN(8)
		}
		return string(b)
	}
	return s[:at] + string([]byte{byte(g.IntN(256))}) + s[at:]
}

// names are headers that a proxy reads, writes or removes.
func names() []string {
	return []string{
		"te", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "host", "content-length", "expect", "trailer",
		":authority", ":path", ":method", ":scheme", ":status", ":protocol", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
		"x-forwarded-client-cert", "x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-hedge-on-per-try-timeout", "x-envoy-expected-rq-timeout-ms", "x-envoy-original-path", "x-envoy-decorator-operation", "x-envoy-attempt-count",
		"x-envoy-internal", "x-envoy-external-address", "x-envoy-force-trace", "x-envoy-ip-tags", "x-request-id", "x-client-trace-id", "traceparent", "baggage",
		"content-type", "content-encoding", "grpc-timeout", "grpc-status", "grpc-encoding", "cookie", "range", "if-range", "accept-encoding", "authorization", "proxy-authorization",
		"origin", "early-data", "date", "server", "alt-svc", "sec-websocket-key", "sec-websocket-version", "x_under_score", "", " ", "a b", "x", "age", "max-forwards", "x-http-method-override",
	}
}

// values are what some of these headers are read as.
func values() []string {
	return []string{
		"", " ", "trailers", "gzip", "close", "keep-alive", "close, te", "te", "host", "content-length", "transfer-encoding", "upgrade", "upgrade, http2-settings", "h2c", "websocket", "h2",
		"AAMAAABkAAQAAP__", "chunked", "gzip, chunked", "chunked, chunked", "identity", "0", "1", "5", "-1", "99999999999", "100-continue", "application/grpc", "1S", "99999999H", "1n",
		"bytes=0-", "bytes=9-1", "127.0.0.1", "https", "http", "ftp", "By=spiffe://x;URI=spiffe://y", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b; c", "5xx,reset", "1000000",
	}
}

// valueFor is a value that often fits the name's grammar and sometimes does not.
func (g *gen) valueFor(name string) string {
	v := word(g, values())
	switch name {
	case "host", ":authority":
		v = g.authority()
	case ":path", "x-envoy-original-path":
		v = g.target()
	case "te":
		v = pick(g, "", " ", "trailers", "gzip", "trailers, gzip", "trailers;q=0", "TRAILERS")
	}
	if g.chance(35) {
		v = g.vary(v)
	}
	return v
}

// authority is a host with a port, more or less.
func (g *gen) authority() string {
	h := pick(g, g.to.Host, g.to.Host, g.to.Host, strings.ToUpper(g.to.Host), "other.test", "127.0.0.1", "[::1]", "[::1", "", ".", "*", "\u00e9.test", "%41.test", strings.Repeat("a", 64)+".test")
	h += pick(g, "", ":80", ":", ":0", ":x", ":65536", ":-1", ":80:80", ":a@b", ":@", ":80@x", ":8%30", ":80,x", ".", "..", "/", "/x", "?x", "#x", "\\x", ",x", ";x", " x", "\tx")
	return pick(g, "", "", "", "", "user@", "user:pw@", "@", "http://", "//", " ") + h
}

// target is a request's target, more or less.
func (g *gen) target() string {
	p := g.to.Path
	return pick(g, p, p+"?"+g.vary("a=b"), "http://"+g.to.Host+p, "http://"+g.authority()+p, "https://x"+p, "HTTP:/"+p, "*", "", g.authority(), "/"+p, p+"/../"+g.vary("x"), p+"/%2e%2e/", p+"#x",
		p+";x", p+"\\x", p+strings.Repeat("/a", 1+g.IntN(200)), p+"?"+strings.Repeat("a", g.near()), "/"+strings.Repeat("%41", 1+g.IntN(300)), g.vary(p), "/\xff\xfe", p+"/"+word(g, nasty()))
}

// noise is bytes of no kind.
func (g *gen) noise() Attack {
	b := make([]byte, 1+g.IntN(pick(g, 16, 256, 4096, 70000)))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	head := pick(g, "", "", "GET ", "GET "+g.to.Path+" HTTP/1.1\r\nhost: "+g.to.Host+"\r\n", "POST "+g.to.Path+" HTTP/1.1\r\nhost: "+g.to.Host+"\r\ntransfer-encoding: chunked\r\n\r\n",
		preface, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x16\x03\x01", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n")
	return g.send("bytes of no kind", append([]byte(head), b...))
}

// send decides how the bytes travel: at once, slowly, cut off, by several.
func (g *gen) send(part string, b []byte) Attack {
	a := Attack{Part: part, Sends: [][]byte{b}}
	switch {
	case g.chance(6): // slow writing
		n := 2 + g.IntN(4)
		a.Part, a.Sends, a.Pause = part+", slow writing", nil, time.Duration(1+g.IntN(30))*time.Millisecond
		for i := n; i > 0; i-- {
			cut := len(b) / i
			a.Sends, b = append(a.Sends, b[:cut:cut]), b[cut:]
		}
	case g.chance(5): // hanging up
		a.Part, a.End = part+", hanging up", HungUp
		a.Times, a.Pause = pick(g, 1, 1, 10, 40), time.Duration(g.IntN(6))*time.Millisecond
	case g.chance(3):
		a.Part, a.End = part+", hanging up in the middle", pick(g, HungUp, HalfShut)
		a.Sends[0] = b[:g.IntN(len(b)+1)]
	case g.chance(3):
		a.Part, a.End = part+", half closed", HalfShut
	case g.chance(3): // slow reading, or none
		a.Part, a.End = part+", left open", Forgotten
		a.Sends[0] = b[:max(1, len(b)-g.IntN(1+len(b)/2))]
	case g.chance(3):
		a.Part, a.Times = part+", many", pick(g, 5, 20, 50)
	}
	return a
}

func number(n int) string { return strconv.Itoa(n) }
