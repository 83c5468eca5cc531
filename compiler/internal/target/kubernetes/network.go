package kubernetes

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
)

// The second line of defence: what the cluster's network lets through, where it keeps
// NetworkPolicies. Grants and calls say it; methods, paths and identities are the
// proxies' alone. NetworkPolicies only let through, so that a deny, or a grant's `not`, takes
// out of them whom it refuses whatever they ask, as far as they are named: a service, a whole namespace, everyone.
// One service of a namespace that a grant lets through as a whole, callers without identity,
// methods and paths are refused by the proxies alone.

type networkPolicySpec struct {
	PodSelector labelSelector `json:"podSelector"`
	PolicyTypes []string      `json:"policyTypes"`
	Ingress     []rule        `json:"ingress,omitempty"`
	Egress      []rule        `json:"egress,omitempty"`
}

type labelSelector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []requirement     `json:"matchExpressions,omitempty"`
}

type requirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

// rule lets through what comes from, or goes to, any of its peers (none: all) at any of
// its ports (none: all).
type rule struct {
	From  []peer       `json:"from,omitempty"`
	To    []peer       `json:"to,omitempty"`
	Ports []policyPort `json:"ports,omitempty"`
}

type peer struct {
	NamespaceSelector *labelSelector `json:"namespaceSelector,omitempty"`
	PodSelector       *labelSelector `json:"podSelector,omitempty"`
	IPBlock           *ipBlock       `json:"ipBlock,omitempty"`
}

type ipBlock struct {
	CIDR string `json:"cidr"`
}

type policyPort struct {
	Protocol string `json:"protocol"`
	Port     uint32 `json:"port"`
}

// labelNamespace is the label of every namespace with its own name.
const labelNamespace = "kubernetes.io/metadata.name"

// namespaces selects some by their names.
func namespaces(names ...string) *labelSelector {
	if len(names) == 1 {
		return &labelSelector{MatchLabels: map[string]string{labelNamespace: names[0]}}
	}
	return &labelSelector{MatchExpressions: []requirement{{labelNamespace, "In", names}}}
}

func pods(namespace string, labels map[string]string) peer {
	return peer{NamespaceSelector: namespaces(namespace), PodSelector: &labelSelector{MatchLabels: labels}}
}

// gatewayLabels are the labels of a gateway's pods.
func gatewayLabels(g *model.Gateway) map[string]string { return map[string]string{"app": g.Name} }

// networkPolicies writes one for each service and gateway with pods.
func (e *emitter) networkPolicies() {
	if !e.profile.NetworkPolicies {
		return
	}
	write := func(namespace, name, of, owner, origin string, labels map[string]string, ingress, egress []rule) {
		spec := networkPolicySpec{PodSelector: labelSelector{MatchLabels: labels}, PolicyTypes: []string{"Ingress"}, Ingress: ingress}
		if e.profile.Injection != nil { // else nobody says where the control plane is
			spec.PolicyTypes, spec.Egress = append(spec.PolicyTypes, "Egress"), append(e.always(), egress...)
		}
		o := object{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Metadata: metadata{Name: name, Namespace: namespace, Labels: map[string]string{labelName: of}}, Spec: spec}
		e.add(o, owner, origin, []string{"spec", "podSelector"}, []string{"spec", "policyTypes"})
	}
	for _, s := range e.m.Services {
		if hasPods(s) {
			write(s.Namespace, s.Name, s.Name, s.Owner, model.ServicePath(s.ID), s.PodLabels(), e.ingress(s), e.egress(s))
		}
	}
	for _, g := range e.m.Gateways {
		door := e.doors(g)
		out := e.behind(g)
		if len(e.gatewaySecrets(g)) > 0 {
			out = append(out, apiServers())
		}
		write(g.Namespace, gatewayObject(g), g.Name, g.Owner, model.GatewayPath(g.ID), gatewayLabels(g), door, out)
	}
}

// doors are a gateway's ports: those for visitors for anyone, one for proxies of the mesh for those who call
// externals through it.
func (e *emitter) doors(g *model.Gateway) []rule {
	var out []rule
	var open []policyPort
	for _, p := range g.Ports {
		if p.Protocol != model.MeshTLS {
			open = append(open, policyPort{"TCP", p.Number})
			continue
		}
		if from := e.leaving(g); len(from) > 0 { // an empty list would be everybody
			out = append(out, rule{From: from, Ports: []policyPort{{"TCP", p.Number}}})
		}
	}
	for _, p := range overUDP(g) {
		open = append(open, policyPort{"UDP", p.Number})
	}
	if len(open) > 0 {
		out = append([]rule{{Ports: open}}, out...)
	}
	return out
}

