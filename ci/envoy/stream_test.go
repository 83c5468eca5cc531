package envoy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Streams of a shared connection: a neighbour's, the one with the bad message, and the
// next one.
const (
	goodStream = 1
	badStream  = 3
	nextStream = 5
)

// frames is one side of an HTTP/2 connection that can write what is not allowed.
type frames struct {
	conn   net.Conn
	fr     *http2.Framer
	hp     *hpack.Encoder
	block  bytes.Buffer
	stream map[uint32]*received
}

// received is what has come on a stream.
type received struct {
	status string // of an answer
	path   string // of a request
	body   string
	over   bool // ended or reset
}

// http2On speaks HTTP/2 on a connection; client is who begins.
func http2On(t *testing.T, conn net.Conn, client bool) *frames {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	f := &frames{conn: conn, fr: http2.NewFramer(conn, conn), stream: map[uint32]*received{}}
	f.hp = hpack.NewEncoder(&f.block)
	f.fr.AllowIllegalWrites = true
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	greet := func() error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		return f.fr.WriteSettings()
	}
	if !client {
		greet = func() error {
			if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
				return err
			}
			return f.fr.WriteSettings()
		}
	}
	if err := greet(); err != nil {
		t.Fatal(err)
	}
	return f
}

// header is a name and a value, as they are sent.
type header [2]string

func (f *frames) headers(id uint32, end bool, fields ...header) error {
	f.block.Reset()
	for _, h := range fields {
		if err := f.hp.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: end, EndHeaders: true})
}

