package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/upstream"
)

// Bounds of one ADS message. A full configuration of some thousand clusters
// is a few MiB; subscriptions are lists of names.
const (
	maxFromServer = 256 << 20
	maxFromEnvoy  = 32 << 20
)

const adsService = "envoy.service.discovery.v3.AggregatedDiscoveryService"

// relay carries ADS streams from Envoy to one of the servers.
type relay struct {
	servers []string
	clock   func() time.Time
	hold    *holder
	log     *slog.Logger
	stats   *stats
	// roots are those that the server may be signed by.
	roots func(*svid) ([]*x509.Certificate, error)
	known []*x509.Certificate // what roots gave last

	cur atomic.Pointer[link]
}

// link is the connection made with one certificate. When the certificate is
// replaced, ctx ends and with it every stream: Envoy comes back on the next
// link and says what it has, which costs two empty answers.
type link struct {
	conn *grpc.ClientConn
	ctx  context.Context //nolint:containedctx // ends the streams of this link; it is their parent and nothing else
	end  context.CancelFunc

	mu      sync.Mutex
	problem *diag.Diagnostic
}

// run keeps one link, with the present certificate, until ctx ends.
func (r *relay) run(ctx context.Context, next <-chan struct{}) error {
	for {
		select {
		case <-next:
		case <-ctx.Done():
			r.cur.Load().close()
			return nil
		}
		var err error
		if next, err = r.open(ctx); err != nil {
			return err
		}
	}
}

// open makes the connection with the present identity the one that new streams go by; next
// is closed when there is another identity.
func (r *relay) open(ctx context.Context) (next <-chan struct{}, err error) {
	s, next := r.hold.get()
	l, err := r.newLink(ctx, s)
	if err != nil {
		return nil, err
	}
	if old := r.cur.Swap(l); old != nil {
		old.close()
	}
	return next, nil
}

func (l *link) close() {
	l.end()
	_ = l.conn.Close()
}

func (r *relay) newLink(ctx context.Context, s *svid) (*link, error) {
	l := &link{}
	l.ctx, l.end = context.WithCancel(ctx)
	if roots, err := r.roots(s); err == nil {
		r.known = roots
	} else {
		r.log.Error("the server's roots cannot be read; those before count", "error", err)
	}
	trust := ca.Trust{TrustDomain: s.id.TrustDomain(), Roots: r.known, Certificate: s.tls(), Clock: r.clock}
	creds := trust.Credentials(func(d diag.Diagnostic) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.problem = &d
	})
	conn, err := upstream.Dial(r.servers, grpc.WithTransportCredentials(creds), grpc.WithDisableRetry(),
		// Longer than the five seconds that the server enforces at least.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxFromServer), grpc.MaxCallSendMsgSize(maxFromEnvoy)))
	if err != nil {
		l.end()
		return nil, err
	}
	l.conn = conn
	return l, nil
}

// newADSServer is the server on the ADS socket.
func (r *relay) newADSServer() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(maxFromEnvoy), grpc.MaxSendMsgSize(maxFromServer), enforcement())
	stream := func(name string) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: true, Handler: func(_ any, down grpc.ServerStream) error {
			return r.carry("/"+adsService+"/"+name, down)
		}}
	}
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: adsService, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{stream("DeltaAggregatedResources"), stream("StreamAggregatedResources")},
	}, r)
	return s
}

// enforcement allows the pings of Envoy, which the default of five minutes
// would answer by closing the connection.
func enforcement() grpc.ServerOption {
	return grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true})
}

// carry joins one stream of Envoy with one to a server. There is no waiting
// while all servers are away: Envoy must see that it is not connected.
func (r *relay) carry(method string, down grpc.ServerStream) error {
	l := r.cur.Load()
	if l == nil {
		return status.Error(codes.Unavailable, "the agent has no identity yet")
	}
	r.stats.adsStreams.Add(1)
	r.stats.adsActive.Add(1)
	defer r.stats.adsActive.Add(-1)
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()

	err := r.join(ctx, cancel, l, method, down)
	switch {
	case l.ctx.Err() != nil:
		return status.Error(codes.Unavailable, "the agent's certificate was replaced or the agent ends; connect again")
	case err != nil && down.Context().Err() == nil:
		r.stats.adsFailed.Add(1)
		err = l.explain(err)
		r.log.Warn("ads stream ended", "error", err)
	}
	return err
}

// explain adds what this side knows about a failed handshake; the status of
// the server passes unchanged.
func (l *link) explain(err error) error {
	s := status.Convert(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Code() == codes.Unavailable && l.problem != nil {
		return status.Error(codes.Unavailable, string(l.problem.Code)+": "+l.problem.Text)
	}
	return s.Err()
}

// join copies frames both ways, one at a time, so that a slow reader slows
// its writer. The upstream's end is the stream's end.
func (r *relay) join(ctx context.Context, cancel context.CancelFunc, l *link, method string, down grpc.ServerStream) error {
	up, err := l.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if at, ok := peer.FromContext(up.Context()); ok {
		r.log.Info("ads stream begun", "server", at.Addr.String())
	}
	go func() {
		err := pump(down, up, &r.stats.adsUpFrames, &r.stats.adsUpBytes)
		if errors.Is(err, io.EOF) { // Envoy has said its last word, or the server hung up and its own side tells why
			_ = up.CloseSend()
			return
		}
		cancel()
	}()
	err = pump(up, down, &r.stats.adsDownFrames, &r.stats.adsDownBytes)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// pipe is an end of a gRPC stream.
type pipe interface {
	SendMsg(any) error
	RecvMsg(any) error
}

// pump moves frames until one end fails, so its error is never nil; io.EOF is the
// regular end of from.
// to.SendMsg on a client stream also says io.EOF: the reason is at RecvMsg.
func pump(from, to pipe, frames, bytes *atomic.Int64) error {
	for {
		var f frame
		if err := from.RecvMsg(&f); err != nil {
			return err
		}
		frames.Add(1)
		bytes.Add(int64(f.data.Len()))
		if err := to.SendMsg(&f); err != nil {
			return err
		}
	}
}
