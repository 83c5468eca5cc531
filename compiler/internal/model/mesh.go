// Package model is the linked meaning of all intent: services, routes,
// identities, grants, gateways and proxy classes.
//
// In: what resolve linked. Out: plain data in a total order, with final names.
// It knows no CUE, no protobuf and no Kubernetes type. A Mesh is built once and
// then only read; its canonical JSON is the release's mesh.json.
package model

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/certref"
)

// Capture says how traffic reaches a sidecar.
type Capture string

// The two ways of capture.
const (
	// Explicit: applications call written loopback ports (plain hosts).
	Explicit Capture = "explicit"
	// Transparent: redirection in the kernel (pods).
	Transparent Capture = "transparent"
)

// Protocol is what a port speaks.
type Protocol string

// The protocols of this language. HTTP means HTTP/1.1 to the application. Those that end in
// an s are within TLS: of an external, which the caller's proxy begins for its application, or
// of visitors, at a gateway. TLS is the application's own, of which only the name that it asks
// for is read.
const (
	HTTP    Protocol = "http"
	HTTP2   Protocol = "http2"
	GRPC    Protocol = "grpc"
	HTTPS   Protocol = "https"
	HTTPS2  Protocol = "https2"
	GRPCS   Protocol = "grpcs"
	TCP     Protocol = "tcp"
	TLS     Protocol = "tls"
	MeshTLS Protocol = "mesh"
)

// IsHTTP reports whether requests (not bytes) are routed by what their port says. What comes to a
// port of MeshTLS belongs to the port of an external, which says it.
func (p Protocol) IsHTTP() bool { return p != TCP && p != TLS && p != MeshTLS }

// Secured reports whether the caller's proxy begins TLS.
func (p Protocol) Secured() bool { return p == HTTPS || p == HTTPS2 || p == GRPCS }

// Plain is what is spoken inside of TLS, or without it.
func (p Protocol) Plain() Protocol {
	switch p {
	case HTTPS:
		return HTTP
	case HTTPS2:
		return HTTP2
	case GRPCS:
		return GRPC
	default:
		return p
	}
}

// MTLS is a port's mutual-TLS mode.
type MTLS string

// The modes.
const (
	Strict     MTLS = "strict"
	Permissive MTLS = "permissive"
	Disable    MTLS = "disable"
)

// Mesh is the whole. Every slice is sorted by ID, except routes, which are in
// the order in which they are tried.
type Mesh struct {
	TrustDomain string  `json:"trust_domain"`
	Environment string  `json:"environment"`
	Capture     Capture `json:"capture"`
	// Aliases are trust domains that are taken for TrustDomain, sorted by name. A mesh names identities by its own.
	Aliases []TrustDomain `json:"aliases,omitempty"`
	// Federation are trust domains of others, sorted by name.
	Federation []TrustDomain `json:"federation,omitempty"`
	// Overrides are the fields of packages in whose place stand the environment's, sorted by
	// package and path.
	Overrides  []Override  `json:"overrides,omitempty"`
	Namespaces []Namespace `json:"namespaces,omitempty"`
	Services   []*Service  `json:"services,omitempty"`
	Gateways   []*Gateway  `json:"gateways,omitempty"`
	Externals  []*External `json:"externals,omitempty"`
	// Nevers are what must never be allowed, sorted by package and name.
	Nevers []Never `json:"nevers,omitempty"`
	// Providers are those whose tokens of end users are believed somewhere, or could be.
	Providers []Provider `json:"providers,omitempty"`
	// Logins are those by which browsers sign in somewhere, or could, sorted by ID.
	Logins []Login `json:"logins,omitempty"`
	// Index, built by Mesh.Build.
	services  map[string]*Service
	externals map[string]*External
	gateways  map[string]*Gateway
	callers   map[string][]CallsOf // by callee and port
	// seen, if set, is told what is looked up: see Watched.
	seen func(Lookup)
}

// Override is a field of a package that an environment replaces.
type Override struct {
	Package string `json:"package"` // its folder
	Field   string `json:"field"`   // CUE's path of it, "mesh.service.cart.port.http"
}

// Lookup is a question for a service or an external by ID and its answer, nil
// if there is none.
type Lookup struct {
	ID       string
	Service  *Service
	External *External
	// IsExternal tells which of the two was asked for.
	IsExternal bool
}

// Watched is the mesh as seen by somebody who looks up single services and
// externals, each of which seen is told of; it has no lists. Whatever is made from
// it depends on what seen was told, and on the fields that are not lists.
func (m *Mesh) Watched(seen func(Lookup)) *Mesh {
	return &Mesh{TrustDomain: m.TrustDomain, Environment: m.Environment, Capture: m.Capture, Aliases: m.Aliases, Federation: m.Federation, services: m.services, externals: m.externals, seen: seen}
}

// Service is a destination inside the mesh. ID is "namespace/name".
type Service struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Owner     string `json:"owner"`
	// Package is the folder of the package that declares it, "" for the namespace's owner.
	Package string `json:"package,omitempty"`
	// Selector are the labels that tell its pods from others; nil: those of PodLabels.
	Selector map[string]string `json:"selector,omitempty"`
	// Ports are those that it listens on, none if it only calls: then it has no routes, grants, denies and traits either.
	Ports    []Port    `json:"ports,omitempty"`
	Versions []Version `json:"versions"`
	// Hosts are further names by which callers ask for it (transparent capture), sorted.
	Hosts []string `json:"hosts,omitempty"`
	// Addresses are IP prefixes that callers of its TCP ports dial (transparent capture), sorted.
	Addresses []string `json:"addresses,omitempty"`
	Calls     []Call   `json:"calls,omitempty"`
	// Routes is in the order of trial and ends the decision: no match is 404. A
	// service without routes in intent has one that sends to all versions alike.
	Routes []Route `json:"routes,omitempty"`
	Grants []Grant `json:"grants,omitempty"`
	Denies []Deny  `json:"denies,omitempty"`
	// ShadowGrants and ShadowDenies are counted by its proxies, and decide nothing.
	ShadowGrants []Grant   `json:"shadow_grants,omitempty"`
	ShadowDenies []Deny    `json:"shadow_denies,omitempty"`
	Traits       trait.Set `json:"traits,omitzero"`
	// PortTraits stand in the place of Traits for the ports that they name.
	PortTraits map[string]trait.Set `json:"port_traits,omitempty"`
}

