package canon

import (
	"bytes"
	"encoding/json"
	"testing"
)

// byTree is the definition: decode everything, encode it again.
func byTree(raw []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// Whatever the text, the form is that of decoding and encoding it.
func FuzzReformat(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, ` [ {} , [ ] ] `, `{"b":1,"a":{"d":[1,2],"c":null}}`, `{"a":1,"a":2,"b":3}`, `{"b":1,"a":1,"b":{"x":1}}`,
		`"é\u00e9<>&\u2028\u2029\/\"\\\b\f\n\r\t\u0001"`, `{"\u0062":1,"a":-1.50e+07}`, "{\"\xff\":1,\"\\ud800\":2}", "\"\u2028\x7f\"",
		`-0`, `1E400`, `true`, `[true,false,null]`, `{"k": {"z": "", "y": [[], {}]}, "": 0}`, `1 2`, `{"a":1}]`, ``, `{`, "\ufeff1",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Reformat(raw)
		if !json.Valid(raw) {
			if err == nil {
				t.Fatalf("%q is taken for JSON", raw)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		want, err := byTree(raw)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q gives\n%s, want\n%s", raw, got, want)
		}
		if again, err := Reformat(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q: the form of the form is another: %q, %v", raw, again, err)
		}
	})
}
