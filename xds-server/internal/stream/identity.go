package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// identityOf returns the SPIFFE ID of the authenticated peer, and when its
// certificate ends. Only the verified leaf certificate counts; nothing that the
// peer says in a message does.
func identityOf(ctx context.Context, trustDomain string) (string, time.Time, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", time.Time{}, errors.New("no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return "", time.Time{}, errors.New("the client has no verified certificate")
	}
	if info.State.Version < tls.VersionTLS13 {
		return "", time.Time{}, errors.New("the connection is not TLS 1.3")
	}
	leaf := info.State.VerifiedChains[0][0]
	id, err := identityFrom(leaf, trustDomain)
	return id, leaf.NotAfter, err
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
