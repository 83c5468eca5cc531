package compiler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// column is how far a target goes with each row of the matrix.
type column struct {
	structure func(feature.Structure) coverage.Answer
	feature   func(feature.Feature) (state, why string)
}

func kubernetesColumn() column {
	return column{func(s feature.Structure) coverage.Answer { return s.Kubernetes }, func(f feature.Feature) (string, string) { return f.Kubernetes.Support() }}
}

func gatewayAPIColumn() column {
	return column{func(s feature.Structure) coverage.Answer { return s.GatewayAPI }, func(f feature.Feature) (string, string) { return f.GatewayAPI.Support() }}
}

// word is the name by which the loss of a row is accepted: the field that a user writes.
func word(row string) string {
	for _, f := range catalog.All() {
		if f.Name == row {
			return f.Field
		}
	}
	return row
}

// support is how far the target goes with what users call by that word; ok is false if it is none.
// Of several features with one field, one that is refused counts.
func (c column) support(name string) (state, why string, ok bool) {
	for _, s := range catalog.Structure() {
		if s.Name == name {
			state, why = c.structure(s).Support()
			return state, why, true
		}
	}
	for _, f := range catalog.All() {
		if f.Field == name && state != "refused" {
			state, why = c.feature(f)
			ok = true
		}
	}
	return state, why, ok
}

// rowNames are all names by which losses can be accepted.
func rowNames() []string {
	var out []string
	for _, s := range catalog.Structure() {
		out = append(out, s.Name)
	}
	for _, f := range catalog.All() {
		out = append(out, f.Field)
	}
	return out
}

// settle holds what the root package accepts for a target against the gaps: what it goes
// without, and an error for each gap that nobody accepts.
func settle(c column, t resolve.Target, gaps []coverage.Gap) ([]release.Loss, diag.List) {
	var ds diag.List
	lost := map[string]*release.Loss{}
	for _, w := range t.Without {
		lost[w.Name] = &release.Loss{Target: t.Name, Name: w.Name, Owner: w.Owner, Reason: w.Reason}
	}
	for _, g := range gaps {
		name := word(g.Name)
		if l := lost[name]; l != nil {
			l.Why, l.At = append(l.Why, g.Why), append(l.At, g.Path)
			continue
		}
		d := g.Problem
		if d.Fix == "" {
			d.Fix = fmt.Sprintf("take it out, go without it (`targets: %q: without: %q: {owner: \"…\", reason: \"…\"}` in the root package), or compile without the target", t.Name, name)
		}
		ds = append(ds, d)
	}
	var out []release.Loss
	for _, w := range t.Without {
		l := lost[w.Name]
		if len(l.At) == 0 {
			ds = append(ds, c.idle(t, w))
			continue
		}
		slices.Sort(l.Why)
		slices.Sort(l.At)
		l.Why, l.At = slices.Compact(l.Why), slices.Compact(l.At)
		out = append(out, *l)
	}
	return out, ds
}

// idle says why nothing is lost by what is accepted.
func (c column) idle(t resolve.Target, w resolve.Accepted) diag.Diagnostic {
	state, why, known := c.support(w.Name)
	switch {
	case !known:
		d := diag.New(diag.CodeLoss, w.Pos, "the %s target goes without %q, and nothing has that name", t.Name, w.Name)
		if near, ok := diag.Nearest(w.Name, rowNames()); ok {
			return d.WithFix("did you mean %q?", near)
		}
		return d.WithFix("write a name of the table in docs/features.md: %s", strings.Join(rowNames(), ", "))
	case state != "refused":
		text := "says it as it is meant"
		if why != "" {
			text = "says of it: " + why
		}
		return diag.New(diag.CodeLoss, w.Pos, "the %s target goes without %q, and it %s", t.Name, w.Name, text).WithFix("take it out: only what a target refuses can be gone without")
	}
	return diag.Warn(diag.CodeLossUnused, w.Pos, "the %s target goes without %q, and nothing in the mesh would be lost by it", t.Name, w.Name).WithFix("take it out")
}

// lossList is the artifact that lists losses, none without any.
func lossList(ls []release.Loss) ([]release.Artifact, error) {
	if len(ls) == 0 {
		return nil, nil
	}
	b, err := canon.JSON(ls)
	if err != nil {
		return nil, fmt.Errorf("encoding %q: %w", release.LossesPath, err)
	}
	return []release.Artifact{{Path: release.LossesPath, Bytes: b}}, nil
}

// Losses are what the objects of targets do not say although the mesh does, accepted by
// name, sorted by target and name.
func (p *Program) Losses() []release.Loss {
	if p.intent == nil {
		return p.lost
	}
	var out []release.Loss
	for _, t := range p.result.Targets {
		if len(t.Without) == 0 {
			continue
		}
		var gaps []coverage.Gap
		c := kubernetesColumn()
		if t.Name == kubernetesTarget {
			_, _, gaps, _ = kubernetes.Emit(p.mesh, catalog.Kubernetes(), catalog.KubernetesParts(), p.kubernetesProfile(t))
		} else {
			c = gatewayAPIColumn()
			_, gaps, _ = gatewayapi.Emit(p.mesh, catalog.GatewayAPI(), catalog.GatewayAPIConditions(), catalog.GatewayAPIParts(), gatewayapi.Profile{Locate: p.Position})
		}
		ls, _ := settle(c, t, gaps)
		out = append(out, ls...)
	}
	slices.SortFunc(out, byTarget)
	return out
}

func byTarget(a, b release.Loss) int {
	return strings.Compare(a.Target+"\x00"+a.Name, b.Target+"\x00"+b.Name)
}

// classified are the losses with what each means for those whom the target's objects serve.
func (p *Program) classified() []plan.Loss {
	var out []plan.Loss
	for _, l := range p.Losses() {
		out = append(out, plan.Loss{Loss: l, Class: p.lossClass(l.Name)})
	}
	return out
}

// lossClass is the class of losing all that users call by that word: of a feature, the worst
// that its own word says where any of its values in the mesh goes away.
func (p *Program) lossClass(name string) plan.Class {
	for _, s := range catalog.Structure() {
		if s.Name == name {
			return s.Lost
		}
	}
	worst := plan.Neutral
	for _, f := range catalog.All() {
		if f.Field != name {
			continue
		}
		for _, v := range p.values(f.Name) {
			class, _ := f.Change(catalog.Meaning().Fields(trait.Of(v)), nil)
			worst = plan.Worst(worst, class)
		}
	}
	return worst
}

// values are those of a feature in the mesh.
func (p *Program) values(name string) []trait.Value {
	var out []trait.Value
	add := func(sets ...trait.Set) {
		for _, s := range sets {
			if v, ok := s.Lookup(name); ok {
				out = append(out, v)
			}
		}
	}
	routes := func(rs []model.Route) {
		for _, r := range rs {
			add(r.Traits)
			add(slices.Collect(maps.Values(r.PortTraits))...)
		}
	}
	for _, s := range p.mesh.Services {
		add(s.Traits)
		add(slices.Collect(maps.Values(s.PortTraits))...)
		for _, v := range s.Versions {
			add(v.Traits)
			add(slices.Collect(maps.Values(v.PortTraits))...)
		}
		routes(s.Routes)
		for _, c := range s.Calls {
			add(c.Traits)
		}
	}
	for _, x := range p.mesh.Externals {
		add(x.Traits)
		routes(x.Routes)
	}
	for _, g := range p.mesh.Gateways {
		add(g.Traits)
		for _, h := range g.Hosts {
			routes(h.Routes)
		}
	}
	return out
}
