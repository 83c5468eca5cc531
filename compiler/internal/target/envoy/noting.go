package envoy

import (
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"

	"meshc.dev/meshc/compiler/internal/model"
)

// Noting notes of each request whether something is asked of it, under that name, which is nobody else's at the
// proxy: for the filter behind it, which goes by Noted or NotedCount.
func Noting(name string, asked model.Asked) *rbacv3.RBAC {
	what := but(broadly(model.Terms{Methods: asked.Methods, Paths: asked.Paths}), strictly(model.Terms{Methods: asked.Not.Methods, Paths: asked.Not.Paths}))
	rules := denyAll()
	rules.Policies[name] = &rbacconfigv3.Policy{
		Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}, Permissions: []*rbacconfigv3.Permission{what},
	}
	return &rbacv3.RBAC{ShadowRules: rules, ShadowRulesStatPrefix: name + "."}
}

// Noted holds where something is asked, as Noting has noted it. It holds where nothing was noted, too: nobody
// passes because of a mistake here.
func Noted(name string) *matcherv3.MetadataMatcher {
	return &matcherv3.MetadataMatcher{
		Filter: string(SlotRBAC),
		Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: name + ".shadow_engine_result"}}},
		Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactString("allowed")}},
		Invert: true,
	}
}

// NotedCount has only those requests counted of which something is asked, as Noting has noted it: the action's value is
// the name, which is the policy that a request has met, and an action without a value has nothing counted. The entry is
// that value's.
func NotedCount(key, name string) (*routev3.RateLimit_Action, *commonv3.RateLimitDescriptor_Entry) {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
		DescriptorKey: key, Source: routev3.RateLimit_Action_MetaData_DYNAMIC,
		MetadataKey: &metadatav3.MetadataKey{Key: string(SlotRBAC), Path: []*metadatav3.MetadataKey_PathSegment{
			{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: name + ".shadow_effective_policy_id"}},
		}},
	}}}, &commonv3.RateLimitDescriptor_Entry{Key: key, Value: name}
}
