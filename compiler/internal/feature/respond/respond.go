// Package respond is the feature `route.respond`: the caller's own proxy answers
// with a status and a body, and no destination sees the request.
package respond

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

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
	name = "respond"
	// maxBody is RouteConfiguration.max_direct_response_body_size_bytes, which we leave
	// at Envoy's default: every proxy of a class holds the body once for each route.
	maxBody = 4096
	// told is how many bytes of a body a plan quotes; of a longer one it gives the digest.
	told = 60
)

// Answer is what the proxy says.
type Answer struct {
	// Status is 200 to 599, and no redirect.
	Status int `json:"status"`
	// Body is at most 4,096 bytes.
	Body string `json:"body,omitempty"`
}

// TraitName is "respond".
func (Answer) TraitName() string { return name }

// Answers says that nothing is sent on.
func (Answer) Answers() {}

// Feature is the row.
var Feature = feature.Feature{
	Rule:    resolve.Rule{Name: name, Field: "respond", On: []resolve.On{resolve.OnRoute}, Answers: true, Defaults: nil, Read: read, Uses: nil},
	Codec:   trait.JSON[Answer],
	Meaning: meaning,
	Change: func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow("answer", before, after)
	},
	Envoy:      envoy.OnRoute(lower),
	Kubernetes: kubernetes.Nothing("the caller's proxy answers"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no answer of a route's own"),
}

// lower sets Route.direct_response.
func lower(r *routev3.Route, v Answer, _ *envoy.Ctx) {
	a := &routev3.DirectResponseAction{Status: uint32(v.Status)}
	if v.Body != "" {
		a.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: v.Body}}
	}
	r.Action = &routev3.Route_DirectResponse{DirectResponse: a}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	body, from, ok := x.Text(n, "body")
	a := Answer{Status: int(n.Field("status").Int()), Body: body}
	if !ok {
		return a
	}
	switch at := from.Pos(); {
	case len(a.Body) > maxBody:
		x.Problem(diag.New(diag.CodeRange, at, "the body has %d bytes, at most %d are taken", len(a.Body), maxBody).
			WithFix("write a shorter one, or route the requests to a service that has the page"))
	case a.Body != "" && (a.Status == 204 || a.Status == 205 || a.Status == 304):
		x.Problem(diag.New(diag.CodeRange, at, "an answer with status %d has no body", a.Status).
			WithFix("leave the body out, or answer with another status"))
	}
	return a
}

func meaning(v trait.Value) []space.Act {
	a := v.(Answer)
	fields := []space.Field{{Feature: name, Name: "status", Value: strconv.Itoa(a.Status)}}
	if a.Body != "" {
		fields = append(fields, space.Field{Feature: name, Name: "body", Value: words(a.Body)})
	}
	return []space.Act{{At: space.AtRoute, Answer: &space.Reply{Status: a.Status}, Fields: fields}}
}

// words tell a body from every other one: by itself if it is one short line.
func words(body string) string {
	if len(body) <= told && !strings.ContainsAny(body, "\r\n") {
		return strconv.Quote(body)
	}
	return fmt.Sprintf("%d bytes, sha256 %x", len(body), sha256.Sum256([]byte(body)))
}
