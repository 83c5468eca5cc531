package kustomize

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Render renders. With an error among the problems there are no objects.
func Render(j Job) (out []Rendered, problems diag.List) {
	kinds, err := newKinds()
	if err != nil {
		return nil, diag.List{diag.New(diag.CodeInternal, diag.Pos{}, "%v", err).WithFix("this is a defect of meshc: please report it")}
	}
	r := &reader{files: j.Files, kinds: kinds}
	s := &stage{reader: r, own: map[key]Object{}, from: map[key]diag.Pos{}}
	for _, folder := range j.Roots {
		if c := r.component(folder, nil); c != nil {
			s.roots = append(s.roots, c)
		}
	}
	for _, step := range []func(){func() { s.gather(j.Objects) }, s.try, func() { out = s.render() }} {
		if r.problems.HasErrors() {
			return nil, r.problems.Sorted()
		}
		step()
	}
	if r.problems.HasErrors() {
		return nil, r.problems.Sorted()
	}
	return out, r.problems.Sorted()
}

// stage is one render.
type stage struct {
	*reader
	roots   []*component
	objects []entry // the compiler's, then those that files add
	own     map[key]Object
	from    map[key]diag.Pos // of what files add
	folders int
}

// entry is an object before it is patched.
type entry struct {
	key  key
	json []byte
	of   *component // that adds it; nil: the compiler's
}

// perRun is how many objects kustomize gets at once. Whatever is taken of its words is
// about one object at a time, and what it does takes the square of their number.
const perRun = 50

func (s *stage) runs() [][]entry { return slices.Collect(slices.Chunk(s.objects, perRun)) }

// gather collects all objects, and names the folders of components.
func (s *stage) gather(own []Object) {
	for _, o := range own {
		v, err := decode(o.JSON)
		if err != nil {
			s.fail(diag.CodeInternal, diag.Pos{}, "this is a defect of meshc: please report it", "%v", err)
			return
		}
		s.own[keyOf(v)] = o
		s.objects = append(s.objects, entry{keyOf(v), o.JSON, nil})
	}
	for _, c := range s.roots {
		s.gatherFrom(c)
	}
}

func (s *stage) gatherFrom(c *component) {
	s.folders++
	c.name = fmt.Sprintf("c%d", s.folders)
	for _, d := range c.added {
		k := d.key()
		if _, taken := s.own[k]; taken {
			s.fail(diag.CodePatchedAway, d.pos(), "patch it instead, or give yours another name", "%v is there: meshc makes it", k)
			continue
		}
		if first, taken := s.from[k]; taken {
			s.problems = append(s.problems, diag.New(diag.CodeKustomization, d.pos(), "%v is there twice", k).WithRelated(first, "the other").WithFix("keep one of them"))
			continue
		}
		s.from[k] = d.pos()
		s.objects = append(s.objects, entry{k, d.json, c})
	}
	for _, inner := range c.inner {
		s.gatherFrom(inner)
	}
}

// memory is a file system with nothing but what is put in.
type memory struct {
	fs  filesys.FileSystem
	err error
}

func (m *memory) put(name string, v any) {
	text, ok := v.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(v); err != nil {
			m.err = err
			return
		}
	}
	if err := m.fs.WriteFile(name, text); err != nil {
		m.err = err
	}
}

