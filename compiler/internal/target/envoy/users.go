package envoy

import (
	"fmt"
	"strconv"
	"strings"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// tokenMetadata is where Envoy's filter for tokens writes what one says that is right, by a name for each
// provider. No request brings it along.
const tokenMetadata = "envoy.filters.http.jwt_authn"

// OnUser lowers a test of who the end user is: of his token's claims, or, of any provider's own dimension, that there is one that is right.
// Envoy has nothing of it until its filter for tokens has run.
func OnUser() Condition {
	return OnMatch(func(m *routev3.RouteMatch, name string, t space.Test) error {
		provider, claim, isClaim := strings.Cut(name, " ")
		of := claimMatcher(provider, nil, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}})
		if isClaim {
			var any []*matcherv3.ValueMatcher
			for _, p := range t.Any {
				if p.Kind != space.Exact {
					return fmt.Errorf("a condition of kind %q on a claim has no form in a route", p.Kind)
				}
				any = append(any, claimValues(p.Text, false)...)
			}
			of = claimMatcher(provider, model.ClaimSteps(claim), oneValue(any))
		}
		of.Invert = t.Not
		m.DynamicMetadata = append(m.DynamicMetadata, of)
		return nil
	})
}

// signedIn are the conditions of terms on a user: that there is one, if nothing else, and each of the
// claims. What refuses takes a number or a truth value for the text that it is written as, too.
func signedIn(u model.UserTerms, broadly bool) []*rbacconfigv3.Permission {
	if len(u.Claims) == 0 {
		return []*rbacconfigv3.Permission{claimPermission(u.Provider, nil, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}})}
	}
	var out []*rbacconfigv3.Permission
	for _, c := range u.Claims {
		var any []*matcherv3.ValueMatcher
		for _, text := range c.Any {
			any = append(any, claimValues(text, broadly)...)
		}
		out = append(out, claimPermission(u.Provider, model.ClaimSteps(c.Name), oneValue(any)))
	}
	return out
}

func oneValue(any []*matcherv3.ValueMatcher) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{ValueMatchers: any}}}
}

// claimValues takes a claim that is a text, or a list with it in it.
func claimValues(text string, broadly bool) []*matcherv3.ValueMatcher {
	var out []*matcherv3.ValueMatcher
	for _, is := range claimMatchers(text, broadly) {
		out = append(out, is, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_ListMatch{
			ListMatch: &matcherv3.ListMatcher{MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: is}},
		}})
	}
	return out
}

func claimMatchers(text string, broadly bool) []*matcherv3.ValueMatcher {
	out := []*matcherv3.ValueMatcher{{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactString(text)}}}
	if n, err := strconv.ParseFloat(text, 64); err == nil && broadly && strings.Trim(text, "+-.0123456789eE") == "" {
		out = append(out, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_DoubleMatch{
			DoubleMatch: &matcherv3.DoubleMatcher{MatchPattern: &matcherv3.DoubleMatcher_Exact{Exact: n}},
		}})
	}
	if b, err := strconv.ParseBool(text); err == nil && broadly && len(text) > 1 {
		out = append(out, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: b}})
	}
	return out
}

func claimPermission(provider string, steps []string, is *matcherv3.ValueMatcher) *rbacconfigv3.Permission {
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_SourcedMetadata{SourcedMetadata: &rbacconfigv3.SourcedMetadata{MetadataMatcher: claimMatcher(provider, steps, is)}}}
}

func claimMatcher(provider string, steps []string, is *matcherv3.ValueMatcher) *matcherv3.MetadataMatcher {
	m := &matcherv3.MetadataMatcher{Filter: tokenMetadata, Value: is}
	for _, key := range append([]string{provider}, steps...) {
		m.Path = append(m.Path, &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}})
	}
	return m
}
