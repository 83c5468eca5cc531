package envoy

import (
	"fmt"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// denials is what is refused at one port, whatever grants say: a DENY with one policy per
// deny that can hold there, named as the deny. Without policies it refuses nothing.
func (e *emitter) denials(p model.Port, denies []model.Deny) *rbacconfigv3.RBAC {
	out := denyAll()
	for _, d := range denies {
		if !d.At(p.Name) {
			continue
		}
		who := e.refused(d, p)
		if who == nil {
			continue
		}
		what := allOf(nil)
		if p.Protocol.IsHTTP() {
			what = but(broadly(d.Terms), strictly(d.Not))
		} else if d.AsksRequests() {
			continue // bytes have nothing of that
		}
		out.Policies[d.Name] = &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{who}, Permissions: []*rbacconfigv3.Permission{what}}
		if p.Protocol.IsHTTP() {
			out.Policies[d.Name].Condition = onceOrNot(nil, d.Not.Headers)
		}
	}
	return out
}

func denyAll() *rbacconfigv3.RBAC {
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY, Policies: map[string]*rbacconfigv3.Policy{}}
}

// Denying is a filter that answers 403 to requests for which all tests of one of the policies hold.
// The tests are on methods and headers.
func Denying(policies map[string][]space.Test) *rbacv3.RBAC {
	rules := denyAll()
	for name, when := range policies {
		var all []*rbacconfigv3.Permission
		for _, t := range when {
			field := ":method"
			if t.Dim != space.MethodDim {
				field, _ = t.Dim.Header()
			}
			m, err := headerMatcher(field, t)
			if err != nil || field == "" {
				panic(fmt.Sprintf("envoy: no filter denies by %s: %v", t.Dim, err))
			}
			all = append(all, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: m}})
		}
		rules.Policies[name] = &rbacconfigv3.Policy{
			Principals:  []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}},
			Permissions: []*rbacconfigv3.Permission{allOf(all)},
		}
	}
	return &rbacv3.RBAC{Rules: rules}
}

// visitorDenials is what is refused to visitors of a gateway's host. Policies have the
// denies' mesh paths for names, because a host's may have the name of its gateway's.
func visitorDenials(g *model.Gateway, ofGateway []model.Deny, h model.Host, ofHost []model.Deny) *rbacconfigv3.RBAC {
	out := denyAll()
	add := func(carrier string, ds []model.Deny) {
		for _, d := range ds {
			out.Policies[model.DenyPath(carrier, d.Name)] = &rbacconfigv3.Policy{
				Principals:  connected([]*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}, d.Terms, d.Not),
				Permissions: []*rbacconfigv3.Permission{but(broadly(d.Terms), strictly(d.Not))},
				Condition:   onceOrNot(nil, d.Not.Headers),
			}
		}
	}
	add(model.GatewayPath(g.ID), ofGateway)
	add(model.GatewayHostPath(g.ID, h.Name), ofHost)
	return out
}

// refused is whom a deny is about: the who-fields without those that it excepts; nil for
// nobody, as on a port without mTLS, where nobody has an identity.
func (e *emitter) refused(d model.Deny, p model.Port) *rbacconfigv3.Principal {
	of, not, _ := p.Seen(d.Terms, d.Not)
	who := e.principals(of, model.IdentifiedBroadly)
	if len(who) == 0 {
		return nil
	}
	return anyPrincipal(connected(calledBy(who, e.principals(not, model.Identified)), d.Terms, d.Not))
}

// calledBy is a union of callers, of which those of another one are taken out.
func calledBy(who, not []*rbacconfigv3.Principal) []*rbacconfigv3.Principal {
	if len(not) == 0 {
		return who
	}
	left := []*rbacconfigv3.Principal{anyPrincipal(who), {Identifier: &rbacconfigv3.Principal_NotId{NotId: anyPrincipal(not)}}}
	return []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: left}}}}
}

func anyPrincipal(ps []*rbacconfigv3.Principal) *rbacconfigv3.Principal {
	if len(ps) == 1 {
		return ps[0]
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: ps}}}
}

// broadly are the conditions of terms on the request as what refuses reads them: paths in every
// spelling, HEAD wherever GET is.
func broadly(t model.Terms) []*rbacconfigv3.Permission {
	var out []*rbacconfigv3.Permission
	if methods := t.Broadly().Methods; len(methods) > 0 {
		out = append(out, methodPermission(methods))
	}
	var paths []*rbacconfigv3.Permission
	for _, p := range t.Paths {
		paths = append(paths, pathPermission(spellings(p)))
	}
	if len(paths) > 0 {
		out = append(out, anyOf(paths))
	}
	if len(t.Hosts) > 0 {
		out = append(out, hostPermission(space.HostTest(t.Hosts, space.Called)))
	}
	for _, v := range t.Headers {
		out = append(out, headerPermission(v))
	}
	for _, v := range t.Query {
		out = append(out, queryPermission(space.ParameterSpelt(v.Name, v.Kind, v.Text)))
	}
	for _, u := range t.Users {
		out = append(out, signedIn(u, true)...)
	}
	return out
}

// but holds where all of some conditions do, and none of others.
func but(all, not []*rbacconfigv3.Permission) *rbacconfigv3.Permission {
	for _, excepted := range not { // each by itself
		all = append(all, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_NotRule{NotRule: excepted}})
	}
	return allOf(all)
}

func spellings(p model.Path) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: hop.Spellings(p.Written())}}}
}
