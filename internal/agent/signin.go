package agent

import (
	"context"
	"encoding/base64"
	"net/url"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/certstore"
)

// signin answers what Envoy asks about the keys and passwords of users, on the socket that has its secrets. Envoy has filters
// of its own for both, but their configuration holds the secrets, which its admin page shows.
type signin struct {
	authv3.UnimplementedAuthorizationServer
	certs *certstore.Store

	mu     sync.Mutex
	wanted map[string]bool // until the agent ends: what a release names
}

// firstRead is how long the first request about a name waits for what lies there.
const firstRead = 500 * time.Millisecond

// Check answers 401 to whoever shows nothing right. A question that cannot be read is refused the same way.
func (s *signin) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	var asked []string
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		asked = md.Get(certref.AskHeader)
	}
	if len(asked) != 1 {
		return refused(certref.Ask{}), nil
	}
	ask, ref, err := certref.ParseAsk(asked[0])
	if err != nil {
		return refused(ask), nil
	}
	shown, ok := shows(ask, ref.Kind, r.GetAttributes().GetRequest().GetHttp())
	if !ok {
		if ask.Optional {
			return admitted(ask, ""), nil
		}
		return refused(ask), nil
	}
	accounts, _ := s.accounts(ctx, ask.Ref).(*certstore.Accounts)
	if accounts == nil {
		return refused(ask), nil
	}
	if ref.Kind == certref.Keys {
		if user, ok := accounts.ByKey(shown); ok {
			return admitted(ask, user), nil
		}
		return refused(ask), nil
	}
	plain, err := base64.StdEncoding.DecodeString(shown)
	if user, password, ok := strings.Cut(string(plain), ":"); err == nil && ok && accounts.ByPassword(ctx.Done(), user, password) {
		return admitted(ask, user), nil
	}
	return refused(ask), nil
}

// accounts are those of a name. The first time it is asked for they are waited for.
func (s *signin) accounts(ctx context.Context, name string) certstore.Content {
	s.mu.Lock()
	first := !s.wanted[name]
	if first {
		s.certs.Want(name)
		s.wanted[name] = true
	}
	s.mu.Unlock()
	limit := time.NewTimer(firstRead)
	defer limit.Stop()
	for {
		bell := s.certs.Bell()
		if c := s.certs.Get(name); c != nil || !first {
			return c
		}
		select {
		case <-bell:
		case <-limit.C:
			return s.certs.Get(name)
		case <-ctx.Done():
			return nil
		}
	}
}

// shows is what a request shows where it is looked for; ok is false for nothing at all.
func shows(ask certref.Ask, kind certref.Kind, r *authv3.AttributeContext_HttpRequest) (string, bool) {
	if ask.Query != "" {
		_, query, _ := strings.Cut(r.GetPath(), "?")
		query, _, _ = strings.Cut(query, "#")
		found, is := "", 0
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if plain, err := url.PathUnescape(name); err == nil {
				name = plain
			}
			if name == ask.Query {
				found, is = value, is+1
			}
		}
		if plain, err := url.PathUnescape(found); err == nil {
			found = plain
		}
		if is > 1 {
			return "", true // two are none
		}
		return found, is > 0
	}
	value, ok := r.GetHeaders()[ask.Header]
	if kind != certref.Passwords {
		return value, ok
	}
	const scheme = "basic "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(value[len(scheme):], " "), true
}

func admitted(ask certref.Ask, user string) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{}
	if !ask.Forward && user != "" {
		if ask.Query != "" {
			ok.QueryParametersToRemove = []string{ask.Query}
		} else {
			ok.HeadersToRemove = []string{ask.Header}
		}
	}
	if ask.Name != "" && user != "" {
		ok.Headers = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: ask.Name, Value: user}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}}
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.OK)}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func refused(ask certref.Ask) *authv3.CheckResponse {
	no := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}}
	if ask.Realm != "" {
		no.Headers = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "www-authenticate", Value: `Basic realm="` + ask.Realm + `", charset="UTF-8"`}}}
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.Unauthenticated)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: no}}
}
