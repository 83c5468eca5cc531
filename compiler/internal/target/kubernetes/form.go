package kubernetes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/internal/kustomize"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// clusterFolder holds what lies in no namespace.
const clusterFolder = "cluster"

// file is an object on its way into a file: any object, a patched one or one that the
// repository adds, as JSON values.
type file struct {
	object map[string]any
	place  diag.Pos
	path   string // below Folder
}

func (f file) text(path ...string) string {
	v := any(f.object)
	for _, name := range path {
		o, _ := v.(map[string]any)
		v = o[name]
	}
	s, _ := v.(string)
	return s
}

// ranks is the order in which a cluster takes kinds: what others lie in or name comes first.
func ranks() []string {
	return []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ConfigMap", "Service"}
}

func (f file) rank() int {
	if i := slices.Index(ranks(), f.text("kind")); i >= 0 {
		return i
	}
	return len(ranks())
}

// files are all objects, patched, as files that are sorted by path.
func (e *emitter) files() []file {
	slices.SortFunc(e.objects, func(a, b made) int { return cmp.Compare(a.object.path(), b.object.path()) })
	list, origins := make([]kustomize.Object, len(e.objects)), map[string]string{}
	for i, m := range e.objects {
		text, err := canon.JSON(m.object)
		if err != nil {
			e.problem(diag.New(diag.CodeInconsistent, e.profile.Locate(m.origin), "encoding %s %q: %v", m.object.Kind, m.object.Metadata.Name, err))
			return nil
		}
		list[i] = kustomize.Object{JSON: text, Keep: m.keep}
		origins[m.object.path()] = m.origin
	}
	var out []file
	if e.profile.Patch == nil {
		for i, o := range list {
			out = append(out, e.file(o.JSON, e.profile.Locate(e.objects[i].origin)))
		}
		return out
	}
	patched, problems := e.profile.Patch(list)
	e.problems = append(e.problems, problems...)
	for _, r := range patched {
		f := e.file(r.JSON, r.From)
		if r.From == (diag.Pos{}) {
			f.place = e.profile.Locate(origins[f.path])
		} else {
			e.adopt(f)
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	for i := 1; i < len(out); i++ {
		if out[i].path == out[i-1].path {
			e.problem(diag.New(diag.CodeKubernetesName, out[i].place, "the kubernetes target: %s %q and another object have one name in one folder, %q", out[i].text("kind"), out[i].text("metadata", "name"), out[i].path).
				WithRelated(out[i-1].place, "the other").WithFix("give one of them another name"))
		}
	}
	return out
}

// adopt gives an object that the repository adds what all objects have.
func (e *emitter) adopt(f file) {
	meta, _ := f.object["metadata"].(map[string]any)
	set := func(field string, values map[string]string) {
		m, _ := meta[field].(map[string]any)
		if m == nil {
			m = map[string]any{}
			meta[field] = m
		}
		for name, value := range values {
			if was, ok := m[name]; ok && was != value && name != annotOwner {
				e.problem(diag.New(diag.CodePatchedAway, f.place, "the %s %q of %s %q is %q, and meshc writes it", strings.TrimSuffix(field, "s"), name, f.text("kind"), f.text("metadata", "name"), was).
					WithFix("take it out"))
			} else if !ok {
				m[name] = value
			}
		}
	}
	set("labels", map[string]string{labelManagedBy: manager, labelPartOf: labelValue(e.m.TrustDomain)})
	set("annotations", map[string]string{annotOwner: e.ownerOf(f.text("metadata", "namespace"))})
	if annotations, _ := meta["annotations"].(map[string]any); annotations[annotDigest] != nil {
		e.problem(diag.New(diag.CodePatchedAway, f.place, "the annotation %q is there, and meshc writes it", annotDigest).WithFix("take it out"))
	}
}

// ownerOf is who answers for what is added to a namespace.
func (e *emitter) ownerOf(namespace string) string {
	if n, ok := e.m.Namespace(namespace); ok {
		return n.Owner
	}
	return manager
}

// file reads an object's JSON.
func (e *emitter) file(text []byte, place diag.Pos) file {
	f := file{place: place}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&f.object); err != nil {
		e.problem(diag.New(diag.CodeInconsistent, place, "reading an object: %v", err))
	}
	group, _, named := strings.Cut(f.text("apiVersion"), "/")
	if !named {
		group = ""
	}
	f.path = pathOf(group, f.text("kind"), f.text("metadata", "namespace"), f.text("metadata", "name"))
	return f
}

func (o object) path() string {
	group, _, named := strings.Cut(o.APIVersion, "/")
	if !named {
		group = ""
	}
	return pathOf(group, o.Kind, o.Metadata.Namespace, o.Metadata.Name)
}

// pathOf is an object's path below Folder. A kind of somebody else's has its group
// behind it, as kubectl writes it: two of them may be called alike.
func pathOf(group, kind, namespace, name string) string {
	folder := namespace
	if folder == "" {
		folder = clusterFolder
	}
	kind = strings.ToLower(kind)
	if strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io") {
		kind += "." + group
	}
	return folder + "/" + kind + "-" + escaped(name) + ".yaml"
}

