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
	// Want and Got are JSON texts, "" for nothing.
	Want, Got string
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
// ("Deployment"; "Container" for one of a pod), in the order of their paths.
// ignored are fields that something else keeps by the release's own word, such as
// "spec.replicas" beside an autoscaler.
func Compare(kind string, want, got Object, ignored ...string) []Difference {
	c := comparison{extra: filled(kind), ignored: ignored}
	c.objects("", "", want, got)
	return c.found
}

type comparison struct {
	extra   map[string]rule
	ignored []string
	found   []Difference
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// objects compares two objects. pattern is path without indices.
func (c *comparison) objects(path, pattern string, want, got Object) {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		p, q := join(path, k), join(pattern, k)
		v, there := got[k]
		switch {
		case slices.Contains(c.ignored, q):
		case there:
			c.values(p, q, want[k], v)
		case !empty(want[k]):
			c.found = append(c.found, Difference{Path: p, Want: short(want[k])})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, said := want[k]; said || empty(got[k]) || c.harmless(pattern, k, got) {
			continue
		}
		c.found = append(c.found, Difference{Path: join(path, k), Got: short(got[k])})
	}
}

func (c *comparison) values(path, pattern string, want, got any) {
	switch w := want.(type) {
	case Object:
		if g, ok := got.(Object); ok {
			c.objects(path, pattern, w, g)
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				c.values(fmt.Sprintf("%s[%d]", path, i), pattern+"[]", w[i], g[i])
			}
			return
		}
	}
	if !equal(want, got) {
		c.found = append(c.found, Difference{path, short(want), short(got)})
	}
}

// harmless reports whether a field that the release does not say may be there.
func (c *comparison) harmless(pattern, key string, beside Object) bool {
	for _, r := range []rule{c.extra[join(pattern, key)], c.extra[join(pattern, "*")]} {
		if r != nil && r(key, beside[key], beside) {
			return true
		}
	}
	return false
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

// maxShown bounds a value in a text, in bytes.
const maxShown = 80

// short is a value for a text. Data of secrets never gets here: no release holds one.
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