// leaving are the pods of those who call externals through a gateway, each once.
func (e *emitter) leaving(g *model.Gateway) []peer {
	var out []peer
	for _, x := range g.Exits {
		for _, a := range x.Admits {
			for _, account := range a.Accounts {
				namespace, name, _ := strings.Cut(account, "/")
				out = append(out, slices.DeleteFunc(e.podsOf(namespace, name), func(p peer) bool {
					return slices.ContainsFunc(out, func(o peer) bool { return reflect.DeepEqual(o, p) })
				})...)
			}
		}
	}
	return out
}

// ingress is one rule for each grant, or several where denies refuse different callers at its
// ports. Probes come from the node, which a cluster lets through in any case.
func (e *emitter) ingress(s *model.Service) []rule {
	var out []rule
	for _, g := range s.Grants {
		first := len(out)
		for _, p := range s.Ports {
			if g.Ports != nil && !slices.Contains(g.Ports, p.Name) {
				continue
			}
			from, ok := e.callers(g, p, refusing(s, p))
			if !ok {
				continue // nobody, or callers without pods
			}
			i := first + slices.IndexFunc(out[first:], func(r rule) bool { return reflect.DeepEqual(r.From, from) })
			if i < first {
				i, out = len(out), append(out, rule{From: from})
			}
			out[i].Ports = append(out[i].Ports, policyPort{"TCP", e.targetPort(s, p)})
		}
	}
	return out
}

// refusing are the denies of a service that refuse whatever is asked of a port.
func refusing(s *model.Service, p model.Port) []model.Deny {
	return slices.DeleteFunc(slices.Clone(s.Denies), func(d model.Deny) bool { return !d.Whole(p.Name) })
}

// callers are the peers that a grant names and no deny refuses, none for everyone; false if
// there are none.
func (e *emitter) callers(g model.Grant, p model.Port, denies []model.Deny) ([]peer, bool) {
	refused := func(is func(model.Deny) bool) bool { return slices.ContainsFunc(denies, is) }
	if g.Anyone {
		return nil, !refused(func(d model.Deny) bool { return d.Anyone && exceptsNone(d, "") })
	}
	var out []peer
	if p.MTLS != model.Strict && g.Strangers(g.Not) && !refused(func(d model.Deny) bool { return d.Strangers(d.Not) }) {
		for _, r := range g.Sources {
			out = append(out, peer{IPBlock: &ipBlock{r}})
		}
	}
	spaces := g.Namespaces
	if g.Mesh {
		spaces = e.namespaces()
	}
	spaces = slices.DeleteFunc(slices.Clone(spaces), func(n string) bool {
		return g.Not.Mesh || slices.Contains(g.Not.Namespaces, n) || refused(func(d model.Deny) bool {
			return (d.Mesh || d.Anyone || slices.Contains(d.Namespaces, n)) && exceptsNone(d, n)
		})
	})
	if g.Mesh && len(spaces) > 0 {
		return append(out, peer{NamespaceSelector: namespaces(spaces...)}), true
	}
	for _, n := range spaces {
		out = append(out, peer{NamespaceSelector: namespaces(n)})
	}
	if from, ok := outsiders(g); ok {
		if len(from) == 0 {
			return nil, true // an empty list is everybody
		}
		out = append(out, from...)
	}
	for _, account := range slices.Concat(g.Accounts, e.fitting(g.Terms)) {
		if !g.IsAbout(account) || refused(func(d model.Deny) bool { return d.IsAbout(account) }) {
			continue
		}
		namespace, name, _ := strings.Cut(account, "/")
		out = append(out, e.podsOf(namespace, name)...)
	}
	return out, len(out) > 0
}

// exceptsNone reports whether a deny excepts nobody of a namespace, "" for nobody at all.
func exceptsNone(d model.Deny, namespace string) bool {
	if namespace == "" {
		return !d.Not.Mesh && !d.Not.Plaintext && len(d.Not.Namespaces)+len(d.Not.Patterns)+len(d.Not.Accounts) == 0
	}
	return !d.Not.Mesh && len(d.Not.Patterns) == 0 && !slices.Contains(d.Not.Namespaces, namespace) &&
		!slices.ContainsFunc(d.Not.Accounts, func(account string) bool { return strings.HasPrefix(account, namespace+"/") })
}

