package envoy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// dial is a port number to which a class's workloads connect, and what may be behind
// it (transparent capture). HTTP destinations are told apart by the request's host.
// Bytes have none, so a TCP connection goes where it was dialled, and its other end has
// to prove that it is one of those that may be called; where a proxy of ours must
// choose, or where no certificate can prove anything, intent writes the addresses.
type dial struct {
	number uint32
	named  []target // HTTP, by host
	secret []target // callers' own TLS, by the name that they ask for
	bound  []target // TCP, by written address
	free   []target // TCP, by certificate
	// bytes and requests are the versions that may answer where they were dialled
	// themselves, by address or by a pod's own name.
	bytes, requests []target
	// beyond is set where the class lets out what it does not call.
	beyond *beyond
}

// isHTTP reports whether what comes without a written address is read as requests.
func (d *dial) isHTTP() bool {
	return len(d.named) > 0 || len(d.free) == 0 && len(d.requests) > 0
}

// proven are the versions that may answer where they were dialled.
func (d *dial) proven() []target {
	if d.isHTTP() {
		return d.requests
	}
	return d.bytes
}

// calls gives the destinations of which a cluster of their own is needed.
func (d *dial) calls() []target { return slices.Concat(d.named, d.secret, d.bound) }

// reserved reports whether a port is of a sidecar and its agent in a pod. Redirection
// leaves some of them alone, so that an application there would be without protection.
func reserved(port uint32) bool {
	return slices.Contains([]uint32{OutboundPort, InboundPort, 15020, 15021, 15090}, port)
}

// dials groups a class's destinations by port number, and reports those that a proxy
// cannot tell apart.
func (e *emitter) dials(c scope, ts []target) ([]*dial, diag.List) {
	by := map[uint32]*dial{}
	at := func(n uint32) *dial {
		if by[n] == nil {
			by[n] = &dial{number: n}
		}
		return by[n]
	}
	var problems diag.List
	for _, t := range ts {
		n := t.port.Dialled()
		if reserved(n) {
			problems = append(problems, e.reservedPort(t.path(), n, t.id()))
			continue
		}
		switch d := at(n); {
		case t.port.Protocol.IsHTTP():
			d.named = append(d.named, t)
		case t.port.Protocol == model.TLS:
			d.secret = append(d.secret, t)
		case len(t.addresses()) > 0:
			d.bound = append(d.bound, t)
		default:
			d.free = append(d.free, t)
			problems = append(problems, e.checkFree(c, t)...)
		}
		if t.proves() {
			at(n).answer(t, t.service.Versions)
		}
	}
	for _, t := range ts { // pods are dialled at the port of the application
		if !t.proves() {
			continue
		}
		for _, v := range t.service.Versions {
			if n := v.AppListenPort(t.port); n != t.port.Number && !reserved(n) {
				at(n).answer(t, []model.Version{v})
			}
		}
	}
	e.openUp(c, by)
	var out []*dial
	for _, n := range slices.Sorted(maps.Keys(by)) {
		problems = append(problems, e.checkDial(c, by[n])...)
		out = append(out, by[n])
	}
	return out, problems
}

// proves reports whether the destination's versions prove who they are.
func (t target) proves() bool { return t.service != nil && t.port.MTLS != model.Disable }

func (e *emitter) reservedPort(path string, n uint32, id string) diag.Diagnostic {
	return diag.New(diag.CodeSharedPort, e.at(path), "port %d of %q is a port of the sidecars themselves", n, id).WithFix("give it another port number")
}

// answer lets versions of a destination answer here.
func (d *dial) answer(t target, versions []model.Version) {
	for _, v := range versions {
		t.version = v
		if t.port.Protocol.IsHTTP() {
			d.requests = append(d.requests, t)
		} else {
			d.bytes = append(d.bytes, t)
		}
	}
}

// addresses are what callers dial for a TCP destination, where intent says it: as
// such, or as the endpoints themselves.
func (t target) addresses() []netip.Prefix {
	if t.external != nil {
		return t.external.Dialled()
	}
	return t.service.Dialled(t.port)
}

