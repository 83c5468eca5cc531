package space

import (
	"regexp"
	"strings"
)

// Matches reports whether the pattern takes a value. An expression that does not
// compile takes nothing.
func (p Pattern) Matches(v string) bool {
	switch p.Kind {
	case Exact:
		return v == p.Text
	case Prefix:
		return strings.HasPrefix(v, p.Text)
	case Suffix:
		return strings.HasSuffix(v, p.Text)
	case Segment:
		base := strings.TrimSuffix(p.Text, "/")
		return v == base || strings.HasPrefix(v, base+"/")
	case Template:
		return matchesTemplate(p.Text, v)
	case Regex:
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
