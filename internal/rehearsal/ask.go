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
	"strings"

	"meshc.dev/meshc/compiler"
)

// Reply is what became of a request.
type Reply struct {
	// Status is 0 at a TCP door.
	Status int
	// Headers has the lines of each header, by lower-case name.
	Headers map[string][]string
	// Seen is what the destination saw, nil if a proxy answered or nobody did.
	Seen *Seen
	// Text is the beginning of the body.
	Text string
}

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
	addr, ok := s.Address(d)
	if !ok {
		return Reply{}, fmt.Errorf("the rehearsal has no door %q of %s", d.Listener, d.Class)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return Reply{}, fmt.Errorf("connecting to %s: %w", d.Listener, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if d.TLS {
		host, _, _ := strings.Cut(strings.ToLower(orElse(r.Host, defaultHost)), ":")
		// What the certificate says is not the rehearsal's affair: it is made up.
		secure := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: strings.TrimSuffix(host, "."), InsecureSkipVerify: true})
		if err := secure.HandshakeContext(ctx); err != nil {
			return Reply{}, fmt.Errorf("greeting %s: %w", d.Listener, err)
		}
		c = secure
	}
	if d.TCP {
		return askBytes(c), nil
	}
	method := orElse(r.Method, http.MethodGet)
	if _, err := io.WriteString(c, request(method, r)); err != nil {
		return Reply{}, fmt.Errorf("sending to %s: %w", d.Listener, errors.Join(err, ctx.Err()))
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return Reply{}, fmt.Errorf("reading the answer of %s: %w", d.Listener, errors.Join(err, ctx.Err()))
	}
	defer res.Body.Close()
	return ReadReply(res)
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
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, orElse(r.Path, "/"), orElse(r.Host, defaultHost))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	return b.String()
}

// defaultHost is the host of a request that names none.
const defaultHost = "rehearsal.invalid"

// ReadReply reads an answer that somebody else has asked for.
func ReadReply(res *http.Response) (Reply, error) {
	out := Reply{Status: res.StatusCode, Headers: map[string][]string{}}
	for name, lines := range res.Header {
		out.Headers[strings.ToLower(name)] = lines
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err != nil {
		return out, fmt.Errorf("reading the body: %w", err)
	}
	out.Text = string(body)
	if lines := out.Headers[seenHeader]; len(lines) > 0 {
		out.Seen = &Seen{}
		if err := json.Unmarshal([]byte(lines[0]), out.Seen); err != nil {
			return out, fmt.Errorf("reading what the application saw: %w", err)
		}
	}
	return out, nil
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