// checkFree reports what cannot be said of a TCP destination without addresses.
func (e *emitter) checkFree(c scope, t target) diag.List {
	needs := func(why string, args ...any) diag.List {
		return diag.List{diag.New(diag.CodeAddresses, e.at(callPath(c, t.id())), "port %q of %q is tcp and has no addresses, but "+why,
			append([]any{t.port.Name, t.id()}, args...)...).
			WithFix("write what callers dial, in environments/…: %s: addresses: [\"10.96.0.7\"]", fieldOf(t))}
	}
	if !t.proves() {
		return needs("whoever answers there proves no identity: any address could be dialled")
	}
	for _, v := range t.service.Versions {
		if v.Endpoints.Written() {
			return needs("endpoints of its version %q are written, while connections go where they are dialled", v.Name)
		}
	}
	if r := t.service.RoutesAt(t.port)[0]; !alike(r.To, t.service.Versions) {
		return needs("its route %q chooses between versions, while connections go where they are dialled", r.Name)
	}
	for _, v := range t.service.Versions {
		says := t.service.TraitsTo(t.port.Name, v.Name)
		for _, name := range says.Names() {
			if own := e.cells[name].Lowering; (own.cluster != nil || own.yields) && !says.IsDefault(name) {
				return needs("its %s needs a proxy that chooses among instances, while connections go where they are dialled", name)
			}
		}
	}
	return nil
}

func fieldOf(t target) string {
	_, name := splitID(t.id())
	if t.external != nil {
		return "external: " + name
	}
	return "service: " + name
}

// alike reports whether every version has the same share, up to rounding to whole percents.
func alike(to []model.Target, versions []model.Version) bool {
	share := map[string]model.Percent{}
	for _, t := range to {
		share[t.Version] += t.Weight
	}
	least, most := model.Percent(0), model.Percent(0)
	for i, v := range versions {
		w := share[v.Name]
		if i == 0 {
			least, most = w, w
		}
		least, most = min(least, w), max(most, w)
	}
	return most-least <= 100 && (least > 0 || most == 0)
}

// checkDial reports destinations on one port number that cannot be told apart.
func (e *emitter) checkDial(c scope, d *dial) diag.List {
	clash := func(a, b target, why string) diag.List {
		return diag.List{diag.New(diag.CodeSharedPort, e.at(callPath(c, a.id())), "proxies of %s call %q and %q on port %d and cannot tell them apart: %s", c.class, b.id(), a.id(), d.number, why).
			WithRelated(e.at(callPath(c, b.id())), "the other call").WithFix("give one of the two another port number, or TCP destinations `addresses` that differ")}
	}
	if bytes := slices.Concat(d.free, d.bound, d.bytes); len(d.secret) > 0 && len(bytes) > 0 {
		return clash(d.secret[0], bytes[0], "who waits for the name that TLS asks for would keep a server waiting that speaks first")
	}
	if len(d.named) > 0 && len(d.free) > 0 {
		return clash(d.named[0], d.free[0], "bytes name no host")
	}
	for i, a := range d.bound {
		for _, b := range d.bound[:i] {
			for _, p := range a.addresses() {
				if j := slices.IndexFunc(b.addresses(), p.Overlaps); j >= 0 {
					return clash(a, b, fmt.Sprintf("%s and %s overlap", b.addresses()[j], p))
				}
			}
		}
	}
	return nil
}

// dialledName is the cluster of what answers on a port number where it was dialled.
func dialledName(port uint32) string { return "dialled/" + portText(port) }

// dialledCluster connects to the address that the application dialled, through
// whatever the node makes of it, and goes on only if the other end proves to be one of
// the versions.
func (e *emitter) dialledCluster(d *dial) *entry {
	name, http := dialledName(d.number), d.isHTTP()
	var ids []string
	for _, t := range d.proven() {
		ids = append(ids, e.named(t.service.Classes(t.version))...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	key := fmt.Sprintf("cluster %s %v %q", name, http, ids)
	return e.get(key, nil, func(out *entry) {
		c := originalDestination(name)
		c.TransportSocket = upstreamTLS("", http, ids, e.roots())
		if http {
			speak(c, protocolOptions(model.HTTP2, fromMesh()))
		}
		e.seal(out, release.ClusterType, name, d.proven()[0].path(), c)
	})
}

// originalDestination is a cluster without endpoints: each connection goes where the
// one that it is for was dialled.
func originalDestination(name string) *clusterv3.Cluster {
	c := baseCluster(name)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	return c
}

// anyFamily is a port at all addresses, IPv6 and IPv4 in one socket. A listener cannot
// be moved here from 0.0.0.0 while it lives.
func anyFamily(port uint32) *corev3.Address {
	a := socketAddress("::", port)
	a.Ipv4Compat = true
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: a}}
}

func cidr(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: UInt32(uint32(p.Bits()))}
}
