package registry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// guarded is what requests go through, redirected ones too.
type guarded struct {
	next     http.RoundTripper
	host     string // the registry's, with its port
	insecure bool
	most     int64 // bytes of a blob
	broken   error // why nothing is asked
}

const (
	// silence is how long an answer may take to begin.
	silence = 20 * time.Second
	// maxManifest bounds what is no blob; an artifact's manifest has 2 KiB.
	maxManifest = 1 << 20
)

func newGuarded(a Artifact) guarded {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: silence, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		ip := to.Addr().Unmap()
		// Whoever answers for a registry must not have meshc ask what only this machine
		// is told.
		if err != nil || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
			return errors.New("the registry leads to an address that is not asked")
		}
		return nil
	}}).DialContext
	t.ResponseHeaderTimeout, t.MaxResponseHeaderBytes = silence, 64<<10
	t.DisableKeepAlives = true // each conversation has its own
	g := guarded{next: t, host: a.ref.Context().RegistryStr(), insecure: a.insecure, most: a.limits.Packed}
	if a.roots != nil {
		t.TLSClientConfig, g.broken = trusting(a.roots)
	}
	return g
}

// trusting believes the system's roots and more.
func trusting(more func() ([]byte, error)) (*tls.Config, error) {
	text, err := more()
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without any
	}
	pool.AppendCertsFromPEM(text)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// RoundTrip implements http.RoundTripper.
func (g guarded) RoundTrip(q *http.Request) (*http.Response, error) {
	if err := cmp.Or(g.broken, g.refuse(q)); err != nil {
		return nil, err
	}
	a, err := g.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	most := int64(maxManifest)
	if isBlob(q) {
		most = g.most + 1
	}
	a.Body = &bounded{Reader: io.LimitReader(a.Body, most+1), Closer: a.Body, left: most}
	return a, nil
}

// refuse says why a request is not made.
func (g guarded) refuse(q *http.Request) error {
	switch {
	case q.URL.Scheme != "https" && (!g.insecure || !isLoopback(q.URL.Host)):
		return errors.New("plain HTTP is not spoken: it is allowed by --insecure-registry, to this machine")
	case isLoopback(q.URL.Host) && !isLoopback(g.host):
		return errors.New("the registry leads to this machine, which is not asked")
	case q.Response != nil && !isBlob(q): // a redirect
		return fmt.Errorf("the registry redirects to %q, which is followed for content alone", q.URL.Host)
	case (q.Method == http.MethodPut || q.Method == http.MethodPatch) && q.URL.Host != g.host:
		return fmt.Errorf("the registry wants the content to be sent to %q", q.URL.Host)
	}
	return nil
}

// isBlob says whether content is asked for, by name or where the registry keeps it.
func isBlob(q *http.Request) bool {
	for q.Response != nil && q.Response.Request != nil {
		q = q.Response.Request
	}
	return (q.Method == http.MethodGet || q.Method == http.MethodHead) && strings.Contains(q.URL.Path, "/blobs/")
}

// bounded is a body that fails when it goes on for too long.
type bounded struct {
	io.Reader
	io.Closer
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errors.New("the registry's answer is too long")
	}
	return n, err
}
