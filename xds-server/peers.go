package xdsserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/rollout"
)

// Peers are the other servers of an environment, with which evidence is exchanged.
type Peers struct {
	// Addresses are theirs, "host:port"; empty means that only others ask.
	Addresses []string
	// TLS is the client's side of mutual TLS to them.
	TLS *tls.Config
	// Check reports whether a call is made by one of them. Nil refuses all.
	Check func(context.Context) error
}

// The wire: service meshc.evidence.v1.Evidence with one unary method, whose messages
// are google.protobuf.BytesValue with an exchange as JSON. Each side gives what has
// changed since the other heard last; a fact is taken once, however often it comes.
const (
	evidenceService = "meshc.evidence.v1.Evidence"
	exchangeMethod  = "/" + evidenceService + "/Exchange"
	// exchangeEvery is how often a peer is asked, exchangeSize how many receipts one
	// message has at most: with 4 KiB of text each they fit.
	exchangeEvery = time.Second
	exchangeSize  = 400
)

// exchange is a message of either side.
type exchange struct {
	// Server names the run of the sender: counts of another run mean nothing.
	Server string `json:"server"`
	// For is the run of the receiver that Since counts in, "" if it is not known.
	For string `json:"for,omitempty"`
	// Since is the last change that the sender has heard of.
	Since uint64 `json:"since"`
	// UpTo is the change up to which Receipts are complete.
	UpTo     uint64             `json:"up_to"`
	Receipts []evidence.Receipt `json:"receipts,omitempty"`
	// Serves is what the sender serves, nil if nothing.
	Serves *served `json:"serves,omitempty"`
}

// served is what a server serves.
type served struct {
	Environment string           `json:"environment"`
	Commit      string           `json:"commit"`
	Position    rollout.Position `json:"position"`
}

// heard is what another server said that it serves.
type heard struct {
	served
	at time.Time
}

// forgetAfter is how long what a server said counts: one that has gone holds nobody back.
const forgetAfter = 5 * exchangeEvery

// exchanger is the service, and the client of others'.
type exchanger struct {
	peers Peers
	facts *evidence.Log
	log   *slog.Logger
	run   string
	// serves is what this server serves, nil if nothing; now tells the time.
	serves func() *served
	now    func() time.Time

	mu      sync.Mutex
	others  map[string]heard // by run
	unasked int              // addresses that were not asked yet, since the start
}

func newExchanger(p Peers, facts *evidence.Log, log *slog.Logger, now func() time.Time, serves func() *served) *exchanger {
	return &exchanger{peers: p, facts: facts, log: log, run: rand.Text(), serves: serves, now: now, others: map[string]heard{}, unasked: len(p.Addresses)}
}

// hear notes what another server serves.
func (e *exchanger) hear(said exchange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	maps.DeleteFunc(e.others, func(_ string, h heard) bool { return now.Sub(h.at).Abs() > forgetAfter })
	if said.Serves != nil && said.Server != e.run {
		e.others[said.Server] = heard{*said.Serves, now}
	}
}

// asked notes that an address was asked for the first time, whether or not it answered.
func (e *exchanger) asked() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unasked--
}

// ready says why clients should ask another server, nil if they need not: one that starts
// does not know yet how late it is.
func (e *exchanger) ready() error {
	e.mu.Lock()
	waits := e.unasked > 0
	e.mu.Unlock()
	if waits {
		return errors.New("the other servers have not been asked yet what they serve")
	}
	if ahead := e.behind(); ahead != nil {
		return fmt.Errorf("another server serves a later commit, %.12s", ahead.Commit)
	}
	return nil
}

// behind is the latest that another server serves, nil if this one has it as well.
func (e *exchanger) behind() *served {
	var found *served
	mine, now := e.serves(), e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.others {
		later := mine != nil && h.Environment == mine.Environment && h.Position.Compare(mine.Position) > 0
		if later && now.Sub(h.at).Abs() <= forgetAfter && (found == nil || h.Position.Compare(found.Position) > 0) {
			found = &h.served
		}
	}
	return found
}

