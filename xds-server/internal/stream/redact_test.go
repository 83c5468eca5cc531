package stream

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	names := []string{"outbound|80||a.shop", strings.Repeat("long-resource-name", 3)}
	for in, want := range map[string]string{
		`Proto constraint validation failed (ClusterValidationError.X: value must be <= 8388608): name: "outbound|80||a.shop" connect_timeout { seconds: 1 }`: `Proto constraint validation failed (ClusterValidationError.X: value must be <= 8388608)`,
		`Error adding/updating listener(s) in: unable to open file '/dev/stdout'`:                                                                             `Error adding/updating listener(s) in: unable to open file '/dev/stdout'`,
		`bad value "Bearer abc" in "outbound|80||a.shop"`:                                                                                                     `bad value "…" in "outbound|80||a.shop"`,
		"first line\nsecond: -----BEGIN PRIVATE KEY-----":                                                                                                     `first line`,
		"key " + strings.Repeat("QUJD", 20) + " refused":                                                                                                      `key … refused`,
		"cluster " + names[1] + " refused":                                                                                                                    "cluster " + names[1] + " refused",
		"bell\a and escape\x1b[31m":                                                                                                                           "bell and escape[31m",
		strings.Repeat("so long a reason ", 100):                                                                                                              strings.Repeat("so long a reason ", 100)[:maxWhy] + "…",
	} {
		if got := redact(in, names); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{"listener(s) in: x", "in", true},
		{"listener(s) inbound: x", "in", false},
		{"main in", "in", true},
		{"a-b", "b", false},
		{"", "a", false},
	} {
		if got := mentions(c.text, c.name); got != c.want {
			t.Errorf("%q in %q: %v", c.name, c.text, got)
		}
	}
}
