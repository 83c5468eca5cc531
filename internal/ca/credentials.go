package ca

import (
	"context"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/internal/diag"
)

// Credentials are TLSConfig for gRPC. In TLS 1.3 a client is done before the
// server has looked at the client's certificate; if the client then writes at
// once, the server's reason for a refusal is often lost in a broken pipe. So
// the handshake here lasts until the server's first byte (a gRPC server speaks
// at once), and onProblem hears the reason.
func (t Trust) Credentials(onProblem func(diag.Diagnostic)) credentials.TransportCredentials {
	return verdictCreds{TransportCredentials: credentials.NewTLS(t.TLSConfig(onProblem)), onProblem: onProblem}
}

type verdictCreds struct {
	credentials.TransportCredentials
	onProblem func(diag.Diagnostic)
}

// Clone keeps the wrapper: grpc clones what it is given.
func (c verdictCreds) Clone() credentials.TransportCredentials {
	return verdictCreds{TransportCredentials: c.TransportCredentials.Clone(), onProblem: c.onProblem}
}

// ClientHandshake adds the wait for the first byte.
func (c verdictCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	first := make([]byte, 1)
	_ = conn.SetReadDeadline(deadlineOf(ctx)) // a connection without deadlines would wait for its end instead
	n, err := conn.Read(first)
	_ = conn.SetReadDeadline(time.Time{})
	if n == 0 {
		d, known := refusal(err)
		if known && c.onProblem != nil {
			c.onProblem(d)
		}
		_ = conn.Close()
		return nil, nil, err
	}
	return &pushedBack{Conn: conn, first: first}, info, nil
}

func deadlineOf(ctx context.Context) time.Time {
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return time.Time{}
}

// refusal reads the alert with which a server ends a connection because of
// the client's certificate. crypto/tls keeps the alert's type to itself.
func refusal(err error) (diag.Diagnostic, bool) {
	if err == nil {
		return diag.Diagnostic{}, false
	}
	switch m := err.Error(); {
	case strings.Contains(m, "tls: expired certificate"):
		return diag.New(diag.CodeIdentityExpired, diag.Pos{}, "the server says that the certificate has ended").
			WithFix("check the clocks; then join again with a new token"), true
	case strings.Contains(m, "tls: unknown certificate authority"), strings.Contains(m, "tls: bad certificate"):
		return diag.New(diag.CodeIdentityExpired, diag.Pos{}, "the server does not accept the certificate of this agent").
			WithFix("if the server's state was made anew, empty the agent's --state and join with a new token"), true
	case strings.Contains(m, "tls: certificate required"):
		return diag.New(diag.CodeNoCertificate, diag.Pos{}, "the server demands a certificate").
			WithFix("join at the server's port for joining"), true
	}
	return diag.Diagnostic{}, false
}

// pushedBack is a connection whose first byte was read too early.
type pushedBack struct {
	net.Conn
	first []byte
}

// Read gives the early byte first. Only gRPC's one reader calls it.
func (p *pushedBack) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
