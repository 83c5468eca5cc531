package hostile

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// preface begins every HTTP/2 connection (RFC 9113, 3.4).
const preface = http2.ClientPreface

// conn writes the frames of an HTTP/2 client, legal or not.
type conn struct {
	out  bytes.Buffer
	fr   *http2.Framer
	hp   *hpack.Encoder
	hbuf bytes.Buffer
	next uint32
}

func newConn(settings ...http2.Setting) *conn {
	c := &conn{next: 1}
	c.out.WriteString(preface)
	c.fr = http2.NewFramer(&c.out, nil)
	c.fr.AllowIllegalWrites = true
	c.hp = hpack.NewEncoder(&c.hbuf)
	_ = c.fr.WriteSettings(settings...) // into memory: cannot fail, here and below
	_ = c.fr.WriteSettingsAck()
	return c
}

// block encodes fields as they are, valid or not.
func (c *conn) block(fs ...field) []byte {
	c.hbuf.Reset()
	for _, f := range fs {
		_ = c.hp.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
	}
	return bytes.Clone(c.hbuf.Bytes())
}

// headers opens the next stream. A block longer than a frame goes on in CONTINUATIONs.
func (c *conn) headers(fs []field, endStream bool) uint32 {
	id := c.next
	c.next += 2
	c.fragments(id, c.block(fs...), endStream)
	return id
}

const maxFrame = 16384

func (c *conn) fragments(id uint32, b []byte, endStream bool) {
	first := b[:min(len(b), maxFrame)]
	b = b[len(first):]
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: endStream, EndHeaders: len(b) == 0})
	for len(b) > 0 {
		n := min(len(b), maxFrame)
		_ = c.fr.WriteContinuation(id, n == len(b), b[:n])
		b = b[n:]
	}
}

func (c *conn) raw(t http2.FrameType, f http2.Flags, id uint32, payload []byte) {
	_ = c.fr.WriteRawFrame(t, f, id, payload)
}

func (g *gen) fields2(method string) []field {
	return []field{{name: ":method", value: method}, {name: ":scheme", value: "http"}, {name: ":authority", value: g.to.Host}, {name: ":path", value: g.to.Path}}
}

// get opens a stream with a valid request.
func (g *gen) get(c *conn) uint32 { return c.headers(g.fields2("GET"), true) }

// post opens a stream with a valid request whose body is still to come.
func (g *gen) post(c *conn) uint32 { return c.headers(g.fields2("POST"), false) }

type variety2 struct {
	part  string
	apply func(*gen, *conn)
}

func varieties2() []variety2 {
	return slices.Concat(varietiesHeaders2(), varietiesBlocks2(), varietiesContinuation2(), varietiesControl2(), varietiesStreams2(), varietiesFlow2(), varietiesFrames2())
}

func varietiesHeaders2() []variety2 {
	return []variety2{
		{"header", func(g *gen, c *conn) {
			fs := g.fields2("GET")
			for range pick(g, 1, 1, 2, 4) {
				n := word(g, names())
				fs = append(fs, field{name: n, value: g.valueFor(n)})
			}
			c.headers(fs, true)
		}},
		{"header name", func(g *gen, c *conn) {
			c.headers(append(g.fields2("GET"), field{name: pick(g, g.vary(word(g, names())), "X-Upper", "a b", "a:b"), value: "v"}), true)
		}},
		{"header value", func(g *gen, c *conn) {
			c.headers(append(g.fields2("GET"), field{name: "x-a", value: g.vary(word(g, values()))}), true)
		}},
		{"pseudo header", func(g *gen, c *conn) {
			fs := g.fields2(pick(g, "GET", "POST", "CONNECT", "", g.vary("GET")))
			i := g.IntN(len(fs))
			switch g.IntN(6) {
			case 0:
				fs[i].value = g.vary(fs[i].value)
			case 1:
				fs = append(fs[:i:i], fs[i+1:]...)
			case 2:
				fs = append(fs, fs[i])
			case 3:
				fs = append([]field{{name: "x-a", value: "v"}}, fs...)
			case 4:
				fs = append(fs, field{name: pick(g, ":status", ":protocol", ":x", ":", ":path "), value: pick(g, "200", "websocket", "")})
			case 5:
				fs[2].value, fs[3].value, fs[1].value = g.authority(), g.target(), pick(g, "http", "https", "ftp", "", g.vary("http"))
			}
			c.headers(fs, true)
		}},
		{"authority and host", func(g *gen, c *conn) {
			fs := append(g.fields2("GET"), field{name: "host", value: g.authority()})
			fs[2].value = pick(g, fs[2].value, g.authority())
			c.headers(fs, true)
		}},
		{"many headers", func(g *gen, c *conn) {
			fs := g.fields2("GET")
			for i := range 80 + g.IntN(pick(g, 40, 2000)) {
				fs = append(fs, field{name: "x-" + number(i%150), value: "v"})
			}
			c.headers(fs, true)
		}},
	}
}

