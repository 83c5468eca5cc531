package model

import (
	"encoding/json"
	"fmt"

	"meshc.dev/meshc/compiler/internal/space"
)

// pathWord is the condition on the path, which is no list of tests.
const pathWord = "path"

// likeWord are what a match says of paths beside that: by characters, by an expression, or what they are not.
const likeWord = "pathLike"

// notWord are the values of dimensions that are alone which may not be.
const notWord = "not"

// condition is one on a dimension of a family, as mesh.json has it: what the value is like, or
// a list of what it may be like.
type condition struct {
	Name string `json:"name,omitempty"`
	pattern
	Any []pattern `json:"any,omitempty"`
	// Not is the complement, absence included.
	Not bool `json:"not,omitempty"`
}

// pattern is what a value is like; "present" if it only has to be there.
type pattern struct {
	Kind  space.Kind `json:"kind,omitempty"`
	Value string     `json:"value,omitempty"`
	// IgnoreCase says that capitals and small letters are the same.
	IgnoreCase bool `json:"ignoreCase,omitempty"`
}

func patternOf(p space.Pattern) pattern {
	if p.Kind == space.Folded {
		p = p.Unfolded()
		return pattern{p.Kind, p.Text, true}
	}
	return pattern{p.Kind, p.Text, false}
}

func (p pattern) written() space.Pattern {
	out := space.Pattern{Kind: p.Kind, Text: p.Value}
	if p.IgnoreCase {
		return space.FoldedPattern(out)
	}
	return out
}

// conditionOn is a test on a dimension of a family, or on paths.
func conditionOn(name string, t space.Test, written []space.Pattern) condition {
	c := condition{Name: name, Not: t.Not}
	if len(written) == 1 {
		c.pattern = patternOf(written[0])
		return c
	}
	for _, w := range written {
		c.Any = append(c.Any, patternOf(w))
	}
	return c
}

// patterns are what a condition says of values.
func (c condition) patterns() []space.Pattern {
	if len(c.Any) == 0 {
		return []space.Pattern{c.written()}
	}
	var out []space.Pattern
	for _, p := range c.Any {
		out = append(out, p.written())
	}
	return out
}

// writtenIn are the patterns of a test as conditions write them.
func writtenIn(dim space.Dimension, t space.Test) []space.Pattern {
	if len(t.Any) == 0 {
		return []space.Pattern{dim.Write(nil)}
	}
	out := make([]space.Pattern, len(t.Any))
	for i, p := range t.Any {
		out[i] = dim.Write(&p)
	}
	return out
}

// MarshalJSON has a field for each word of a route's match, that of the dimension
// (space.Dimension.Word): a list of the values that may be, the only value, or, of a family, a
// list of conditions. "not" has the same for values that may not be, but for families, whose
// conditions say it themselves.
func (x Match) MarshalJSON() ([]byte, error) {
	out, not := map[string]any{}, map[string]any{}
	if !x.Path.IsZero() {
		out[pathWord] = x.Path
	}
	for _, t := range x.When {
		dim, name := t.Dim.Of()
		word, to := dim.Word, out
		if t.Dim == space.PathDim {
			word = likeWord
		} else if t.Not && !dim.IsFamily() && !dim.Patterned {
			t.Not, to, out[notWord] = false, not, not
		}
		switch {
		case word == "":
			return nil, fmt.Errorf("no word of a match is about %s", t.Dim)
		case dim.IsFamily() || dim.Patterned || word == likeWord:
			list, _ := out[word].([]condition)
			out[word] = append(list, conditionOn(name, t, writtenIn(dim, t)))
		case !listsValues(t) || to[word] != nil || dim.Single && len(t.Any) > 1:
			return nil, fmt.Errorf("%s does not say it: %s", word, t.Key())
		case dim.Single:
			to[word] = t.Any[0].Text
		default:
			var values []string
			for _, p := range t.Any {
				values = append(values, p.Text)
			}
			to[word] = values
		}
	}
	return json.Marshal(out) //nolint:wrapcheck // as of any field
}

// UnmarshalJSON reads what MarshalJSON writes.
func (x *Match) UnmarshalJSON(raw []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err //nolint:wrapcheck // as of any field
	}
	var out Match
	if value, ok := fields[pathWord]; ok {
		delete(fields, pathWord)
		if err := json.Unmarshal(value, &out.Path); err != nil {
			return fmt.Errorf("%s: %w", pathWord, err)
		}
	}
	if value, ok := fields[likeWord]; ok {
		delete(fields, likeWord)
		var list []condition
		if err := json.Unmarshal(value, &list); err != nil {
			return fmt.Errorf("%s: %w", likeWord, err)
		}
		for _, c := range list {
			out.When = append(out.When, space.Test{Dim: space.PathDim, Any: c.patterns(), Not: c.Not})
		}
	}
	if value, ok := fields[notWord]; ok {
		delete(fields, notWord)
		var not map[string]json.RawMessage
		if err := json.Unmarshal(value, &not); err != nil {
			return fmt.Errorf("%s: %w", notWord, err)
		}
		when, err := readWords(not)
		if err != nil {
			return fmt.Errorf("%s: %w", notWord, err)
		}
		out.When = append(out.When, Match{When: when}.Opposites().When...)
	}
	when, err := readWords(fields)
	if err != nil {
		return err
	}
	*x = NewMatch(out.Path, append(out.When, when...)...)
	return nil
}

// readWords reads the words of dimensions, each of which is one.
func readWords(fields map[string]json.RawMessage) ([]space.Test, error) {
	var out []space.Test
	for _, dim := range space.Dimensions() {
		value, ok := fields[dim.Word]
		if !ok || dim.Word == "" {
			continue
		}
		delete(fields, dim.Word)
		when, err := readWord(dim, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dim.Word, err)
		}
		out = append(out, when...)
	}
	for word := range fields {
		return nil, fmt.Errorf("there is no condition %q", word)
	}
	return out, nil
}

// readWord reads what stands at the word of a dimension.
func readWord(dim space.Dimension, raw json.RawMessage) ([]space.Test, error) {
	switch {
	case dim.IsFamily() || dim.Patterned:
		var list []condition
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err //nolint:wrapcheck // named by the caller
		}
		var out []space.Test
		for _, c := range list {
			out = append(out, dim.Test(c.Name, c.Not, c.patterns()...))
		}
		return out, nil
	case dim.Single:
		var value string
		err := json.Unmarshal(raw, &value)
		return []space.Test{space.Values(space.Dim(dim.Name), value)}, err //nolint:wrapcheck // named by the caller
	default:
		var values []string
		err := json.Unmarshal(raw, &values)
		return []space.Test{space.Values(space.Dim(dim.Name), values...)}, err //nolint:wrapcheck // named by the caller
	}
}