// outsiders are where callers may be who have other identities than accounts of the mesh; none is anywhere. ok
// is false if a grant names none of them.
func outsiders(g model.Grant) (from []peer, ok bool) {
	if !slices.ContainsFunc(g.Identities, func(path string) bool {
		s := strings.Split(path, "/")
		return len(s) != 4 || s[0] != "ns" || s[2] != "sa"
	}) {
		return nil, false
	}
	for _, r := range g.Sources {
		from = append(from, peer{IPBlock: &ipBlock{r}})
	}
	return from, true
}

// fitting are the accounts of the mesh that patterns of terms take, each once.
func (e *emitter) fitting(t model.Terms) []string {
	var out []string
	add := func(account string) {
		if !slices.Contains(out, account) && (slices.ContainsFunc(t.Patterns, func(p string) bool { return model.AccountFits(p, account) }) ||
			slices.ContainsFunc(t.Identities, func(p string) bool { return model.IdentityFits(p, account) })) {
			out = append(out, account)
		}
	}
	for _, s := range e.m.Services {
		for _, v := range s.Versions {
			for _, c := range s.Classes(v) {
				add(c.Namespace + "/" + c.Account)
			}
		}
	}
	for _, g := range e.m.Gateways {
		for _, c := range g.Classes() {
			add(c.Namespace + "/" + c.Account)
		}
	}
	return out
}

// podsOf are the pods that run as an account.
func (e *emitter) podsOf(namespace, account string) []peer {
	var out []peer
	for _, s := range e.m.Services {
		if s.Namespace != namespace {
			continue
		}
		for _, v := range s.Versions {
			has := v.Account == account || slices.Contains(v.Former, account)
			if has && v.Discovered() {
				out = append(out, pods(namespace, versionLabels(s, v)))
			}
			if has {
				out = append(out, blocks(v.Endpoints.Hosts())...)
			}
		}
	}
	for _, g := range e.m.Gateways {
		if g.Namespace == namespace && (g.Account == account || slices.Contains(g.Former, account)) {
			out = append(out, pods(namespace, gatewayLabels(g)))
		}
	}
	return out
}

// versionLabels are those of a version's pods.
func versionLabels(s *model.Service, v model.Version) map[string]string {
	out := maps.Clone(s.PodLabels())
	maps.Copy(out, v.Labels)
	return out
}

// always is what every pod may reach: name servers, which may be anywhere, and the
// control plane.
func (e *emitter) always() []rule {
	out := []rule{{Ports: []policyPort{{"UDP", 53}, {"TCP", 53}}}}
	host, _, _ := strings.Cut(e.profile.Injection.Server, ":")
	if parts := strings.Split(host, "."); len(parts) >= 2 && (len(parts) == 2 || parts[2] == "svc") {
		return append(out, rule{To: []peer{{NamespaceSelector: namespaces(parts[1])}}})
	}
	return append(out, rule{To: []peer{{IPBlock: &ipBlock{"0.0.0.0/0"}}, {IPBlock: &ipBlock{"::/0"}}}, Ports: []policyPort{{"TCP", serverPort(e.profile.Injection.Server)}}})
}

// apiServers is where a cluster's API servers may be: no label says it, and most networks
// see the address behind that of the Service "kubernetes".
func apiServers() rule { return rule{Ports: []policyPort{{"TCP", 443}, {"TCP", 6443}}} }

