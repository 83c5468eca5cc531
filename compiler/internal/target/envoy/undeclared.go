package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// A class whose egress is open lets through what goes to where nothing is declared, to the address that was dialled
// (transparent capture). What is declared and not called by the class stays refused, as far as its proxies can tell: requests
// by their host, TLS by the name that it asks for, bytes by the addresses that intent writes. So such a class knows
// all that is declared, at each port number, and its configuration follows what others declare; that of other
// classes does not.

const listenerHTTP = "envoy.filters.listener.http_inspector"

// declaredAt is what intent declares at a port number.
type declaredAt struct {
	services []*model.Service
	hosts    []string // of externals, of requests
	asked    []string // of externals, of TLS
	ranges   []netip.Prefix
}

// declared is what intent declares, by port number, and its digest.
type declared struct {
	at     map[uint32]*declaredAt
	digest string
}

// declaring is the work that all classes with open egress share.
type declaring struct {
	once sync.Once
	all  declared
}

// declared is what the whole mesh declares.
func (r *run) declared() *declared {
	r.declaring.once.Do(func() { r.declaring.all = declaredIn(r.mesh) })
	return &r.declaring.all
}

func declaredIn(m *model.Mesh) declared {
	d := declared{at: map[uint32]*declaredAt{}}
	for _, x := range m.Declared() {
		if reserved(x.Number) {
			continue
		}
		n := d.at[x.Number]
		if n == nil {
			n = &declaredAt{}
			d.at[x.Number] = n
		}
		switch {
		case x.Range.IsValid():
			n.ranges = append(n.ranges, x.Range)
		case x.Asked:
			n.asked = append(n.asked, x.Host)
		case x.IsExternal:
			n.hosts = append(n.hosts, x.Host)
		default:
			n.services = append(n.services, m.Service(x.ID))
		}
	}
	h := sha256.New()
	for _, number := range slices.Sorted(maps.Keys(d.at)) {
		n := d.at[number]
		n.hosts, n.asked = sortedOnce(n.hosts), sortedOnce(n.asked)
		slices.SortFunc(n.ranges, netip.Prefix.Compare)
		n.ranges = slices.Compact(n.ranges)
		fmt.Fprintf(h, "%d %q %q %v", number, n.hosts, n.asked, n.ranges)
		for _, s := range n.services {
			fmt.Fprintf(h, " %q", s.NamesFor(s.Namespace))
		}
	}
	d.digest = hex.EncodeToString(h.Sum(nil))
	return d
}

func sortedOnce(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

// egress is the mode of a class: the tightest of those whose workloads have its proxies.
func (c scope) egress() model.Openness {
	var out model.Openness
	for i, m := range c.members {
		if i == 0 || m.service.Egress.Tighter(out) {
			out = m.service.Egress
		}
	}
	return out
}

// knows is the digest of what a class's configuration depends on beside what it calls: nothing, unless its egress is open.
func (e *emitter) knows(c scope) string {
	if e.m.Capture != model.Transparent || c.proxyless() || c.egress() == "" {
		return ""
	}
	return e.run.declared().digest
}

// beyond is what a class with open egress does at a port number with what it does not call.
type beyond struct {
	mode model.Openness
	// hosts and asked are the names that are declared, of requests and of TLS, ranges the addresses; without those
	// by which the class calls.
	hosts, asked []string
	ranges       []netip.Prefix
}

// mark tells one from others, for keys of what is made for several.
func (b *beyond) mark() string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf(" beyond %s %x", b.mode, sha256.Sum256(fmt.Appendf(nil, "%q %q %v", b.hosts, b.asked, b.ranges)))
}

