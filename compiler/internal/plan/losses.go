package plan

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
)

// Loss is what a target goes without.
type Loss struct {
	release.Loss
	// Class is what it means for those whom the target's objects serve.
	Class Class
}

// losses compares what the objects of targets do not say. A loss that is new has the class of
// what it takes away. One that goes, and more places of one that was accepted before, are
// neutral: what the objects did not say before they do not say now.
func (c *comparison) losses(before, after []Loss) {
	type key struct{ target, name string }
	was, is := map[key]Loss{}, map[key]Loss{}
	for _, l := range before {
		was[key{l.Target, l.Name}] = l
	}
	for _, l := range after {
		k := key{l.Target, l.Name}
		if is[k] = l; was[k].Name == "" {
			c.loss(l.Class, nil, &l, Change{What: LossNew, After: l.At, Why: l.Why, Owner: l.Owner, Reason: l.Reason})
		}
	}
	for _, b := range before {
		a, still := is[key{b.Target, b.Name}]
		if !still {
			c.loss(Neutral, &b, nil, Change{What: LossGone, Before: b.At})
			continue
		}
		if more := without(a.At, b.At); len(more) > 0 {
			c.loss(Neutral, &b, &a, Change{What: LossMore, After: more})
		}
		if fewer := without(b.At, a.At); len(fewer) > 0 {
			c.loss(Neutral, &b, &a, Change{What: LossFewer, Before: fewer})
		}
		if b.Owner != a.Owner || b.Reason != a.Reason {
			c.loss(Neutral, &b, &a, moved(LossReason, b.Owner+": "+b.Reason, a.Owner+": "+a.Reason))
		}
	}
}

// counted counts mesh paths, and names the first few.
func counted(paths []string) string {
	const few = 3
	noun := "places"
	if len(paths) == 1 {
		noun = "place"
	}
	named := slices.Clone(paths[:min(few, len(paths))])
	if len(paths) > few {
		named = append(named, "…")
	}
	return fmt.Sprintf("%d %s (%s)", len(paths), noun, strings.Join(named, ", "))
}

// loss adds a piece about a loss; nil leaves the side out.
func (c *comparison) loss(class Class, before, after *Loss, says Change) {
	var p piece
	for _, l := range []*Loss{before, after} {
		if l != nil {
			scope := "target " + l.Target
			says.Name = l.Name
			p = piece{class: class, kind: KindLoss, scope: scope, feature: l.Name, says: says, before: p.before}
			origin := []space.Origin{space.Origin(model.LossPath(l.Target, l.Name))}
			if l == before {
				p.before = origin
			} else {
				p.after = origin
			}
		}
	}
	c.add(p)
}
