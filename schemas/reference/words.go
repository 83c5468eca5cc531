package reference

import (
	"cmp"
	"slices"
	"strings"
)

// Word is one word of the language, at one of the definitions that have it.
type Word struct {
	// Word is its name: that of what it is said of, and its own.
	Word  string `json:"word"`
	Also  string `json:"also,omitempty"` // another name, as of "responseHeaders.set" beside "requestHeaders.set"
	Means string `json:"means"`
	// Form is what may stand behind it, and FormMeans what that is, if the schema has a name for it.
	Form      string `json:"form"`
	FormMeans string `json:"formMeans,omitempty"`
	Required  bool   `json:"required,omitempty"`
	// Holds are the words that stand below it.
	Holds    []Part    `json:"holds,omitempty"`
	Defaults []Default `json:"defaults,omitempty"`
	Seen
}

// Part is a word below another one.
type Part struct {
	Word     string `json:"word"`
	Form     string `json:"form"`
	Means    string `json:"means"`
	Required bool   `json:"required,omitempty"`
}

// Default is what holds where a word is not written.
type Default struct {
	Field string `json:"field"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Words are all words, in the order of their definitions, with what holds where they are not written and
// what was seen of them.
func Words(defaults []Default, seen map[string]Seen) []Word {
	defs := map[string]Definition{}
	for _, d := range Definitions() {
		defs[d.ID] = d
	}
	var out []Word
	for _, d := range Definitions() {
		for _, f := range d.Fields {
			if f.Name == "" {
				continue
			}
			w := Word{Word: below(d.Name, f.Name), Means: f.Means, Form: f.Form, Required: f.Required, Seen: seen[d.ID+"."+f.Name]}
			if d.Also != "" {
				w.Also = below(d.Also, f.Name)
			}
			for _, of := range f.Of {
				w.Holds = append(w.Holds, parts(defs, of)...)
			}
			if len(f.Of) == 1 && defs[f.Of[0]].Form != "" {
				w.FormMeans = defs[f.Of[0]].Means
			}
			for _, x := range defaults {
				if x.about(w.Word) || x.about(w.Also) {
					w.Defaults = append(w.Defaults, x)
				}
			}
			out = append(out, w)
		}
	}
	return out
}

func below(of, name string) string { return strings.TrimPrefix(of+"."+name, ".") }

// parts are the words of a definition, those of what it takes over included.
func parts(defs map[string]Definition, id string) []Part {
	var out []Part
	for _, f := range defs[id].Fields {
		if f.Name != "" {
			out = append(out, Part{f.Name, f.Form, f.Means, f.Required})
			continue
		}
		for _, of := range f.Of {
			out = append(out, parts(defs, of)...)
		}
	}
	return out
}

// about reports whether a default is that of a word. A row of the table may be about several
// words of one thing ("grant.methods, paths"), and one of the two names may begin further up.
func (d Default) about(word string) bool {
	field, _, _ := strings.Cut(d.Field, " (") // where it holds
	first, rest, _ := strings.Cut(field, ", ")
	names := []string{first}
	if rest != "" {
		names = append(names, first[:strings.LastIndexByte(first, '.')+1]+rest)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return name == word || strings.Contains(word, ".") && strings.HasSuffix(name, "."+word) || strings.Contains(name, ".") && strings.HasSuffix(word, "."+name)
	})
}

// Find are the words that a user may mean: those of that name, else those whose name ends with it. What a
// default or a deny says comes last: it repeats a word of what people speak about.
func Find(words []Word, name string) []Word {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "mesh."), "#")
	var exact, ending []Word
	for _, w := range words {
		switch {
		case w.Word == name || w.Also == name:
			exact = append(exact, w)
		case strings.HasSuffix(w.Word, "."+name) || strings.HasSuffix(w.Also, "."+name):
			ending = append(ending, w)
		}
	}
	slices.SortStableFunc(ending, func(a, b Word) int { return cmp.Compare(a.repeats(), b.repeats()) })
	return append(exact, ending...)
}

func (w Word) repeats() int {
	parts := strings.Split(w.Word, ".")
	if slices.Contains(parts, "default") || slices.Contains(parts, "deny") {
		return 1
	}
	return 0
}
