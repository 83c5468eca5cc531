package model

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Requests are requests by methods and by paths; a nil list is about all.
type Requests struct {
	Methods []string `json:"methods,omitempty"`
	Paths   []Path   `json:"paths,omitempty"`
}

// Words name the methods and paths, as intent writes them, each once and sorted; "" for none.
func (r Requests) Words() string {
	paths := make([]string, 0, len(r.Paths))
	for _, p := range r.Paths {
		paths = append(paths, p.Written())
	}
	once := func(words []string) []string { return slices.Compact(slices.Sorted(slices.Values(words))) }
	return strings.Join(append(once(r.Methods), once(paths)...), ", ")
}

// Asked are the requests of which a protection asks something: its methods and paths are read broadly, as a deny's.
type Asked struct {
	Requests
	// Not are those of which it asks nothing, by each of the fields by itself, read strictly, as a grant's.
	Not Requests `json:"not,omitzero"`
}

// All reports whether no request is left out.
func (a Asked) All() bool {
	return len(a.Methods)+len(a.Paths)+len(a.Not.Methods)+len(a.Not.Paths) == 0
}

// Broadly are the methods, nil for all: HEAD is answered by what answers GET.
func (a Asked) Broadly() []string { return Terms{Methods: a.Methods}.Broadly().Methods }

// Tests hold together for the requests that are asked.
func (a Asked) Tests() []space.Test {
	var when []space.Test
	add := func(t space.Test, not bool) {
		if t.Not = not; len(t.Any) > 0 {
			when = append(when, t)
		}
	}
	at, but := space.Test{Dim: space.PathDim}, space.Test{Dim: space.PathDim}
	for _, p := range a.Paths {
		at.Any = append(at.Any, space.Pattern{Kind: space.Spelt, Text: p.Written()})
	}
	for _, p := range a.Not.Paths {
		but.Any = append(but.Any, p.Pattern())
	}
	add(space.Values(space.MethodDim, a.Broadly()...), false)
	add(at, false)
	add(space.Values(space.MethodDim, a.Not.Methods...), true)
	add(but, true)
	return when
}

// What the names of fields end in that say of which requests something is asked, behind the name of who asks.
const (
	OnlyMethods = "only methods"
	OnlyPaths   = "only paths"
	NotThese    = "not"
)

// Takes reports whether a request of that method and path is one of them.
func (a Asked) Takes(method, path string) bool {
	return space.Matches(a.Tests(), space.Request{Method: method, Path: path})
}

// Acts are what a feature does at a station to the requests that are asked, as fields. At a gateway it is done to
// these alone; what a service does is told of the service as a whole, so there fields behind the name say to which.
func (a Asked) Acts(at space.Station, gateway bool, name string, does ...space.Field) []space.Act {
	if gateway {
		return []space.Act{{At: at, When: a.Tests(), Fields: does}}
	}
	for _, f := range []space.Field{{Name: OnlyMethods, Value: Requests{Methods: a.Methods}.Words()}, {Name: OnlyPaths, Value: Requests{Paths: a.Paths}.Words()}, {Name: NotThese, Value: a.Not.Words()}} {
		if f.Value != "" {
			does = append(does, space.Field{Feature: does[0].Feature, Name: name + " " + f.Name, Value: f.Value})
		}
	}
	return space.Labels(at, does...)
}
