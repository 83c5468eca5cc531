package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

const rootsFormat = "meshc-roots/v1"

// rootsFile is ca/roots.json: one file, so that certificate and key can never
// belong to different moments.
type rootsFile struct {
	Format      string     `json:"format"`
	TrustDomain string     `json:"trust_domain"`
	Roots       []rootText `json:"roots"`
}

type rootText struct {
	ActiveFrom  time.Time `json:"active_from"`
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
}

func encodeRing(r ring) ([]byte, error) {
	f := rootsFile{Format: rootsFormat, TrustDomain: r.td.Name()}
	for _, c := range r.roots {
		key, err := x509.MarshalPKCS8PrivateKey(c.key)
		if err != nil {
			return nil, fmt.Errorf("encoding the key of a root: %w", err)
		}
		f.Roots = append(f.Roots, rootText{
			ActiveFrom:  c.activeFrom,
			Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})),
			Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		})
	}
	return canon.JSON(f)
}

// storedDomain is the trust domain of the authority at path.
func storedDomain(path string) (string, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "there is no authority yet: %q is missing", path).
			WithFix("start `meshc serve` with this state folder first, or name the state folder of one that runs"))
	}
	if err != nil {
		return "", err
	}
	var f rootsFile
	if err := json.Unmarshal(data, &f); err != nil || f.TrustDomain == "" {
		return "", problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q is damaged", path).
			WithFix("put the file back from a backup"))
	}
	return f.TrustDomain, nil
}

// decodeRing reads what encodeRing wrote. Every way of being damaged is one
// problem with one way out.
func decodeRing(path string, data []byte, td spiffeid.TrustDomain) (ring, error) {
	bad := func(format string, args ...any) error {
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q: %s", path, fmt.Sprintf(format, args...)).
			WithFix("put the file back from a backup; or remove it and the folder \"tokens\", start again and let every agent join with a new token"))
	}
	var f rootsFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return ring{}, bad("not readable: %v", err)
	}
	if f.Format != rootsFormat {
		return ring{}, bad("format %q, this program knows %q", f.Format, rootsFormat)
	}
	if f.TrustDomain != td.Name() {
		return ring{}, problem(diag.New(diag.CodeTrustDomain, diag.Pos{}, "%q belongs to trust domain %q, not %q", path, f.TrustDomain, td.Name()).
			WithFix("use another state folder for another trust domain"))
	}
	r := ring{td: td}
	for i, t := range f.Roots {
		c, err := decodeRoot(t)
		if err != nil {
			return ring{}, bad("root %d: %v", i, err)
		}
		r.roots = append(r.roots, c)
	}
	if len(r.roots) == 0 {
		return ring{}, bad("no roots")
	}
	return r, nil
}

func decodeRoot(t rootText) (root, error) {
	cert, err := parseOne(t.Certificate)
	if err != nil {
		return root{}, err
	}
	block, _ := pem.Decode([]byte(t.Key))
	if block == nil {
		return root{}, fmt.Errorf("the key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return root{}, fmt.Errorf("reading the key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return root{}, fmt.Errorf("a %T cannot sign", key)
	}
	if pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return root{}, fmt.Errorf("key and certificate do not belong together")
	}
	if !cert.IsCA {
		return root{}, fmt.Errorf("the certificate is no CA")
	}
	return root{cert: cert, key: signer, activeFrom: t.ActiveFrom}, nil
}

// parseOne reads exactly one PEM certificate.
func parseOne(text string) (*x509.Certificate, error) {
	certs, err := ParseCertificates([]byte(text))
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates where one belongs", len(certs))
	}
	return certs[0], nil
}

// ParseCertificates reads PEM certificates, at least one, and nothing else.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("text that is no PEM certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no certificate")
	}
	return out, nil
}

// EncodeCertificates is the inverse of ParseCertificates.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}
