package space_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/space"
)

// What is left of an expression takes what it took that has none of the letters, and nothing else;
// any is false exactly where nothing is left.
func TestWithoutTakesTheRest(t *testing.T) {
	const letters = "a;\n"
	part := rapid.SampledFrom([]string{"a", "b", ".", "[^b]", "[a-c]", "(?s:.)", "[;é]", "ab", "(?:a|b)", "b*", "[a]*", "a{0,2}", "(?:;)?", "[^a;]+", "é"})
	rapid.Check(t, func(t *rapid.T) {
		join := rapid.SampledFrom([]string{"", "|"}).Draw(t, "join")
		expression := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), join)
		left, any := space.Without(expression, letters)
		was, is := regexp.MustCompile(`\A(?:`+expression+`)\z`), regexp.MustCompile(`\A(?:`+left+`)\z`)
		ascii := regexp.MustCompile(`\A(?:` + space.ASCII(expression) + `)\z`)
		for _, v := range rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom([]rune("abc;é\n")), 0, 4, -1), 20, 20).Draw(t, "values") {
			want := was.MatchString(v) && !strings.ContainsAny(v, letters)
			if got := is.MatchString(v); got != want || got && !any {
				t.Fatalf("%q without %q is %q, %v: takes %q: %v", expression, letters, left, any, v, got)
			}
			if got, want := ascii.MatchString(v), was.MatchString(v) && !strings.Contains(v, "é"); got != want {
				t.Fatalf("%q in ASCII is %q: takes %q: %v", expression, space.ASCII(expression), v, got)
			}
		}
	})
}
