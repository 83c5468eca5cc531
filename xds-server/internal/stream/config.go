package stream

import (
	"log/slog"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/view"
)

// Limits bound what one client can cost. A zero field means its default.
type Limits struct {
	// Names is how many names a client may subscribe to in one type, default 20,000.
	Names int
	// NameLength is the length of a name in bytes, default 1,024.
	NameLength int
	// NodeBytes is the size of a client's description of itself, default 256 KiB
	// (Envoy sends about 60 KiB of extension names).
	NodeBytes int
	// MessageBytes is the size of a request, default 4 MiB.
	MessageBytes int
	// RequestsPerSecond is how many requests of one stream are read, default 1,000
	// after a burst of twice that; 50 names, in the request or in the subscription
	// that it changes, count as one more, and so do 8 KiB.
	RequestsPerSecond int
	// SubscriptionBytes is what the distinct subscriptions of all streams of one
	// identity may take, default 256 MiB; a name costs some 200 bytes.
	SubscriptionBytes int
	// StreamsPerIdentity bounds the open streams of one identity, default 20,000.
	StreamsPerIdentity int
	// Ack is how long a proxy may take to confirm a response, default 5 s; Warming
	// is the same for clusters that wait for their endpoints, default 20 s.
	Ack, Warming time.Duration
	// FirstMessage is how long a stream may stay silent at its start, default 30 s.
	FirstMessage time.Duration
}

// WithDefaults fills the zero fields.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Names, 20_000}, {&l.NameLength, 1 << 10}, {&l.NodeBytes, 256 << 10},
		{&l.MessageBytes, 4 << 20}, {&l.StreamsPerIdentity, 20_000}, {&l.RequestsPerSecond, 1_000},
		{&l.SubscriptionBytes, 256 << 20},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Ack, 5 * time.Second}, {&l.Warming, 20 * time.Second},
		{&l.FirstMessage, 30 * time.Second},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}

// Config is what a Hub needs. Owner, Denied and Narrows may be nil.
type Config struct {
	// TrustDomain is the only one whose proxies are served.
	TrustDomain string
	Limits      Limits
	// Evidence is what proxies confirmed and refused, Bounds what follows from it; a
	// zero field of Bounds means its default.
	Evidence *evidence.Log
	Bounds   rollout.Bounds
	Ledger   *ledger.Ledger
	Meter    Meter
	Log      *slog.Logger
	Now      func() time.Time
	// Owner says who answers for a resource that is called name, by the release
	// that it is in; nil or "" if unknown.
	Owner func(r release.Release, name string) string
	// Denied says whose certificates count no longer, by SPIFFE ID; nil means nobody's.
	// After an error new streams are refused, open ones go on.
	Denied func() (map[string]bool, error)
	// Narrows says whether the newer release takes something away that the older one
	// gives: access above all. A class is not held at the older one then, nor after an
	// error. Nil means always. It may take seconds.
	Narrows func(older, newer release.Release) (bool, error)
}

// Meter counts. Its methods are called often, by many goroutines.
type Meter interface {
	// Connected is called with 1 and -1.
	Connected(protocol string, n int)
	// Refused counts streams that got no service, by reason.
	Refused(reason string)
	// Pushed counts a response of so many bytes.
	Pushed(t view.Type, bytes int)
	// Answered counts an answer, or that none came in time, after a while.
	Answered(t view.Type, s ledger.State, after time.Duration)
	// Held is called with the number of classes that are kept at an earlier release.
	Held(classes int)
	// Ignored is called with the number of endpoint sources that no cluster names,
	// and Unwanted counts changes that such sources made.
	Ignored(sources int)
	Unwanted(changes int)
}

// Why a stream gets no service, as Meter.Refused is told.
const (
	reasonDenied          = "denied"
	reasonNodeSize        = "node_size"
	reasonLimits          = "limits"
	reasonExpired         = "expired"
	reasonNoIdentity      = "no_identity"
	reasonUnknownIdentity = "unknown_identity"
	reasonTooManyStreams  = "too_many_streams"
	reasonSilent          = "silent"
)

// Reasons are all of them.
func Reasons() []string {
	return []string{reasonDenied, reasonNodeSize, reasonLimits, reasonExpired, reasonNoIdentity, reasonUnknownIdentity, reasonTooManyStreams, reasonSilent}
}
