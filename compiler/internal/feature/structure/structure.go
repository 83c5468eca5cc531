// Package structure holds the rows of what a mesh is made of: the parts of the language that
// are no values on an object. They have cells only, for the packages that read and emit a
// mesh know them anyway; a cell says what becomes of the part there.
//
// In: the type of a row. Out: the rows, which feature/catalog lists.
package structure

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/target/coverage"
)

// use is a Use with words.
func use(path, format string, args ...any) coverage.Use {
	return coverage.Use{Path: path, What: fmt.Sprintf(format, args...)}
}

// ofServices are the uses that each service has.
func ofServices(f func(*model.Service) []coverage.Use) func(*model.Mesh) []coverage.Use {
	return func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, s := range m.Services {
			out = append(out, f(s)...)
		}
		return out
	}
}

// ofGateways are the uses that each gateway has.
func ofGateways(f func(*model.Gateway) []coverage.Use) func(*model.Mesh) []coverage.Use {
	return func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, g := range m.Gateways {
			out = append(out, f(g)...)
		}
		return out
	}
}

// Identity is strict mTLS, and that who is not granted is refused.
var Identity = feature.Structure{
	Name: "identity", What: "Callers prove who they are by mTLS, and whom nothing grants is refused.",
	Example: `mtls: mode: "strict"`, Lost: plan.Weakening,
	Uses:  func(*model.Mesh) []coverage.Use { return []coverage.Use{{Path: "", What: "identities"}} },
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the proxies hold callers to it"),
	GatewayAPI: coverage.Approximate("Gateway API has neither mTLS nor authorization; strict mTLS and default deny are left to the mesh that runs these objects").
		WithFix("see to both there, or serve the target envoy"),
}

