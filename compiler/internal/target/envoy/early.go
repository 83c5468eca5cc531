package envoy

import (
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/internal/hop"
)

// earlyName is the canonical name of the extension that edits a request's headers
// before anything else looks at them.
const earlyName = "envoy.http.early_header_mutation.header_mutation"

// kept holds a value for the time of the edits; whatever a caller sends in it is
// removed before and after.
const kept = "x-meshc-kept"

// aside begins headers of ours that hold what proxies in front of a gateway say of a visitor while
// everything else of that kind is removed; whatever a visitor sends in them is removed before.
const aside = "x-meshc-"

// earlyMutations edit every request of a door before Envoy itself, routes and
// filters see it: what the door sets comes after them.
//
// Where proxies in front of a gateway are believed, what they say stays until it is read. The
// scheme of a target is then removed, so that Envoy makes it of what they say, or of the connection.
func earlyMutations(d hop.Door, trusting bool) *corev3.TypedExtensionConfig {
	ms := withoutEmpty("te")
	ms = append(ms, withoutEmpty("x-forwarded-proto")...) // for an empty scheme Envoy finds no route
	edits := hop.Edits(d)
	if !trusting {
		return early(append(ms, without(edits)...))
	}
	for _, name := range hop.Forwarded() {
		ms = append(ms, remove(aside+name), put(aside+name, "%REQ("+name+")%"))
	}
	own := func(e hop.Edit) bool { return e.Takes(aside) }
	ms = append(ms, without(slices.DeleteFunc(slices.Clone(edits), own))...)
	for _, name := range hop.Forwarded() {
		ms = append(ms, put(name, "%REQ("+aside+name+")%"))
	}
	ms = append(ms, without(slices.DeleteFunc(edits, func(e hop.Edit) bool { return !own(e) }))...)
	return early(append(ms, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: exactString(SchemeField)}}}))
}

func early(ms []*mutationv3.HeaderMutation) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: earlyName, TypedConfig: pack(&earlyv3.HeaderMutation{Mutations: ms})}
}

// cleanAnswers takes away what no answer carries out of a proxy.
func cleanAnswers() proto.Message {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{ResponseMutations: without(hop.AnswerEdits())}}
}

// Removal is a filter that takes headers of requests away.
func Removal(edits ...hop.Edit) proto.Message {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{RequestMutations: without(edits)}}
}

// Marking is a filter that says itself why there was no answer, whatever the filters behind it say.
func Marking() proto.Message {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{ResponseMutations: []*mutationv3.HeaderMutation{
		remove(hop.NotAnswered), {Action: &mutationv3.HeaderMutation_Append{Append: notAnsweredMark()}},
	}}}
}

// RemoveEarly takes headers of requests away where a manager takes them, before anything but what
// its door does looks at them.
func RemoveEarly(m *hcmv3.HttpConnectionManager, edits ...hop.Edit) {
	m.EarlyHeaderMutationExtensions = append(m.EarlyHeaderMutationExtensions, early(without(edits)))
}

// without removes the headers whose names match.
func without(edits []hop.Edit) []*mutationv3.HeaderMutation {
	out := make([]*mutationv3.HeaderMutation, len(edits))
	for i, e := range edits {
		out[i] = &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: e.Regex}}},
		}}}
	}
	return out
}

// withoutEmpty removes a header that is there without a value. Envoy has edits that
// leave out an empty value, but none that removes one: the value goes to another
// header and back. An empty TE is malformed in HTTP/2 (RFC 9113 section 8.2.2), and
// Envoy itself turns every other one into "trailers" or removes it.
func withoutEmpty(name string) []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{
		remove(kept), put(kept, "%REQ("+name+")%"), remove(name), put(name, "%REQ("+kept+")%"), remove(kept),
	}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

// put sets a header, unless the value is empty.
func put(name, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}
