package rehearsal

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/compiler"
)

// Reply is what became of a request.
type Reply struct {
	// Status is 0 at a TCP door.
	Status int `json:"status"`
	// Headers has the lines of each header, by lower-case name.
	Headers map[string][]string `json:"headers"`
	// Seen is what the destination saw, nil if a proxy answered or nobody did.
	Seen *Seen `json:"seen,omitempty"`
	// Text is the beginning of the body.
	Text string `json:"text,omitempty"`
	// Reset says that there was none: HTTP/2's stream was ended, or a connection before TLS.
	Reset bool `json:"reset,omitempty"`
	// Echo is what a WebSocket said in return to greeting, "" if none was opened.
	Echo string `json:"echo,omitempty"`
}

// maxText is how much of a body is read.
const maxText = 1024

// Address is where a door listens, "127.0.0.1:port", for those who send bytes of
// their own; false if the rehearsal has no such door.
func (s *Stage) Address(d compiler.Door) (string, bool) {
	addr, ok := s.doors[d]
	return addr, ok
}

// Ask sends one request to a door, byte for byte as r says: nothing is escaped,
// joined or normalised. r.From and r.To are not read; the door stands for them. An
// error means that there was no answer, which at a TCP door is a Reply without Seen.
func (s *Stage) Ask(ctx context.Context, d compiler.Door, r compiler.Request) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := s.enter(ctx, d)
	if (d.TCP || d.TLS) && ended(ctx, err) { // before this side saw that it was there
		return Reply{Reset: d.TLS}, nil
	}
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	asked := d.Plain // for a certificate
	if d.TLS {
		secure, err := s.greet(ctx, c, r, &asked)
		if ended(ctx, err) {
			return Reply{Reset: true}, nil
		}
		if err != nil {
			return Reply{}, fmt.Errorf("greeting %s: %w", d.Listener, err)
		}
		c = secure
	}
	if d.TCP {
		return askBytes(c), nil
	}
	method := orElse(r.Method, http.MethodGet)
	if r.HTTP == compiler.HTTP2 {
		reply, err := askHTTP2(c, d.TLS, method, r)
		if asked && ended(ctx, err) {
			return Reply{Reset: true}, nil
		}
		if err != nil {
			return reply, fmt.Errorf("%s over HTTP/2: %w", d.Listener, errors.Join(err, ctx.Err()))
		}
		return reply, nil
	}
	reply, err := askHTTP1(ctx, c, d, method, r)
	if asked && ended(ctx, err) {
		return Reply{Reset: true}, nil
	}
	return reply, err
}

// enter connects to a door.
func (s *Stage) enter(ctx context.Context, d compiler.Door) (net.Conn, error) {
	if d.Plain {
		return s.Plain(ctx, d.Listener)
	}
	addr, ok := s.Address(d)
	if !ok {
		return nil, fmt.Errorf("the rehearsal has no door %q of %s", d.Listener, d.Class)
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", d.Listener, err)
	}
	return c, nil
}

// askHTTP1 sends the request over HTTP/1 and reads the answer. It closes the connection.
func askHTTP1(ctx context.Context, c net.Conn, d compiler.Door, method string, r compiler.Request) (Reply, error) {
	if _, err := io.WriteString(c, request(method, r)); err != nil {
		return Reply{}, fmt.Errorf("sending to %s: %w", d.Listener, errors.Join(err, ctx.Err()))
	}
	go func() { // until all is sent, or the connection is closed: an answer may come before
		if waitFor(ctx, r.Pause) {
			_, _ = io.Copy(c, body(r))
		}
	}()
	from := bufio.NewReader(c)
	res, err := readResponse(from, method)
	if err != nil {
		return Reply{}, fmt.Errorf("reading the answer of %s: %w", d.Listener, errors.Join(err, ctx.Err()))
	}
	defer func() {
		_ = c.Close() // first: a body that never ends would be read to its end
		_ = res.Body.Close()
	}()
	if res.StatusCode != http.StatusSwitchingProtocols {
		return ReadReply(res)
	}
	out := Reply{Status: res.StatusCode, Headers: linesOf(res.Header)}
	if out.Echo, err = speak(c, from); err != nil {
		return out, fmt.Errorf("a WebSocket at %s: %w", d.Listener, errors.Join(err, ctx.Err()))
	}
	return out, out.readSeen()
}

// waitFor waits and reports whether ctx has not ended before.
func waitFor(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// readResponse reads the answer, and what comes before it (RFC 9110 section 15.2), but for the
// change to another protocol, which is one.
func readResponse(from *bufio.Reader, method string) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil || res.StatusCode >= http.StatusOK || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
	}
}

