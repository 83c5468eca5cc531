package ca

import (
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/structpb"

	"meshc.dev/meshc/internal/diag"
)

// Service answers Join and Renew for an authority.
type Service struct {
	a      *Authority
	tokens *Tokens
	permit func(Identity) error
	log    *slog.Logger
	limit  *limiter
	// pods is nil if no pods may join; looking are those whose tokens are looked at.
	pods    Attestor
	looking room
}

// NewService joins an authority and its tokens. permit may refuse an identity
// (an account that lost its trust) by an error; nil permits all. The reason is
// logged here and not told to the client.
func NewService(a *Authority, t *Tokens, permit func(Identity) error, log *slog.Logger) *Service {
	return &Service{
		a: a, tokens: t, permit: permit, log: log,
		limit:   &limiter{clock: a.clock, buckets: map[netip.Prefix]bucket{}},
		looking: room{one: map[netip.Prefix]int{}},
	}
}

func (s *Service) join(ctx context.Context, in *structpb.Struct) (*structpb.Struct, error) {
	id, out, err := s.tryJoin(ctx, field(in, fieldToken), field(in, fieldCSR))
	return s.answer(ctx, "join", id, out, err)
}

// tryJoin signs before it spends the token: a request that is refused, or a
// signature that fails, costs no token. Losers of a race throw theirs away.
func (s *Service) tryJoin(ctx context.Context, token, csr string) (spiffeid.ID, Issued, error) {
	if err := s.admit(ctx); err != nil {
		return spiffeid.ID{}, Issued{}, err
	}
	if isPodToken(token) {
		return s.joinPod(ctx, token, csr)
	}
	id, err := s.tokens.check(ctx, token)
	if err != nil {
		return spiffeid.ID{}, Issued{}, err
	}
	line, err := newLineage()
	if err != nil {
		return id, Issued{}, err
	}
	out, err := s.sign(id, csr, line)
	if err != nil {
		return id, Issued{}, err
	}
	return id, out, s.tokens.use(ctx, token)
}

func (s *Service) renew(ctx context.Context, in *structpb.Struct) (*structpb.Struct, error) {
	id, out, err := s.tryRenew(ctx, field(in, fieldToken), field(in, fieldCSR))
	return s.answer(ctx, "renew", id, out, err)
}

func (s *Service) tryRenew(ctx context.Context, token, csr string) (spiffeid.ID, Issued, error) {
	if err := s.admit(ctx); err != nil {
		return spiffeid.ID{}, Issued{}, err
	}
	p, err := PeerFromContext(ctx)
	if err != nil {
		return spiffeid.ID{}, Issued{}, err
	}
	// The handshake may be long ago.
	if !s.a.clock().Before(p.NotAfter) {
		return p.ID, Issued{}, problem(diag.New(diag.CodeIdentityExpired, diag.Pos{}, "the certificate of %q has ended", p.ID).
			WithFix("join again with a new token"))
	}
	if !s.a.signed(peerChains(ctx)) {
		return p.ID, Issued{}, problem(diag.New(diag.CodeIdentity, diag.Pos{}, "the certificate of %q is another authority's, and is not renewed here", p.ID).
			WithFix("let whoever has given it renew it"))
	}
	line, ok := lineageOf(peerLeaf(ctx))
	if !ok { // it was signed before certificates had one
		if line, err = newLineage(); err != nil {
			return p.ID, Issued{}, err
		}
	}
	if err := s.checkRenewal(ctx, p.ID, line, token); err != nil {
		return p.ID, Issued{}, err
	}
	out, err := s.sign(p.ID, csr, line)
	return p.ID, out, err
}

func (s *Service) admit(ctx context.Context) error {
	if s.limit.allow(remote(ctx)) {
		return nil
	}
	return busy()
}

func busy() error {
	return problem(diag.New(diag.CodeTooManyRequests, diag.Pos{}, "too many requests from this address").
		WithFix("wait a second; the agent does so by itself"))
}

func (s *Service) sign(id spiffeid.ID, csr string, line lineage) (Issued, error) {
	who, err := IdentityOf(id)
	if err != nil {
		return Issued{}, err
	}
	if s.permit != nil {
		if err := s.permit(who); err != nil {
			s.log.Warn("identity denied", "identity", who.String(), "error", err)
			return Issued{}, problem(diag.New(diag.CodeIdentityDenied, diag.Pos{}, "%q gets no certificate", who).
				WithFix("ask the operator of the mesh"))
		}
	}
	if len(csr) > 2*maxCSR {
		return Issued{}, refused("%d bytes of PEM", len(csr))
	}
	block, rest := pem.Decode([]byte(csr))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return Issued{}, refused("not one PEM block of type CERTIFICATE REQUEST")
	}
	chain, err := s.a.sign(block.Bytes, id, s.a.ttl, line)
	if err != nil {
		return Issued{}, err
	}
	return Issued{Chain: chain, Bundle: s.a.Bundle().X509Authorities()}, nil
}

// answer logs one line per decision and encodes it.
func (s *Service) answer(ctx context.Context, what string, id spiffeid.ID, out Issued, err error) (*structpb.Struct, error) {
	if err != nil {
		var l *diag.ListError
		level := slog.LevelError
		if errors.As(err, &l) {
			level = slog.LevelWarn
			if l.List[0].Code == diag.CodeTooManyRequests {
				level = slog.LevelDebug // as many lines as anybody likes to cause
			}
		}
		s.log.Log(ctx, level, "certificate refused", "call", what, "id", id.String(), "remote", remote(ctx), "error", err)
		return nil, toStatus(err)
	}
	s.log.Info("certificate signed", "call", what, "id", id.String(), "remote", remote(ctx),
		"serial", out.Chain[0].SerialNumber.Text(16), "not_after", out.Chain[0].NotAfter)
	return message(map[string]string{
		fieldChain:  string(EncodeCertificates(out.Chain)),
		fieldBundle: string(EncodeCertificates(out.Bundle)),
	}), nil
}

func remote(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
