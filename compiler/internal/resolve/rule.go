package resolve

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// On says which object of the intent carries a feature's field.
type On string

// The carriers. OnRoute is a route of a service, of an external and of a gateway alike. What
// stands on a gateway's host is settled on each of its routes that says nothing else itself;
// so is what stands on a service or on one of its ports, for a feature that acts at callers'
// proxies (AroundRoutes, AroundPort), on the service's routes, and what stands on an external
// for all of its routes (AroundExternal). OnService and OnPort are the service's own proxy and
// the clusters that lead there, OnVersion those that lead to one of its versions, OnExternal is
// what is said of the external itself. OnDestination is a route's own destination, which says it of what it
// gets alone, behind what the route says (trait.Apart). What the root says for the mesh, and
// the owner of a namespace for it, is settled on each service and gateway. OnDefault is the
// `default` of both, which holds for services and externals, whatever of them the feature is
// about, where nothing nearer says it; it counts as not written (trait.Set.WithDefault). OnCall is
// what a caller says of the requests that its own proxies send to one callee, beside what the
// callee's routes say of all (model.Tightens).
const (
	OnRoute        On = "route"
	OnGatewayRoute On = "gateway.route"
	OnHost         On = "gateway.host"
	OnService      On = "service"
	OnPort         On = "service.port"
	OnVersion      On = "service.version"
	OnExternal     On = "external"
	OnDestination  On = "route.destination"
	OnCall         On = "service.calls"
	AroundRoutes   On = "service around its routes"
	AroundPort     On = "service.port around the service's routes"
	AroundExternal On = "external around its routes"
	OnGateway      On = "gateway"
	OnNamespace    On = "namespace"
	OnMesh         On = "mesh"
	OnDefault      On = "default"
)

// carrier is an object of the intent as features find it.
type carrier struct {
	on   On
	node intent.Node
	// around says that it is not the object whose values are settled, but one around it.
	around bool
	// pkg is the package that says it, nil for the object's own. What it names is looked up there: who attaches a
	// route to a host has no say in whom the host's owner asks.
	pkg *pkg
}

// serviceRoute are the carriers of a service's route for requests to one of its ports; port
// does not exist where it is settled for all.
func serviceRoute(n, port, service intent.Node) []carrier {
	return []carrier{{on: OnRoute, node: n}, {on: AroundPort, node: port, around: true}, {on: AroundRoutes, node: service, around: true}}
}

// ownProxy are the carriers of what a service's own proxy does with requests to a port.
func ownProxy(port, service intent.Node) []carrier {
	return []carrier{{on: OnPort, node: port, around: true}, {on: OnService, node: service}}
}

// toVersion are the carriers of what callers know of a version at a port.
func toVersion(port, version, service intent.Node) []carrier {
	return []carrier{{on: OnPort, node: port, around: true}, {on: OnVersion, node: version}, {on: OnService, node: service, around: true}}
}

// gatewayRoute are the carriers of a route of a gateway's host.
func gatewayRoute(n intent.Node, host carrier) []carrier {
	return []carrier{{on: OnRoute, node: n}, {on: OnGatewayRoute, node: n}, host}
}

// hostOf is a host that a package declares, around its routes.
func hostOf(p *pkg, n intent.Node) carrier { return carrier{on: OnHost, node: n, around: true, pkg: p} }

// said is the place of what a carrier says.
func (c carrier) said(x *Place) *Place {
	if c.pkg == nil || c.pkg == x.pkg {
		return x
	}
	there := *x
	there.pkg = c.pkg
	return &there
}

// wide reports whether a carrier is around all that a package has. What it says is for those
// objects alone that could say it themselves: the mesh's telemetry is not its routes'.
func (on On) wide() bool { return on == OnNamespace || on == OnMesh || on == OnDefault }

// nearest is the first of the carriers that has the rule's field; without one, the first
// that could have it. The nearest whole value counts, fields are not mixed.
func (r Rule) nearest(cs []carrier) (carrier, bool) {
	var could *carrier
	for i, c := range cs {
		if !slices.Contains(r.On, c.on) || could == nil && c.on.wide() {
			continue
		}
		if r.at(c).Has(r.Field) {
			return c, true
		}
		if could == nil {
			could = &cs[i]
		}
	}
	if could == nil {
		return carrier{}, false
	}
	return *could, true
}

// fieldOf is what a carrier says for the place; it does not exist where a default means others.
func (r Rule) fieldOf(c carrier, x *Place) intent.Node {
	if c.on == OnDefault && r.Spares != nil && r.Spares(x) {
		return intent.Node{}
	}
	return r.at(c).Field(r.Field)
}