// speak greets the other side of a WebSocket and returns what it says.
func speak(c io.Writer, from *bufio.Reader) (string, error) {
	if _, err := c.Write(frame()); err != nil {
		return "", fmt.Errorf("speaking: %w", err)
	}
	return readFrame(from)
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// request is the request as bytes.
func request(method string, r compiler.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\n", method, orElse(r.Path, "/"), orElse(r.HTTP, compiler.HTTP11))
	if host := hostOf(r); host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	for _, h := range withOrders(r) {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	return b.String()
}

// withOrders are the headers of a request with what tells the application how long it takes.
func withOrders(r compiler.Request) []compiler.Header {
	out := r.Headers
	if r.AnswerAfter > 0 {
		out = append(slices.Clip(out), compiler.Header{Name: WaitHeader, Value: r.AnswerAfter.String()})
	}
	if r.Pause > 0 && !slices.ContainsFunc(r.Headers, announces) {
		out = append(slices.Clip(out), compiler.Header{Name: contentLength, Value: "1"})
	}
	return out
}

const contentLength = "content-length"

// announces reports whether a header says that there is a body.
func announces(h compiler.Header) bool {
	return strings.EqualFold(h.Name, contentLength) || strings.EqualFold(h.Name, "transfer-encoding")
}

// body is what the head of a request of HTTP/1 announces (RFC 9112 section 6): so many bytes,
// or chunks, of which there are none. A head that announces none, or what none is, has none.
func body(r compiler.Request) io.Reader {
	r.Headers = withOrders(r)
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "transfer-encoding") {
			return strings.NewReader("0\r\n\r\n")
		}
	}
	return io.LimitReader(zeros{}, min(announced(r), maxBody))
}

// maxBody is how much of a body is sent. Applications answer as soon as they get something.
const maxBody = 16 << 20

// announced is the number of bytes that a request says it has, 0 if that is no number.
func announced(r compiler.Request) int64 {
	for _, h := range r.Headers {
		if n, err := strconv.ParseInt(strings.Trim(h.Value, " \t"), 10, 64); err == nil && n > 0 && strings.EqualFold(h.Name, contentLength) {
			return n
		}
	}
	return 0
}

// zeros are endless digits.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// hostOf is the host to write for a request: its own, none beside a header of that name, else one for it.
func hostOf(r compiler.Request) string {
	if r.Host == "" && slices.ContainsFunc(r.Headers, func(h compiler.Header) bool { return strings.EqualFold(h.Name, "host") && h.Value != "" }) {
		return ""
	}
	return orElse(r.Host, defaultHost)
}

// defaultHost is the host of a request that names none.
const defaultHost = compiler.RehearsedHost

// ReadReply reads an answer that somebody else has asked for.
func ReadReply(res *http.Response) (Reply, error) {
	out := Reply{Status: res.StatusCode, Headers: linesOf(res.Header)}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxText))
	if err != nil {
		return out, fmt.Errorf("reading the body: %w", err)
	}
	out.Text = string(body)
	return out, out.readSeen()
}

func linesOf(h http.Header) map[string][]string {
	out := map[string][]string{}
	for name, lines := range h {
		out[strings.ToLower(name)] = lines
	}
	return out
}

// readSeen finds what the destination saw in the reply's headers, if it answered.
func (out *Reply) readSeen() error {
	lines := out.Headers[seenHeader]
	if len(lines) == 0 {
		return nil
	}
	out.Seen = &Seen{}
	if err := json.Unmarshal([]byte(lines[0]), out.Seen); err != nil {
		return fmt.Errorf("reading what the application saw: %w", err)
	}
	return nil
}

// greet makes a connection one of TLS, as a client does that does not ask who is there: what
// certificates say is not the rehearsal's affair, they are made up. Who is asked for one shows what
// the request says; in TLS 1.3 the other side judges it after the client's handshake.
func (s *Stage) greet(ctx context.Context, c net.Conn, r compiler.Request, asked *bool) (net.Conn, error) {
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		*asked = true
		own := s.visitors.shows[r.Certificate] // none for none
		return &own, nil
	}
	host, _, _ := strings.Cut(strings.ToLower(orElse(r.ServerName, orElse(r.Host, defaultHost))), ":")
	secure := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: strings.TrimSuffix(host, "."), InsecureSkipVerify: true, NextProtos: protocols(r), GetClientCertificate: show})
	return secure, secure.HandshakeContext(ctx)
}

// ended reports whether the other side closed the connection in time.
func ended(ctx context.Context, err error) bool {
	var op *net.OpError
	return ctx.Err() == nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &op) && op.Op == "remote error" || // an alert of TLS
		err != nil && strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`)) // the same, for who speaks none
}

// protocols are what a client of HTTPS offers (RFC 7301).
func protocols(r compiler.Request) []string {
	if r.HTTP == compiler.HTTP2 {
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

// askBytes greets an application that speaks TCP. A closed connection is an
// answer, too.
func askBytes(c net.Conn) Reply {
	_, _ = io.WriteString(c, "hello\n")
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return Reply{}
	}
	seen := &Seen{}
	if json.Unmarshal(line, seen) != nil {
		return Reply{Text: string(line)}
	}
	return Reply{Seen: seen}
}
