package kustomize

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// component is a kustomization as it was read. Its JSON is what kustomize gets.
type component struct {
	APIVersion  string            `json:"apiVersion"`
	Kind        string            `json:"kind"`
	Resources   []string          `json:"resources,omitempty"`
	Components  []string          `json:"components,omitempty"`
	Patches     []patch           `json:"patches,omitempty"`
	Images      []map[string]any  `json:"images,omitempty"`
	Replicas    []map[string]any  `json:"replicas,omitempty"`
	Labels      []map[string]any  `json:"labels,omitempty"`
	Annotations map[string]string `json:"commonAnnotations,omitempty"`

	added  []document // what Resources name
	inner  []*component
	folder string // in the repository
	name   string // of the folder that kustomize sees
	at     diag.Pos
}

// patch is one patch. Its text is JSON.
type patch struct {
	Target map[string]string `json:"target,omitempty"`
	Patch  string            `json:"patch"`

	at  diag.Pos
	doc document
}

// kustomizationFiles are the names that kustomize knows, the usual one first.
func kustomizationFiles() []string {
	return []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}
}

// refusals are words of kustomize that are not taken, and why.
func refusals() map[string]string {
	const outside, renames = "it reaches outside of the repository or runs programs", "it renames or moves objects, whose names the mesh decides"
	return map[string]string{
		"helmCharts": outside, "helmChartInflationGenerator": outside, "helmGlobals": outside, "generators": outside, "transformers": outside, "validators": outside,
		"openapi": "it changes how later patches are understood", "crds": "it changes how later patches are understood", "configurations": "it changes how later patches are understood",
		"bases": "a base may be anywhere; name files in `resources`, folders in `components`", "namePrefix": renames, "nameSuffix": renames, "namespace": renames,
		"patchesStrategicMerge": "write `patches`", "patchesJson6902": "write `patches`", "commonLabels": "it changes selectors; write `labels`", "imageTags": "write `images`",
		"vars": "write `patches`", "replacements": "write `patches`", "configMapGenerator": "write the ConfigMap into a file of `resources`",
		"secretGenerator": "a release holds no secrets: have them made in the cluster", "generatorOptions": "nothing is generated", "sortOptions": "the release sorts its objects",
		"buildMetadata": "a release says by its provenance where things come from",
	}
}

// component reads the kustomization of a folder and what it names. above are the
// folders that lead here.
func (r *reader) component(folder string, above []string) *component {
	file := ""
	for _, name := range kustomizationFiles() {
		if _, ok := r.files[path.Join(folder, name)]; ok && file == "" {
			file = path.Join(folder, name)
		} else if ok {
			r.fail(diag.CodeKustomization, diag.Pos{File: path.Join(folder, name)}, "keep one of them", "%q is there as well", file)
		}
	}
	if file == "" {
		r.fail(diag.CodeKustomization, diag.Pos{File: folder}, "add kustomization.yaml with `kind: Component`", "the folder %q has no kustomization", folder)
		return nil
	}
	c := &component{APIVersion: "kustomize.config.k8s.io/v1alpha1", Kind: "Component", folder: folder, at: diag.Pos{File: file, Line: 1, Col: 1}}
	if slices.Contains(above, folder) {
		r.fail(diag.CodeKustomization, c.at, "take one of the folders out", "the components %s lead to each other in a circle", strings.Join(above, ", "))
		return nil
	}
	docs := r.documents(file, r.files[file])
	if len(docs) != 1 {
		if !r.problems.HasErrors() {
			r.fail(diag.CodeKustomization, c.at, "write one", "a kustomization is one YAML document, not %d", len(docs))
		}
		return nil
	}
	r.words(c, docs[0].value, append(slices.Clone(above), folder))
	return c
}