// serverPort is the port of host:port, which the schema has checked.
func serverPort(address string) uint32 {
	_, port, _ := strings.Cut(address, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// egress is what the pods of a service call, and where copies of that go.
func (e *emitter) egress(s *model.Service) []rule {
	if s.Egress != "" { // its proxies tell what is declared from what is not
		return []rule{{}}
	}
	out := e.used(s.Traits)
	for _, c := range s.Calls {
		out = append(out, e.sending(c.To, c.Port)...)
	}
	return compact(out)
}

// sending is where proxies send what goes to a port of a service or of an external: to that, to where its routes lead
// on, and to what these use.
func (e *emitter) sending(id, port string) []rule {
	out := e.reach(id, port)
	if x := e.m.External(id); x != nil {
		for _, r := range x.Routes {
			out = append(out, e.used(r.Traits)...)
		}
	}
	s := e.m.Service(id)
	if s == nil {
		return out
	}
	for _, by := range e.m.LedTo(s) {
		for _, r := range by.Routes {
			out = append(out, e.used(r.Traits)...)
			for _, t := range model.Weighty(r.To) {
				if t.Service != "" {
					out = append(out, e.reach(t.Service, t.Port)...)
				}
			}
		}
	}
	return out
}

// behind is what a gateway's routes lead to, and the externals that are called through it.
func (e *emitter) behind(g *model.Gateway) []rule {
	out := e.used(g.Traits)
	for _, exit := range g.Exits {
		x := e.m.External(exit.External)
		for _, p := range x.Ports {
			out = append(out, externally(x, p))
		}
	}
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			for _, t := range s.To {
				out = append(out, e.reach(t.Service, t.Port)...)
			}
		}
	}
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			out = append(out, e.used(r.Traits)...)
			for _, t := range r.To {
				out = append(out, e.sending(t.Service, t.Port)...)
			}
		}
	}
	return compact(out)
}

// used is what features send requests to.
func (e *emitter) used(traits trait.Set) []rule {
	var out []rule
	for _, name := range traits.Names() {
		uses := e.cells[name].Uses
		if uses == nil {
			continue
		}
		v, _ := traits.Lookup(name)
		for _, to := range uses(v) {
			out = append(out, e.reach(to.Service, to.Port)...)
		}
	}
	return out
}

// reach is a port of a service or of an external.
func (e *emitter) reach(id, port string) []rule {
	if x := e.m.External(id); x != nil {
		if x.Via != nil && x.Via.Host == "" {
			return e.exit(x.Via)
		}
		p, _ := x.Port(port)
		return []rule{externally(x, p)}
	}
	s := e.m.Service(id)
	if s == nil {
		return nil
	}
	p, _ := s.Port(port)
	var out []rule
	if hasPods(s) {
		out = append(out, rule{To: []peer{pods(s.Namespace, s.PodLabels())}, Ports: []policyPort{{"TCP", e.targetPort(s, p)}}})
	}
	for _, v := range s.Versions {
		switch hosts := v.Endpoints.Hosts(); {
		case v.Discovered() || v.Endpoints.None:
		case len(hosts) > 0:
			out = append(out, rule{To: blocks(hosts), Ports: []policyPort{{"TCP", v.ListenPort(p)}}})
		default:
			out = append(out, outside(v.Endpoints))
		}
	}
	return out
}

// blocks are single addresses.
func blocks(hosts []string) []peer {
	var out []peer
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil { // resolve has seen to it
			out = append(out, peer{IPBlock: &ipBlock{netip.PrefixFrom(ip, ip.BitLen()).String()}})
		}
	}
	return out
}

// exit is the port of the gateway through which an external is called.
func (e *emitter) exit(v *model.Via) []rule {
	g := e.m.Gateway(v.Gateway)
	return []rule{{To: []peer{pods(g.Namespace, gatewayLabels(g))}, Ports: []policyPort{{"TCP", v.Number}}}}
}

// externally is where a port of an external is.
func externally(x *model.External, p model.Port) rule {
	if x.Proxy != "" {
		return outside(x.ProxyAt())
	}
	if x.Endpoints.Dynamic {
		return rule{Ports: []policyPort{{"TCP", p.Number}}}
	}
	return outside(x.At(p))
}

// outside is what lies at written addresses, or anywhere at a written port.
func outside(at model.Endpoints) rule {
	var r rule
	for _, a := range at.Static {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			continue // resolve has said so
		}
		addr := ap.Addr()
		r.To = append(r.To, peer{IPBlock: &ipBlock{netip.PrefixFrom(addr, addr.BitLen()).String()}})
		if p := (policyPort{"TCP", uint32(ap.Port())}); !slices.Contains(r.Ports, p) {
			r.Ports = append(r.Ports, p)
		}
	}
	if len(r.To) == 0 && at.DNS != "" {
		return rule{Ports: []policyPort{{"TCP", serverPort(at.DNS)}}}
	}
	if len(r.To) == 0 {
		return rule{} // a file of the operator's: addresses and ports are not known here
	}
	return r
}

// compact leaves out rules that are there already.
func compact(rules []rule) []rule {
	seen := map[string]bool{}
	var out []rule
	for _, r := range rules {
		text, err := yamlOf(r)
		if err != nil || seen[string(text)] {
			continue
		}
		seen[string(text)] = true
		out = append(out, r)
	}
	return out
}
