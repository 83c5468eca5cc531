package policies_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"meshc.dev/meshc/policies"
)

// A field of mesh.json that the schema does not know cannot be used in any rule:
// every field of the model is in the schema. The model's source is read, because
// its package is the compiler's own.
func TestSchemaKnowsEveryFieldOfTheMesh(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(policies.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	collect(schema, known)
	files, err := filepath.Glob(filepath.Join("..", "compiler", "internal", "model", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			tag, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			if name == "" || name == "-" {
				return true
			}
			fields++
			if !known[name] {
				t.Errorf("%s: field %q is not in policies/input.schema.json", filepath.Base(file), name)
			}
			return true
		})
	}
	if fields < 40 {
		t.Errorf("only %d fields found in the model", fields)
	}
}

// collect gathers the names of all properties below a schema.
func collect(schema any, into map[string]bool) {
	switch s := schema.(type) {
	case map[string]any:
		if props, ok := s["properties"].(map[string]any); ok {
			for name := range props {
				into[name] = true
			}
		}
		for _, v := range s {
			collect(v, into)
		}
	case []any:
		for _, v := range s {
			collect(v, into)
		}
	}
}
