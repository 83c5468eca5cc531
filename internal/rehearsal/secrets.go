package rehearsal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/certref"
)

// certificateTTL outlives every rehearsal.
const certificateTTL = 2 * time.Hour

// authority makes the identities of one rehearsal.
type authority struct {
	ca    *ca.Authority
	roots string // PEM
}

func newAuthority(ctx context.Context, dir, trustDomain string, clock func() time.Time) (authority, error) {
	a, err := ca.Open(ctx, dir, ca.Options{TrustDomain: trustDomain, TTL: certificateTTL, RootTTL: 24 * certificateTTL, Clock: clock})
	if err != nil {
		return authority{}, fmt.Errorf("making a throw-away authority: %w", err)
	}
	return authority{a, string(ca.EncodeCertificates(a.Bundle().X509Authorities()))}, nil
}

// secrets are the two static secrets of a class, by the names of the snapshot's
// references. Nobody has none.
func (a authority) secrets(c release.Class) ([]any, error) {
	if c == compiler.Nobody() {
		return nil, nil
	}
	chain, key, err := a.issue(c)
	if err != nil {
		return nil, err
	}
	return []any{
		object{"name": "default", "tls_certificate": object{
			"certificate_chain": inline(string(chain)),
			"private_key":       inline(string(key)),
		}},
		object{"name": "ROOTCA", "validation_context": object{"trusted_ca": inline(a.roots)}},
	}, nil
}

// issue makes a certificate, with its chain, and its key, both as PEM.
func (a authority) issue(c release.Class) (chain, key []byte, err error) {
	id, err := spiffeid.FromString(c.SPIFFEID(a.ca.TrustDomain().Name()))
	if err != nil {
		return nil, nil, fmt.Errorf("identity of %s: %w", c, err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, private)
	if err != nil {
		return nil, nil, err
	}
	certificates, err := a.ca.Sign(csr, id, certificateTTL)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the certificate of %s: %w", c, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return ca.EncodeCertificates(certificates), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// certificate is one of a class, for clients of ours.
func (a authority) certificate(c release.Class) (tls.Certificate, error) {
	chain, key, err := a.issue(c)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(chain, key)
}

func inline(s string) object { return object{"inline_string": s} }

// shownTo are made-up certificates for all that listeners show to visitors, and clusters to whom they lead.
func shownTo(shows any) ([]any, error) {
	var out []any
	for _, name := range certificateNames(shows, map[string]bool{}) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), DNSNames: []string{"rehearsal.invalid"}}
		cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		out = append(out, object{"name": name, "tls_certificate": object{
			"certificate_chain": inline(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
			"private_key":       inline(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
		}})
	}
	for _, name := range textNames(shows, map[string]bool{}) {
		out = append(out, object{"name": name, "generic_secret": object{"secret": inline(rand.Text())}})
	}
	return out, nil
}

// textNames are the names of the secrets of logins below v, each once.
func textNames(v any, seen map[string]bool) []string {
	var out []string
	_ = each(v, func(o object) error {
		for _, field := range []string{"token_secret", "hmac_secret"} {
			s, _ := o[field].(object)
			if name := text(s["name"]); name != "" && !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
		return nil
	})
	return out
}

// certificateNames are the names of certificates for visitors below v, each once.
func certificateNames(v any, seen map[string]bool) []string {
	var out []string
	switch v := v.(type) {
	case object:
		for _, s := range list(v["tls_certificate_sds_secret_configs"]) {
			name := text(s["name"])
			if _, ok := certref.Parse(name); ok && !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
		for _, x := range v {
			out = append(out, certificateNames(x, seen)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, certificateNames(x, seen)...)
		}
	}
	return out
}
