// Package answers is the feature `answers` of services, gateways' hosts and gateways' routes: what is said instead of
// answers that a proxy gives by itself, as when it waits for too long or too much is asked. What applications
// answer is theirs.
package answers

import (
	"crypto/sha256"
	"fmt"
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
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "answers"
	// maxBody is what a listener's bytes are spent on for each text; `respond` takes as much.
	maxBody = 4096
	// told is how many bytes of a body a plan quotes; of a longer one it gives the digest.
	told = 60
)

// replaced are the statuses that may be replaced, those of what goes wrong on the way. Who is let in and what is found
// is decided by intent: tests, plan and proof tell the status of that.
func replaced() []int { return []int{408, 413, 429, 500, 502, 503, 504} }

// Answers are those of one carrier, sorted by name; no two are about one status.
type Answers struct {
	Of []Answer `json:"of"`
}

// Answer is what is said instead of answers with some statuses.
type Answer struct {
	Name string `json:"name"`
	// Statuses are sorted.
	Statuses []int `json:"statuses"`
	// Status is 400 to 599, 0 for that which it was.
	Status int `json:"status,omitempty"`
	// Body is at most 4,096 bytes, "" for that which it was.
	Body string `json:"body,omitempty"`
}

// TraitName is "answers".
func (Answers) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true, Defaults: nil, Read: read, Uses: nil,
	},
	Codec:   trait.JSON[Answers],
	Meaning: meaning,
	Change: func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow("answers of proxies", before, after)
	},
	Envoy:      envoy.Join(envoy.OnManager(onService), envoy.OnDoor(onGateway)),
	Kubernetes: kubernetes.Nothing("the proxies answer"),
	GatewayAPI: gatewayapi.Refuse("Gateway API leaves to its implementations how they answer by themselves"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	var out Answers
	if n.Exists() && x.At == resolve.OnGatewayRoute && x.Attached() {
		x.Problem(diag.New(diag.CodeNotDelegated, n.Pos(), "the gateway is another package's, whose other visitors' connections end as often as these texts change").WithFix("write it at your service, or ask the gateway's package to write it at the host"))
		return nil
	}
	by := map[int]string{}
	for _, e := range n.Fields() {
		a := answer(e, x)
		for _, s := range a.Statuses {
			if first, twice := by[s]; twice {
				x.Problem(diag.New(diag.CodeDuplicate, e.Node.Field("statuses").Pos(), "%q and %q are both about status %d", first, e.Name, s).WithFix("keep it in one of them"))
			}
			by[s] = e.Name
		}
		out.Of = append(out.Of, a)
	}
	if len(out.Of) == 0 {
		return nil
	}
	slices.SortFunc(out.Of, func(a, b Answer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func answer(e intent.Entry, x *resolve.Place) Answer {
	a := Answer{Name: e.Name, Status: int(e.Node.Field("status").Int()), Body: e.Node.Field("body").Str()}
	statuses := e.Node.Field("statuses")
	if len(statuses.List()) == 0 {
		x.Problem(diag.New(diag.CodeNever, statuses.Pos(), "an empty list of statuses holds for nothing").WithFix("name some of %s", list(replaced())))
	}
	for _, s := range statuses.List() {
		status := int(s.Int())
		if !slices.Contains(replaced(), status) {
			x.Problem(diag.New(diag.CodeRange, s.Pos(), "answers with status %d stay as they are: only what goes wrong on the way is answered otherwise", status).
				WithFix("name some of %s, or let a route `respond`", list(replaced())))
		}
		a.Statuses = append(a.Statuses, status)
	}
	slices.Sort(a.Statuses)
	a.Statuses = slices.Compact(a.Statuses)
	switch body := e.Node.Field("body"); {
	case body.Exists() && a.Body == "":
		x.Problem(diag.New(diag.CodeRange, body.Pos(), "no proxy says nothing instead of something").WithFix("leave the body out, or write one"))
	case len(a.Body) > maxBody:
		x.Problem(diag.New(diag.CodeRange, body.Pos(), "the body has %d bytes, at most %d are taken", len(a.Body), maxBody).WithFix("write a shorter one"))
	case a.Status == 0 && a.Body == "":
		x.Problem(diag.New(diag.CodeOneOf, e.Node.Pos(), "nothing is said instead").WithFix("write `status`, `body` or both"))
	}
	return a
}

func meaning(v trait.Value) []space.Act {
	var fields []space.Field
	for _, a := range v.(Answers).Of {
		var says []string
		if a.Status != 0 {
			says = append(says, "status "+strconv.Itoa(a.Status))
		}
		if a.Body != "" {
			says = append(says, "body "+words(a.Body))
		}
		fields = append(fields, space.Field{Feature: name, Name: a.Name, Value: strings.Join(says, ", ") + " instead of " + list(a.Statuses)})
	}
	return []space.Act{{At: space.AtArrival, Instead: v.(Answers).instead(), Fields: fields}}
}

// instead are the statuses that change.
func (v Answers) instead() []space.Instead {
	var out []space.Instead
	for _, a := range v.Of {
		for _, s := range a.Statuses {
			if a.Status != 0 {
				out = append(out, space.Instead{Of: s, Status: a.Status})
			}
		}
	}
	return out
}

func list(statuses []int) string {
	out := make([]string, len(statuses))
	for i, s := range statuses {
		out[i] = strconv.Itoa(s)
	}
	return strings.Join(out, ", ")
}

// words tell a body from every other one: by itself if it is one short line.
func words(body string) string {
	if len(body) <= told && !strings.ContainsAny(body, "\r\n") {
		return strconv.Quote(body)
	}
	return fmt.Sprintf("%d bytes, sha256 %x", len(body), sha256.Sum256([]byte(body)))
}
