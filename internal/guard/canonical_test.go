package guard

import (
	"os"
	"path/filepath"
	"testing"
)

// What is read without the decoder is what the decoder reads.
func FuzzCanonicalObject(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { "a" : [ 1 , -0, 12, 90000000000000000000 ] , "b" : { "" : null, "x": "y" } } `, `{"a":true,"b":false}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`,
		`{"a":01}`, `{"a":1.5}`, `{"a":1e5}`, `{"a":1E5}`, `{"a":-}`, `{"a":"\u0041"}`, `{"a":"é"}`, `{"a":truex}`, `{"a":[1,]}`, `{"a":[,1]}`, `{,}`, `{"a":1,}`,
		`{"a":1}x`, `{"a":1}{}`, `[]`, `null`, ``, `{"a" 1}`, `{"a":nullnull}`, "{\"a\":\"\x00\"}", "{\"a\x7f\":1}", "{\"a\":1}\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := canonicalObject(raw)
		if !ok {
			return
		}
		want, err := decodedAny(raw)
		if err != nil || got.Compare(want) != 0 || got.Hash() != want.Hash() || got.Len() != want.Len() {
			t.Fatalf("%q is %v, want %v, %v", raw, got, want, err)
		}
	})
}

// The meshes of the examples are read so: else the reader saves nothing.
func TestMeshesAreReadWithoutTheDecoder(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/release/mesh.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := canonicalObject(raw)
		if !ok {
			t.Errorf("%s is not read", file)
			continue
		}
		want, err := decodedAny(raw)
		if err != nil || got.Compare(want) != 0 || got.Hash() != want.Hash() {
			t.Errorf("%s is read as another mesh: %v", file, err)
		}
	}
}
