package plan

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// Everything that can change has a sentence, and each sentence asks for fields that there are.
func TestEveryChangeHasASentence(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "change.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := map[What]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "What" {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			named[What(word)] = true
		}
		return true
	})
	filled := Change{
		Port: "http", Version: "v1", Host: "a.example", To: "a/b", Before: []string{"1"}, After: []string{"2"}, Was: &Fate{}, Is: &Fate{},
		Callers: []Caller{{Kind: CallerMesh}}, Number: 80, Protocol: "http", MTLS: "strict", Plain: "refuse", Hosts: []string{"b.example"}, Package: "a",
		Home: "b", Namespace: "c", Account: "d", Others: []string{"e"}, Ports: []string{"f"}, Severity: "audit", Rule: "g", Object: "Pod h", Until: "i",
		Owner: "j", Reason: "k", Name: "l", Why: []string{"m"},
	}
	for what := range named {
		filled.What = what
		if what == FeatureOf { // its row says it
			continue
		}
		if text := filled.text(place{}, nil); text == "" || strings.ContainsAny(text, "{}[]|") {
			t.Errorf("%s says %q", what, text)
		}
	}
	for what := range sentences {
		if !named[what] {
			t.Errorf("a sentence for %q, which is nothing", what)
		}
	}
	if len(named) < 60 {
		t.Errorf("%d changes are named", len(named))
	}
}
