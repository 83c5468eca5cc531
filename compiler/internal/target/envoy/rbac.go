package envoy

import (
	"net/netip"
	"slices"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	principalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	exprv1alpha1 "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// access is the authorization of one port: an ALLOW with one policy per grant
// that holds for the port, named as the grant. Without policies it denies all.
// On a port without mTLS nobody has an identity, so only grants to such callers count.
func (e *emitter) access(s *model.Service, p model.Port) *rbacconfigv3.RBAC {
	return e.allow(s.Grants, p)
}

func (e *emitter) allow(grants []model.Grant, p model.Port) *rbacconfigv3.RBAC {
	out := &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW, Policies: map[string]*rbacconfigv3.Policy{}}
	for _, g := range grants {
		if len(g.Ports) > 0 && !slices.Contains(g.Ports, p.Name) {
			continue
		}
		of, not, _ := p.Seen(g.Terms, g.Not)
		principals := e.principals(of, model.Identified)
		if len(principals) == 0 {
			continue
		}
		perms := []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}}
		var once *exprv1alpha1.Expr
		if p.Protocol.IsHTTP() {
			once = onceOrNot(g.Headers, nil)
			perms = []*rbacconfigv3.Permission{but(strictly(g.Terms), broadly(g.Not))}
		} else if g.AsksRequests() {
			continue // bytes have nothing of that, so such a grant admits nobody
		}
		out.Policies[g.Name] = &rbacconfigv3.Policy{Principals: connected(calledBy(principals, e.principals(not, model.IdentifiedBroadly)), g.Terms, g.Not), Permissions: perms, Condition: once}
	}
	return out
}

// connected is a caller besides at one of the addresses of terms, and at none of others: of the connection, which
// Envoy has whatever a request says, and of visitors as the connection manager believes what it is told.
func connected(who []*rbacconfigv3.Principal, t, not model.Terms) []*rbacconfigv3.Principal {
	in := func(ranges []string, of func(*corev3.CidrRange) *rbacconfigv3.Principal) *rbacconfigv3.Principal {
		var each []*rbacconfigv3.Principal
		for _, r := range ranges {
			p := netip.MustParsePrefix(r) // as resolve has read it
			each = append(each, of(&corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: UInt32(uint32(p.Bits()))}))
			if p.Addr().Is4() { // the same in IPv6 (RFC 4291 section 2.5.5.2), which Envoy holds for another address
				const mapped = 128 - 32
				each = append(each, of(&corev3.CidrRange{AddressPrefix: "::ffff:" + p.Addr().String(), PrefixLen: UInt32(uint32(mapped + p.Bits()))}))
			}
		}
		return anyPrincipal(each)
	}
	source := func(r *corev3.CidrRange) *rbacconfigv3.Principal {
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_DirectRemoteIp{DirectRemoteIp: r}}
	}
	client := func(r *corev3.CidrRange) *rbacconfigv3.Principal {
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_RemoteIp{RemoteIp: r}}
	}
	all := []*rbacconfigv3.Principal{anyPrincipal(who)}
	for _, of := range []struct {
		is, not []string
		make    func(*corev3.CidrRange) *rbacconfigv3.Principal
	}{{t.Sources, not.Sources, source}, {t.Clients, not.Clients, client}} {
		if len(of.is) > 0 {
			all = append(all, in(of.is, of.make))
		}
		if len(of.not) > 0 {
			all = append(all, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: in(of.not, of.make)}})
		}
	}
	if len(all) == 1 {
		return who
	}
	return []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: all}}}}
}

// principals are the who-fields of terms, a union; identified reads Identities.
func (e *emitter) principals(g model.Terms, identified func(trustDomain, path string) space.Pattern) []*rbacconfigv3.Principal {
	if g.Anyone {
		return []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}
	}
	var out []*rbacconfigv3.Principal
	for _, s := range e.sans(g, identified) {
		out = append(out, withURI(s))
	}
	if g.Plaintext {
		out = append(out, withoutIdentity())
	}
	return out
}

// Canonical names of the extensions below, and what the log calls the refusal.
const (
	principalName     = "envoy.rbac.principals.mtls_authenticated"
	uriInput          = "envoy.matching.inputs.uri_san"
	rbacAction        = "envoy.filters.rbac.action"
	severalIdentities = "several identities"
)

