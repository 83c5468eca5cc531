//go:build grpcxds

// Built with the tag until go.mod has what gRPC's xDS client imports: cloud.google.com/go/compute/metadata.

package stream_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/xds"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// TestGRPCClient: an independent client, gRPC's own, finds a service through the
// server: listener, routes, cluster, endpoints; and follows a new release and a
// new address.
func TestGRPCClient(t *testing.T) {
	s := start(t, stream.Limits{})
	first, second := healthServer(t), healthServer(t)
	spec := func(cluster string) classSpec {
		return classSpec{class: shop, res: messages(
			&listenerv3.Listener{Name: "greeter", ApiListener: &listenerv3.ApiListener{ApiListener: boxed(t, hcm(t, "greeter", "r"))}},
			routes("r", cluster), edsCluster(cluster, time.Second),
		), live: []release.Endpoints{{Cluster: cluster, File: cluster}}}
	}
	s.addresses(t, "one", first.port)
	s.publish(t, "commit-1", seal(t, spec("one")))
	builder, err := xds.NewXDSResolverWithConfigForTesting(s.grpcBootstrap(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///greeter", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	first.answers(t, conn)
	s.addresses(t, "two", second.port)
	s.publish(t, "commit-2", seal(t, spec("two")))
	second.answers(t, conn)
	s.arrived(t, "commit-2", patience)
	s.addresses(t, "two", first.port)
	first.answers(t, conn)
}

type named struct {
	port int
	name string
}

// healthServer serves gRPC health, and has a service that only it knows.
func healthServer(t *testing.T) named {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := named{lis.Addr().(*net.TCPAddr).Port, lis.Addr().String()}
	h := health.NewServer()
	h.SetServingStatus(n.name, healthpb.HealthCheckResponse_SERVING)
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, h)
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	return n
}

// answers waits until calls reach this server.
func (n named) answers(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	eventually(t, patience, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: n.name}); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (s *server) grpcBootstrap(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	cert := s.ca.issue(shop.SPIFFEID(trustDomain))
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for name, block := range map[string]*pem.Block{
		"certificate_file":    {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"private_key_file":    {Type: "PRIVATE KEY", Bytes: key},
		"ca_certificate_file": {Type: "CERTIFICATE", Bytes: s.ca.Root.Raw},
	} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type m = map[string]any
	raw, err := json.Marshal(m{
		"xds_servers": []m{{"server_uri": s.addr, "channel_creds": []m{{"type": "tls", "config": files}}, "server_features": []string{"xds_v3"}}},
		"node":        m{"id": "grpc-client", "cluster": "mesh"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