// RoutesAt are the routes of what comes to one of its ports. Connections have no path, method
// or header: where only bytes are routed it is one, without a name, by its first route that has
// no conditions and sends to versions, else to all versions alike.
func (s *Service) RoutesAt(p Port) []Route {
	if p.Protocol.IsHTTP() {
		return ForPort(p.Name, s.Routes)
	}
	for _, r := range s.Routes {
		if r.IsFor(p.Name) && r.Match.IsZero() && len(r.To) > 0 && !r.LeadsOn() {
			return []Route{{Name: r.Name, To: plainly(r.To)}} // features of requests do not touch bytes
		}
	}
	return []Route{{To: Evenly(s.Versions)}}
}

// ToPort are the routes of what comes to the port of that name: of requests, unless it is one of bytes.
func (s *Service) ToPort(name string) []Route {
	if p, ok := s.Port(name); ok {
		return s.RoutesAt(p)
	}
	return ForPort(name, s.Routes)
}

// RoutesAt are the routes of requests to one of its ports.
func (e *External) RoutesAt(port string) []Route { return ForPort(port, e.Routes) }

// ForPort are those of some routes that are for a port.
func ForPort(port string, rs []Route) []Route {
	if !slices.ContainsFunc(rs, func(r Route) bool { return r.Ports != nil }) {
		return rs
	}
	var out []Route
	for _, r := range rs {
		if r.IsFor(port) {
			out = append(out, r)
		}
	}
	return out
}

// IsFor reports whether a service's or an external's route is for a port.
func (r Route) IsFor(port string) bool { return r.Ports == nil || slices.Contains(r.Ports, port) }

// Shares reports whether two routes are for one port.
func (r Route) Shares(other Route) bool {
	return r.Ports == nil || other.Ports == nil || slices.ContainsFunc(r.Ports, other.IsFor)
}

// EveryPod is the account of those pods of a namespace in Kubernetes that name none.
const EveryPod = "default"

// RestName is the name of the route of those ports for which a service or an external has none, where "default" is
// another's. No route of intent has a slash in its own.
const RestName = "default/rest"

// plainly are destinations without what they say of requests.
func plainly(to []Target) []Target {
	out := slices.Clone(to)
	for i := range out {
		out[i].Name, out[i].Traits = "", trait.Set{}
	}
	return out
}

// Evenly shares 100 among versions; the first ones take the rest of the division.
func Evenly(vs []Version) []Target {
	out := make([]Target, len(vs))
	for i, v := range vs {
		out[i] = Target{Version: v.Name, Weight: Percent(100/len(vs)) * 100}
		if i < 100%len(vs) {
			out[i].Weight += 100
		}
	}
	return out
}

// TraitsAt are the service's own at one of its ports.
func (s *Service) TraitsAt(port string) trait.Set { return at(port, s.Traits, s.PortTraits) }

// TraitsTo are what callers know of a version at a port: the version's own, and the service's.
func (s *Service) TraitsTo(port, version string) trait.Set {
	if v, ok := s.Version(version); ok {
		return v.TraitsAt(port).Or(s.TraitsAt(port))
	}
	return s.TraitsAt(port)
}

// LinesAt is what the mesh paths begin with under which there are the lines of TraitsAt: those of
// the service itself, of one of its routes or of its versions, which has the path.
func (s *Service) LinesAt(path, port string) string {
	if len(s.Ports) < 2 {
		return path
	}
	return path + PortLines(port)
}

// TraitsAt are the route's for requests to one of its service's ports.
func (r Route) TraitsAt(port string) trait.Set { return at(port, r.Traits, r.PortTraits) }

func at(port string, all trait.Set, own map[string]trait.Set) trait.Set {
	if s, ok := own[port]; ok {
		return s
	}
	return all
}

// Port is a service's port.
type Port struct {
	Name     string   `json:"name"`
	Number   uint32   `json:"number"`
	Protocol Protocol `json:"protocol"`
	MTLS     MTLS     `json:"mtls"`
	// Main says that it is meant where several are there and none is named.
	Main bool `json:"main,omitempty"`
}

// Version is a set of instances of one service that share labels and an account.
type Version struct {
	Name string `json:"name"`
	// Account is the service account's name, in the service's namespace.
	Account string `json:"account"`
	// Former are names of accounts that some of its workloads still have, sorted. They are nobody else's.
	Former []string `json:"former_accounts,omitempty"`
	// Proxyless says that its instances are gRPC programs that speak xDS themselves, without a proxy.
	Proxyless bool `json:"proxyless,omitempty"`
	// Labels tell its workloads from the service's others; none means all of them.
	Labels map[string]string `json:"labels,omitempty"`
	// Ports maps a port's name to what intent says of it for this version.
	Ports map[string]VersionPort `json:"ports,omitempty"`
	// Endpoints is where instances take requests for ports without a Host.
	Endpoints Endpoints `json:"endpoints,omitzero"`
	// Locals maps calls (Call.Key) to this version's local ports, where they differ from the calls'.
	Locals map[string]uint32 `json:"locals,omitempty"`
	// Traits are what callers know of this version in place of what its service says.
	Traits trait.Set `json:"traits,omitzero"`
	// PortTraits stand in the place of Traits for the ports that they name.
	PortTraits map[string]trait.Set `json:"port_traits,omitempty"`
}

// TraitsAt are the version's own at one of its service's ports.
func (v Version) TraitsAt(port string) trait.Set { return at(port, v.Traits, v.PortTraits) }

// VersionPort is a service's port at the instances of one version.
type VersionPort struct {
	// Host and Port are the address of the proxy (explicit capture). Host "" means that
	// Endpoints say where it is, Port 0 the port's own number.
	Host string `json:"host,omitempty"`
	Port uint32 `json:"port,omitempty"`
	// App is where the application listens; 0 means the port's number.
	App uint32 `json:"app,omitempty"`
}

// Endpoints says where instances are: exactly one field is set, or none if they
// are to be discovered by the service's name.
type Endpoints struct {
	// None says that there are none.
	None bool `json:"none,omitempty"`
	// Static are "host:port" addresses (IP literals).
	Static []string `json:"static,omitempty"`
	// DNS is "host:port", resolved by the server.
	DNS string `json:"dns,omitempty"`
	// File names an endpoint file in the server's endpoint folder.
	File string `json:"file,omitempty"`
	// Dynamic says that callers' proxies look up the name that is asked for, if it is one of an external's hosts.
	Dynamic bool `json:"dynamic,omitempty"`
	// Workloads are hosts that intent names one by one, sorted by name.
	Workloads []Workload `json:"workloads,omitempty"`
}

// Workload is a host at which one instance of a version takes requests, at the version's ports.
type Workload struct {
	Name string `json:"name"`
	// Address is an IP address.
	Address string `json:"address"`
	// Region and Zone are where it is; "" is unknown.
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// Weight is relative to others, 1 to 128; 0 means 1.
	Weight uint32 `json:"weight,omitempty"`
}