// at is the struct that has the rule's field at a carrier.
func (r Rule) at(c carrier) intent.Node {
	if r.Within != "" && c.on == OnRoute {
		return c.node.Field(r.Within)
	}
	return c.node
}

// Default is one row of the table of defaults, which resolve fills and the
// documentation and `meshc plan --defaults` print.
type Default struct {
	// Field is the place in intent ("route.timeout"), Value its default, Why the reason.
	Field string `json:"field"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Rule is what resolve needs to know of one feature.
type Rule struct {
	// Name is the trait's name and the row's name in the matrix.
	Name string
	// Field is the CUE field on the carrier.
	Field string
	// Within is the field of a route within which Field stands there, "" for none. At other carriers Field stands alone.
	Within string
	// On are the carriers on which it may stand.
	On []On
	// Answers says that the feature answers requests itself, so that its route has no `to`.
	Answers bool
	// Forwards says that the feature is about requests on their way to a destination:
	// on a route that answers itself it means nothing, and writing it is a mistake.
	Forwards bool
	// Chooses says that the feature is about the choice among a route's destinations: with one of them it
	// means nothing, and writing it is a mistake.
	Chooses bool
	// Copies says that the field is a map by names as in "to", of who gets copies of requests.
	Copies bool
	// Holds says that what stands on a host holds for routes that others attach there, too, whatever
	// they would say themselves.
	Holds bool
	// Adds says that what stands on a host is done before what its routes say, which is a trait.Chained, and not in its
	// place: to the routes that others attach there, too.
	Adds bool
	// Bytes says that the feature holds for connections whose bytes nobody reads as well:
	// others mean nothing at a service that has TCP ports alone.
	Bytes bool
	// Places says that the feature is about several places of one destination: a name that is looked up as it is
	// asked for has none.
	Places   bool
	Defaults []Default
	// Read settles the feature's value. n may not exist: then Read returns the
	// default, or nil for none.
	Read func(n intent.Node, x *Place) trait.Value
	// Spares, if set, reports whether a `default` that says the field does not mean the place: what
	// holds there without it is no matter of what is usual elsewhere.
	Spares func(x *Place) bool
	// Follows, if set, is what the carrier's other values bring along where nothing says the field,
	// nil for nothing. It counts as not written.
	Follows func(others trait.Set) trait.Value
	// Unsaid, set beside Follows, warns of such a value where requests have those methods, nil for
	// all, at the line of the value whose name is by; "" for nothing to tell.
	Unsaid func(v trait.Value, methods []string) (by string, d diag.Diagnostic)
	// Fits, if set, notes what of a value that n says cannot hold beside the carrier's others.
	Fits func(v trait.Value, others trait.Set, n intent.Node, x *Place)
	// Uses names the destinations, beside the route's own, that the value sends requests to;
	// nil for none. Each has a service, one of its HTTP ports and a version.
	Uses func(v trait.Value) []model.Target
	// Idle, if set, reports whether a value sends nothing to one of the destinations that Uses
	// names, such as a mirror of 0 %: nobody has to be admitted there for it. What a destination
	// has to be is asked of it all the same, so that more than nothing can be written later.
	Idle func(v trait.Value, to model.Target) bool
	// Sends is which requests the proxies of a service or a gateway send to one of the destinations
	// by themselves: each of their accounts needs a grant for them. It is nil if what they send are a
	// route's requests.
	Sends func(v trait.Value, to model.Target) model.Match
	// Asks, if set, is what callers' proxies ask a service's port by themselves because of a value: whoever has an identity of
	// the mesh may do so. ok is false for nothing that needs to be let in.
	Asks func(v trait.Value) (what model.Terms, ok bool)
	// Waits says that a service's requests wait for what its proxy sends so: whoever is asked must
	// not wait for the service in turn.
	Waits bool
}

// Word is what resolve needs to know of one word of a route's match beside `path`.
type Word struct {
	// Field is the word.
	Field string
	// Read is which requests n means, which is written; it notes mistakes.
	Read func(n intent.Node, x *Place) model.Match
	// Door, if set, is about requests as they come to a gateway.
	Door *Door
}

// Door is what is known of a dimension whose value the door says by which a request comes.
type Door struct {
	Dim space.Dim
	// Values are those of all requests that reach the routes of a host: one is always, or
	// never, what a condition asks for.
	Values func(*model.Gateway, model.Host) []string
	// Fix is how to get requests with other values.
	Fix string
}

// Place is where a feature's value is being read: it resolves names, notes
// problems and expiries.
type Place struct {
	// Gateway is set on a gateway's route, whose unset features leave the service's own in force.
	Gateway bool
	// Host is the name of the gateway's host around a route, "" elsewhere.
	Host string
	// plain says that requests come to a gateway's route without TLS.
	plain bool
	// At is the carrier whose field is being read.
	At On
	// Match is which requests a route takes.
	Match model.Match
	// Rest is the name that a route's template gives to all that follows its literals, "" for none.
	Rest string
	// To is the port of the service for whose requests the value is settled, the zero Port
	// where it has several and none is meant.
	To model.Port
	// proxied says that an external is reached through an HTTP proxy.
	proxied bool
	// only are the ports that a route is for, nil for all.
	only []string
	// destination has the route's own destinations.
	destination intent.Node
	// Routes are those of the service whose own proxy the value is for.
	Routes []model.Route
	l      *linker
	pkg    *pkg
	// self is the ID of the service or gateway that carries the field.
	self string
	// path is the mesh path of the carrier: the service, or the route.
	path string
	// external is the external that carries the field, or of whose route it is; nil elsewhere.
	external *model.External
	// endpoints are where the carrier's workloads are, and discovered the versions of which intent does not say it.
	endpoints  []model.Endpoints
	discovered []string
}

// Home names who says a field of a service, a gateway's host or a route: its path.
func (x *Place) Home() string {
	if x.At == OnHost {
		return model.GatewayPath(x.self) + "/" + x.Host
	}
	return x.path
}

// External is the external that carries the field, or whose route does, without its traits,
// routes and grants; nil elsewhere. Read only.
func (x *Place) External() *model.External { return x.external }

// Endpoints is where workloads are that a service, a version or an external says something of: for each
// version, or the external's. Read only.
func (x *Place) Endpoints() []model.Endpoints { return x.endpoints }

// Discovered are the names of those versions of which a service, or the version itself, says something and whose workloads
// the platform finds. Read only.
func (x *Place) Discovered() []string { return x.discovered }

// Several reports whether the service that says something has more versions than one.
func (x *Place) Several() bool { return len(x.l.versions[x.self]) > 1 }

// Ports are those of the service or the external that says something. Read only.
func (x *Place) Ports() []model.Port { return x.l.ports[x.self] }

// Problem notes a problem.
func (x *Place) Problem(d diag.Diagnostic) { x.l.add(d) }

// Self is the ID of the carrier.
func (x *Place) Self() string { return x.self }

// Receiver resolves a name by which a route sends copies: one of its own destinations, else a service. It
// is one port of one version. A problem is noted.
func (x *Place) Receiver(e intent.Entry) (model.Receiver, bool) {
	d := x.destination.Field(e.Name)
	service, port, version := d.Field("service"), d.Field("port"), d.Field("version")
	out, ok := model.Receiver{Version: version.Str()}, true
	switch {
	case service.Exists():
		out.To, ok = x.l.service(x.pkg, service)
	case d.Exists() && !x.Gateway: // a version, as in `to`
		if out.To = x.self; out.Version == "" {
			out.Version, version = e.Name, e.Node
		}
	default:
		out.To, ok = x.l.serviceNamed(x.pkg, e.Name, e.Node.Pos())
	}
	if !ok {
		return out, false
	}
	at := e.Node
	if d.Exists() {
		at = d
	}
	if out.To == x.self && !d.Exists() {
		x.Problem(diag.New(diag.CodeCycle, at.Pos(), "%q mirrors to itself", out.To).WithFix("name a version that gets no requests otherwise, or another service: destination: %q: version: …", e.Name))
		return out, false
	}
	if out.Port, ok = x.l.httpPort(out.To, port, at, "destination: "+strconv.Quote(e.Name)+": port"); !ok {
		return out, false
	}
	versions := x.l.versions[out.To]
	switch {
	case out.Version == "" && len(versions) == 1:
		out.Version = versions[0]
	case out.Version == "" && len(versions) > 0:
		x.Problem(diag.New(diag.CodeOneOf, at.Pos(), "service %q has %d versions; a mirror needs to name one", out.To, len(versions)).
			WithFix("add: destination: %q: {service: %q, version: %q}", e.Name, out.To, versions[0]))
		return out, false
	case !slices.Contains(versions, out.Version):
		x.l.add(x.l.unknown(version.Pos(), "version", out.Version, versions).WithRelated(x.l.lineOf(model.ServicePath(out.To)), "service %q", out.To))
		return out, false
	}
	return out, true
}

// Percent reads a percentage that may have two decimals; a missing one is def.
func (x *Place) Percent(n intent.Node, def float64) float64 {
	if !n.Exists() {
		return def
	}
	p, _ := x.l.percent(n)
	return p.Float()
}

// percent reads a percentage that may have two decimals. Of one with more, which is noted, exact is false.
func (l *linker) percent(n intent.Node) (p model.Percent, exact bool) {
	hundredths, exact := n.Hundredths()
	p = model.Percent(hundredths)
	if !exact {
		l.add(diag.New(diag.CodeRange, n.Pos(), "%s has more than two decimals", n.Path()).WithFix("write %s", p))
	}
	return p, exact
}

// Collector resolves the name of a collector, which has to be of one of those kinds: what is to be
// sent there. A problem is noted.
func (x *Place) Collector(name string, at intent.Node, what string, kinds ...model.CollectorKind) (model.Collector, bool) {
	c, ok := x.l.collectors[name]
	switch {
	case !ok:
		x.l.add(x.l.unknown(at.Pos(), "collector", name, sortedKeys(x.l.collectors)))
	case c.Kind == "":
		return c, false
	case !slices.Contains(kinds, c.Kind):
		x.l.add(diag.New(diag.CodeProtocol, at.Pos(), "collector %q is %s, which has no %s", name, c.Kind, what).
			WithFix("name a collector that is %s", orOf(kinds)))
		return c, false
	}
	return c, ok
}

// Limiter resolves the name of a limiter. A problem is noted.
func (x *Place) Limiter(name string, at intent.Node) (model.Limiter, bool) {
	c, ok := x.l.limiters[name]
	if !ok {
		x.l.add(x.l.unknown(at.Pos(), "limiter", name, sortedKeys(x.l.limiters)))
	}
	return c, ok && c.To != ""
}

// Carrier is the mesh path of what carries the field.
func (x *Place) Carrier() string { return x.path }

// orOf are names of which one is to be chosen.
func orOf[T ~string](names []T) string {
	var out []string
	for _, n := range names {
		out = append(out, string(n))
	}
	return strings.Join(out, " or ")
}

// Collects reports whether the carrier is a service that is a collector.
func (x *Place) Collects() bool {
	for _, c := range x.l.collectors {
		if c.To == x.self && !x.Gateway {
			return true
		}
	}
	return false
}

// Speaks reports whether all requests for which the value is settled are to ports of that
// protocol. Of a gateway's route nobody knows.
func (x *Place) Speaks(p model.Protocol) bool {
	if x.To.Name != "" {
		return x.To.Protocol == p
	}
	ports := x.ports()
	return !x.Gateway && len(ports) > 0 && !slices.ContainsFunc(ports, func(other model.Port) bool { return other.Protocol.Plain() != p })
}

// OfBytes reports whether what carries the field has no requests, only connections whose bytes
// nobody reads: a TCP port, or a service or an external that has no other. Of a gateway's route
// nobody knows. What a service says for requests means nothing to its TCP ports, and is no mistake.
func (x *Place) OfBytes() bool {
	if x.OnPort() {
		return !x.To.Protocol.IsHTTP()
	}
	return !x.Gateway && x.l.onlyBytes(x.self)
}

// Proxied reports whether an HTTP proxy opens the connections to what carries the field.
func (x *Place) Proxied() bool { return x.proxied }

// Plaintext reports whether nobody speaks mTLS to the port for which the value is settled.
func (x *Place) Plaintext() bool { return x.external != nil || x.To.MTLS == model.Disable }

// Callers are the accounts of the services and gateways that a list names.
func (x *Place) Callers(n intent.Node) []string {
	var out []string
	for _, ref := range n.List() {
		out = append(out, x.l.caller(x.pkg, ref)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Namespaces are those that a list names.
func (x *Place) Namespaces(n intent.Node) []string { return x.l.namespaces(n) }

// Methods reads a list of methods, sorted, each once. A method that no request has is a problem.
func (x *Place) Methods(n intent.Node) []string { return x.l.methods(n) }

// OneOf returns the only one of the fields that n has. None or several is a problem, and "".
func (x *Place) OneOf(n intent.Node, fields ...string) string { return x.l.oneOf(n, fields...) }

// OnPort reports whether the field that is being read stands on a port.
func (x *Place) OnPort() bool { return x.At == OnPort || x.At == AroundPort }

// MaySpeak reports whether a port of the service speaks that protocol.
func (x *Place) MaySpeak(p model.Protocol) bool {
	return slices.ContainsFunc(x.ports(), func(other model.Port) bool { return other.Protocol == p })
}

// ports are those of the service or external to which requests may go whose value is settled.
func (x *Place) ports() []model.Port {
	all := x.l.ports[x.self]
	if x.only == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p model.Port) bool { return !slices.Contains(x.only, p.Name) })
}

// NoCalls reports whether none of the requests that the field is about is a call of gRPC, because no port
// speaks it: of those of its own that a route is for, where the route says it. At a gateway's route that is told
// where its destinations are known (trait.Calling).
func (x *Place) NoCalls() bool {
	if x.OnPort() || x.At == OnCall {
		return x.To.Protocol.Plain() != model.GRPC
	}
	ports := x.l.ports[x.self]
	if x.At == OnRoute {
		ports = x.ports()
	}
	return !x.Gateway && !slices.ContainsFunc(ports, func(p model.Port) bool { return p.Protocol.Plain() == model.GRPC })
}

// ElsewhereCalls reports whether the value is settled for a port that speaks no gRPC: what the field says
// of calls is about others.
func (x *Place) ElsewhereCalls() bool {
	return x.To.Name != "" && x.To.Protocol.Plain() != model.GRPC
}

// Path reads a path that a request is to have: as normalisation leaves it. Names of segments
// may stand in it. A problem is noted.
func (x *Place) Path(n intent.Node) (string, bool) {
	p := n.Str()
	why := badPath(p, true)
	if why != "" {
		x.Problem(diag.New(diag.CodePath, n.Pos(), "path %q %s", p, why).WithFix("write the path as it is after normalisation, such as \"/reviews/0\""))
	}
	return p, why == ""
}

// Below reads what stands in place of the prefix that the route's match takes, nil after a
// problem that is noted.
func (x *Place) Below(n intent.Node) *space.Move {
	to, ok := x.Path(n)
	if !ok {
		return nil
	}
	if strings.ContainsAny(to, "{}") {
		x.Problem(diag.New(diag.CodePath, n.Pos(), "prefix %q names segments, which are a template's", to).WithFix("write `path` instead"))
		return nil
	}
	from := x.Match.Path
	if from.Kind != model.PathPrefix || x.Match.ByCharacters() {
		x.Problem(diag.New(diag.CodePath, n.Pos(), "a prefix is to be replaced, and the route matches none").WithFix("match path: prefix: …, or write `path` instead"))
		return nil
	}
	if to != "/" {
		to = strings.TrimSuffix(to, "/")
	}
	if to == from.Value {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%q is put in place of itself", to).WithFix("delete it, or write another path"))
	}
	m := space.MoveBelow(from.Value, to)
	return &m
}

// Duration reads a duration. The schema has checked its form; a missing one is def.
func (x *Place) Duration(n intent.Node, def time.Duration) trait.Duration {
	if !n.Exists() {
		return trait.Duration(def)
	}
	d, err := time.ParseDuration(n.Str())
	if err != nil || d <= 0 || d > maxDuration {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "%s is %q, out of range", n.Path(), n.Str()).
			WithFix("write a duration above 0 and up to %d h", int(maxDuration.Hours())))
		return trait.Duration(def)
	}
	return trait.Duration(d)
}

// Size reads a size that is written, above 0 and up to most. What is out of range is a problem.
func (x *Place) Size(n intent.Node, most trait.Size) (trait.Size, bool) {
	text, unit := n.Str(), trait.Size(1)
	for suffix, u := range map[string]trait.Size{"KiB": trait.KiB, "MiB": trait.MiB} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, u
		}
	}
	b, err := strconv.ParseUint(strings.TrimSuffix(text, "B"), 10, 32)
	size := trait.Size(b) * unit
	if err != nil || b == 0 || size > most {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "%s is %q, out of range", n.Path(), n.Str()).WithFix("write a size above 0 and up to %s", most))
		return 0, false
	}
	return size, true
}

// maxDuration bounds every duration of the language: more is a mistake of unit.
const maxDuration = 24 * time.Hour

// Counted is Duration for a time of which proxies count milliseconds: one at least.
func (x *Place) Counted(n intent.Node, def time.Duration) trait.Duration {
	d := x.Duration(n, def)
	if d != 0 && time.Duration(d) < time.Millisecond {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "%s is shorter than a millisecond, which is what proxies count", n.Path()).WithFix("write 1ms or more"))
	}
	return d
}

// Expired reads n.until and reports whether it has passed at the compile date.
// An instant in force is noted, so that the commit gets a step for it.
func (x *Place) Expired(n intent.Node) bool { return x.l.expired(n) }

// Except notes that the feature of that name is a temporary weakening in force, with
// the owner, reason and end that n says, for policies to judge.
func (x *Place) Except(name string, n intent.Node) {
	x.l.exceptions = append(x.l.exceptions, Exception{Path: x.path, Kind: name, Owner: n.Field("owner").Str(),
		Reason: n.Field("reason").Str(), Until: n.Field("until").Str()})
}