func varietiesBlocks2() []variety2 {
	return []variety2{
		{"many cookies", func(g *gen, c *conn) {
			fs := g.fields2("GET")
			for i := range 1 + g.IntN(300) {
				fs = append(fs, field{name: "cookie", value: "c" + number(i) + "=" + strings.Repeat("v", g.IntN(300))})
			}
			c.headers(fs, true)
		}},
		{"oversized", func(g *gen, c *conn) {
			c.headers(append(g.fields2("GET"), field{name: "x-a", value: strings.Repeat(pick(g, "a", ",", "\xff"), g.near())}), true)
		}},
		{"body length", func(g *gen, c *conn) {
			id := c.headers(append(g.fields2("POST"), field{name: "content-length", value: pick(g, "4", "6", "0", "-1", "5,5", "", g.vary("5"))}), false)
			_ = c.fr.WriteData(id, true, []byte("hello"))
		}},
		{"trailers", func(g *gen, c *conn) {
			id := g.post(c)
			_ = c.fr.WriteData(id, false, []byte("hello"))
			var fs []field
			for range pick(g, 0, 1, 2, 98, 150) {
				n := word(g, names())
				fs = append(fs, field{name: n, value: g.valueFor(n)})
			}
			if g.chance(20) {
				fs = append(fs, field{name: "x-a", value: strings.Repeat("a", g.near())})
			}
			c.fragments(id, c.block(fs...), g.chance(80))
		}},
		{"compression", (*gen).compression},
	}
}

// compression is a block that HPACK (RFC 7541) does not allow, or that grows.
func (g *gen) compression(c *conn) {
	b := c.block(g.fields2("GET")...)
	switch g.IntN(6) {
	case 0:
		b = append(b, 0xff, 0xff, 0xff, 0xff, 0x7f) // an index that there is not
	case 1:
		b = append([]byte{0x3f, 0xff, 0xff, 0xff, 0x0f}, b...) // a table of 4 GiB
	case 2:
		b = append(b, 0x00, 0x82, 0xff, 0xff, 0x81, 0xff) // Huffman code without an end
	case 3:
		b = append(b, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f) // a name of a petabyte
	case 4:
		b = append(b, 0x40, 0x01, 'x', 0x7f, 0xe1, 0x1e)
		b = append(append(b, bytes.Repeat([]byte("a"), 4064)...), bytes.Repeat([]byte{0xbe}, 1+g.IntN(900))...) // one field, repeated by index
	case 5:
		b = []byte(g.vary(string(b)))
	}
	c.fragments(c.next, b, true)
	c.next += 2
}

func (g *gen) streamID(c *conn) uint32 {
	return pick[uint32](g, 0, 1, c.next, c.next+2, 2, 1<<31-1, 1<<31-2)
}

func (g *gen) flags() http2.Flags { return http2.Flags(pick(g, 0, 1, 4, 5, 8, 0x20, 0x2d, 0xff)) }