// withURI is a caller whose certificate was verified and has such a URI among its
// names. Principal.authenticated would do with a DNS name, or a subject, of that text.
func withURI(s *matcherv3.StringMatcher) *rbacconfigv3.Principal {
	return authenticated(&principalv3.Config{SanMatcher: &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: s}})
}

// withoutIdentity is a caller that has shown no certificate that was verified.
func withoutIdentity() *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: authenticated(&principalv3.Config{AnyValidatedClientCertificate: true})}}
}

func authenticated(as *principalv3.Config) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Custom{Custom: &corev3.TypedExtensionConfig{Name: principalName, TypedConfig: pack(as)}}}
}

// oneIdentity closes connections of callers whose certificate has more than one URI,
// with their first byte. Such a certificate is no identity of SPIFFE's (X.509-SVID
// section 2), but the handshake and principals look for one URI among all. Envoy joins
// them with commas here, which no identity has.
func oneIdentity(name string) *listenerv3.Filter {
	act := func(a rbacconfigv3.RBAC_Action) *xdsmatcherv3.Matcher_OnMatch {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
			Name: rbacAction, TypedConfig: pack(&rbacconfigv3.Action{Name: severalIdentities, Action: a}),
		}}}
	}
	several := &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
		Input: &xdscorev3.TypedExtensionConfig{Name: uriInput, TypedConfig: pack(&sslv3.UriSanInput{})},
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsmatcherv3.StringMatcher{
			MatchPattern: &xdsmatcherv3.StringMatcher_Contains{Contains: ","},
		}},
	}
	return filter(filterRBAC, &networkrbacv3.RBAC{StatPrefix: name + "/identity", Matcher: &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
			Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: several}},
			OnMatch:   act(rbacconfigv3.RBAC_DENY),
		}}}},
		OnNoMatch: act(rbacconfigv3.RBAC_ALLOW),
	}})
}

// sans are the identities that terms name, in each trust domain that is the mesh's own, as matchers on the
// certificate's URI. Prefixes end in a slash: "ns/a" must not take "ns/ab".
func (e *emitter) sans(g model.Terms, identified func(trustDomain, path string) space.Pattern) []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	identity := func(domain, path string) {
		if p := identified(domain, path); p.Kind == space.Exact {
			out = append(out, exactString(p.Text))
		} else {
			out = append(out, regexString(p.Expression()))
		}
	}
	for _, domain := range e.m.Domains() {
		td := "spiffe://" + domain + "/"
		if g.Mesh {
			out = append(out, prefixString(td))
			continue
		}
		for _, n := range g.Namespaces {
			out = append(out, prefixString(td+"ns/"+n+"/sa/"))
		}
		for _, a := range g.Patterns {
			ns, sa := splitID(a)
			out = append(out, regexString(space.Pattern{Kind: space.Wild, Text: td + "ns/" + ns + "/sa/" + sa}.Expression()))
		}
		for _, a := range g.Accounts {
			ns, sa := splitID(a)
			out = append(out, exactString(td+"ns/"+ns+"/sa/"+sa))
		}
		for _, path := range g.Identities {
			if _, foreign := model.ForeignDomain(path); !foreign {
				identity(domain, path)
			}
		}
	}
	for _, id := range g.Identities {
		if domain, foreign := model.ForeignDomain(id); foreign {
			identity(domain, id)
		}
	}
	return out
}

// strictly are the conditions of terms on the request, but for those on headers (onceOrNot). The path is Envoy's url_path:
// without query and normalised, where a matcher on the header :path would see the query.
func strictly(t model.Terms) []*rbacconfigv3.Permission {
	var out []*rbacconfigv3.Permission
	if len(t.Methods) > 0 {
		out = append(out, methodPermission(t.Methods))
	}
	if len(t.Paths) > 0 {
		var paths []*rbacconfigv3.Permission
		for _, p := range t.Paths {
			paths = append(paths, pathPermissions(p)...)
		}
		out = append(out, anyOf(paths))
	}
	if len(t.Hosts) > 0 {
		out = append(out, hostPermission(space.HostTest(t.Hosts, space.Named)))
	}
	for _, v := range t.Query {
		var each []*rbacconfigv3.Permission
		for _, is := range space.ParameterTests(v.Name, v.Kind, v.Text) {
			each = append(each, queryPermission(is))
		}
		out = append(out, allOf(each)) // what is left out is left out as a whole
	}
	for _, u := range t.Users {
		out = append(out, signedIn(u, false)...)
	}
	return out
}

