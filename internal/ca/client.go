package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/upstream"
)

// Trust is how a client knows the server, and what it shows of itself.
type Trust struct {
	TrustDomain spiffeid.TrustDomain
	// Roots are the roots that the server may be signed by. Empty: Pins decide.
	Roots []*x509.Certificate
	// Pins are fingerprints of roots (Fingerprint), for a client that has no
	// bundle yet; the server shows its root, which must be one of them.
	Pins []string
	// Certificate is the client's own; nil before it has one.
	Certificate *tls.Certificate
	// Clock tells the time; required.
	Clock func() time.Time
}

// TLSConfig is the client's side of TLS 1.3 with the xDS server. The server's
// name is its SPIFFE ID: under which host name or address it is reached does
// not matter. onProblem, if not nil, hears why a handshake was refused here,
// which gRPC would only give as text.
func (t Trust) TLSConfig(onProblem func(diag.Diagnostic)) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		Time:       t.Clock,
		// Verification is by SPIFFE ID in VerifyConnection, which runs on
		// every handshake; crypto/tls could only compare host names.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			d, ok := t.verifyServer(s.PeerCertificates)
			if ok {
				return nil
			}
			if onProblem != nil {
				onProblem(d)
			}
			return problem(d)
		},
	}
	if t.Certificate != nil {
		// By function: crypto/tls would otherwise keep back a certificate whose
		// issuer the server does not name, and the error would be a riddle.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate, nil }
	}
	return c
}

func (t Trust) verifyServer(shown []*x509.Certificate) (diag.Diagnostic, bool) {
	roots := t.Roots
	if len(roots) == 0 {
		var seen []string
		for _, c := range shown {
			if !c.IsCA {
				continue
			}
			if seen = append(seen, Fingerprint(c)); slices.Contains(t.Pins, Fingerprint(c)) {
				roots = append(roots, c)
			}
		}
		if len(roots) == 0 {
			return diag.New(diag.CodeServerUnknown, diag.Pos{}, "the server's root is %s, expected %s",
				orNone(seen), orNone(t.Pins)).
				WithFix("compare with what `meshc token create` printed on the server; if it differs, somebody is in between"), false
		}
	}
	bundle := x509bundle.FromX509Authorities(t.TrustDomain, roots)
	id, _, err := x509svid.Verify(shown, bundle, x509svid.WithTime(t.Clock()))
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired: // or not yet begun
		return diag.New(diag.CodeServerUnknown, diag.Pos{}, "the server's certificate is not trusted: %v", err).
			WithFix("compare the clocks of this machine and of the server's"), false
	case err != nil:
		return diag.New(diag.CodeServerUnknown, diag.Pos{}, "the server's certificate is not trusted: %v", err).
			WithFix("check --server and the trust domain; if the server's state was made anew, empty the agent's --state and join with a new token"), false
	}
	if id != ServerID(t.TrustDomain) {
		return diag.New(diag.CodeServerUnknown, diag.Pos{}, "%q answers where %q should", id, ServerID(t.TrustDomain)).
			WithFix("check --server"), false
	}
	return diag.Diagnostic{}, true
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// Client calls Join and Renew. Close it after use.
type Client struct {
	servers []string
	conn    *grpc.ClientConn
	local   atomic.Pointer[diag.Diagnostic]
}

// Dial prepares a connection to one of the servers, each "host:port"; the first call makes it.
func Dial(servers []string, t Trust) (*Client, error) {
	c := &Client{servers: servers}
	creds := t.Credentials(func(d diag.Diagnostic) { c.local.Store(&d) })
	conn, err := upstream.Dial(servers, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	c.conn = conn
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Join spends a token for a certificate. csr is DER.
func (c *Client) Join(ctx context.Context, token string, csr []byte) (Issued, error) {
	return c.call(ctx, joinMethod, map[string]string{fieldToken: token, fieldCSR: pemCSR(csr)})
}

// Renew asks for the next certificate of the identity in Trust.Certificate; token is a
// pod's, "" for anybody else.
func (c *Client) Renew(ctx context.Context, token string, csr []byte) (Issued, error) {
	return c.call(ctx, renewMethod, map[string]string{fieldToken: token, fieldCSR: pemCSR(csr)})
}

func pemCSR(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// call returns what the server signed; the caller checks that it fits its key.
// Errors are problems with a code (Temporary says whether to try again).
func (c *Client) call(ctx context.Context, method string, fields map[string]string) (Issued, error) {
	c.local.Store(nil)
	out := new(structpb.Struct)
	if err := c.conn.Invoke(ctx, method, message(fields), out); err != nil {
		return Issued{}, problem(c.explain(err))
	}
	chain, err := ParseCertificates([]byte(field(out, fieldChain)))
	if err != nil {
		return Issued{}, fmt.Errorf("reading the chain from the server: %w", err)
	}
	bundle, err := ParseCertificates([]byte(field(out, fieldBundle)))
	if err != nil {
		return Issued{}, fmt.Errorf("reading the bundle from the server: %w", err)
	}
	return Issued{Chain: chain, Bundle: bundle}, nil
}

func (c *Client) explain(err error) diag.Diagnostic {
	s := status.Convert(err)
	if d, ok := fromStatus(s); ok {
		return d
	}
	if d := c.local.Load(); d != nil {
		return *d
	}
	return diag.New(diag.CodeServerUnreachable, diag.Pos{}, "%s gives no certificate: %s", upstream.Names(c.servers), s.Message()).
		WithFix("check that `meshc serve` runs and that --server names its address")
}

// Temporary reports whether a failed Join or Renew may succeed if repeated
// unchanged: the server was away, busy or in trouble.
func Temporary(err error) bool {
	var l *diag.ListError
	if !errors.As(err, &l) || len(l.List) == 0 {
		return false
	}
	c := l.List[0].Code
	return c == diag.CodeServerUnreachable || c == diag.CodeTooManyRequests || c == diag.CodeNotAttested || c == diag.CodeAuthorityUnsure
}
