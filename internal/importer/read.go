package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshc.dev/meshc/internal/diag"
)

// The limits on what is read.
const (
	maxObjects = 20_000
	maxDepth   = 60
)

// The names of objects and of namespaces. They stand in comments, and in the names of folders.
var (
	nameForm      = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9._:]{0,252}$`)
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

// lineOf finds the line in what the YAML reader says of a broken text.
var lineOf = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?line (\d+): (.*)$`)

// read takes files apart into objects. What is no object is told.
func read(files []Input, findings *diag.List) []*object {
	var out []*object
	for _, f := range files {
		d := yaml.NewDecoder(bytes.NewReader(f.Text))
		for {
			var doc yaml.Node
			err := d.Decode(&doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				*findings = append(*findings, broken(f.Name, err))
				break
			}
			if len(doc.Content) != 1 || doc.Content[0].Tag == "!!null" {
				continue // nothing but comments
			}
			if out = append(out, objects(f.Name, doc.Content[0], findings, true)...); len(out) > maxObjects {
				*findings = append(*findings, diag.New(diag.CodeImportYAML, diag.Pos{File: f.Name}, "there are more than %d objects", maxObjects).WithFix("import them in parts, one namespace after the other"))
				return nil
			}
		}
	}
	return unique(out)
}

func broken(file string, err error) diag.Diagnostic {
	at, text := diag.Pos{File: file}, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	return diag.New(diag.CodeImportYAML, at, "this is no YAML: %s; nothing behind it is read", text).
		WithFix("write YAML; of a template, what it makes (`helm template`, `kustomize build`)")
}

// objects are what a document holds: an object, or those of a List.
func objects(file string, y *yaml.Node, findings *diag.List, lists bool) []*object {
	if d, ok := sound(file, y, 0); !ok {
		*findings = append(*findings, d)
		return nil
	}
	o := &object{file: file, root: y, read: map[*yaml.Node]bool{}, findings: findings, kind: "object"}
	top := o.top()
	if y.Kind != yaml.MappingNode {
		*findings = append(*findings, diag.New(diag.CodeImportYAML, top.at(), "this is no object of Kubernetes").WithFix("give objects with apiVersion, kind and metadata, as `kubectl get -o yaml` prints them"))
		return nil
	}
	o.apiVersion, o.kind = top.field("apiVersion").text(), top.field("kind").text()
	if lists && strings.HasSuffix(o.kind, "List") && top.field("items").there() {
		var out []*object
		for _, item := range top.field("items").items() {
			out = append(out, objects(file, item.y, findings, false)...)
			o.skip(item.y)
		}
		top.field("metadata").skip() // where the list was read
		o.rest()
		return out
	}
	meta := top.field("metadata")
	o.ns, o.name_ = meta.field("namespace").text(), meta.field("name").text()
	switch {
	case o.kind == "" || o.apiVersion == "" || o.name_ == "":
		*findings = append(*findings, diag.New(diag.CodeImportYAML, top.at(), "this is no object of Kubernetes: it needs apiVersion, kind and metadata.name").WithFix("write them, or take it out"))
		return nil
	case !nameForm.MatchString(o.name_) || o.ns != "" && !namespaceForm.MatchString(o.ns):
		*findings = append(*findings, diag.New(diag.CodeImportYAML, meta.at(), "an object is called %q in namespace %q, which no API server takes", o.name_, o.ns).WithFix("call it by letters, digits, hyphens and dots"))
		return nil
	case o.ns == "" && o.kind != "Namespace" && o.kind != "GatewayClass":
		o.ns = "default"
	}
	return []*object{o}
}

// sound reports whether a document is one that can be read in one way only, and is bounded.
func sound(file string, y *yaml.Node, depth int) (diag.Diagnostic, bool) {
	at := diag.Pos{File: file, Line: y.Line, Col: y.Column}
	bad := func(format string, args ...any) (diag.Diagnostic, bool) {
		return diag.New(diag.CodeImportYAML, at, "%s; the document is not read", fmt.Sprintf(format, args...)).WithFix("write it out, as `kubectl get -o yaml` prints it"), false
	}
	switch {
	case y.Kind == yaml.AliasNode || y.Anchor != "":
		return bad("there is an anchor or an alias")
	case depth > maxDepth:
		return bad("this is more than %d levels deep", maxDepth)
	}
	seen := map[string]bool{}
	for i, c := range y.Content {
		if y.Kind == yaml.MappingNode && i%2 == 0 {
			if c.Kind != yaml.ScalarNode {
				at.Line, at.Col = c.Line, c.Column
				return bad("a field's name is no text")
			}
			if seen[c.Value] {
				at.Line, at.Col = c.Line, c.Column
				return bad("the field %q stands there twice", c.Value)
			}
			seen[c.Value] = true
		}
		if d, ok := sound(file, c, depth+1); !ok {
			return d, false
		}
	}
	return diag.Diagnostic{}, true
}

// unique tells of objects that are there twice; the first counts, and neither is translated as
// if the other did not exist.
func unique(all []*object) []*object {
	seen := map[string]*object{}
	var out []*object
	for _, o := range all {
		group, _, _ := strings.Cut(o.apiVersion, "/")
		if !strings.Contains(o.apiVersion, "/") {
			group = ""
		}
		key := strings.Join([]string{group, o.kind, o.ns, o.name_}, "|")
		if first := seen[key]; first != nil {
			o.top().refuse(diag.CodeImportYAML, "is there twice; the other one is at %s", first.top().at()).fix("leave one of them")
			first.broken = true
			continue
		}
		seen[key] = o
		out = append(out, o)
	}
	return out
}

// bookkeeping is what an API server writes by itself, and people apply, about no traffic.
func bookkeeping() []string {
	return []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "generateName", "ownerReferences", "finalizers"}
}

// head accounts for what all objects have.
func (o *object) head() {
	meta := o.top().field("metadata")
	for _, name := range bookkeeping() {
		meta.field(name).skip()
	}
	o.top().field("status").skip() // what others report, and nobody asks for
	for _, what := range []string{"labels", "annotations"} {
		var names []string
		for _, e := range meta.field(what).entries() {
			if e.skip(); e.name != "kubectl.kubernetes.io/last-applied-configuration" && !(o.kind == "Namespace" && what == "labels") {
				names = append(names, e.name)
			}
		}
		if slices.Sort(names); len(names) > 0 {
			meta.field(what).note(diag.Note, diag.CodeImportLeft, "are not carried over: %s", strings.Join(names, ", ")).
				fix("nothing, unless a controller of yours does something by them; then say that in intent")
		}
	}
}
