package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// message is an HTTP/1 request in its parts.
type message struct {
	method, target, version string
	fields                  []field
	end                     string // of lines
	body                    string
	after                   string // what follows on the connection
}

type field struct{ name, colon, value string }

func (m message) bytes() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s%s", m.method, m.target, m.version, m.end)
	for _, f := range m.fields {
		b.WriteString(f.name + f.colon + f.value + m.end)
	}
	return []byte(b.String() + m.end + m.body + m.after)
}

func (m *message) set(name, value string) {
	for i := range m.fields {
		if m.fields[i].name == name {
			m.fields[i].value = value
			return
		}
	}
	m.add(name, value)
}

func (m *message) add(name, value string) {
	m.fields = append(m.fields, field{name, ": ", value})
}

func (m *message) drop(name string) {
	for i := range m.fields {
		if m.fields[i].name == name {
			m.fields = append(m.fields[:i:i], m.fields[i+1:]...)
			return
		}
	}
}

// valid is a request that the application answers with 200.
func (g *gen) valid() message {
	m := message{method: "GET", target: g.to.Path, version: "HTTP/1.1", end: "\r\n"}
	m.add("host", g.to.Host)
	switch g.IntN(6) {
	case 0:
		m.method, m.body = "POST", "hello"
		m.add("content-length", "5")
	case 1:
		m.method, m.body = "POST", "5\r\nhello\r\n0\r\n\r\n"
		m.add("transfer-encoding", "chunked")
	case 2:
		m.method = pick(g, "HEAD", "OPTIONS", "DELETE", "PUT")
	}
	return m
}

// variety is one way to make a message unusual.
type variety struct {
	part  string
	apply func(*gen, *message)
}

func varieties1() []variety {
	return slices.Concat(varietiesLine1(), varietiesHeaders1(), varietiesBody1())
}

