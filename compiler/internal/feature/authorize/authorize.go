// Package authorize is the feature `authorize` of services, gateways' hosts and gateways' routes: a service
// of the mesh is asked about requests, and refuses what it does not admit.
package authorize

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

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
	name = "authorize"
	// ask is the method by which a proxy asks.
	ask = "/envoy.service.auth.v3.Authorization/Check"
)

// Questions are those of one carrier, sorted by authorizer.
type Questions struct {
	Of []Question `json:"of,omitempty"`
	// Removed are headers that nobody but authorizers may set, sorted: their own, and at a gateway those of all
	// whom its package asks at any of its routes.
	Removed []string `json:"removed,omitempty"`
	// Visitors says that a gateway asks.
	Visitors bool `json:"visitors,omitempty"`
}

// Question is what one authorizer is asked; its fields are those of model.Authorizer.
type Question struct {
	Authorizer string `json:"authorizer"`
	model.Receiver
	Timeout  trait.Duration `json:"timeout"`
	FailOpen bool           `json:"failOpen,omitempty"`
	Body     trait.Size     `json:"body,omitempty"`
	Told     []string       `json:"told,omitempty"`
	Sets     []string       `json:"sets,omitempty"`
	model.Asked
}

// TraitName is "authorize".
func (Questions) TraitName() string { return name }

// Demands is trait.Demanding: nobody knows whom an authorizer admits.
func (qs Questions) Demands(method, path string) string {
	for _, q := range qs.Of {
		if q.Takes(method, path) {
			return name + ": " + strconv.Quote(q.Authorizer)
		}
	}
	return ""
}

// Image is what those behind get: what authorizers set, which nobody knows before, and nothing else in
// headers that they alone may set.
func (qs Questions) Image() space.Image {
	var out space.Image
	for _, h := range qs.Removed {
		sets := func(q Question) bool { return slices.Contains(q.Sets, h) }
		open := slices.ContainsFunc(qs.Of, sets)
		out.Headers = append(out.Headers, space.Edit{Name: h, Open: open, Clear: !open})
	}
	return out
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Holds: true,
		Defaults: []resolve.Default{{Field: "authorizer.timeout", Value: "200ms", Why: "every request waits for the answer"},
			{Field: "authorizer.body", Value: "none", Why: "a request with a body would wait for its end"}, {Field: "authorizer.headers.told", Value: "all", Why: "what decides is the authorizer's to know"},
			{Field: "authorizer.headers.sets", Value: "none", Why: "applications believe what proxies let through"}},
		Read:  read,
		Uses:  func(v trait.Value) []model.Target { return model.Targets(v.(Questions).Of) },
		Sends: func(trait.Value, model.Target) model.Match { return model.Posted(ask) },
		Waits: true,
	},
	Codec:      trait.JSON[Questions],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost)).Needs(envoy.SlotAuthorize),
	Kubernetes: kubernetes.Nothing("the proxies ask the authorizer"),
	GatewayAPI: gatewayapi.Refuse("Gateway API asks nobody about requests"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	out := Questions{Visitors: x.Gateway}
	for _, e := range n.Fields() {
		a, ok := x.Authorizer(e.Name, e.Node)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out.Of, func(q Question) bool { return q.Authorizer == a.ID }) {
			x.Problem(diag.New(diag.CodeDuplicate, e.Node.Pos(), "authorizer %q is named twice, with and without its namespace", a.ID).WithFix("keep one of them"))
			continue
		}
		for _, h := range a.Sets {
			if slices.Contains(out.Removed, h) {
				x.Problem(diag.New(diag.CodeAuthorizer, e.Node.Pos(), "two authorizers set header %s, and nobody behind could tell whose word it is", h).WithFix("let each set a header of its own"))
			}
			out.Removed = append(out.Removed, h)
		}
		out.Of = append(out.Of, Question{
			Authorizer: a.ID, Receiver: a.Receiver, Timeout: a.Timeout, FailOpen: a.FailOpen, Body: a.Body, Told: a.Told, Sets: a.Sets, Asked: x.Asked(e.Node),
		})
	}
	if x.Gateway {
		out.Removed = append(out.Removed, x.AuthorizersSet()...)
	}
	if len(out.Of)+len(out.Removed) == 0 {
		return nil
	}
	slices.Sort(out.Removed)
	out.Removed = slices.Compact(out.Removed)
	slices.SortFunc(out.Of, func(a, b Question) int { return cmp.Compare(a.Authorizer, b.Authorizer) })
	return out
}

