package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/keyring"
)

// maxCSR bounds a request in bytes; a P-256 request with one name has about 300.
const maxCSR = 8 << 10

// Extensions that a request may carry. Anything else is refused, not ignored:
// who asks for more than an SVID has made a mistake or tries something.
const (
	oidSAN              = "2.5.29.17"
	oidExtensionRequest = "1.2.840.113549.1.9.14"
	oidKeyUsage         = "2.5.29.15"
	oidExtKeyUsage      = "2.5.29.37"
	oidBasicConstraints = "2.5.29.19"
	oidServerAuth       = "1.3.6.1.5.5.7.3.1"
	oidClientAuth       = "1.3.6.1.5.5.7.3.2"
)

// Sign makes an X.509-SVID for id from a certificate request in DER form. The
// chain is the leaf alone: roots sign directly. ttl is in (0, Options.TTL];
// the certificate never outlives its root. Problem: CodeRequestRefused.
func (a *Authority) Sign(csr []byte, id spiffeid.ID, ttl time.Duration) ([]*x509.Certificate, error) {
	line, err := newLineage()
	if err != nil {
		return nil, err
	}
	return a.sign(csr, id, ttl, line)
}

// sign is Sign for a certificate that continues a lineage.
func (a *Authority) sign(csr []byte, id spiffeid.ID, ttl time.Duration, line lineage) ([]*x509.Certificate, error) {
	if ttl <= 0 || ttl > a.ttl {
		return nil, refused("a lifetime of %v is not in (0, %v]", ttl, a.ttl)
	}
	req, err := checkRequest(csr, id)
	if err != nil {
		return nil, err
	}
	if !id.MemberOf(a.td) {
		return nil, refused("%q is not in trust domain %q", id, a.td.Name())
	}
	leaf, _, err := a.issue(req.PublicKey, id, ttl, line)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf}, nil
}

// issue signs without a request: for Sign, and for the server's own key.
func (a *Authority) issue(pub crypto.PublicKey, id spiffeid.ID, ttl time.Duration, line lineage) (leaf, by *x509.Certificate, err error) {
	serial, err := line.serial()
	if err != nil {
		return nil, nil, err
	}
	now := a.clock()
	// No subject: the URI is the only name, and x509 marks it critical then.
	leaf, by, err = a.roots.Sign(&x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{id.URL()},
		NotBefore: now.Add(-keyring.Backdate(ttl)), NotAfter: now.Add(ttl),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, pub)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the certificate of %q: %w", id, err)
	}
	return leaf, by, nil
}

func refused(format string, args ...any) error {
	return problem(diag.New(diag.CodeRequestRefused, diag.Pos{}, "certificate request refused: "+format, args...).
		WithFix("ask for one SPIFFE URI, an ECDSA P-256 or P-384 key, no other names and no extensions"))
}

// checkRequest reads a request and demands that it asks for id and nothing else.
func checkRequest(csr []byte, id spiffeid.ID) (*x509.CertificateRequest, error) {
	if len(csr) > maxCSR {
		return nil, refused("%d bytes, at most %d", len(csr), maxCSR)
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, refused("not readable: %v", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, refused("its signature is wrong: %v", err)
	}
	key, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return nil, refused("a key of type %v", req.PublicKeyAlgorithm)
	}
	if len(req.Subject.Names) > 0 {
		return nil, refused("a subject, %q", req.Subject)
	}
	if err := checkAttributes(req); err != nil {
		return nil, err
	}
	if len(req.URIs) != 1 || len(req.DNSNames)+len(req.IPAddresses)+len(req.EmailAddresses) > 0 {
		return nil, refused("it must have exactly one name, a URI; it has %d URIs and %d others",
			len(req.URIs), len(req.DNSNames)+len(req.IPAddresses)+len(req.EmailAddresses))
	}
	if asked := req.URIs[0].String(); asked != id.String() {
		return nil, problem(diag.New(diag.CodeIdentityMismatch, diag.Pos{}, "certificate request for %q by %q", asked, id).
			WithFix("use a token made for that identity: meshc token create --identity namespace/account"))
	}
	return req, checkExtensions(req)
}

// checkAttributes refuses all attributes but one list of extensions: a challenge
// password, for one, would be left unread.
func checkAttributes(req *x509.CertificateRequest) error {
	var info struct {
		Version            int
		Subject, PublicKey asn1.RawValue
		Attributes         []struct {
			ID     asn1.ObjectIdentifier
			Values asn1.RawValue
		} `asn1:"optional,tag:0,set"`
	}
	if rest, err := asn1.Unmarshal(req.RawTBSCertificateRequest, &info); err != nil || len(rest) > 0 {
		return refused("attributes that are not readable")
	}
	for i, a := range info.Attributes {
		if i > 0 || a.ID.String() != oidExtensionRequest {
			return refused("attribute %v", a.ID)
		}
	}
	seen := map[string]bool{}
	for _, e := range req.Extensions {
		if seen[e.Id.String()] {
			return refused("extension %v twice", e.Id)
		}
		seen[e.Id.String()] = true
	}
	return nil
}

func checkExtensions(req *x509.CertificateRequest) error {
	for _, e := range req.Extensions {
		switch e.Id.String() {
		case oidSAN: // of every kind of name, also of those that Go does not read
			if !oneURI(e.Value) {
				return refused("it must have exactly one name, a URI")
			}
		case oidKeyUsage:
			var bits asn1.BitString
			if rest, err := asn1.Unmarshal(e.Value, &bits); err != nil || len(rest) > 0 {
				return refused("a key usage that is not readable")
			}
			// Bit 0 is digitalSignature, 2 keyEncipherment, 4 keyAgreement (RFC 5280, 4.2.1.3).
			for i := range bits.BitLength {
				if bits.At(i) == 1 && i != 0 && i != 2 && i != 4 {
					return refused("key usage bit %d", i)
				}
			}
		case oidExtKeyUsage:
			if err := checkUsages(e.Value); err != nil {
				return err
			}
		case oidBasicConstraints:
			var bc struct {
				IsCA       bool `asn1:"optional"`
				MaxPathLen int  `asn1:"optional,default:-1"`
			}
			if rest, err := asn1.Unmarshal(e.Value, &bc); err != nil || len(rest) > 0 || bc.IsCA {
				return refused("it asks to be a CA")
			}
		default:
			return refused("extension %v", e.Id)
		}
	}
	return nil
}

// checkUsages takes extended usages for TLS only.
func checkUsages(der []byte) error {
	var usages []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(der, &usages); err != nil || len(rest) > 0 {
		return refused("an extended key usage that is not readable")
	}
	for _, u := range usages {
		if u.String() != oidServerAuth && u.String() != oidClientAuth {
			return refused("extended key usage %v", u)
		}
	}
	return nil
}

func oneURI(der []byte) bool {
	var names []asn1.RawValue
	const uri = 6 // RFC 5280, 4.2.1.6
	rest, err := asn1.Unmarshal(der, &names)
	return err == nil && len(rest) == 0 && len(names) == 1 && names[0].Tag == uri
}
