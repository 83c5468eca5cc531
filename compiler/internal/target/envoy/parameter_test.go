package envoy

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/space"
)

// The expression for a first parameter takes the queries in which the evaluator finds it so.
func TestFirstParameterIsTheOneThatCounts(t *testing.T) {
	kinds := []space.Kind{space.Exact, space.Prefix, space.Suffix, space.Contains, space.Regex, space.Present}
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab.]^-")), 0, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.SampledFrom([]rune("ab]^-")), 1, 3, -1).Draw(t, "name")
		written := space.Pattern{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		switch value := text.Draw(t, "value"); written.Kind {
		case space.Present:
		case space.Regex:
			written.Text = regexp.QuoteMeta(value) + "[a-b]*"
		case space.Exact:
			written.Text = value
		default:
			if written.Text = value; value == "" { // every value has nothing somewhere: so intent is read
				written.Kind = space.Present
			}
		}
		dim, _ := space.QueryDim("").Of()
		test := dim.Test(name, false, written)
		is := regexp.MustCompile(`\A(?:` + firstParameter(name, []space.Pattern{written}) + `)\z`)
		part := rapid.Custom(func(t *rapid.T) string {
			n := rapid.SampledFrom([]string{name, name + "a", name[:len(name)-1], "b" + name, ""}).Draw(t, "of")
			return n + rapid.SampledFrom([]string{"", "=", "==", "=a=", "?"}).Draw(t, "sign") + text.Draw(t, "text")
		})
		query := strings.Join(rapid.SliceOfN(part, 0, 4).Draw(t, "query"), "&")
		q := space.Request{Path: "/x", Query: query}
		if got, want := is.MatchString("/x?"+query), test.Holds(q); got != want {
			t.Fatalf("%s %s %q of %q: %v, and the evaluator says %v", name, written.Kind, written.Text, query, got, want)
		}
	})
}