// run has kustomize apply what write writes, by the names that it gives and returns in
// top, to objects. It gives the resources as they are then.
func run(objects []entry, top component, write func(*memory) []string) (m resmap.ResMap, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("kustomize broke off: %v", p)
		}
	}()
	mem := &memory{fs: filesys.MakeFsInMemory()}
	top.APIVersion, top.Kind = "kustomize.config.k8s.io/v1beta1", "Kustomization"
	for i, o := range objects {
		if o.of == nil || write == nil {
			name := fmt.Sprintf("o%d.json", i)
			mem.put("/"+name, o.json)
			top.Resources = append(top.Resources, name)
		}
	}
	if write != nil {
		top.Components = write(mem)
	}
	mem.put("/kustomization.yaml", top)
	if mem.err != nil {
		return nil, fmt.Errorf("writing for kustomize: %w", mem.err)
	}
	m, err = krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(mem.fs, "/")
	if err != nil {
		return nil, fmt.Errorf("kustomize: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return m, nil
}

// render renders all components over all objects.
func (s *stage) render() []Rendered {
	var out []Rendered
	for _, objects := range s.runs() {
		m, err := run(objects, component{}, func(mem *memory) (names []string) {
			for _, c := range s.roots {
				names = append(names, c.write(mem, objects)...)
			}
			return names
		})
		if err == nil {
			var some []Rendered
			some, err = s.rendered(m)
			out = append(out, some...)
		}
		if err != nil {
			s.fail(diag.CodeKustomize, s.roots[0].at, "mend what it names; `kustomize build` of the compiled objects and this folder says more", "%v", err)
			return nil
		}
	}
	s.checkKept(out)
	slices.SortFunc(out, func(a, b Rendered) int { return cmp.Compare(a.key.String(), b.key.String()) })
	return out
}

func (s *stage) rendered(m resmap.ResMap) ([]Rendered, error) {
	var out []Rendered
	for _, res := range m.Resources() {
		text, err := res.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("reading %v: %w", res.CurId(), err)
		}
		if text, err = canon.Reformat(text); err != nil {
			return nil, fmt.Errorf("reading %v: %w", res.CurId(), err)
		}
		o, err := decode(text)
		if err != nil {
			return nil, err
		}
		k := keyOf(o)
		out = append(out, Rendered{JSON: text, From: s.from[k], key: k, object: o})
	}
	return out, nil
}

// checkKept holds the result against what must stay.
func (s *stage) checkKept(out []Rendered) {
	missing := make(map[key]bool, len(s.own))
	for k := range s.own {
		missing[k] = true
	}
	fail := func(k key, what string) {
		s.fail(diag.CodePatchedAway, s.roots[0].at, "leave it as it is: the intent says it", "%v %s", k, what)
	}
	for _, r := range out {
		was, ours := s.own[r.key]
		delete(missing, r.key)
		for _, field := range changed(was, r.object) {
			fail(r.key, "has another "+field+" than meshc gave it")
		}
		if _, added := s.from[r.key]; !ours && !added {
			fail(r.key, "comes from nowhere")
		}
	}
	for k := range missing {
		fail(k, "is gone")
	}
}

// write writes a component and those in it for kustomize, as far as they are about these
// objects, and returns its name; none if it says nothing of them.
func (c *component) write(mem *memory, objects []entry) []string {
	out := component{APIVersion: c.APIVersion, Kind: c.Kind, Images: c.Images, Labels: c.Labels, Annotations: c.Annotations}
	for i, o := range objects {
		if o.of == c {
			name := fmt.Sprintf("o%d.json", i)
			mem.put(path.Join("/", c.name, name), o.json)
			out.Resources = append(out.Resources, name)
		}
	}
	for _, inner := range c.inner {
		for _, name := range inner.write(mem, objects) {
			out.Components = append(out.Components, "../"+name)
		}
	}
	for _, p := range c.Patches {
		if p.Target != nil || slices.ContainsFunc(objects, func(o entry) bool { return o.key == p.doc.key() }) {
			out.Patches = append(out.Patches, p)
		}
	}
	for _, r := range c.Replicas {
		if slices.ContainsFunc(objects, func(o entry) bool { return o.key.scales(r) }) {
			out.Replicas = append(out.Replicas, r)
		}
	}
	if len(out.Resources)+len(out.Components)+len(out.Patches)+len(out.Images)+len(out.Replicas)+len(out.Labels)+len(out.Annotations) == 0 {
		return nil
	}
	mem.put(path.Join("/", c.name, "kustomization.yaml"), out)
	return []string{c.name}
}

// scales reports whether an entry of `replicas` is about the object.
func (k key) scales(replica object) bool {
	return slices.Contains([]string{"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"}, k.kind) && replica["name"] == k.name
}

// changed are the fields of was.Keep that now has otherwise.
func changed(was Object, now object) []string {
	if len(was.Keep) == 0 {
		return nil
	}
	before, err := decode(was.JSON)
	if err != nil {
		return nil
	}
	var out []string
	for _, field := range was.Keep {
		if !equal(at(before, field), at(now, field)) {
			out = append(out, strings.Join(field, "."))
		}
	}
	slices.Sort(out)
	return out
}

func at(v any, field []string) any {
	for _, name := range field {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

func equal(a, b any) bool {
	x, errX := canon.JSON(a)
	y, errY := canon.JSON(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
