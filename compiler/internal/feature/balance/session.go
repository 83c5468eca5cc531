package balance

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"

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

const sessionName = "session"

// Kept is by which cookie a caller comes back to its workload.
type Kept struct {
	Cookie string `json:"cookie"`
	// TTL is in whole seconds, 0 for as long as a browser is open.
	TTL trait.Duration `json:"ttl,omitempty"`
}

// TraitName is "session".
func (Kept) TraitName() string { return sessionName }

// Session is the row of the feature `session`: requests of one caller go to the workload that its
// first one went to.
var Session = feature.Feature{
	Rule: resolve.Rule{
		Name: sessionName, Field: sessionName,
		On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Places: true,
		Defaults: []resolve.Default{{Field: "session.cookie.ttl", Value: "until the browser is closed", Why: "a workload that is gone meanwhile has nothing to come back to"}},
		Read:     readSession, Fits: notHashed, Uses: nil,
	},
	Codec: trait.JSON[Kept],
	Meaning: func(v trait.Value) []space.Act {
		k := v.(Kept)
		fields := []space.Field{{Feature: sessionName, Name: "cookie", Value: k.Cookie, Does: space.Deed{Kind: space.MayAddAnswer, Of: "set-cookie"}}}
		if k.TTL != 0 {
			fields = append(fields, space.Field{Feature: sessionName, Name: "for", Value: k.TTL.String(), Number: time.Duration(k.TTL).Seconds()})
		}
		return space.Labels(space.AtWorkload, fields...)
	},
	Change: func(before, after []space.Field) (plan.Class, string) { // whichever workload it is, it answers the same
		return plan.Neutral, plan.Arrow("sessions", before, after)
	},
	Envoy:      envoy.OnRoutesTo(keepSession).Needs(envoy.SlotBodies),
	Kubernetes: kubernetes.Nothing("the callers' proxies choose"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has sessions in its experimental channel only"),
}

// Canonical names of the extension.
const byCookie = "envoy.http.stateful_session.cookie"

// keepSession puts StatefulSession, not strict, before the router: it names the address that the router
// asks the cluster for, which takes another one where it has none of that name, or not well. A try again is
// for any address.
func keepSession(r *routev3.Route, vs []Kept, x *envoy.Ctx) {
	if len(vs) > 1 {
		x.Problem("let both say the same, or give each a route of its own",
			"the destinations of the route keep sessions in different ways, by cookie %s and by cookie %s, and a route has one", vs[0], vs[1])
		return
	}
	cookie := &httpv3.Cookie{Name: vs[0].Cookie, Path: "/"}
	if vs[0].TTL != 0 {
		cookie.Ttl = envoy.Duration(time.Duration(vs[0].TTL))
	}
	envoy.AddFilter(r, envoy.SlotBodies, "meshc.session", &sessionv3.StatefulSession{
		SessionState: &corev3.TypedExtensionConfig{Name: byCookie, TypedConfig: envoy.Packed(&cookiev3.CookieBasedSessionState{Cookie: cookie})},
	})
}

// String is the cookie in words.
func (k Kept) String() string {
	if k.TTL == 0 {
		return k.Cookie
	}
	return k.Cookie + " for " + k.TTL.String()
}

func readSession(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	cookie := n.Field("cookie")
	k := Kept{Cookie: cookie.Field("name").Str(), TTL: x.Duration(cookie.Field("ttl"), 0)}
	if time.Duration(k.TTL)%time.Second != 0 {
		x.Problem(diag.New(diag.CodeRange, cookie.Field("ttl").Pos(), "ttl is %s, and browsers count whole seconds", k.TTL).WithFix("write whole seconds"))
	}
	return k
}

// notHashed refuses a session where a hash says which workload is meant.
func notHashed(_ trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	if b, ok := trait.Get[Balance](others); ok && b.Choice == Hash && !others.IsDefault(name) {
		twice(n, x)
	}
}

// noSession refuses a version's hash where the service keeps sessions. Of others the session tells.
func noSession(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	if _, ok := trait.Get[Kept](others); ok && v.(Balance).Choice == Hash && x.At == resolve.OnVersion && !others.IsDefault(sessionName) {
		twice(n, x)
	}
}

func twice(n intent.Node, x *resolve.Place) {
	x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "both the cookie of `session` and the hash of `balance` say which workload gets a request").
		WithFix("keep one of them: a hash needs no cookie of its own, a session no value that differs from caller to caller"))
}
