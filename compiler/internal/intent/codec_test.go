package intent

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
)

// A form is read as it was written, and written in one way.
func TestFormsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawnForm(t)
		b, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeForm(b)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Fatalf("got %#v, %v, want %#v", got, err, f)
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again it is %q, %v, not %q", again, err, b)
		}
	})
}

func drawnForm(t *rapid.T) form {
	text := rapid.OneOf(rapid.StringN(0, 5, -1), rapid.SampledFrom([]string{"", "mesh", "mesh.a", "mesh.ab", `mesh."a.b"`}))
	f := form{mesh: drawnValue(3).Draw(t, "mesh"), pos: map[string]diag.Pos{}}
	for range rapid.IntRange(0, 8).Draw(t, "places") {
		f.pos[text.Draw(t, "path")] = drawnPos(t)
	}
	for range rapid.IntRange(0, 2).Draw(t, "replaced") {
		f.replaced = append(f.replaced, Replaced{text.Draw(t, "path"), drawnPos(t)})
	}
	return f
}

func drawnPos(t *rapid.T) diag.Pos {
	return diag.Pos{File: rapid.StringN(0, 3, -1).Draw(t, "file"), Line: rapid.IntRange(0, 1<<31-1).Draw(t, "line"), Col: rapid.IntRange(0, 200).Draw(t, "column")}
}

// drawnValue draws what JSON can hold.
func drawnValue(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Map(rapid.StringN(0, 6, -1), func(s string) any { return s }),
		rapid.Map(rapid.IntRange(-9, 1<<40), func(n int) any { return json.Number(fmt.Sprint(n)) }),
	}
	if depth > 0 {
		kinds = append(kinds, rapid.Map(rapid.SliceOfN(drawnValue(depth-1), 0, 4), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(rapid.StringN(0, 4, -1), drawnValue(depth-1), 0, 4), func(m map[string]any) any { return m }))
	}
	return rapid.OneOf(kinds...)
}

// Whatever the bytes, reading them ends with a form or an error, and takes memory in
// proportion to them. What is read is a form that can be written.
func FuzzDecodeForm(f *testing.F) {
	for _, x := range []form{
		{}, {mesh: map[string]any{"a": []any{"x", json.Number("1"), true, false, nil}, "b": map[string]any{}}},
		{mesh: "m", pos: map[string]diag.Pos{"mesh.a": {File: "f", Line: 1, Col: 2}, "mesh.ab": {File: "g"}}, replaced: []Replaced{{Path: "p"}}},
	} {
		b, err := x.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[sha256.Size:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		got, err := decodeForm(append(sum[:], body...))
		if err != nil {
			return
		}
		b, err := got.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeForm(b); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%#v comes back as %#v, %v", got, again, err)
		}
	})
}

// Many long paths make a form that is as large as they are, and is not read.
func TestFormOfManyPaths(t *testing.T) {
	f := form{mesh: "m", pos: map[string]diag.Pos{}}
	long := strings.Repeat("x", 1<<20)
	for i := range maxPaths>>20 + 1 {
		f.pos[fmt.Sprint(long, i)] = diag.Pos{File: "f"}
	}
	b, err := f.encode()
	if err != nil || len(b) < maxPaths {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if _, err := decodeForm(b); err == nil {
		t.Error("it is read")
	}
}

func TestFormsHoldJSONOnly(t *testing.T) {
	if _, err := (form{mesh: map[string]any{"a": 1.5}}).encode(); err == nil {
		t.Error("a number of Go is encoded")
	}
}