// escaped writes what no file's name, or not that of every system, can have as =XX. Only
// names of a few kinds, such as roles, have it.
func escaped(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// sealed is an object's file: canonical YAML with the digest of its content, which is
// that of its canonical JSON without this annotation.
func (f file) sealed() ([]byte, error) {
	text, err := canon.JSON(f.object)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	meta, _ := f.object["metadata"].(map[string]any)
	annotations, ok := meta["annotations"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it has no annotations")
	}
	annotations[annotDigest] = "sha256:" + canon.Digest(text)
	return yamlOf(f.object)
}

// yamlOf is the one YAML form of a value: sorted keys, strings quoted where they would
// be read as something else.
func yamlOf(v any) ([]byte, error) {
	text, err := canon.JSON(v)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return out, nil
}

// checkExemptions warns of an object that is to be edited by hand and that there is not.
func (e *emitter) checkExemptions(files []file) {
	for _, x := range e.profile.Enforcement.Exemptions {
		if !slices.Contains(x.Rules, release.DriftRule) {
			continue
		}
		var known []string
		covered := false
		for _, f := range files {
			o := release.Objects{Kind: f.text("kind"), Namespace: f.text("metadata", "namespace"), Name: f.text("metadata", "name")}
			covered = covered || o == x.Object
			known = append(known, o.String())
		}
		if covered {
			continue
		}
		d := diag.Warn(diag.CodeExemption, e.profile.Locate(model.ExemptionPath(x.Name)), "the exemption %q lets %s be edited by hand, which is no object of environment %q", x.Name, x.Object, e.m.Environment).
			WithFix("name one of the objects in the release's folder %s", Folder)
		if near, ok := diag.Nearest(x.Object.String(), known); ok {
			d = d.WithFix("did you mean %s?", near)
		}
		e.problem(d)
	}
}

// write makes the artifacts.
func (e *emitter) write() (arts []release.Artifact, places []diag.Pos) {
	type artifact struct {
		release.Artifact
		place diag.Pos
	}
	var all []artifact
	put := func(path string, place diag.Pos, text []byte, err error) {
		if err != nil {
			e.problem(diag.New(diag.CodeInconsistent, place, "writing %q: %v", path, err))
			return
		}
		all = append(all, artifact{release.Artifact{Path: path, Bytes: text}, place})
	}
	files := e.files()
	files = append(files, e.admissionPolicies(files)...)
	for _, f := range files {
		text, err := f.sealed()
		put(Folder+f.path, f.place, text, err)
	}
	list := kustomization{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization", Resources: []string{}}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, f := range files {
		list.Resources = append(list.Resources, f.path)
	}
	text, err := yamlOf(list)
	put(Folder+"kustomization.yaml", e.profile.Locate(TargetPath), text, err)
	if e.profile.Injection != nil {
		text, err := canon.JSON(e.profile.Injection)
		put(release.InjectionPath, e.profile.Locate(TargetPath+"/injection"), text, err)
	}
	if x := e.profile.Enforcement; len(x.Softened)+len(x.Exemptions) > 0 {
		e.checkExemptions(files)
		text, err := canon.JSON(x)
		put(release.EnforcementPath, diag.Pos{}, text, err)
	}
	slices.SortFunc(all, func(a, b artifact) int { return cmp.Compare(a.Path, b.Path) })
	for _, a := range all {
		arts, places = append(arts, a.Artifact), append(places, a.place)
	}
	return arts, places
}
