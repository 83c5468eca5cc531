package stream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/xds-server/internal/evidence"
)

// client is who is at the other end of a stream, by its verified certificate.
type client struct {
	identity string // SPIFFE ID
	// instance tells apart the proxies of one identity.
	instance evidence.Instance
	until    time.Time // the end of the certificate
}

// clientOf returns the authenticated peer. Only the verified leaf certificate
// counts; nothing that the peer says in a message does.
func clientOf(ctx context.Context, trustDomain string) (client, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return client{}, errors.New("no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return client{}, errors.New("the client has no verified certificate")
	}
	if info.State.Version < tls.VersionTLS13 {
		return client{}, errors.New("the connection is not TLS 1.3")
	}
	leaf := info.State.VerifiedChains[0][0]
	id, err := identityFrom(leaf, trustDomain)
	return client{id, instanceOf(leaf), leaf.NotAfter}, err
}

// instanceOf says which proxy of its identity a certificate stands for.
// Certificates of our own authority that follow each other by renewal say so in
// their serial numbers, and nobody gets another lineage without another token; of
// another authority's the public key is the instance.
func instanceOf(leaf *x509.Certificate) evidence.Instance {
	if l, ok := ca.LineageOf(leaf); ok {
		return evidence.Instance(l)
	}
	const size = 12
	d := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return evidence.Instance(hex.EncodeToString(d[:size]))
}

// identityFrom reads the ID as the X.509-SVID standard says: one URI name, in a
// certificate that cannot sign others.
func identityFrom(leaf *x509.Certificate, trustDomain string) (string, error) {
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return "", errors.New("the client's certificate is an authority's")
	}
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("the client's certificate has %d URI names, want exactly one SPIFFE ID", len(leaf.URIs))
	}
	id := leaf.URIs[0].String()
	rest, ok := strings.CutPrefix(id, "spiffe://"+trustDomain+"/")
	if !ok {
		return "", fmt.Errorf("%q is not of trust domain %q", id, trustDomain)
	}
	p := strings.Split(rest, "/")
	if len(p) != 4 || p[0] != "ns" || p[2] != "sa" || p[1] == "" || p[3] == "" || strings.ContainsAny(rest, "?#%") {
		return "", fmt.Errorf("%q is not of the form spiffe://%s/ns/NAMESPACE/sa/ACCOUNT", id, trustDomain)
	}
	return id, nil
}