// hostPermission is a test of the host, which Envoy has as it was sent, but for one dot at its end.
func hostPermission(t space.Test) *rbacconfigv3.Permission {
	each := make([]*rbacconfigv3.Permission, len(t.Any))
	for i, p := range t.Any {
		each[i] = &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: stringHeader(hostField, hostString([]space.Pattern{p}))}}
	}
	return anyOf(each)
}

// queryPermission is a test of the whole query, which Envoy has behind the path. A request without one
// has the empty one.
func queryPermission(t space.Test) *rbacconfigv3.Permission {
	expression := withQuery + "(?:" + t.Any[0].Text + ")"
	if t.Any[0].Matches("") {
		expression += "|[^?]*"
	}
	out := &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: stringHeader(pathField, regexString(expression))}}
	if t.Not {
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_NotRule{NotRule: out}}
	}
	return out
}

func methodPermission(methods []string) *rbacconfigv3.Permission {
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: methodMatcher(methods)}}
}

func pathPermission(s *matcherv3.StringMatcher) *rbacconfigv3.Permission {
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: s}},
	}}
}

func pathPermissions(p model.Path) []*rbacconfigv3.Permission {
	path := pathPermission
	switch {
	case p.Kind == model.PathExact:
		return []*rbacconfigv3.Permission{path(exactString(p.Value))}
	case p.Kind == model.PathEnd:
		return []*rbacconfigv3.Permission{path(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: p.Value}})}
	case p.Kind == model.PathTemplate:
		return []*rbacconfigv3.Permission{path(&matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: templateRegex(p.Value)},
		})}
	case p.Kind == model.PathPrefix && p.Value != "/":
		return []*rbacconfigv3.Permission{path(exactString(p.Value)), path(prefixString(p.Value + "/"))}
	}
	return []*rbacconfigv3.Permission{path(prefixString(p.Value))} // below, or "/"
}

func anyOf(ps []*rbacconfigv3.Permission) *rbacconfigv3.Permission {
	if len(ps) == 1 {
		return ps[0]
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_OrRules{OrRules: &rbacconfigv3.Permission_Set{Rules: ps}}}
}

// allOf holds where all of ps do; without any, always.
func allOf(ps []*rbacconfigv3.Permission) *rbacconfigv3.Permission {
	switch len(ps) {
	case 0:
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Any{Any: true}}
	case 1:
		return ps[0]
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_AndRules{AndRules: &rbacconfigv3.Permission_Set{Rules: ps}}}
}

// counting are rules beside which others are counted, each policy by itself; where those have none it is the
// rules alone.
func counting(rules, shadow *rbacconfigv3.RBAC) *rbacv3.RBACPerRoute {
	out := perRoute(rules)
	if len(shadow.Policies) > 0 {
		out.Rbac.ShadowRules, out.Rbac.TrackPerRuleStats = shadow, true
	}
	return out
}

// countedBeside are the grants that are counted at a port: those shadowed, and where what no grant allows
// is let through and counted, all but what lets it.
func countedBeside(s *model.Service, p model.Port) []model.Grant {
	open := func(g model.Grant) bool { return g.Open != "" }
	if !slices.ContainsFunc(s.Grants, func(g model.Grant) bool { return g.Open == model.Counted && slices.Contains(g.Ports, p.Name) }) {
		return s.ShadowGrants
	}
	return slices.Concat(slices.DeleteFunc(slices.Clone(s.Grants), open), s.ShadowGrants)
}

// perRoute wraps rules for a virtual host. An RBACPerRoute without rules would
// switch the filter off, so rules are never nil here.
func perRoute(rules *rbacconfigv3.RBAC) *rbacv3.RBACPerRoute {
	return &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: rules}}
}
