package prove

import (
	"regexp"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// takes tells whether one preferred value is in a pattern. It only chooses among
// witnesses that are already proved: a wrong answer here could make a witness
// that the evaluator then refuses, never a wrong proof.
func takes(p space.Pattern, v string) bool {
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
		parts := strings.Split(p.Text, "/")
		for i, s := range parts {
			if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
				parts[i] = "[^/]+"
			} else {
				parts[i] = regexp.QuoteMeta(s)
			}
		}
		return fullMatch(strings.Join(parts, "/"), v)
	case space.Regex:
		return fullMatch(p.Text, v)
	}
	return false
}

func fullMatch(expr, v string) bool {
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	return err == nil && re.MatchString(v)
}
