package resolve

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
)

// pathIndex finds, among routes that were put into it, those whose paths may include all
// paths of another, without looking at all of them.
type pathIndex struct {
	any       []int            // without a condition on the path, or with the prefix "/"
	exact     map[string][]int // by path
	prefix    map[string][]int // by path
	templates map[string][]int // by first segment, "" if that is free
	open      map[string][]int // templates with an open end, likewise
}

func newPathIndex() *pathIndex {
	return &pathIndex{exact: map[string][]int{}, prefix: map[string][]int{}, templates: map[string][]int{}, open: map[string][]int{}}
}

// put enters a route by its place in a list.
func (x *pathIndex) put(i int, p model.Path) {
	switch {
	case p.IsZero() || p.Kind == model.PathPrefix && p.Value == "/":
		x.any = append(x.any, i)
	case p.Kind == model.PathExact:
		x.exact[p.Value] = append(x.exact[p.Value], i)
	case p.Kind == model.PathPrefix, p.Kind == model.PathBelow:
		at := strings.TrimSuffix(p.Value, "/")
		x.prefix[at] = append(x.prefix[at], i)
	case openEnded(p):
		x.open[firstSegment(p)] = append(x.open[firstSegment(p)], i)
	default:
		x.templates[firstSegment(p)] = append(x.templates[firstSegment(p)], i)
	}
}

// over are the places of routes that may take all paths of p, or are templates that may
// take some of a template's, in order.
func (x *pathIndex) over(p model.Path) []int {
	out := slices.Clone(x.any)
	if p.IsZero() || p.Value == "/" && p.Kind == model.PathPrefix {
		return out
	}
	if p.Kind == model.PathExact {
		out = append(out, x.exact[p.Value]...)
	}
	literal, _, free := strings.Cut(p.Value, "{")
	if free {
		literal = strings.TrimSuffix(literal, "/")
	}
	for at := literal; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
		out = append(out, x.prefix[at]...)
	}
	beginning := func(near map[string][]int, first string) {
		if first != "" {
			out = append(append(out, near[first]...), near[""]...)
			return
		}
		for _, is := range near {
			out = append(out, is...)
		}
	}
	first := firstSegment(p)
	beginning(x.open, first)
	if !openEnded(p) { // no other template takes all below a path
		beginning(x.templates, first)
	}
	slices.Sort(out)
	return out
}
