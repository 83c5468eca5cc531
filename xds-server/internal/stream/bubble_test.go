package stream_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/test/bufconn"

	"meshc.dev/meshc/xds-server/internal/stream"
)

// inBubble runs a test with a server on fake time: real gRPC and TLS over memory,
// and an hour passes in no time.
func inBubble(t *testing.T, l stream.Limits, test func(t *testing.T, s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, startInMemory(t, l))
	})
}

func startInMemory(t *testing.T, l stream.Limits) *server {
	t.Helper()
	lis := bufconn.Listen(64 << 10)
	s := serve(t, lis, l)
	s.dial = func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
	return s
}