// meaning: what an authorizer says nobody knows, so that requests which it is asked about are told from others
// by a field alone. What a service asks is told of the service, with the requests.
func meaning(v trait.Value) []space.Act {
	qs := v.(Questions)
	at := space.AtWorkload
	if qs.Visitors {
		at = space.AtAsking
	}
	var out []space.Act
	if removed := qs.nobodys(); len(removed) > 0 {
		out = space.Labels(at, space.Field{Feature: name, Name: removes, Value: strings.Join(removed, ", ")})
	}
	for _, q := range qs.Of {
		out = append(out, q.Acts(at, qs.Visitors, q.Authorizer, q.fields()...)...)
	}
	return out
}

// What the names of fields end in, behind the authorizer's ID.
const removes, asks, away, waits, body, told, sets = "removes", "asks", "while it is away", "waits", "body", "told", "sets"

// nobodys are the headers that are removed and that nobody sets here.
func (qs Questions) nobodys() []string {
	var out []string
	for _, e := range qs.Image().Headers {
		if e.Clear {
			out = append(out, e.Name)
		}
	}
	return out
}

func (q Question) fields() []space.Field {
	var out []space.Field
	put := func(what, value string) {
		out = append(out, space.Field{Feature: name, Name: q.Authorizer + " " + what, Value: value})
	}
	put(asks, q.To+":"+q.Port)
	put(away, "refused")
	if q.FailOpen {
		out[len(out)-1].Value = "admitted"
	}
	put(waits, q.Timeout.String())
	if q.Body > 0 {
		put(body, q.Body.String())
	}
	if q.Told != nil {
		put(told, strings.Join(q.Told, ", "))
	}
	if len(q.Sets) > 0 {
		put(sets, strings.Join(q.Sets, ", "))
	}
	return out
}

// change: an authorizer is a denial. One more, or about more requests, narrows; one that is gone, is asked
// about fewer, or is another one, widens; to admit while it is away weakens, and so does what else it is
// asked in another way.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Nothing
	note := func(c plan.Class) { class = plan.Worst(class, c) }
	all := map[string]bool{}
	for _, f := range slices.Concat(before, after) {
		all[f.Name] = true
	}
	for _, f := range slices.Sorted(maps.Keys(all)) {
		id, what, _ := strings.Cut(f, " ")
		b, a := plan.Value(before, f), plan.Value(after, f)
		was, is := plan.Value(before, id+" "+asks) != "", plan.Value(after, id+" "+asks) != ""
		switch {
		case a == b:
		case f == removes: // or somebody sets them
			note(plan.Neutral)
			if slices.ContainsFunc(taken(before), func(h string) bool { return !slices.Contains(taken(after), h) }) {
				note(plan.Weakening)
			}
		case !was:
			note(plan.Narrowing)
		case !is, what == asks:
			note(plan.Widening)
		case what == model.OnlyMethods, what == model.OnlyPaths, what == model.NotThese:
			note(plan.Asked(before, after, id))
		case what == away && a == "refused":
			note(plan.Narrowing)
		default:
			note(plan.Weakening)
		}
	}
	return class, plan.Arrow("authorizers", before, after)
}

// taken are the headers that requests cannot bring along.
func taken(fields []space.Field) []string {
	var out []string
	for _, f := range fields {
		if f.Name == removes || strings.HasSuffix(f.Name, " "+sets) {
			out = append(out, strings.Split(f.Value, ", ")...)
		}
	}
	return out
}
