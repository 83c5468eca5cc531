package rehearsal

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshc.dev/meshc/compiler"
)

// Bounds of what is read of an answer over HTTP/2.
const (
	maxFrame  = 16 << 10
	maxAnswer = 1 << 20
)

// streamID is the only stream of a connection here.
const streamID = 1

// askHTTP2 sends one request on a connection of its own, frame by frame: a client that knows
// better would refuse what a proxy has to.
func askHTTP2(c net.Conn, secure bool, method string, r compiler.Request) (Reply, error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders, f.MaxHeaderListSize = hpack.NewDecoder(4<<10, nil), maxAnswer
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return Reply{}, fmt.Errorf("greeting: %w", err)
	}
	if err := f.WriteSettings(); err != nil {
		return Reply{}, fmt.Errorf("greeting: %w", err)
	}
	socket, length := extended(r), int(min(announced(r), maxFrame))
	if err := writeHead(f, fields(scheme, method, r), !socket && length == 0); err != nil {
		return Reply{}, fmt.Errorf("sending: %w", err)
	}
	if length > 0 && !socket {
		if err := f.WriteData(streamID, announced(r) <= maxFrame, bytes.Repeat([]byte{'0'}, length)); err != nil {
			return Reply{}, fmt.Errorf("sending a body: %w", err)
		}
	}
	out := Reply{Headers: map[string][]string{}}
	for {
		frame, err := f.ReadFrame()
		var bad http2.StreamError
		switch {
		case errors.As(err, &bad):
			continue
		case err != nil:
			return out, fmt.Errorf("reading the answer: %w", err)
		}
		done, err := out.take(f, frame)
		if done || err != nil {
			return out, err
		}
		if !socket {
			continue
		}
		if done, err := out.speak(f, frame); done || err != nil {
			return out, err
		}
	}
}

// extended reports whether the request wants a stream to speak another protocol (RFC 8441).
func extended(r compiler.Request) bool {
	return slices.ContainsFunc(r.Headers, func(h compiler.Header) bool { return h.Name == protocolField })
}

const protocolField = ":protocol"

const schemeField = ":scheme"

// speak greets a WebSocket when it is open, and reports whether it has answered.
func (out *Reply) speak(f *http2.Framer, got http2.Frame) (done bool, err error) {
	switch got.(type) {
	case *http2.MetaHeadersFrame:
		if out.Status == http.StatusOK {
			return false, f.WriteData(streamID, false, frame())
		}
	case *http2.DataFrame:
		out.Echo = unframed([]byte(out.Text))
		return out.Echo != "", nil
	}
	return false, nil
}

// take adds what a frame says to the reply, and reports whether that was the last of it.
func (out *Reply) take(f *http2.Framer, frame http2.Frame) (done bool, err error) {
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return false, f.WriteSettingsAck()
		}
	case *http2.MetaHeadersFrame:
		if status, err := strconv.Atoi(frame.PseudoValue("status")); err == nil {
			out.Status = status
		}
		for _, h := range frame.RegularFields() {
			out.Headers[h.Name] = append(out.Headers[h.Name], h.Value)
		}
		if out.Status < http.StatusOK { // more is to come
			clear(out.Headers)
			return false, nil
		}
		return frame.StreamEnded(), out.readSeen()
	case *http2.DataFrame:
		out.Text += string(frame.Data()[:min(len(frame.Data()), maxText-len(out.Text))])
		return frame.StreamEnded() || len(out.Text) == maxText, nil
	case *http2.RSTStreamFrame:
		// An answer that is whole may be followed by the end of a request that is not.
		out.Reset = out.Status == 0
		return true, nil
	case *http2.GoAwayFrame:
		if frame.ErrCode != http2.ErrCodeNo {
			out.Reset = out.Status == 0
			return true, nil
		}
	}
	return false, nil
}

// fields are a request's header fields as HTTP/2 has them (RFC 9113 section 8.3). CONNECT
// has neither scheme nor path.
func fields(scheme, method string, r compiler.Request) []hpack.HeaderField {
	for _, h := range r.Headers {
		if h.Name == schemeField { // which is not what the connection is
			scheme = h.Value
		}
	}
	out := []hpack.HeaderField{{Name: ":method", Value: method}}
	if method != http.MethodConnect || extended(r) {
		out = append(out, hpack.HeaderField{Name: ":scheme", Value: scheme}, hpack.HeaderField{Name: ":path", Value: orElse(r.Path, "/")})
	}
	out = append(out, hpack.HeaderField{Name: ":authority", Value: orElse(r.Host, defaultHost)})
	for _, h := range r.Headers { // such as have a colon come first
		if h.Name == protocolField {
			out = append(out, hpack.HeaderField{Name: h.Name, Value: h.Value})
		}
	}
	for _, h := range withOrders(r) {
		if h.Name == protocolField || h.Name == schemeField {
			continue
		}
		out = append(out, hpack.HeaderField{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return out
}

// writeHead sends a head in as many frames as it takes; last says that nothing follows.
func writeHead(f *http2.Framer, fields []hpack.HeaderField, last bool) error {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range fields {
		if err := e.WriteField(h); err != nil {
			return fmt.Errorf("packing %s: %w", h.Name, err)
		}
	}
	parts := slices.Collect(slices.Chunk(block.Bytes(), maxFrame))
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: streamID, BlockFragment: parts[0], EndStream: last, EndHeaders: len(parts) == 1}); err != nil {
		return err
	}
	for i, p := range parts[1:] {
		if err := f.WriteContinuation(streamID, i == len(parts)-2, p); err != nil {
			return err
		}
	}
	return nil
}
