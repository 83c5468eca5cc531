// Package lua is the feature `lua` of services, gateways' hosts and gateways' routes: scripts that look at requests and
// answers, answer by themselves, and set headers that intent names.
//
// Envoy gives a script whatever its process may do. So a script runs within another one (guard.lua), which hands out
// the headers, the body and an answer, and nothing else: what intent says that a script may do is all that it can.
package lua

import (
	"cmp"
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
	name = "lua"
	// beforeAccess is the slot before denies, grants and authorizers.
	beforeAccess = "before-access"
	// longest is a script's length at most, in bytes.
	longest = 16 << 10
)

// Scripts are those of one carrier, sorted by name. Owners are no part of them: another one pushes nothing.
type Scripts struct {
	Of []Script `json:"of"`
	// Users are the headers by which providers of the mesh tell who the user is, sorted: no script gets to see them.
	Users []string `json:"users,omitempty"`
	// Visitors says that a gateway runs them.
	Visitors bool `json:"visitors,omitempty"`
}

// Script is one.
type Script struct {
	Name string `json:"name"`
	// Code is Lua, as in intent or in the file that it names.
	Code string `json:"code"`
	// Before says that it runs before denies, grants and authorizers.
	Before bool `json:"before,omitempty"`
	// Sets are the headers of requests that it may set, in lower case, sorted.
	Sets []string `json:"sets,omitempty"`
}

// TraitName is "lua".
func (Scripts) TraitName() string { return name }

// Image is what those behind get: whatever scripts may set, nobody knows before.
func (ss Scripts) Image() space.Image {
	var out space.Image
	for _, s := range ss.Of {
		out = out.Opened(s.Sets...)
	}
	return out
}

// MayAnswer is trait.Interposed: only the script knows which requests.
func (ss Scripts) MayAnswer(string) (string, bool) {
	for _, s := range ss.Of {
		if s.mayRespond() {
			return name + ": " + strconv.Quote(s.Name), false
		}
	}
	return "", false
}

// mayRespond reports whether a script has a word by which it could answer.
func (s Script) mayRespond() bool { return strings.Contains(s.Code, "respond") }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Holds: true,
		Defaults: []resolve.Default{{Field: "lua.slot", Value: "after-access", Why: "who may not come has no need of what a script says"},
			{Field: "lua.headers.sets", Value: "none", Why: "applications believe what proxies let through"}},
		Read: read, Fits: fits, Uses: nil,
	},
	Codec:      trait.JSON[Scripts],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost)).Needs(envoy.SlotUsers).Needs(envoy.SlotExtensions),
	Kubernetes: kubernetes.Nothing("the proxies run it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no code of users"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	out := Scripts{Users: x.ToldUsers(), Visitors: x.Gateway}
	if len(n.Fields()) > 0 && x.At == resolve.OnGatewayRoute && x.Attached() {
		x.Problem(diag.New(diag.CodeScript, n.Pos(), "the gateway is another package's, whose other visitors wait while a script runs").WithFix("run the script at your service"))
		return nil
	}
	taken := map[string]bool{} // headers, by one of them
	for _, e := range n.Fields() {
		s := Script{Name: e.Name, Before: e.Node.Field("slot").Str() == beforeAccess, Sets: x.MaySet("script", e, taken)}
		s.Code = code(e, x)
		out.Of = append(out.Of, s)
	}
	if len(out.Of) == 0 {
		return nil
	}
	slices.SortFunc(out.Of, func(a, b Script) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// code is what the script says, or the file of the repository that it names.
func code(e intent.Entry, x *resolve.Place) string {
	if x.OneOf(e.Node, "code", "file") == "" {
		return ""
	}
	text, at, ok := x.Text(e.Node, "code")
	if !ok {
		return ""
	}
	for _, m := range mistakes(text) {
		x.Problem(diag.New(diag.CodeScript, at.Pos(), "script %q: %s", e.Name, m.text).WithFix("%s", m.fix))
	}
	return text
}

// fits refuses headers that something else of the carrier sets as well.
func fits(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	x.SetsAlone("script", v.(Scripts), others, n)
}

// meaning: what a script says nobody knows; requests are told by which ones it sees.
func meaning(v trait.Value) []space.Act {
	ss := v.(Scripts)
	after := space.AtWorkload
	if ss.Visitors {
		after = space.AtAsking
	}
	fields := map[space.Station][]space.Field{}
	for _, s := range ss.Of {
		at, value := after, "runs "+canon.Fingerprint([]byte(s.Code))
		if s.Before {
			at, value = space.AtUsers, value+" before access"
		}
		if s.mayRespond() {
			value += space.MayAnswer
		}
		if len(s.Sets) > 0 {
			value += ", sets " + strings.Join(s.Sets, ", ")
		}
		fields[at] = append(fields[at], space.Field{Feature: name, Name: s.Name, Value: value})
	}
	return space.LabelsAt(fields)
}

// change: what a script does is not known, and neither is what becomes of requests without.
func change(before, after []space.Field) (plan.Class, string) {
	return plan.NotCompared, plan.Arrow("scripts", before, after)
}
