package kustomize

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshc.dev/meshc/internal/diag"
)

// targetWords say what a patch is about.
func targetWords() []string {
	return []string{"group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector"}
}

// patch reads one patch: a merge of objects, or a list of operations on a target.
func (r *reader) patch(c *component, v value) {
	p := patch{at: v.pos()}
	var docs []document
	sources := 0
	for _, f := range r.fields(v) {
		switch at := f.at; f.name {
		case "path":
			sources++
			docs = r.read(c, at)
			if len(docs) > 0 {
				p.at = docs[0].pos()
			}
		case "patch":
			sources++
			docs = r.inline(at)
		case "target":
			p.Target = map[string]string{}
			for _, w := range r.fields(at) {
				if !slices.Contains(targetWords(), w.name) {
					r.fail(diag.CodeKustomization, w.word.pos(), "the words here are "+strings.Join(targetWords(), ", "), "%q is not taken", w.name)
				}
				p.Target[w.name] = r.text(w.at)
			}
		default:
			r.fail(diag.CodeKustomization, f.word.pos(), "the words here are path, patch and target", "%q is not taken", f.name)
		}
	}
	switch {
	case sources != 1:
		r.fail(diag.CodeKustomization, v.pos(), "write one of them", "a patch has either `path` or `patch`")
	case len(docs) == 0 && !r.problems.HasErrors():
		r.fail(diag.CodeKustomization, v.pos(), "write it, or take it out", "the patch is empty")
	case len(docs) > 1 && p.Target != nil:
		r.fail(diag.CodeKustomizeFile, docs[1].pos(), "make it a patch of its own", "a patch with a target is one document")
	default:
		for _, d := range docs {
			r.add(c, p, d)
		}
	}
}

// add adds one document as a patch.
func (r *reader) add(c *component, p patch, d document) {
	p.doc, p.Patch = d, string(d.json)
	if p.Target == nil {
		p.at = d.pos()
	}
	o, _ := decode(d.json)
	switch k := keyOf(o); {
	case d.node.Kind == yaml.SequenceNode && p.Target == nil:
		r.fail(diag.CodeKustomization, p.at, "add `target` with kind, name and namespace", "a list of operations needs a target")
	case d.node.Kind != yaml.SequenceNode && p.Target == nil && (k.kind == "" || k.name == "" || o["apiVersion"] == nil):
		r.fail(diag.CodeKustomizeFile, d.pos(), "write them, or give the patch a `target`", "a patch needs apiVersion, kind and metadata.name of what it patches")
	default:
		c.Patches = append(c.Patches, p)
	}
}

// inline reads the text of a patch that stands in the kustomization. Its lines are
// those of the file.
func (r *reader) inline(v value) []document {
	before := len(r.problems)
	docs := r.documents(v.file, []byte(r.text(v)))
	first := v.node.Line
	if v.node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		first--
	}
	for i := before; i < len(r.problems); i++ {
		r.problems[i].Pos.Line += first
		r.problems[i].Pos.Col = 0
	}
	for _, d := range docs {
		shift(d.node, first)
	}
	return docs
}

func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}
