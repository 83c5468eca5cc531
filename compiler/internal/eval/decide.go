package eval

import (
	"regexp"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Decide returns what becomes of q in scope d and which pieces of the mesh
// decided it. q.Path must be normalised (Normalise).
func Decide(d space.Decision, q space.Request) space.Answer {
	if r, ok := First(d.Effective, q); ok {
		return space.Answer{Outcome: r.Then, From: r.From}
	}
	return space.Answer{Outcome: space.Outcome{Verdict: space.NotFound}}
}

// First returns the first rule of l that matches q.
func First(l space.List, q space.Request) (space.Rule, bool) {
	for _, r := range l {
		if Matches(r.When, q) {
			return r, true
		}
	}
	return space.Rule{}, false
}

// Matches reports whether all tests hold for q.
func Matches(when []space.Test, q space.Request) bool {
	for _, t := range when {
		if !holds(t, q) {
			return false
		}
	}
	return true
}

func holds(t space.Test, q space.Request) bool {
	for _, v := range values(t.Dim, q) {
		if len(t.Any) == 0 || MatchesAny(t.Any, v) {
			return !t.Not
		}
	}
	return t.Not
}

// values is a dimension's values: one, or a header's lines.
func values(d space.Dim, q space.Request) []string {
	switch d {
	case space.PathDim:
		return []string{q.Path}
	case space.MethodDim:
		return []string{q.Method}
	case space.HostDim:
		return []string{q.Host}
	case space.IdentityDim:
		return []string{q.From}
	}
	var lines []string
	if name, ok := d.Header(); ok {
		for _, h := range q.Headers {
			if h.Name == name {
				lines = append(lines, h.Value)
			}
		}
	}
	return lines
}

// MatchesAny reports whether v is in one of the patterns.
func MatchesAny(ps []space.Pattern, v string) bool {
	for _, p := range ps {
		if matchesPattern(p, v) {
			return true
		}
	}
	return false
}

func matchesPattern(p space.Pattern, v string) bool {
	switch p.Kind {
	case space.Exact:
		return v == p.Text
	case space.Prefix:
		return strings.HasPrefix(v, p.Text)
	case space.Suffix:
		return strings.HasSuffix(v, p.Text)
	case space.Segment:
		base := strings.TrimSuffix(p.Text, "/")
		return v == base || strings.HasPrefix(v, base+"/")
	case space.Template:
		return matchesTemplate(p.Text, v)
	case space.Regex:
		re, err := regexp.Compile(`\A(?:` + p.Text + `)\z`)
		return err == nil && re.MatchString(v)
	}
	return false
}

func matchesTemplate(template, v string) bool {
	want, have := strings.Split(template, "/"), strings.Split(v, "/")
	if len(want) != len(have) {
		return false
	}
	for i, w := range want {
		if strings.HasPrefix(w, "{") && strings.HasSuffix(w, "}") {
			if have[i] == "" {
				return false
			}
		} else if w != have[i] {
			return false
		}
	}
	return true
}