// openUp gives each port number at which something is declared what is done there beyond the class's calls.
func (e *emitter) openUp(c scope, by map[uint32]*dial) {
	mode := c.egress()
	if mode == "" {
		return
	}
	known := e.run.declared().at
	for n := range known {
		if by[n] == nil {
			by[n] = &dial{number: n}
		}
	}
	for n, d := range by {
		if !d.isHTTP() && len(d.proven()) > 0 {
			continue // bytes that go wherever they were dialled, and have to prove who they are
		}
		d.beyond = &beyond{mode: mode}
		at := known[n]
		if at == nil {
			continue
		}
		hosts := slices.Clone(at.hosts)
		for _, s := range at.services {
			hosts = append(hosts, s.NamesFor(c.class.Namespace)...)
		}
		var called, asks []string
		for _, t := range d.named {
			called = append(called, domains(c.class.Namespace, t)...)
		}
		for _, t := range d.secret {
			asks = append(asks, t.external.Hosts...)
		}
		d.beyond.hosts, d.beyond.asked = uncovered(sortedOnce(hosts), called), uncovered(at.asked, asks)
		for _, r := range at.ranges {
			if !slices.ContainsFunc(d.bound, func(t target) bool {
				return slices.ContainsFunc(t.addresses(), func(own netip.Prefix) bool { return own.Bits() <= r.Bits() && own.Overlaps(r) })
			}) {
				d.beyond.ranges = append(d.beyond.ranges, r)
			}
		}
	}
}

// uncovered are the names of which nothing is among others, which may be wildcards: who calls a wildcard calls what it
// covers.
func uncovered(names, called []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(called, func(by string) bool {
			suffix, wild := strings.CutPrefix(by, "*")
			return by == name || wild && strings.HasSuffix(strings.TrimPrefix(name, "*"), suffix)
		})
	})
}

// inspects reports whether the first bytes tell what is sent at a port number. Where some of what is called there may be
// greeted first they must not be waited for.
func (d *dial) inspects() (tls, requests bool) {
	if d.beyond == nil || len(d.bound) > 0 {
		return false, false
	}
	requests = !d.isHTTP() && len(d.beyond.hosts) > 0
	return requests || d.isHTTP() || len(d.secret)+len(d.beyond.asked) > 0, requests
}

// hasRoutes reports whether requests are read at the port number.
func (d *dial) hasRoutes() bool {
	_, requests := d.inspects()
	return d.isHTTP() || requests
}

// undeclaredName is the cluster of what is not declared, by which proxies count.
func undeclaredName(mode model.Openness) string { return "undeclared/" + string(mode) }

// undeclaredCluster leads where the application dialled, in the way in which it asked.
func (e *emitter) undeclaredCluster(mode model.Openness) *entry {
	name := undeclaredName(mode)
	return e.get("cluster "+name, nil, func(out *entry) {
		c := originalDestination(name)
		speak(c, &upstreamv3.HttpProtocolOptions{
			CommonHttpProtocolOptions: fromApps().options(),
			UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig{UseDownstreamProtocolConfig: &upstreamv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{}, Http2ProtocolOptions: poolHTTP2(fromApps()),
			}},
		})
		e.seal(out, release.ClusterType, name, "", c)
	})
}

// open gives a listener of a port number, which has its chains for what is called, those for what is not.
func (d *dial) open(l *listenerv3.Listener, out *entry) {
	tls, requests := d.inspects()
	called := slices.DeleteFunc(slices.Clone(l.FilterChains), func(c *listenerv3.FilterChain) bool { return len(c.GetFilterChainMatch().GetPrefixRanges()) > 0 })
	add := func(name string, match *listenerv3.FilterChainMatch, with *listenerv3.Filter) {
		chain := chainOf(with)
		chain.Name, chain.FilterChainMatch = name, match
		l.FilterChains = append(l.FilterChains, chain)
	}
	name := undeclaredName(d.beyond.mode)
	letOut := func() *listenerv3.Filter { return out.tcpProxy(name, []share{{cluster: name, weight: 1}}) }
	plaintext := &listenerv3.FilterChainMatch{}
	if tls {
		d.openTLS(l, add, letOut)
		plaintext.TransportProtocol = transportPlaintext
	}
	if requests {
		l.ListenerFilters = append(l.ListenerFilters, httpInspector())
		add("requests", &listenerv3.FilterChainMatch{TransportProtocol: transportPlaintext, ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}}, out.httpManager(atCaller, portName(d.number)))
	}
	if !d.isHTTP() {
		add(name, plaintext, letOut())
	}
	if len(d.beyond.ranges) == 0 || d.isHTTP() && len(d.bound) > 0 { // there all others are requests, whose routes refuse them
		return
	}
	match := &listenerv3.FilterChainMatch{}
	for _, r := range d.beyond.ranges {
		match.PrefixRanges = append(match.PrefixRanges, cidr(r))
	}
	if len(called) == 0 {
		add("declared addresses", match, closeFilter())
		return
	}
	for _, c := range called { // what is called by name is, wherever it was dialled
		c = proto.CloneOf(c)
		c.Name = strings.TrimSpace(c.Name + " at declared addresses")
		c.FilterChainMatch.PrefixRanges = match.PrefixRanges
		l.FilterChains = append(l.FilterChains, c)
	}
}

