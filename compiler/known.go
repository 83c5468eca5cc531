package compiler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Known is where a process leaves for the next one what compiling for Envoy looked at, so
// that what did not change since need not be made again to know that it is sound, or
// equal. The zero Known knows nothing.
type Known struct {
	// Cache keeps it; nil for none.
	Cache Cache
	// Build names the program that compiles: another one may make other bytes.
	Build string
}

// Checked is Release without those Envoy snapshots of which it is known that they have no
// problem. With an error in the list it is empty.
func (k Known) Checked(p *Program) (release.Release, diag.List) {
	forms := p.forms()
	before := k.load(p)
	sound, err := before.Holds(p.mesh, forms)
	if err != nil {
		return release.Release{}, diag.List{internalError(err)}
	}
	r, ds := p.without(sound)
	if !ds.HasErrors() {
		k.keep(p, before, forms)
	}
	return r, ds
}

// Differing are the releases of two programs, which were loaded one after the other with
// one Memo, without those Envoy snapshots that are known to be the same in both. The first
// is empty if before does not compile, which is no problem of after's: then nothing of
// after's is left out. Each has its problems.
func (k Known) Differing(before, after *Program) (old, fresh release.Release, were, problems diag.List) {
	forms := after.forms(before)
	known := k.load(after)
	same, err := known.same(before, after, forms)
	if err != nil {
		return old, fresh, nil, diag.List{internalError(err)}
	}
	if old, were = before.without(same); were.HasErrors() {
		same = nil
	}
	if fresh, problems = after.without(same); !problems.HasErrors() {
		k.keep(after, known, forms)
	}
	return old, fresh, were, problems
}

// snapshots is what is known of them.
type snapshots struct{ envoy.Known }

// same lists the classes whose snapshots are the known ones in both programs.
func (s snapshots) same(before, after *Program, forms *envoy.Forms) (map[string]bool, error) {
	b, err := s.Holds(before.mesh, forms)
	if err != nil {
		return nil, err
	}
	a, err := s.Holds(after.mesh, forms)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(a, func(class string, _ bool) bool { return !b[class] })
	return a, nil
}

// key tells repositories apart by their namespaces as well: two that a machine compiles in turns, as a
// runner of CI does, must not make each other forget.
func (k Known) key(p *Program) string {
	namespaces := map[string]bool{}
	for _, s := range p.mesh.Services {
		namespaces[s.Namespace] = true
	}
	of := []string{"what snapshots were made of", k.Build, p.mesh.TrustDomain, fmt.Sprint(p.mesh.Aliases, p.mesh.Federation), p.mesh.Environment}
	b, err := canon.JSON(append(of, slices.Sorted(maps.Keys(namespaces))...))
	if err != nil {
		return "" // strings always encode
	}
	return canon.Digest(b)
}

// load is what is known of meshes like that of p. What cannot be read is not known.
func (k Known) load(p *Program) snapshots {
	var s snapshots
	if k.Cache == nil {
		return s
	}
	if b, ok := k.Cache.Get(k.key(p)); ok && json.Unmarshal(b, &s.Known) != nil {
		return snapshots{}
	}
	return s
}

// keep adds what the last compile of p looked at, and forgets classes that p has not.
func (k Known) keep(p *Program, before snapshots, forms *envoy.Forms) {
	if k.Cache == nil {
		return
	}
	made, err := p.memo.emit().Known(forms)
	if err != nil || len(made) == 0 {
		return
	}
	now := envoy.Known{}
	for _, c := range p.Classes() {
		if l, ok := made[c.String()]; ok {
			now[c.String()] = l
		} else if l, ok := before.Known[c.String()]; ok {
			now[c.String()] = l
		}
	}
	if b, err := json.Marshal(now); err == nil {
		k.Cache.Put(k.key(p), b)
	}
}

// forms are the forms of objects of p and of others, loaded with the same Memo.
func (p *Program) forms(others ...*Program) *envoy.Forms {
	have := map[*model.Service]json.RawMessage{}
	for _, q := range append(others, p) {
		for i, s := range q.mesh.Services {
			have[s] = q.form.services[i]
		}
	}
	return envoy.NewForms(func(s *model.Service) json.RawMessage { return have[s] })
}
