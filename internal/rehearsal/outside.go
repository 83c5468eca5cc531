package rehearsal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/release"
)

// proof is what an external has to prove by TLS: one of the names, by an authority of a secret.
type proof struct {
	names []string // at least one, none a wildcard
	roots string
}

// proofOf reads it from a cluster; nil for one without TLS towards the world outside.
func proofOf(cluster []byte) (*proof, error) {
	var c struct {
		Socket struct {
			Config struct {
				Within json.RawMessage `json:"transport_socket"`
				Common struct {
					Combined struct {
						Default struct {
							Names []struct {
								Type    string `json:"san_type"`
								Matcher struct{ Exact, Suffix string }
							} `json:"match_typed_subject_alt_names"`
						} `json:"default_validation_context"`
						Roots struct{ Name string } `json:"validation_context_sds_secret_config"`
					} `json:"combined_validation_context"`
				} `json:"common_tls_context"`
			} `json:"typed_config"`
		} `json:"transport_socket"`
	}
	if err := json.Unmarshal(cluster, &c); err != nil {
		return nil, fmt.Errorf("reading a cluster: %w", err)
	}
	if within := c.Socket.Config.Within; within != nil { // behind an HTTP proxy
		return proofOf(fmt.Appendf(nil, `{"transport_socket": %s}`, within))
	}
	combined := c.Socket.Config.Common.Combined
	p := proof{roots: combined.Roots.Name}
	for _, n := range combined.Default.Names {
		if n.Type != "DNS" {
			return nil, nil //nolint:nilnil // a proxy of the mesh, which has an identity
		}
		name := n.Matcher.Exact
		if name == "" {
			name = "any" + n.Matcher.Suffix
		}
		p.names = append(p.names, name)
	}
	if len(p.names) == 0 {
		return nil, nil //nolint:nilnil // plaintext
	}
	return &p, nil
}

// outsiders is the authority of the externals of one rehearsal.
type outsiders struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock func() time.Time
}

func newOutsiders(clock func() time.Time) (outsiders, error) {
	o := outsiders{clock: clock}
	var err error
	o.cert, o.key, err = o.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	return o, err
}

// sign makes a certificate, of the authority itself if it has none yet.
func (o outsiders) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	const serialBits = 100
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)); err != nil {
		return nil, nil, err
	}
	c.Subject = pkix.Name{CommonName: "rehearsal " + c.SerialNumber.String()}
	c.NotBefore, c.NotAfter = o.clock().Add(-time.Hour), o.clock().Add(certificateTTL)
	parent, signer := o.cert, o.key
	if parent == nil {
		parent, signer = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate of an external: %w", err)
	}
	out, err := x509.ParseCertificate(raw)
	return out, key, err
}

// config is TLS as an external speaks it that proves what is asked of it; nil for plaintext.
func (o outsiders) config(p *proof) (*tls.Config, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // as asked
	}
	cert, key, err := o.sign(&x509.Certificate{DNSNames: p.names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}, nil
}

// secrets are the authority by the names of secrets.
func (o outsiders) secrets(names []string) []any {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.cert.Raw}))
	out := make([]any, 0, len(names))
	for _, n := range names {
		out = append(out, object{"name": n, "validation_context": object{"trusted_ca": inline(text)}})
	}
	return out
}

// isOutside reports whether a cluster leads to an external.
func isOutside(cluster any) bool {
	_, proxied := release.ParseProxied(text(cluster))
	return proxied || strings.HasPrefix(text(cluster), externalCluster)
}
