// Package process is the feature `process` of services, gateways' hosts and gateways' routes: services of the mesh that
// look at requests and answers, change bodies and the headers that intent names, and may answer themselves.
package process

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "process"
	// give is the method by which a proxy gives what passes it.
	give = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
	// beforeAccess is the slot before denies, grants and authorizers.
	beforeAccess = "before-access"
	// usual is how long a part waits if nobody says it: what Envoy takes.
	usual = 200 * time.Millisecond

	requestHeaders, requestBody, responseHeaders, responseBody, responseTrailers = "requestHeaders", "requestBody", "responseHeaders", "responseBody", "responseTrailers"
)

// Processors are those of one carrier, sorted by name. Owners are no part of them: another one pushes nothing.
type Processors struct {
	Of []Processor `json:"of"`
	// Visitors says that a gateway gives.
	Visitors bool `json:"visitors,omitempty"`
}

// Processor is one.
type Processor struct {
	Name string `json:"name"`
	model.Receiver
	// Refuse says that requests are refused while it does not answer.
	Refuse  bool           `json:"refuse,omitempty"`
	Parts   []string       `json:"parts"`
	Timeout trait.Duration `json:"timeout"`
	// Told are the headers that it is told, nil for all; Sets those that it may set. Both are in lower case, sorted.
	Told []string `json:"told,omitempty"`
	Sets []string `json:"sets,omitempty"`
	// Before says that it is given requests before denies, grants and authorizers.
	Before bool `json:"before,omitempty"`
}

// TraitName is "process".
func (Processors) TraitName() string { return name }

// Image is what those behind get: whatever processors may set, nobody knows before.
func (ps Processors) Image() space.Image {
	var out space.Image
	for _, p := range ps.Of {
		out = out.Opened(p.Sets...)
	}
	return out
}

// MayAnswer is trait.Interposed: only the processor knows which requests.
func (ps Processors) MayAnswer(string) (string, bool) {
	return name + ": " + strconv.Quote(ps.Of[0].Name), false
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Holds: true,
		Defaults: []resolve.Default{{Field: "process.parts", Value: requestHeaders, Why: "a body would wait for its end, and who looks at answers has those of proxies wait for him, too"},
			{Field: "process.timeout", Value: usual.String(), Why: "every request waits for the answer"},
			{Field: "process.headers.told", Value: "all", Why: "what it looks at is the processor's to know"},
			{Field: "process.headers.sets", Value: "none", Why: "applications believe what proxies let through"},
			{Field: "process.slot", Value: "after-access", Why: "who may not come is nothing to look at"}},
		Read: read, Fits: fits,
		Uses:  func(v trait.Value) []model.Target { return model.Targets(v.(Processors).Of) },
		Sends: func(trait.Value, model.Target) model.Match { return model.Posted(give) },
		Waits: true,
	},
	Codec:      trait.JSON[Processors],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost)).Needs(envoy.SlotUsers).Needs(envoy.SlotExtensions),
	Kubernetes: kubernetes.Nothing("the proxies give what passes them"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has nobody look at what passes"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	out := Processors{Visitors: x.Gateway}
	taken := map[string]bool{} // headers, by one of them
	for _, e := range n.Fields() {
		to, ok := x.Processor(e.Name, e.Node)
		p := Processor{Name: e.Name, Receiver: to, Refuse: e.Node.Field("onFailure").Str() == "refuse", Parts: []string{requestHeaders},
			Timeout: x.Counted(e.Node.Field("timeout"), usual), Before: e.Node.Field("slot").Str() == beforeAccess}
		if list := e.Node.Field("parts"); list.Exists() {
			p.Parts = nil
			for _, part := range list.List() {
				p.Parts = append(p.Parts, part.Str())
			}
			slices.Sort(p.Parts)
			p.Parts = slices.Compact(p.Parts)
			if len(p.Parts) == 0 {
				x.Problem(diag.New(diag.CodeNever, list.Pos(), "an empty list of parts gives nothing").WithFix("leave `parts` out for headers, or delete %q", e.Name))
			}
		}
		if i := slices.IndexFunc(p.Parts, func(part string) bool { return strings.HasPrefix(part, "response") }); i >= 0 && !p.Refuse {
			x.Problem(diag.New(diag.CodeScript, e.Node.Field("onFailure").Pos(), "processor %q is given %s, and while it is away no proxy's own answer could pass it: no `\"admit\"` holds there", e.Name, p.Parts[i]).
				WithFix(`write onFailure: "refuse", or leave parts of answers out`))
		}
		p.Told, p.Sets = x.HeaderNames(e.Node.Field("headers"), "told"), x.MaySet("processor", e, taken)
		if ok {
			out.Of = append(out.Of, p)
		}
	}
	if len(out.Of) == 0 {
		return nil
	}
	slices.SortFunc(out.Of, func(a, b Processor) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// fits refuses headers that something else of the carrier sets as well.
func fits(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	x.SetsAlone("processor", v.(Processors), others, n)
}

// meaning: what a processor does nobody knows; requests are told by which ones it is given.
func meaning(v trait.Value) []space.Act {
	ps := v.(Processors)
	after := space.AtWorkload
	if ps.Visitors {
		after = space.AtAsking
	}
	fields := map[space.Station][]space.Field{}
	for _, p := range ps.Of {
		at := after
		if p.Before {
			at = space.AtUsers
		}
		put := func(what, value string) {
			fields[at] = append(fields[at], space.Field{Feature: name, Name: p.Name + " " + what, Value: value})
		}
		slot, away := "after access", "admitted"
		if p.Before {
			slot = "before access"
		}
		if p.Refuse {
			away = "refused"
		}
		put("gets", strings.Join(p.Parts, ", ")+" "+slot)
		put("is", p.To+":"+p.Port)
		put("while it is away", away)
		put("waits", p.Timeout.String())
		if p.Told != nil {
			put("told", strings.Join(p.Told, ", "))
		}
		if len(p.Sets) > 0 {
			put("sets", strings.Join(p.Sets, ", "))
		}
	}
	return space.LabelsAt(fields)
}

// change: what a processor does is not known, and neither is what becomes of requests without.
func change(before, after []space.Field) (plan.Class, string) {
	return plan.NotCompared, plan.Arrow("processors", before, after)
}