// Call says that a service sends requests to another (service or external).
type Call struct {
	// To is the callee's ID.
	To string `json:"to"`
	// Local is the port on the caller's loopback (explicit capture). 0 means none.
	Local uint32 `json:"local,omitempty"`
	// Port is the callee port's name.
	Port string `json:"port"`
	// Traits are what the caller says itself of the requests of this call, beside what the callee's
	// routes say (Tightens).
	Traits trait.Set `json:"traits,omitzero"`
}

// Key tells a service's calls apart.
func (c Call) Key() string { return c.To + "/" + c.Port }

// Tightens are the traits of a callee's route to some destinations for requests of a call that says s: of what both
// write the tighter holds. Where a route answers by itself nothing is left to be tightened.
func Tightens(s trait.Set, to []Target, route trait.Set) trait.Set {
	if s.Len() == 0 || len(to) == 0 {
		return route
	}
	// What the call says nothing of is the route's alone: nobody has to agree to it here.
	both := route.Without(func(v trait.Value) bool { _, said := s.Lookup(v.TraitName()); return !said })
	return s.Then(both).Or(route)
}

// CallsOf are the calls of a port by those who run as one account, whose proxies know the same:
// what all of them say there together, and the mesh paths of the calls that say it.
type CallsOf struct {
	Class  release.Class
	Traits trait.Set
	Paths  []string
}

// And adds a call.
func (c CallsOf) And(says trait.Set, path string) CallsOf {
	if says.Len() == 0 || slices.Contains(c.Paths, path) { // another version of the same caller
		return c
	}
	c.Traits, c.Paths = c.Traits.Then(says), append(slices.Clip(c.Paths), path)
	return c
}

// Equal reports whether the same is said by the same account at the same calls.
func (c CallsOf) Equal(o CallsOf) bool {
	return c.Class == o.Class && c.Traits.Equal(o.Traits) && slices.Equal(c.Paths, o.Paths)
}

// CallersOf are the accounts whose calls of a port say something, sorted.
func (m *Mesh) CallersOf(id, port string) []CallsOf { return m.callers[id+"/"+port] }

// indexCallers notes the calls that say something.
func (m *Mesh) indexCallers() {
	m.callers = map[string][]CallsOf{}
	for _, s := range m.Services {
		for _, c := range s.Calls {
			if c.Traits.Len() == 0 {
				continue
			}
			key := c.To + "/" + c.Port
			for _, v := range s.Versions {
				for _, of := range s.Classes(v) {
					i := slices.IndexFunc(m.callers[key], func(c CallsOf) bool { return c.Class == of })
					if i < 0 {
						i, m.callers[key] = len(m.callers[key]), append(m.callers[key], CallsOf{Class: of})
					}
					m.callers[key][i] = m.callers[key][i].And(c.Traits, s.CallPath(c))
				}
			}
		}
	}
	for _, cs := range m.callers {
		slices.SortFunc(cs, func(a, b CallsOf) int { return strings.Compare(a.Class.String(), b.Class.String()) })
	}
}

// PathKind says how a path is compared.
type PathKind string

// The kinds of path match. PathPrefix goes by segment; PathBelow is what a
// grant's "/a/*" means: "/a/" and all below it.
const (
	PathExact    PathKind = "exact"
	PathPrefix   PathKind = "prefix"
	PathTemplate PathKind = "template"
	PathBelow    PathKind = "below"
	PathEnd      PathKind = "end" // of grants and denies: whatever ends so
)

// Path is a condition on the normalised path. The zero Path is no condition.
type Path struct {
	Kind PathKind `json:"kind,omitempty"`
	// Value starts with "/". A PathPrefix has no trailing slash unless it is "/"; a
	// PathBelow ends in "/". A PathTemplate has a "{name}" in place of each free segment; one
	// that ends in "/*" takes whatever follows the slash.
	Value string `json:"value,omitempty"`
}

// Written is the condition as a grant writes it, if that has one of its kind.
func (p Path) Written() string {
	switch p.Kind {
	case PathBelow:
		return p.Value + "*"
	case PathEnd:
		return "*" + p.Value
	default:
		return p.Value
	}
}

// IsZero reports whether p is no condition.
func (p Path) IsZero() bool { return p.Kind == "" }

// Route is one rule of a service or of a gateway's host.
type Route struct {
	Name     string `json:"name"`
	Priority int    `json:"priority,omitempty"`
	// Package is the folder of the package that attached it to another one's gateway,
	// behind all routes that were not attached; "" otherwise. Name then is AttachedName.
	Package string `json:"package,omitempty"`
	// Owner is who answers for an attached route.
	Owner string `json:"owner,omitempty"`
	Match Match  `json:"match,omitzero"`
	// Ports are those that a service's or an external's route is for, sorted; nil for all that it can be for.
	Ports []string `json:"ports,omitempty"`
	// To is where requests go. A service's route names its own versions, or other services; a gateway's
	// or an external's route names services. Empty if a trait answers (redirect).
	To []Target `json:"to,omitempty"`
	// Canary is within what one of two destinations takes over, nil if To is written.
	Canary *Canary   `json:"canary,omitempty"`
	Traits trait.Set `json:"traits,omitzero"`
	// PortTraits stand in the place of Traits for requests to the ports that they name. Only a
	// service's route has some.
	PortTraits map[string]trait.Set `json:"port_traits,omitempty"`
}

// Target is a weighted destination.
type Target struct {
	// Service is the ID of the service ("" for the one whose own route it is) and Port its port's name.
	Service string `json:"service,omitempty"`
	Port    string `json:"port,omitempty"`
	// Version is a version's name; "" of another service: its own routes choose it.
	Version string `json:"version,omitempty"`
	// Weight is a share of All, where nothing else is said.
	Weight Percent `json:"weight"`
	// Name is that of a destination of the route that says something itself of the requests it gets,
	// and Traits are that: trait.Apart all.
	Name   string    `json:"name,omitempty"`
	Traits trait.Set `json:"traits,omitzero"`
}

// Apart takes from what holds for all requests of a route what its destinations have each of
// their own. Without such a destination, or with one alone, common is all there is; else each has
// the whole of those values, in the order of to.
func Apart(traits trait.Set, to []Target) (common trait.Set, each []trait.Set) {
	if len(to) == 1 {
		return traits.And(to[0].Traits), nil
	}
	own := func(v trait.Value) bool {
		return slices.ContainsFunc(to, func(t Target) bool { _, ok := t.Traits.Lookup(v.TraitName()); return ok })
	}
	for _, t := range to {
		each = append(each, traits.And(t.Traits).Without(func(v trait.Value) bool { return !own(v) }))
	}
	if !slices.ContainsFunc(each, func(s trait.Set) bool { return s.Len() > 0 }) {
		return traits, nil
	}
	return traits.Without(own), each
}

