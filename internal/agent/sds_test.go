package agent

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

func decode(t *testing.T, a *anypb.Any) *tlsv3.Secret {
	t.Helper()
	s := new(tlsv3.Secret)
	if err := a.UnmarshalTo(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// checkOwn demands that certificate and key belong together and verify now.
func checkOwn(t *testing.T, s *tlsv3.Secret, p *plane) *x509.Certificate {
	t.Helper()
	c := s.GetTlsCertificate()
	pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, r := range p.a.Bundle().X509Authorities() {
		pool.AddCert(r)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestDeltaSDSPushesEveryCertificate(t *testing.T) {
	p := newPlane(t, 4*time.Second)
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	if info, err := os.Stat(r.cfg.SDSSocket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
	s, err := secretv3.NewSecretDiscoveryServiceClient(unix(t, r.cfg.SDSSocket)).DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: []string{SecretOwn, SecretRoots, "other"}}); err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for i := range 3 {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]*discoveryv3.Resource{}
		for _, x := range m.GetResources() {
			names[x.GetName()] = x
		}
		leaf := checkOwn(t, decode(t, names[SecretOwn].GetResource()), p)
		serials[leaf.SerialNumber.String()] = true
		if leaf.URIs[0].String() != "spiffe://mesh.local/ns/shop/sa/web" {
			t.Errorf("for %v", leaf.URIs)
		}
		// The roots did not change: they come once.
		if _, ok := names[SecretRoots]; ok != (i == 0) || names["other"] != nil {
			t.Errorf("response %d has %d secrets", i, len(names))
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: m.GetNonce()}); err != nil {
			t.Fatal(err)
		}
	}
	if len(serials) != 3 {
		t.Errorf("%d certificates in 3 pushes", len(serials))
	}
	// After a new root the bundle follows with the next renewal.
	if err := p.a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range m.GetResources() {
			if x.GetName() == SecretRoots {
				roots := decode(t, x.GetResource()).GetValidationContext().GetTrustedCa().GetInlineBytes()
				if !x509.NewCertPool().AppendCertsFromPEM(roots) || len(p.a.Fingerprints()) != 2 {
					t.Error("not two roots")
				}
				return
			}
		}
	}
}

func TestDeltaSDSSendsNothingThatIsKnown(t *testing.T) {
	p := newPlane(t, time.Hour)
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	client := secretv3.NewSecretDiscoveryServiceClient(unix(t, r.cfg.SDSSocket))
	ask := func(has map[string]string, names ...string) *discoveryv3.DeltaDiscoveryResponse {
		s, err := client.DeltaSecrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: names, InitialResourceVersions: has}); err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	own := ask(nil, SecretOwn).GetResources()[0]
	m := ask(map[string]string{SecretOwn: own.GetVersion()}, SecretOwn, SecretRoots)
	if len(m.GetResources()) != 1 || m.GetResources()[0].GetName() != SecretRoots {
		t.Errorf("sent again: %v", m.GetResources())
	}
}

func TestSotWSDS(t *testing.T) {
	p := newPlane(t, 4*time.Second)
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	s, err := secretv3.NewSecretDiscoveryServiceClient(unix(t, r.cfg.SDSSocket)).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := &discoveryv3.DiscoveryRequest{TypeUrl: secretType, ResourceNames: []string{SecretOwn}}
	var versions []string
	for i := range 3 {
		if err := s.Send(req); err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.GetResources()) != 1 {
			t.Fatalf("%d secrets", len(m.GetResources()))
		}
		checkOwn(t, decode(t, m.GetResources()[0]), p)
		versions = append(versions, m.GetVersionInfo())
		req = &discoveryv3.DiscoveryRequest{TypeUrl: secretType, ResourceNames: []string{SecretOwn}, ResponseNonce: m.GetNonce(), VersionInfo: m.GetVersionInfo()}
		if i == 1 { // a refusal is counted and not answered by the same again
			req.ErrorDetail = &rpcstatus.Status{Message: "not to my taste"}
		}
	}
	if versions[0] == versions[1] || versions[1] == versions[2] {
		t.Errorf("versions %v", versions)
	}
	eventually(t, "the refusal to be counted", func() error {
		if r.metric(t, "sds_refused_total") != 1 {
			return os.ErrNotExist
		}
		return nil
	})
}