// Former are accounts that services, versions and gateways had.
var Former = feature.Structure{
	Name: "formerAccounts", What: "Accounts that a service or a gateway had, while some of its workloads still have them: whoever takes it takes it with them.",
	Example: `formerAccounts: cart2: {owner: "shop", reason: "renamed", until: "2027-02-01T00:00:00Z"}`, Lost: plan.Narrowing,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, s := range m.Services {
			for _, v := range s.Versions {
				for _, account := range v.Former {
					out = append(out, use(model.VersionPath(s.ID, v.Name), "former account %q", account))
				}
			}
		}
		for _, g := range m.Gateways {
			for _, account := range g.Former {
				out = append(out, use(model.GatewayPath(g.ID), "former account %q", account))
			}
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(), GatewayAPI: coverage.Refuse("Gateway API knows no accounts of what it routes to"),
}

// TrustDomains are those beside the mesh's own.
var TrustDomains = feature.Structure{
	Name: "aliases", What: "Trust domains that are taken for the mesh's own (`aliases`), and those of others whose identities grants may name (`federation`).",
	Example: `mesh: aliases: "old.example": {owner: "platform", reason: "renamed", until: "2027-02-01T00:00:00Z"}`, Lost: plan.Narrowing,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, d := range m.Aliases {
			out = append(out, use(model.AliasPath(d.Name), "trust domain %q", d.Name))
		}
		for _, d := range m.Federation {
			out = append(out, use(model.FederationPath(d.Name), "trust domain %q", d.Name))
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the proxies verify certificates"), GatewayAPI: coverage.Refuse("Gateway API knows no identities"),
}

// Grants say who may ask what.
var Grants = feature.Structure{
	Name: "grant", What: "Who may ask what of a service, or of an external.", Example: `grant: web: from: ["web"]`, Lost: plan.Widening,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, s := range m.Services {
			for _, g := range s.Grants {
				if g.Asked {
					continue
				}
				out = append(out, use(model.GrantPath(s.ID, g.Name), "grant %q", g.Name))
			}
		}
		for _, x := range m.Externals {
			for _, g := range x.Grants {
				out = append(out, use(model.ExternalGrantPath(x.ID, g.Name), "grant %q", g.Name))
			}
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the proxies decide"), GatewayAPI: coverage.Refuse("Gateway API has no authorization"),
}

// Asked are probes and scrapes: what anyone may read, without a certificate.
var Asked = feature.Structure{
	Name: "probe", What: "Paths that anyone may read, without a certificate: for probes and scrapes.", Example: `probe: live: path: "/healthz"`, Lost: plan.Narrowing,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, g := range s.Grants {
			if kind, name, _ := strings.Cut(g.Name, "/"); g.Asked && (kind == "probe" || kind == "scrape") {
				out = append(out, use(model.GrantPath(s.ID, g.Name), "%s %q", kind, name))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callees' proxies let them through"),
	GatewayAPI: coverage.Refuse("Gateway API has no authorization, so nothing that is let through it"),
}

// Names are further ones of services.
var Names = feature.Structure{
	Name: "hosts", What: "Further names by which callers ask for a service.", Example: `hosts: ["ledger.corp.example"]`, Lost: plan.Narrowing,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, h := range s.Hosts {
			out = append(out, use(model.ServicePath(s.ID)+"/host/"+h, "host %q of a service", h))
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies know them; that a name leads somewhere is DNS's affair"),
	GatewayAPI: coverage.Refuse("routes of a Service have no hosts there"),
}

func denies(carrier string, ds []model.Deny) []coverage.Use {
	var out []coverage.Use
	for _, d := range ds {
		out = append(out, use(model.DenyPath(carrier, d.Name), "deny %q", d.Name))
	}
	return out
}

// Denies take out what is refused although a grant allows it.
var Denies = feature.Structure{
	Name: "deny", What: "What is refused although a grant, or a gateway's route, allows it.", Example: `deny: frozen: {mesh: true, methods: ["DELETE"]}`, Lost: plan.Widening,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, s := range m.Services {
			out = append(out, denies(model.ServicePath(s.ID), s.Denies)...)
		}
		for _, g := range m.Gateways {
			out = append(out, denies(model.GatewayPath(g.ID), g.Denies)...)
			for _, h := range g.Hosts {
				out = append(out, denies(model.GatewayHostPath(g.ID, h.Name), h.Denies)...)
			}
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callees' proxies refuse"), GatewayAPI: coverage.Refuse("Gateway API has no authorization"),
}

// Shadows are grants and denies that are counted and not held to.
var Shadows = feature.Structure{
	Name: "shadow", What: "Grants and denies that proxies count and hold nobody to.", Example: `deny: frozen: {mesh: true, methods: ["DELETE"], shadow: true}`, Lost: plan.Neutral,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, s := range m.Services {
			for _, g := range s.ShadowGrants {
				out = append(out, use(model.GrantPath(s.ID, g.Name), "shadow grant %q", g.Name))
			}
			out = append(out, denies(model.ServicePath(s.ID), s.ShadowDenies)...)
		}
		for _, g := range m.Gateways {
			out = append(out, denies(model.GatewayPath(g.ID), g.ShadowDenies)...)
			for _, h := range g.Hosts {
				out = append(out, denies(model.GatewayHostPath(g.ID, h.Name), h.ShadowDenies)...)
			}
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the proxies count"), GatewayAPI: coverage.Refuse("Gateway API has no authorization, so none that is counted"),
}

// MTLS is a port's mode, where that is weaker than strict.
var MTLS = feature.Structure{
	Name: "mtls", What: "Ports that take plaintext, beside mTLS or in its place.",
	Example: `mtls: {mode: "permissive", until: "2027-02-01T00:00:00Z", owner: "team", reason: "old clients"}`, Lost: plan.Narrowing,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, p := range s.Ports {
			if p.MTLS != model.Strict {
				out = append(out, use(model.ServicePath(s.ID)+"/port/"+p.Name, "mTLS mode %q of port %q", p.MTLS, p.Name))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callees' proxies take it or not"), GatewayAPI: coverage.Refuse("Gateway API has no mTLS inside a mesh, so none that is off"),
}

// Calls say which services a service calls.
var Calls = feature.Structure{
	Name: "calls", What: "Whom a service calls: its proxy leads nowhere else.", Example: `calls: web: {}`, Lost: plan.Weakening,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, c := range s.Calls {
			out = append(out, use(model.ServicePath(s.ID), "call of %q", c.To))
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies keep to it; `networkPolicies` makes a second line of it"),
	GatewayAPI: coverage.Nothing("an HTTPRoute is for whoever calls; what nobody calls is left to the mesh that runs these objects"),
}

// Egress lets out what services send to where nothing is declared.
var Egress = feature.Structure{
	Name: "egress", What: "What services send to where nothing is declared: let out, counted or not, where it is not closed.",
	Example: `egress: {mode: "shadow", until: "2027-02-01T00:00:00Z", owner: "team", reason: "what it calls is declared next"}`, Lost: plan.Narrowing,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		if s.Egress == "" {
			return nil
		}
		return []coverage.Use{use(model.EgressPath(s.ID), "egress mode %q of %q", s.Egress, s.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies let it out; with `networkPolicies` its pods may send anywhere"),
	GatewayAPI: coverage.Nothing("an HTTPRoute is for what is declared; what becomes of the rest is left to the mesh that runs these objects"),
}

// Versions are a service's, where it has several.
var Versions = feature.Structure{
	Name: "version", What: "Several versions of a service, and the shares that they get.", Example: `route: default: to: {v1: 90, v2: 10}`, Lost: plan.Weakening,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		if len(s.Versions) < 2 {
			return nil
		}
		var names []string
		for _, v := range s.Versions {
			names = append(names, v.Name)
		}
		return []coverage.Use{use(model.ServicePath(s.ID), "versions %s of %q", strings.Join(names, ", "), s.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("a Service has the pods of all versions, and the callers' proxies tell them apart by their labels"),
	GatewayAPI: coverage.Approximate("each is a Service of its own, called SERVICE-VERSION, which must exist beside these objects").
		WithFix("make each of them a Service that selects the workloads of its version"),
}

// TCP is a service's port without HTTP, where versions or routes are behind it.
var TCP = feature.Structure{
	Name: "tcp", What: "TCP ports of services with several versions.", Example: `port: raw: {number: 9000, protocol: "tcp"}`, Lost: plan.Weakening,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, p := range s.Ports {
			if !p.Protocol.IsHTTP() && (len(s.Versions) > 1 || len(s.Routes) > 1) {
				out = append(out, use(model.ServicePath(s.ID), "where TCP port %q of %q leads", p.Name, s.ID))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies choose the version"), GatewayAPI: coverage.Refuse("an HTTPRoute leads requests, not connections"),
}

// Gateways are the doors into the mesh.
var Gateways = feature.Structure{
	Name: "gateway", What: "Doors into the mesh, and the hosts behind them.", Example: `mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: default: to: cart: 100}`,
	Lost: plan.Narrowing,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		return []coverage.Use{use(model.GatewayPath(g.ID), "gateway %q", g.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(), GatewayAPI: coverage.Exact(),
}

// streamed is a gateway with a port that passes bytes on.
func streamed(port string) string {
	return `mesh: {service: db: {port: raw: {number: 9000, protocol: "tcp"}, grant: visitors: from: ["gateway/edge"]}, gateway: edge: port: ` + port + `}`
}

// Streams are routes of connections at gateways' ports.
var Streams = feature.Structure{
	Name: "gateway.port.route", What: "Connections at gateways whose bytes go on as they are, by the name that their TLS asks for or by their source.",
	Example: streamed(`db: {number: 9000, protocol: "tcp", route: db: to: db: 100}`), Lost: plan.Narrowing,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		var out []coverage.Use
		for _, p := range g.Ports {
			for _, s := range g.Streams(p.Name) {
				out = append(out, use(model.GatewayStreamPath(g.ID, p.Name, s.Name), "route %q of port %q", s.Name, p.Name))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies pass bytes on; its Service has the port"), GatewayAPI: coverage.Refuse("TLSRoute and TCPRoute are not in the standard channel of every version"),
}

// ProxyProtocol is whom a gateway's port believes where connections come from.
var ProxyProtocol = feature.Structure{
	Name: "gateway.port.proxyProtocol", What: "Proxies in front of a gateway's port that say where connections come from.",
	Example: streamed(`db: {number: 9000, protocol: "tcp", proxyProtocol: from: ["10.0.0.0/8"], route: db: to: db: 100}`), Lost: plan.Neutral,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		var out []coverage.Use
		for _, p := range g.Ports {
			if len(g.Says[p.Name].Proxies) > 0 {
				out = append(out, use(model.GatewayPortPath(g.ID, p.Name), "whom port %q of gateway %q believes", p.Name, g.ID))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies read it; who writes it stands in front"), GatewayAPI: coverage.Refuse("whom its proxies believe is each implementation's affair"),
}

// Splits are routes of gateways that share requests out among services.
var Splits = feature.Structure{
	Name: "split", What: "Routes of gateways with several services behind them.",
	Example: `mesh: gateway: edge: {port: http: number: 80, host: "*": route: default: to: {cart: 50, web: 50}}`, Lost: plan.Weakening,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		var out []coverage.Use
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				if len(r.To) > 1 {
					out = append(out, use(model.GatewayRoutePath(g.ID, h.Name, r.Name), "the shares of route %q", r.Name))
				}
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies share requests out"), GatewayAPI: coverage.Exact(),
}

// Autoscale is how many pods a gateway has.
var Autoscale = feature.Structure{
	Name: "autoscale", What: "How many pods a gateway has, following how busy they are.",
	Example: `mesh: gateway: edge: {port: http: number: 80, autoscale: {min: 2, max: 5, cpu: 70}, host: "*": route: default: to: cart: 100}`, Lost: plan.Weakening,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		if g.Autoscale == nil {
			return nil
		}
		return []coverage.Use{use(model.GatewayPath(g.ID), "the number of pods of gateway %q", g.ID)}
	}),
	Envoy: coverage.Nothing("whoever runs the proxies has as many as it wants"), Kubernetes: coverage.Exact(),
	GatewayAPI: coverage.Nothing("an implementation runs as many proxies as it wants"),
}

// TrustedHops is which proxies in front of a gateway are believed.
var TrustedHops = feature.Structure{
	Name: "trustedHops", What: "How many proxies in front of a gateway are believed what they write of visitors.",
	Example: `mesh: gateway: edge: {port: http: number: 80, trustedHops: 1, host: "*": route: default: to: cart: 100}`, Lost: plan.Neutral,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		if g.TrustedHops == 0 {
			return nil
		}
		return []coverage.Use{use(model.GatewayPath(g.ID), "whom gateway %q believes", g.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies know whom to believe"),
	GatewayAPI: coverage.Refuse("whom its proxies believe is each implementation's affair").WithFix("set it there and accept the loss, or compile without the target gateway-api"),
}

// HTTP10 is which gateways take requests of HTTP/1.0.
var HTTP10 = feature.Structure{
	Name: "http10", What: "Whether a gateway takes requests of HTTP/1.0.",
	Example: `mesh: gateway: edge: {port: http: number: 80, http10: true, host: "*": route: default: to: cart: 100}`, Lost: plan.Narrowing,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		if !g.HTTP10 {
			return nil
		}
		return []coverage.Use{use(model.GatewayPath(g.ID), "that gateway %q takes HTTP/1.0", g.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies take it"),
	GatewayAPI: coverage.Refuse("which versions of HTTP its proxies take is each implementation's affair").WithFix("set it there and accept the loss, or compile without the target gateway-api"),
}

// HTTP3 is which gateways take HTTP/3.
var HTTP3 = feature.Structure{
	Name: "http3", What: "Whether a gateway takes HTTP/3 beside HTTPS.",
	Example: `mesh: certificate: shop: secret: "shop-tls", mesh: gateway: edge: {port: https: {number: 443, protocol: "https"}, http3: true, host: "shop.example": {tls: certificates: ["shop"], route: default: to: cart: 100}}`, Lost: plan.Narrowing,
	Uses: ofGateways(func(g *model.Gateway) []coverage.Use {
		if !g.HTTP3 {
			return nil
		}
		return []coverage.Use{use(model.GatewayPath(g.ID), "that gateway %q takes HTTP/3", g.ID)}
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(),
	GatewayAPI: coverage.Refuse("which versions of HTTP its proxies take is each implementation's affair").WithFix("set it there and accept the loss, or compile without the target gateway-api"),
}

// certificates are the uses of certificates that lie where wanted says.
func certificates(wanted func(model.Certificate) bool) func(*model.Mesh) []coverage.Use {
	return func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		seen := map[string]bool{}
		for _, g := range m.Gateways {
			for _, c := range g.Certificates() {
				if wanted(c) && !seen[c.ID] {
					seen[c.ID] = true
					out = append(out, use(model.CertificatePath(c.ID), "certificate %q", c.ID))
				}
			}
		}
		return out
	}
}

// edge is a gateway with a host that has the certificate "shop".
func edge(certificate, tls string) string {
	return `mesh: {certificate: shop: ` + certificate + `, gateway: edge: {port: {http: number: 80, https: {number: 443, protocol: "https"}}, host: "shop.example": {tls: {certificates: ["shop"]` +
		tls + `}, route: default: to: cart: 100}}}`
}

// CertificateFiles are certificates that the operator of a gateway has as files.
var CertificateFiles = feature.Structure{
	Name: "certificate.file", What: "Certificates that gateways show to visitors, from files of the operator.", Example: edge(`file: "shop"`, ""), Lost: plan.Weakening,
	Uses:  certificates(func(c model.Certificate) bool { return c.Secret == "" }),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the agents of gateways that run elsewhere read them; one in pods is refused, which has no files of its operator"),
	GatewayAPI: coverage.Refuse("a listener's certificates are Secrets, and it is a file of the operator").
		WithFix("name a Secret in place of `file`, accept the loss, or compile without the target gateway-api"),
}

// CertificateSecrets are certificates that lie in a cluster.
var CertificateSecrets = feature.Structure{
	Name: "certificate.secret", What: "Certificates that gateways show to visitors, from Secrets of a cluster.", Example: edge(`secret: "shop/shop-tls"`, ""), Lost: plan.Weakening,
	Uses:  certificates(func(c model.Certificate) bool { return c.Secret != "" }),
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(), GatewayAPI: coverage.Exact(),
}

// hosts are the uses of gateways' hosts with TLS that wanted takes.
func hosts(what string, wanted func(*model.Gateway, model.Host) bool) func(*model.Mesh) []coverage.Use {
	return ofGateways(func(g *model.Gateway) []coverage.Use {
		var out []coverage.Use
		for _, h := range g.Hosts {
			if h.TLS != nil && wanted(g, h) {
				out = append(out, use(model.GatewayHostPath(g.ID, h.Name), "%s of host %q", what, h.Name))
			}
		}
		return out
	})
}

// oldestTLS is what a host takes that asks for nothing newer.
const oldestTLS = "1.2"

// TLSMin is the oldest version of TLS that a host takes.
var TLSMin = feature.Structure{
	Name: "tls.min", What: "The oldest version of TLS that a host takes, if it is not 1.2.", Example: edge(`secret: "shop/shop-tls"`, `, min: "1.3"`), Lost: plan.Weakening,
	Uses:  hosts("the oldest version of TLS", func(_ *model.Gateway, h model.Host) bool { return h.TLS.Min != oldestTLS }),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies keep to it"), GatewayAPI: coverage.Refuse("the oldest version is each implementation's affair"),
}

// ClientTLS are hosts that take visitors by certificate.
var ClientTLS = feature.Structure{
	Name: "tls.client", What: "Hosts that take visitors by their certificates.", Example: edge(`secret: "shop/shop-tls"`, `, client: {mode: "require", roots: "shop"}`), Lost: plan.Widening,
	Uses:  hosts("the certificates of visitors", func(_ *model.Gateway, h model.Host) bool { return h.TLS.Client != nil }),
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(), GatewayAPI: coverage.Refuse("the standard channel of Gateway API asks no visitor for a certificate"),
}

// TLSParts are the ciphers and the versions of HTTP that a host chooses.
var TLSParts = feature.Structure{
	Name: "tls.ciphers", What: "The ciphers of TLS 1.2 and the versions of HTTP that a host chooses itself (`ciphers`, `alpn`).", Example: edge(`secret: "shop/shop-tls"`, `, alpn: ["http/1.1"]`), Lost: plan.Neutral,
	Uses:  hosts("the ciphers or versions of HTTP", func(_ *model.Gateway, h model.Host) bool { return len(h.TLS.Ciphers)+len(h.TLS.ALPN) > 0 }),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies keep to them"), GatewayAPI: coverage.Refuse("they are each implementation's affair"),
}

// PlainRefused are hosts that answer plain HTTP with 403.
var PlainRefused = feature.Structure{
	Name: "tls.http", What: "Hosts with TLS that refuse plain HTTP, at ports that speak it.", Example: edge(`secret: "shop/shop-tls"`, `, http: "refuse"`), Lost: plan.Neutral,
	Uses: hosts("the refusal of plain HTTP", func(g *model.Gateway, h model.Host) bool {
		return h.TLS.Plain == model.PlainRefuse && slices.ContainsFunc(h.Ports, func(name string) bool {
			p, _ := g.Port(name)
			return p.Protocol == model.HTTP
		})
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the gateway's proxies answer"),
	GatewayAPI: coverage.Refuse("no route of Gateway API answers 403").WithFix("redirect it, leave the host out of the ports that speak http (`ports`), or accept that it is not there at all"),
}

// Externals lie outside of the mesh.
var Externals = feature.Structure{
	Name: "external", What: "What lies outside the mesh and is called from inside.", Example: `mesh: external: pay: {port: http: number: 80, endpoints: dns: "pay.example:80"}`, Lost: plan.Weakening,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, x := range m.Externals {
			out = append(out, use(model.ExternalPath(x.ID), "the external %q", x.ID))
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies know where it is"), GatewayAPI: coverage.Refuse("a backend is a Service"),
}

// Via are the gateways, and the HTTP proxies of others, through which externals are called.
var Via = feature.Structure{
	Name: "external.via", What: "Gateways through which externals are called, which hold who may; or HTTP proxies of others, by CONNECT.",
	Example: `mesh: {gateway: out: port: mesh: {number: 15443, protocol: "mesh"}, external: pay: {hosts: ["pay.example"], port: api: number: 443, via: gateway: "out"}}`, Lost: plan.Weakening,
	Uses: func(m *model.Mesh) []coverage.Use {
		var out []coverage.Use
		for _, x := range m.Externals {
			switch {
			case x.Via != nil:
				out = append(out, use(model.ExternalPath(x.ID), "gateway %q before the external %q", x.Via.Gateway, x.ID))
			case x.Proxy != "":
				out = append(out, use(model.ExternalPath(x.ID), "the HTTP proxy %q before the external %q", x.Proxy, x.ID))
			}
		}
		return out
	},
	Envoy: coverage.Exact(), Kubernetes: coverage.Exact(), GatewayAPI: coverage.Refuse("a Gateway of Gateway API is for visitors, and tells no callers apart by their identities"),
}

// Endpoints are where the instances of a service are, where intent writes it.
var Endpoints = feature.Structure{
	Name: "endpoints", What: "Where the instances of a version are, if the platform does not know it: addresses, a name, a file, or workloads by name.", Example: `version: v1: endpoints: static: ["10.0.0.1:8080"]`, Lost: plan.Narrowing,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, v := range s.Versions {
			if !v.Discovered() {
				out = append(out, use(model.ServicePath(s.ID)+"/version/"+v.Name, "where version %q of %q is", v.Name, s.ID))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("the callers' proxies know them; the Service selects no pods"),
	GatewayAPI: coverage.Nothing("a Service knows its own workloads"),
}

// Proxyless are workloads without a proxy.
var Proxyless = feature.Structure{
	Name: "proxyless", What: "Workloads that are gRPC programs and speak xDS themselves, without a proxy.",
	Example: `mesh: service: bare: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, grant: web: from: ["web"]}`, Lost: plan.Neutral,
	Uses: ofServices(func(s *model.Service) []coverage.Use {
		var out []coverage.Use
		for _, v := range s.Versions {
			if v.Proxyless {
				out = append(out, use(model.ProxylessPath(s.ID, v.Name), "version %q of %q without a proxy", v.Name, s.ID))
			}
		}
		return out
	}),
	Envoy: coverage.Exact(), Kubernetes: coverage.Nothing("their pods get no sidecar, and bring an agent"),
	GatewayAPI: coverage.Refuse("who holds callers to its routes is each implementation's affair"),
}