// some are random bytes.
func (g *gen) some(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func varietiesContinuation2() []variety2 {
	return []variety2{
		{"continuation", func(g *gen, c *conn) {
			b := c.block(g.fields2("GET")...)
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: b, EndStream: true})
			size := pick(g, 0, 1, 100, maxFrame)
			for range 1 + g.IntN(min(1000, 1+(1<<20)/(size+9))) {
				_ = c.fr.WriteContinuation(c.next, false, c.block(field{name: "x-a", value: strings.Repeat("a", max(0, size-10))})[:min(size, 3)])
			}
			if g.chance(50) {
				_ = c.fr.WriteContinuation(pick(g, c.next, c.next, 0, 7), true, nil)
			}
			c.next += 2
		}},
		{"continuation without headers", func(g *gen, c *conn) { _ = c.fr.WriteContinuation(g.streamID(c), g.chance(50), g.some(g.IntN(50))) }},
		{"frame between headers and continuation", func(g *gen, c *conn) {
			b := c.block(g.fields2("GET")...)
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: b[:3], EndStream: true})
			_ = c.fr.WritePing(false, [8]byte{})
			_ = c.fr.WriteContinuation(c.next, true, b[3:])
			c.next += 2
		}},
	}
}

func varietiesControl2() []variety2 {
	return []variety2{
		{"settings", func(g *gen, c *conn) {
			for range pick(g, 1, 1, 3, 1200) {
				_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingID(g.IntN(12)), Val: pick[uint32](g, 0, 1, 2, 16383, 16384, 65535, 1<<24-1, 1<<24, 1<<31-1, 1<<31, 1<<32-1)})
			}
			g.get(c)
		}},
		{"settings frame", func(g *gen, c *conn) { c.raw(http2.FrameSettings, g.flags(), g.streamID(c), g.some(g.IntN(20))) }},
		{"no window", func(g *gen, c *conn) {
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			for range 1 + g.IntN(20) {
				fs := g.fields2("GET")
				if g.to.SizeHeader != "" {
					fs = append(fs, field{name: g.to.SizeHeader, value: "100000"})
				}
				c.headers(fs, true)
			}
		}},
		{"ping", func(g *gen, c *conn) {
			for range pick(g, 1, 10, 3000) {
				_ = c.fr.WritePing(g.chance(20), [8]byte{1})
			}
			g.get(c)
		}},
		{"ping frame", func(g *gen, c *conn) { c.raw(http2.FramePing, g.flags(), g.streamID(c), g.some(g.IntN(20))) }},
	}
}

func varietiesStreams2() []variety2 {
	return []variety2{
		{"reset", func(g *gen, c *conn) {
			g.get(c)
			_ = c.fr.WriteRSTStream(g.streamID(c), http2.ErrCode(g.IntN(20)))
		}},
		{"reset frame", func(g *gen, c *conn) {
			g.get(c)
			c.raw(http2.FrameRSTStream, g.flags(), g.streamID(c), g.some(g.IntN(10)))
		}},
		{"rapid reset", func(g *gen, c *conn) {
			for range pick(g, 5, 50, 200, 600) {
				_ = c.fr.WriteRSTStream(pick(g, g.get, g.post)(c), http2.ErrCodeCancel)
			}
			g.get(c)
		}},
	}
}

func varietiesFlow2() []variety2 {
	return []variety2{
		{"window update", func(g *gen, c *conn) {
			s := g.post(c)
			for range pick(g, 1, 3, 1000) {
				_ = c.fr.WriteWindowUpdate(pick(g, 0, s, s+2), pick[uint32](g, 0, 1, 1<<31-1))
			}
		}},
		{"window update frame", func(g *gen, c *conn) { c.raw(http2.FrameWindowUpdate, g.flags(), g.streamID(c), g.some(g.IntN(10))) }},
		{"priority", func(g *gen, c *conn) {
			for range pick(g, 1, 1000) {
				s := g.streamID(c)
				_ = c.fr.WritePriority(s, http2.PriorityParam{StreamDep: pick(g, 0, s, s+2), Exclusive: g.chance(50), Weight: byte(g.Uint32())})
			}
			g.get(c)
		}},
		{"priority frame", func(g *gen, c *conn) {
			c.raw(http2.FramePriority, g.flags(), g.streamID(c), g.some(g.IntN(10)))
			g.get(c)
		}},
		{"priority in headers", func(g *gen, c *conn) {
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.block(g.fields2("GET")...), EndStream: true, EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: pick(g, c.next, 0, 5), Weight: 1, Exclusive: true}, PadLength: byte(g.Uint32())})
			c.next += 2
		}},
		{"data", func(g *gen, c *conn) {
			s := g.post(c)
			for range pick(g, 1, 10, 800) {
				_ = c.fr.WriteDataPadded(pick(g, s, s, s, 0, s+2, 2), g.chance(10), g.some(pick(g, 0, 0, 1, 100)), g.some(g.IntN(3)))
			}
		}},
		{"data beyond the window", func(g *gen, c *conn) {
			s := g.post(c)
			for range 20 {
				_ = c.fr.WriteData(s, false, make([]byte, maxFrame))
			}
		}},
		{"data frame", func(g *gen, c *conn) {
			g.post(c)
			c.raw(http2.FrameData, g.flags(), g.streamID(c), g.some(g.IntN(300)))
		}},
		{"data after the end", func(g *gen, c *conn) { s := g.get(c); _ = c.fr.WriteData(s, g.chance(50), []byte("x")) }},
	}
}

