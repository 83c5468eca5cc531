package envoy

import (
	"bytes"
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/internal/canon"
)

// A proxy tries the routes of a host one after the other, about 40 ns each: the last of five
// thousand would cost a request 0.2 ms. A host of many routes is therefore a tree by the beginning
// of the path (VirtualHost.matcher, a prefix_match_map), whose leaves list in their order all routes
// that can take such a path. What a leaf leaves out takes none of its paths, so that the first route
// that fits in a leaf is the first one of the host.
const (
	// treeFrom is the number of routes from which a host is a tree.
	treeFrom = 256
	// leafRoutes is how many routes with a longer beginning of their own a leaf has, if it can be helped.
	leafRoutes = 128
	// branchFrom is the least number of routes that are worth a leaf of their own.
	branchFrom = 16
)

// leaf is what is tried of paths that begin with prefix, and with no other leaf's longer one: routes by
// their index, ascending.
type leaf struct {
	prefix string
	routes []int
}

// leaves are those of a tree for routes with these beginnings of their paths, sorted by prefix; none where a list is as
// good. Routes whose paths may begin in any way stand in every leaf, so leaves grow until all of them
// together have at most half as many routes again.
func leaves(beginnings []string) []leaf {
	if len(beginnings) < treeFrom {
		return nil
	}
	all := make([]int, len(beginnings))
	for i := range all {
		all[i] = i
	}
	for size := leafRoutes; ; size *= 2 {
		t := tree{beginnings: beginnings, size: size}
		t.grow("/", all)
		total := 0
		for _, l := range t.leaves {
			total += len(l.routes)
		}
		switch {
		case len(t.leaves) == 1:
			return nil
		case total <= len(beginnings)*3/2:
			slices.SortFunc(t.leaves, func(a, b leaf) int { return cmp.Compare(a.prefix, b.prefix) })
			return t.leaves
		}
	}
}

type tree struct {
	beginnings []string
	size       int
	leaves     []leaf
}

// grow adds the leaves for paths that begin with prefix, which the routes in may take.
func (t *tree) grow(prefix string, in []int) {
	longer := map[byte][]int{}
	left := 0
	for _, i := range in {
		if b := t.beginnings[i]; len(b) > len(prefix) && strings.HasPrefix(b, prefix) {
			longer[b[len(prefix)]] = append(longer[b[len(prefix)]], i)
			left++
		}
	}
	next := slices.Sorted(maps.Keys(longer))
	slices.SortStableFunc(next, func(a, b byte) int { return cmp.Compare(len(longer[b]), len(longer[a])) })
	for _, c := range next {
		branch := longer[c]
		if left <= t.size || len(branch) < branchFrom {
			break
		}
		left -= len(branch)
		below := t.common(branch)
		t.grow(below, slices.DeleteFunc(slices.Clone(in), func(i int) bool {
			return !strings.HasPrefix(t.beginnings[i], below) && !strings.HasPrefix(below, t.beginnings[i])
		}))
		in = slices.DeleteFunc(slices.Clone(in), func(i int) bool { _, moved := slices.BinarySearch(branch, i); return moved })
	}
	t.leaves = append(t.leaves, leaf{prefix, in})
}

// common is the longest beginning of all of these routes' beginnings.
func (t *tree) common(routes []int) string {
	out := t.beginnings[routes[0]]
	for _, i := range routes[1:] {
		for !strings.HasPrefix(t.beginnings[i], out) {
			out = out[:len(out)-1]
		}
	}
	return out
}

// beginning is how all paths begin that a route can take, "" if that is not known.
func beginning(m *routev3.RouteMatch) string {
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		return p.Path
	case *routev3.RouteMatch_Prefix:
		return p.Prefix
	case *routev3.RouteMatch_PathSeparatedPrefix:
		return p.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		if re, err := regexp.Compile(p.SafeRegex.GetRegex()); err == nil {
			literal, _ := re.LiteralPrefix()
			return literal
		}
	}
	return ""
}

// treeMatcher chooses a list of routes by the path; the lists are empty yet.
func treeMatcher(ls []leaf) *xdsmatcherv3.Matcher {
	lists := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	for _, l := range ls {
		lists[l.prefix] = &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
			Action: &xdscorev3.TypedExtensionConfig{Name: "routes", TypedConfig: pack(&routev3.RouteList{})},
		}}
	}
	return &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input:    &xdscorev3.TypedExtensionConfig{Name: "path", TypedConfig: pack(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: pathField})},
		TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: lists}},
	}}}
}

// withLists puts the lists of routes, one for each leaf in the order of their prefixes, in the place of the empty
// ones of a canonical text. A string of it has its quotes escaped, so what looks like a list is one.
func withLists(text []byte, lists [][][]byte) []byte {
	empty := []byte(`"@type": "type.googleapis.com/` + string((&routev3.RouteList{}).ProtoReflect().Descriptor().FullName()) + `"`)
	var out []byte
	for _, routes := range lists {
		at := bytes.Index(text, empty)
		line := bytes.LastIndexByte(text[:at], '\n')
		indent := string(text[line:at])
		at += len(empty)
		out = append(append(out, text[:at]...), ","+indent+`"routes": [`...)
		for i, r := range routes {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(append(out, indent+"  "...), bytes.ReplaceAll(bytes.TrimSuffix(r, []byte("\n")), []byte("\n"), []byte(indent+"  "))...)
		}
		out = append(out, indent+"]"...)
		text = text[at:]
	}
	return append(out, text...)
}

// host is a virtual host as it stands among others, with refusals before its routes,
// which it loses.
func (p *parts) host(h *routev3.VirtualHost) []byte {
	var routes [][]byte
	var beginnings []string
	for _, r := range h.Routes {
		for _, r := range []*routev3.Route{upgradedOtherwise(r), r} {
			if r != nil {
				routes, beginnings = append(routes, p.text(r)), append(beginnings, beginning(r.GetMatch()))
			}
		}
	}
	h.Routes = nil
	ls := leaves(beginnings)
	if ls == nil {
		elements := slices.Concat(refusalTexts(), routes)
		for i, r := range elements {
			elements[i] = canon.Element(r)
		}
		return canon.Element(canon.WithArray(p.text(h), "routes", elements))
	}
	h.Matcher = treeMatcher(ls)
	lists := make([][][]byte, len(ls))
	for i, l := range ls {
		lists[i] = slices.Clone(refusalTexts())
		for _, r := range l.routes {
			lists[i] = append(lists[i], routes[r])
		}
	}
	return canon.Element(withLists(p.text(h), lists))
}
