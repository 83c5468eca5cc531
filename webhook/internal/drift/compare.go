package drift

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Difference is one place where an object is not as it should be.
type Difference struct {
	// Path is a field, such as "spec.ports[0].port".
	Path string
	// Want and Got are JSON texts, "" for nothing. What may be a secret of whoever asks is
	// in neither.
	Want, Got string

	got any // the value itself
}

func (d Difference) String() string {
	switch {
	case d.Want == "":
		return fmt.Sprintf("%s is %s, of which the release says nothing", d.Path, d.Got)
	case d.Got == "":
		return fmt.Sprintf("%s is missing, the release says %s", d.Path, d.Want)
	}
	return fmt.Sprintf("%s is %s, the release says %s", d.Path, d.Got, d.Want)
}

// Compare gives the differences of got from want, which is of that kind
// ("Deployment"; "Container" for one of a pod; "Pod" for one that comes from a template,
// which want is then), in the order of their paths.
// ignored are fields that something else keeps by the release's own word, such as
// "spec.replicas" beside an autoscaler.
func Compare(kind string, want, got Object, ignored ...string) []Difference {
	c := comparison{extra: filled(kind), ignored: ignored, open: !slices.Contains(listed(), kind)}
	c.objects(place{}, want, got)
	return c.found
}

// Brought gives those differences of got from want that old, which it takes the place
// of, did not have: an update that leaves an object no worse than it was is nobody's
// attack, and whoever applied an earlier release goes on looking at it.
func Brought(kind string, want, got, old Object, ignored ...string) []Difference {
	before := Compare(kind, want, old, ignored...)
	return slices.DeleteFunc(Compare(kind, want, got, ignored...), func(d Difference) bool {
		return slices.ContainsFunc(before, func(b Difference) bool { return b.Path == d.Path && reflect.DeepEqual(b.got, d.got) })
	})
}

// Unchanged reports whether nothing but bookkeeping is new: what may always be there
// beside what a release says, such as a finalizer that has done its work.
func Unchanged(kind string, got, old Object) bool {
	nothing := Object{"metadata": Object{}}
	return len(Brought(kind, nothing, got, old)) == 0 && len(Brought(kind, nothing, old, got)) == 0
}

type comparison struct {
	extra   map[string]rule
	open    bool // of the kind nobody listed what is filled in
	ignored []string
	found   []Difference
}

// place is where in an object something stands.
type place struct {
	path, pattern string // the latter without indices
	hidden        bool   // values there may be secrets
}

func (p place) field(key string) place {
	join := func(path string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	return place{join(p.path), join(p.pattern), p.hidden || hides(key)}
}

func (p place) item(i int) place {
	return place{fmt.Sprintf("%s[%d]", p.path, i), p.pattern + "[]", p.hidden}
}

// hides: in these fields people put secrets. What the release says there is approved,
// and no secret.
func hides(key string) bool {
	switch key {
	case "annotations", "args", "binaryData", "command", "data", "env", "httpHeaders", "stringData":
		return true
	}
	return false
}

// differs notes that got, nil for nothing, is not want, nil for nothing.
func (c *comparison) differs(at place, want, got any) {
	d := Difference{Path: at.path, got: got}
	if want != nil {
		d.Want = short(want)
	}
	switch {
	case got == nil:
	case at.hidden:
		d.Got = notShown
	default:
		d.Got = short(without(got))
	}
	c.found = append(c.found, d)
}

func (c *comparison) objects(at place, want, got Object) {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		to := at.field(k)
		v, there := got[k]
		switch {
		case slices.Contains(c.ignored, to.pattern):
		case there:
			c.values(to, want[k], v)
		case empty(want[k]):
		default:
			if part, ok := want[k].(Object); ok { // what is missing are its fields
				c.objects(to, part, nil)
				continue
			}
			c.differs(to, want[k], nil)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		to := at.field(k)
		if _, said := want[k]; said || empty(got[k]) || slices.Contains(c.ignored, to.pattern) || c.harmless(at.pattern, k, got) {
			continue
		}
		if o, ok := got[k].(Object); ok && at.pattern != "" && c.knowsBelow(to.pattern) {
			c.objects(to, nil, o)
			continue
		}
		c.differs(to, nil, got[k])
	}
}

func (c *comparison) values(at place, want, got any) {
	switch w := want.(type) {
	case Object:
		if g, ok := got.(Object); ok {
			c.objects(at, w, g)
			return
		}
	case []any:
		if g, ok := got.([]any); ok && (len(g) == len(w) || len(g) > len(w) && c.allHarmless(at.pattern, g[len(w):])) {
			for i := range w {
				c.values(at.item(i), w[i], g[i])
			}
			return
		}
	}
	if !equal(want, got) {
		c.differs(at, want, got)
	}
}

// knowsBelow reports whether anything is allowed in an object that the release does not say,
// other than a whole part of the object, such as its spec.
func (c *comparison) knowsBelow(pattern string) bool {
	for p := range c.extra {
		if strings.HasPrefix(p, pattern+".") {
			return true
		}
	}
	return false
}

// harmless reports whether a field that the release does not say may be there.
func (c *comparison) harmless(pattern, key string, beside Object) bool {
	for _, r := range []rule{c.extra[(place{pattern: pattern}).field(key).pattern], c.extra[(place{pattern: pattern}).field("*").pattern]} {
		if r != nil && r(key, beside[key], beside) {
			return true
		}
	}
	if c.open && pattern != "" && pattern != "metadata" && !strings.HasPrefix(pattern, "metadata.") {
		return true
	}
	list, ok := beside[key].([]any)
	return ok && c.allHarmless(place{pattern: pattern}.field(key).pattern, list)
}

// allHarmless reports whether a list may have these elements beside those that the
// release says; they come after them.
func (c *comparison) allHarmless(pattern string, more []any) bool {
	r := c.extra[pattern+"[]"]
	return r != nil && !slices.ContainsFunc(more, func(v any) bool { return !r("", v, nil) })
}

// empty values say what an absent field says.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case Object:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// equal compares plain values; 1 and 1.0 are one number.
func equal(a, b any) bool {
	if x, ok := number(a); ok {
		y, also := number(b)
		return also && x == y
	}
	return reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

const (
	maxShown = 80 // bounds a value in a text, in bytes
	notShown = "(not shown)"
)

// without is a value without what may be secret in it.
func without(v any) any {
	switch v := v.(type) {
	case Object:
		out := make(Object, len(v))
		for k, field := range v {
			if hides(k) {
				out[k] = notShown
			} else {
				out[k] = without(field)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = without(item)
		}
		return out
	}
	return v
}

// short is a value for a text.
func short(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "unreadable"
	}
	if s := string(raw); len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(string(raw[:maxShown]), "") + "…"
}
