package envoy

import (
	"cmp"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Lowering says how one feature reads in Envoy's configuration. Only the
// constructors OnRoute, OnTwin, OnShare, OnRouteClusters, OnCluster, OnRoutesTo, OnConnectionsTo, OnInbound,
// OnManager, OnDoor, OnFinished, OnAbsence, Join, Refuse and Approximate make one. The zero Lowering says nothing and counts as refused.
type Lowering struct {
	route         func(*routev3.Route, trait.Value, *Ctx)
	twin          func(twin, r *routev3.Route, v trait.Value, x *Ctx) bool
	share         func(*routev3.WeightedCluster_ClusterWeight, trait.Value, *Ctx)
	routeClusters func(*clusterv3.Cluster, trait.Value, *Ctx)
	cluster       func(*clusterv3.Cluster, trait.Value, *Ctx)
	routesTo      func(*routev3.Route, []trait.Value, *Ctx)
	connectionsTo func(*tcpv3.TcpProxy, []trait.Value, *Ctx)
	inbound       func(*routev3.VirtualHost, trait.Value, *Ctx)
	manager       func(*hcmv3.HttpConnectionManager, trait.Value, *Ctx)
	door          func(*hcmv3.HttpConnectionManager, []Routed[trait.Value], *Ctx)
	finished      func(proto.Message, trait.Value, *Ctx)
	yields        bool
	proxyless     *Lowering
	needs         []Slot
	refusal       string
	loss          string
}

// Cell is one feature's entry in the column of this target.
type Cell struct {
	Lowering Lowering
	// Uses returns the destinations, other than the route's own, to which the value
	// sends requests (a mirror). Callers get their clusters. nil means none.
	Uses func(trait.Value) []model.Target
	// Word is what the language calls the feature, "" for the trait's name.
	Word string
}

// Column maps the name of a trait to its cell.
type Column map[string]Cell

// word is what the language calls a feature.
func (c Column) word(name string) string { return cmp.Or(c[name].Word, name) }

// finishing are the names of the features that have the last say of a message, sorted.
func (c Column) finishing() []string {
	var out []string
	for name, cell := range c {
		if cell.Lowering.finished != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// OnRoute lowers a route's trait on the route of the caller's proxy (sidecar or
// gateway). The route has its match and, unless the intent names no destination,
// its route action. Traits are applied in the order of their names, so f must not
// depend on what another feature wrote.
func OnRoute[T trait.Value](f func(r *routev3.Route, v T, x *Ctx)) Lowering {
	return Lowering{route: func(r *routev3.Route, v trait.Value, x *Ctx) { f(r, typed[T](v), x) }}
}

// OnTwin lowers a route's trait on two routes: on a copy that is tried before, with all that features have
// written, and on the route itself. f gives the copy a condition more and says what differs; false is no copy.
func OnTwin[T trait.Value](f func(twin, r *routev3.Route, v T, x *Ctx) bool) Lowering {
	return Lowering{twin: func(twin, r *routev3.Route, v trait.Value, x *Ctx) bool { return f(twin, r, typed[T](v), x) }}
}

// OnShare lowers a value that each destination of a route may have of its own (trait.Apart) where
// several have: on each of the route's weighted clusters, and not on the route.
func OnShare[T trait.Value](f func(c *routev3.WeightedCluster_ClusterWeight, v T, x *Ctx)) Lowering {
	return Lowering{share: func(c *routev3.WeightedCluster_ClusterWeight, v trait.Value, x *Ctx) { f(c, typed[T](v), x) }}
}

// OnRouteClusters lowers a route's trait on every cluster to which the caller's
// routes with that trait send requests (a retry budget lives there). Several
// routes may send to one cluster: f is called once per distinct value, in the
// order of their JSON forms, and combines with what it finds.
func OnRouteClusters[T trait.Value](f func(c *clusterv3.Cluster, v T, x *Ctx)) Lowering {
	return Lowering{routeClusters: func(c *clusterv3.Cluster, v trait.Value, x *Ctx) { f(c, typed[T](v), x) }}
}

// OnCluster lowers a service's trait on the clusters by which callers reach it,
// one for each port and version.
func OnCluster[T trait.Value](f func(c *clusterv3.Cluster, v T, x *Ctx)) Lowering {
	return Lowering{cluster: func(c *clusterv3.Cluster, v trait.Value, x *Ctx) { f(c, typed[T](v), x) }}
}

// OnRoutesTo lowers a service's or an external's trait on every route of a caller's proxy
// (sidecar or gateway) that sends requests there: what its clusters need of a request. A route
// may have several destinations: f gets the distinct values that they have, at least one, in
// their order, and says with Ctx.Problem if one route cannot serve all of them. What the clusters
// need besides is OnCluster, Join makes one of both.
func OnRoutesTo[T trait.Value](f func(r *routev3.Route, vs []T, x *Ctx)) Lowering {
	return Lowering{routesTo: func(r *routev3.Route, vs []trait.Value, x *Ctx) { f(r, typedAll[T](vs), x) }}
}

// OnConnectionsTo is OnRoutesTo for the bytes that a caller's proxy sends to TCP ports.
func OnConnectionsTo[T trait.Value](f func(p *tcpv3.TcpProxy, vs []T, x *Ctx)) Lowering {
	return Lowering{connectionsTo: func(p *tcpv3.TcpProxy, vs []trait.Value, x *Ctx) { f(p, typedAll[T](vs), x) }}
}

// OnInbound lowers a service's trait on the virtual host of its own proxy, which
// has one route for all requests that arrive at one HTTP port.
func OnInbound[T trait.Value](f func(h *routev3.VirtualHost, v T, x *Ctx)) Lowering {
	return Lowering{inbound: func(h *routev3.VirtualHost, v trait.Value, x *Ctx) { f(h, typed[T](v), x) }}
}

// OnManager lowers a trait of a service, or of a gateway, on the HTTP connection managers
// where its proxies take requests. A manager is part of a listener: whatever changes there
// drains the connections of its filter chain, so what a route or a virtual host can say
// belongs there.
func OnManager[T trait.Value](f func(m *hcmv3.HttpConnectionManager, v T, x *Ctx)) Lowering {
	return Lowering{manager: func(m *hcmv3.HttpConnectionManager, v trait.Value, x *Ctx) { f(m, typed[T](v), x) }}
}

// Routed is a gateway's route that sends requests on, with what it says.
type Routed[T any] struct {
	// Host is the name of its virtual host. The routes that proxies make of it have Route for a name, or one that
	// begins with that and a slash.
	Host, Route string
	// Value is nothing unless Says.
	Value T
	Says  bool
}

// OnDoor lowers a trait of gateways' routes on the connection managers that take requests for them: what neither a route nor
// a virtual host can say. f gets the routes of all hosts of which some say something, in the order of hosts and routes. As with
// OnManager, a change drains connections: what f writes must stay as it is when a route comes that says what others do.
func OnDoor[T trait.Value](f func(m *hcmv3.HttpConnectionManager, of []Routed[T], x *Ctx)) Lowering {
	return Lowering{door: func(m *hcmv3.HttpConnectionManager, of []Routed[trait.Value], x *Ctx) {
		out := make([]Routed[T], len(of))
		for i, r := range of {
			out[i] = Routed[T]{Host: r.Host, Route: r.Route, Says: r.Says}
			if r.Says {
				out[i].Value = typed[T](r.Value)
			}
		}
		f(m, out, x)
	}}
}

// OnFinished lowers a trait of a service, or of a gateway, on the HTTP connection managers, virtual hosts
// and clusters that OnManager, OnInbound and OnCluster mean, and on a gateway's listeners, after all features and whatever else is said of them.
func OnFinished[T trait.Value](f func(m proto.Message, v T, x *Ctx)) Lowering {
	return Lowering{finished: func(m proto.Message, v trait.Value, x *Ctx) { f(m, typed[T](v), x) }}
}

// Proxyless says what gRPC programs without a proxy get of the feature, as callers: l, which may say nothing. A
// lowering without it is refused where such a program calls.
func Proxyless(l Lowering) Lowering { return Lowering{proxyless: &l} }

// Join makes one lowering of several at different places. Where two are for the
// same place, the later counts.
func Join(ls ...Lowering) Lowering {
	var out Lowering
	for _, l := range ls {
		if l.route != nil {
			out.route = l.route
		}
		if l.twin != nil {
			out.twin = l.twin
		}
		if l.share != nil {
			out.share = l.share
		}
		if l.routeClusters != nil {
			out.routeClusters = l.routeClusters
		}
		if l.cluster != nil {
			out.cluster = l.cluster
		}
		if l.routesTo != nil {
			out.routesTo = l.routesTo
		}
		if l.connectionsTo != nil {
			out.connectionsTo = l.connectionsTo
		}
		if l.inbound != nil {
			out.inbound = l.inbound
		}
		if l.manager != nil {
			out.manager = l.manager
		}
		if l.door != nil {
			out.door = l.door
		}
		if l.finished != nil {
			out.finished = l.finished
		}
		out.yields = cmp.Or(out.yields, l.yields)
		if l.proxyless != nil {
			out.proxyless = l.proxyless
		}
		out.needs = append(out.needs, l.needs...)
	}
	return out
}

// Refuse says that Envoy (or this target) cannot express the feature, and why.
func Refuse(reason string) Lowering { return Lowering{refusal: reason} }

// Approximate says that l expresses the feature with a loss, in words.
func Approximate(loss string, l Lowering) Lowering { l.loss = loss; return l }

// Needs returns l with the demand that the chain has that filter slot.
func (l Lowering) Needs(s Slot) Lowering { l.needs = append(slices.Clip(l.needs), s); return l }

// Support says how far the target goes ("exact", "approximate" or "refused") and
// why not further. The support table is generated from it.
func (l Lowering) Support() (state, why string) {
	switch {
	case l.refusal != "" || (!l.onRoute() && !l.onService()):
		return "refused", l.refusal
	case l.loss != "":
		return "approximate", l.loss
	}
	return "exact", ""
}

func (l Lowering) onRoute() bool { return l.route != nil || l.routeClusters != nil || l.door != nil }
func (l Lowering) onService() bool {
	return l.onCluster() || l.inbound != nil || l.onGateway()
}
func (l Lowering) onCluster() bool {
	return l.cluster != nil || l.routesTo != nil || l.finished != nil || l.yields
}
func (l Lowering) onGateway() bool { return l.manager != nil || l.finished != nil }

// misplaced returns a slot that l needs and that the chain of its side lacks.
func (l Lowering) misplaced() (Slot, bool) {
	for _, s := range l.needs {
		if ((l.route != nil || l.routesTo != nil) && hasSlot(outbound, s)) || (l.inbound != nil && hasSlot(inbound, s)) {
			continue
		}
		return s, true
	}
	return "", false
}

// typed panics if the catalog paired a lowering with another feature's trait:
// our mistake, which every test of that feature meets.
func typed[T trait.Value](v trait.Value) T {
	t, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("envoy: lowering for %T applied to trait %q of type %T", t, v.TraitName(), v))
	}
	return t
}

func typedAll[T trait.Value](vs []trait.Value) []T {
	out := make([]T, len(vs))
	for i, v := range vs {
		out[i] = typed[T](v)
	}
	return out
}

// Ctx is what a lowering may know beside its own value. Read only.
type Ctx struct {
	Mesh *model.Mesh
	// Service is the called service, nil if the destination is an external or there is none.
	Service *model.Service
	// External is the called external, nil if the destination is a service or there is none.
	External *model.External
	// Port is the called port; the zero Port if there are several or none.
	Port model.Port
	// Version is the called version (OnCluster, OnRouteClusters and OnInbound).
	Version model.Version
	// Gateway is the gateway whose route this is, nil in a sidecar.
	Gateway *model.Gateway
	// Again says that a gateway's route is chosen again once tokens have been looked at.
	Again bool
	// Protocol is what is said of HTTP to the cluster's endpoints, nil for bytes (OnCluster, OnRouteClusters).
	Protocol *upstreamv3.HttpProtocolOptions
	// Live is where the cluster's addresses come from, nil if the cluster has them itself (OnCluster).
	Live *release.Endpoints
	// Match is which requests the route takes (OnRoute).
	Match model.Match
	// Traits are all that the route has (OnRoute).
	Traits trait.Set

	// apart are those that single destinations of the route have for themselves.
	apart []trait.Set
	// said are all values of the object of which one is lowered.
	said     trait.Set
	sidecars bool
	behind   []trait.Set
	path     string
	out      *entry
	locate   func(string) diag.Pos
	keys     func(model.Provider) string
}

// finish lets those have their say of a message whose say comes last.
func (e *emitter) finish(m proto.Message, traits trait.Set, x *Ctx) {
	for _, name := range e.finishing {
		if v, ok := traits.Lookup(name); ok {
			e.cells[name].Lowering.finished(m, v, x)
		}
	}
}

// finishes reports whether some of the traits have the last say of a message.
func (e *emitter) finishes(traits trait.Set) bool {
	return slices.ContainsFunc(e.finishing, func(name string) bool { _, ok := traits.Lookup(name); return ok })
}

// Cluster is the name of the cluster of a destination, and notes that the resource names
// it. A lowering that writes a cluster's name gets it here and nowhere else: servers put
// the cluster before what names it, because it is noted. Which destinations they are
// the cell's Uses says.
func (x *Ctx) Cluster(t model.Target) string {
	name := model.ClusterName(t.Service, t.Port, t.Version)
	if t.Version == "" { // of a service the version is known here
		name = model.ExternalClusterName(t.Service, t.Port)
		if e := x.Mesh.External(t.Service); e != nil && e.Via != nil && (x.Gateway == nil || x.Gateway.ID != e.Via.Gateway) {
			name = e.ViaName(t.Port)
		} else if e != nil {
			name = e.Upstream(t.Port)
		}
	}
	x.Names(release.ClusterType, name)
	return name
}

// Keys are those by which a provider's tokens are checked.
func (x *Ctx) Keys(p model.Provider) string {
	if x.keys != nil {
		return x.keys(p)
	}
	return p.Keys
}

// Names notes that the resource names others of the snapshot, of any type.
func (x *Ctx) Names(t release.TypeURL, names ...string) { x.out.need(t, names...) }

// Edited are the headers of requests that features of the route, or of one of its destinations, change, but for the
// one of that name.
func (x *Ctx) Edited(but string) []string {
	var out []string
	for _, set := range append([]trait.Set{x.Traits}, x.apart...) {
		for _, name := range set.Names() {
			if v, _ := set.Lookup(name); name != but {
				if c, ok := v.(trait.Changing); ok {
					for _, e := range c.Image().Headers {
						out = append(out, e.Name)
					}
				}
			}
		}
	}
	return out
}

// ChosenBy are the headers by which a route is chosen and of which nothing is known before its filters have run: it goes
// by what the visitor has written there.
func ChosenBy(r *routev3.Route, image space.Image) []string {
	var out []string
	for _, h := range r.GetMatch().GetHeaders() {
		if slices.ContainsFunc(image.Headers, func(e space.Edit) bool { return e.Name == h.GetName() && e.Open }) {
			out = append(out, h.GetName())
		}
	}
	return out
}

// OnlyItSets refuses what a gateway's route or its denies do with headers of which nobody knows what a value makes of them: an
// edit of such a header, and a test, which would see what the visitor has written. who says whose doing it is.
func (x *Ctx) OnlyItSets(r *routev3.Route, v interface {
	trait.Value
	trait.Changing
}, who string) {
	image := v.Image()
	sets := func(name string) bool {
		return slices.ContainsFunc(image.Headers, func(e space.Edit) bool { return e.Name == name && e.Open })
	}
	for _, h := range x.Edited(v.TraitName()) {
		if sets(h) {
			x.Problem("write another header", "the route edits header %s, which %s sets", h, who)
		}
	}
	for _, h := range ChosenBy(r, image) {
		x.Problem("test another header", "the route is chosen by header %s, which %s sets behind it: the visitor has written it", h, who)
	}
	for _, d := range x.Gateway.AllDenies() {
		for _, h := range slices.Concat(d.Headers, d.Not.Headers) {
			if sets(h.Name) {
				x.Problem("test another header", "deny %q tests header %s, which %s sets", d.Name, h.Name, who)
			}
		}
	}
}

// BehindSidecars reports whether all destinations of the route are services, whose proxies
// are ours: what they say of their applications can be believed.
func (x *Ctx) BehindSidecars() bool { return x.sidecars }

// Behind are the values of a feature that the destinations of a route have themselves.
func Behind[T trait.Value](x *Ctx) []T {
	var out []T
	for _, s := range x.behind {
		if v, ok := trait.Get[T](s); ok {
			out = append(out, v)
		}
	}
	return out
}

// Problem reports that this value cannot be lowered, at the intent of its object, and how its
// author gets out of it.
func (x *Ctx) Problem(fix, format string, args ...any) {
	x.out.problem(diag.New(diag.CodeLowering, x.locate(x.path), format, args...).WithFix("%s", fix))
}
