package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/certstore"
)

// Names of the secrets that compiled configuration refers to.
const (
	// SecretOwn is the workload's certificate and key.
	SecretOwn = "default"
	// SecretRoots is the bundle, as a validation context. Which identities are
	// welcome is said in the configuration, beside the reference.
	SecretRoots = "ROOTCA"

	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// secret is one resource, encoded once per certificate.
type secret struct {
	version string
	body    *anypb.Any
}

// secretsOf encodes what Envoy may ask for. Versions are digests: a restarted
// agent with the same certificate has nothing to send.
func secretsOf(s *svid) (map[string]secret, error) {
	key, err := s.keyPEM()
	if err != nil {
		return nil, err
	}
	out := map[string]secret{}
	for _, m := range []*tlsv3.Secret{
		keyPair(SecretOwn, ca.EncodeCertificates(s.chain), key),
		{Name: SecretRoots, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(ca.EncodeCertificates(s.bundle)),
		}}},
	} {
		if out[m.GetName()], err = encode(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// keyPair is a certificate with its key, both PEM.
func keyPair(name string, chain, key []byte) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(chain), PrivateKey: inline(key),
	}}}
}

// contentSecret is what the agent's operator, or a cluster, has for a name.
func contentSecret(name string, content certstore.Content) *tlsv3.Secret {
	switch c := content.(type) {
	case *certstore.Pair:
		return keyPair(name, c.Chain, c.Key)
	case *certstore.Secret:
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{Secret: inline(c.Text)}}}
	case *certstore.Authorities:
		v := &tlsv3.CertificateValidationContext{TrustedCa: inline(c.Roots)}
		if c.Revoked != nil {
			v.Crl = inline(c.Revoked)
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: v}}
	}
	panic(fmt.Sprintf("no secret is made of %T", content))
}

func encode(m *tlsv3.Secret) (secret, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return secret{}, err
	}
	return secret{version: canon.Digest(b)[:24], body: &anypb.Any{TypeUrl: secretType, Value: b}}, nil
}

// sds serves secrets, on a socket that only this user can open.
type sds struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	hold  *holder
	certs *certstore.Store
	log   *slog.Logger
	stats *stats
	roots *authorities
}

func (s *sds) newServer() *grpc.Server {
	g := grpc.NewServer(enforcement())
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
	authv3.RegisterAuthorizationServer(g, &signin{certs: s.certs, wanted: map[string]bool{}})
	return g
}

// wish is a request of either protocol.
type wish struct {
	typeURL, nonce, nack string
	names                []string          // state of the world: all that is wanted
	add, remove          []string          // delta
	has                  map[string]string // delta: what the client holds at the begin
}

// session is the state of one stream; one goroutine owns it.
type session struct {
	wanted []string
	sent   map[string]string // name → version; kept after a NACK: sending the same again would not help
	nonce  string
	// closed are names of trust domains that Envoy has refused: it gets those alone whose roots are the mesh's own.
	closed map[string]bool
	// done says of each certificate of visitors that it is not wanted here any more.
	done map[string]func()
	// send encodes a response: all wanted secrets, or the changed ones.
	send func(n *session, all map[string]secret, changed []string) error
}

// StreamSecrets is the state-of-the-world protocol.
func (s *sds) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	recv := func() (wish, error) {
		m, err := stream.Recv()
		return wish{
			typeURL: m.GetTypeUrl(), nonce: m.GetResponseNonce(), nack: m.GetErrorDetail().GetMessage(),
			names: append([]string{}, m.GetResourceNames()...),
		}, err
	}
	return s.serve(stream.Context(), recv, func(n *session, all map[string]secret, _ []string) error {
		out := &discoveryv3.DiscoveryResponse{TypeUrl: secretType, Nonce: n.nonce}
		versions := ""
		for _, name := range n.wanted {
			if x, ok := all[name]; ok {
				out.Resources = append(out.Resources, x.body)
				versions += x.version
			}
		}
		out.VersionInfo = canon.Digest([]byte(versions))[:24]
		return stream.Send(out)
	})
}

// DeltaSecrets is the incremental protocol.
func (s *sds) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	recv := func() (wish, error) {
		m, err := stream.Recv()
		return wish{
			typeURL: m.GetTypeUrl(), nonce: m.GetResponseNonce(), nack: m.GetErrorDetail().GetMessage(),
			add: m.GetResourceNamesSubscribe(), remove: m.GetResourceNamesUnsubscribe(), has: m.GetInitialResourceVersions(),
		}, err
	}
	return s.serve(stream.Context(), recv, func(n *session, all map[string]secret, changed []string) error {
		out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: secretType, Nonce: n.nonce}
		for _, name := range changed {
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: all[name].version, Resource: all[name].body})
		}
		return stream.Send(out)
	})
}

