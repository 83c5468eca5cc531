package approval

import (
	"strings"

	"meshc.dev/meshc/internal/gitrepo"
)

// pattern is a path pattern by segments.
type pattern []string

func split(s string) pattern { return strings.Split(s, "/") }

// wellFormed says what is wrong with a pattern, or "".
func (p pattern) wellFormed() string {
	for i, seg := range p {
		switch {
		case seg == "" || seg == "." || seg == "..":
			return "it is not a clean relative path"
		case seg == "**" && i != len(p)-1:
			return "** stands only at the end"
		case seg != "*" && seg != "**" && strings.ContainsAny(seg, "*?[]{}!\\"):
			return "a * stands only for one whole name"
		}
		if seg != "*" && seg != "**" {
			if reason := gitrepo.CheckName(seg); reason != "" {
				return "no file can be called so: " + reason
			}
		}
	}
	return ""
}

func (p pattern) matches(path string) bool {
	segs := strings.Split(path, "/")
	for i, want := range p {
		switch {
		case want == "**":
			return i < len(segs)
		case i >= len(segs):
			return false
		case want != "*" && want != segs[i]:
			return false
		}
	}
	return len(segs) == len(p)
}

// moreSpecific compares two patterns that match the same path: at the first
// difference a name beats *, and * beats **. Equal only if they are the same.
func (p pattern) moreSpecific(q pattern) bool {
	rank := func(s string) int {
		switch s {
		case "**":
			return 0
		case "*":
			return 1
		}
		return 2
	}
	for i := range min(len(p), len(q)) {
		if a, b := rank(p[i]), rank(q[i]); a != b {
			return a > b
		}
	}
	return len(p) > len(q)
}
