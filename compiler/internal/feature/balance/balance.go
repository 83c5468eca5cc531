// Package balance is the feature `balance` of services, their ports and externals: how a caller's
// proxy chooses one of the workloads that a request may go to.
package balance

import (
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

const name = "balance"

// Choice is how a workload is chosen.
type Choice string

// The choices.
const (
	RoundRobin   Choice = "round_robin"
	LeastRequest Choice = "least_request"
	Random       Choice = "random"
	Hash         Choice = "hash"
)

// Key is what of a request is hashed.
type Key string

// The keys. Source is the address from which the caller's proxy is called; a connection has no other.
const (
	Header Key = "header"
	Cookie Key = "cookie"
	Query  Key = "query"
	Source Key = "source"
)

// Balance is a choice.
type Balance struct {
	Choice Choice `json:"choice"`
	// By and Name are of Hash alone: the key, and what it is called; the Source has no name.
	By   Key    `json:"by,omitempty"`
	Name string `json:"name,omitempty"`
	// Maglev says that the hash is looked up in Maglev's table in place of a ring.
	Maglev bool `json:"maglev,omitempty"`
	// SlowStart is of RoundRobin and LeastRequest alone: for how long a new workload gets less
	// than its share. 0: not at all.
	SlowStart trait.Duration `json:"slow_start,omitempty"`
}

// TraitName is "balance".
func (Balance) TraitName() string { return name }

// ofRequests reports whether the choice needs a request, which connections do not have.
func (b Balance) ofRequests() bool { return b.Choice == Hash && b.By != Source }

// key is what is hashed, in words.
func (b Balance) key() string { return strings.TrimSpace(string(b.By) + " " + b.Name) }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "balance", On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true, Places: true,
		Defaults: []resolve.Default{
			{Field: "service.balance", Value: "leastRequest", Why: "a workload that is slow, or has much to do, gets less"},
			{Field: "service.balance.leastRequest.slowStart", Value: "none", Why: "where many come and go, those that are new would leave their part to the few others"},
			{Field: "balance.hash.table", Value: "a ring", Why: "fewer requests move when workloads come and go"},
		},
		Read: read, Fits: noSession, Uses: nil,
	},
	Codec:      trait.JSON[Balance],
	Meaning:    meaning,
	Change:     change,
	Envoy:      onEnvoy,
	Kubernetes: kubernetes.Nothing("the callers' proxies choose"),
	GatewayAPI: gatewayapi.Refuse("Gateway API leaves it to the implementation how one of a Service's endpoints is chosen"),
}

// read gives no value where nothing is written: then proxies choose as they do without a word.
func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	choices := map[string]Choice{"roundRobin": RoundRobin, "leastRequest": LeastRequest, "random": Random, "hash": Hash}
	word := x.OneOf(n, "roundRobin", "leastRequest", "random", "hash")
	b := Balance{Choice: choices[word]}
	if b.Choice == "" {
		return nil
	}
	if b.Choice == Hash {
		return readHash(b, n.Field("hash"), x)
	}
	b.SlowStart = window(n.Field(word).Field("slowStart").Field("window"), x)
	return b
}

// window reads how long a slow start is. Proxies count milliseconds, of which none is no slow start.
func window(n intent.Node, x *resolve.Place) trait.Duration {
	d := x.Duration(n, 0)
	if d != 0 && time.Duration(d) < time.Millisecond {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "a slow start of %s ends before it begins: proxies count milliseconds", d).
			WithFix("write 1ms or more, or delete `slowStart`"))
	}
	return d
}

func readHash(b Balance, n intent.Node, x *resolve.Place) trait.Value {
	key := x.OneOf(n, string(Header), string(Cookie), string(Query), string(Source))
	if key == "" {
		return nil
	}
	at := n.Field(key)
	b.By, b.Name, b.Maglev = Key(key), at.Str(), n.Field("table").Exists()
	if b.By == Header {
		b.Name = strings.ToLower(b.Name)
		if hop.Reserved(b.Name) || hop.OfConnection(b.Name) {
			x.Problem(diag.New(diag.CodeRange, at.Pos(), "header %q belongs to the proxies: they replace what a caller sends", b.Name).
				WithFix("hash a header of your own, or `source: true`"))
		}
	}
	if b.ofRequests() && x.OfBytes() && x.At != resolve.OnDefault {
		x.Problem(diag.New(diag.CodeProtocol, at.Pos(), "a hash of a %s is about requests, and connections have none", key).
			WithFix("write hash: source: true, or let the port say http, http2 or grpc"))
	}
	if b.ofRequests() && (x.OfBytes() || x.To.Name != "" && !x.To.Protocol.IsHTTP()) {
		return nil
	}
	return b
}

func meaning(v trait.Value) []space.Act {
	b := v.(Balance)
	var fields []space.Field
	say := func(what, value string) {
		fields = append(fields, space.Field{Feature: name, Name: what, Value: value})
	}
	switch b.Choice {
	case LeastRequest: // what everybody does: by itself it makes no difference
		if b.SlowStart != 0 {
			say("least request", "")
		}
	case Hash:
		say("hash of", b.key())
		if b.Maglev {
			say("table", "maglev")
		}
	default:
		say(strings.ReplaceAll(string(b.Choice), "_", " "), "")
	}
	if b.SlowStart != 0 {
		say("slow start", b.SlowStart.String())
	}
	return space.Labels(space.AtWorkload, fields...)
}

// change: whichever workload it is, it answers the same.
func change(before, after []space.Field) (plan.Class, string) {
	usual := []space.Field{{Feature: name, Name: "least request"}}
	for _, side := range []*[]space.Field{&before, &after} {
		if len(*side) == 0 {
			*side = slices.Clone(usual)
		}
	}
	return plan.Neutral, plan.Arrow("choice of workload", before, after)
}
