package diag

// Codes of the linker (02xx): what was said has no meaning.
const (
	// CodeRootOnly is a field that only the root package may set.
	// Example: `trustDomain` in a package other than the top folder's.
	CodeRootOnly Code = "MESH0201"
	// CodeNamespace is a package that declares things without a namespace.
	// Example: `mesh: service: web: …` in a package without `mesh: namespace`.
	CodeNamespace Code = "MESH0202"
	// CodeDuplicate is one name declared twice.
	// Example: two packages of namespace "shop" both declare service "web".
	CodeDuplicate Code = "MESH0203"
	// CodeUnknown is a name that refers to nothing.
	// Example: `to: wbe: 100` where the version or service is called "web".
	CodeUnknown Code = "MESH0204"
	// CodeWeights is a set of weights that does not sum to 100.
	// Example: `to: {v1: 90, v2: 20}`.
	CodeWeights Code = "MESH0205"
	// CodeOneOf is a choice with none or several of its fields.
	// Example: `path: {exact: "/a", prefix: "/b"}`.
	CodeOneOf Code = "MESH0206"
	// CodeRouteConflict is two routes that take the same requests with equal rank.
	// Example: routes "a" and "b" that both match prefix "/x" with priority 0.
	CodeRouteConflict Code = "MESH0207"
	// CodeRange is a value outside its bounds.
	// Example: `timeout: "0s"`.
	CodeRange Code = "MESH0208"
	// CodeRole is one identity with two roles.
	// Example: a gateway and a service that both use service account "edge".
	CodeRole Code = "MESH0209"
	// CodeSharedAccount is two services on one account: access goes by account (warning).
	// Example: services "a" and "b" that both say `serviceAccount: "shared"`.
	CodeSharedAccount Code = "MESH0210"
	// CodeListen is an address that is missing, malformed or taken.
	// Example: explicit capture and a version without `address`.
	CodeListen Code = "MESH0211"
	// CodeWho is a grant that does not say who.
	// Example: `grant: all: methods: ["GET"]`.
	CodeWho Code = "MESH0212"
	// CodePath is a path pattern that means nothing.
	// Example: `paths: ["/a/*/b"]`.
	CodePath Code = "MESH0213"
	// CodeNotIdempotent is a retry of what the callee may have begun without `idempotent: true`.
	// Example: `retry: {attempts: 2, on: ["gateway-error"]}`.
	CodeNotIdempotent Code = "MESH0214"
	// CodeUntil is a temporary thing without a usable end.
	// Example: `fault: {…, until: "soon"}`.
	CodeUntil Code = "MESH0215"
	// CodeExpired is a temporary thing that has ended and is left out (warning).
	// Example: `until: "2020-01-01T00:00:00Z"`.
	CodeExpired Code = "MESH0216"
	// CodeCycle is services that call each other in a ring (warning), or mirror to themselves.
	// Example: a calls b and b calls a.
	CodeCycle Code = "MESH0217"
	// CodeNever is a route that no request can reach, or a deny that no request can meet.
	// Example: a route behind another that takes everything it matches.
	CodeNever Code = "MESH0218"
	// CodeProtocol is a feature on a port whose protocol cannot have it.
	// Example: a route with a header match on a service whose ports are all tcp.
	CodeProtocol Code = "MESH0219"
	// CodeEmpty is a repository without intent.
	// Example: a folder without any CUE package.
	CodeEmpty Code = "MESH0220"
	// CodePort is a destination with several ports of which none is named and none is the
	// main one: adding a port moves nobody and lets nobody in.
	// Example: calls: api: {} where service "api" has the ports http and admin
	CodePort Code = "MESH0221"
	// CodeRefused is a call, a route, or a feature that sends requests to a service
	// none of whose grants lets them in (warning; an error for what proxies send by themselves,
	// such as logs).
	// Example: calls: audit: {}, or mirror: audit: {}, where service "audit" has no grant.
	CodeRefused Code = "MESH0222"
	// CodeBroken is a `never` that some request breaks, or that cannot be proved for all requests.
	// Example: never: "cards only by payment": {anyone: true, not: from: ["shop/payment"], to: ["shop/vault"]} where another grant of "shop/vault" admits "shop/web".
	CodeBroken Code = "MESH0260"
	// CodeNobodyMore is an mTLS mode that takes plaintext, where no grant admits callers
	// without an identity (warning).
	// Example: mtls: mode: "permissive" where all grants name services.
	CodeNobodyMore Code = "MESH0223"
	// CodeBehind is a route that changes requests so that it cannot be told of those that come to
	// it which ones something behind it takes.
	// Example: requestHeaders: add: via: "edge" at a gateway, where a route of the service tests the header via.
	CodeBehind Code = "MESH0224"
	// CodeAuthorizer is an authorizer that may set headers by which proxies go, or that tell who the user is; or
	// a use of several that cannot be told apart.
	// Example: `authorizer: opa: {to: "opa", failOpen: false, headers: sets: ["x-envoy-peer"]}`.
	CodeAuthorizer Code = "MESH0226"
	// CodeScript is a script that is no Lua, does nothing, uses what scripts do not have, or sets headers that others
	// set or are let in by, as no processor may either.
	// Example: `lua: hello: {owner: "shop", code: "os.exit()"}`.
	CodeScript Code = "MESH0278"
	// CodeWasm is a module that is not the one of its digest, is none that a proxy could run, or is too large for where it
	// stands.
	// Example: `wasm: waf: {file: "waf.wasm", digest: "…", owner: "shop", onFailure: "refuse"}` with a file that has been built anew.
	CodeWasm Code = "MESH0282"
	// CodeDescriptors is a file of descriptors in which no service of gRPC is, or one of a port that takes bytes only.
	// Example: `port: grpc: {number: 9090, protocol: "grpc", descriptors: "shop.proto"}`, which is the text that protoc reads.
	CodeDescriptors Code = "MESH0283"
	// CodeHTTP3 is HTTP/3 at a gateway that believes proxies in front of it, or has nothing that visitors could come to by it.
	// Example: `gateway: edge: {trustedHops: 1, http3: true, port: https: {number: 443, protocol: "https"}}`.
	CodeHTTP3 Code = "MESH0279"
	// CodeTells is `proxyProtocol` of connections that are for several callers, or, as a warning, for which there is nobody to read it.
	// Example: `external: pay: {hosts: ["pay.example"], port: api: number: 80, connection: proxyProtocol: "v2"}`.
	CodeTells Code = "MESH0280"
	// CodeLogField is a field of a log that is no format, or that would give secrets to whoever
	// reads the lines.
	// Example: `fields: who: "%REQ(AUTHORIZATION)%"`.
	CodeLogField Code = "MESH0228"
	// CodeTag is a tag of a metric whose values requests choose: each would be a series of its own.
	// Example: `metrics: tags: tenant: value: "%REQ(X-TENANT)%"` without oneOf.
	CodeTag Code = "MESH0259"
	// CodeFirstBytes is a TCP port that takes plaintext and mTLS, which only a client's first bytes
	// tell apart: an error where the server speaks first, else a warning.
	// Example: `port: sql: {number: 5432, protocol: "tcp", mtls: mode: "permissive"}`.
	CodeFirstBytes Code = "MESH0229"
	// CodeHostPort is a host of a gateway that is at no port where it could be: one with
	// `tls` at no port that speaks https, or one without at such a port.
	// Example: host: "shop.example": tls: certificates: ["shop-tls"] where the gateway has port: http: number: 80
	CodeHostPort Code = "MESH0245"
	// CodeCertificate is a certificate that a gateway's host cannot have: another package's,
	// one whose Secret is in another namespace, or none at all.
	// Example: tls: certificates: ["shop/shop-tls"] at a gateway of package edge
	CodeCertificate Code = "MESH0246"
	// CodeExemption is an exemption from rules over objects that covers what none may, or
	// nothing: what says who judges or whom to trust, no single object where the object is to
	// be edited by hand, no rule.
	// Example: `exemption: all: {rules: ["drift"], object: {kind: "Service", namespace: "shop", name: "web-*"}, …}`.
	CodeExemption Code = "MESH0240"
	// CodeStrangers is a grant to callers without identity that lets them in from anywhere, that no port of it
	// ever takes plaintext for, or that says to last longer than what lets them come.
	// Example: `grant: batch: {plaintext: true, sources: ["10.2.0.0/16"]}` on a strict port.
	CodeStrangers Code = "MESH0290"
	// CodeAbrupt is a change of who proves to be whom, or of how, by one commit: proxies that have it and proxies that have not
	// refuse each other. It is told of a line of a plan, with the steps in which none does.
	// Example: `service: web: serviceAccount: "web2"` without `formerAccounts: web: {…}` beside it.
	CodeAbrupt Code = "MESH0256"
	// CodeTrustDomains is the mesh's own trust domain among others, or one that is the mesh's and another's (warning: one of
	// the base's others is an environment's own).
	// Example: `trustDomain: "shop.example", aliases: "shop.example": {…}`.
	CodeTrustDomains Code = "MESH0292"
	// CodeBundle is a file that is no bundle of a trust domain's roots, or of two.
	// Example: `federation: "partner.example": bundle: file: "roots.pem"`, where that holds a private key.
	CodeBundle Code = "MESH0294"
	// CodeFormer is a former account that is somebody else's, too, or no former one.
	// Example: `service: web: formerAccounts: shop: {…}` beside a service "shop".
	CodeFormer Code = "MESH0293"
	// CodeInstants is a package in which things end at more than 64 instants: for each the mesh is compiled anew.
	// Example: `formerAccounts` of a hundred accounts, each with an `until` of its own.
	CodeInstants Code = "MESH0297"
	// CodeForeign is an identity of another trust domain than the mesh's, which no proxy takes.
	// Example: `grant: partner: identities: ["spiffe://partner.example/ns/pay/sa/*"]`.
	CodeForeign Code = "MESH0291"
	// CodeIdle is a grant of which denies leave nothing, or a deny that nobody meets at any of
	// its ports (warning).
	// Example: grant: web: from: ["web"] beside deny: all: mesh: true
	CodeIdle Code = "MESH0247"
	// CodeDeafPort is a port of a gateway at which no host is, so that it answers nobody
	// (warning).
	// Example: a gateway with a port that speaks https, none of whose hosts has `tls`.
	CodeDeafPort Code = "MESH0248"
	// CodeRing is a redirect that leads back to itself, over any routes: whoever follows it never
	// arrives. One to HTTPS at a gateway that has the host by plain HTTP only is a warning. Routes of services
	// that lead to each other in a ring are one as well.
	// Example: `match: path: prefix: "/app", redirect: path: "/app"`.
	CodeRing Code = "MESH0249"
	// CodeOpened is a path that a grant gives to some callers, and that a probe or a scrape lets
	// anyone read (warning).
	// Example: `probe: live: path: "/admin/health"` beside `grant: ops: {from: ["ops"], paths: ["/admin/*"]}`.
	CodeOpened Code = "MESH0253"
	// CodeAllBut is a grant to the whole mesh, or to anyone, without some callers that its `not`
	// names: whoever comes to the mesh later is let in (warning).
	// Example: `grant: all: {mesh: true, not: from: ["web"]}`.
	CodeAllBut Code = "MESH0241"
	// CodeNoAccount is a pattern of accounts that fits none of the mesh, or a former account that has ended (warning).
	// Example: `grant: admins: accounts: ["*/admni"]`.
	CodeNoAccount Code = "MESH0242"
	// CodePlaintext is a port of an external that sends plaintext where everybody expects TLS.
	// Example: `external: stripe: {hosts: ["api.stripe.com"], port: api: {number: 443, protocol: "http"}}`.
	CodePlaintext Code = "MESH0250"
	// CodeExternalGrant is a call, or a gateway's route, to an external of another namespace that
	// does not grant it.
	// Example: calls: "shop/stripe": {} in namespace "web" where external "shop/stripe" has no grant.
	CodeExternalGrant Code = "MESH0251"
	// CodeVia is an external that goes out through a gateway that does not lead out for it, or a gateway's port
	// for that which says something else.
	// Example: `external: pay: {hosts: ["pay.example"], port: api: number: 443, via: gateway: "edge/edge"}` where
	// "edge/edge" has ports for visitors alone.
	CodeVia Code = "MESH0270"
	// CodeDynamic is an external with `endpoints: dynamic` that would lead anywhere, or that says what needs places
	// that are known beforehand.
	// Example: `external: all: {hosts: ["*"], endpoints: dynamic: {}, port: own: {number: 443, protocol: "tls"}}`.
	CodeDynamic Code = "MESH0271"
	// CodeProxied is an external behind an HTTP proxy that says what needs several places, or a place that nobody can
	// name to it.
	// Example: `external: pay: {endpoints: static: ["192.0.2.1:443", "192.0.2.2:443"], hosts: ["pay.example"], port: api: number: 443, via: proxy: "proxy.example:3128"}`.
	CodeProxied Code = "MESH0273"
	// CodeUnverified is an external that may prove any name.
	// Example: `external: cdn: {hosts: ["cdn.example"], port: api: number: 443, tls: sans: ["*"]}`.
	CodeUnverified Code = "MESH0252"
	// CodeNoWorkloads is a version that has no workloads, as intent says itself, and a share of
	// requests (warning).
	// Example: `version: v2: endpoints: static: []` beside `to: {v1: 90, v2: 10}`.
	CodeNoWorkloads Code = "MESH0258"
	// CodeNotJudged is an order of workloads by places where nothing says when those that come first are not well.
	// Example: `locality: prefer: "zone"` without `outlier`.
	CodeNotJudged Code = "MESH0261"
	// CodePlaceless is an order by places of workloads of which nobody says where they are.
	// Example: `locality: prefer: "zone"` beside `endpoints: static: ["10.0.0.5:8080"]`.
	CodePlaceless Code = "MESH0262"
	// CodeWorkload is a workload of another package's service, or of a version of which other words say where it is.
	// Example: `workload: vm1: {service: "ledger", address: "10.4.0.7"}` beside `service: ledger: endpoints: file: "ledger"`.
	CodeWorkload Code = "MESH0263"
	// CodeOnlyCalls is a service without ports that says what is about requests to it, calls nothing, or is where
	// something leads.
	// Example: `service: report: {calls: ledger: {}, grant: all: mesh: true}`.
	CodeOnlyCalls Code = "MESH0285"
	// CodeNotAsked is `health` of workloads that nobody has to ask, or that could never answer.
	// Example: `service: web: {port: http: number: 8080, health: http: path: "/healthz"}`, whose pods the cluster knows.
	CodeNotAsked Code = "MESH0286"
	// CodeServiceHost is a further name of a service that is, or may come to be, one of the mesh's own names.
	// Example: `service: ledger: hosts: ["books.shop"]` in a mesh that has a namespace "shop".
	CodeServiceHost Code = "MESH0287"
	// CodeNotRepeated is a written retry beside which nothing says how large a body may be that is
	// sent again (warning).
	// Example: retry: attempts: 2 on a route for any method, without `buffer`.
	CodeNotRepeated Code = "MESH0254"
	// CodeToken is a provider of tokens whose keys check nothing, whose claims would go where proxies
	// look, or (warning) that believes tokens for any audience; or a use of several that cannot be told apart.
	// Example: `jwt: corp: {issuer: "https://id.example", keys: inline: "{}"}`.
	CodeToken Code = "MESH0264"
	// CodeFile is the name of a file of the repository that is not there, is no text, or lies in two places.
	// Example: `respond: {status: 503, file: "closed.html"}` without such a file beside it.
	CodeFile Code = "MESH0265"
	// CodeCredentials are keys or passwords where they cannot be used: another package's, a Secret at a service, at
	// a gateway's host without TLS, or in a condition.
	// Example: `users: partners: require: true` on a host without `tls`, where partners are `credentials`.
	CodeCredentials Code = "MESH0266"
	// CodeLogin is a login where no browser can sign in: at a service, on a gateway's host without TLS or without a name, at
	// another package's gateway, or for a provider that does not take its tokens.
	// Example: `users: corp: {require: true, login: "web"}` on a host without `tls`.
	CodeLogin Code = "MESH0295"
	// CodeLoginPath is a path of a login, at which browsers come back or end their session, that no route with that login takes.
	// Example: `login: "web"` on the route of "/app" alone, with the callback "/login/callback".
	CodeLoginPath Code = "MESH0296"
	// CodePatch is a `patch` that is no part of the message it is for, or sets what intent decides.
	// Example: `patch: wide: {at: "manager", merge: max_request_header_kb: 96}`, a field that there is not.
	CodePatch Code = "MESH0276"
	// CodeUnknownUser is a condition on who the end user is where no `users` of that provider stands before it.
	// Example: `grant: staff: {mesh: true, user: corp: {}}` on a service without `users: corp`.
	CodeUnknownUser Code = "MESH0268"
	// CodeUserRoute is a gateway's route that asks who the user is, at a host some of whose routes look at no token of that provider.
	// Example: `match: user: corp: {}` on a route of a host without `users: corp`.
	CodeUserRoute Code = "MESH0298"
	// CodeAgain is a gateway's host whose routes ask who the user is and differ in what filters do, which stand before that is known.
	// Example: `route: {beta: match: user: corp: {}, default: fault: abort: {status: 503}}`.
	CodeAgain Code = "MESH0299"
	// CodeTwoValues is another line of a header that has one value (warning).
	// Example: `requestHeaders: add: "content-type": "text/plain"`.
	CodeTwoValues Code = "MESH0255"
	// CodeProxyless is what a gRPC program without a proxy cannot do, as a caller or as a server; or (warning) does with a loss.
	// Example: `mirror: audit: percent: 5` on a route of a service that a service with `proxyless: true` calls.
	CodeProxyless Code = "MESH0288"
	// CodeProxylessMixed is an account that some workloads with a proxy have, and some without.
	// Example: `version: {v1: {}, v2: proxyless: true}` with one service account.
	CodeProxylessMixed Code = "MESH0289"
)
