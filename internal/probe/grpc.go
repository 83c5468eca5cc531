package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcCall is gRPC's health protocol, in plaintext as the kubelet speaks it.
type grpcCall struct {
	Port    uint16 `json:"port"`
	Service string `json:"service"`
}

func (g *grpcCall) ask(ctx context.Context, at netip.Addr) error {
	address := netip.AddrPortFrom(at, g.Port).String()
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/meshc"),
		grpc.WithNoProxy(), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, address) }))
	if err != nil {
		return err
	}
	defer c.Close()
	x, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{Service: g.Service})
	if err != nil {
		return err
	}
	if x.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("service is %s", x.GetStatus())
	}
	return nil
}