type evidenceServer interface {
	answer(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
}

func (e *exchanger) register(r grpc.ServiceRegistrar) {
	handler := func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		// Who may not call is not listened to.
		if err := e.check(ctx); err != nil {
			return nil, err
		}
		in := new(wrapperspb.BytesValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		s, _ := srv.(evidenceServer)
		return s.answer(ctx, in)
	}
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: evidenceService, HandlerType: (*evidenceServer)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Exchange", Handler: handler}},
	}, e)
}

func (e *exchanger) check(ctx context.Context) error {
	if e.peers.Check == nil {
		return status.Error(codes.PermissionDenied, "this server exchanges no evidence")
	}
	if err := e.peers.Check(ctx); err != nil {
		return status.Errorf(codes.PermissionDenied, "evidence is exchanged between servers only: %v", err)
	}
	return nil
}

func (e *exchanger) answer(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	var q exchange
	if err := json.Unmarshal(in.GetValue(), &q); err != nil {
		return nil, status.Error(codes.InvalidArgument, "not an exchange")
	}
	e.facts.Merge(q.Receipts)
	e.hear(q)
	if q.For != e.run {
		q.Since = 0
	}
	a := exchange{Server: e.run, Serves: e.serves()}
	a.Receipts, a.UpTo = e.facts.Since(q.Since, exchangeSize)
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("answering a peer: %w", err)
	}
	return wrapperspb.Bytes(raw), nil
}

// exchangeAll asks every peer now and then, until ctx ends.
func (e *exchanger) exchangeAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, address := range e.peers.Addresses {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(e.peers.TLS)), grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
		if err != nil {
			return fmt.Errorf("peer %q: %w", address, err)
		}
		g.Go(func() error {
			defer conn.Close()
			e.follow(ctx, address, conn)
			return nil
		})
	}
	return g.Wait()
}

// follow keeps up with one peer. Whatever is wrong with it is told once.
func (e *exchanger) follow(ctx context.Context, address string, conn *grpc.ClientConn) {
	var before, told exchange // what it said last, and what it was told last
	failed := false
	for first := true; ; first = false {
		more, err := e.ask(ctx, conn, &before, &told)
		if first {
			e.asked()
		}
		if bad := err != nil; bad != failed && ctx.Err() == nil {
			if failed = bad; bad {
				e.log.Warn("evidence not exchanged", slog.String("code", string(diag.CodePeer)), slog.String("peer", address), slog.Any("error", err),
					slog.String("fix", "check that a server of this authority runs at the address; until then each decides from what it knows"))
			} else {
				e.log.Info("evidence exchanged", slog.String("peer", address))
			}
		}
		wait := exchangeEvery
		if more && err == nil {
			wait = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ask makes one exchange, and tells whether either side has more.
func (e *exchanger) ask(ctx context.Context, conn *grpc.ClientConn, before, told *exchange) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q := exchange{Server: e.run, For: before.Server, Since: before.UpTo, Serves: e.serves()}
	q.Receipts, q.UpTo = e.facts.Since(told.UpTo, exchangeSize)
	raw, err := json.Marshal(q)
	if err != nil {
		return false, err
	}
	out := new(wrapperspb.BytesValue)
	if err := conn.Invoke(ctx, exchangeMethod, wrapperspb.Bytes(raw), out); err != nil {
		return false, err
	}
	var a exchange
	if err := json.Unmarshal(out.GetValue(), &a); err != nil {
		return false, err
	}
	if told.UpTo = q.UpTo; before.Server != "" && a.Server != before.Server {
		told.UpTo = 0 // it forgot, or is another one
	}
	e.hear(a)
	*before = exchange{Server: a.Server, UpTo: a.UpTo}
	e.facts.Merge(a.Receipts)
	return len(a.Receipts) == exchangeSize || len(q.Receipts) == exchangeSize, nil
}