// Weighty are the destinations that get a share.
func Weighty(to []Target) []Target {
	return slices.DeleteFunc(slices.Clone(to), func(t Target) bool { return t.Weight <= 0 })
}

// Receiver is the one place to which a feature sends something besides what is routed.
type Receiver struct {
	// To is the service's ID, Port one of its ports, Version one of its versions.
	To      string `json:"to,omitempty"`
	Port    string `json:"port,omitempty"`
	Version string `json:"version,omitempty"`
}

// Target is the receiver as a destination.
func (r Receiver) Target() Target { return Target{Service: r.To, Port: r.Port, Version: r.Version} }

// CollectorKind is how one speaks to a collector.
type CollectorKind string

// The kinds, as intent has them.
const (
	OTLP   CollectorKind = "otlp"
	Zipkin CollectorKind = "zipkin"
	File   CollectorKind = "file"
)

// Collector is where proxies send what they tell of requests: a receiver, or a file.
type Collector struct {
	Kind CollectorKind `json:"kind"`
	Receiver
	// Path is where spans are posted to Zipkin, or the file; "" elsewhere.
	Path string `json:"path,omitempty"`
}

// Limiter is who counts requests for many proxies together. A mesh has it where it is asked.
type Limiter struct {
	Receiver
	// Domain is what it is told that it counts for.
	Domain string
	// Timeout is how long a request waits for its answer at most.
	Timeout trait.Duration
}

// Authorizer is who is asked whether requests are admitted. A mesh has it where it is asked.
type Authorizer struct {
	// ID is "namespace/name".
	ID string
	Receiver
	// Timeout is how long a request waits for its answer at most.
	Timeout trait.Duration
	// FailOpen admits requests about which it does not answer.
	FailOpen bool
	// Body is how much of a request's body it is told at most, 0 for nothing.
	Body trait.Size
	// Told are the headers that it is told, in lower case, sorted; nil for all. Sets are those that it may set on
	// requests that it admits, and that nobody else can.
	Told, Sets []string
}

// Authority is the receiver's name as a host: what a proxy asks for there by itself.
func (r Receiver) Authority() string {
	namespace, service, _ := strings.Cut(r.To, "/")
	return service + "." + namespace
}

// Targets are those of several receivers, in their order.
func Targets[R interface{ Target() Target }](rs []R) []Target {
	out := make([]Target, len(rs))
	for i, r := range rs {
		out[i] = r.Target()
	}
	return out
}

// Terms say who asks for what. Who is a union; it, methods, paths and ports hold together.
type Terms struct {
	// Accounts are callers by identity, "namespace/account", sorted.
	Accounts []string `json:"accounts,omitempty"`
	// Namespaces are callers by namespace.
	Namespaces []string `json:"namespaces,omitempty"`
	// Patterns are callers by identity, "namespace/account" with "*" for any letters but the slash, sorted.
	Patterns []string `json:"account_patterns,omitempty"`
	// Identities are callers by the path of their SPIFFE ID in the trust domain, without its first slash, or by the whole ID
	// in a trust domain of others, sorted. A segment "*" is any one, as the last one or more.
	Identities []string `json:"identities,omitempty"`
	// Mesh is every identity of the trust domain, Plaintext callers without one, Anyone all of these.
	Mesh      bool `json:"mesh,omitempty"`
	Plaintext bool `json:"plaintext,omitempty"`
	Anyone    bool `json:"anyone,omitempty"`
	// Methods and Paths: nil does not restrict; resolve refuses empty lists that mean nobody.
	Methods []string `json:"methods,omitempty"`
	Paths   []Path   `json:"paths,omitempty"`
	// Hosts are names of hosts, or "*.b" for all names below one, sorted; nil does not restrict.
	Hosts []string `json:"hosts,omitempty"`
	// Headers are conditions on single headers, sorted by name.
	Headers []Value `json:"headers,omitempty"`
	// Query are conditions on single parameters of the query, sorted by name.
	Query []Value `json:"query,omitempty"`
	// Users are conditions on who the end user is, one for each provider of tokens, sorted by it.
	Users []UserTerms `json:"users,omitempty"`
	// Sources are ranges of addresses of connections, and Clients of visitors, sorted; nil does not restrict.
	Sources []string `json:"sources,omitempty"`
	Clients []string `json:"clients,omitempty"`
	// Ports are port names; nil does not restrict.
	Ports []string `json:"ports,omitempty"`
}

// UserTerms say who the end user is to a provider of tokens: signed in there, by a token with all of these claims.
type UserTerms struct {
	// Provider is "namespace/name".
	Provider string `json:"provider"`
	// Claims are sorted by name.
	Claims []ClaimTerms `json:"claims,omitempty"`
}

// Tests are those of what a token says that is right.
func (u UserTerms) Tests() []space.Test {
	var out []space.Test
	for _, c := range u.Claims {
		out = append(out, space.Values(space.ClaimDim(u.Provider, c.Name), c.Any...))
	}
	return out
}

// ClaimTerms say what a claim is: one of the values, or a list with one of them in it.
type ClaimTerms struct {
	// Name is the claim, "a.b" for b within a.
	Name string `json:"name"`
	// Any is not empty.
	Any []string `json:"any"`
}

// Value is what a header, or a parameter, is like: of kind space.Exact, space.Prefix or space.Present.
type Value struct {
	Name string     `json:"name"` // a header's in lower case
	Kind space.Kind `json:"kind"`
	Text string     `json:"text,omitempty"`
}

// AsksRequests reports whether terms say anything of requests, which connections have not.
func (t Terms) AsksRequests() bool {
	return len(t.Methods)+len(t.Paths)+len(t.Hosts)+len(t.Headers)+len(t.Query)+len(t.Users)+len(t.Sources)+len(t.Clients) > 0
}

// OfConnections are the terms without what they say of requests.
func (t Terms) OfConnections() Terms {
	t.Methods, t.Paths, t.Hosts, t.Headers, t.Query, t.Users = nil, nil, nil, nil, nil, nil
	t.Sources, t.Clients = nil, nil
	return t
}

// Grant lets callers through who meet its terms.
type Grant struct {
	Name string `json:"name"`
	Terms
	// Not are terms of which none may hold, each field by itself, read as broadly as a deny's.
	// Neither Anyone nor ports are among them.
	Not Terms `json:"not,omitzero"`
	// Asked says that it is a probe or a scrape: Anyone may read one path of one port that speaks HTTP,
	// without a certificate too, whatever mTLS the port demands of others. Or it is what callers' proxies ask by
	// themselves of one port, which Mesh may.
	Asked bool `json:"asked,omitempty"`
	// Open is set on what a mode of access below "enforce" lets through at one port: whatever no other grant
	// allows.
	Open Openness `json:"open,omitempty"`
}