// words reads the words of a kustomization.
func (r *reader) words(c *component, v value, above []string) {
	taken := r.taken(c, above)
	kind := ""
	for _, f := range r.fields(v) {
		read, ok := taken[f.name]
		switch {
		case f.name == "kind":
			kind = r.text(f.at)
		case ok:
			read(f.at)
		default:
			r.notTaken(f, slices.Sorted(maps.Keys(taken)))
		}
	}
	if kind != "Component" && !r.problems.HasErrors() {
		what := "the kustomization does not say its kind"
		if kind != "" {
			what = fmt.Sprintf("the kustomization is of kind %q", kind)
		}
		r.fail(diag.CodeKustomization, c.at, "write `kind: Component` (apiVersion kustomize.config.k8s.io/v1alpha1): it is applied to what meshc makes", "%s", what)
	}
}

// taken are the words that are taken, and how each is read into c.
func (r *reader) taken(c *component, above []string) map[string]func(value) {
	each := func(read func(value)) func(value) {
		return func(v value) {
			for _, e := range r.list(v) {
				read(e)
			}
		}
	}
	return map[string]func(value){
		"apiVersion": func(value) {},
		"kind":       func(value) {},
		"metadata":   func(value) {},
		"resources":  each(func(v value) { r.resource(c, v) }),
		"patches":    each(func(v value) { r.patch(c, v) }),
		"components": each(func(v value) {
			if folder := r.local(c, v); folder != "" {
				if inner := r.component(folder, above); inner != nil {
					c.inner = append(c.inner, inner)
				}
			}
		}),
		"images": func(v value) {
			c.Images = r.maps(v, "name", "newName", "newTag", "digest")
			r.checkImages(v)
		},
		"replicas":          func(v value) { c.Replicas = r.maps(v, "name", "count") },
		"labels":            func(v value) { c.Labels = r.maps(v, "pairs", "includeTemplates") },
		"commonAnnotations": func(v value) { c.Annotations = r.texts(v) },
	}
}

// notTaken refuses a word.
func (r *reader) notTaken(f field, taken []string) {
	if why, known := refusals()[f.name]; known {
		r.fail(diag.CodeKustomization, f.word.pos(), "take it out: "+why, "%q is not taken", f.name)
		return
	}
	fix := "the words here are " + strings.Join(taken, ", ")
	if near, ok := diag.Nearest(f.name, taken); ok {
		fix = "did you mean \"" + near + "\"?"
	}
	r.fail(diag.CodeKustomization, f.word.pos(), fix, "unknown field %q", f.name)
}

// field is a field of a mapping: its name, and the places of that and of its value.
type field struct {
	name     string
	word, at value
}

// fields are those of a mapping, as they stand.
func (r *reader) fields(v value) []field {
	if v.node.Kind != yaml.MappingNode {
		r.fail(diag.CodeKustomization, v.pos(), "write fields", "this is no mapping")
		return nil
	}
	var out []field
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		out = append(out, field{v.node.Content[i].Value, value{v.node.Content[i], v.file}, value{v.node.Content[i+1], v.file}})
	}
	return out
}

func (r *reader) list(v value) []value {
	if v.node.Kind != yaml.SequenceNode {
		r.fail(diag.CodeKustomization, v.pos(), "write a list", "this is no list")
		return nil
	}
	var out []value
	for _, n := range v.node.Content {
		out = append(out, value{n, v.file})
	}
	return out
}

func (r *reader) text(v value) string {
	if v.node.Kind != yaml.ScalarNode || v.node.Tag != "!!str" {
		r.fail(diag.CodeKustomization, v.pos(), "write a text, in quotes if it looks like a number", "this is no text")
		return ""
	}
	return v.node.Value
}

func (r *reader) texts(v value) map[string]string {
	out := map[string]string{}
	for _, f := range r.fields(v) {
		out[f.name] = r.text(f.at)
	}
	return out
}