func varietiesFrames2() []variety2 {
	return []variety2{
		{"headers twice", func(g *gen, c *conn) {
			s := g.post(c)
			c.fragments(s, c.block(g.fields2("GET")...), g.chance(50))
		}},
		{"headers frame", func(g *gen, c *conn) { c.raw(http2.FrameHeaders, g.flags(), g.streamID(c), g.some(g.IntN(300))) }},
		{"go away", func(g *gen, c *conn) {
			g.get(c)
			_ = c.fr.WriteGoAway(pick[uint32](g, 0, 1, 1<<31-1), http2.ErrCode(g.IntN(20)), g.some(g.IntN(200)))
			g.get(c)
		}},
		{"go away frame", func(g *gen, c *conn) {
			c.raw(http2.FrameGoAway, g.flags(), g.streamID(c), g.some(g.IntN(10)))
			g.get(c)
		}},
		{"push promise", func(g *gen, c *conn) {
			s := g.get(c)
			_ = c.fr.WritePushPromise(http2.PushPromiseParam{StreamID: s, PromiseID: pick[uint32](g, 2, 0, 3), BlockFragment: c.block(g.fields2("GET")...), EndHeaders: true})
		}},
		{"unknown frame", func(g *gen, c *conn) {
			for range pick(g, 1, 500) {
				c.raw(http2.FrameType(10+g.IntN(246)), g.flags(), g.streamID(c), g.some(g.IntN(100)))
			}
			g.get(c)
		}},
		{"frame length", func(g *gen, c *conn) {
			n := pick(g, 16385, 20000, 1<<20, 1<<24-1)
			c.out.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), byte(g.IntN(11)), 0, 0, 0, 0, 1})
			c.out.Write(make([]byte, min(n, 40000)))
		}},
		{"stream number", func(g *gen, c *conn) {
			c.next = pick[uint32](g, 2, 0, 5, 1<<31-1, 1<<31-3)
			g.get(c)
			c.next = pick[uint32](g, 1, 3, 0)
			g.get(c)
		}},
		{"many streams", func(g *gen, c *conn) {
			for range pick(g, 20, 90, 150, 500) {
				pick(g, g.get, g.get, g.post)(c)
			}
		}},
		{"preface", func(g *gen, c *conn) {
			c.out.Reset()
			c.out.WriteString(g.vary(preface))
			_ = c.fr.WriteSettings()
			g.get(c)
		}},
		{"no settings", func(g *gen, c *conn) {
			c.out.Reset()
			c.out.WriteString(preface)
			g.get(c)
		}},
		{"bytes", func(g *gen, c *conn) {
			g.get(c)
			b := []byte(g.vary(c.out.String()[len(preface):]))
			c.out.Truncate(len(preface))
			c.out.Write(b)
		}},
	}
}

// RapidReset opens streams and resets each at once.
func RapidReset(to Target, streams int) Attack {
	g, c := &gen{to: to}, newConn()
	for range streams {
		_ = c.fr.WriteRSTStream(g.get(c), http2.ErrCodeCancel)
	}
	return Attack{Part: "http/2 rapid reset", Sends: [][]byte{c.out.Bytes()}}
}

// http2 is an HTTP/2 connection without TLS with one or two unusual parts.
func (g *gen) http2() Attack {
	c, part := newConn(), "http/2 "
	all := varieties2()
	for i := range pick(g, 1, 1, 1, 2) {
		v := all[g.IntN(len(all))]
		v.apply(g, c)
		if i > 0 {
			part += " and "
		}
		part += v.part
	}
	return g.send(part, c.out.Bytes())
}
