package importer

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshc.dev/meshc/internal/diag"
)

// object is one object of Kubernetes, and what has been read of it.
type object struct {
	file                        string
	apiVersion, kind, ns, name_ string
	root                        *yaml.Node
	// read are the values that somebody has looked at, each by itself: what is not among them
	// at the end is told.
	read map[*yaml.Node]bool
	// broken says that something of it is not translated, lost that something of what it says
	// is not written, for whatever reason.
	broken, lost bool
	findings     *diag.List
}

// String names the object in a sentence.
func (o *object) String() string { return o.kind + " " + o.ns + "/" + o.name_ }

// id is the object's namespace and name.
func (o *object) id() string { return o.ns + "/" + o.name_ }

// node is a value in an object, or the place where it is missing.
type node struct {
	o    *object
	y    *yaml.Node // nil: not there
	key  *yaml.Node // the name before it, or what is around it
	path string
}

// top is the whole object.
func (o *object) top() node { return node{o: o, y: o.root, key: o.root} }

// at is the place of a value.
func (n node) at() diag.Pos { return diag.Pos{File: n.o.file, Line: n.key.Line, Col: n.key.Column} }

// there reports whether the value is written; null is not.
func (n node) there() bool { return n.y != nil }

// field is a value by its name. It counts as read once it is looked at itself.
func (n node) field(name string) node {
	out := node{o: n.o, key: n.key, path: strings.TrimPrefix(n.path+"."+name, ".")}
	if !n.there() || !n.is(yaml.MappingNode, "a mapping") {
		return out
	}
	for i := 0; i+1 < len(n.y.Content); i += 2 {
		if k, v := n.y.Content[i], n.y.Content[i+1]; k.Value == name {
			out.key = k
			if v.Tag == "!!null" {
				n.o.read[v] = true
				return out
			}
			out.y = v
		}
	}
	return out
}

// at goes down several names.
func (n node) down(names ...string) node {
	for _, name := range names {
		n = n.field(name)
	}
	return n
}

// items are the elements of a list.
func (n node) items() []node {
	if !n.there() || !n.is(yaml.SequenceNode, "a list") {
		return nil
	}
	out := make([]node, len(n.y.Content))
	for i, y := range n.y.Content {
		out[i] = node{o: n.o, y: y, key: y, path: fmt.Sprintf("%s[%d]", n.path, i)}
	}
	return out
}

// entries are the values of a mapping with free names, in their order.
func (n node) entries() []entry {
	if !n.there() || !n.is(yaml.MappingNode, "a mapping") {
		return nil
	}
	var out []entry
	for i := 0; i+1 < len(n.y.Content); i += 2 {
		k, v := n.y.Content[i], n.y.Content[i+1]
		out = append(out, entry{k.Value, node{o: n.o, y: v, key: k, path: n.path + "." + k.Value}})
	}
	return out
}

type entry struct {
	name string
	node
}

// is marks the value as read, and tells of one of another kind.
func (n node) is(kind yaml.Kind, words string) bool {
	if n.o.read[n.y] = true; n.y.Kind == kind {
		return true
	}
	n.refuse(diag.CodeImportValue, "is not %s", words).fix("write it as the kind's definition has it")
	return false
}

// notWords are what YAML 1.1, which Kubernetes reads, takes for truth values.
var notWords = regexp.MustCompile(`^(y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$`)

// raw is a scalar as it is written, "" for everything else.
func (n node) raw() string {
	if !n.there() {
		return ""
	}
	return n.y.Value
}

// text is a string, "" where none is written.
func (n node) text() string {
	if !n.there() || !n.is(yaml.ScalarNode, "a text") {
		return ""
	}
	if n.y.ShortTag() != "!!str" || n.y.Style == 0 && notWords.MatchString(n.y.Value) {
		n.refuse(diag.CodeImportValue, "is not a text").fix("write it between quotes, if that is meant")
		return ""
	}
	return n.y.Value
}

// textOr is a string, or what the definition says where none is written.
func (n node) textOr(otherwise string) string {
	if !n.there() {
		return otherwise
	}
	return n.text()
}

// number is a whole number from low to high; ok is false where none is written.
func (n node) number(low, high int) (_ int, ok bool) {
	if !n.there() || !n.is(yaml.ScalarNode, "a number") {
		return 0, false
	}
	i, err := strconv.Atoi(n.y.Value)
	if err != nil || n.y.ShortTag() != "!!int" || i < low || i > high {
		n.refuse(diag.CodeImportValue, "is not a whole number from %d to %d", low, high).fix("write one")
		return 0, false
	}
	return i, true
}

// skip counts the value, with all in it, as accounted for.
func (n node) skip() {
	if n.there() {
		n.o.skip(n.y)
	}
}

func (o *object) skip(y *yaml.Node) {
	o.read[y] = true
	for _, c := range y.Content {
		o.skip(c)
	}
}

// told is a finding that may get its way out.
type told struct{ d *diag.Diagnostic }

func (t told) fix(format string, args ...any) { *t.d = t.d.WithFix(format, args...) }

// refuse tells that a value is not translated, and counts it, with all in it, as told.
func (n node) refuse(c diag.Code, format string, args ...any) told {
	n.skip()
	n.o.broken = true
	return n.say(diag.New(c, n.at(), "%s: %s", n.o, strings.TrimSpace(n.path+" "+fmt.Sprintf(format, args...))))
}

// lacks tells that something is not translated that is missing, or about the value as a whole:
// what is in it is still told by itself.
func (n node) lacks(c diag.Code, format string, args ...any) told {
	n.o.broken = true
	return n.note(diag.Error, c, format, args...)
}

// note tells what is translated, or means nothing, with a word about it.
func (n node) note(s diag.Severity, c diag.Code, format string, args ...any) told {
	d := diag.New(c, n.at(), "%s: %s", n.o, strings.TrimSpace(n.path+" "+fmt.Sprintf(format, args...)))
	d.Severity = s
	return n.say(d)
}

func (n node) say(d diag.Diagnostic) told {
	*n.o.findings = append(*n.o.findings, d)
	return told{&(*n.o.findings)[len(*n.o.findings)-1]}
}

// rest tells of every value that nobody has read, the outermost of each, and returns their paths.
func (o *object) rest() (paths []string) {
	var walk func(y *yaml.Node, path string)
	walk = func(y *yaml.Node, path string) {
		for i, c := range y.Content {
			n := node{o: o, y: c, key: c, path: fmt.Sprintf("%s[%d]", path, i)}
			if y.Kind == yaml.MappingNode {
				if i%2 == 0 {
					continue
				}
				n.key = y.Content[i-1]
				n.path = strings.TrimPrefix(path+"."+n.key.Value, ".")
			}
			if o.read[c] {
				walk(c, n.path)
				continue
			}
			why, way := unsaid(o.kind, n.path)
			n.refuse(diag.CodeImportField, "%s", why).fix("%s", way)
			paths = append(paths, n.path)
		}
	}
	o.read[o.root] = true
	walk(o.root, "")
	return paths
}