// maps reads a list of mappings that have these words only.
func (r *reader) maps(v value, words ...string) []map[string]any {
	var out []map[string]any
	for _, e := range r.list(v) {
		for _, f := range r.fields(e) {
			if !slices.Contains(words, f.name) {
				r.fail(diag.CodeKustomization, f.word.pos(), "the words here are "+strings.Join(words, ", "), "%q is not taken", f.name)
			}
		}
		c := checker{reader: r, file: e.file}
		if m, ok := c.check(e.node, 0).(object); ok {
			out = append(out, m)
		}
	}
	return out
}

var imageName = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._:/]*$`)

// checkImages: kustomize takes an image's name for a regular expression.
func (r *reader) checkImages(v value) {
	for _, e := range r.list(v) {
		if !slices.ContainsFunc(r.fields(e), func(f field) bool { return f.name == "name" && imageName.MatchString(f.at.node.Value) }) {
			r.fail(diag.CodeKustomization, e.pos(), "write the image's name without tag", "an image has a plain name")
		}
	}
}

// local is the path in the repository that a kustomization names, "" if it names
// anything else than a place below its own folder of kustomize files.
func (r *reader) local(c *component, v value) string {
	p := r.text(v)
	if p == "" {
		return ""
	}
	full := path.Join(c.folder, p)
	root := c.folder[:strings.LastIndex("/"+c.folder+"/", "/"+source.KustomizeFolder+"/")+len(source.KustomizeFolder)]
	if strings.ContainsAny(p, ":?&@%\\ ") || strings.HasPrefix(p, "/") || full != root && !strings.HasPrefix(full, root+"/") && !strings.HasPrefix(full, source.KustomizeFolder+"/") {
		r.fail(diag.CodeKustomization, v.pos(), "copy it into the folder "+root+": what is not in the repository cannot be approved with it", "%q leads out of the folder %q", p, root)
		return ""
	}
	return full
}

// read is the file that a kustomization names.
func (r *reader) read(c *component, v value) []document {
	file := r.local(c, v)
	if file == "" {
		return nil
	}
	text, ok := r.files[file]
	if !ok {
		fix := "add it, with a name that ends in .yaml, .yml or .json"
		for other := range r.files {
			if strings.HasPrefix(other, file+"/") {
				fix = "name its files; a folder with a Component stands in `components`"
			}
		}
		r.fail(diag.CodeKustomization, v.pos(), fix, "there is no file %q", file)
		return nil
	}
	return r.documents(file, text)
}

// resource reads a file of objects that the repository adds.
func (r *reader) resource(c *component, v value) {
	for _, d := range r.read(c, v) {
		o, err := decode(d.json)
		switch k := d.key(); {
		case err != nil || k.kind == "" || k.name == "" || o["apiVersion"] == nil:
			r.fail(diag.CodeKustomizeFile, d.pos(), "write apiVersion, kind and metadata.name", "this is no object of Kubernetes")
		case strings.HasSuffix(k.kind, "List") && o["items"] != nil:
			r.fail(diag.CodeKustomizeFile, d.pos(), "write its objects one after the other, between lines of ---", "a List is not taken")
		case k.namespace == "" && needsNamespace(o):
			r.fail(diag.CodeKustomizeFile, d.pos(), "write metadata.namespace", "%v is in no namespace", k)
		case k.group == "" && k.kind == "Secret":
			r.fail(diag.CodeKustomizeFile, d.pos(), "have it made in the cluster", "%v: a release holds no secrets", k)
		default:
			if what, fix, ok := r.unfit(d.json); ok {
				r.fail(diag.CodeKustomizeFile, d.pos(), fix, "%v does not fit its kind: %s", k, what)
			}
			c.added = append(c.added, d)
		}
	}
}

// needsNamespace reports whether an object's kind is known to lie in namespaces.
func needsNamespace(o object) bool {
	version, _ := o["apiVersion"].(string)
	kind, _ := o["kind"].(string)
	namespaced, known := openapi.IsNamespaceScoped(kyaml.TypeMeta{APIVersion: version, Kind: kind})
	return known && namespaced
}
