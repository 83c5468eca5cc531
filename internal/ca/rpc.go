package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"meshc.dev/meshc/internal/diag"
)

// The wire: service meshc.identity.v1.Identity with two unary methods. Messages
// are google.protobuf.Struct with text fields, so any gRPC client can speak it
// and the xDS server's own codec passes it on as an ordinary proto message.
//
//	Join  {token, csr} → {chain, bundle}     server-authenticated TLS
//	Renew {token, csr} → {chain, bundle}     mutual TLS with the present SVID
//
// The token is one of Tokens, or a pod's; only a pod's goes with Renew, too.
//
// csr, chain and bundle are PEM.
const (
	serviceName = "meshc.identity.v1.Identity"
	joinMethod  = "/" + serviceName + "/Join"
	renewMethod = "/" + serviceName + "/Renew"

	fieldToken  = "token"
	fieldCSR    = "csr"
	fieldChain  = "chain"
	fieldBundle = "bundle"
)

// Issued is what the authority answers.
type Issued struct {
	// Chain begins with the leaf.
	Chain []*x509.Certificate
	// Bundle is every root to trust from now on.
	Bundle []*x509.Certificate
}

// identityServer is the handler type that grpc checks at registration.
type identityServer interface {
	join(context.Context, *structpb.Struct) (*structpb.Struct, error)
	renew(context.Context, *structpb.Struct) (*structpb.Struct, error)
}

// Register puts Join and Renew on a gRPC server, which must use TLSConfig.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*identityServer)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Join", Handler: unary(joinMethod, s.join)},
			{MethodName: "Renew", Handler: unary(renewMethod, s.renew)},
		},
	}, s)
}

// unary does what generated stubs do: decode, then call through the interceptor.
func unary(method string, f func(context.Context, *structpb.Struct) (*structpb.Struct, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
		req := new(structpb.Struct)
		if err := within(ctx, func() error { return decode(req) }); err != nil {
			return nil, err
		}
		call := func(ctx context.Context, req any) (any, error) { return f(ctx, req.(*structpb.Struct)) }
		if in == nil {
			return call(ctx, req)
		}
		return in(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, call)
	}
}

// maxSilence is how long a caller may take to send its request.
const maxSilence = 10 * time.Second

// within gives up on a request that does not come: anybody may call Join, and
// gRPC would wait for ever. The goroutine ends with the call.
func within(ctx context.Context, decode func() error) error {
	done := make(chan error, 1)
	go func() { done <- decode() }()
	t := time.NewTimer(maxSilence)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-t.C:
		return status.Errorf(codes.DeadlineExceeded, "no request within %s", maxSilence)
	}
}

func message(fields map[string]string) *structpb.Struct {
	m := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(fields))}
	for k, v := range fields {
		m.Fields[k] = structpb.NewStringValue(v)
	}
	return m
}

// field is "" for a field that is missing or no text; callers refuse that.
func field(m *structpb.Struct, name string) string { return m.GetFields()[name].GetStringValue() }

// wireCode says how a problem travels. What is not listed is our own trouble.
func wireCode(c diag.Code) codes.Code {
	switch c {
	case diag.CodeTokenUnknown, diag.CodeTokenUsed, diag.CodeTokenExpired, diag.CodeNoCertificate, diag.CodeIdentityExpired, diag.CodePodToken:
		return codes.Unauthenticated
	case diag.CodeIdentityMismatch, diag.CodeIdentityDenied, diag.CodeIdentity:
		return codes.PermissionDenied
	case diag.CodeRequestRefused:
		return codes.InvalidArgument
	case diag.CodeTooManyRequests:
		return codes.ResourceExhausted
	case diag.CodeNotAttested, diag.CodeAuthorityUnsure:
		return codes.Unavailable
	}
	return codes.Internal
}

// toStatus turns a problem into a status whose text is "MESHnnnn: sentence",
// with the fix on a line of its own. A plain error never leaves the process.
func toStatus(err error) error {
	var l *diag.ListError
	if !errors.As(err, &l) || len(l.List) == 0 || wireCode(l.List[0].Code) == codes.Internal {
		return status.Error(codes.Internal, "the authority failed; its log says why")
	}
	d := l.List[0]
	text := string(d.Code) + ": " + d.Text
	if d.Fix != "" {
		text += "\nfix: " + d.Fix
	}
	return status.Error(wireCode(d.Code), text)
}

// StatusOf is toStatus for other services on the same server: the gRPC status
// of a problem that this package reported.
func StatusOf(err error) error { return toStatus(err) }

var codeRE = regexp.MustCompile(`^MESH[0-9]{4}$`)

// fromStatus is the inverse of toStatus; false if the status is no problem of ours.
func fromStatus(s *status.Status) (diag.Diagnostic, bool) {
	code, rest, ok := strings.Cut(s.Message(), ": ")
	if !ok || !codeRE.MatchString(code) {
		return diag.Diagnostic{}, false
	}
	text, fix, _ := strings.Cut(rest, "\nfix: ")
	return diag.New(diag.Code(code), diag.Pos{}, "%s", text).WithFix("%s", fix), true
}