// serve answers wishes and pushes every new certificate until the client leaves.
func (s *sds) serve(ctx context.Context, recv func() (wish, error), send func(*session, map[string]secret, []string) error) error {
	s.stats.sdsActive.Add(1)
	defer s.stats.sdsActive.Add(-1)
	wishes, gone := receive(ctx, recv)
	n := &session{sent: map[string]string{}, closed: map[string]bool{}, done: map[string]func(){}, send: send}
	defer n.want(s.certs, nil)
	again := time.NewTicker(rootsEvery)
	defer again.Stop()
	for {
		cur, bell := s.hold.get()
		fresh := s.certs.Bell()
		if err := s.push(n, cur); err != nil {
			return err
		}
		select {
		case <-fresh:
		case w := <-wishes:
			if w.typeURL != "" && w.typeURL != secretType {
				return status.Errorf(codes.InvalidArgument, "only %s is served here", secretType)
			}
			s.note(n, w)
			n.apply(w)
			n.want(s.certs, n.wanted)
		case <-bell:
		case <-again.C: // files of roots may have changed
		case err := <-gone:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// receive turns a blocking call into channels. Its goroutine ends with ctx,
// which is the stream's.
func receive(ctx context.Context, recv func() (wish, error)) (<-chan wish, <-chan error) {
	wishes, gone := make(chan wish), make(chan error, 1)
	go func() {
		for {
			w, err := recv()
			if err != nil {
				gone <- err
				return
			}
			select {
			case wishes <- w:
			case <-ctx.Done():
				return
			}
		}
	}()
	return wishes, gone
}

// push sends what n wants and does not have. Names that nobody serves stay
// unanswered, as the protocol has it.
func (s *sds) push(n *session, cur *svid) error {
	if cur == nil || len(n.wanted) == 0 {
		return nil
	}
	all, err := secretsOf(cur)
	if err != nil {
		s.log.Error("secrets not encoded", "error", err)
		return status.Error(codes.Internal, "the agent cannot encode its certificate")
	}
	for _, name := range n.wanted {
		content := s.certs.Get(name)
		if content == nil {
			continue
		}
		if all[name], err = encode(contentSecret(name, content)); err != nil {
			s.log.Error("certificate not encoded", "name", name, "error", err)
			delete(all, name) // the others are good
		}
	}
	for _, name := range n.wanted {
		s.addTrust(n, all, name, cur)
		if isRoots(name) {
			if x := s.roots.get(name); x != nil { // without any, Envoy refuses all connections that need them
				all[name] = *x
			}
		}
	}
	var changed []string
	for _, name := range n.wanted {
		if x, ok := all[name]; ok && n.sent[name] != x.version {
			changed = append(changed, name)
			n.sent[name] = x.version
		}
	}
	if len(changed) == 0 {
		return nil
	}
	count, _ := strconv.Atoi(n.nonce) // "" at first, which counts as 0
	n.nonce = strconv.Itoa(count + 1)
	s.stats.sdsPushes.Add(1)
	return n.send(n, all, changed)
}

func (n *session) apply(w wish) {
	if w.names != nil {
		if w.nonce == "" || w.nonce == n.nonce { // else an answer to something older
			maps.DeleteFunc(n.sent, func(name, _ string) bool { return !slices.Contains(w.names, name) })
			n.wanted = w.names
		}
		return
	}
	for _, name := range w.remove {
		n.wanted = slices.DeleteFunc(n.wanted, func(x string) bool { return x == name })
		delete(n.sent, name)
	}
	for _, name := range w.add {
		if !slices.Contains(n.wanted, name) {
			n.wanted = append(n.wanted, name)
		}
		delete(n.sent, name) // who asks again wants an answer
	}
	maps.Copy(n.sent, w.has)
}

// want tells the store which certificates of visitors the session asks for now.
func (n *session) want(certs *certstore.Store, names []string) {
	for name, done := range n.done {
		if !slices.Contains(names, name) {
			done()
			delete(n.done, name)
		}
	}
	for _, name := range names {
		if n.done[name] != nil {
			continue
		}
		if done, ok := certs.Want(name); ok {
			n.done[name] = done
		}
	}
}

func (s *sds) note(n *session, w wish) {
	if w.nack != "" {
		s.stats.sdsNacks.Add(1)
		for _, name := range n.wanted {
			s.certs.Refused(name, w.nack)
			_, n.closed[name] = certref.ParseTrust(name)
		}
		s.log.Error("envoy refused a secret", "names", n.wanted, "error", w.nack)
	}
	for _, name := range slices.Concat(w.names, w.add) {
		_, visitors := certref.Parse(name)
		_, trust := certref.ParseTrust(name)
		if name != SecretOwn && name != SecretRoots && !visitors && !trust && !isRoots(name) && !slices.Contains(n.wanted, name) {
			s.log.Warn("envoy asks for a secret that this agent does not have", "name", name)
		}
	}
}