// Openness is a mode of access below "enforce".
type Openness string

// The modes.
const (
	Counted   Openness = "shadow" // what would be refused is counted
	Uncounted Openness = "off"
)

// Asked are the grants by which those without a certificate may read single paths of a port that
// refuses them everything else.
func (s *Service) Asked(p Port) []Grant {
	if p.MTLS != Strict {
		return nil // they come in anyway, and the grants are as good as others
	}
	return slices.DeleteFunc(slices.Clone(s.Grants), func(g Grant) bool { return !g.Asked || !g.Anyone || !slices.Contains(g.Ports, p.Name) })
}

// AsksVisitors reports whether the service's proxy tells visitors apart by their addresses, and be it to count them.
func (s *Service) AsksVisitors() bool {
	asks := func(t, not Terms) bool { return len(t.Clients)+len(not.Clients) > 0 }
	return slices.ContainsFunc(slices.Concat(s.Grants, s.ShadowGrants), func(g Grant) bool { return asks(g.Terms, g.Not) }) ||
		slices.ContainsFunc(slices.Concat(s.Denies, s.ShadowDenies), func(d Deny) bool { return asks(d.Terms, d.Not) })
}

// Deny refuses what meets its terms, whatever grants say. It is read broadly: every
// spelling of a path counts (hop.Spellings), and GET stands for HEAD too. Terms of a
// gateway's or a host's deny say nothing of callers and ports: visitors have no identity.
type Deny struct {
	Name string `json:"name"`
	Terms
	// Not are terms of which none may hold, each field by itself, read as strictly as a
	// grant's. Anyone is not among them.
	Not Terms `json:"not,omitzero"`
	// Owner answers for it, Reason says why; "" if nobody wrote it.
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Strangers reports whether terms without others are about callers that have no identity.
func (t Terms) Strangers(not Terms) bool { return (t.Anyone || t.Plaintext) && !not.Plaintext }

// Seen are terms, and others of which none may hold, as the proxy of a port knows its callers: where it takes
// plaintext alone nobody has an identity, and who says nothing of such callers says nothing. ok is false then.
func (p Port) Seen(t, not Terms) (of, but Terms, ok bool) {
	if p.MTLS != Disable {
		return t, not, true
	}
	t.Anyone = t.Strangers(not)
	for _, of := range []*Terms{&t, &not} {
		of.Mesh, of.Plaintext, of.Namespaces, of.Patterns, of.Accounts, of.Identities = false, false, nil, nil, nil, nil
	}
	return t, not, t.Anyone
}

// Names reports whether terms are about an account, "namespace/account".
func (t Terms) Names(account string) bool {
	namespace, _, _ := strings.Cut(account, "/")
	return t.Mesh || t.Anyone || slices.Contains(t.Namespaces, namespace) || slices.Contains(t.Accounts, account) ||
		slices.ContainsFunc(t.Patterns, func(p string) bool { return AccountFits(p, account) }) || slices.ContainsFunc(t.Identities, func(p string) bool { return IdentityFits(p, account) })
}

// Identified is the pattern of the SPIFFE IDs in a trust domain whose path is one of Terms.Identities.
func Identified(trustDomain, path string) space.Pattern {
	id := path
	if _, foreign := ForeignDomain(path); !foreign {
		id = identityPrefix(trustDomain) + path
	}
	if !strings.Contains(path, "*") {
		return space.Pattern{Kind: space.Exact, Text: id}
	}
	return space.Pattern{Kind: space.Identified, Text: id}
}

// IdentifiedBroadly is the same as what refuses reads it: any text will do where a "*" stands, so that no spelling
// that SPIFFE has not gets past.
func IdentifiedBroadly(trustDomain, path string) space.Pattern {
	return Identified(trustDomain, strings.ReplaceAll(path, "*", "**"))
}

// IdentityFits reports whether an account, "namespace/account", has an identity whose path is one of Terms.Identities.
func IdentityFits(path, account string) bool {
	namespace, name, _ := strings.Cut(account, "/")
	if _, foreign := ForeignDomain(path); foreign {
		return false
	}
	const any = "any"
	return Identified(any, path).Matches("spiffe://" + any + "/ns/" + namespace + "/sa/" + name)
}

// OfPatterns reports whether some who-field stands for callers by a pattern that is not a beginning.
func (t Terms) OfPatterns() bool {
	return len(t.Patterns) > 0 || slices.ContainsFunc(t.Identities, func(p string) bool { return strings.Contains(p, "*") })
}

// AccountFits reports whether an account, "namespace/account", is one that a pattern takes.
func AccountFits(pattern, account string) bool {
	fits, err := path.Match(pattern, account)
	return err == nil && fits
}

// At reports whether a deny holds at a port of its service.
func (d Deny) At(port string) bool {
	return (d.Ports == nil || slices.Contains(d.Ports, port)) && !slices.Contains(d.Not.Ports, port)
}

// Whole reports whether a deny refuses whatever its callers ask of a port.
func (d Deny) Whole(port string) bool {
	return d.At(port) && !d.AsksRequests() && !d.Not.AsksRequests()
}

// MayRefuseCheck reports whether a deny may refuse, at a port and of some caller with an identity, what proxies ask by
// themselves: one method and one path, without a query, a user, or headers that none of them writes.
func (d Deny) MayRefuseCheck(port, method, path string) bool {
	who := d.Mesh || d.Anyone || len(d.Namespaces)+len(d.Accounts)+len(d.Patterns)+len(d.Identities) > 0
	if !who || d.Not.Mesh || !d.At(port) || len(d.Query)+len(d.Users) > 0 || slices.ContainsFunc(d.Headers, func(v Value) bool { return !written(v.Name) }) {
		return false
	}
	return Asked{Requests: Requests{d.Methods, d.Paths}, Not: Requests{d.Not.Methods, d.Not.Paths}}.Takes(method, path)
}

// written reports whether proxies may write a header in what they ask by themselves, or it is written on the way.
func written(header string) bool {
	return strings.HasPrefix(header, "x-forwarded-") || strings.HasPrefix(header, "x-envoy-") ||
		slices.Contains([]string{"accept", "content-length", "content-type", "grpc-timeout", "host", "te", "traceparent", "transfer-encoding", "user-agent", "x-request-id"}, header)
}

// IsAbout reports whether a deny names an account that it does not except.
func (d Deny) IsAbout(account string) bool { return d.Terms.Names(account) && !d.Not.Names(account) }

// IsAbout reports whether a grant names an account that it does not except.
func (g Grant) IsAbout(account string) bool { return g.Terms.Names(account) && !g.Not.Names(account) }

// Broadly are terms as what refuses reads their methods: HEAD is answered by what answers GET.
func (t Terms) Broadly() Terms {
	if slices.Contains(t.Methods, "GET") && !slices.Contains(t.Methods, "HEAD") {
		t.Methods = append(slices.Clip(t.Methods), "HEAD")
	}
	return t
}

// Gateway is an ingress proxy. ID is "namespace/name".
type Gateway struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Owner     string `json:"owner"`
	Account   string `json:"account"`
	// Former are names of accounts that some of its proxies still have, sorted. They are nobody else's.
	Former []string `json:"former_accounts,omitempty"`
	// Host is the IP that the listener binds; "::" means all addresses of both families.
	Host string `json:"host"`
	// Ports are those that it listens on, sorted by name, of protocol HTTP, HTTPS, TLS, TCP or MeshTLS. MTLS is
	// Disable but for MeshTLS, where it is Strict.
	Ports []Port `json:"ports"`
	// Says is what its ports say besides, by their names.
	Says map[string]PortSays `json:"says,omitempty"`
	// TrustedHops is how many proxies in front of it are believed what they write of visitors, 0 to 16.
	TrustedHops uint32 `json:"trusted_hops,omitempty"`
	// HTTP10 says that it takes requests of HTTP/1.0.
	HTTP10 bool `json:"http10,omitempty"`
	// HTTP3 says that beside each of its ports of HTTPS it takes HTTP/3, at the same number of UDP.
	HTTP3 bool `json:"http3,omitempty"`
	// Autoscale says how many pods it has, nil for a fixed number.
	Autoscale *Autoscale `json:"autoscale,omitempty"`
	// Denies are for all hosts, and so are ShadowDenies, which are counted alone.
	Denies       []Deny `json:"denies,omitempty"`
	ShadowDenies []Deny `json:"shadow_denies,omitempty"`
	Hosts        []Host `json:"hosts"`
	// Exits are the externals that are called through it, sorted by ID.
	Exits []Exit `json:"exits,omitempty"`
	// Traits are what its proxies do with all requests.
	Traits trait.Set `json:"traits,omitzero"`
}

