package envoy

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// Names that the bootstrap and the agent share with the snapshot.
const (
	// SDSCluster is the bootstrap's cluster of the agent's Unix socket. Secrets come
	// from there only: no key passes the xDS server.
	SDSCluster = "sds"
	// SecretOwn is the secret with the proxy's own certificate and key.
	SecretOwn = "default"
	// SecretRoots is the secret with the bundle of trusted roots.
	SecretRoots = "ROOTCA"
	// SecretPublicRoots is the secret with the authorities that the agent's machine trusts;
	// with "/" and a name it is those that the operator gave to the agent by that name.
	SecretPublicRoots = "roots"
)

// ALPN of mesh traffic. A caller offers a word that is ours first, so that a
// listener can tell mesh TLS from an application's own; the server must choose
// "h2": Envoy's codec AUTO takes any other word for HTTP/1.
const (
	alpnHTTP = "meshc-h2"
	alpnTCP  = "meshc"
	// alpnProgram is what gRPC offers. An application's own TLS is told from it by the certificate that it has not.
	alpnProgram = "h2"
)

// OfMesh are the words that a caller's proxy offers another one, for requests or for bytes.
func OfMesh(http bool) []string {
	if !http {
		return []string{alpnTCP}
	}
	return []string{alpnHTTP, "h2"}
}

const tlsSocket = "envoy.transport_sockets.tls"

// upstreamTLS authenticates the caller to the callee and accepts no other
// identities than those.
func upstreamTLS(sni string, http bool, identities []string, roots string) *corev3.TransportSocket {
	alpn := OfMesh(http)
	sans := make([]*matcherv3.StringMatcher, len(identities))
	for i, id := range identities {
		sans[i] = exactString(id)
	}
	return socket(&tlsv3.UpstreamTlsContext{
		Sni:              sni,
		CommonTlsContext: commonTLS(alpn, sans, roots),
		// No session is resumed: the callee would show no certificate, and could go on
		// after the end of the one that it had.
		MaxSessionKeys: UInt32(0),
	})
}

// downstreamTLS demands a client certificate of one of the identities.
func downstreamTLS(alpn []string, identities []*matcherv3.StringMatcher, roots string) *corev3.TransportSocket {
	return socket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         commonTLS(alpn, identities, roots),
		RequireClientCertificate: Bool(true), // unset is a deprecation warning
		// A resumed session would outlive the certificate with which it began.
		SessionTicketKeysType:            &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
		DisableStatefulSessionResumption: true,
	})
}

func commonTLS(alpn []string, identities []*matcherv3.StringMatcher, roots string) *tlsv3.CommonTlsContext {
	sans := make([]*tlsv3.SubjectAltNameMatcher, len(identities))
	for i, m := range identities {
		sans[i] = &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: m}
	}
	return &tlsv3.CommonTlsContext{
		// Minimum *and* maximum: an upstream's maximum is TLS 1.2 unless set, and a
		// minimum alone makes every handshake fail.
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols:                  alpn,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secret(SecretOwn)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: sans},
				ValidationContextSdsSecretConfig: secret(roots),
			},
		},
	}
}

// Origination is TLS towards somebody who is not of the mesh.
type Origination struct {
	// SNI is the name that is asked for.
	SNI string
	// SANs are the names of which the certificate must have one: exact, or "*.suffix".
	SANs []string
	// Roots names what the operator gave to the agents, "" for their machine's authorities.
	Roots string
	// Min13 refuses TLS 1.2.
	Min13 bool
	// Shows is the name of the secret with the certificate that is shown if it is asked for, "" for none.
	Shows string
}

// rootsTimeout is how long a cluster waits for its roots before it is used without, so that all
// of its connections fail: an agent that has no such roots must not keep others' changes waiting.
const rootsTimeout = 2 * time.Second

// Originate is the transport socket of a cluster outside. It shows no certificate but one that is meant for it.
// Envoy refuses names without roots, so that roots that are missing verify nothing.
func Originate(o Origination) *corev3.TransportSocket {
	sans := make([]*tlsv3.SubjectAltNameMatcher, len(o.SANs))
	for i, n := range o.SANs {
		sans[i] = &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: named(n)}
	}
	name := SecretPublicRoots
	if o.Roots != "" {
		name += "/" + o.Roots
	}
	roots := secret(name)
	roots.SdsConfig.InitialFetchTimeout = Duration(rootsTimeout)
	oldest := tlsv3.TlsParameters_TLSv1_2
	if o.Min13 {
		oldest = tlsv3.TlsParameters_TLSv1_3
	}
	var shown []*tlsv3.SdsSecretConfig
	if o.Shows != "" {
		s := secret(o.Shows)
		s.SdsConfig.InitialFetchTimeout = Duration(rootsTimeout)
		shown = []*tlsv3.SdsSecretConfig{s}
	}
	// A session that is resumed would go on without a certificate, after the end of the one that it had.
	return socket(&tlsv3.UpstreamTlsContext{Sni: o.SNI, MaxSessionKeys: UInt32(0), CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: shown,
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: oldest, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: sans},
				ValidationContextSdsSecretConfig: roots,
			},
		},
	}})
}

// named takes a name of a certificate: exact, which a "*.suffix" in the certificate takes as well, or "*.suffix".
func named(n string) *matcherv3.StringMatcher {
	if suffix, ok := strings.CutPrefix(n, "*"); ok {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: suffix}, IgnoreCase: true}
	}
	return exactString(n)
}

// soon is how long routes wait for a secret of theirs, which is on the same host or missing: all others wait with them.
const soon = 200 * time.Millisecond

// SoonSecret is where a proxy gets a secret that a route needs: from its agent.
func SoonSecret(name string) *tlsv3.SdsSecretConfig {
	s := secret(name)
	s.SdsConfig.InitialFetchTimeout = Duration(soon)
	return s
}

func secret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: SDSCluster, RetryPolicy: sdsRetry()},
			}}},
		}},
	}}
}

// sdsRetry lets a proxy meet a restarted agent within seconds, not after Envoy's 30.
func sdsRetry() *corev3.RetryPolicy {
	return &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
		BaseInterval: Duration(200 * time.Millisecond), MaxInterval: Duration(3 * time.Second),
	}}
}

// adsSource says that a resource comes over the aggregated stream.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func socket(m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(m)}}
}
