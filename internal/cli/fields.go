package cli

import (
	"reflect"
	"strings"
)

// field is one that a struct has as JSON.
type field struct {
	reflect.StructField
	name     string
	optional bool // is left out where it says nothing
}

// fieldsOf are the fields that encoding/json writes of a struct, those of structs that it
// embeds included.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			out = append(out, fieldsOf(f.Type)...)
			continue
		case !f.IsExported() || tag == "-":
			continue
		case tag == "":
			tag = f.Name
		}
		out = append(out, field{f, tag, strings.Contains(options, "omit")})
	}
	return out
}

// withoutNull is a decoded document of a type with an empty list or object where Go has
// none, so that readers need not tell both apart.
func withoutNull(t reflect.Type, v any) any {
	switch t.Kind() {
	case reflect.Pointer:
		if v != nil {
			return withoutNull(t.Elem(), v)
		}
	case reflect.Slice:
		switch list := v.(type) {
		case nil:
			return []any{}
		case []any:
			for i := range list {
				list[i] = withoutNull(t.Elem(), list[i])
			}
		}
	case reflect.Map:
		switch m := v.(type) {
		case nil:
			return map[string]any{}
		case map[string]any:
			for k := range m {
				m[k] = withoutNull(t.Elem(), m[k])
			}
		}
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			for _, f := range fieldsOf(t) {
				if x, there := m[f.name]; there {
					m[f.name] = withoutNull(f.Type, x)
				}
			}
		}
	default:
	}
	return v
}
