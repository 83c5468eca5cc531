package space

import (
	"testing"

	"pgregory.net/rapid"
)

// What a test of a cookie says of its values, the test of the header's lines says of those: one
// is evaluated, the other is what proxies are given.
func TestCookiesOnLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"a", "b", "ab", "=", "=", ";", "; ", " ", "\t", `"`, "a=", "; a=", ";a =", "a= b", ",", ".", "A=a"})
		var q Request
		for range rapid.IntRange(0, 2).Draw(t, "lines") {
			line := ""
			for range rapid.IntRange(0, 8).Draw(t, "pieces") {
				line += piece.Draw(t, "piece")
			}
			q.Headers = append(q.Headers, Header{Name: rapid.SampledFrom([]string{"cookie", "cookie", "x"}).Draw(t, "name"), Value: line})
		}
		test := Test{Dim: CookieDim(rapid.SampledFrom([]string{"a", "ab", "."}).Draw(t, "cookie")), Not: rapid.Bool().Draw(t, "not")}
		for range rapid.IntRange(0, 2).Draw(t, "patterns") {
			p := Pattern{Kind: rapid.SampledFrom([]Kind{Exact, Prefix, Suffix}).Draw(t, "kind"), Text: rapid.SampledFrom([]string{"a", "b", "=", "ab", `"a"`, "."}).Draw(t, "text")}
			if rapid.IntRange(0, 4).Draw(t, "empty") == 0 {
				p = Pattern{Kind: Exact}
			}
			test.Any = append(test.Any, p)
		}
		lines, ok := test.OnLines()
		if !ok || lines.Holds(q) != test.Holds(q) {
			t.Fatalf("%q: the values of %v say %v, the lines %v", q.Headers, test, test.Holds(q), lines)
		}
		if with := q.withCookie("a", "b"); !Values(CookieDim("a"), "b").Holds(with) || len(with.cookies("ab")) != len(q.cookies("ab")) {
			t.Fatalf("%q with one more cookie is %q", q.Headers, with.Headers)
		}
	})
}
