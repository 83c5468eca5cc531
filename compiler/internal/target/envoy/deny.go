package envoy

import (
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/hop"
)

// denials is what is refused at one port, whatever grants say: a DENY with one policy per
// deny that can hold there, named as the deny. Without policies it refuses nothing.
func (e *emitter) denials(s *model.Service, p model.Port) *rbacconfigv3.RBAC {
	out := denyAll()
	for _, d := range s.Denies {
		if !d.At(p.Name) {
			continue
		}
		who := e.refused(d, p)
		if who == nil {
			continue
		}
		what := allOf(nil)
		if p.Protocol.IsHTTP() {
			what = broadly(d)
		} else if len(d.Methods) > 0 || len(d.Paths) > 0 {
			continue // bytes have neither method nor path
		}
		out.Policies[d.Name] = &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{who}, Permissions: []*rbacconfigv3.Permission{what}}
	}
	return out
}

func denyAll() *rbacconfigv3.RBAC {
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY, Policies: map[string]*rbacconfigv3.Policy{}}
}

// visitorDenials is what is refused to visitors of a gateway's host. Policies have the
// denies' mesh paths for names, because a host's may have the name of its gateway's.
func visitorDenials(g *model.Gateway, h model.Host) *rbacconfigv3.RBAC {
	out := denyAll()
	add := func(carrier string, ds []model.Deny) {
		for _, d := range ds {
			out.Policies[model.DenyPath(carrier, d.Name)] = &rbacconfigv3.Policy{
				Principals:  []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}},
				Permissions: []*rbacconfigv3.Permission{broadly(d)},
			}
		}
	}
	add(model.GatewayPath(g.ID), g.Denies)
	add(model.GatewayHostPath(g.ID, h.Name), h.Denies)
	return out
}

// refused is whom a deny is about: the who-fields without those that it excepts; nil for
// nobody, as on a port without mTLS, where nobody has an identity.
func (e *emitter) refused(d model.Deny, p model.Port) *rbacconfigv3.Principal {
	who := e.principals(d.Terms, p)
	if len(who) == 0 {
		return nil
	}
	all := []*rbacconfigv3.Principal{anyPrincipal(who)}
	if excepted := e.principals(d.Not, p); len(excepted) > 0 {
		all = append(all, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: anyPrincipal(excepted)}})
	}
	if len(all) == 1 {
		return all[0]
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: all}}}
}

func anyPrincipal(ps []*rbacconfigv3.Principal) *rbacconfigv3.Principal {
	if len(ps) == 1 {
		return ps[0]
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: ps}}}
}

// broadly is what a deny refuses: its paths in every spelling, HEAD wherever GET is, and
// of that nothing which an exception takes as it is written.
func broadly(d model.Deny) *rbacconfigv3.Permission {
	var all []*rbacconfigv3.Permission
	if methods := d.Refused(); len(methods) > 0 {
		all = append(all, methodPermission(methods))
	}
	var paths []*rbacconfigv3.Permission
	for _, p := range d.Paths {
		paths = append(paths, pathPermission(spellings(p)))
	}
	if len(paths) > 0 {
		all = append(all, anyOf(paths))
	}
	for _, excepted := range strictly(d.Not) { // each by itself
		all = append(all, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_NotRule{NotRule: excepted}})
	}
	return allOf(all)
}

func spellings(p model.Path) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: hop.Spellings(p.Written())}}}
}
