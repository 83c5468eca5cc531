package rehearsal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/certref"
)

// visitorName is what the certificates of a rehearsal's visitors are for.
const visitorName = "visitor.rehearsal.invalid"

// visitors are who comes to gateways, with certificates of an authority of their own.
type visitors struct {
	outsiders
	shows map[string]tls.Certificate // by what a request says of it
}

func newVisitors(clock func() time.Time) (visitors, error) {
	v := visitors{shows: map[string]tls.Certificate{}}
	for _, kind := range []string{compiler.OtherCertificate, compiler.TrustedCertificate} {
		o, err := newOutsiders(clock)
		if err != nil {
			return v, err
		}
		cert, key, err := o.sign(&x509.Certificate{DNSNames: []string{visitorName}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			return v, err
		}
		v.shows[kind], v.outsiders = tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, o
	}
	return v, nil
}

// trusted makes listeners take the visitors of this rehearsal in place of those whose names and
// keys are written, and gives the secrets with their authorities.
func (v visitors) trusted(listeners any) ([]any, error) {
	var out []any
	seen := map[string]bool{}
	err := each(listeners, func(o object) error {
		combined, _ := o["combined_validation_context"].(object)
		from, _ := combined["validation_context_sds_secret_config"].(object)
		ref, is := certref.Parse(text(from["name"]))
		if !is {
			return nil
		}
		own, _ := combined["default_validation_context"].(object)
		if own["match_typed_subject_alt_names"] != nil {
			own["match_typed_subject_alt_names"] = []any{object{"san_type": "DNS", "matcher": object{"exact": visitorName}}}
		}
		if own["verify_certificate_spki"] != nil {
			sum := sha256.Sum256(v.shows[compiler.TrustedCertificate].Leaf.RawSubjectPublicKeyInfo)
			own["verify_certificate_spki"] = []any{base64.StdEncoding.EncodeToString(sum[:])}
		}
		if seen[ref.String()] {
			return nil
		}
		seen[ref.String()] = true
		secret := object{"trusted_ca": inline(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.cert.Raw})))}
		if ref.Kind == certref.Revoking {
			list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: v.cert.NotBefore, NextUpdate: v.cert.NotAfter}, v.cert, v.key)
			if err != nil {
				return fmt.Errorf("making a list of what has been withdrawn: %w", err)
			}
			secret["crl"] = inline(string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})))
		}
		out = append(out, object{"name": ref.String(), "validation_context": secret})
		return nil
	})
	return out, err
}

// each calls f for all objects below v.
func each(v any, f func(object) error) error {
	switch v := v.(type) {
	case object:
		if err := f(v); err != nil {
			return err
		}
		for _, x := range v {
			if err := each(x, f); err != nil {
				return err
			}
		}
	case []any:
		for _, x := range v {
			if err := each(x, f); err != nil {
				return err
			}
		}
	}
	return nil
}