func varietiesLine1() []variety {
	return []variety{
		{"method", func(g *gen, m *message) {
			m.method = pick(g, g.vary(m.method), "CONNECT", "TRACE", "PRI", "get", "X", "", "M-SEARCH", strings.Repeat("A", g.near()))
		}},
		{"target", func(g *gen, m *message) { m.target = g.target() }},
		{"version", func(g *gen, m *message) {
			m.version = pick(g, "HTTP/1.0", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/1.", "HTTP/11", "http/1.1", "", "HTTP/1.1 ", g.vary("HTTP/1.1"))
			if g.chance(40) {
				m.add("connection", pick(g, "keep-alive", "close", "te, keep-alive"))
			}
		}},
		{"line ends", func(g *gen, m *message) { m.end = pick(g, "\n", "\r", "\r\r\n", "\n\r", " \r\n", "\x00\r\n", "\r\n ") }},
		{"host", func(g *gen, m *message) { m.set("host", g.authority()) }},
		{"two hosts", func(g *gen, m *message) { m.add(pick(g, "host", "Host", ":authority"), g.authority()) }},
		{"no host", func(_ *gen, m *message) { m.drop("host") }},
	}
}

func varietiesHeaders1() []variety {
	return []variety{
		{"header", func(g *gen, m *message) { n := word(g, names()); m.add(n, g.valueFor(n)) }},
		{"header", func(g *gen, m *message) { n := word(g, names()); m.add(n, g.valueFor(n)) }},
		{"header", func(g *gen, m *message) { n := word(g, names()); m.add(n, g.valueFor(n)) }},
		{"several headers", func(g *gen, m *message) {
			for range 2 + g.IntN(4) {
				n := word(g, names())
				m.add(n, g.valueFor(n))
			}
		}},
		{"repeated header", func(g *gen, m *message) {
			n := word(g, names())
			for range 2 + g.IntN(5) {
				m.add(n, g.valueFor(n))
			}
		}},
		{"header name", func(g *gen, m *message) { m.add(g.vary(word(g, names())), "v") }},
		{"header value", func(g *gen, m *message) { m.add("x-a", g.vary("v")) }},
		{"header colon", func(g *gen, m *message) {
			m.fields = append(m.fields, field{word(g, names()), pick(g, ":", " : ", "", " ", "::", ":\t", "\t:", ":\r\n "), word(g, values())})
		}},
		{"many headers", func(g *gen, m *message) {
			for i := range 80 + g.IntN(40) {
				m.add("x-"+number(i), "v")
			}
		}},
		{"oversized", func(g *gen, m *message) { m.add("x-a", strings.Repeat(pick(g, "a", "a", ",", "\xff"), g.near())) }},
		{"oversized together", func(g *gen, m *message) {
			n := 2 + g.IntN(60)
			for i := range n {
				m.add("x-"+number(i), strings.Repeat("a", g.near()/n))
			}
		}},
	}
}

func varietiesBody1() []variety {
	return []variety{
		{"framing", (*gen).framing},
		{"framing", (*gen).framing},
		{"chunks", (*gen).chunks},
		{"chunks", (*gen).chunks},
		{"trailers", (*gen).trailers},
		{"trailers", (*gen).trailers},
		{"connection", func(g *gen, m *message) {
			m.add("connection", pick(g, "te", "host", "content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-client-cert", ":path", "close, close", "upgrade", "keep-alive", ",", g.vary("te")))
			m.add("te", pick(g, "", "trailers", "gzip"))
		}},
		{"upgrade", func(g *gen, m *message) {
			m.add("connection", pick(g, "upgrade", "Upgrade, HTTP2-Settings"))
			m.add("upgrade", pick(g, "h2c", "websocket", "TLS/1.0", "", "h2c, websocket", "\xff"))
			m.add("http2-settings", pick(g, "AAMAAABkAAQAAP__", "", "!", "AAMAAABkAAQAAP"))
		}},
		{"pipelining", func(g *gen, m *message) {
			next := g.valid().bytes()
			if g.chance(50) {
				next = []byte(g.vary(string(next)))
			}
			m.after = strings.Repeat(string(next), pick(g, 1, 2, 10, 100))
		}},
		{"bytes after the request", func(g *gen, m *message) { m.after = g.vary(pick(g, "X", "\r\n", "0\r\n\r\n", preface, "\x00")) }},
	}
}

func (g *gen) framing(m *message) {
	m.method, m.body = "POST", "5\r\nhello\r\n0\r\n\r\n"
	m.drop("content-length")
	m.drop("transfer-encoding")
	length := pick(g, "", "5", "15", "0", "1000", "05", "+5", "-5", "5,5", "5, 6", "5 ", "0x5", "18446744073709551615", "18446744073709551616", g.vary("5"))
	coding := pick(g, "", "chunked", "Chunked", "chunked ", "xchunked", "chunked, identity", "identity, chunked", "gzip, chunked", "chunked\x00", "chunked, chunked", "\"chunked\"", g.vary("chunked"))
	if g.chance(70) {
		m.add("content-length", length)
	}
	if g.chance(70) {
		m.add(pick(g, "transfer-encoding", "Transfer-Encoding", "transfer_encoding", "transfer-encoding "), coding)
	}
	if g.chance(20) {
		m.add("content-length", pick(g, length, "6"))
	}
	if g.chance(20) {
		m.add("transfer-encoding", pick(g, "chunked", "identity"))
	}
	if g.chance(30) {
		m.add("expect", pick(g, "100-continue", "", "200-ok"))
	}
}

func (m *message) chunked() {
	m.method = "POST"
	m.drop("content-length")
	m.set("transfer-encoding", "chunked")
}

func (g *gen) chunks(m *message) {
	m.chunked()
	var b strings.Builder
	for range 1 + g.IntN(4) {
		size := pick(g, "5", "5", "5", "05", "0000000000000005", "5;x=y", "5; "+g.vary("x=y"), "0x5", "-5", "5 ", " 5", "+5", "6", "4", "ffffffffffffffff", "FFFFFFFFFFFFFFFFF", "", "g", g.vary("5"), "5;"+strings.Repeat("a", g.near()))
		b.WriteString(size + pick(g, "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n") + "hello" + pick(g, "\r\n", "\r\n", "\r\n", "\n", "", "x\r\n"))
	}
	m.body = b.String() + pick(g, "0\r\n\r\n", "0\r\n\r\n", "0\n\n", "0\r\n", "", "00000\r\n\r\n", "0;x\r\n\r\n")
}

func (g *gen) trailers(m *message) {
	m.chunked()
	var b strings.Builder
	b.WriteString("5\r\nhello\r\n0\r\n")
	for range pick(g, 1, 1, 2, 3, 98, 101) {
		n := word(g, names())
		if g.chance(20) {
			n = g.vary(n)
		}
		b.WriteString(n + ": " + g.valueFor(n) + "\r\n")
	}
	if g.chance(10) {
		b.WriteString("x-a: " + strings.Repeat("a", g.near()) + "\r\n")
	}
	m.body = b.String() + "\r\n"
	if g.chance(50) {
		m.add("te", "trailers")
		m.add("trailer", pick(g, "x-a", "host", "", g.vary("x")))
	}
}

// http1 is an HTTP/1 request with one or two unusual parts.
func (g *gen) http1() Attack {
	if g.to.SizeHeader != "" && g.chance(1) {
		m := g.valid()
		m.add(g.to.SizeHeader, pick(g, "100000", "5000000", "40000000"))
		return Attack{Part: "http/1 never reading a large answer", Sends: [][]byte{m.bytes()}, Times: pick(g, 1, 4, 8), Pause: 2 * patience, End: Forgotten}
	}
	m, part := g.valid(), "http/1 "
	all := varieties1()
	for i := range pick(g, 1, 1, 2) {
		v := all[g.IntN(len(all))]
		v.apply(g, &m)
		if i > 0 {
			part += " and "
		}
		part += v.part
	}
	return g.send(part, m.bytes())
}
