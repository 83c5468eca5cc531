package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/xds-server/internal/store"
)

// service is the gRPC face of a Hub.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	hub *Hub
}

// Register adds the aggregated discovery service to a server, which must have
// been made with the codec of package store and with mutual TLS.
func (h *Hub) Register(s grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, service{hub: h})
}

// request is what both protocols' requests have in common.
type request interface {
	proto.Message
	GetNode() *corev3.Node
}

// DeltaAggregatedResources serves Envoy.
func (s service) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return run(s.hub, g, store.Delta, g.Recv, (*session).delta)
}

// StreamAggregatedResources serves clients that know only the state of the world.
func (s service) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return run(s.hub, g, store.World, g.Recv, (*session).world)
}

// received is the result of a Recv.
type received[R request] struct {
	r   R
	err error
}

// run serves one stream until it ends.
func run[R request](h *Hub, g grpc.ServerStream, p store.Protocol, recv func() (R, error), take func(*session, R, time.Time) error) error {
	ctx := g.Context()
	c, err := h.admit(ctx)
	if err != nil {
		return err
	}
	defer c.class.streams.Add(-1)
	first, err := firstOf(ctx, h, recv)
	if err != nil {
		return err
	}
	c.class.quota.charge(arrivalTokens+tokensOf(first), steady())
	node := first.GetNode()
	if size := proto.Size(node); size > h.cfg.Limits.NodeBytes {
		h.cfg.Meter.Refused(reasonNodeSize)
		return status.Errorf(codes.ResourceExhausted, "the node's description has %d bytes, at most %d", size, h.cfg.Limits.NodeBytes)
	}
	s := newSession(h, c.class, p, c.client, label(node.GetId()), placeOf(node.GetLocality()))
	defer s.close()
	h.cfg.Meter.Connected(string(p), 1)
	defer h.cfg.Meter.Connected(string(p), -1)
	if err := take(s, first, steady()); err != nil {
		h.cfg.Meter.Refused(reasonLimits)
		return err
	}
	opening := s.effort()
	c.class.quota.charge(opening, steady())
	done := make(chan error, 1)
	go func() {
		pace := newPacer(h.cfg.Limits.RequestsPerSecond, requestBurst, steady())
		pace.take(opening, steady())
		for {
			r, err := recv()
			if err == nil {
				err = take(s, r, steady())
			}
			if err == nil {
				err = sleep(ctx, pace.take(tokensOf(r)+s.effort(), steady()))
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	return s.pump(ctx, g, done)
}

// pump sends until the stream ends. A slow client blocks only its own sender: it
// has one message in hand, and finds the newest state when it is ready for more.
// The handshake is long ago: at the end of the client's certificate its stream ends
// too.
func (s *session) pump(ctx context.Context, g grpc.ServerStream, done <-chan error) error {
	ended, denied := make(chan struct{}), s.class.end()
	defer s.hub.alarms.At(s.peer.until, func() { close(ended) })()
	for {
		m, wake, turn := s.next(steady())
		if m != nil {
			if err := g.SendMsg(m); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case err := <-done:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-s.hub.drained:
			return status.Error(codes.Unavailable, "the server ends")
		case <-ended:
			s.hub.cfg.Meter.Refused(reasonExpired)
			return status.Error(codes.Unauthenticated, "the client's certificate has ended")
		case <-denied:
			s.hub.cfg.Meter.Refused(reasonDenied)
			return status.Errorf(codes.PermissionDenied, "identity %q is denied: ask the operator of the mesh", s.peer.identity)
		case <-s.kick:
		case <-wake:
		case <-turn:
		}
	}
}

type admission struct {
	class  *class
	client client
}

// admit finds the class of the authenticated peer. While nothing is approved it
// waits: no answer leaves a proxy as it is, an error would make it come again.
func (h *Hub) admit(ctx context.Context) (admission, error) {
	who, err := clientOf(ctx, h.cfg.TrustDomain)
	if err != nil {
		h.cfg.Meter.Refused(reasonNoIdentity)
		return admission{}, status.Errorf(codes.PermissionDenied, "no resources without an identity: %v", err)
	}
	if err := h.permit(who.identity); err != nil {
		return admission{}, err
	}
	select {
	case <-h.first:
	case <-h.drained:
		return admission{}, status.Error(codes.Unavailable, "the server ends")
	case <-ctx.Done():
		return admission{}, status.FromContextError(ctx.Err()).Err()
	}
	id := who.identity
	c, ok := h.state.Load().byID[id]
	if !ok {
		h.cfg.Meter.Refused(reasonUnknownIdentity)
		return admission{}, status.Errorf(codes.PermissionDenied, "the approved release has no proxy class for identity %q", id)
	}
	if n := c.streams.Add(1); n > int64(h.cfg.Limits.StreamsPerIdentity) {
		c.streams.Add(-1)
		h.cfg.Meter.Refused(reasonTooManyStreams)
		return admission{}, status.Errorf(codes.ResourceExhausted, "identity %q has %d streams already", id, n-1)
	}
	if err := c.quota.admit(ctx, steady()); err != nil {
		c.streams.Add(-1)
		return admission{}, status.FromContextError(err).Err()
	}
	return admission{c, who}, nil
}

// firstOf waits for the first message, not for ever. The goroutine ends with the stream.
func firstOf[R request](ctx context.Context, h *Hub, recv func() (R, error)) (R, error) {
	ch := make(chan received[R], 1)
	go func() {
		r, err := recv()
		ch <- received[R]{r, err}
	}()
	t := time.NewTimer(h.cfg.Limits.FirstMessage)
	defer t.Stop()
	var none R
	select {
	case m := <-ch:
		if m.err != nil {
			return none, fmt.Errorf("receiving the first request: %w", m.err)
		}
		return m.r, nil
	case <-ctx.Done():
		return none, status.FromContextError(ctx.Err()).Err()
	case <-t.C:
		h.cfg.Meter.Refused(reasonSilent)
		return none, status.Errorf(codes.DeadlineExceeded, "no request within %s", h.cfg.Limits.FirstMessage)
	}
}
