package keyring

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
)

const format = "meshc-roots/v1"

// text is what is kept: one text, so that certificate and key can never belong to
// different moments.
type text struct {
	Format string     `json:"format"`
	Name   string     `json:"trust_domain"`
	Roots  []rootText `json:"roots"`
}

type rootText struct {
	ActiveFrom  time.Time `json:"active_from"`
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
}

func encode(r ring) ([]byte, error) {
	f := text{Format: format, Name: r.name}
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

// NameIn says whose roots a text holds, "" if it holds none.
func NameIn(data []byte) string {
	var f text
	if err := json.Unmarshal(data, &f); err != nil {
		return ""
	}
	return f.Name
}

// decode reads what encode wrote. Every way of being damaged is one problem with one way
// out, which shows nothing of the text: keys are in there.
func decode(place kept.Store, data []byte, name, lost string) (ring, error) {
	bad := func(format string, args ...any) error {
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s: %s", place, fmt.Sprintf(format, args...)).
			WithFix("%s; or %s, start again and %s", place.Restore(), place.Clear(), lost))
	}
	var f text
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || dec.More() {
		return ring{}, bad("these are no roots that this program wrote")
	}
	if f.Format != format {
		return ring{}, bad("this is not in the format %q, which this program knows", format)
	}
	if f.Name != name {
		return ring{}, problem(diag.New(diag.CodeTrustDomain, diag.Pos{}, "%s belongs to trust domain %q, not %q", place, f.Name, name).
			WithFix("use another place for another trust domain"))
	}
	r := ring{name: name}
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
	der, ok := onePEM(t.Certificate)
	if !ok {
		return root{}, errors.New("the certificate is not one PEM block")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return root{}, errors.New("the certificate cannot be read")
	}
	if der, ok = onePEM(t.Key); !ok {
		return root{}, errors.New("the key is not one PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return root{}, errors.New("the key cannot be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return root{}, fmt.Errorf("a %T cannot sign", key)
	}
	if pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return root{}, errors.New("key and certificate do not belong together")
	}
	if !cert.IsCA {
		return root{}, errors.New("the certificate is no CA")
	}
	return root{cert: cert, key: signer, activeFrom: t.ActiveFrom}, nil
}

func onePEM(text string) ([]byte, bool) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, false
	}
	return block.Bytes, true
}

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
