package upstream

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"meshc.dev/meshc/internal/freeport"
)

// server answers every call and counts.
type server struct {
	*grpc.Server
	addr  string
	calls atomic.Int64
}

// newServer starts one at a port that nobody takes while it is away.
func newServer(t *testing.T) *server {
	t.Helper()
	at, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, at)
}

func serve(t *testing.T, at string) *server {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	s.Server = grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		s.calls.Add(1)
		return status.Error(codes.Unimplemented, s.addr)
	}))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s
}

func dial(t *testing.T, servers ...string) *grpc.ClientConn {
	t.Helper()
	c, err := Dial(servers, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask returns the address of the server that answers, or the error.
func ask(t *testing.T, c *grpc.ClientConn, wait bool) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Invoke(ctx, "/a/b", &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(wait))
	if s := status.Convert(err); s.Code() == codes.Unimplemented {
		return s.Message(), nil
	}
	return "", err
}

// mustAsk asks again what was lost with a connection that broke.
func mustAsk(t *testing.T, c *grpc.ClientConn) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		at, err := ask(t, c, true)
		if err == nil {
			return at
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestTheNextTakesOver: one server is asked until it ends, then the other one, also after the
// first is back.
func TestTheNextTakesOver(t *testing.T) {
	both := map[string]*server{}
	for range 2 {
		s := newServer(t)
		both[s.addr] = s
	}
	var list []string
	for at := range both {
		list = append(list, at)
	}
	c := dial(t, list...)
	for range 3 {
		at := mustAsk(t, c)
		from := both[at].calls.Load()
		for range 50 {
			if again := mustAsk(t, c); again != at {
				t.Fatalf("%s was asked beside %s", again, at)
			}
		}
		if n := both[at].calls.Load() - from; n != 50 {
			t.Errorf("%d of 50 calls", n)
		}
		both[at].Stop()
		next := mustAsk(t, c)
		if next == at {
			t.Fatal("a server that is gone answers")
		}
		both[at] = serve(t, at)
		if again := mustAsk(t, c); again != next {
			t.Errorf("a connection that stands was left for %s", again)
		}
	}
}

// TestASilentServerIsLeft: one that takes connections and says nothing.
func TestASilentServerIsLeft(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := newServer(t)
	for range 12 { // half of them begin with the silent one
		if at := mustAsk(t, dial(t, silent.Addr().String(), good.addr)); at != good.addr {
			t.Fatal(at)
		}
	}
}

func TestClientsSpread(t *testing.T) {
	a, b := newServer(t), newServer(t)
	for range 40 {
		mustAsk(t, dial(t, a.addr, b.addr))
	}
	if a.calls.Load() == 0 || b.calls.Load() == 0 {
		t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
	}
}

func TestANameThatNobodyKnows(t *testing.T) {
	good := newServer(t)
	const nobody = "nobody.invalid:1"
	if at := mustAsk(t, dial(t, nobody, good.addr)); at != good.addr {
		t.Error(at)
	}
	_, err := ask(t, dial(t, nobody), false)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), nobody) {
		t.Errorf("the error is %v", err)
	}
	if _, err := Dial(nil); err == nil {
		t.Error("a connection to nobody")
	}
}

// TestWithoutAnyServer: a call does not wait for one, and the first that comes back is found.
func TestWithoutAnyServer(t *testing.T) {
	a, b := newServer(t), newServer(t)
	c := dial(t, a.addr, b.addr)
	a.Stop()
	b.Stop()
	if _, err := ask(t, c, false); status.Code(err) != codes.Unavailable {
		t.Fatalf("the error is %v", err)
	}
	serve(t, b.addr)
	if at := mustAsk(t, c); at != b.addr {
		t.Error(at)
	}
}
