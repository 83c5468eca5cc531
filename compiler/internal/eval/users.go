package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// knows are the tests that hold together for the requests whose users a provider has signed in, before denies
// and grants are asked; ok is false if nobody looks at its tokens.
type knows func(provider string) (are []space.Test, ok bool)

// anywhere is what a proxy knows that looks at all tokens.
func anywhere(provider string) ([]space.Test, bool) {
	return []space.Test{space.Values(space.UserDim(provider), space.SignedIn)}, true
}

// signedIn are those tests, which hold for nobody where no token is looked at: intent that asks there is refused.
func (of knows) signedIn(provider string) []space.Test {
	if are, ok := of(provider); ok {
		return are
	}
	never := space.Values(space.UserDim(provider), space.SignedIn, space.NoToken, space.OtherAudience, space.BadToken)
	never.Not = true
	return []space.Test{never}
}

// but are the sets of tests of which one holds where all of when do and none of what is said of users,
// each claim by itself: either nobody is signed in there, for one reason or another, or no claim is so.
func (of knows) but(when []space.Test, not []model.UserTerms) [][]space.Test {
	out := [][]space.Test{when}
	for _, u := range not {
		var ways [][]space.Test
		for _, t := range of.signedIn(u.Provider) {
			t.Not = !t.Not
			ways = append(ways, []space.Test{t})
		}
		if all := u.Tests(); len(all) > 0 {
			for i := range all {
				all[i].Not = true
			}
			ways = append(ways, all)
		}
		var next [][]space.Test
		for _, before := range out {
			for _, way := range ways {
				next = append(next, slices.Concat(before, way))
			}
		}
		out = next
	}
	return out
}

// UserRefusals are what a proxy answers as it finds out who the end user is, as rules of the carrier, in the order in
// which they are asked.
func (c Column) UserRefusals(s trait.Set, carrier space.Origin) space.List {
	var out space.List
	for _, a := range c.acts(s) {
		if a.At == space.AtUsers && a.Answer != nil {
			out = append(out, space.Rule{When: a.When, Then: space.Outcome{Verdict: space.Denied, Status: a.Answer.Status, By: a.feature}, From: []space.Origin{carrier}})
		}
	}
	return out
}
