package ca

import (
	"context"
	"crypto/x509"
	"regexp"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"meshc.dev/meshc/internal/diag"
)

// nameRE is the spelling of names in the intent language.
var nameRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Identity is a service account: what a workload is, whatever proxy stands
// in front of it. The zero Identity is nobody.
type Identity struct{ Namespace, Account string }

// ParseIdentity reads "namespace/account".
func ParseIdentity(s string) (Identity, error) {
	ns, sa, ok := strings.Cut(s, "/")
	if !ok || !nameRE.MatchString(ns) || !nameRE.MatchString(sa) {
		return Identity{}, problem(diag.New(diag.CodeIdentity, diag.Pos{}, "%q is not an identity", s).
			WithFix("write namespace/account, both in lower case letters, digits and hyphens, like shop/web"))
	}
	return Identity{Namespace: ns, Account: sa}, nil
}

// String gives "namespace/account".
func (i Identity) String() string { return i.Namespace + "/" + i.Account }

// SPIFFE gives spiffe://td/ns/namespace/sa/account.
func (i Identity) SPIFFE(td spiffeid.TrustDomain) (spiffeid.ID, error) {
	if _, err := ParseIdentity(i.String()); err != nil {
		return spiffeid.ID{}, err
	}
	return spiffeid.FromSegments(td, "ns", i.Namespace, "sa", i.Account)
}

// IdentityOf is the inverse of SPIFFE. Any other path, the server's included,
// is an error: it is no workload.
func IdentityOf(id spiffeid.ID) (Identity, error) {
	parts := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	if len(parts) != 4 || parts[0] != "ns" || parts[2] != "sa" {
		return Identity{}, problem(diag.New(diag.CodeIdentity, diag.Pos{}, "%q is not the identity of a workload", id).
			WithFix("a workload is spiffe://<trust domain>/ns/<namespace>/sa/<account>"))
	}
	return ParseIdentity(parts[1] + "/" + parts[3])
}

// ServerID is what the xDS server proves to be. Its path cannot collide with
// a workload's.
func ServerID(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromPath(td, "/meshc/server")
}

// Peer is who is at the other end of a connection, as its certificate says.
type Peer struct {
	ID       spiffeid.ID
	Identity Identity
	// NotAfter is the end of the certificate. TLS checks it at the handshake
	// only: who keeps a stream open must end it then.
	NotAfter time.Time
}

// PeerFromContext reads the workload that makes a gRPC call. The certificate
// was verified at the handshake (TLSConfig). Without one the error has
// CodeNoCertificate; with one of something else than a workload, CodeIdentity.
func PeerFromContext(ctx context.Context) (Peer, error) {
	leaf := peerLeaf(ctx)
	if leaf == nil {
		return Peer{}, problem(diag.New(diag.CodeNoCertificate, diag.Pos{}, "the client showed no verified certificate").
			WithFix("connect through meshc-agent, which holds the workload's certificate"))
	}
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return Peer{}, problem(diag.New(diag.CodeIdentity, diag.Pos{}, "the client's certificate is no SVID: %v", err))
	}
	who, err := IdentityOf(id)
	if err != nil {
		return Peer{}, err
	}
	return Peer{ID: id, Identity: who, NotAfter: leaf.NotAfter}, nil
}

// peerChains are those of the client's certificate that TLS verified.
func peerChains(ctx context.Context) [][]*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, _ := p.AuthInfo.(credentials.TLSInfo)
	return info.State.VerifiedChains
}

// peerLeaf is the client's certificate if, and only if, TLS verified it.
func peerLeaf(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
