package stream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// TestStreamEndsWithItsCertificate: the handshake checks a certificate once; a
// stream that outlives it would go on for ever.
func TestStreamEndsWithItsCertificate(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		s.ca.form = func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }
		c := s.delta(t, shop, "p")
		c.subscribe(cds)
		c.ack(c.want(cds, []string{"a"}))
		c.quiet(59 * time.Minute)
		time.Sleep(2 * time.Minute)
		if err := c.ended(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestOddCertificates: every certificate below is signed by the right root, and
// none may have an identity.
func TestOddCertificates(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		id := shop.SPIFFEID(trustDomain)
		for name, c := range map[string]struct {
			ids  []string
			form func(*x509.Certificate)
		}{
			"an authority's":        {[]string{id}, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }},
			"may sign certificates": {[]string{id}, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
			"expired":               {[]string{id}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
			"not yet valid":         {[]string{id}, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }},
			"for servers only":      {[]string{id}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
			"the same name twice":   {[]string{id, id}, nil},
			"name as subject":       {nil, func(c *x509.Certificate) { c.Subject.CommonName = id }},
			"name as DNS":           {nil, func(c *x509.Certificate) { c.DNSNames = []string{"localhost", "mesh.local"} }},
			"escaped slash":         {[]string{"spiffe://mesh.local/ns/shop%2Fsa%2Fweb"}, nil},
			"escaped letter":        {[]string{"spiffe://mesh.local/ns/shop/sa/w%65b"}, nil},
			"dots":                  {[]string{"spiffe://mesh.local/ns/x/../shop/sa/web"}, nil},
			"dot":                   {[]string{"spiffe://mesh.local/./ns/shop/sa/web"}, nil},
			"two slashes":           {[]string{"spiffe://mesh.local//ns/shop/sa/web"}, nil},
			"slash at end":          {[]string{id + "/"}, nil},
			"query":                 {[]string{id + "?x"}, nil},
			"fragment":              {[]string{id + "#x"}, nil},
			"user":                  {[]string{"spiffe://x@mesh.local/ns/shop/sa/web"}, nil},
			"port":                  {[]string{"spiffe://mesh.local:443/ns/shop/sa/web"}, nil},
			"upper case":            {[]string{"spiffe://MESH.local/ns/shop/sa/web"}, nil},
			"upper case path":       {[]string{"spiffe://mesh.local/ns/Shop/sa/web"}, nil},
			"domain as prefix":      {[]string{"spiffe://mesh.local.evil/ns/shop/sa/web"}, nil},
			"no path":               {[]string{"spiffe://mesh.local"}, nil},
			"opaque":                {[]string{"spiffe:mesh.local/ns/shop/sa/web"}, nil},
		} {
			s.ca.form = c.form
			if err := attempt(t, s.connect(t, c.ids...)); status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestOldTLS: nothing below TLS 1.3, and no other root.
func TestOldTLS(t *testing.T) {
	s := start(t, stream.Limits{})
	s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
	old := s.ca.clientTLS(shop.SPIFFEID(trustDomain))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	foreign := s.ca.clientTLS()
	foreign.Certificates = []tls.Certificate{newAuthority(t).issue(shop.SPIFFEID(trustDomain))}
	for name, tc := range map[string]*tls.Config{"TLS 1.2": old, "another root": foreign} {
		conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(tc)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := attempt(t, conn); status.Code(err) != codes.Unavailable && status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// attempt asks for clusters and returns why there are none, nil if there are.
func attempt(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds}); err != nil {
		t.Logf("send: %v", err) // the reason comes from Recv
	}
	_, err = st.Recv()
	return err
}
