// Package wasm is the feature `wasm` of services, gateways' hosts and gateways' routes: modules of others that look at the
// headers of requests and answers, answer by themselves, and set headers that intent names.
//
// Envoy bounds which functions of the ABI a module has, and not what it does by them. So a module stands between two
// scripts (guard.lua), that keep what came and put it back: what intent says that a module may set is all that is left of it.
package wasm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "wasm"
	// beforeAccess is the slot before denies, grants and authorizers.
	beforeAccess = "before-access"
	// longestOfGateway is a module's length at most at a gateway, whose routes each carry their own, in bytes.
	longestOfGateway = 256 << 10
	// around is about how long the scripts before and behind a module are, with what it is allowed, in bytes.
	around = 10 << 10
)

// Modules are those of one carrier, sorted by name. Owners are no part of them: another one pushes nothing.
type Modules struct {
	Of []Module `json:"of"`
	// Users are the headers by which providers of the mesh tell who the user is, sorted: no module gets to see them.
	Users []string `json:"users,omitempty"`
	// Visitors says that a gateway runs them.
	Visitors bool `json:"visitors,omitempty"`
	// At is the carrier's path: what modules keep and break is theirs alone.
	At string `json:"at"`
}

// Module is one.
type Module struct {
	Name string `json:"name"`
	// Code is WebAssembly, as in the file that intent names.
	Code []byte `json:"code"`
	// Config is what it gets, as JSON; nil for nothing.
	Config json.RawMessage `json:"config,omitempty"`
	// Refuse says that requests are refused while it has failed.
	Refuse bool `json:"refuse,omitempty"`
	// Before says that it runs before denies, grants and authorizers.
	Before bool `json:"before,omitempty"`
	// Sets are the headers of requests that it may set, in lower case, sorted.
	Sets []string `json:"sets,omitempty"`
}

// TraitName is "wasm".
func (Modules) TraitName() string { return name }

// Image is what those behind get: whatever modules may set, nobody knows before.
func (ms Modules) Image() space.Image {
	var out space.Image
	for _, m := range ms.Of {
		out = out.Opened(m.Sets...)
	}
	return out
}

// Bytes are those of all modules, each with what stands around it.
func (ms Modules) Bytes() int {
	n := 0
	for _, m := range ms.Of {
		n += len(m.Code) + len(m.Config) + around
	}
	return n
}

// Machines are the names of V8's, one of each module of the carrier.
func (ms Modules) Machines() []string {
	var out []string
	for _, m := range ms.Of {
		out = append(out, m.machine(ms.At))
	}
	return out
}

// MayAnswer is trait.Interposed: only the module knows which requests.
func (ms Modules) MayAnswer(string) (string, bool) {
	return name + ": " + strconv.Quote(ms.Of[0].Name), false
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Holds: true,
		Defaults: []resolve.Default{{Field: "wasm.slot", Value: "after-access", Why: "who may not come has no need of what a module says"},
			{Field: "wasm.headers.sets", Value: "none", Why: "applications believe what proxies let through"}},
		Read: read, Fits: fits, Uses: nil,
	},
	Codec:      trait.JSON[Modules],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost)).Needs(envoy.SlotUsers).Needs(envoy.SlotExtensions),
	Kubernetes: kubernetes.Nothing("the proxies run it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no code of users"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	out := Modules{Users: x.ToldUsers(), Visitors: x.Gateway, At: x.Home()}
	if len(n.Fields()) > 0 && x.At == resolve.OnGatewayRoute && x.Attached() {
		x.Problem(diag.New(diag.CodeWasm, n.Pos(), "the gateway is another package's, whose other visitors wait while a module runs").WithFix("run the module at your service"))
		return nil
	}
	taken := map[string]bool{} // headers, by one of them
	for _, e := range n.Fields() {
		m := Module{Name: e.Name, Before: e.Node.Field("slot").Str() == beforeAccess, Refuse: e.Node.Field("onFailure").Str() == "refuse", Sets: x.MaySet("module", e, taken)}
		m.Code, m.Config = code(e, x), config(e, x)
		out.Of = append(out.Of, m)
	}
	if len(out.Of) == 0 {
		return nil
	}
	slices.SortFunc(out.Of, func(a, b Module) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// code is the file that a module names, which has to be the one of its digest.
func code(e intent.Entry, x *resolve.Place) []byte {
	file, digest := e.Node.Field("file"), e.Node.Field("digest")
	b, ok := x.Bytes(file)
	if !ok {
		return nil
	}
	if is := canon.Digest(b); is != digest.Str() {
		x.Problem(diag.New(diag.CodeWasm, digest.Pos(), "module %q is another one: %s has the SHA-256 %s", e.Name, file.Str(), is).
			WithFix("look at what the file has become; if it is meant, write digest: %q", is))
		return nil
	}
	if x.Gateway && len(b) > longestOfGateway {
		x.Problem(diag.New(diag.CodeWasm, file.Pos(), "module %q is %d bytes long, of %d at most at a gateway, whose routes each carry it", e.Name, len(b), longestOfGateway).
			WithFix("build it for size, or run it at the service behind"))
		return nil
	}
	if why, fix := mistake(b); why != "" {
		x.Problem(diag.New(diag.CodeWasm, file.Pos(), "module %q: %s", e.Name, why).WithFix("%s", fix))
		return nil
	}
	return b
}

func config(e intent.Entry, x *resolve.Place) json.RawMessage {
	n := e.Node.Field("config")
	if !n.Exists() {
		return nil
	}
	raw, err := n.JSON()
	if err == nil {
		raw, err = compact(raw)
	}
	if err != nil {
		x.Problem(diag.New(diag.CodeWasm, n.Pos(), "module %q: its configuration is no JSON: %v", e.Name, err).WithFix("write values that are known"))
		return nil
	}
	return raw
}

// compact is JSON in its one spelling, on one line.
func compact(raw json.RawMessage) (json.RawMessage, error) {
	text, err := canon.Reformat(raw)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, text)
	return out.Bytes(), err
}

// fits refuses headers that something else of the carrier sets as well.
func fits(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	x.SetsAlone("module", v.(Modules), others, n)
}

// meaning: what a module says nobody knows; requests are told by which ones it sees.
func meaning(v trait.Value) []space.Act {
	ms := v.(Modules)
	after := space.AtWorkload
	if ms.Visitors {
		after = space.AtAsking
	}
	fields := map[space.Station][]space.Field{}
	for _, m := range ms.Of {
		at, value := after, "runs "+canon.Fingerprint(m.Code)
		if m.Before {
			at, value = space.AtUsers, value+" before access"
		}
		if m.Config != nil {
			text, err := compact(m.Config) // it may have been read from a document since
			if err != nil {
				text = m.Config
			}
			value += " with " + canon.Fingerprint(text)
		}
		if bytes.Contains(m.Code, []byte("proxy_send_local_response")) {
			value += space.MayAnswer
		}
		if len(m.Sets) > 0 {
			value += ", sets " + strings.Join(m.Sets, ", ")
		}
		away := "admitted"
		if m.Refuse {
			away = "refused"
		}
		fields[at] = append(fields[at], space.Field{Feature: name, Name: m.Name, Value: value},
			space.Field{Feature: name, Name: m.Name + " while it has failed", Value: away})
	}
	return space.LabelsAt(fields)
}

// change: what a module does is not known, and neither is what becomes of requests without.
func change(before, after []space.Field) (plan.Class, string) {
	return plan.NotCompared, plan.Arrow("modules", before, after)
}
