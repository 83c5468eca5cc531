package envoy

import (
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// again are the routes of a host that Envoy chooses among twice: before it looks at tokens, and behind that. The filters of a
// request are those of the first choice, so they have to be the same whichever that is.
type again struct {
	routes []chosen
	whole  bool // one of them takes all requests
}

// chosen is a route of such a host, at the intent's path. unrouted says that it answers for there being none.
type chosen struct {
	path     string
	unrouted bool
	route    *routev3.Route
}

// newAgain is nil for a host that Envoy has chosen a route of for good.
func newAgain(h model.Host) *again {
	if !h.ChoosesAgain() {
		return nil
	}
	return &again{whole: slices.ContainsFunc(h.Routes, func(r model.Route) bool { return r.Match.IsZero() })}
}

func (a *again) add(path string, unrouted bool, route *routev3.Route) {
	if a != nil {
		a.routes = append(a.routes, chosen{path, unrouted, route})
	}
}

// chosenAgain has a host look at the tokens of all requests, those included that no route takes before: where there is none, no
// filter runs. It refuses routes that differ in what filters do, or in the protocols to which connections change.
func (e *emitter) chosenAgain(vh *routev3.VirtualHost, a *again, out *entry) *routev3.VirtualHost {
	if a == nil {
		return vh
	}
	i := slices.IndexFunc(a.routes, func(c chosen) bool { return !c.unrouted })
	if i < 0 {
		return vh // all of them have been told to be wrong
	}
	first := a.routes[i]
	told := map[string]bool{first.path: true}
	for _, c := range a.routes {
		switch {
		case c.unrouted:
			c.route.TypedPerFilterConfig = first.route.GetTypedPerFilterConfig()
		case !told[c.path] && !sameFilters(first.route, c.route):
			told[c.path] = true
			out.problem(diag.New(diag.CodeAgain, e.at(c.path), "routes of host %q ask who the user is, so one is chosen before that is known and again behind it, but by then the filters stand: this route differs from another one in what they do", vh.Name).
				WithRelated(e.at(first.path), "the other route").
				WithFix("say on the host what is not about destinations, edits, timeouts and retries, or give the route a host of its own; one that answers by itself goes with nothing that its host says of requests on their way (cors, limits); where one of them leads to a service that looks at tokens itself, let the provider say forward: true"))
		}
	}
	if a.whole {
		return vh
	}
	last := notFound(vh.Name, everything())
	last.TypedPerFilterConfig = first.route.GetTypedPerFilterConfig()
	vh.Routes = append(vh.Routes, last)
	return vh
}

// sameFilters reports whether requests meet the same filters by both routes, and may change to the same protocols.
func sameFilters(a, b *routev3.Route) bool {
	return maps.EqualFunc(a.GetTypedPerFilterConfig(), b.GetTypedPerFilterConfig(), func(x, y *anypb.Any) bool { return proto.Equal(x, y) }) &&
		slices.EqualFunc(a.GetRoute().GetUpgradeConfigs(), b.GetRoute().GetUpgradeConfigs(), func(x, y *routev3.RouteAction_UpgradeConfig) bool { return proto.Equal(x, y) })
}
