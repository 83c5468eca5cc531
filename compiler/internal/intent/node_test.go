package intent

import (
	"encoding/json"
	"testing"

	"meshc.dev/meshc/internal/diag"
)

func TestNode(t *testing.T) {
	at := func(line int) diag.Pos { return diag.Pos{File: "a.cue", Line: line, Col: 1} }
	n := NewNode(map[string]any{
		"b": "text", "a": json.Number("9007199254740993"), "f": 3.0, "t": true, "l": []any{"x", "y"}, "end-user": map[string]any{"a.b": "q"},
	}, "mesh", map[string]diag.Pos{"mesh": at(1), "mesh.a": at(2), "mesh.l.1": at(3), `mesh.end-user."a.b"`: at(4)})
	var names string
	for _, e := range n.Fields() {
		names += e.Name + " "
	}
	if names != "a b end-user f l t " {
		t.Errorf("fields %q", names)
	}
	if n.Field("a").Int() != 9007199254740993 || n.Field("f").Int() != 3 || n.Field("b").Str() != "text" || !n.Field("t").Bool() || n.Field("l").List()[1].Str() != "y" {
		t.Error("wrong values")
	}
	missing := n.Field("a").Field("deep").Field("down")
	if missing.Exists() || missing.Pos() != at(2) || missing.Str() != "" || missing.Int() != 0 || missing.Bool() || len(missing.Fields()) != 0 || len(missing.List()) != 0 {
		t.Errorf("a missing field: %v at %v", missing.Exists(), missing.Pos())
	}
	for path, c := range map[string]struct {
		node Node
		want diag.Pos
	}{
		"mesh.b":              {n.Field("b"), at(1)},
		"mesh.l.1":            {n.Field("l").List()[1], at(3)},
		`mesh.end-user."a.b"`: {n.Field("end-user").Field("a.b"), at(4)},
		"mesh.a.deep.down":    {missing, at(2)},
	} {
		if c.node.Path() != path || c.node.Pos() != c.want {
			t.Errorf("%s at %v, want %s at %v", c.node.Path(), c.node.Pos(), path, c.want)
		}
	}
	if (Node{}).Field("x").Exists() || (Node{}).Pos() != (diag.Pos{}) {
		t.Error("the zero Node holds something")
	}
}

func TestPaths(t *testing.T) {
	for _, labels := range [][]string{{"mesh"}, {"mesh", "a.b", "c"}, {"mesh", `q"u\o`, "0"}, {"mesh", ""}, {"a", `x\\"`, `."`}, {"é", "b"}} {
		path := joinAll(labels)
		got := splitPath(path)
		if len(got) != len(labels) {
			t.Errorf("%q: %q", path, got)
			continue
		}
		for i := range got {
			if got[i] != labels[i] {
				t.Errorf("%q: %q", path, got)
			}
		}
	}
}
