package model

import (
	"encoding/json"
	"fmt"

	"meshc.dev/meshc/compiler/internal/space"
)

// pathWord is the condition on the path, which is no list of tests.
const pathWord = "path"

// condition is one on a dimension of a family, as mesh.json has it: what the value is like, or
// a list of what it may be like.
type condition struct {
	Name string `json:"name"`
	pattern
	Any []pattern `json:"any,omitempty"`
	// Not is the complement, absence included.
	Not bool `json:"not,omitempty"`
}

// pattern is what a value is like; "present" if it only has to be there.
type pattern struct {
	Kind  space.Kind `json:"kind,omitempty"`
	Value string     `json:"value,omitempty"`
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
// list of conditions.
func (x Match) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	if !x.Path.IsZero() {
		out[pathWord] = x.Path
	}
	for _, t := range x.When {
		dim, name := t.Dim.Of()
		if dim.Word == "" {
			return nil, fmt.Errorf("no word of a match is about %s", t.Dim)
		}
		written := writtenIn(dim, t)
		switch {
		case dim.IsFamily():
			c := condition{Name: name, Not: t.Not}
			if len(written) == 1 {
				c.pattern = pattern{written[0].Kind, written[0].Text}
			} else {
				for _, w := range written {
					c.Any = append(c.Any, pattern{w.Kind, w.Text})
				}
			}
			list, _ := out[dim.Word].([]condition)
			out[dim.Word] = append(list, c)
		case !listsValues(t) || out[dim.Word] != nil || dim.Single && len(t.Any) > 1:
			return nil, fmt.Errorf("%s does not say it: %s", dim.Word, t.Key())
		case dim.Single:
			out[dim.Word] = t.Any[0].Text
		default:
			var values []string
			for _, p := range t.Any {
				values = append(values, p.Text)
			}
			out[dim.Word] = values
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
	for _, dim := range space.Dimensions() {
		value, ok := fields[dim.Word]
		if !ok {
			continue
		}
		delete(fields, dim.Word)
		when, err := readWord(dim, value)
		if err != nil {
			return fmt.Errorf("%s: %w", dim.Word, err)
		}
		out.When = append(out.When, when...)
	}
	for word := range fields {
		return fmt.Errorf("there is no condition %q", word)
	}
	*x = out
	return nil
}

// readWord reads what stands at the word of a dimension.
func readWord(dim space.Dimension, raw json.RawMessage) ([]space.Test, error) {
	switch {
	case dim.IsFamily():
		var list []condition
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err //nolint:wrapcheck // named by the caller
		}
		var out []space.Test
		for _, c := range list {
			if len(c.Any) == 0 {
				c.Any = []pattern{c.pattern}
			}
			var written []space.Pattern
			for _, p := range c.Any {
				written = append(written, space.Pattern{Kind: p.Kind, Text: p.Value})
			}
			out = append(out, dim.Test(c.Name, c.Not, written...))
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
