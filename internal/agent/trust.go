package agent

import (
	"crypto/x509"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/certref"
)

// trustValidator is Envoy's name of the validator that holds a certificate against the roots of its own trust domain alone.
const trustValidator = "envoy.tls.cert_validator.spiffe"

// addTrust adds the secret of that name, if it is one of trust domains.
func (s *sds) addTrust(n *session, all map[string]secret, name string, own *svid) {
	trust, ok := certref.ParseTrust(name)
	if !ok {
		return
	}
	if n.closed[name] {
		maps.DeleteFunc(trust, func(_ string, roots [][]byte) bool { return roots != nil })
	}
	made, err := s.trustSecret(name, own, trust)
	if err != nil {
		s.log.Error("trust domains not encoded", "error", err)
		return
	}
	all[name] = made
}

// trustSecret is a validation context for the workload's own trust domain and for others. What the name says of its own
// does not count: nobody else signs for that. Another one whose roots cannot be read is left out, and nobody comes from there.
func (s *sds) trustSecret(name string, own *svid, others map[string][][]byte) (secret, error) {
	roots := ca.EncodeCertificates(own.bundle)
	v := &tlsv3.SPIFFECertValidatorConfig{TrustDomains: []*tlsv3.SPIFFECertValidatorConfig_TrustDomain{{Name: own.id.TrustDomain().Name(), TrustBundle: inline(roots)}}}
	for _, domain := range slices.Sorted(maps.Keys(others)) {
		if domain == own.id.TrustDomain().Name() {
			continue
		}
		bundle, err := roots, error(nil)
		if others[domain] != nil {
			bundle, err = certificates(others[domain])
		}
		if err != nil {
			s.log.Error("a trust domain is left out: its roots cannot be read", "trust_domain", domain, "error", err)
			continue
		}
		v.TrustDomains = append(v.TrustDomains, &tlsv3.SPIFFECertValidatorConfig_TrustDomain{Name: domain, TrustBundle: inline(bundle)})
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
	if err != nil {
		return secret{}, err
	}
	return encode(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		CustomValidatorConfig: &corev3.TypedExtensionConfig{
			Name: trustValidator, TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/" + string(v.ProtoReflect().Descriptor().FullName()), Value: value},
		},
	}}})
}

// certificates are certificates in PEM.
func certificates(ders [][]byte) ([]byte, error) {
	var all []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return ca.EncodeCertificates(all), nil
}
