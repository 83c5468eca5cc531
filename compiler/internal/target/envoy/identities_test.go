package envoy

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Identities without some and with others are those, and no others, whatever texts have in
// common.
func TestIdentitiesAreTakenOut(t *testing.T) {
	texts := rapid.SampledFrom([]string{"td/", "td/a", "td/ab", "td/a-b", "td/abc", "td/b", "td/b.c", "td/a]", "td/a^"})
	sets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) identitySet {
		return identitySet{uris: uris{text: texts.Draw(t, "text"), prefix: rapid.Bool().Draw(t, "prefix")}}
	}), 0, 3)
	takes := func(s identities, v string) bool {
		return slices.ContainsFunc(s, func(x identitySet) bool { return x.holds(uris{text: v}) })
	}
	rapid.Check(t, func(t *rapid.T) {
		in, refused, excepted := identities(sets.Draw(t, "in")), identities(sets.Draw(t, "refused")), identities(sets.Draw(t, "excepted"))
		got := append(in.without(refused), in.with(excepted)...)
		for _, v := range []string{"td/", "td/a", "td/ab", "td/a-b", "td/a-", "td/abc", "td/abcd", "td/b", "td/bx", "td/b.c", "td/bxc", "td/a]", "td/a^", "td/c", "ty/a"} {
			want := takes(in, v) && (!takes(refused, v) || takes(excepted, v))
			is := false
			for _, m := range got.matchers() {
				switch {
				case m.GetExact() != "":
					is = is || m.GetExact() == v
				case m.GetPrefix() != "":
					is = is || strings.HasPrefix(v, m.GetPrefix())
				default:
					is = is || regexp.MustCompile(`\A(?:`+m.GetSafeRegex().GetRegex()+`)\z`).MatchString(v)
				}
			}
			if is != want {
				t.Fatalf("%q: is %v, want %v", v, is, want)
			}
		}
	})
}
