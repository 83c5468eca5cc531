package approval

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshc.dev/meshc/internal/diag"
)

// shape is the form of a part of the policy's file: a mapping with these fields, a
// mapping of any names, a list, or, with none of them, a single value.
type shape struct {
	fields map[string]shape
	values *shape
	items  *shape
}

func fileShape() shape {
	names := shape{items: &shape{}}
	key := shape{fields: map[string]shape{"ssh": {}, "pgp": {}, "pgpFile": {}, "notBefore": {}, "notAfter": {}, "revoked": {}}}
	return shape{fields: map[string]shape{
		"version": {}, "repository": {}, "ref": {}, "rootCommit": {}, "anchor": {},
		"environments": {values: &shape{fields: map[string]shape{
			"position": {}, "otherCompiler": {}, "statement": {}, "freshness": {}, "statementSigners": names, "rollbackSigners": names}}},
		"signers": {values: &shape{fields: map[string]shape{"keys": {items: &key}, "notBefore": {}, "notAfter": {}, "revoked": {}}}},
		"rules":   {items: &shape{fields: map[string]shape{"paths": names, "signers": names, "threshold": {}, "requireTags": {}}}},
	}}
}

func (s shape) String() string {
	switch {
	case s.fields != nil:
		return "a mapping with " + strings.Join(slices.Sorted(maps.Keys(s.fields)), ", ")
	case s.values != nil:
		return "a mapping of names"
	case s.items != nil:
		return "a list"
	}
	return "a single value"
}

// index checks the file's form and notes where each field stands. Anchors, aliases,
// tags and merged mappings are refused: a policy is read by people. So is a field
// without a value: it would mean the default, which for a threshold is the weakest.
func (l *loader) index(n *yaml.Node, path string, s shape) {
	no := func(fix, format string, args ...any) { l.refuse(n, diag.CodeTrustFile, fix, format, args...) }
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge":
		no("write the value out", "anchors, aliases and merged mappings are not used here")
		return
	case n.Style&yaml.TaggedStyle != 0:
		no("remove it", "the tag %q is not used here", n.Tag)
		return
	case n.Tag == "!!null":
		if path == "" {
			no("docs/trust-policy.md shows one", "the trust policy says nothing")
			return
		}
		no("write a value, {} for none, or remove the field", "%q has no value", path)
		return
	}
	if path != "" {
		l.pos[path] = l.where(n)
	}
	switch {
	case n.Kind == yaml.MappingNode && (s.fields != nil || s.values != nil):
		l.mapping(n, path, s)
	case n.Kind == yaml.SequenceNode && s.items != nil:
		for i, c := range n.Content {
			l.index(c, sub(path, strconv.Itoa(i)), *s.items)
		}
	case n.Kind == yaml.ScalarNode && s.fields == nil && s.values == nil && s.items == nil:
	default:
		no("docs/trust-policy.md shows the form", "%s has to be %s", named(path), s)
	}
}

func named(path string) string {
	if path == "" {
		return "the trust policy"
	}
	return strconv.Quote(path)
}

func (l *loader) mapping(n *yaml.Node, path string, s shape) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		before := len(l.diags)
		if l.index(k, "", shape{}); len(l.diags) > before {
			continue
		}
		if line, had := first[k.Value]; had {
			l.refuse(k, diag.CodeTrustFile, "keep one of them", "%q is already defined in line %d", k.Value, line)
			continue
		}
		first[k.Value] = k.Line
		inner, known := s.field(k.Value)
		if !known {
			known := slices.Sorted(maps.Keys(s.fields))
			fix := "fields here are " + strings.Join(known, ", ") + "; docs/trust-policy.md describes them"
			if near, ok := diag.Nearest(k.Value, known); ok {
				fix = "write " + near
			}
			l.refuse(k, diag.CodeTrustFile, fix, "unknown field %q", k.Value)
			continue
		}
		l.index(v, sub(path, k.Value), inner)
	}
}

// field is the form of a mapping's field.
func (s shape) field(name string) (inner shape, known bool) {
	if s.values != nil {
		return *s.values, true
	}
	inner, known = s.fields[name]
	return inner, known
}

func sub(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (l *loader) where(n *yaml.Node) diag.Pos {
	return diag.Pos{File: l.file, Line: n.Line, Col: n.Column}
}

func (l *loader) refuse(n *yaml.Node, c diag.Code, fix, format string, args ...any) {
	l.diags = append(l.diags, diag.New(c, l.where(n), format, args...).WithFix("%s", fix))
}

// The values that are more than text are read exactly as people read them: YAML
// has many spellings of a number, a date and a switch, and its readers disagree.

var (
	plainNumber  = regexp.MustCompile(`^(0|[1-9][0-9]{0,5})$`)
	plainInstant = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$`)
)

// number reads a whole number in decimal digits; absent is otherwise.
func (l *loader) number(field string, n yaml.Node, otherwise int) int {
	if n.IsZero() {
		return otherwise
	}
	v, err := strconv.Atoi(n.Value)
	if n.Style != 0 || err != nil || !plainNumber.MatchString(n.Value) {
		l.refuse(&n, diag.CodeTrustValue, "write a whole number in plain digits, such as "+field+": 2", "%s %s is no whole number", field, written(n))
		return otherwise
	}
	return v
}

// flag reads true or false; absent is false.
func (l *loader) flag(field string, n yaml.Node) bool {
	if n.IsZero() {
		return false
	}
	if n.Style != 0 || (n.Value != "true" && n.Value != "false") {
		l.refuse(&n, diag.CodeTrustValue, "write "+field+": true or "+field+": false", "%s %s is neither true nor false", field, written(n))
	}
	return n.Value == "true"
}

// instant reads a date with time and zone (RFC 3339, whole seconds); absent is the
// zero instant.
func (l *loader) instant(field string, n yaml.Node) time.Time {
	if n.IsZero() {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || !plainInstant.MatchString(n.Value) {
		l.refuse(&n, diag.CodeTrustValue, "write date, time and zone, such as "+field+": 2027-06-30T00:00:00Z", "%s %s is no instant", field, written(n))
	}
	return at.UTC()
}

// written is a value as it stands in the file.
func written(n yaml.Node) string {
	if n.Style != 0 {
		return fmt.Sprintf("%q (in quotes, a text)", n.Value)
	}
	return strconv.Quote(n.Value)
}
