package model

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Pattern is the condition as a pattern of paths.
func (p Path) Pattern() space.Pattern {
	switch p.Kind {
	case PathPrefix:
		return space.Pattern{Kind: space.Segment, Text: p.Value}
	case PathBelow:
		return space.Pattern{Kind: space.Prefix, Text: p.Value}
	case PathTemplate:
		return space.Pattern{Kind: space.Template, Text: p.Value}
	case PathEnd:
		return space.Pattern{Kind: space.Suffix, Text: p.Value}
	default:
		return space.Pattern{Kind: space.Exact, Text: p.Value}
	}
}

// PathLike is the condition that a pattern of the kinds of a route's path stands for.
func PathLike(p space.Pattern) (Path, bool) {
	if p.Kind == space.Prefix && strings.HasSuffix(p.Text, "/") {
		return Path{Kind: PathBelow, Value: p.Text}, true
	}
	kind, ok := map[space.Kind]PathKind{space.Exact: PathExact, space.Segment: PathPrefix, space.Template: PathTemplate}[p.Kind]
	return Path{Kind: kind, Value: p.Text}, ok
}

const unclearMove = "one proxy chooses both routes by the path that comes, and here an expression makes another one of it"

// moved reports whether a test is about what becomes of a path.
func moved(t space.Test) bool {
	return slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return p.Kind == space.Moved })
}

// before are matches, one of which takes a request exactly if x takes its image; none if x
// takes no image. The error says why that cannot be told.
func (x Match) before(m space.Image) ([]Match, error) {
	if m.IsZero() {
		return []Match{x}, nil
	}
	left, possible, err := m.Before(x.When)
	if err != nil || !possible {
		return nil, err
	}
	if slices.ContainsFunc(left, moved) {
		return nil, space.Unclear(unclearMove)
	}
	out := Match{When: left}
	if x.Path.IsZero() || m.Path == nil {
		out.Path = x.Path
		return []Match{out}, nil
	}
	ps, all, err := m.Path.Before(x.Path.Pattern())
	if err != nil || all {
		return []Match{out}, err
	}
	var each []Match
	for _, p := range ps {
		path, ok := PathLike(p)
		if !ok {
			if p.Kind == space.Moved {
				return nil, space.Unclear(unclearMove)
			}
			return nil, fmt.Errorf("paths of kind %q are no condition of a route", p.Kind)
		}
		out.Path = path
		each = append(each, out)
	}
	return each, nil
}