// Autoscale is a number of pods from Min to Max, 1 ≤ Min ≤ Max ≤ 1000, that follows how
// busy they are: CPU is the wanted percentage of the processor time that they ask for,
// 1 to 1000.
type Autoscale struct {
	Min uint32 `json:"min"`
	Max uint32 `json:"max"`
	CPU uint32 `json:"cpu"`
}

// Addresses that a listener binds if intent names none.
const (
	// AnyAddress is all addresses of both families, which pods may have.
	AnyAddress = "::"
	// AnyIPv4 is all addresses of IPv4.
	AnyIPv4 = "0.0.0.0"
)

// Host is a virtual host of a gateway. Name is a DNS name, "*.suffix" or "*".
type Host struct {
	Name string `json:"name"`
	// Owner is who answers for the host; "" means the gateway's owner.
	Owner string `json:"owner,omitempty"`
	// Package is the folder of the package that attached the host, "" for the gateway's own.
	Package string `json:"package,omitempty"`
	// Ports are the names of the gateway's ports at which it is, sorted.
	Ports []string `json:"ports"`
	// TLS is set if one of them speaks HTTPS.
	TLS    *HostTLS `json:"tls,omitempty"`
	Denies []Deny   `json:"denies,omitempty"`
	// ShadowDenies are counted, and refuse nothing.
	ShadowDenies []Deny  `json:"shadow_denies,omitempty"`
	Routes       []Route `json:"routes"`
}

// ChoosesAgain reports whether some of its routes ask what is only known behind the first choice of one (Match.Late).
func (h Host) ChoosesAgain() bool {
	return slices.ContainsFunc(h.Routes, func(r Route) bool { return len(r.Match.Late()) > 0 })
}

// HostTLS is how visitors reach a host by HTTPS.
type HostTLS struct {
	// Certificates are sorted by ID: any of them may be shown.
	Certificates []Certificate `json:"certificates"`
	// Min is the oldest version of TLS, "1.2" or "1.3".
	Min string `json:"min"`
	// Plain is what requests get that come by plain HTTP.
	Plain Plain `json:"http"`
	// Client is who is taken by the certificates of visitors; nil for anyone.
	Client *ClientTLS `json:"client,omitempty"`
	// Ciphers are those of TLS 1.2 that are taken, sorted, none for the usual ones.
	Ciphers []string `json:"ciphers,omitempty"`
	// ALPN are the versions of HTTP that are offered, sorted, none for all.
	ALPN []string `json:"alpn,omitempty"`
}

// OverUDP reports whether such hosts are reached by HTTP/3 where their gateway takes it. Envoy resumes sessions of
// QUIC whatever it is told, so that a session would stand in for a certificate that has ended or was withdrawn:
// hosts that ask for one are reached by TCP alone.
func (t *HostTLS) OverUDP() bool { return t.Client == nil }

// ClientTLS says which certificates of visitors count.
type ClientTLS struct {
	// Required closes the connection to visitors without one.
	Required bool `json:"required"`
	// Roots is where the authorities lie.
	Roots Certificate `json:"roots"`
	// SANs are the names of which it has one, SPKI the keys of which it has one: sorted, none for any.
	SANs []string `json:"sans,omitempty"`
	SPKI []string `json:"spki,omitempty"`
	// CRL says that none counts that its authority has withdrawn.
	CRL bool `json:"crl,omitempty"`
}

// Equal reports whether both take the same.
func (c *ClientTLS) Equal(o *ClientTLS) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Required == o.Required && c.Roots == o.Roots && c.CRL == o.CRL && slices.Equal(c.SANs, o.SANs) && slices.Equal(c.SPKI, o.SPKI)
}

// Ref is the name by which a proxy asks for the authorities.
func (c *ClientTLS) Ref() certref.Ref {
	r := c.Roots.Ref()
	r.Kind = certref.Authorities
	if c.CRL {
		r.Kind = certref.Revoking
	}
	return r
}

// Plain is what a host with TLS does with requests that come without.
type Plain string

// What can be done with them.
const (
	PlainRedirect Plain = "redirect" // 308 to the same place by HTTPS
	PlainRefuse   Plain = "refuse"   // 403
	PlainServe    Plain = "serve"    // as if they had come by HTTPS
)

