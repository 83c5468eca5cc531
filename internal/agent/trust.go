package agent

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/internal/ca"
)

// trustValidator is Envoy's name of the validator that holds a certificate against the roots of its own trust domain alone.
const trustValidator = "envoy.tls.cert_validator.spiffe"

// trustSecret is a validation context for the workload's own trust domain and for others. What the name says of its own
// does not count: nobody else signs for that.
func trustSecret(name string, s *svid, others map[string][][]byte) (secret, error) {
	own := ca.EncodeCertificates(s.bundle)
	v := &tlsv3.SPIFFECertValidatorConfig{TrustDomains: []*tlsv3.SPIFFECertValidatorConfig_TrustDomain{{Name: s.id.TrustDomain().Name(), TrustBundle: inline(own)}}}
	for _, domain := range slices.Sorted(maps.Keys(others)) {
		if domain == s.id.TrustDomain().Name() {
			continue
		}
		roots := own
		if len(others[domain]) > 0 {
			var all []*x509.Certificate
			for _, der := range others[domain] {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					return secret{}, fmt.Errorf("a root of trust domain %q: %w", domain, err)
				}
				all = append(all, c)
			}
			roots = ca.EncodeCertificates(all)
		}
		v.TrustDomains = append(v.TrustDomains, &tlsv3.SPIFFECertValidatorConfig_TrustDomain{Name: domain, TrustBundle: inline(roots)})
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
