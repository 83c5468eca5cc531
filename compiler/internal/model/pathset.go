package model

import "strings"

// IntersectPaths returns the condition that holds where both a and b hold, and
// whether any path can meet both. It goes by segment and knows exact, prefix, below and
// template conditions, the kinds that a route may have; the result is again one
// such condition, so the set of them is closed under intersection.
func IntersectPaths(a, b Path) (Path, bool) {
	switch {
	case a.IsZero():
		return b, true
	case b.IsZero():
		return a, true
	case a.Kind == PathExact:
		return a, b.Takes(a.Value)
	case b.Kind == PathExact:
		return b, a.Takes(b.Value)
	case a.Kind == PathPrefix && b.Kind == PathPrefix:
		return intersectPrefixes(a, b)
	case a.Kind != PathTemplate && b.Kind != PathTemplate: // one is below
		return intersectBelow(a, b)
	case a.Kind == PathTemplate && b.Kind == PathTemplate:
		as, bs := segments(a.Value), segments(b.Value)
		return unify(as, bs, len(as) == len(bs))
	case a.Kind == PathTemplate:
		return intersectTemplatePrefix(a, b)
	}
	return intersectTemplatePrefix(b, a)
}

// Takes reports whether the normalised path (without query) meets the condition.
func (p Path) Takes(path string) bool {
	switch p.Kind {
	case PathExact:
		return path == p.Value
	case PathPrefix:
		if p.Value == "/" {
			return strings.HasPrefix(path, "/")
		}
		rest, ok := strings.CutPrefix(path, p.Value)
		return ok && (rest == "" || rest[0] == '/')
	case PathBelow:
		return strings.HasPrefix(path, p.Value)
	case PathTemplate:
		return takesTemplate(segments(p.Value), segments(path))
	}
	return true
}

func takesTemplate(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		if isVariable(w) {
			if got[i] == "" {
				return false
			}
		} else if w != got[i] {
			return false
		}
	}
	return true
}

func intersectPrefixes(a, b Path) (Path, bool) {
	if a.Takes(b.Value) {
		return b, true
	}
	return a, b.Takes(a.Value)
}

// intersectBelow: what is below, or at and below, two paths is so of one of them.
func intersectBelow(a, b Path) (Path, bool) {
	at := func(p Path) string { return strings.TrimSuffix(p.Value, "/") + "/" }
	switch {
	case at(a) == at(b) && a.Kind == PathBelow, strings.HasPrefix(at(a), at(b)) && at(a) != at(b):
		return a, true
	case strings.HasPrefix(at(b), at(a)):
		return b, true
	}
	return Path{}, false
}

func intersectTemplatePrefix(template, prefix Path) (Path, bool) {
	if prefix.Value == "/" {
		return template, true
	}
	ts, ps := segments(template.Value), segments(prefix.Value)
	fits := len(ps) <= len(ts)
	if prefix.Kind == PathBelow {
		ps = ps[:len(ps)-1] // the last one is free
	}
	return unify(ts, ps, fits)
}

// unify lays the literals of other over the variables of template, segment by
// segment. Where both have a variable the name in template stays: names within
// one template are distinct, and Envoy refuses a template that repeats one.
func unify(template, other []string, fits bool) (Path, bool) {
	if !fits {
		return Path{}, false
	}
	out := append([]string(nil), template...)
	variables := 0
	for i, s := range template {
		switch {
		case i >= len(other) || isVariable(other[i]):
		case isVariable(s):
			if other[i] == "" {
				return Path{}, false
			}
			out[i] = other[i]
		case s != other[i]:
			return Path{}, false
		}
		if isVariable(out[i]) {
			variables++
		}
	}
	p := Path{Kind: PathTemplate, Value: "/" + strings.Join(out, "/")}
	if variables == 0 {
		p.Kind = PathExact
	}
	return p, true
}

// segments splits a path after its leading slash: "/a/" has "a" and "".
func segments(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

func isVariable(segment string) bool { return strings.HasPrefix(segment, "{") }
