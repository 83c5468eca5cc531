package ca

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"meshc.dev/meshc/internal/diag"
)

// PeerTLS is the client's side of mutual TLS 1.3 between two xDS servers of one
// authority: both prove to be ServerID.
func (a *Authority) PeerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		// Verification is by SPIFFE ID in VerifyConnection, which runs on every handshake.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			id, _, err := x509svid.Verify(c.PeerCertificates, a.Bundle(), x509svid.WithTime(a.clock()))
			if err != nil {
				return fmt.Errorf("verifying the other server: %w", err)
			}
			if id != ServerID(a.td) {
				return fmt.Errorf("verifying the other server: it is %q, not %q", id, ServerID(a.td))
			}
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := a.serverCertificate()
			return &c, err
		},
	}
}

// CheckServer reports whether a gRPC call is made by an xDS server of the authority.
// The certificate was verified at the handshake (TLSConfig).
func (a *Authority) CheckServer(ctx context.Context) error {
	leaf := peerLeaf(ctx)
	if leaf == nil {
		return problem(diag.New(diag.CodeNoCertificate, diag.Pos{}, "the client showed no verified certificate"))
	}
	id, err := x509svid.IDFromCert(leaf)
	if err != nil || id != ServerID(a.td) || !a.signed(peerChains(ctx)) || !a.clock().Before(leaf.NotAfter) {
		return problem(diag.New(diag.CodeIdentity, diag.Pos{}, "%q is not %q, or its certificate has ended", id, ServerID(a.td)))
	}
	return nil
}
