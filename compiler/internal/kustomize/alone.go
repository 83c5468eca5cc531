package kustomize

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// maxPatches bounds a component.
const maxPatches = 200

// try finds what each patch is about and applies it alone: a patch that finds nothing,
// does not fit or takes away what meshc keeps, and two that want one field otherwise,
// are told by their lines.
func (s *stage) try() {
	var all []resmap.ResMap
	for _, objects := range s.runs() {
		m, err := run(objects, component{}, nil)
		if err != nil {
			s.fail(diag.CodeKustomize, s.roots[0].at, "mend what it names", "%v", err)
			return
		}
		all = append(all, m)
	}
	for _, c := range s.roots {
		s.tryIn(all, c)
	}
}

func (s *stage) tryIn(all []resmap.ResMap, c *component) {
	for _, inner := range c.inner {
		s.tryIn(all, inner)
	}
	for _, r := range c.Replicas {
		if !slices.ContainsFunc(s.objects, func(o entry) bool { return o.key.scales(r) }) {
			s.fail(diag.CodePatchTarget, c.at, "name a Deployment or StatefulSet that is there, or take it out", "`replicas` finds no object %q that has any", r["name"])
		}
	}
	if len(c.Patches) > maxPatches {
		s.fail(diag.CodeKustomization, c.at, "put what belongs together into one patch", "more than %d patches", maxPatches)
		return
	}
	var effects []effect
	for _, p := range c.Patches {
		found, ok := s.find(all, p)
		if !ok {
			continue
		}
		if e, ok := s.alone(p, found); ok {
			effects = append(effects, e)
		}
	}
	for i, b := range effects {
		for _, a := range effects[:i] {
			s.compare(a, b)
		}
	}
}

// find gives the objects that a patch is about.
func (s *stage) find(all []resmap.ResMap, p patch) (found []entry, ok bool) {
	keys := map[key]bool{}
	if p.Target == nil {
		keys[p.doc.key()] = true
	} else {
		for _, m := range all {
			some, err := m.Select(p.selector())
			if err != nil {
				s.fail(diag.CodeKustomization, p.at, "mend the target", "the patch's target: %v", err)
				return nil, false
			}
			for _, res := range some {
				id := res.CurId()
				keys[key{id.Group, id.Kind, res.GetNamespace(), id.Name}] = true
			}
		}
	}
	for _, o := range s.objects {
		if keys[o.key] {
			found = append(found, o)
		}
	}
	if len(found) == 0 {
		s.fail(diag.CodePatchTarget, p.at, "write kind, name and namespace of an object as `meshc compile` writes it, or take the patch out", "the patch finds no object: %s", p.describe())
	}
	return found, len(found) > 0
}

func (p patch) selector() types.Selector {
	gvk := resid.Gvk{Group: p.Target["group"], Version: p.Target["version"], Kind: p.Target["kind"]}
	return types.Selector{
		ResId:         resid.ResId{Gvk: gvk, Name: p.Target["name"], Namespace: p.Target["namespace"]},
		LabelSelector: p.Target["labelSelector"], AnnotationSelector: p.Target["annotationSelector"],
	}
}

// effect is what a patch alone makes of objects: field → its canonical value.
type effect struct {
	patch  patch
	fields map[key]map[string]string
}

// alone applies one patch to what it is about.
func (s *stage) alone(p patch, about []entry) (effect, bool) {
	e := effect{p, map[key]map[string]string{}}
	for objects := range slices.Chunk(about, perRun) {
		m, err := run(objects, component{Patches: []patch{p}}, nil)
		var now []Rendered
		if err == nil {
			now, err = s.rendered(m)
		}
		if err != nil {
			s.fail(diag.CodePatchTarget, p.at, "write what the object has", "the patch does not fit: %v", err)
			return effect{}, false
		}
		for _, o := range objects {
			s.effectOn(e, o, now)
		}
	}
	return e, true
}

// effectOn notes what became of an object.
func (s *stage) effectOn(e effect, o entry, now []Rendered) {
	own, ours := s.own[o.key]
	i := slices.IndexFunc(now, func(r Rendered) bool { return r.key == o.key })
	if i < 0 {
		if ours {
			s.fail(diag.CodePatchedAway, e.patch.at, "leave it: the intent says it", "the patch deletes or renames %v, which meshc keeps", o.key)
		}
		return
	}
	was, err := decode(o.json)
	if err != nil {
		return // it was an object when it was read
	}
	if what, fix, ok := s.unfit(now[i].JSON); ok {
		s.fail(diag.CodePatchTarget, e.patch.at, fix, "the patch does not fit %v: %s", o.key, what)
	}
	fields := map[string]string{}
	differences(fields, "", was, now[i].object)
	e.fields[o.key] = fields
	for _, field := range changed(own, now[i].object) {
		s.fail(diag.CodePatchedAway, e.patch.at, "leave it as it is: the intent says it", "the patch changes %s of %v, which meshc keeps", field, o.key)
	}
}

// describe says what a patch looks for.
func (p patch) describe() string {
	if p.Target == nil {
		return p.doc.key().String()
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(p.Target)) {
		out = append(out, fmt.Sprintf("%s %q", name, p.Target[name]))
	}
	return strings.Join(out, ", ")
}

// compare reports fields that two patches want otherwise.
func (s *stage) compare(a, b effect) {
	for _, k := range slices.SortedFunc(maps.Keys(b.fields), func(x, y key) int { return cmp.Compare(x.String(), y.String()) }) {
		for _, field := range slices.Sorted(maps.Keys(b.fields[k])) {
			if other, both := a.fields[k][field]; both && other != b.fields[k][field] {
				s.problems = append(s.problems, diag.New(diag.CodePatchConflict, b.patch.at, "two patches want %s of %v otherwise", field, k).
					WithRelated(a.patch.at, "the other").WithFix("put both into one patch"))
				return // one field is enough to find them
			}
		}
	}
}

// differences notes each field in which now differs from was. Items of lists are known
// by their names, where they have names, as in merge patches.
func differences(into map[string]string, field string, was, now any) {
	if equal(was, now) {
		return
	}
	a, isObject := was.(object)
	b, stays := now.(object)
	if !isObject || !stays {
		a, isObject = named(was)
		b, stays = named(now)
	}
	if !isObject || !stays {
		text, err := canon.JSON(now)
		if err != nil {
			text = fmt.Appendf(nil, "%v", now)
		}
		into[strings.TrimPrefix(field, ".")] = string(text)
		return
	}
	both := maps.Clone(a)
	maps.Copy(both, b)
	for name := range both {
		differences(into, field+"."+name, a[name], b[name])
	}
}

// named is a list whose items have names, by these.
func named(v any) (object, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := object{}
	for _, e := range list {
		item, _ := e.(object)
		name, ok := "", false
		for _, by := range []string{"name", "containerPort", "port", "mountPath", "devicePath", "ip", "topologyKey", "uid"} {
			if text, has := item[by]; has && !ok {
				name, ok = fmt.Sprint(text), true
			}
		}
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = item
	}
	return out, true
}
