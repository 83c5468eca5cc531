package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Class says how bad a change of behaviour is.
type Class string

// The classes of a change.
const (
	// Nothing is no change: what is written differs, what is done does not.
	Nothing Class = ""
	// Neutral is a change that was compared and is none of the others.
	Neutral Class = "neutral"
	// Narrowing: a request that got through no longer does.
	Narrowing Class = "narrowing"
	// Weakening: mTLS towards plaintext, protection or resilience relaxed.
	Weakening Class = "weakening"
	// Widening: a blocked request gets through.
	Widening Class = "widening"
	// NotCompared is over budget, opaque or not modelled; it gates above all others.
	NotCompared Class = "notCompared"
)

// Word puts the change of one feature's fields into words and says how bad it
// is. before and after hold the feature's own fields, in canonical order; an
// empty side means that the feature was not there. The text has no final period. Where
// both sides do the same, it says Nothing.
type Word func(before, after []space.Field) (Class, string)

// Words has the Word of every feature by its name.
type Words map[string]Word

// Value returns the value of a field, "" if it is absent.
func Value(fs []space.Field, name string) string {
	for _, f := range fs {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Number returns the number of a field, 0 if it is absent or has none.
func Number(fs []space.Field, name string) float64 {
	for _, f := range fs {
		if f.Name == name {
			return f.Number
		}
	}
	return 0
}

// List words fields as "name value, name value"; "none" if there are none.
func List(fs []space.Field) string {
	if len(fs) == 0 {
		return "none"
	}
	parts := make([]string, len(fs))
	for i, f := range fs {
		parts[i] = strings.TrimSpace(f.Name + " " + f.Value)
	}
	return strings.Join(parts, ", ")
}

// Arrow words a change as "what: before → after".
func Arrow(what string, before, after []space.Field) string {
	return fmt.Sprintf("%s: %s → %s", what, List(before), List(after))
}

// nobody is a list of requests that are none.
const nobody = "none"

// Asked is what it means that something is asked of other requests than before, as the fields of model.Asked say
// behind a name: Narrowing of more, Widening where some are left out, Nothing of the same.
func Asked(before, after []space.Field, name string) Class {
	class := Nothing
	for _, what := range []string{model.OnlyMethods, model.OnlyPaths, model.NotThese} {
		b, a := Value(before, name+" "+what), Value(after, name+" "+what)
		if a == b {
			continue
		}
		if what == model.NotThese {
			b, a = cmp.Or(a, nobody), cmp.Or(b, nobody)
		}
		class = Worst(class, covered(b, a))
	}
	return class
}

// covered is what it means that those of one list are asked, and then of another: "" is all.
func covered(before, after string) Class {
	in := func(list, of string) bool {
		return of == "" || list != "" && !slices.ContainsFunc(strings.Split(list, ", "), func(x string) bool {
			return x != nobody && !slices.Contains(strings.Split(of, ", "), x)
		})
	}
	if in(before, after) {
		return Narrowing
	}
	return Widening
}
