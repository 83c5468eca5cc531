package model

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// IntersectPaths returns the condition that holds where both a and b hold, and
// whether any path can meet both. It goes by segment and knows all kinds of conditions
// that a route may have; the result is again one such condition, so the set of them is
// closed under intersection.
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
	}
	both, ok := a.shape().and(b.shape())
	if !ok {
		return Path{}, false
	}
	return both.path(), true
}

// Takes reports whether the normalised path (without query) meets the condition.
func (p Path) Takes(path string) bool { return p.IsZero() || p.Pattern().Matches(path) }

// Same reports whether both take the same paths, whatever their free segments are called.
func (p Path) Same(q Path) bool {
	if p.Kind != PathTemplate || q.Kind != PathTemplate {
		return p == q
	}
	return slices.EqualFunc(segments(p.Value), segments(q.Value), func(a, b string) bool {
		return a == b || space.IsVariable(a) && space.IsVariable(b)
	})
}

// shape is a condition on paths other than an exact one: how they begin, and how many
// segments they have. The segment behind a slash at the end is one, and empty.
type shape struct {
	segments []string
	least    int  // segments at least
	open     bool // or more
}

func (p Path) shape() shape {
	s := shape{open: true}
	switch p.Kind {
	case PathTemplate:
		closed, open := space.CutOpen(p.Value)
		s.segments, s.open = segments(closed), open
		s.least = len(s.segments)
		if open {
			s.least++
		}
	case PathBelow:
		s.segments = segments(strings.TrimSuffix(p.Value, "/"))
		s.least = len(s.segments) + 1
	case PathPrefix, PathExact:
		s.segments = segments(strings.TrimSuffix(p.Value, "/"))
		s.least = len(s.segments)
	case PathEnd: // at any depth
	}
	return s
}

// path is the condition of a shape. Only a prefix is at as well as below its segments, and
// none of those is free.
func (s shape) path() Path {
	text := "/" + strings.Join(s.segments, "/")
	below := strings.TrimSuffix(text, "/") + "/"
	free := slices.ContainsFunc(s.segments, space.IsVariable)
	switch {
	case free && s.open:
		return Path{Kind: PathTemplate, Value: below + "*"}
	case free:
		return Path{Kind: PathTemplate, Value: text}
	case !s.open:
		return Path{Kind: PathExact, Value: text}
	case s.least > len(s.segments):
		return Path{Kind: PathBelow, Value: below}
	}
	return Path{Kind: PathPrefix, Value: text}
}

// and lays the literals of each over the free segments of the other. Where both have a free
// segment the name in s stays.
func (s shape) and(o shape) (shape, bool) {
	out := shape{least: max(s.least, o.least), open: s.open && o.open}
	if !s.open && out.least > s.least || !o.open && out.least > o.least {
		return shape{}, false
	}
	both := min(len(s.segments), len(o.segments))
	out.segments = slices.Concat(s.segments, o.segments[both:])
	for i, b := range o.segments[:both] {
		switch a := s.segments[i]; {
		case a == b || space.IsVariable(b) && a != "":
		case space.IsVariable(a) && b != "":
			out.segments[i] = b
		default:
			return shape{}, false
		}
	}
	return out, true
}

// segments splits a path after its leading slash: "/a/" has "a" and "", and "/" none.
func segments(path string) []string {
	if path = strings.TrimPrefix(path, "/"); path != "" {
		return strings.Split(path, "/")
	}
	return nil
}