// await reads frames until the stream is as it should be.
func (f *frames) await(id uint32, is func(*received) bool) error {
	for f.stream[id] == nil || !is(f.stream[id]) {
		got, err := f.fr.ReadFrame()
		if err != nil {
			return fmt.Errorf("the connection has ended: %w", err)
		}
		s := f.stream[got.Header().StreamID]
		if s == nil {
			s = &received{}
			f.stream[got.Header().StreamID] = s
		}
		switch got := got.(type) {
		case *http2.MetaHeadersFrame:
			if status := got.PseudoValue("status"); status != "" {
				s.status = status
			}
			s.path += got.PseudoValue("path")
			s.over = got.StreamEnded()
		case *http2.DataFrame:
			s.body += string(got.Data())
			s.over = got.StreamEnded()
		case *http2.RSTStreamFrame:
			s.over = true
		case *http2.SettingsFrame:
			if !got.IsAck() {
				err = f.fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !got.IsAck() {
				err = f.fr.WritePing(true, got.Data)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the connection is ended: %v %s", got.ErrCode, got.DebugData())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *frames) has(id uint32, body string) error {
	return f.await(id, func(r *received) bool { return r.body == body })
}

func (f *frames) over(id uint32) error { return f.await(id, func(r *received) bool { return r.over }) }

// message is what somebody sends on a stream: a head, a body and trailers.
type message struct {
	head    []header
	body    string
	trailer []header
	goesOn  bool // the stream is not ended
}

func (f *frames) send(id uint32, m message) error {
	if err := f.headers(id, !m.goesOn && m.body == "" && m.trailer == nil, m.head...); err != nil {
		return err
	}
	if m.body != "" {
		if err := f.fr.WriteData(id, !m.goesOn && m.trailer == nil, []byte(m.body)); err != nil {
			return err
		}
	}
	if m.trailer != nil {
		return f.headers(id, !m.goesOn, m.trailer...)
	}
	return nil
}

func get(more ...header) []header {
	return append([]header{{":method", "GET"}, {":scheme", "https"}, {":authority", "app.shop"}, {":path", "/"}}, more...)
}

func post(more ...header) []header {
	out := get(more...)
	out[0][1] = http.MethodPost
	return out
}

// badFields are what no message may have (RFC 9113, 8.2).
func badFields() map[string]header {
	return map[string]header{
		"upper case":            {"X-Upper", "a"},
		"blank in a name":       {"x a", "a"},
		"colon in a name":       {"x:a", "a"},
		"no name":               {"", "a"},
		"byte beyond a name":    {"x\xff", "a"},
		"zero byte":             {"x-a", "a\x00b"},
		"line end":              {"x-a", "a\r\nb: c"},
		"connection":            {"connection", "close"},
		"keep-alive":            {"keep-alive", "5"},
		"proxy-connection":      {"proxy-connection", "close"},
		"transfer-encoding":     {"transfer-encoding", "chunked"},
		"upgrade":               {"upgrade", "h2c"},
		"unknown pseudo header": {":x", "a"},
		"empty pseudo header":   {":", "a"},
	}
}

// badRequests are messages that each must end their own stream only.
func badRequests() map[string]message {
	without := func(name string) []header {
		var out []header
		for _, h := range get() {
			if h[0] != name {
				out = append(out, h)
			}
		}
		return out
	}
	with := func(name, value string) []header { return append(without(name), header{name, value}) }
	out := map[string]message{
		"te":                          {head: get(header{"te", "gzip"})},
		"empty te":                    {head: get(header{"te", ""})},
		"status":                      {head: get(header{":status", "200"})},
		"two methods":                 {head: get(header{":method", "GET"})},
		"two paths":                   {head: get(header{":path", "/"})},
		"two authorities":             {head: get(header{":authority", "app.shop"})},
		"late pseudo header":          {head: append([]header{{"x-a", "b"}}, get()...)},
		"no method":                   {head: without(":method")},
		"no path":                     {head: without(":path")},
		"no scheme":                   {head: without(":scheme")},
		"empty path":                  {head: with(":path", "")},
		"path with a blank":           {head: with(":path", "/a b")},
		"relative path":               {head: with(":path", "a")},
		"userinfo":                    {head: with(":authority", "me@app.shop")},
		"userinfo behind the port":    {head: with(":authority", "app.shop:a@b")},
		"blank in the authority":      {head: with(":authority", "a test")},
		"zero in the authority":       {head: with(":authority", "a\x00.test")},
		"two hosts":                   {head: get(header{"host", "app.shop"}, header{"host", "b.test"})},
		"method of no token":          {head: with(":method", "G ET")},
		"connect to a path":           {head: with(":method", "CONNECT")},
		"short body":                  {head: post(header{"content-length", "6"}), body: "hello"},
		"long body":                   {head: post(header{"content-length", "4"}), body: "hello"},
		"no body":                     {head: post(header{"content-length", "4"})},
		"length of no number":         {head: post(header{"content-length", "5x"}), body: "hello"},
		"negative length":             {head: post(header{"content-length", "-5"}), body: "hello"},
		"two lengths":                 {head: post(header{"content-length", "5"}, header{"content-length", "6"}), body: "hello"},
		"pseudo header in a trailer":  {head: post(), body: "hello", trailer: []header{{":path", "/"}}},
		"status in a trailer":         {head: post(), body: "hello", trailer: []header{{":status", "200"}}},
		"trailer that is not the end": {head: post(), body: "hello", trailer: []header{{"x-a", "b"}}, goesOn: true},
	}
	for name, h := range badFields() {
		out[name] = message{head: get(h)}
		out[name+" in a trailer"] = message{head: post(), body: "hello", trailer: []header{h}}
	}
	return out
}

// A caller's proxy has one connection to a sidecar for all its requests. Whatever gets
// past that proxy, or comes from somebody with its key, ends its own stream.
func TestBadRequestEndsItsOwnStream(t *testing.T) {
	d := openDoors(t, "")
	dial, err := d.stage.Entrance(d.sidecar.Class, "inbound/shop/app/http/default")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range badRequests() {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f := http2On(t, conn, true)
			const first, second = "first half, ", "second half"
			for _, step := range []func() error{
				func() error { return f.send(goodStream, message{head: post(), body: first, goesOn: true}) },
				func() error { return f.has(goodStream, first) },
				func() error { return f.send(badStream, bad) },
				func() error { return f.over(badStream) },
				func() error { return f.fr.WriteData(goodStream, true, []byte(second)) },
				func() error { return f.over(goodStream) },
				func() error { return f.send(nextStream, message{head: get()}) },
				func() error { return f.over(nextStream) },
			} {
				if err := step(); err != nil {
					t.Fatalf("the neighbour's stream has %+v: %v", f.stream[goodStream], err)
				}
			}
			if got := f.stream[goodStream]; got.status != "200" || got.body != first+second {
				t.Errorf("the neighbour got %+v", got)
			}
			if got := f.stream[nextStream]; got.status != "200" {
				t.Errorf("the next one got %+v", got)
			}
		})
	}
}

// badAnswers are messages that each must end their own stream only.
func badAnswers() map[string]message {
	ok := func(more ...header) []header { return append([]header{{":status", "200"}}, more...) }
	out := map[string]message{
		"no status":                  {head: []header{{"x-a", "b"}}},
		"empty status":               {head: []header{{":status", ""}}},
		"status of no number":        {head: []header{{":status", "2x0"}}},
		"status of four digits":      {head: []header{{":status", "2000"}}},
		"two status":                 {head: ok(header{":status", "200"})},
		"late status":                {head: []header{{"x-a", "b"}, {":status", "200"}}},
		"path":                       {head: ok(header{":path", "/"})},
		"switching protocols":        {head: []header{{":status", "101"}}},
		"short body":                 {head: ok(header{"content-length", "6"}), body: "hello"},
		"long body":                  {head: ok(header{"content-length", "4"}), body: "hello"},
		"no body":                    {head: ok(header{"content-length", "4"})},
		"length of no number":        {head: ok(header{"content-length", "5x"}), body: "hello"},
		"two lengths":                {head: ok(header{"content-length", "5"}, header{"content-length", "6"}), body: "hello"},
		"status in a trailer":        {head: ok(), body: "hello", trailer: []header{{":status", "200"}}},
		"pseudo header in a trailer": {head: ok(), body: "hello", trailer: []header{{":path", "/"}}},
	}
	for name, h := range badFields() {
		out[name] = message{head: ok(h)}
		out[name+" in a trailer"] = message{head: ok(), body: "hello", trailer: []header{h}}
	}
	return out
}

// The same from the other side: what a sidecar passes on of its application's
// answers, or sends who has its key, ends one request of its caller's.
func TestBadAnswerEndsItsOwnStream(t *testing.T) {
	d := openDoors(t, "")
	l, err := d.stage.Usurp(d.sidecar.Class, "inbound/shop/app/http/default")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for name, bad := range badAnswers() {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			neighbour, other, next := make(chan int, 1), make(chan int, 1), make(chan int, 1)
			ask := func(path string, out chan<- int) {
				status, _ := say(t.Context(), d.addresses["gateway"], "GET "+path+" HTTP/1.1\r\nhost: app.shop\r\nconnection: close\r\n\r\n")
				out <- status
			}
			go ask("/neighbour", neighbour)
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			f := http2On(t, conn, false)
			for _, step := range []func() error{
				func() error { return f.over(goodStream) },
				func() error { go ask("/other", other); return f.over(badStream) },
				func() error { return f.send(badStream, bad) },
				func() error { <-other; return nil }, // whatever it is
				func() error { return f.send(goodStream, message{head: []header{{":status", "200"}}}) },
				func() error { go ask("/next", next); return f.over(nextStream) },
				func() error { return f.send(nextStream, message{head: []header{{":status", "200"}}}) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			if got := [2]int{<-neighbour, <-next}; got != [2]int{http.StatusOK, http.StatusOK} {
				t.Errorf("the neighbour and the next one got %d", got)
			}
		})
	}
}