// Certificate is a certificate by where it lies. ID is "namespace/name". Nothing of what is
// in it is part of a mesh.
type Certificate struct {
	ID string `json:"id"`
	// Owner is who answers for it.
	Owner string `json:"owner"`
	// File is the name of a folder that the operator of a gateway has; "" if Secret is set.
	File string `json:"file,omitempty"`
	// Secret is "namespace/name" of a Kubernetes Secret in the namespace of the certificate; "" if File is set.
	Secret string `json:"secret,omitempty"`
}

// Ref is the name by which a proxy asks for the certificate.
func (c Certificate) Ref() certref.Ref {
	if c.Secret == "" {
		return certref.Ref{File: c.File}
	}
	namespace, name, _ := strings.Cut(c.Secret, "/")
	return certref.Ref{Namespace: namespace, Secret: name}
}

// Place says where the certificate lies, for people.
func (c Certificate) Place() string {
	if c.Secret == "" {
		return "file " + c.File
	}
	return "Secret " + c.Secret
}

// Certificates are all that the gateway's hosts show, and those that lie where the authorities of
// their visitors do, sorted by ID, each once.
func (g *Gateway) Certificates() []Certificate {
	var out []Certificate
	for _, h := range g.Hosts {
		if h.TLS != nil {
			out = append(out, h.TLS.Certificates...)
			if h.TLS.Client != nil {
				out = append(out, h.TLS.Client.Roots)
			}
		}
	}
	slices.SortFunc(out, func(a, b Certificate) int { return strings.Compare(a.ID, b.ID) })
	return slices.Compact(out)
}

// External is a destination outside the mesh, without identity. ID is "namespace/name".
type External struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Owner     string `json:"owner"`
	// Package is the folder of the package that declares it, "" for the namespace's owner.
	Package string `json:"package,omitempty"`
	Ports   []Port `json:"ports"` // MTLS is Disable
	// Endpoints is where all ports are. The zero value means the one host in Hosts, each port at its number.
	Endpoints Endpoints `json:"endpoints,omitzero"`
	// Hosts are the names under which it is called, sorted; none: by its own, like a service.
	Hosts []string `json:"hosts,omitempty"`
	// Addresses are IP prefixes that callers of its TCP ports dial (transparent capture), sorted.
	Addresses []string `json:"addresses,omitempty"`
	// Routes is in the order of trial and ends the decision: no match is 404. Their To has one
	// Target without names, which is the external.
	Routes []Route `json:"routes,omitempty"`
	// Grants say who may call it from other namespaces, by who-fields alone.
	Grants []Grant `json:"grants,omitempty"`
	// Via is the gateway through which it is called; nil: callers' proxies call it themselves.
	Via *Via `json:"via,omitempty"`
	// Proxy is the HTTP proxy outside of the mesh by which it is reached, "host:port"; "": directly.
	Proxy  string    `json:"proxy,omitempty"`
	Traits trait.Set `json:"traits,omitzero"`
}

// httpNumber is the port to which applications send plain requests.
const httpNumber = 80

// At is where the external's port p is.
func (e *External) At(p Port) Endpoints {
	if ep := e.Endpoints; ep.Written() || len(e.Hosts) != 1 {
		return ep
	}
	return Endpoints{DNS: e.Hosts[0] + ":" + strconv.FormatUint(uint64(p.Number), 10)}
}

// Selective is a value of an external that means something at some of its ports alone.
type Selective interface {
	trait.Value
	// MeantAt reports whether it does at that one.
	MeantAt(p Port) bool
}

// TraitsAt are the external's own that mean something at its port p.
func (e *External) TraitsAt(p Port) trait.Set {
	return e.Traits.Without(func(v trait.Value) bool {
		s, selective := v.(Selective)
		return selective && !s.MeantAt(p)
	})
}

// GrantTo is the grant by which a class of another namespace may call the external.
func (e *External) GrantTo(c release.Class) (Grant, bool) {
	if c.Namespace == e.Namespace {
		return Grant{}, false
	}
	i := slices.IndexFunc(e.Grants, func(g Grant) bool {
		return g.IsAbout(c.Namespace + "/" + c.Account)
	})
	if i < 0 {
		return Grant{}, false
	}
	return e.Grants[i], true
}

// Host is the name by which the external knows itself: the first of its hosts that is no
// wildcard, else what is looked up in DNS; "" if neither says one.
func (e *External) Host() string {
	for _, h := range e.Hosts {
		if !strings.HasPrefix(h, "*") {
			return h
		}
	}
	host, _, _ := strings.Cut(e.Endpoints.DNS, ":")
	return host
}

// Dialled is the port number to which callers of the port connect (transparent capture):
// where their proxy begins TLS, they speak plain HTTP.
func (p Port) Dialled() uint32 {
	if p.Protocol.Secured() {
		return httpNumber
	}
	return p.Number
}

// Build indexes the mesh. Call it once, after the slices are final.
func (m *Mesh) Build() *Mesh {
	m.services = make(map[string]*Service, len(m.Services))
	m.externals = make(map[string]*External, len(m.Externals))
	m.gateways = make(map[string]*Gateway, len(m.Gateways))
	for _, s := range m.Services {
		m.services[s.ID] = s
	}
	for _, e := range m.Externals {
		m.externals[e.ID] = e
	}
	for _, g := range m.Gateways {
		m.gateways[g.ID] = g
	}
	m.indexCallers()
	return m
}

// Service returns the service with that ID, nil if there is none.
func (m *Mesh) Service(id string) *Service {
	s := m.services[id]
	if m.seen != nil {
		m.seen(Lookup{ID: id, Service: s})
	}
	return s
}

// External returns the external with that ID, nil if there is none.
func (m *Mesh) External(id string) *External {
	e := m.externals[id]
	if m.seen != nil {
		m.seen(Lookup{ID: id, External: e, IsExternal: true})
	}
	return e
}

// Gateway returns the gateway with that ID, nil if there is none.
func (m *Mesh) Gateway(id string) *Gateway { return m.gateways[id] }

// Call returns the call that has a mesh path.
func (m *Mesh) Call(path string) (Call, bool) {
	for _, s := range m.Services {
		for _, c := range s.Calls {
			if s.CallPath(c) == path {
				return c, true
			}
		}
	}
	return Call{}, false
}

