package kustomize

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Limits of files. They are written by people.
const (
	maxDepth = 64     // of values in values
	maxNodes = 50_000 // of one file
)

// reader reads files and notes what is wrong with them.
type reader struct {
	files    map[string][]byte
	kinds    *runtime.Scheme // Kubernetes' own
	problems diag.List
}

func (r *reader) fail(code diag.Code, at diag.Pos, fix, format string, args ...any) {
	r.problems = append(r.problems, diag.New(code, at, format, args...).WithFix("%s", fix))
}

// value is a place in a file.
type value struct {
	node *yaml.Node
	file string
}

func (v value) pos() diag.Pos { return diag.Pos{File: v.file, Line: v.node.Line, Col: v.node.Column} }

// document is one YAML document.
type document struct {
	value
	json []byte // canonical
}

// key names the object that a document is, the zero key if it is none.
func (d document) key() key {
	o, err := decode(d.json)
	if err != nil {
		return key{}
	}
	return keyOf(o)
}

// documents reads a file. Nothing in it may stand for something else: no aliases, no
// merges, no tags, no key twice.
func (r *reader) documents(file string, text []byte) []document {
	var out []document
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			line, text := placeOf(err)
			r.fail(diag.CodeKustomizeFile, diag.Pos{File: file, Line: line}, "mend it", "it is no YAML: %s", text)
			return nil
		}
		if len(n.Content) == 0 || n.Content[0].Tag == "!!null" {
			continue
		}
		c := checker{reader: r, file: file}
		v := c.check(n.Content[0], 0)
		if c.failed {
			return nil
		}
		j, err := canon.JSON(v)
		if err != nil {
			r.fail(diag.CodeKustomizeFile, value{n.Content[0], file}.pos(), "mend it", "it has no JSON form: %v", err)
			return nil
		}
		out = append(out, document{value{n.Content[0], file}, j})
	}
}

// placeOf takes the line out of what the parser says.
func placeOf(err error) (line int, text string) {
	m := regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`).FindStringSubmatch(err.Error())
	if m == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(m[1])
	return line, strings.Join(strings.Fields(m[2]), " ")
}

// checker turns a document into plain values.
type checker struct {
	*reader
	file   string
	nodes  int
	failed bool
}

func (c *checker) refuse(n *yaml.Node, fix, format string, args ...any) any {
	if !c.failed { // what follows a first one is seldom news
		c.fail(diag.CodeKustomizeFile, value{n, c.file}.pos(), fix, format, args...)
	}
	c.failed = true
	return nil
}

func (c *checker) check(n *yaml.Node, depth int) any {
	c.nodes++
	switch {
	case c.failed:
		return nil
	case c.nodes > maxNodes:
		return c.refuse(n, "split it", "the file has more than %d values", maxNodes)
	case depth > maxDepth:
		return c.refuse(n, "make it flatter", "values are nested deeper than %d", maxDepth)
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		return c.refuse(n, "write the value out", "anchors and aliases are not taken: a few lines of them can stand for gigabytes")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			out = append(out, c.check(e, depth+1))
		}
		return out
	case yaml.ScalarNode:
		return c.scalar(n)
	default:
		return c.refuse(n, "write plain YAML", "this is no value")
	}
}

// reserved are keys by which kustomize is steered from inside objects, and the JSON
// pointers of them.
func reserved(key string) bool {
	pointer := strings.ReplaceAll(key, "~1", "/")
	return regexp.MustCompile(`(^|/)([a-z.]+\.)?config\.(kubernetes|k8s)\.io/`).MatchString(pointer)
}

func (c *checker) mapping(n *yaml.Node, depth int) any {
	out := map[string]any{}
	if n.Tag != "!!map" && n.Tag != "" {
		return c.refuse(n, "leave the tag out", "the tag %s is not taken", n.Tag)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind != yaml.ScalarNode || k.Anchor != "":
			return c.refuse(k, "write a name", "a key is a name")
		case k.Tag == "!!merge" || k.Value == "<<":
			return c.refuse(k, "write the values out", "merges (<<) are not taken")
		case k.Tag != "!!str" || ambiguous(k):
			return c.refuse(k, "put it in quotes", "the key %s is read as something other than text by some programs", k.Value)
		case reserved(k.Value):
			return c.refuse(k, "take it out", "%q steers kustomize from inside an object, which is not taken", k.Value)
		}
		if _, twice := out[k.Value]; twice {
			return c.refuse(k, "keep one of them", "the key %q is there twice", k.Value)
		}
		out[k.Value] = c.check(n.Content[i+1], depth+1)
	}
	return out
}

// ambiguous are plain words that are text in YAML 1.2, and true or false for programs
// that read YAML 1.1, API servers among them.
func ambiguous(n *yaml.Node) bool {
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	return plain && slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(n.Value))
}

func (c *checker) scalar(n *yaml.Node) any {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		if ambiguous(n) {
			return c.refuse(n, "put it in quotes, or write true or false", "%s is true or false for some programs and text for others", n.Value)
		}
		if strings.HasPrefix(n.Value, "/") && reserved(n.Value) {
			return c.refuse(n, "take it out", "%q steers kustomize from inside an object, which is not taken", n.Value)
		}
		return n.Value
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return c.refuse(n, "write a number below 2^63, or put it in quotes", "%s is no whole number that an API server takes", n.Value)
		}
		return i
	case "!!float":
		if !json.Valid([]byte(n.Value)) {
			return c.refuse(n, "put it in quotes", "%s is a number that JSON cannot say", n.Value)
		}
		return json.Number(n.Value)
	default:
		return c.refuse(n, "leave the tag out", "the tag %s is not taken", n.Tag)
	}
}

// object is a JSON object, decoded with its numbers as they are spelt.
type object = map[string]any

func decode(text []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var o object
	if err := dec.Decode(&o); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return o, nil
}

// key names an object: group, kind, namespace and name.
type key struct{ group, kind, namespace, name string }

func (k key) String() string {
	if k.namespace == "" {
		return fmt.Sprintf("%s %q", k.kind, k.name)
	}
	return fmt.Sprintf("%s %q", k.kind, k.namespace+"/"+k.name)
}

func keyOf(o object) key {
	text := func(o object, name string) string { s, _ := o[name].(string); return s }
	meta, _ := o["metadata"].(object)
	group, _, found := strings.Cut(text(o, "apiVersion"), "/")
	if !found {
		group = ""
	}
	return key{group, text(o, "kind"), text(meta, "namespace"), text(meta, "name")}
}
