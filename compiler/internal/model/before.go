package model

import (
	"fmt"
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

// before are matches, one of which takes a request exactly if x takes its image; none if x
// takes no image. The error says why that cannot be told.
func (x Match) before(m space.Image) ([]Match, error) {
	if m.IsZero() {
		return []Match{x}, nil
	}
	left, possible, err := m.Before(x.When) // an edit decides a test or leaves it
	if err != nil || !possible {
		return nil, err
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
				return nil, space.Unclear("one proxy chooses both routes by the path that comes, and here an expression makes another one of it")
			}
			return nil, fmt.Errorf("paths of kind %q are no condition of a route", p.Kind)
		}
		out.Path = path
		each = append(each, out)
	}
	return each, nil
}