// Deny returns the deny that has a mesh path.
func (m *Mesh) Deny(path string) (Deny, bool) {
	carrier, name, ok := strings.Cut(path, "/deny/")
	if !ok {
		return Deny{}, false
	}
	find := func(at string, ds []Deny) (Deny, bool) {
		i := slices.IndexFunc(ds, func(d Deny) bool { return at == carrier && d.Name == name })
		if i < 0 {
			return Deny{}, false
		}
		return ds[i], true
	}
	if s := m.services[strings.TrimPrefix(carrier, ServicePath(""))]; s != nil {
		return find(ServicePath(s.ID), s.Denies)
	}
	for _, g := range m.Gateways {
		if d, ok := find(GatewayPath(g.ID), g.Denies); ok {
			return d, true
		}
		for _, h := range g.Hosts {
			if d, ok := find(GatewayHostPath(g.ID, h.Name), h.Denies); ok {
				return d, true
			}
		}
	}
	return Deny{}, false
}

// Port returns the port of that name.
func (s *Service) Port(name string) (Port, bool) { return findPort(s.Ports, name) }

// Port returns the port of that name.
func (e *External) Port(name string) (Port, bool) { return findPort(e.Ports, name) }

// Unnamed is the port that is meant where none is named: the only one, or the main one.
// ok is false if there is no such port, so that adding a port moves nobody.
func Unnamed(ps []Port) (p Port, ok bool) {
	if len(ps) == 1 {
		return ps[0], true
	}
	for _, p := range ps {
		if p.Main {
			return p, true
		}
	}
	return Port{}, false
}

func findPort(ps []Port, name string) (Port, bool) {
	for _, p := range ps {
		if p.Name == name {
			return p, true
		}
	}
	return Port{}, false
}

// Version returns the version of that name.
func (s *Service) Version(name string) (Version, bool) {
	for _, v := range s.Versions {
		if v.Name == name {
			return v, true
		}
	}
	return Version{}, false
}

// PodLabels are the labels of the service's pods, whatever their version: what intent
// writes, else "app" with the service's name.
func (s *Service) PodLabels() map[string]string {
	if s.Selector != nil {
		return s.Selector
	}
	return map[string]string{"app": s.Name}
}

// Port returns the gateway's port of that name.
func (g *Gateway) Port(name string) (Port, bool) { return findPort(g.Ports, name) }

// Discovered reports whether the platform knows where the version's instances are,
// because intent does not say it.
func (v Version) Discovered() bool {
	for _, p := range v.Ports {
		if p.Host != "" {
			return false
		}
	}
	return !v.Endpoints.Written()
}

// Written reports whether intent says where instances are, and be it that there are none.
func (e Endpoints) Written() bool {
	return e.None || len(e.Static) > 0 || e.DNS != "" || e.File != "" || e.Dynamic || len(e.Workloads) > 0
}

// Hosts are the addresses of its workloads.
func (e Endpoints) Hosts() []string {
	var out []string
	for _, w := range e.Workloads {
		out = append(out, w.Address)
	}
	return out
}

// Meets reports whether one instance may be where both say that instances are.
func (e Endpoints) Meets(o Endpoints) bool {
	return e.DNS != "" && e.DNS == o.DNS || e.File != "" && e.File == o.File ||
		slices.ContainsFunc(e.Static, func(at string) bool { return slices.Contains(o.Static, at) })
}

// Class is the proxy class of a version's instances.
func (s *Service) Class(v Version) release.Class {
	return release.Class{Role: release.Sidecar, Namespace: s.Namespace, Account: v.Account}
}

// Classes are the proxy classes of a version's instances: that of its account, then those of its former ones.
func (s *Service) Classes(v Version) []release.Class { return classes(s.Class(v), v.Former) }

// Class is the gateway's proxy class.
func (g *Gateway) Class() release.Class {
	return release.Class{Role: release.Gateway, Namespace: g.Namespace, Account: g.Account}
}

// Classes are the gateway's proxy classes: that of its account, then those of its former ones.
func (g *Gateway) Classes() []release.Class { return classes(g.Class(), g.Former) }

func classes(now release.Class, former []string) []release.Class {
	out := []release.Class{now}
	for _, account := range former {
		now.Account = account
		out = append(out, now)
	}
	return out
}

// Host is the IP address at which the proxy of version v listens for port p, "" if
// intent does not write it.
func (v Version) Host(p Port) string { return v.Ports[p.Name].Host }

// ListenPort is where the proxy of version v listens for port p.
func (v Version) ListenPort(p Port) uint32 {
	return cmp.Or(v.Ports[p.Name].Port, p.Number)
}

// AppListenPort is where the application of version v listens for port p.
func (v Version) AppListenPort(p Port) uint32 {
	return cmp.Or(v.Ports[p.Name].App, p.Number)
}

// Local is the port on the loopback of version v's host for call c.
func (v Version) Local(c Call) uint32 {
	if l, ok := v.Locals[c.Key()]; ok {
		return l
	}
	return c.Local
}

func decodeCalls(cs []Call, decode func(*trait.Set) error) (err error) {
	for i := range cs {
		err = cmp.Or(err, decode(&cs[i].Traits))
	}
	return err
}

// Decode reads mesh.json with the codecs of all features.
func Decode(raw []byte, codecs map[string]trait.Codec) (*Mesh, error) {
	var m Mesh
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("reading mesh.json: %w", err)
	}
	decode := func(s *trait.Set) (err error) { *s, err = s.Decoded(codecs); return err }
	both := func(all *trait.Set, own map[string]trait.Set) error {
		for port, s := range own {
			if err := decode(&s); err != nil {
				return err
			}
			own[port] = s
		}
		return decode(all)
	}
	routes := func(rs []Route) (err error) {
		for i := range rs {
			err = cmp.Or(err, both(&rs[i].Traits, rs[i].PortTraits))
			for k := range rs[i].To {
				err = cmp.Or(err, decode(&rs[i].To[k].Traits))
			}
		}
		return err
	}
	for _, s := range m.Services {
		err := cmp.Or(both(&s.Traits, s.PortTraits), routes(s.Routes))
		for i := range s.Versions {
			err = cmp.Or(err, both(&s.Versions[i].Traits, s.Versions[i].PortTraits))
		}
		err = cmp.Or(err, decodeCalls(s.Calls, decode))
		if err != nil {
			return nil, fmt.Errorf("reading mesh.json: service %q: %w", s.ID, err)
		}
	}
	for _, x := range m.Externals {
		if err := cmp.Or(decode(&x.Traits), routes(x.Routes)); err != nil {
			return nil, fmt.Errorf("reading mesh.json: external %q: %w", x.ID, err)
		}
	}
	for _, g := range m.Gateways {
		err := decode(&g.Traits)
		for _, h := range g.Hosts {
			err = cmp.Or(err, routes(h.Routes))
		}
		if err != nil {
			return nil, fmt.Errorf("reading mesh.json: gateway %q: %w", g.ID, err)
		}
	}
	return m.Build(), nil
}
