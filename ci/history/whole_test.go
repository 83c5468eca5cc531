package history_test

import (
	"context"
	"maps"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshc.dev/meshc/ci/history"
	"meshc.dev/meshc/compiler/release"
)

// whole is a stream of the state-of-the-world protocol, as Envoy speaks it: lists of
// clusters and listeners are whole, and what they lack is gone.
type whole struct {
	p      *proxy
	st     discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	nonces [4]string
	asked  [4][]string // names of endpoints and route tables
}

func (p *proxy) wholeSession(ctx context.Context, conn *grpc.ClientConn, server string) {
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return
	}
	p.w.record(history.Event{Kind: history.Open, Proxy: p.name, Class: p.class.String(), Server: server})
	s := &whole{p: p, st: st}
	for t := range release.Types() {
		s.asked[t] = p.wanted(history.Type(t))
		if named(history.Type(t)) && len(s.asked[t]) == 0 {
			continue
		}
		if s.say(history.Type(t), nil) != nil {
			return
		}
	}
	for {
		r, err := st.Recv()
		if err != nil || s.take(r) != nil {
			return
		}
	}
}

// named tells whether resources of the type are asked for by name.
func named(t history.Type) bool { return t == history.Endpoints || t == history.Routes }

// say gives the names and the version of a type, with the last nonce: an answer, or
// other names.
func (s *whole) say(t history.Type, refused *rpcstatus.Status) error {
	r := &discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: s.p.name}, TypeUrl: release.Types()[t], VersionInfo: s.p.versions[t], ResponseNonce: s.nonces[t], ErrorDetail: refused,
	}
	if named(t) {
		r.ResourceNames = s.asked[t]
	}
	return s.st.Send(r)
}

func (s *whole) take(r *discoveryv3.DiscoveryResponse) error {
	p, t := s.p, history.Type(slices.Index(release.Types(), r.GetTypeUrl()))
	e := history.Event{Kind: history.Take, Proxy: p.name, Type: t, Nonce: t.String() + r.GetNonce()}
	next := map[string]item{}
	for _, boxed := range r.GetResources() {
		got, err := p.w.known.read(boxed)
		if err != nil {
			return err
		}
		next[got.Name], e.Resources = item{Resource: got}, append(e.Resources, got)
	}
	for name, it := range p.held[t] {
		switch _, there := next[name]; {
		case there:
		case named(t):
			next[name] = it
		default:
			e.Removed = append(e.Removed, name)
		}
	}
	p.w.record(e)
	if p.rng.IntN(4) == 0 {
		time.Sleep(time.Duration(p.rng.IntN(3000)) * time.Microsecond)
	}
	s.nonces[t] = r.GetNonce()
	bad := p.naughty && p.w.faults.Load() && slices.ContainsFunc(e.Resources, func(r history.Resource) bool { return p.dislikes(item{Resource: r}) })
	e.Kind, e.Resources, e.Removed = history.Confirm, nil, nil
	if bad {
		e.Kind = history.Refuse
		p.w.record(e)
		return s.say(t, &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: "not this one"})
	}
	p.w.record(e)
	p.held[t], p.versions[t] = next, r.GetVersionInfo()
	for _, t := range []history.Type{history.Endpoints, history.Routes} {
		if err := s.follow(t); err != nil {
			return err
		}
	}
	return s.say(t, nil)
}

// follow asks for the names that the proxy wants now, if they are others than before.
func (s *whole) follow(t history.Type) error {
	now := s.p.wanted(t)
	if slices.Equal(now, s.asked[t]) {
		return nil
	}
	s.asked[t] = now
	gone := slices.DeleteFunc(slices.Sorted(maps.Keys(s.p.held[t])), func(n string) bool { return slices.Contains(now, n) })
	if len(gone) > 0 {
		s.p.w.record(history.Event{Kind: history.Drop, Proxy: s.p.name, Type: t, Removed: gone})
		maps.DeleteFunc(s.p.held[t], func(n string, _ item) bool { return slices.Contains(gone, n) })
	}
	return s.say(t, nil)
}