// openTLS gives it the chains of TLS, and tells what is called in plaintext from that.
func (d *dial) openTLS(l *listenerv3.Listener, add func(string, *listenerv3.FilterChainMatch, *listenerv3.Filter), letOut func() *listenerv3.Filter) {
	if len(l.ListenerFilters) == 0 {
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
	}
	waitForHello(l, true)
	for _, c := range l.FilterChains {
		if c.FilterChainMatch == nil {
			c.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transportPlaintext}
		}
	}
	any := func(names []string) bool { return slices.Contains(names, "*") }
	switch {
	case slices.ContainsFunc(d.secret, func(t target) bool { return any(t.external.Hosts) }):
		return // any name is one that is called
	case any(d.beyond.asked):
		add("declared names", &listenerv3.FilterChainMatch{TransportProtocol: transportTLS}, closeFilter())
		return
	case len(d.beyond.asked) > 0:
		add("declared names", &listenerv3.FilterChainMatch{TransportProtocol: transportTLS, ServerNames: d.beyond.asked}, closeFilter())
	}
	add(undeclaredName(d.beyond.mode)+" by TLS", &listenerv3.FilterChainMatch{TransportProtocol: transportTLS}, letOut())
}

func httpInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: listenerHTTP, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(&httpinspectorv3.HttpInspector{})}}
}

// openHosts adds the hosts that are declared and not called to those of requests, and all others.
func (d *dial) openHosts(rc *routev3.RouteConfiguration, out *entry) {
	var taken []string
	for _, h := range rc.VirtualHosts {
		taken = append(taken, h.Domains...)
	}
	all := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	hosts := slices.DeleteFunc(slices.Clone(d.beyond.hosts), func(h string) bool { return h == "*" || slices.Contains(taken, h) })
	if len(hosts) > 0 {
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: "declared", Domains: hosts, Routes: []*routev3.Route{notFound("declared", all)}})
	}
	if slices.Contains(d.beyond.hosts, "*") {
		return // any host is declared
	}
	name := undeclaredName(d.beyond.mode)
	action := out.forward([]share{{cluster: name, weight: 1}})
	action.Route.Timeout = Duration(0)
	action.Route.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket"}}
	route := &routev3.Route{Name: name, Match: all, Action: action}
	if len(d.beyond.ranges) > 0 {
		RouteFilter(route, SlotDeny, perRoute(d.beyond.refusesRanges()))
	}
	switch i := slices.IndexFunc(rc.VirtualHosts, func(h *routev3.VirtualHost) bool { return slices.Contains(h.Domains, "*") }); {
	case i < 0:
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: "undeclared", Domains: []string{"*"}, Routes: []*routev3.Route{route}})
	case rc.VirtualHosts[i].Name == podsByAddress:
		rc.VirtualHosts[i].Routes = append(rc.VirtualHosts[i].Routes, route)
	}
}

// refusesRanges keeps requests by hosts that nobody declares from addresses that somebody does.
func (b *beyond) refusesRanges() *rbacconfigv3.RBAC {
	rules := denyAll()
	p := &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}}
	for _, r := range b.ranges {
		p.Permissions = append(p.Permissions, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_DestinationIp{DestinationIp: cidr(r)}})
	}
	rules.Policies["declared"] = p
	return rules
}
