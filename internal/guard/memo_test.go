package guard

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/canon"
)

// With a memo a policy sees the same document as without, for every mesh that
// follows another, canonical or not.
func TestMemoGivesTheSameInput(t *testing.T) {
	base, memo := sample(t), &Memo{}
	canonical, err := canon.JSON(json.RawMessage(big(5)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(canonical, []byte("\n    },\n    {")) {
		t.Fatal("the sample has no list to cut")
	}
	edited := strings.Replace(string(canonical), `"strict"`, `"permissive"`, 1)
	if edited == string(canonical) {
		t.Fatal("nothing was edited")
	}
	cases := []struct {
		mesh  string
		parts bool // it is told by parts
	}{
		{string(canonical), true}, {edited, true}, {string(canonical), true}, {string(base.Mesh), bytes.Equal(base.Mesh, canonical)},
		{"{}\n", false}, {"{}", false}, {"{\n  \"a\": [],\n  \"b\": \"},\\n  \\\"c\\\": {\"\n}\n", true},
		{"{\n  \"a\": [\n    {\n      \"x\": 1\n    },\n    5,\n    {\n      \"x\": 2\n    }\n  ]\n}\n", false},
		{"{\n  \"a\\u0062\": 1\n}\n", false}, {"{\n  \"n\": 1.50\n}\n", true},
	}
	for _, c := range cases {
		plain, with := base, base
		plain.Mesh, with.Mesh, with.Memo = []byte(c.mesh), []byte(c.mesh), memo
		want, err := plain.value()
		if err != nil {
			t.Fatal(err)
		}
		got, err := with.value()
		if err != nil || got.Compare(want) != 0 || got.Hash() != want.Hash() {
			t.Errorf("%.80q: got %.300v, %v, want %.300v", c.mesh, got, err, want)
		}
		if parts := memo.mesh(with.Mesh) != nil; parts != c.parts {
			t.Errorf("%.80q: told by parts %v", c.mesh, parts)
		}
	}
	for _, bad := range []string{"", "[]", "{", "{\n  \"a\": \n}\n", "{\n  \"a\": 1 2\n}\n"} {
		in := base
		in.Mesh, in.Memo = []byte(bad), memo
		if _, err := in.value(); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
